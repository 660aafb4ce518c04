//! The console's page in a headless Chromium, over real stages behind a real console. Each test opens the page once: all that it
//! sees after that, the page has fetched by itself.

mod chromium;
mod scene;

use std::future::{pending, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use inflight_console::Lamp;
use inflight_core::pipeline::{MemorySink, MemorySource, Pipeline};
use inflight_core::{AsyncWait, AsyncWaitExt as _, FixedDelay, MemoryStore};
use inflight_tokio::Tokio;
use scene::{Scene, console};
use tokio::sync::watch;

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn a_stalled_head_is_seen_at_the_front_and_why_the_others_wait() {
    let Some(mut scene) = Scene::start() else { return };
    let (release, released) = watch::channel(false);
    let records = scene.stage("airport", AsyncWait::ordered(8), move |n: &u32| {
        let (n, mut released) = (*n, released.clone());
        async move {
            if n == 0 {
                let _ = released.wait_for(|is_released| *is_released).await;
            }
            Ok(n)
        }
    });
    scene.open();
    records.send(0..8);
    let page = &mut scene.browser;
    page.until("cells('airport') === 'running done done done done done done done'");
    page.until("legend('airport', 'running') === 1 && legend('airport', 'done') === 7");
    page.until("/running.*7 records/.test(named('airport').querySelector('.why').textContent)");

    release.send_replace(true);
    page.until("cells('airport') === '' && total('airport', 'out') === '8'");
    page.until("named('airport').querySelector('.why').textContent === 'No record is in flight.'");
    page.assert_no_errors();
}

#[test]
fn an_outage_is_seen_as_backoff_failures_and_a_lamp_that_is_down() {
    let Some(mut scene) = Scene::start() else { return };
    let is_down = Arc::new(AtomicBool::new(false));
    let lamp = Arc::clone(&is_down);
    scene.console.lamp("PostgreSQL", move || match lamp.load(Ordering::Relaxed) {
        true => Lamp::Down("connection refused".into()),
        false => Lamp::Up,
    });
    let patient = AsyncWait::unordered(8).retry(FixedDelay::new(HOUR).max_retries(u32::MAX));
    let patient = scene.stage("patient", patient, |_: &u32| ready(Err("connection refused")));
    let hasty = scene.stage("hasty", AsyncWait::unordered(8), |_: &u32| async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        Err("connection refused")
    });
    scene.open();
    scene.browser.until("lamp('PostgreSQL').dataset.state === 'up'");

    is_down.store(true, Ordering::Relaxed);
    patient.send(0..8);
    hasty.send(0..1_000_000);
    let page = &mut scene.browser;
    page.until("lamp('PostgreSQL').textContent === 'PostgreSQL down: connection refused'");
    page.until("cells('patient') === Array(8).fill('backoff').join(' ')");
    page.until("/backoff/.test(named('patient').querySelector('.why').textContent)");
    page.until("now('hasty', 'failures') > 1");
    page.assert_no_errors();
}

#[test]
fn a_retry_storm_is_seen_as_orange_cells_and_retries_per_second() {
    let Some(mut scene) = Scene::start() else { return };
    let stormy = AsyncWait::unordered(8)
        .retry(FixedDelay::new(Duration::from_millis(20)).max_retries(u32::MAX));
    let records = scene.stage("airport", stormy, |_: &u32| ready(Err("busy")));
    scene.open();
    records.send(0..8);
    let page = &mut scene.browser;
    page.until("now('airport', 'retries') > 8");
    page.until("cells('airport') === Array(8).fill('backoff').join(' ')");
    let cell = page.value(
        "getComputedStyle(named('airport').querySelector('.window .backoff')).backgroundImage",
    );
    assert!(cell.as_str().is_some_and(|image| image.contains("rgb(217, 122, 11)")), "{cell}");
    page.assert_no_errors();
}

#[test]
fn the_page_follows_its_process_without_being_loaded_again() {
    let Some(mut scene) = Scene::start() else { return };
    let records = scene.stage("airport", AsyncWait::unordered(8), |_: &u32| pending());
    scene.open();
    let page = &mut scene.browser;
    page.value("globalThis.mark = 'set once'");
    for sent in 1..=3 {
        records.send([sent]);
        page.until(&format!(
            "total('airport', 'in') === '{sent}' && legend('airport', 'running') === {sent}"
        ));
    }
    assert_eq!(page.value("mark"), "set once");
    page.assert_no_errors();
}

#[test]
fn a_process_that_is_gone_is_said_to_be_and_found_again() {
    let Some(mut scene) = Scene::start() else { return };
    let _records = scene.stage("airport", AsyncWait::unordered(8), |_: &u32| pending());
    scene.open();
    scene.browser.until("connected() === 'live' && named('airport')");

    let address = scene.address();
    let Scene { console: first, browser: mut page, runtime: _runtime } = scene;
    drop(first);
    page.until("connected() === 'gone'");
    page.until("document.querySelector('#status').textContent === 'The process does not answer'");
    assert_eq!(page.value("named('airport') !== undefined"), true, "its last state stays");

    let _another = console("another", &address);
    page.until("connected() === 'live' && document.title === 'another' && !named('airport')");
    page.assert_no_errors();
}

#[test]
fn a_stage_that_has_ended_is_said_to_have() {
    let Some(mut scene) = Scene::start() else { return };
    let records = scene.stage("airport", AsyncWait::unordered(8), |n: &u32| ready(Ok(*n)));
    scene.open();
    records.send(0..3);
    drop(records);
    scene.browser.until("named('airport').querySelector('.badge.ended:not([hidden])') && total('airport', 'out') === '3'");
    scene.browser.assert_no_errors();
}

#[test]
fn a_pipelines_checkpoints_are_counted_until_it_ends() {
    let Some(mut scene) = Scene::start() else { return };
    let (release, released) = watch::channel(false);
    let reports = scene.console.pipeline("job");
    scene.runtime.spawn(async move {
        Pipeline::new(MemorySource::new(0..3_u32), MemorySink::new(), MemoryStore::new())
            .on_report(move |report| reports.record(&report))
            .run(Tokio, |numbers, recovery| {
                let held_up = move |n: &u32| {
                    let (n, mut released) = (*n, released.clone());
                    async move {
                        let _ = released.wait_for(|is_released| *is_released).await;
                        Ok::<_, String>(n)
                    }
                };
                let stage = numbers.async_wait(AsyncWait::ordered(8), held_up);
                stage.checkpointed("stage", 1).restore(recovery).spawn(Tokio)
            })
            .await
            .map_err(|error| error.to_string())
    });
    scene.open();
    let page = &mut scene.browser;
    page.until(
        "Number(total('job', 'checkpoints')) > 0 && total('job', 'last one').endsWith(' ago')",
    );
    page.until("/B$/.test(total('job', 'its size')) && total('job', 'failed') === '0'");
    page.until("/s$/.test(total('job', 'it took'))");
    // The chart comes with the first sample.
    page.until("named('job').querySelector('.charts figure').checkVisibility()");
    assert_eq!(page.value("named('job').querySelector('.badge.ended').hidden"), true);

    release.send_replace(true);
    page.until("!named('job').querySelector('.badge.ended').hidden");
    page.assert_no_errors();
}

#[test]
fn names_and_notes_become_text_whatever_they_contain() {
    let Some(mut scene) = Scene::start() else { return };
    let name = "<img src=x onerror=\"document.body.dataset.injected = 1\">";
    let records = scene.stage(name, AsyncWait::unordered(8), |_: &u32| pending());
    scene.console.lamp("NATS", move || Lamp::Down(name.into()));
    scene.open();
    records.send(0..1);
    let page = &mut scene.browser;
    page.until("document.querySelector('h2').textContent.startsWith('<img')");
    page.until("lamp('NATS').textContent.includes('<img')");
    assert_eq!(page.value("document.querySelectorAll('img').length"), 0);
    assert_eq!(page.value("document.body.dataset.injected === undefined"), true);
    page.assert_no_errors();
}

#[test]
fn it_fits_a_phone_and_follows_the_colour_scheme() {
    let Some(mut scene) = Scene::start() else { return };
    let records = scene.stage(
        "a-name-that-is-too-long-for-one-line-of-a-phone",
        AsyncWait::unordered(2000),
        |_: &u32| pending(),
    );
    scene.console.lamp("a server with a long name", || {
        Lamp::Down("and a reason that is longer than the line".into())
    });
    scene.browser.screen(360, "light");
    scene.open();
    records.send(0..2000);
    let page = &mut scene.browser;
    page.until("document.querySelectorAll('.window .running').length === 1024");
    page.until("document.querySelector('.detail').textContent.includes('976 younger records have no cell')");
    assert_eq!(page.value("document.documentElement.scrollWidth"), 360);
    let light = page.value("getComputedStyle(document.body).backgroundColor");
    page.screen(360, "dark");
    assert_ne!(page.value("getComputedStyle(document.body).backgroundColor"), light);
    page.assert_no_errors();
}

#[test]
fn a_keyboard_reaches_each_record_and_a_screen_reader_has_names() {
    let Some(mut scene) = Scene::start() else { return };
    let records = scene.stage("airport", AsyncWait::ordered(8), |_: &u32| pending());
    scene.open();
    records.send(0..3);
    let page = &mut scene.browser;
    page.until("cells('airport') === 'running running running'");
    page.press("Tab");
    page.press("ArrowRight");
    page.until("named('airport').querySelector('[aria-live]').textContent.startsWith('Record 1 of 3, the oldest: running, attempt 1')");
    page.press("ArrowRight");
    page.until("named('airport').querySelector('[aria-live]').textContent.startsWith('Record 2 of 3: running, attempt 1')");

    let heard = page.heard();
    for part in [
        "region: Stage airport",
        "application: 3 records in flight: 3 running",
        "image: Latency over the last 5 minutes",
        "status: ",
    ] {
        assert!(heard.iter().any(|line| line.starts_with(part)), "no {part:?} in {heard:#?}");
    }
    page.assert_no_errors();
}
