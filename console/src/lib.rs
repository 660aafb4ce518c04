//! A live page for the stages and pipelines of a program, for people: the window, record by record, with rates, latencies and limits
//! of the last five minutes, checkpoints, and servers as lamps.
//!
//! ```
//! use inflight_console::{Console, Lamp};
//! # use inflight_core::{AsyncWait, AsyncWaitExt};
//! # use inflight_tokio::Tokio;
//! # fn is_connected() -> bool { true }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!
//! let console = Console::new("my program").serve("127.0.0.1:0")?; // 0: any port that is free
//! println!("look at {}", console.url());
//!
//! let lookups = futures_lite::stream::iter(0..100_u64)
//!     .async_wait(AsyncWait::ordered(10), |n| std::future::ready(Ok::<_, ()>(n * n)))
//!     .spawn(Tokio)?;
//! console.stage("lookups", lookups.handle());
//! console.lamp("database", || if is_connected() { Lamp::Up } else { Lamp::Down("no answer".into()) });
//! # Ok(())
//! # }
//! ```
//!
//! The console has a thread of its own. So it needs no runtime of the program, it works beside any, and it answers also while a blocked
//! thread holds up everything else, which it then shows.
//!
//! | path | answer |
//! | --- | --- |
//! | `/` | the page: one file, which loads nothing else |
//! | `/state.json` | what the page shows, for programs |
//! | `/metrics` | the text of [`ServedConsole::metrics`], 404 without one |
//!
//! **Nobody can change anything** through it: it answers `GET` and `HEAD` alone. It listens on loopback alone, unless
//! [`Console::anyone`] permits more, and refuses requests that name another host (403), because a page of a stranger, opened in a browser on
//! the same machine, could have its own name point to this address. What is shown are numbers and names, never records.
//!
//! `/state.json` is one object. Times are in seconds, and `null` stands where there is no value. `stages[].window.cells` has one letter a
//! record, the oldest first: `w` waits, `r` runs, `b` is in backoff, `d` is done. Lists in `history` have an entry for each second, the
//! oldest first, at most 300. Quantiles are upper bounds, up to twice the truth ([`Histogram`](inflight_core::Histogram)).
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

mod console;
mod error;
mod history;
mod host;
mod lamp;
mod pipeline;
mod server;
mod stage;
mod state;
mod why;

pub use self::console::{Console, ServedConsole};
pub use self::error::ConsoleError;
pub use self::lamp::Lamp;
pub use self::pipeline::PipelineReports;
