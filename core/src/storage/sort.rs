//! Sorting, large and fast with a heap, small without one: the standard library's would be a quarter of all
//! that a small machine's stage needs.

/// Sorts `indices` by what `key` says of each; equal ones in any order. O(n log n).
pub(crate) fn by_key<K: Ord>(indices: &mut [u32], key: impl Fn(u32) -> K) {
    if cfg!(feature = "alloc") {
        indices.sort_unstable_by_key(|&index| key(index));
    } else {
        heap_sort(indices, key);
    }
}

fn heap_sort<K: Ord>(indices: &mut [u32], key: impl Fn(u32) -> K) {
    let length = indices.len();
    // First a heap is made of the whole, from its last parent up; then the largest of what is left goes to
    // its end, again and again.
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

/// Lets an index sink below all that are larger.
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

    // All orders of up to eight, with some keys equal.
    #[test]
    fn everything_is_sorted() {
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
