//! The source of a record's key.

use core::fmt;
use core::hash::{Hash, Hasher};

use crate::storage::Storage;
use crate::storage::keys::{Keys, NoKeys};

/// The source of the records' keys: [`Unkeyed`], [`KeyBy`] or [`GivenKey`]. Sealed.
pub trait KeySource<In>: sealed::Sealed {
    /// The key of a restored record. `saved` is the key under the policy that the snapshot was taken with; a key function
    /// computes the key again, because it may have changed since.
    #[doc(hidden)]
    fn key_again(&self, input: &In, saved: u64) -> u64;
}

/// A record's key, as 64 bits. Sealed: a policy has [`Unkeyed`], or [`KeyBy`] with a function of yours.
pub trait KeySelector<In>: KeySource<In> {
    /// The table that finds the last record of each key, if there are keys at all.
    #[doc(hidden)]
    type Keys<S: Storage>: Keys;

    /// Whether records have keys at all.
    #[doc(hidden)]
    const HAS_KEY: bool;

    /// The key of `input`. It is part of the checkpoint format, so it must be the same in every run.
    fn key_of(&self, input: &In) -> u64;
}

mod sealed {
    pub trait Sealed {}

    impl Sealed for super::Unkeyed {}
    impl Sealed for super::GivenKey {}
    impl<F> Sealed for super::KeyBy<F> {}
}

/// No key: either all records share one order, or there is none.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unkeyed;

impl<In> KeySource<In> for Unkeyed {
    fn key_again(&self, _: &In, saved: u64) -> u64 {
        saved // no part of the order, but the next checkpoint can still be split by it (K8)
    }
}

impl<In> KeySelector<In> for Unkeyed {
    type Keys<S: Storage> = NoKeys;
    const HAS_KEY: bool = false;

    #[inline(always)]
    fn key_of(&self, _: &In) -> u64 {
        0
    }
}

/// The engine passes the key to the operator with each record: see
/// [`ordered_by_given_key`](crate::AsyncWait::ordered_by_given_key).
#[derive(Clone, Copy, Debug, Default)]
pub struct GivenKey;

impl<In> KeySource<In> for GivenKey {
    fn key_again(&self, _: &In, saved: u64) -> u64 {
        saved
    }
}

/// A function of the record returns the key.
#[derive(Clone, Copy)]
pub struct KeyBy<F>(pub(super) F);

impl<F> fmt::Debug for KeyBy<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyBy(..)")
    }
}

impl<In, K: Hash, F: Fn(&In) -> K> KeySource<In> for KeyBy<F> {
    fn key_again(&self, input: &In, _saved: u64) -> u64 {
        // K5: the snapshot may come from a policy with another key function, or with none.
        self.key_of(input)
    }
}

impl<In, K: Hash, F: Fn(&In) -> K> KeySelector<In> for KeyBy<F> {
    type Keys<S: Storage> = S::Keys;
    const HAS_KEY: bool = true;

    #[inline]
    fn key_of(&self, input: &In) -> u64 {
        hash_key(&(self.0)(input))
    }
}

/// Hashes a key to 64 bits, in the same way as a policy hashes what its key function returns. An engine that has its keys
/// already passes these bits to [`push_with_key`](crate::Operator::push_with_key), and a rescaled checkpoint is split by them
/// (K8). The hash is the same in every run; on a machine of another word size or byte order it may differ.
///
/// The hash has no secret: anyone who chooses keys can make two with the same bits, and these then share one order (O3). To
/// prevent that, let the key function return a keyed hash.
pub fn hash_key<K: Hash + ?Sized>(key: &K) -> u64 {
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325); // the offset basis of 64-bit FNV
    key.hash(&mut hasher);
    hasher.finish()
}

/// The hash of Fowler, Noll and Vo (FNV-1a): short, and the same everywhere. Colliding keys, also those made on purpose, only
/// share an order that they need not share.
struct Fnv(u64);

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            // The factor is the prime of 64-bit FNV.
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
