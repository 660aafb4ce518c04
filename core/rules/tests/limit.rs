//! Adaptive limits (A1): any samples, and a small service in virtual time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use inflight_core::{Aimd, ConfigError, Gradient, LimitStrategy, Sample, Verdict};
use random::Random;

#[path = "../../tests/simulation/random.rs"]
#[allow(dead_code)]
mod random;

const WORK: Duration = Duration::from_millis(20);

/// A service that answers as many requests at once as it has slots in the time of `work`, more of them more slowly, and
/// refuses those beyond its room.
#[derive(Clone, Copy)]
struct Service {
    slots: u32,
    room: usize,
    work: Duration,
    /// One request in so many fails for other reasons than the load.
    fails: Option<usize>,
    /// The work on one request is up to so many times longer than on another.
    spread: usize,
}

impl Service {
    const fn of(slots: u32, room: usize) -> Self {
        Self { slots, room, work: WORK, fails: None, spread: 1 }
    }

    /// The latency of a request that comes to `running` others, and the verdict at its end.
    fn ask(&self, running: usize, random: &mut Random) -> (Duration, Verdict) {
        if running >= self.room {
            return (WORK / 20, Verdict::Overloaded);
        }
        let share = (running as u32 + 1).max(self.slots) * (1 + random.below(self.spread) as u32);
        let verdict = match self.fails {
            Some(chances) if random.one_in(chances) => Verdict::Overloaded,
            _ => Verdict::Answered,
        };
        (self.work * share / self.slots, verdict)
    }
}

/// Runs so many requests, as many at once as the limit allows. Returns the mean limit and the refused requests of the second
/// half.
fn drive(limit: &mut impl LimitStrategy, service: Service, requests: usize) -> (usize, usize) {
    let mut random = Random::new(7);
    let mut running = BinaryHeap::new();
    let (mut now, mut limits, mut refused) = (Duration::ZERO, 0, 0);
    for request in 0..requests {
        while running.len() < limit.limit() {
            let (latency, verdict) = service.ask(running.len(), &mut random);
            running.push(Reverse((now + latency, latency, verdict == Verdict::Answered)));
        }
        let at_once = running.len();
        let Reverse((end, latency, is_answer)) = running.pop().expect("the limit is not zero");
        let verdict = if is_answer { Verdict::Answered } else { Verdict::Overloaded };
        now = end;
        limit.observe(Sample::new(latency, verdict, at_once));
        if request >= requests / 2 {
            limits += limit.limit();
            refused += usize::from(!is_answer);
        }
    }
    (limits / (requests - requests / 2), refused)
}

fn aimd() -> Aimd {
    Aimd::between(4, 400)
}

fn gradient() -> Gradient {
    Gradient::between(4, 400)
}

/// Any samples, also those that no stage would report.
fn stays_within_bounds(limit: impl Fn(usize, usize) -> Box<dyn LimitStrategy>) {
    for seed in 0..300 {
        let mut random = Random::new(seed);
        let max = random.pick(&[1, 2, 5, 30, 1_000, usize::MAX]);
        let min = 1 + random.below(max.min(10));
        let mut limit = limit(min, max);
        assert_eq!(limit.check(), Ok(()));
        let fails = random.pick(&[2, 5, 50, 1_000]);
        for step in 0..2_000 {
            let latency = random.pick(&[
                Duration::ZERO,
                Duration::from_nanos(1),
                Duration::from_millis(10),
                Duration::from_secs(10),
                Duration::MAX,
            ]);
            let verdict = match random.below(fails) {
                0 => Verdict::Overloaded,
                1 => Verdict::Ignored,
                _ => Verdict::Answered,
            };
            let running = random.pick(&[0, 1, limit.limit(), limit.limit() / 2, 100]).min(200);
            // Seldom, because a round trip of so many samples does not end.
            let running = if random.one_in(2_000) { usize::MAX } else { running };
            limit.observe(Sample::new(latency, verdict, running));
            let now = limit.limit();
            assert!((min..=max).contains(&now), "seed {seed}, step {step}: {now}, {min} to {max}");
        }
    }
}

#[test] // A1
fn aimd_stays_within_its_bounds() {
    stays_within_bounds(|min, max| Box::new(Aimd::between(min, max)));
    let slow = Duration::from_millis(10);
    stays_within_bounds(|min, max| Box::new(Aimd::between(min, max).start(max).slow_above(slow)));
    stays_within_bounds(|min, max| Box::new(Aimd::between(min, max).backoff(0.999_999_999)));
}

#[test] // A1
fn gradient_stays_within_its_bounds() {
    stays_within_bounds(|min, max| Box::new(Gradient::between(min, max)));
    stays_within_bounds(|min, max| Box::new(Gradient::between(min, max).start(max).tolerance(2e9)));
}

#[test] // A1
fn the_limit_grows_while_answers_are_quick() {
    let wide = Service::of(1_000, 1_000);
    let (mut aimd, mut gradient) = (aimd(), gradient());
    drive(&mut aimd, wide, 10_000);
    drive(&mut gradient, wide, 20_000);
    assert_eq!((aimd.limit(), gradient.limit()), (400, 400));
}

#[test] // A1
fn the_limit_stays_at_what_the_service_can_take() {
    let (mut aimd, mut gradient) = (aimd(), gradient());
    let refuses = Service::of(50, 60);
    let (limit, refused) = drive(&mut aimd, refuses, 100_000);
    assert!((45..60).contains(&limit) && refused < 500, "{limit}, {refused} refused");
    let (limit, refused) = drive(&mut gradient, refuses, 100_000);
    assert!((45..60).contains(&limit) && refused < 1_000, "{limit}, {refused} refused");

    let mut aimd = aimd.slow_above(WORK * 3 / 2);
    let slows_down = Service::of(50, 1_000);
    let (limit, refused) = drive(&mut aimd, slows_down, 100_000);
    assert!((50..75).contains(&limit) && refused == 0, "{limit}, {refused} refused");
    let (limit, refused) = drive(&mut gradient, slows_down, 100_000);
    assert!((50..75).contains(&limit) && refused == 0, "{limit}, {refused} refused");
}

/// A service that answers, and then `worse`, and then as before.
fn shrinks_and_recovers(mut limit: impl LimitStrategy, worse: Service, at_most: usize) {
    let well = Service::of(100, 130);
    let (before, _) = drive(&mut limit, well, 50_000);
    drive(&mut limit, worse, 1_000);
    let shrunk = limit.limit();
    assert!(shrunk <= at_most, "from {before} to {shrunk}");
    let (after, _) = drive(&mut limit, well, 50_000);
    assert!(after >= before * 9 / 10, "{before} before, {after} after");
}

#[test] // A1
fn the_limit_shrinks_while_answers_are_slow_and_recovers() {
    let slow = Service::of(30, 1_000);
    shrinks_and_recovers(aimd().slow_above(WORK * 3 / 2), slow, 45);
    shrinks_and_recovers(gradient(), slow, 60);
}

#[test] // A1
fn the_limit_shrinks_while_requests_are_refused_and_recovers() {
    let refuses = Service::of(100, 30);
    shrinks_and_recovers(aimd(), refuses, 31);
    shrinks_and_recovers(gradient(), refuses, 35);
}

#[test] // A1
fn the_limit_shrinks_while_all_requests_fail_and_recovers() {
    let fails = Service { fails: Some(1), ..Service::of(100, 130) };
    shrinks_and_recovers(Aimd::between(1, 400), fails, 1);
    shrinks_and_recovers(Gradient::between(1, 400), fails, 1);
}

#[test] // A1: requests that time out take long and fail.
fn the_limit_shrinks_while_requests_time_out_and_recovers() {
    let hangs = Service { fails: Some(1), work: WORK * 100, ..Service::of(100, 1_000) };
    shrinks_and_recovers(aimd(), hangs, 4);
    shrinks_and_recovers(gradient(), hangs, 4);
}

#[test] // A1: the requests of a round trip tell the same news.
fn the_limit_shrinks_once_in_a_round_trip() {
    let refused = |running| Sample::new(WORK, Verdict::Overloaded, running);
    let mut aimd = aimd().start(100);
    for ended in 0..100 {
        aimd.observe(refused(100 - ended));
        assert_eq!(aimd.limit(), 70);
    }
    aimd.observe(refused(70));
    assert_eq!(aimd.limit(), 49);

    let mut gradient = gradient().start(100);
    for _ in 0..5 {
        gradient.observe(refused(100)); // it takes some, so that a single failure is no overload
    }
    for ended in 0..99 {
        assert_eq!(gradient.limit(), 75);
        gradient.observe(refused(99 - ended));
    }
}

#[test] // A1
fn a_limit_that_is_not_used_does_not_grow() {
    let (mut aimd, mut gradient) = (aimd().start(100), gradient().start(100));
    for _ in 0..1_000 {
        let half = Sample::new(WORK, Verdict::Answered, 49);
        aimd.observe(half);
        gradient.observe(half);
        assert_eq!(aimd.limit(), 100);
        assert!(gradient.limit() <= 100);
    }
}

#[test] // A1: a decrease begins at the requests that ran, and not at a limit that nobody has tried.
fn an_unused_limit_shrinks_below_the_requests_that_ran() {
    let mut aimd = aimd().start(200);
    aimd.observe(Sample::new(WORK, Verdict::Overloaded, 120));
    assert_eq!(aimd.limit(), 84);
    let mut alone = Aimd::between(4, 400).start(200);
    alone.observe(Sample::new(WORK, Verdict::Overloaded, 1));
    assert_eq!(alone.limit(), 70); // of half of the limit
}

#[test] // A1
fn an_ignored_end_changes_nothing() {
    let (mut aimd, mut gradient) = (aimd().start(100), gradient().start(100));
    for _ in 0..1_000 {
        aimd.observe(Sample::new(Duration::MAX, Verdict::Ignored, 100));
        gradient.observe(Sample::new(Duration::MAX, Verdict::Ignored, 100));
    }
    assert_eq!((aimd.limit(), gradient.limit()), (100, 100));
}

#[test] // A1: additive increase: one in a round trip, after the slow start has ended.
fn aimd_adds_one_in_a_round_trip() {
    let mut aimd = aimd().start(10);
    let answered = |running| Sample::new(WORK, Verdict::Answered, running);
    for _ in 0..10 {
        aimd.observe(answered(10));
    }
    assert_eq!(aimd.limit(), 20);
    aimd.observe(Sample::new(WORK, Verdict::Overloaded, 20));
    for _ in 0..19 {
        assert_eq!(aimd.limit(), 14);
        aimd.observe(answered(14));
    }
    for _ in 0..14 {
        assert_eq!(aimd.limit(), 14);
        aimd.observe(answered(14));
    }
    assert_eq!(aimd.limit(), 15);
}

#[test] // A1: a service that has refused everything is asked for twice as much in each round trip.
fn aimd_starts_slowly_again_from_its_lowest_limit() {
    let mut aimd = Aimd::between(4, 400).start(5);
    aimd.observe(Sample::new(WORK, Verdict::Overloaded, 1));
    assert_eq!(aimd.limit(), 4);
    for limit in 4..50 {
        assert_eq!(aimd.limit(), limit);
        aimd.observe(Sample::new(WORK, Verdict::Answered, limit));
    }
}

#[test] // A1
fn gradient_tolerates_failures_that_have_other_causes_than_the_load() {
    let flaky = Service { fails: Some(100), ..Service::of(100, 1_000) };
    let (limit, _) = drive(&mut gradient(), flaky, 200_000);
    assert!((85..150).contains(&limit), "{limit}");
}

#[test] // A1
fn gradient_tolerates_latencies_that_differ() {
    let uneven = Service { spread: 10, ..Service::of(100, 1_000) };
    let (limit, _) = drive(&mut gradient().tolerance(1.5), uneven, 200_000);
    assert!((90..200).contains(&limit), "{limit}");
}

#[test] // A1: a service that has become slower, whatever its load, keeps its limit in the long run.
fn gradient_learns_a_new_latency() {
    let mut gradient = gradient();
    let service = Service::of(100, 1_000);
    let (before, _) = drive(&mut gradient, service, 50_000);
    let (after, _) = drive(&mut gradient, Service { work: 2 * WORK, ..service }, 50_000);
    assert!(after >= before * 9 / 10, "{before}, then {after}");
}

#[test] // A1: at the lowest limit, or with half of the limit unused, there is no load to blame for a latency.
fn gradient_blames_no_load_where_there_is_none() {
    let answers = |gradient: &mut Gradient, number, latency, running| {
        (0..number)
            .for_each(|_| gradient.observe(Sample::new(latency, Verdict::Answered, running)));
    };
    let mut gradient = gradient().start(100);
    answers(&mut gradient, 100, WORK, 40);
    answers(&mut gradient, 100, 3 * WORK, 40);
    assert_eq!(gradient.limit(), 100);
    answers(&mut gradient, 100, 3 * WORK, 100);
    assert!(gradient.limit() >= 100, "{gradient}");

    let mut lowest = Gradient::between(10, 400);
    answers(&mut lowest, 16, WORK, 1);
    answers(&mut lowest, 16, 3 * WORK, 10);
    assert!(lowest.limit() > 10, "{lowest}");
}

#[test] // A1
fn gradient_keeps_half_of_its_limit_in_a_round_trip() {
    let mut gradient = gradient().start(100);
    (0..100).for_each(|_| gradient.observe(Sample::new(WORK, Verdict::Answered, 100)));
    assert_eq!(gradient.limit(), 110);
    (0..100).for_each(|_| gradient.observe(Sample::new(1_000 * WORK, Verdict::Answered, 100)));
    assert_eq!(gradient.limit(), 65); // half, and the square root of the limit
}

#[test] // A1: a queue in the service that stays is not taken for its latency.
fn gradient_does_not_drift() {
    let mut gradient = gradient();
    let (soon, _) = drive(&mut gradient, Service::of(50, 1_000), 50_000);
    let (late, _) = drive(&mut gradient, Service::of(50, 1_000), 1_000_000);
    assert!(soon < 75 && soon.abs_diff(late) < 5, "{soon}, then {late}");
}

#[test] // C1
fn senseless_settings_are_refused() {
    let bounds = |min, max| Err(ConfigError::LimitBounds { min, max });
    assert_eq!(Aimd::between(0, 5).check(), bounds(0, 5));
    assert_eq!(Gradient::between(6, 5).check(), bounds(6, 5));
    for start in [3, 401] {
        let outside = Err(ConfigError::LimitStart { start, min: 4, max: 400 });
        assert_eq!(aimd().start(start).check(), outside);
        assert_eq!(gradient().start(start).check(), outside);
    }
    for factor in [0.0, 1.0, -0.5, 7.0, f64::NAN] {
        assert_eq!(aimd().backoff(factor).check(), Err(ConfigError::LimitBackoff), "{factor}");
    }
    assert_eq!(aimd().backoff(0.5).check(), Ok(()));
    for times in [0.99, -1.0, f64::NAN, f64::INFINITY] {
        let error = Err(ConfigError::LimitTolerance);
        assert_eq!(gradient().tolerance(times).check(), error, "{times}");
    }
    assert_eq!(gradient().tolerance(1.0).check(), Ok(()));
    assert_eq!(aimd().slow_above(Duration::ZERO).check(), Err(ConfigError::ZeroSlowAbove));
}

#[test] // A1: also without a check, no sample makes them panic.
fn senseless_settings_do_not_panic() {
    for (min, max) in [(0, 0), (9, 3), (0, usize::MAX)] {
        let (mut aimd, mut gradient) =
            (Aimd::between(min, max).backoff(5.0), Gradient::between(min, max).tolerance(0.0));
        for number in 0..1_000 {
            let verdict = if number % 7 == 0 { Verdict::Overloaded } else { Verdict::Answered };
            aimd.observe(Sample::new(WORK, verdict, number % 50));
            gradient.observe(Sample::new(WORK, verdict, number % 50));
        }
    }
}
