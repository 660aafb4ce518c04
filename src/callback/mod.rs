//! Clients that call back instead of returning a future, as functions of a stage.
//!
//! [`with_callback`] gives each attempt a [handle](Handle), which any thread may complete. The first result counts; one
//! that comes later, or after the attempt has timed out, is handed back with the reason. Without the standard library
//! [`with_callback_in`] does the same over a [`CompletionTable`] in a `static`, whose handles an interrupt may complete.
//!
//! ```
//! use futures::StreamExt;
//! use inflight::callback::with_callback;
//! use inflight::{AsyncWait, AsyncWaitExt};
//! # use inflight::Smol;
//!
//! // A client that takes a function to call when the answer is there, on a thread of its own.
//! fn ask(key: u32, then: impl FnOnce(Result<u32, ()>) + Send + 'static) {
//!     std::thread::spawn(move || then(Ok(10 * key)));
//! }
//!
//! let function = with_callback(|key: &u32, handle| {
//!     ask(*key, move |answer| {
//!         if let Err(late) = handle.complete(answer) {
//!             eprintln!("the answer came too late: {late}");
//!         }
//!     });
//! });
//! # let executor = smol::Executor::new();
//! # smol::block_on(executor.run(async {
//! let stage = futures::stream::iter(1..=3).async_wait_with(AsyncWait::ordered(100), function);
//! let answers: Vec<_> = stage.spawn(Smol(&executor)).unwrap().map(|done| done.result).collect().await;
//! assert_eq!(answers, [Ok(10), Ok(20), Ok(30)]);
//! # }));
//! ```

mod cell;
mod function;
mod handle;
#[cfg(feature = "std")]
mod heap;
mod table;

pub use self::cell::{Lateness, TooLate};
#[cfg(feature = "std")]
pub use self::function::with_callback;
pub use self::function::{CallbackError, CallbackFuture, WithCallback, with_callback_in};
pub use self::handle::Handle;
#[cfg(feature = "std")]
pub use self::heap::{CompletionHandle, OnHeap, PlaceOnHeap};
pub use self::table::{CompletionTable, PlaceInTable, TableHandle};
