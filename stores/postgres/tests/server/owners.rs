//! Owners to the end: through kills, freezes, lost answers and crashes of the server.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use inflight_core::pipeline::{Ended, Output, one_transaction};
use inflight_store_postgres::PostgresJob;
use rand::RngExt;
use tokio_postgres::{NoTls, Transaction};

use crate::owner::{Done, Freeze, Owner, own, run, transaction, write};
use crate::postgres::{self, Table};
use crate::proxy::{self, Cut};
use crate::server::Server;
use crate::wrappers::Forgetful;

const NUMBERS: u64 = 1000;

// K10: and the future of such a pipeline can be sent to another thread.
#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_writes_each_output_once() {
    let Some(server) = Server::shared() else { return };
    let table = server.table("whole").await;
    for numbers in [300, 300, 500] {
        let transaction = PostgresJob::new(server.config(), NoTls, "whole").writing(
            async |transaction: &Transaction<'_>, outputs: &[Output<Done>]| {
                write(transaction, "INSERT INTO out_whole (n) VALUES ($1)", outputs).await
            },
        );
        let (sink, store) = one_transaction(transaction);
        let ended = tokio::spawn(run(numbers, sink, store)).await.unwrap();
        assert_eq!(ended.unwrap(), Ended::Finished);
        table.expect(numbers).await;
    }
}

// K10
#[tokio::test(flavor = "multi_thread")]
async fn owners_that_are_killed_write_each_output_once() {
    let Some(server) = Server::shared() else { return };
    let table = server.table("killed").await;
    let (numbers, mut kills) = (3000, 0);
    loop {
        let owner = Owner::start(server.port, "killed", numbers);
        // Longer and longer, so that one comes to the end on a slow machine too.
        let life = rand::rng().random_range(10..200 + 5 * kills);
        tokio::time::sleep(Duration::from_millis(life)).await;
        if owner.kill() {
            break;
        }
        kills += 1;
    }
    assert!(kills > 5, "{kills} kills");
    table.expect(numbers).await;
}

// K10: as a crash, with the same halves in the next life.
#[tokio::test(flavor = "multi_thread")]
async fn owners_that_are_dropped_write_each_output_once() {
    let Some(server) = Server::shared() else { return };
    let table = server.table("dropped").await;
    let transaction = transaction(server.config(), "dropped", Freeze::Never);
    let ((mut sink, mut store), mut drops) = (one_transaction(transaction), 0);
    loop {
        let life = Duration::from_millis(rand::rng().random_range(1..50 + drops));
        if let Ok(ended) = tokio::time::timeout(life, run(NUMBERS, &mut sink, &mut store)).await {
            assert_eq!(ended.unwrap(), Ended::Finished);
            break;
        }
        drops += 1;
    }
    assert!(drops > 5, "{drops} drops");
    table.expect(NUMBERS).await;
}

/// While `first` is frozen, lets another owner work to the end. Then wakes `first` up, which changes nothing.
async fn is_fenced_after(first: Owner, server: &Server, table: &Table) {
    let second = Owner::start(server.port, &table.job, NUMBERS);
    assert_eq!(second.wait(), Ok(true));
    table.expect(NUMBERS).await;
    let row = table.row().await;
    first.signal("-CONT");
    assert_eq!(first.wait(), Ok(false), "not fenced");
    table.expect(NUMBERS).await;
    assert_eq!(table.row().await, row);
}

// K15: in a commit the frozen owner holds the row's lock, until the server ends its transaction.
#[tokio::test(flavor = "multi_thread")]
async fn owners_that_were_frozen_around_a_commit_change_nothing() {
    let Some(server) = Server::shared() else { return };
    for at in [Freeze::BeforeCommit, Freeze::InCommit, Freeze::AfterCommit] {
        let table = server.table(&format!("{at:?}").to_lowercase()).await;
        let first = Owner::start_with(server.port, &table.job, NUMBERS, at, true);
        first.wait_frozen();
        is_fenced_after(first, server, &table).await;
    }
}

// K15
#[tokio::test(flavor = "multi_thread")]
async fn owners_that_were_frozen_at_any_moment_change_nothing() {
    let Some(server) = Server::shared() else { return };
    for round in 0..4 {
        let table = server.table(&format!("frozen{round}")).await;
        let first = Owner::start(server.port, &table.job, NUMBERS);
        let some = rand::rng().random_range(1..NUMBERS / 4);
        table.wait_for(some as usize).await;
        first.signal("-STOP");
        is_fenced_after(first, server, &table).await;
    }
}

// K15: a negative control.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_fence_a_frozen_owner_does_damage() {
    let Some(server) = Server::shared() else { return };
    let table = server.table("unfenced").await;
    let start = |freeze| Owner::start_with(server.port, &table.job, NUMBERS, freeze, false);
    let first = start(Freeze::BeforeCommit);
    first.wait_frozen();
    assert_eq!(start(Freeze::Never).wait(), Ok(true));
    table.expect(NUMBERS).await;
    first.signal("-CONT");
    assert_eq!(first.wait(), Ok(true));
    assert!(table.numbers().await.len() as u64 > NUMBERS, "no damage");
}

/// A job of which the proxy cuts some COMMITs, after those with which a life begins. Returns the outputs.
async fn with_cuts(server: &Server, cut: Cut, job: &str, is_forgetful: bool) -> Table {
    let table = server.table(job).await;
    let cuts = proxy::plan([Cut::Pass, Cut::Pass, Cut::Pass, cut, cut, cut].repeat(4));
    let config = postgres::config(proxy::start(server.port, &cuts).await);
    // The answer to a claim may be lost too, or to a last checkpoint.
    loop {
        let transaction = transaction(config.clone(), job, Freeze::Never);
        if own(NUMBERS, Forgetful { transaction, is_forgetful }).await.is_ok() {
            return table;
        }
    }
}

// K10
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_found_out() {
    let Some(server) = Server::shared() else { return };
    for cut in [Cut::Before, Cut::With, Cut::Answer, Cut::Late] {
        let job = format!("{cut:?}").to_lowercase();
        with_cuts(server, cut, &job, false).await.expect(NUMBERS).await;
    }
}

// K10: a negative control.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_question_a_lost_answer_doubles_outputs() {
    let Some(server) = Server::shared() else { return };
    let table = with_cuts(server, Cut::Answer, "forgetful", true).await;
    assert!(table.numbers().await.len() as u64 > NUMBERS, "no doubled output");
}

// K10: also the answers of claims and of last checkpoints, after which there is another life.
#[tokio::test(flavor = "multi_thread")]
async fn owners_that_lose_answers_write_each_output_once() {
    let Some(server) = Server::shared() else { return };
    let table = server.table("lossy").await;
    let plan: Vec<_> = (0..10_000)
        .map(|_| match rand::rng().random_range(0..20) {
            0 => Cut::Before,
            1 => Cut::With,
            2 => Cut::Answer,
            3 => Cut::Late,
            _ => Cut::Pass,
        })
        .collect();
    let cuts = proxy::plan(plan.iter().copied());
    let config = postgres::config(proxy::start(server.port, &cuts).await);
    let mut numbers = 0;
    loop {
        numbers += 100;
        while own(numbers, transaction(config.clone(), "lossy", Freeze::Never)).await.is_err() {}
        table.expect(numbers).await;
        let left = cuts.lock().unwrap().len();
        let seen: HashSet<_> = plan[..plan.len() - left].iter().collect();
        if seen.len() == 5 {
            break;
        }
    }
}

// K10
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_crashes_has_each_output_once() {
    let Some(server) = Server::start() else { return };
    let server = Arc::new(server);
    server.table("crashed").await;
    let crashes = tokio::spawn({
        let server = Arc::clone(&server);
        async move {
            for some in [100, 400, 700] {
                Table::open(&server, "crashed").await.wait_for(some).await;
                tokio::task::block_in_place(|| server.restart());
            }
        }
    });
    let numbers = 5 * NUMBERS;
    while own(numbers, transaction(server.config(), "crashed", Freeze::Never)).await.is_err() {
        tokio::task::yield_now().await;
    }
    crashes.await.unwrap();
    Table::open(&server, "crashed").await.expect(numbers).await;
}
