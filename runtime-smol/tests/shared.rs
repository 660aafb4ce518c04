//! Executors that stages share: in an `Arc` or `Rc`, and in a `static`.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use async_executor::{Executor, LocalExecutor};
use futures_lite::future::{block_on, yield_now};
use futures_lite::{StreamExt, stream};
use inflight_core::{AsyncWait, AsyncWaitExt, Failure, Runtime, Spawner, StartError};
use inflight_smol::{Smol, SmolLocal};

/// Squares numbers, with requests and stage on tasks of their own. Three panics.
macro_rules! squares {
    ($runtime:expr) => {
        async {
            let squares = stream::iter(1..=4_u32)
                .async_wait(AsyncWait::ordered(3), |n| {
                    let n = *n;
                    async move {
                        yield_now().await;
                        assert_ne!(n, 3, "as it should");
                        Ok::<u32, ()>(n * n)
                    }
                })
                .spawn_requests($runtime.clone())
                .spawn($runtime)?;
            Ok::<_, StartError>(squares.map(|done| done.result).collect::<Vec<_>>().await)
        }
    };
}

const SQUARES: [Result<u32, Failure<()>>; 4] = [Ok(1), Ok(4), Err(Failure::Panicked), Ok(16)];

#[test] // F3
fn a_stage_spawns_its_requests_on_a_shared_executor() {
    let executor = Arc::new(Executor::new());
    let squares = block_on(executor.run(squares!(Smol(Arc::clone(&executor)))));
    assert_eq!(squares.expect("a stage"), SQUARES);
    assert!(executor.is_empty());
    assert_eq!(Arc::strong_count(&executor), 1, "no task holds it any more");
}

#[test] // F3
fn a_stage_spawns_its_requests_on_a_shared_local_executor() {
    let executor = Rc::new(LocalExecutor::new());
    let squares = block_on(executor.run(squares!(SmolLocal(Rc::clone(&executor)))));
    assert_eq!(squares.expect("a stage"), SQUARES);
    assert_eq!(Rc::strong_count(&executor), 1, "no task holds it any more");
}

#[test] // F3
fn a_stage_spawns_its_requests_on_an_executor_in_a_static() {
    static EXECUTOR: Executor<'static> = Executor::new();
    let squares = block_on(EXECUTOR.run(squares!(Smol(&EXECUTOR))));
    assert_eq!(squares.expect("a stage"), SQUARES);
}

#[test] // L2: dropping the stream and running the executor once more leaves nothing behind
fn a_dropped_stage_lets_a_shared_executor_go() {
    let executor = Arc::new(Executor::new());
    let smol = Smol(Arc::clone(&executor));
    let stage = stream::iter(1..=4_u32)
        .async_wait(AsyncWait::ordered(3), |_| std::future::pending::<Result<u32, ()>>())
        .spawn_requests(smol.clone())
        .spawn(smol)
        .expect("a stage");
    assert!(executor.try_tick());
    drop(stage);
    while executor.try_tick() {}
    assert_eq!(Arc::strong_count(&executor), 1);
}

#[test] // a stage on a borrowed executor still borrows values that outlive the executor
fn a_borrowed_executor_is_enough_for_a_stage() {
    let offset = Cell::new(1);
    let executor = LocalExecutor::new();
    let stage = stream::iter(1..=3_u32)
        .async_wait(AsyncWait::ordered(3), |n| std::future::ready(Ok::<_, ()>(n + offset.get())))
        .spawn(SmolLocal(&executor))
        .expect("a stage");
    let all = block_on(executor.run(stage.map(|done| done.result).collect::<Vec<_>>()));
    assert_eq!(all, [Ok(2), Ok(3), Ok(4)]);
}

#[test]
fn what_holds_an_executor_is_a_runtime() {
    fn is_runtime<R: Runtime + Spawner<std::future::Ready<()>>>() {}
    is_runtime::<Smol<&Executor<'static>>>();
    is_runtime::<Smol<Arc<Executor<'static>>>>();
    is_runtime::<SmolLocal<Rc<LocalExecutor<'static>>>>();
}
