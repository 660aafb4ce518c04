//! A box where there is a heap, and the value itself where there is none.
//!
//! A checkpoint travels in a [`StreamElement`](crate::StreamElement), next to records. On the heap it takes one pointer, so
//! that the elements of records do not pay for its size.

#[cfg(feature = "alloc")]
pub(super) type Indirect<T> = alloc::boxed::Box<T>;

#[cfg(feature = "alloc")]
#[expect(clippy::boxed_local, reason = "it has the signature of its counterpart below")]
pub(super) fn into_inner<T>(boxed: Indirect<T>) -> T {
    *boxed
}

#[cfg(not(feature = "alloc"))]
pub(super) use self::in_place::{Indirect, into_inner};

/// The part of `Box`'s interface that a checkpoint uses, over a value in place.
#[cfg(not(feature = "alloc"))]
mod in_place {
    use core::ops::{Deref, DerefMut};

    #[derive(Debug)]
    pub(in super::super) struct Indirect<T>(T);

    pub(in super::super) fn into_inner<T>(value: Indirect<T>) -> T {
        value.0
    }

    impl<T> Indirect<T> {
        pub(in super::super) const fn new(value: T) -> Self {
            Self(value)
        }
    }

    impl<T> Deref for Indirect<T> {
        type Target = T;

        fn deref(&self) -> &T {
            &self.0
        }
    }

    impl<T> DerefMut for Indirect<T> {
        fn deref_mut(&mut self) -> &mut T {
            &mut self.0
        }
    }
}
