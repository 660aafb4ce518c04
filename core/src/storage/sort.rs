//! A sort that is fast with the feature `alloc` and small without it: the standard library's sort would be a quarter of
//! the code of a stage on a small machine.

/// Sorts `indices` by the key that `key` returns for each; indices with equal keys end in any order. O(n log n).
pub(crate) fn by_key<K: Ord>(indices: &mut [u32], key: impl Fn(u32) -> K) {
    if cfg!(feature = "alloc") {
        indices.sort_unstable_by_key(|&index| key(index));
    } else {
        heap_sort(indices, key);
    }
}

fn heap_sort<K: Ord>(indices: &mut [u32], key: impl Fn(u32) -> K) {
    let length = indices.len();
    // One loop for both phases of a heap sort, so that the compiler emits `sift_down` once. The first `length / 2` steps
    // build the heap, from its last parent up; the other `length` steps move the largest index left behind the heap.
    for step in (0..length / 2 + length).rev() {
        let (root, end) = match step.checked_sub(length) {
            Some(parent) => (parent, length),
            None => {
                indices.swap(0, step);
                (0, step)
            }
        };
        sift_down(&mut indices[..end], root, &key);
    }
}

/// Moves an index down until both of its children are smaller.
fn sift_down<K: Ord>(heap: &mut [u32], mut parent: usize, key: &impl Fn(u32) -> K) {
    loop {
        let mut child = 2 * parent + 1;
        if child + 1 < heap.len() && key(heap[child]) < key(heap[child + 1]) {
            child += 1;
        }
        if child >= heap.len() || key(heap[parent]) >= key(heap[child]) {
            return;
        }
        heap.swap(parent, child);
        parent = child;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // All orders of up to eight indices, some with equal keys.
    #[test]
    fn every_order_of_up_to_eight_is_sorted() {
        for length in 0..=8_u32 {
            for order in 0..(1..=length).product::<u32>() {
                let mut left: [u32; 8] = core::array::from_fn(|at| at as u32);
                let mut indices = [0; 8];
                let mut order = order;
                for at in 0..length {
                    let choices = length - at;
                    let choice = (order % choices) as usize;
                    order /= choices;
                    indices[at as usize] = left[choice];
                    left.copy_within(choice + 1.., choice);
                }
                let indices = &mut indices[..length as usize];
                heap_sort(indices, |index| 100 - index / 2);
                assert!(indices.is_sorted_by_key(|index| 100 - index / 2), "{indices:?}");
                let all = indices.iter().fold(0_u32, |all, index| all | 1 << index);
                assert_eq!(all, (1 << length) - 1);
            }
        }
    }
}
