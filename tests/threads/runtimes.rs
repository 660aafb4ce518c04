//! The runtimes, with the plan's number of threads.

use std::future::Future;
use std::thread;
use std::time::Duration;

use async_executor::Executor;
use futures::channel::oneshot;

use super::plan::On;

/// Spawned requests need an executor that lives for ever.
pub static EXECUTOR: Executor<'static> = Executor::new();

/// A running runtime.
pub enum Host {
    Tokio(tokio::runtime::Runtime),
    Smol(Vec<(oneshot::Sender<()>, thread::JoinHandle<()>)>),
}

impl Host {
    pub fn start(on: On) -> Self {
        match on {
            On::Tokio { workers } => {
                let mut runtime = tokio::runtime::Builder::new_multi_thread();
                Self::Tokio(runtime.worker_threads(workers).enable_time().build().unwrap())
            }
            On::Smol { threads } => Self::Smol((0..threads).map(|_| smol_thread()).collect()),
        }
    }

    /// Runs a future on the current thread, which is not one of the runtime's.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        match self {
            Self::Tokio(runtime) => runtime.block_on(future),
            Self::Smol(_) => smol::block_on(future),
        }
    }

    /// Runs a future on a task of the runtime, and waits for it.
    pub fn run_on_task<T>(&self, future: impl Future<Output = T> + Send + 'static) -> T
    where
        T: Send + 'static,
    {
        match self {
            Self::Tokio(runtime) => {
                let task = runtime.spawn(future);
                futures_lite::future::block_on(task).expect("the consumer does not panic")
            }
            Self::Smol(_) => futures_lite::future::block_on(EXECUTOR.spawn(future)),
        }
    }

    /// Returns true if any task is left.
    pub fn has_tasks(&self) -> bool {
        match self {
            Self::Tokio(runtime) => runtime.metrics().num_alive_tasks() > 0,
            Self::Smol(_) => !EXECUTOR.is_empty(),
        }
    }

    pub fn stop(self) {
        match self {
            Self::Tokio(runtime) => drop(runtime),
            Self::Smol(threads) => threads.into_iter().for_each(|(stop, thread)| {
                drop(stop);
                thread.join().expect("an executor's thread does not panic");
            }),
        }
    }
}

fn smol_thread() -> (oneshot::Sender<()>, thread::JoinHandle<()>) {
    let (stop, stopped) = oneshot::channel::<()>();
    (stop, thread::spawn(|| _ = smol::block_on(EXECUTOR.run(stopped))))
}

pub async fn sleep(on: On, time: Duration) {
    match on {
        On::Tokio { .. } => tokio::time::sleep(time).await,
        On::Smol { .. } => _ = smol::Timer::after(time).await,
    }
}

pub async fn yield_now(on: On) {
    match on {
        On::Tokio { .. } => tokio::task::yield_now().await,
        On::Smol { .. } => futures_lite::future::yield_now().await,
    }
}
