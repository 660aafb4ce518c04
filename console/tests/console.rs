//! A console over a real socket.

use std::future::pending;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{LazyLock, mpsc};
use std::thread;
use std::time::Duration;

use futures_lite::{StreamExt, stream};
use inflight_console::{Console, ConsoleError, Lamp, ServedConsole};
use inflight_core::pipeline::{Ended, MemorySink, MemorySource, Pipeline, Report};
use inflight_core::{AsyncWait, AsyncWaitExt, CheckpointId, FixedDelay, MemoryStore};
use inflight_tokio::Tokio;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

const PATIENCE: Duration = Duration::from_secs(30);

/// Where the stages of all tests run.
fn runtime() -> &'static Runtime {
    static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("a runtime"));
    &RUNTIME
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    runtime().block_on(future)
}

fn served() -> ServedConsole {
    Console::new("test").serve("127.0.0.1:0").expect("a console")
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

/// Sends a request with these lines as its head, and reads until the end.
fn send(to: SocketAddr, head: &str) -> Answer {
    let mut stream = TcpStream::connect(to).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    write!(stream, "{head}\r\nConnection: close\r\n\r\n").expect("it is there");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Answer { status: status.expect("a status"), head: head.to_lowercase(), body: body.to_owned() }
}

fn get(console: &ServedConsole, path: &str) -> Answer {
    let address = console.address();
    send(address, &format!("GET {path} HTTP/1.1\r\nHost: {address}"))
}

fn state(console: &ServedConsole) -> Value {
    let answer = get(console, "/state.json");
    assert_eq!(answer.status, 200);
    serde_json::from_str(&answer.body).expect("JSON")
}

/// The state as soon as it is as wanted.
fn state_when(console: &ServedConsole, is_wanted: impl Fn(&Value) -> bool) -> Value {
    let start = std::time::Instant::now();
    loop {
        let state = state(console);
        if is_wanted(&state) {
            return state;
        }
        assert!(start.elapsed() < PATIENCE, "it never comes: {state:#}");
    }
}

#[test] // M1, M2
fn the_state_is_that_of_the_stage() {
    let _inside = runtime().enter();
    let console = served();
    // One at a time: 0 fails and is tried again in an hour, 1 is done behind it, 2 never answers, 3 waits, and 4 has no room.
    let retry = FixedDelay::new(Duration::from_secs(3600)).max_retries(1);
    let policy = AsyncWait::ordered(4).max_running(1).retry(retry);
    let ask = |n: &u32| {
        let n = *n;
        async move {
            match n {
                0 => Err("busy"),
                1 => Ok(1),
                _ => pending().await,
            }
        }
    };
    let stage = stream::iter(0..5_u32).async_wait(policy, ask).spawn(Tokio).expect("a stage");
    console.stage("ask", stage.handle());
    // The first window may be of the instant in which the records came.
    let state = state_when(&console, |state| {
        let stage = &state["stages"][0];
        stage["window"]["cells"] == "bdrw" && stage["oldest"]["age"].as_f64() > Some(0.0)
    });
    let stage = &state["stages"][0];
    assert_eq!((&stage["name"], &stage["ended"]), (&json!("ask"), &json!(false)));
    assert_eq!(stage["window"]["attempts"], json!([1, 1, 1, 0]));
    assert_eq!(stage["window"]["ages"].as_array().map(Vec::len), Some(4));
    assert_eq!(stage["window"]["omitted"], 0);
    let expected = json!({
        "in_flight": 4, "running": 1, "backoff": 1, "waiting": 1, "done": 1, "capacity": 4, "limit": 1,
        "paused": false, "records_in": 4, "emitted": 0, "failed": 0, "timed_out": 0, "dropped": 0,
        "attempts": 3, "retried": 1,
    });
    for (name, number) in expected.as_object().expect("numbers") {
        assert_eq!(&stage["numbers"][name], number, "{name}");
    }
    let oldest = &stage["oldest"];
    assert_eq!((&oldest["state"], &oldest["attempts"]), (&json!("backoff"), &json!(1)));
    let why = "Its first attempt has failed, and the backoff before the next one is not over; 1 record that is done has not left.";
    assert_eq!(oldest["why"], why);
    assert_eq!(oldest["age"], stage["window"]["ages"][0]);
    assert!(
        state["uptime"].as_f64() > Some(0.0) && state["now"].as_u64() > Some(1_700_000_000_000)
    );
    assert_eq!(
        (&state["title"], &state["pipelines"], &state["lamps"]),
        (&json!("test"), &json!([]), &json!([]))
    );
}

#[test]
fn the_history_grows_by_a_sample_a_second() {
    let _inside = runtime().enter();
    let console = served();
    let ask = |n: &u32| std::future::ready(Ok::<_, ()>(*n));
    let numbers = stream::iter(0..50_u32).chain(stream::pending());
    let mut stage = numbers.async_wait(AsyncWait::ordered(100), ask).spawn(Tokio).expect("a stage");
    console.stage("ask", stage.handle());
    block_on(async {
        for _ in 0..50 {
            assert!(stage.next().await.is_some());
        }
    });
    let has_two = |state: &Value| {
        state["stages"][0]["history"]["in"].as_array().is_some_and(|samples| samples.len() > 1)
    };
    let state = state_when(&console, has_two);
    let (numbers, history) = (&state["stages"][0]["numbers"], &state["stages"][0]["history"]);
    assert_eq!(history["step"], 1.0);
    for name in ["in", "out", "p50", "p99", "limit", "in_flight", "retried", "failed"] {
        assert_eq!(history[name].as_array().map(Vec::len), Some(2), "{name}");
    }
    assert_eq!((&history["limit"][0], &history["p99"][1]), (&Value::Null, &Value::Null));
    assert_eq!((&numbers["in_per_second"], &numbers["out_per_second"]), (&json!(0.0), &json!(0.0)));
    assert!(
        numbers["p50"].as_f64() > Some(0.0) && numbers["p99"].as_f64() >= numbers["p50"].as_f64()
    );
}

#[test] // M2
fn a_stage_that_has_ended_stays() {
    let _inside = runtime().enter();
    let console = served();
    let ask = |n: &u32| std::future::ready(Ok::<_, ()>(*n));
    let stage = stream::iter(0..3_u32).async_wait(AsyncWait::ordered(9), ask).spawn(Tokio);
    let mut stage = stage.expect("a stage");
    console.stage("ask", stage.handle());
    block_on(async { while stage.next().await.is_some() {} });
    let state = state_when(&console, |state| state["stages"][0]["ended"] == true);
    let stage = &state["stages"][0];
    assert_eq!((&stage["window"]["cells"], &stage["oldest"]), (&json!(""), &Value::Null));
    assert_eq!(stage["numbers"]["emitted"], 3);
    // The same name again replaces it.
    let again = stream::pending::<u32>().async_wait(AsyncWait::ordered(9), ask).spawn(Tokio);
    let again = again.expect("a stage");
    console.stage("ask", again.handle());
    let state = self::state(&console);
    assert_eq!(state["stages"].as_array().map(Vec::len), Some(1));
    assert_eq!(state["stages"][0]["ended"], false);
}

#[test]
fn pipelines_and_lamps_are_shown() {
    let console = served();
    let reports = console.pipeline("job");
    let no_checkpoint = json!({"name": "job", "ended": false, "checkpoints": 0, "failed": 0, "last_ago": null, "took": null, "bytes": null,
        "history": {"step": 1.0, "took": []}});
    assert_eq!(state(&console)["pipelines"], json!([no_checkpoint]));
    let failed = Report::Failed { id: CheckpointId(1), reason: &std::fmt::Error };
    reports.record(&failed);
    let ask = |n: &u64| std::future::ready(Ok::<_, ()>(*n));
    let source = MemorySource::new(1..100_u64);
    let run = Pipeline::new(source, MemorySink::new(), MemoryStore::new())
        .on_report(move |report| reports.record(&report))
        .run(Tokio, move |numbers, recovery| {
            let stage = numbers.async_wait(AsyncWait::ordered(9), ask).checkpointed("ask", 1);
            stage.restore(recovery).spawn(Tokio)
        });
    block_on(run).expect("it runs");
    console.lamp("broker", || Lamp::Up);
    console.lamp("database", || Lamp::Down("no answer".into()));
    console.lamp("mail", || Lamp::Unknown);
    let state = state(&console);
    let pipeline = &state["pipelines"][0];
    assert!(
        pipeline["checkpoints"].as_u64() > Some(0)
            && pipeline["bytes"].as_u64() > Some(0)
            && pipeline["took"].as_f64() > Some(0.0),
        "{pipeline}"
    );
    assert!(pipeline["last_ago"].as_f64().is_some_and(|seconds| seconds < 30.0));
    assert_eq!((&pipeline["failed"], &pipeline["ended"]), (&json!(1), &json!(true)));
    let lamps = json!([
        {"name": "broker", "state": "up", "note": ""},
        {"name": "database", "state": "down", "note": "no answer"},
        {"name": "mail", "state": "unknown", "note": ""},
    ]);
    assert_eq!(state["lamps"], lamps);
}

#[test]
fn metrics_are_what_the_program_renders() {
    let console = served();
    assert_eq!(get(&console, "/metrics").status, 404);
    console.metrics(|| "inflight_running 1\n".into());
    let metrics = get(&console, "/metrics");
    assert_eq!((metrics.status, metrics.body.as_str()), (200, "inflight_running 1\n"));
    assert!(metrics.head.contains("content-type: text/plain; version=0.0.4"));
}

#[test]
fn nobody_can_change_anything() {
    let console = served();
    let host = console.address();
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"] {
        let refused = send(host, &format!("{method} / HTTP/1.1\r\nHost: {host}"));
        assert_eq!(refused.status, 405, "{method}");
        assert!(refused.head.contains("allow: get, head"));
    }
    assert_eq!(get(&console, "/stop").status, 404);
    let head = send(host, &format!("HEAD /state.json HTTP/1.1\r\nHost: {host}"));
    assert_eq!((head.status, head.body.as_str()), (200, ""));
}

#[test]
fn another_host_is_refused() {
    let console = served();
    let address = console.address();
    let with = |lines: &str| send(address, &format!("GET {lines}")).status;
    for host in ["localhost", "LocalHost:1", "127.0.0.1", "[::1]:80"] {
        assert_eq!(with(&format!("/state.json HTTP/1.1\r\nHost: {host}")), 200, "{host}");
    }
    for host in ["example.org", "localhost.example.org", "192.168.0.1:9090", "", "a b"] {
        assert_eq!(with(&format!("/state.json HTTP/1.1\r\nHost: {host}")), 403, "{host}");
    }
    assert_eq!(with("/state.json HTTP/1.0"), 403);
    assert_eq!(with("/state.json HTTP/1.1\r\nHost: localhost\r\nHost: example.org"), 403);
    assert_eq!(with("http://example.org/state.json HTTP/1.1\r\nHost: localhost"), 403);
    let open = Console::new("test").anyone().serve("0.0.0.0:0").expect("it is permitted");
    let port = open.address().port();
    let answer = send(([127, 0, 0, 1], port).into(), "GET / HTTP/1.1\r\nHost: example.org");
    assert_eq!(answer.status, 200);
}

#[test]
fn other_machines_do_not_reach_it_unless_told_otherwise() {
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let refused = Console::new("test").serve(address).expect_err("other machines reach it");
        assert!(matches!(refused, ConsoleError::NotLoopback(_)), "{refused:?}");
    }
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let refused = Console::new("test").serve(taken.local_addr().expect("a port"));
    let Err(ConsoleError::Listen(error)) = refused else { panic!("{refused:?}") };
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
}

#[test]
fn the_page_runs_its_own_script_alone() {
    let console = served();
    let nonce = || {
        let page = get(&console, "/");
        assert_eq!(page.status, 200);
        assert!(page.head.contains("content-type: text/html; charset=utf-8"));
        let (_, nonce) = page.body.split_once("<script nonce=\"").expect("a script");
        let nonce = nonce.split('"').next().expect("a number").to_owned();
        assert!(page.head.contains(&format!("default-src 'none'; script-src 'nonce-{nonce}';")));
        assert!(!page.body.contains("<script>"), "a script that does not run");
        nonce
    };
    assert_ne!(nonce(), nonce());
}

#[test]
fn dropping_it_ends_its_thread() {
    let console = served();
    let address = console.address();
    let mut idle = TcpStream::connect(address).expect("it listens");
    idle.set_read_timeout(Some(PATIENCE)).expect("a socket");
    drop(console); // joins the thread, although a client is there
    assert_eq!(idle.read(&mut [0]).unwrap_or(0), 0);
    assert!(TcpStream::connect(address).is_err());
    // A lamp that drops its own console does not wait for itself.
    let (give, take) = mpsc::channel::<ServedConsole>();
    let (give, take) = (give, std::sync::Mutex::new(take));
    let console = served();
    let address = console.address();
    console.lamp("last", move || {
        drop(take.lock().expect("a lamp").try_recv());
        Lamp::Up
    });
    give.send(console).expect("the lamp is there");
    let request = format!("GET /state.json HTTP/1.1\r\nHost: {address}\r\n\r\n");
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream.write_all(request.as_bytes()).expect("it is there");
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    while TcpStream::connect(address).is_ok() {
        thread::yield_now();
    }
}

#[test]
fn a_function_of_the_program_that_panics_is_said_to_have() {
    let console = served();
    console.lamp("broken", || panic!("planned"));
    console.lamp("mail", || Lamp::Up);
    console.metrics(|| panic!("planned"));
    for _ in 0..2 {
        let broken =
            json!({"name": "broken", "state": "down", "note": "its function has panicked"});
        assert_eq!(state(&console)["lamps"][0], broken);
        assert_eq!(state(&console)["lamps"][1]["state"], "up");
        assert_eq!(get(&console, "/metrics").status, 500);
    }
}

#[test]
fn of_stages_and_pipelines_that_have_ended_the_last_ones_stay() {
    let _inside = runtime().enter();
    let console = served();
    let spawn = || {
        let ask = |n: &u32| std::future::ready(Ok::<_, ()>(*n));
        stream::pending::<u32>()
            .async_wait(AsyncWait::ordered(1), ask)
            .spawn(Tokio)
            .expect("a stage")
    };
    let lives = spawn();
    console.stage("lives", lives.handle());
    for number in 0..25 {
        let mut stage = spawn();
        console.stage(format!("stage {number}"), stage.handle());
        stage.handle().stop();
        block_on(async { while stage.next().await.is_some() {} });
        while !stage.handle().has_ended() {
            thread::yield_now(); // its task ends a little later than its stream
        }
        let reports = console.pipeline(format!("job {number}"));
        reports.record(&Report::Complete { id: CheckpointId(1), ended: Ended::Finished });
    }
    let (next, _job) = (spawn(), console.pipeline("job"));
    console.stage("next", next.handle());
    let state = state(&console);
    let names = |of: &str| {
        let all = state[of].as_array().expect("a list").iter();
        all.map(|one| one["name"].as_str().expect("a name").to_owned()).collect::<Vec<_>>()
    };
    let last = |of: &'static str| (5..25).map(move |number| format!("{of} {number}"));
    let stages: Vec<_> =
        ["lives".into()].into_iter().chain(last("stage")).chain(["next".into()]).collect();
    assert_eq!(names("stages"), stages);
    assert_eq!(names("pipelines"), last("job").chain(["job".into()]).collect::<Vec<_>>());
}

#[test]
fn a_machine_without_a_thread_for_it_is_an_error() {
    const NAME: &str = "a_machine_without_a_thread_for_it_is_an_error";
    if std::env::var_os("INFLIGHT_NO_THREAD").is_some() {
        // Inside of a runtime, where no other can be dropped.
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let served = runtime.block_on(async { Console::new("test").serve("127.0.0.1:0") });
        assert!(matches!(served, Err(ConsoleError::Start(_))), "{served:?}");
        return;
    }
    // No machine has such a stack for the child's threads.
    let child = std::process::Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", NAME, "--test-threads=1"])
        .envs([("INFLIGHT_NO_THREAD", "1"), ("RUST_MIN_STACK", "1152921504606846976")])
        .output()
        .expect("it runs");
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
}
