//! The table of calls in flight: slots that are reused, and lists linked through them.

use crate::deadlines::NONE;
use crate::outcome::Failure;
use crate::storage::{Storage, Table};
use crate::time::{Instant, Span, Timestamp};

/// One record in flight.
pub(super) struct Call<In, Out, E> {
    pub(super) input: Option<In>,
    pub(super) result: Option<Result<Out, Failure<E>>>,
    pub(super) timestamp: Option<Timestamp>,
    pub(super) request_id: u64,
    /// When it was first invoked; for a restored call, as long before as it had already taken.
    pub(super) started: Instant,
    /// A time taken, counted from `started`: by a queued call what it took before a restore, by one in
    /// backoff all until its retry, by a done one all of it.
    pub(super) spent: Span,
    pub(super) attempts: u32,
    /// Changes whenever an attempt begins or ends, so that a completion of another one is told apart.
    pub(super) generation: u32,
    /// The next call in the one list this call is in: vacant, waiting to be invoked, or ready.
    link: u32,
    /// The next call that may not leave before this one does.
    pub(super) successor: u32,
    pub(super) segment: u32,
    pub(super) state: State,
    /// Nothing that must leave before it is still here.
    pub(super) first_of_chain: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Vacant,
    /// Not invoked yet in this life.
    Queued,
    Running,
    Backoff,
    /// The backoff is over; waits to be invoked again.
    Due,
    Done,
}

/// The slots, and which of them are vacant.
pub(super) struct Calls<In, Out, E, S: Storage> {
    slots: S::Table<Call<In, Out, E>>,
    vacant: List,
    occupied: usize,
}

impl<In, Out, E, S: Storage> Calls<In, Out, E, S> {
    pub(super) const fn new() -> Self {
        Self { slots: S::Table::EMPTY, vacant: List::EMPTY, occupied: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.occupied
    }

    #[inline(always)]
    pub(super) fn slots(&mut self) -> &mut [Call<In, Out, E>] {
        self.slots.as_mut()
    }

    /// All slots, the vacant ones included.
    pub(super) fn all(&self) -> &[Call<In, Out, E>] {
        self.slots.as_ref()
    }

    #[inline(always)]
    pub(super) fn at(&mut self, call: u32) -> &mut Call<In, Out, E> {
        &mut self.slots.as_mut()[call as usize]
    }

    /// A slot for a new call, or the input back when the storage has none left.
    #[inline(always)]
    pub(super) fn insert(
        &mut self,
        input: In,
        timestamp: Option<Timestamp>,
        request_id: u64,
    ) -> Result<u32, In> {
        let call = match self.vacant.pop_front(self.slots.as_mut()) {
            NONE => match self.slots.push(Call::VACANT) {
                Ok(()) => self.slots.as_ref().len() as u32 - 1,
                Err(_) => return Err(input),
            },
            call => call,
        };
        let slot = self.at(call);
        slot.input = Some(input);
        slot.timestamp = timestamp;
        slot.request_id = request_id;
        slot.spent = Span::ZERO;
        slot.attempts = 0;
        slot.successor = NONE;
        slot.state = State::Queued;
        self.occupied += 1;
        Ok(call)
    }

    /// Makes the slot vacant. The most recently used one is used again first: it is in the cache.
    #[inline(always)]
    pub(super) fn remove(&mut self, call: u32) {
        self.at(call).state = State::Vacant;
        self.vacant.push_front(self.slots.as_mut(), call);
        self.occupied -= 1;
    }
}

impl<In, Out, E> Call<In, Out, E> {
    const VACANT: Self = Self {
        input: None,
        result: None,
        timestamp: None,
        request_id: 0,
        started: Instant::ZERO,
        spent: Span::ZERO,
        attempts: 0,
        generation: 0,
        link: NONE,
        successor: NONE,
        segment: 0,
        state: State::Vacant,
        first_of_chain: false,
    };
}

/// A list linked through the slots' `link`. A call is in one list at a time.
#[derive(Clone, Copy)]
pub(super) struct List {
    first: u32,
    last: u32,
}

impl List {
    pub(super) const EMPTY: Self = Self { first: NONE, last: NONE };

    #[inline(always)]
    pub(super) fn is_empty(self) -> bool {
        self.first == NONE
    }

    #[inline(always)]
    pub(super) fn push_back<In, Out, E>(&mut self, slots: &mut [Call<In, Out, E>], call: u32) {
        slots[call as usize].link = NONE;
        match self.first {
            NONE => self.first = call,
            _ => slots[self.last as usize].link = call,
        }
        self.last = call;
    }

    #[inline(always)]
    fn push_front<In, Out, E>(&mut self, slots: &mut [Call<In, Out, E>], call: u32) {
        slots[call as usize].link = self.first;
        if self.first == NONE {
            self.last = call;
        }
        self.first = call;
    }

    /// The first call, or [`NONE`].
    #[inline(always)]
    pub(super) fn pop_front<In, Out, E>(&mut self, slots: &mut [Call<In, Out, E>]) -> u32 {
        let call = self.first;
        if call != NONE {
            self.first = slots[call as usize].link;
        }
        call
    }

    /// Takes `call` out, wherever it stands; linear, for what happens seldom.
    pub(super) fn remove<In, Out, E>(&mut self, slots: &mut [Call<In, Out, E>], call: u32) {
        let mut before = NONE;
        let mut at = self.first;
        while at != call && at != NONE {
            before = at;
            at = slots[at as usize].link;
        }
        if at == NONE {
            return;
        }
        let behind = slots[call as usize].link;
        match before {
            NONE => self.first = behind,
            _ => slots[before as usize].link = behind,
        }
        if self.last == call {
            self.last = before;
        }
    }
}
