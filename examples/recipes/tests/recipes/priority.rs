//! Urgent records first (priority): a priority queue as the source, in front of a small window.
//!
//! Take it when some records must not wait for others that came before. The next record that starts is the most urgent one
//! in the queue. Records in the stage keep their places, so let its capacity be about the number of requests at once
//! (`max_running`): an urgent record waits for those only.
//!
//! The queue is bounded; behind it the source waits as behind the stage itself. Equally urgent records keep their order. A record
//! waits for as long as more urgent ones come. The queue is in no checkpoint: in a pipeline give urgent records a source and a
//! stage of their own.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::task::Poll;

use futures_util::stream::{self, Stream, StreamExt};

/// The records of `source`, the most urgent first of those that have come. Up to `queue` of them wait here.
fn urgent_first<S, U: Ord>(
    source: S,
    queue: usize,
    urgency: impl Fn(&S::Item) -> U,
) -> impl Stream<Item = S::Item>
where
    S: Stream + Unpin,
{
    let mut source = source.fuse();
    let (mut waiting, mut number) = (BTreeMap::new(), 0_u64);
    stream::poll_fn(move |cx| {
        while waiting.len() < queue.max(1)
            && let Poll::Ready(Some(record)) = source.poll_next_unpin(cx)
        {
            number += 1;
            waiting.insert((Reverse(urgency(&record)), number), record);
        }
        match waiting.pop_first() {
            Some((_, record)) => Poll::Ready(Some(record)),
            None if source.is_done() => Poll::Ready(None),
            None => Poll::Pending,
        }
    })
}

mod tests {
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use inflight::prelude::*;
    use tokio::time::sleep;

    use super::*;
    use crate::clock::simulated;

    const MS: Duration = Duration::from_millis(1);

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Job {
        Routine(u32),
        Urgent,
    }

    #[test]
    fn an_urgent_record_starts_next() {
        simulated(async {
            let routine = stream::iter((0..50).map(Job::Routine));
            let urgent = stream::once(async {
                sleep(15 * MS).await;
                Job::Urgent
            });
            let source =
                urgent_first(routine.chain(Box::pin(urgent)), 100, |job| *job == Job::Urgent);

            let started = Arc::new(Mutex::new(Vec::new()));
            let starts = started.clone();
            let mut answers = source
                .async_wait(AsyncWait::unordered(2), move |job| {
                    starts.lock().unwrap().push(*job);
                    async {
                        sleep(10 * MS).await;
                        Ok::<_, ()>(())
                    }
                })
                .spawn(Tokio)
                .expect("a stage");
            while let Some(done) = answers.next().await {
                done.result.expect("an answer");
            }

            // Two start at 0 ms and two at 10 ms.
            let mut expected: Vec<_> = (0..50).map(Job::Routine).collect();
            expected.insert(4, Job::Urgent);
            assert_eq!(*started.lock().unwrap(), expected);
        });
    }

    #[test]
    fn the_queue_is_bounded() {
        simulated(async {
            let taken = Arc::new(AtomicU32::new(0));
            let count = taken.clone();
            let endless = stream::repeat_with(move || count.fetch_add(1, Relaxed));
            let mut answers = urgent_first(endless, 10, |_| 0)
                .async_wait(AsyncWait::unordered(2), |_| async { Ok::<_, ()>(()) })
                .in_place(Tokio)
                .expect("a stage");
            for _ in 0..100 {
                answers.next().await.expect("an outcome");
            }
            assert!((100..=112).contains(&taken.load(Relaxed)), "{taken:?} records");
        });
    }
}
