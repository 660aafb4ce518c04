//! A console with real stages, and a browser that looks at it.

use std::future::Future;

use futures_channel::mpsc::{self, UnboundedSender};
use inflight_console::{Console, ServedConsole};
use inflight_core::{AsyncWait, AsyncWaitExt as _, RetryStrategy};
use inflight_tokio::Tokio;
use tokio::runtime::{Builder, Runtime};

use crate::chromium::Browser;

pub(crate) struct Scene {
    pub(crate) console: ServedConsole,
    pub(crate) browser: Browser,
    pub(crate) runtime: Runtime,
}

/// The way of records into a stage, which ends when it is dropped.
pub(crate) struct Records(UnboundedSender<u32>);

impl Records {
    pub(crate) fn send(&self, records: impl IntoIterator<Item = u32>) {
        for record in records {
            self.0.unbounded_send(record).expect("the stage runs");
        }
    }
}

impl Scene {
    /// `None` on a machine without Chromium.
    pub(crate) fn start() -> Option<Self> {
        let browser = Browser::start()?;
        let runtime =
            Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        Some(Self { console: console("scene", "127.0.0.1:0"), browser, runtime })
    }

    /// Starts a stage that the console shows, and takes what comes out of it.
    pub(crate) fn stage<R, F, Fut>(&self, name: &str, policy: AsyncWait<R>, function: F) -> Records
    where
        R: RetryStrategy<u32, u32, &'static str> + Send + Unpin + 'static,
        F: FnMut(&u32) -> Fut + Send + 'static,
        Fut: Future<Output = Result<u32, &'static str>> + Send + 'static,
    {
        let (sender, records) = mpsc::unbounded();
        let _runtime = self.runtime.enter();
        let mut stage =
            records.async_wait(policy, function).spawn(Tokio).expect("the policy is valid");
        self.console.stage(name, stage.handle());
        self.runtime.spawn(async move { while stage.next().await.is_some() {} });
        Records(sender)
    }

    /// The console's host and port.
    pub(crate) fn address(&self) -> String {
        self.console.address().to_string()
    }

    /// Opens the page, once.
    pub(crate) fn open(&mut self) {
        self.browser.open(&self.console.url());
        self.browser.until("connected() === 'live'");
    }
}

pub(crate) fn console(title: &str, address: &str) -> ServedConsole {
    Console::new(title).serve(address).expect("the address is free")
}
