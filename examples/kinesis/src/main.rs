//! The program: see the library's page.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use inflight_kinesis::options::Options;
use inflight_kinesis::{client, job, rehearsal, service};
use inflight_partitions::JobHandle;

fn main() -> ExitCode {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let ended = runtime.context("cannot start").and_then(|runtime| {
        let ended = runtime.block_on(run(&options));
        // Abandoned tasks must not delay the end.
        runtime.shutdown_background();
        ended
    });
    ended.unwrap_or_else(|error| {
        eprintln!("inflight-kinesis: {error:#}");
        ExitCode::from(2)
    })
}

async fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let client = client::client(options).await?;
    if options.is_try {
        return rehearsal::rehearse(options, &client).await;
    }
    let endpoint = match &options.endpoint {
        Some(url) => url.clone(),
        None => service::start(options.latency).await.context("the endpoint")?,
    };
    let leave_on_ctrl_c = |job: JobHandle<String>| {
        tokio::spawn(async move {
            if tokio::signal::ctrl_c().await.is_ok() {
                job.leave();
            }
        });
    };
    job::run(options, client, &endpoint, leave_on_ctrl_c).await?;
    Ok(ExitCode::SUCCESS)
}
