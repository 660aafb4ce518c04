//! What is read is what was written, what makes no sense is refused by name, and defaults are the builder's.

use std::time::Duration;

use inflight::settings::{Backoff, Budget, Finish, Problem, Settings};
use inflight::{AsyncWait, Order};

fn full() -> Settings {
    let mut retry = Backoff::new(Duration::from_millis(50));
    retry.factor = 1.5;
    retry.max_delay = Some(Duration::from_secs(90));
    retry.jitter = 0.25;
    retry.jitter_seed = 7;
    retry.max_retries = 5;
    let mut settings = Settings::new(100);
    settings.order = Order::ByKeyOverlapping;
    settings.timeout = Some(Duration::from_millis(2_500));
    settings.attempt_timeout = Some(Duration::from_micros(7));
    settings.max_running = Some(10);
    settings.max_capacity = Some(1_000);
    settings.retry = Some(retry);
    settings.retry_budget = Some(Budget::new(100, 0.1));
    settings.finish_policy = Finish::LastAttempt;
    settings
}

#[test]
fn what_was_written_is_read() {
    for settings in [full(), Settings::new(1)] {
        let written = toml::to_string(&settings).expect("it can be written");
        assert_eq!(toml::from_str::<Settings>(&written).expect(&written), settings);
        let written = serde_json::to_string(&settings).expect("it can be written");
        assert_eq!(serde_json::from_str::<Settings>(&written).expect(&written), settings);
    }
    let written = toml::to_string(&full()).expect("it can be written");
    assert!(written.contains("timeout = \"2s 500ms\""), "{written}");
}

/// How a policy differs from another one is seen in what it prints.
fn shown<P: std::fmt::Debug>(policy: P) -> String {
    format!("{policy:?}")
}

#[test]
fn every_setting_reaches_the_policy_and_the_others_are_the_builders() {
    let settings: Settings = toml::from_str("capacity = 5\n[retry]\ninitial = \"50ms\"").unwrap();
    let policy = settings.policy().expect("it makes sense");
    assert_eq!(shown(policy), shown(AsyncWait::ordered(5)));
    let backoff = inflight::ExponentialBackoff::new(Duration::from_millis(50));
    assert_eq!(shown(settings.backoff()), shown(backoff));

    let key = |record: &u32| *record;
    let expected = AsyncWait::ordered_by_key(100, key)
        .overlapping()
        .timeout(Duration::from_millis(2_500))
        .attempt_timeout(Duration::from_micros(7))
        .max_running(10)
        .max_capacity(1_000)
        .retry_budget(inflight::RetryBudget::new(100, 0.1))
        .finish_policy(inflight::FinishPolicy::LastAttempt);
    assert_eq!(shown(full().policy_by_key(key).expect("it makes sense")), shown(expected));
    let backoff =
        backoff.factor(1.5).max_delay(Duration::from_secs(90)).jitter(0.25, 7).max_retries(5);
    assert_eq!(shown(full().backoff()), shown(backoff));

    let mut settings = Settings::new(5);
    for (order, expected) in [
        (Order::Ordered, AsyncWait::ordered(5).with_key(key)),
        (Order::Unordered, AsyncWait::unordered(5).with_key(key)),
        (Order::ByKey, AsyncWait::ordered_by_key(5, key)),
    ] {
        settings.order = order;
        assert_eq!(shown(settings.policy_by_key(key).expect("it makes sense")), shown(expected));
    }
    let retries = shown(Settings::new(5).backoff());
    assert!(retries.contains("max_retries: 0"), "{retries}");
}

#[test]
fn what_makes_no_sense_is_refused_by_name() {
    let cases = [
        ("capacity = 0", "capacity: the capacity is zero; it must be at least 1"),
        ("capacity = 99999999999", "capacity: "),
        ("capacity = 9\nmax_capacity = 99999999999", "max_capacity: "),
        ("capacity = 9\nmax_capacity = 8", "capacity: "),
        ("capacity = 9\ntimeout = \"0s\"", "timeout: the timeout is zero"),
        ("capacity = 9\nattempt_timeout = \"0s\"", "attempt_timeout: "),
        ("capacity = 9\nmax_running = 0", "max_running: "),
        (
            "capacity = 9\nretry_budget = { tokens = 1, per_success = 2.0 }",
            "retry_budget.per_success: ",
        ),
        ("capacity = 9\nretry = { initial = \"1s\", factor = 0.5 }", "retry.factor: "),
        ("capacity = 9\nretry = { initial = \"1s\", max_delay = \"1ms\" }", "retry.max_delay: "),
        ("capacity = 9\nretry = { initial = \"1s\", jitter = 1.5 }", "retry.jitter: "),
        ("capacity = 9\norder = \"by-key\"", "order: this stage has no key"),
    ];
    for (file, said) in cases {
        let settings: Settings = toml::from_str(file).expect(file);
        let error = settings.policy().expect_err(file);
        assert!(error.to_string().starts_with(said), "{file}: {error}");
        assert_eq!(said.split(':').next(), Some(error.field()));
        if error.field() != "order" {
            assert!(settings.policy_by_key(|record: &u32| *record).is_err(), "{file}");
        }
    }
}

#[test]
fn what_cannot_be_read_is_said_with_the_fields_name() {
    let cases = [
        ("", "capacity"),
        ("capacity = -1", "capacity"),
        ("capacity = 9\ntimout = \"1s\"", "timout"),
        ("capacity = 9\ntimeout = \"soon\"", "timeout: \"soon\" is no duration"),
        ("capacity = 9\nattempt_timeout = \"1 parsec\"", "attempt_timeout: "),
        ("capacity = 9\nretry = { initial = \"\" }", "initial: "),
        ("capacity = 9\nretry = { initial = \"1s\", max_delay = \"x\" }", "max_delay: "),
        ("capacity = 9\nretry = { initial = \"1s\", retries = 4 }", "retries"),
        ("capacity = 9\nretry = { }", "initial"),
        ("capacity = 9\nretry_budget = { tokens = 1, per_success = 1.0, most = 4 }", "most"),
        ("capacity = 9\norder = \"random\"", "order"),
        (
            "capacity = 9\norder = \"random\"",
            "`ordered`, `unordered`, `by-key`, `by-key-overlapping`",
        ),
    ];
    for (file, said) in cases {
        let error = toml::from_str::<Settings>(file).expect_err(file).to_string();
        assert!(error.contains(said), "{file}: {error}");
    }
}

#[test]
fn names_are_the_documented_ones() {
    for (name, order) in [
        ("ordered", Order::Ordered),
        ("unordered", Order::Unordered),
        ("by-key", Order::ByKey),
        ("by-key-overlapping", Order::ByKeyOverlapping),
    ] {
        let file = format!("capacity = 1\norder = \"{name}\"");
        assert_eq!(toml::from_str::<Settings>(&file).expect(name).order, order);
    }
    for (name, policy) in
        [("all-retries", Finish::AllRetries), ("last-attempt", Finish::LastAttempt)]
    {
        let file = format!("capacity = 1\nfinish_policy = \"{name}\"");
        assert_eq!(toml::from_str::<Settings>(&file).expect(name).finish_policy, policy);
    }
    let written = serde_json::to_string(&Settings::new(1)).expect("it can be written");
    let expected = r#"{"capacity":1,"order":"ordered","finish_policy":"all-retries"}"#;
    assert_eq!(written, expected, "nothing of what is not set");
}

// Configuration files have numbers that are none.
#[test]
fn what_is_no_number_is_refused_by_name() {
    for (field, file) in [
        ("retry.factor", "retry = { initial = \"1s\", factor = nan }"),
        ("retry.factor", "retry = { initial = \"1s\", factor = inf }"),
        ("retry.jitter", "retry = { initial = \"1s\", jitter = nan }"),
        ("retry_budget.per_success", "retry_budget = { tokens = 1, per_success = nan }"),
    ] {
        let settings: Settings = toml::from_str(&format!("capacity = 1\n{file}")).expect(file);
        let error = settings.policy().expect_err(file);
        assert_eq!(error.field(), field);
        assert!(matches!(error.problem(), Problem::Refused(_)), "{error:?}");
    }
    let mut settings = Settings::new(1);
    settings.order = Order::ByKey;
    assert_eq!(settings.policy().expect_err("no key").problem(), Problem::Unkeyed);
}

// The default maximum is never below the initial delay.
#[test]
fn a_long_initial_delay_needs_no_maximum() {
    let settings: Settings = toml::from_str("capacity = 1\nretry = { initial = \"5m\" }").unwrap();
    assert!(settings.policy().is_ok());
}

#[test]
fn every_duration_can_be_written_and_read() {
    for timeout in [
        Duration::from_nanos(1),
        Duration::new(31_557_599, 999_999_999),
        Duration::new(1, 1),
        Duration::from_secs(2_630_016 * 13 + 86_400),
        Duration::from_nanos(i64::MAX as u64),
        Duration::MAX,
    ] {
        let mut settings = Settings::new(1);
        settings.timeout = Some(timeout);
        let written = toml::to_string(&settings).expect("it can be written");
        assert_eq!(toml::from_str::<Settings>(&written).expect(&written), settings);
    }
}
