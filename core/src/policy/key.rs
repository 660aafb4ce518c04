//! Which key a record has.

use core::fmt;
use core::hash::{Hash, Hasher};

use crate::storage::Storage;
use crate::storage::keys::{Keys, NoKeys};

/// Where an operator's records have their keys from: [`Unkeyed`], [`KeyBy`] or [`GivenKey`]. Sealed.
pub trait KeySource<In>: sealed::Sealed {
    /// The key of a restored record, with which `saved` was kept: under the policy it had then.
    #[doc(hidden)]
    fn key_again(&self, input: &In, saved: u64) -> u64;
}

/// A record's key, as 64 bits. Sealed: a policy has [`Unkeyed`], or [`KeyBy`] with a function of yours.
pub trait KeySelector<In>: KeySource<In> {
    /// Where the last record of each key is found, if there are keys at all.
    #[doc(hidden)]
    type Keys<S: Storage>: Keys;

    /// The key of `input`. Part of the checkpoint format: the same in every run.
    fn key_of(&self, input: &In) -> u64;
}

mod sealed {
    pub trait Sealed {}

    impl Sealed for super::Unkeyed {}
    impl Sealed for super::GivenKey {}
    impl<F> Sealed for super::KeyBy<F> {}
}

/// No key: the order is that of all records, or none.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unkeyed;

impl<In> KeySource<In> for Unkeyed {
    fn key_again(&self, _: &In, saved: u64) -> u64 {
        saved
    }
}

impl<In> KeySelector<In> for Unkeyed {
    type Keys<S: Storage> = NoKeys;

    #[inline(always)]
    fn key_of(&self, _: &In) -> u64 {
        0
    }
}

/// The key is given to the operator with the record: see
/// [`ordered_by_given_key`](AsyncWait::ordered_by_given_key).
#[derive(Clone, Copy, Debug, Default)]
pub struct GivenKey;

impl<In> KeySource<In> for GivenKey {
    fn key_again(&self, _: &In, saved: u64) -> u64 {
        saved
    }
}

/// The key is what a function of the record says.
#[derive(Clone, Copy)]
pub struct KeyBy<F>(pub(super) F);

impl<F> fmt::Debug for KeyBy<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyBy(..)")
    }
}

impl<In, K: Hash, F: Fn(&In) -> K> KeySource<In> for KeyBy<F> {
    fn key_again(&self, input: &In, _saved: u64) -> u64 {
        self.key_of(input)
    }
}

impl<In, K: Hash, F: Fn(&In) -> K> KeySelector<In> for KeyBy<F> {
    type Keys<S: Storage> = S::Keys;

    #[inline]
    fn key_of(&self, input: &In) -> u64 {
        hash_key(&(self.0)(input))
    }
}

/// 64 bits for a key, as a policy's key function is hashed to: what an engine that has its keys already gives to
/// [`push_with_key`](crate::Operator::push_with_key), and what a rescaled checkpoint is split by. The same on
/// every run; on machines of another word size or byte order it may differ.
///
/// It has no secret: keys with the same bits can be made on purpose, and share one order then. Against that, let the key
/// be a keyed hash.
pub fn hash_key<K: Hash + ?Sized>(key: &K) -> u64 {
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
    key.hash(&mut hasher);
    hasher.finish()
}

/// The hash of Fowler, Noll and Vo (FNV-1a): short, and the same everywhere. What collides is only ordered where it
/// need not be, also if that was meant.
struct Fnv(u64);

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
