//! A sort that is fast with the feature `alloc` and small without it: the standard library's sort would be a quarter of
//! the code of a stage on a small machine.

use super::Table;

/// Sorts `indices` by the key that `key` returns for each, the first number before the second; indices with equal keys end in any
/// order. O(n) for a table on the heap, O(n log n) for one in place.
pub(crate) fn by_key<T: Table<u32>>(indices: &mut T, key: impl Fn(u32) -> (u32, u64)) {
    let indices = indices.as_mut();
    #[cfg(not(feature = "alloc"))]
    if T::IS_SMALL {
        return insertion_sort(indices, key);
    }
    #[cfg(feature = "alloc")]
    match T::ON_HEAP {
        true => radix_sort(indices, key),
        false => indices.sort_unstable_by_key(|&index| key(index)),
    }
    #[cfg(not(feature = "alloc"))]
    heap_sort(indices, key);
}

/// The records behind the indices are far apart in memory, so each is visited once, and its key and index are sorted as one number.
#[cfg(feature = "alloc")]
fn radix_sort(indices: &mut [u32], key: impl Fn(u32) -> (u32, u64)) {
    let number = |index: u32| {
        let (first, second) = key(index);
        u128::from(first) << 96 | u128::from(second) << 32 | u128::from(index)
    };
    let mut numbers: alloc::vec::Vec<u128> = indices.iter().map(|&index| number(index)).collect();
    let Some(&any) = numbers.first() else { return };
    if numbers.is_sorted() {
        return; // so are the indices
    }
    let varying = numbers.iter().fold(0, |varying, number| varying | (number ^ any));
    let mut sorted = alloc::vec![0; numbers.len()];
    // By one byte of the key after the other, from the last one on. Most bytes are the same in all keys.
    for byte in (32..128).step_by(8).filter(|byte| (varying >> byte) as u8 != 0) {
        sort_by_byte(&numbers, &mut sorted, byte);
        core::mem::swap(&mut numbers, &mut sorted);
    }
    for (index, number) in indices.iter_mut().zip(numbers) {
        *index = number as u32;
    }
}

/// Sorts `from` into `to` by the byte that begins at a bit; numbers with the same byte keep their order.
#[cfg(feature = "alloc")]
fn sort_by_byte(from: &[u128], to: &mut [u128], bit: u32) {
    let mut next = [0_usize; 256];
    for number in from {
        next[usize::from((number >> bit) as u8)] += 1;
    }
    let mut start = 0;
    for place in &mut next {
        start += core::mem::replace(place, start);
    }
    for number in from {
        let place = &mut next[usize::from((number >> bit) as u8)];
        to[*place] = *number;
        *place += 1;
    }
}

/// For few indices: half the code of the heap sort.
#[cfg(any(test, not(feature = "alloc")))]
fn insertion_sort<K: Ord>(indices: &mut [u32], key: impl Fn(u32) -> K) {
    for end in 1..indices.len() {
        let mut at = end;
        while at > 0 && key(indices[at - 1]) > key(indices[at]) {
            indices.swap(at - 1, at);
            at -= 1;
        }
    }
}

#[cfg(any(test, not(feature = "alloc")))]
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
#[cfg(any(test, not(feature = "alloc")))]
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

    fn key(index: u32) -> u32 {
        100 - index / 2
    }

    fn check(indices: &[u32], sort: impl Fn(&mut [u32])) {
        let mut sorted = [0; 8];
        let sorted = &mut sorted[..indices.len()];
        sorted.copy_from_slice(indices);
        sort(sorted);
        assert!(sorted.is_sorted_by_key(|index| key(*index)), "{sorted:?}");
        let all = sorted.iter().fold(0_u32, |all, index| all | 1 << index);
        assert_eq!(all, (1 << indices.len()) - 1);
    }

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
                let indices = &indices[..length as usize];
                check(indices, |indices| heap_sort(indices, key));
                check(indices, |indices| insertion_sort(indices, key));
            }
        }
    }

    // Keys of which every byte varies, some of them equal.
    #[cfg(feature = "alloc")]
    #[test]
    fn any_keys_are_sorted() {
        let mixed = |index: u32| u64::from(index / 2).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for length in [0, 1, 2, 3, 255, 256, 1000] {
            for shift in [0, 24, 56] {
                let key =
                    |index| ((mixed(index) >> 32) as u32 >> (shift / 2), mixed(index) >> shift);
                let mut indices: alloc::vec::Vec<u32> = (0..length).rev().collect();
                by_key(&mut indices, key);
                assert!(indices.is_sorted_by_key(|index| key(*index)));
                indices.sort_unstable();
                assert!(indices.into_iter().eq(0..length));
            }
        }
    }
}
