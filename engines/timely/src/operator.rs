//! The operator in a dataflow: [`AsyncWaitOperator`], the methods of every stream of vectors.

use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use inflight_core::{
    AsyncWait, AsyncWaitExt, Extras, KeySelector, Outcome, RetryStrategy, Runtime, StartError,
    StreamElement, Timestamp,
};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::{ParallelizationContract, Pipeline};
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::{Operator as _, OperatorInfo, OutputBuilderSession};
use timely::progress::frontier::AntichainRef;

use crate::activation::Activation;
use crate::event_time::{EventTime, frontier_of, watermark_of};
use crate::records::{Feed, Records, records};

/// The asynchronous wait as an operator of timely dataflow.
///
/// Each worker has an operator of its own, with a capacity of its own. Records stay on the worker on which they are: for an order by
/// key, or calls of a key one at a time, exchange them by their key before.
pub trait AsyncWaitOperator<'scope, T: EventTime, V: 'static>: Sized {
    /// Calls `function` for each record, many at a time, and sends the outcomes at the times of their records, in the order of `policy`.
    ///
    /// The future must own what it needs of the record: copy values before the `async move` block. The worker's thread polls it, so
    /// it need not be `Send`; what it waits for (timers, sockets) belongs to a runtime that other threads drive. The worker has to be
    /// inside of that runtime whenever it steps. So step it to the end before the closure that timely was given returns: afterwards
    /// timely goes on stepping, and the guard that holds the worker inside is gone.
    ///
    /// The frontier of the outcomes follows that of the records, and never passes the time of a record in flight.
    ///
    /// ```
    /// use inflight_core::AsyncWait;
    /// use inflight_timely::AsyncWaitOperator;
    /// use inflight_tokio::Tokio;
    /// use std::time::Duration;
    /// use timely::dataflow::operators::vec::{Map, ToStream};
    /// use timely::dataflow::operators::{Capture, capture::Extract};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let runtime = tokio::runtime::Runtime::new()?;
    /// let handle = runtime.handle().clone();
    /// let squares = timely::execute_directly(move |worker| {
    ///     let _inside = handle.enter();
    ///     let squares = worker.dataflow::<u64, _, _>(|scope| {
    ///         let policy = AsyncWait::ordered(100).timeout(Duration::from_secs(5));
    ///         let square = |n: &u64| {
    ///             let n = *n;
    ///             async move {
    ///                 tokio::time::sleep(Duration::from_millis(n % 3)).await; // a real one asks a service
    ///                 Ok::<_, String>(n * n)
    ///             }
    ///         };
    ///         let squares = (1..=5).to_stream(scope).async_wait(policy, square, Tokio)?;
    ///         Ok::<_, inflight_core::StartError>(squares.map(|done| done.result.ok()).capture())
    ///     })?;
    ///     while worker.step_or_park(None) {} // while it is inside of the runtime
    ///     Ok::<_, inflight_core::StartError>(squares)
    /// })?;
    /// let squares = squares.extract().remove(0).1;
    /// assert_eq!(squares, [1, 4, 9, 16, 25].map(Some));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`StartError`]: a setting makes no sense, or the worker has not entered the runtime.
    ///
    /// # Panics
    ///
    /// A panic in a future, in `function` or in a predicate of the policy comes out of the worker's step, and ends the worker. To make
    /// it the failure of its record, run requests on tasks of their own: see [`async_stages`](Self::async_stages).
    fn async_wait<F, Fut, Out, E, R, K, X, Rt>(
        self,
        policy: AsyncWait<R, K, X>,
        function: F,
        runtime: Rt,
    ) -> Result<StreamVec<'scope, T, Outcome<V, Out, E>>, StartError>
    where
        F: FnMut(&V) -> Fut + 'static,
        Fut: Future<Output = Result<Out, E>> + 'static,
        R: RetryStrategy<V, Out, E> + 'static,
        K: KeySelector<V> + 'static,
        X: Extras<V, Out, E> + 'static,
        Rt: Runtime<Timer: 'static>,
        Out: 'static,
        E: 'static,
    {
        self.async_stages(Pipeline, "AsyncWait", |records| {
            records.async_wait(policy, function).in_place(runtime)
        })
    }

    /// Runs stages as one operator: whatever `stages` makes of a stream of records, with all settings of a stage builder.
    ///
    /// ```
    /// # use inflight_core::{AsyncWait, Outcome, StartError};
    /// use inflight_core::AsyncWaitExt;
    /// use inflight_timely::AsyncWaitOperator;
    /// use inflight_tokio::Tokio;
    /// use timely::dataflow::StreamVec;
    /// use timely::dataflow::channels::pact::Exchange;
    ///
    /// # async fn look_up(user: u64) -> Result<String, String> { Ok(user.to_string()) }
    /// /// Asks for each user on the worker that has all records of this user, one at a time. A panic is the failure of its record.
    /// fn names<'scope>(
    ///     users: StreamVec<'scope, u64, u64>,
    /// ) -> Result<StreamVec<'scope, u64, Outcome<u64, String, String>>, StartError> {
    ///     users.async_stages(Exchange::new(|user| *user), "names", |users| {
    ///         users
    ///             .async_wait(AsyncWait::ordered_by_key(100, |user| *user), |user: &u64| look_up(*user))
    ///             .spawn_requests(Tokio)
    ///             .in_place(Tokio)
    ///     })
    /// }
    /// ```
    ///
    /// An outcome is sent at its timestamp. If that is behind a watermark that has come out, or missing, it is sent at the earliest
    /// time that is left; stages do neither to records that have a time.
    ///
    /// # Errors
    ///
    /// Those of `stages`.
    ///
    /// # Panics
    ///
    /// A panic in the stages comes out of the worker's step. A worker's step also panics if the stages end before their input, since a
    /// dataflow can end in no other way before everything is done: a function could not be opened, or a call has failed that
    /// [ends the job](inflight_core::StageBuilder::fail_fast).
    fn async_stages<P, S, O, E>(
        self,
        pact: P,
        name: &str,
        stages: impl FnOnce(Records<V>) -> Result<S, E>,
    ) -> Result<StreamVec<'scope, T, O>, E>
    where
        P: ParallelizationContract<T, Vec<V>>,
        S: Stream<Item = StreamElement<O>> + 'static,
        O: 'static;
}

impl<'scope, T: EventTime, V: 'static> AsyncWaitOperator<'scope, T, V> for StreamVec<'scope, T, V> {
    fn async_stages<P, S, O, E>(
        self,
        pact: P,
        name: &str,
        stages: impl FnOnce(Records<V>) -> Result<S, E>,
    ) -> Result<StreamVec<'scope, T, O>, E>
    where
        P: ParallelizationContract<T, Vec<V>>,
        S: Stream<Item = StreamElement<O>> + 'static,
        O: 'static,
    {
        let (feed, source) = records();
        let stages = stages(source)?;
        let worker = self.scope().worker();
        Ok(self.unary_frontier(pact, name, move |capability, info: OperatorInfo| {
            let activation = Activation::new(worker.sync_activator_for(info.address.to_vec()));
            let mut operator = Running::new(stages, feed, capability, activation);
            move |(input, frontier), output| {
                operator.begin(frontier.frontier());
                input.for_each(|capability, values| {
                    operator.push(capability.least(), mem::take(values));
                });
                operator.run(output);
            }
        }))
    }
}

/// An operator of a dataflow, while it is scheduled again and again.
struct Running<T: EventTime, V, S, O> {
    /// `None` when everything has left.
    stages: Option<Pin<Box<S>>>,
    feed: Feed<V>,
    /// The frontier that was fed last.
    fed: T,
    /// At the frontier of the outcomes.
    capability: Option<Capability<T>>,
    /// The last watermark has come out.
    is_complete: bool,
    /// Outcomes of one time that were not sent yet.
    batch: Vec<O>,
    activation: Arc<Activation>,
}

impl<T: EventTime, V, S: Stream<Item = StreamElement<O>>, O: 'static> Running<T, V, S, O> {
    fn new(
        stages: S,
        feed: Feed<V>,
        capability: Capability<T>,
        activation: Arc<Activation>,
    ) -> Self {
        Self {
            stages: Some(Box::pin(stages)),
            feed,
            fed: T::minimum(),
            capability: Some(capability),
            is_complete: false,
            batch: Vec::new(),
            activation,
        }
    }

    /// Begins a schedule: feeds the frontier, as a watermark.
    ///
    /// The watermark comes before the records that are in the channel now. These hold the frontier back, so none of them is behind it,
    /// and the fewer records are before a watermark, the earlier it leaves.
    fn begin(&mut self, frontier: AntichainRef<'_, T>) {
        self.activation.will_poll();
        match frontier.as_option() {
            Some(frontier) if *frontier > self.fed => {
                self.fed = frontier.clone();
                watermark_of(frontier).into_iter().for_each(|mark| self.feed.watermark(mark));
            }
            Some(_) => {}
            None => self.feed.end(),
        }
    }

    /// Feeds records of one time.
    fn push(&mut self, time: Option<&T>, values: Vec<V>) {
        self.feed.records(time.map(T::event_time), values);
    }

    /// Polls the stages and sends what comes out, until they wait.
    fn run(&mut self, output: &mut Output<'_, T, O>) {
        let Some(mut stages) = self.stages.take() else { return };
        let waker = self.activation.waker();
        let mut cx = Context::from_waker(&waker);
        let mut time = None;
        self.activation.polls();
        loop {
            match stages.as_mut().poll_next(&mut cx) {
                Poll::Ready(Some(StreamElement::Record { value, timestamp })) => {
                    if timestamp != time {
                        self.send(time, output);
                        time = timestamp;
                    }
                    self.batch.push(value);
                }
                Poll::Ready(Some(StreamElement::Watermark(watermark))) => {
                    self.send(time, output);
                    self.lower(watermark);
                }
                // No dataflow has a use for the others, and `Records` has none of them.
                Poll::Ready(Some(_)) => {}
                Poll::Ready(None) => {
                    self.send(time, output);
                    return self.end();
                }
                Poll::Pending => {
                    self.send(time, output);
                    self.stages = Some(stages);
                    return;
                }
            }
        }
    }

    /// Sends the outcomes of a time.
    fn send(&mut self, time: Option<Timestamp>, output: &mut Output<'_, T, O>) {
        if self.batch.is_empty() {
            return;
        }
        let Some(held) = &self.capability else { return };
        let at = time.and_then(|time| held.try_delayed(&T::from_event_time(time)));
        output.session(&at.unwrap_or_else(|| held.clone())).give_container(&mut self.batch);
        self.batch.clear();
    }

    /// Lowers the capability to the frontier that a watermark is.
    fn lower(&mut self, watermark: Timestamp) {
        match (frontier_of(watermark), &mut self.capability) {
            (Some(frontier), Some(held)) => {
                // An earlier watermark than the last one says nothing new.
                let _ = held.try_downgrade(&frontier);
            }
            (None, _) => self.is_complete = true,
            (_, None) => {}
        }
    }

    /// The stages have ended.
    fn end(&mut self) {
        assert!(
            self.is_complete,
            "the stages have ended before their input: a function could not be opened, or a call has failed that ends the job"
        );
        self.capability = None;
    }
}

type Output<'a, T, O> = OutputBuilderSession<'a, T, CapacityContainerBuilder<Vec<O>>>;
