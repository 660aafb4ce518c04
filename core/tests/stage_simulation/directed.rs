//! Schedules that are worth a name.

use crate::plan::{Home, Mode, Opening, Plan};
use crate::run;
use crate::script::{Script, Step};
use crate::setup::{Order, Setup};
use crate::source::Offer;
use crate::values::End;

/// Everything as simple as it can be.
fn plain(mode: Mode, order: Order, capacity: usize) -> Plan {
    Plan {
        setup: Setup::plain(order, capacity),
        mode,
        home: Home::Heap,
        plain: false,
        opening: Opening::AtOnce,
        closes_later: false,
        eager: 0,
        restless: 0,
        timeout_actions: false,
        permits: None,
        resolution: 1,
        fresh_wakers: false,
        cancels_late: false,
        busy_for: 0,
        prompt: true,
        seed: 0,
    }
}

fn check(plan: Plan, steps: &[Step]) {
    let script = Script { plan, steps: steps.to_vec() };
    let report = run::run(&script, true);
    assert!(report.failure.is_none(), "{}", report.story(&script));
}

/// Every way to run a stage.
fn all_ways(order: Order, capacity: usize) -> impl Iterator<Item = Plan> {
    let on_heap = MODES.map(|mode| plain(mode, order, capacity));
    let in_place = [Home::PollAll, Home::WakeTable].into_iter().flat_map(move |home| {
        [Mode::InPlace, Mode::RequestsSpawned, Mode::Run, Mode::RunRequestsSpawned]
            .map(|mode| Plan { home, ..plain(mode, order, capacity) })
    });
    on_heap.into_iter().chain(in_place)
}

const MODES: [Mode; 6] = [
    Mode::InPlace,
    Mode::SpawnedStage,
    Mode::RequestsSpawned,
    Mode::BothSpawned,
    Mode::Run,
    Mode::RunRequestsSpawned,
];

#[test] // L1, C2: nobody takes anything, and everything that has room is done
fn requests_progress_while_the_consumer_is_busy() {
    for mode in [Mode::SpawnedStage, Mode::BothSpawned] {
        let steps = [
            Step::OfferRecords(10),
            Step::Settle,
            Step::EndMany(4),
            Step::Settle,
            Step::Want(2),
            Step::Settle,
            Step::EndMany(4),
            Step::Settle,
        ];
        check(plain(mode, Order::Unordered, 4), &steps);
    }
}

#[test] // T1, T6, T8: to the nanosecond, and a request that is ready is not late
fn timeouts_are_exact() {
    for mut plan in all_ways(Order::Unordered, 4) {
        plan.setup.timeout = Some(10);
        let steps = [
            Step::Want(10),
            Step::OfferRecords(3),
            Step::ToDeadline(-1),
            Step::End(0, End::Success),
            Step::ToDeadline(0),
            Step::OfferRecords(1),
            Step::Jump(20_000_000),
            Step::End(0, End::Success),
            Step::Settle,
        ];
        check(plan, &steps);
    }
}

#[test] // L5: more than any poll may do
fn a_stage_gives_way() {
    for mode in MODES {
        let plan = Plan { eager: 1, ..plain(mode, Order::Ordered, 3000) };
        check(plan, &[Step::OfferRecords(3000), Step::Want(10_000), Step::Settle]);
    }
    let in_place = [Home::PollAll, Home::WakeTable].into_iter();
    for (home, mode) in in_place.flat_map(|home| [(home, Mode::InPlace), (home, Mode::Run)]) {
        let plan = Plan { eager: 1, home, ..plain(mode, Order::Ordered, 300) };
        check(plan, &[Step::OfferRecords(6000), Step::Want(10_000), Step::Settle]);
    }
    // More requests than one word of words of bits tells of.
    let steps = [
        Step::OfferRecords(5000),
        Step::Want(10_000),
        Step::Settle,
        Step::EndMany(5000),
        Step::Settle,
    ];
    check(plain(Mode::SpawnedStage, Order::Unordered, 5000), &steps);
}

#[test] // K5: crash after crash
fn exactly_once_over_many_lives() {
    for plan in all_ways(Order::Ordered, 4) {
        let mut steps = vec![];
        for _ in 0..5 {
            steps.extend([
                Step::Want(100),
                Step::OfferRecords(3),
                Step::Offer(Offer::SnapshotBarrier),
                Step::OfferRecords(2),
                Step::Settle,
                Step::End(1, End::Success),
                Step::Settle,
                Step::Crash { capacity: 4, clock_restarts: true },
            ]);
        }
        check(plan, &steps);
    }
}
