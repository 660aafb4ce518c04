//! The expected results of a restore, and its permitted cost.

use super::*;

/// The expected result of a restore.
#[derive(Clone, Debug)]
pub(crate) enum Element<In> {
    Record { call: Call, input: In, kept: Option<Result<Out, Failure<Error>>> },
    Control(Entry),
}

impl<In> Element<In> {
    pub(crate) fn record(&self) -> Option<(&Call, &In)> {
        match self {
            Self::Record { call, input, .. } => Some((call, input)),
            Self::Control(_) => None,
        }
    }

    pub(crate) fn control(&self) -> Option<Entry> {
        match self {
            Self::Record { .. } => None,
            Self::Control(entry) => Some(*entry),
        }
    }

    pub(crate) fn is_dropped(&self) -> bool {
        self.record().is_some_and(|(call, _)| call.progress == Progress::Dropped)
    }
}

pub(crate) type Stamped<'a, In> = (Option<i64>, &'a In);

/// The elements that must not mix with those before and behind them.
#[derive(Debug)]
pub(crate) enum Part<'a, In> {
    Records(Vec<Stamped<'a, In>>),
    Watermarks(Vec<i64>),
    Status(Entry),
}

pub(crate) fn parts<'a, In>(
    elements: impl Iterator<Item = Result<Stamped<'a, In>, Entry>>,
) -> Vec<Part<'a, In>> {
    let mut parts = Vec::new();
    for element in elements {
        match (element, parts.last_mut()) {
            (Ok(record), Some(Part::Records(records))) => records.push(record),
            (Ok(record), _) => parts.push(Part::Records(vec![record])),
            (Err(Entry::Watermark(mark)), Some(Part::Watermarks(marks))) => marks.push(mark),
            (Err(Entry::Watermark(mark)), _) => parts.push(Part::Watermarks(vec![mark])),
            (Err(status), _) => parts.push(Part::Status(status)),
        }
    }
    parts
}

/// The attempt after the earlier ones, of a call that is not done.
pub(crate) fn check_attempt<In: Record>(
    expected: &[Element<In>],
    id: u64,
    number: u32,
    input: &In,
) {
    let mut named = expected.iter().filter_map(|element| match element {
        Element::Record { call, input, .. } if call.request_id == id => Some((call, input)),
        _ => None,
    });
    let Some((call, wanted)) = named.next() else { panic!("nobody has that id") };
    if named.next().is_none() {
        assert_eq!(input, wanted);
        assert!(matches!(call.progress, Progress::Waiting | Progress::Backoff(_)), "called again");
        assert!(number > call.attempts || number == u32::MAX);
    }
}

/// True if the ids of the records between two control elements ascend, as in an operator's snapshot.
pub(crate) fn ids_count_up<In>(elements: &[Element<In>]) -> bool {
    elements.windows(2).all(|two| match (two[0].record(), two[1].record()) {
        (Some((one, _)), Some((other, _))) => one.request_id < other.request_id,
        _ => true,
    })
}

pub(crate) fn assert_same_records(sources: &[&Snapshot], whole: &Snapshot) {
    let of = |snapshot: &Snapshot, key: Option<u64>| -> Vec<Piece> {
        let records = snapshot.records().filter(|(call, _)| key.is_none_or(|key| call.key == key));
        records.map(|(_, piece)| piece.clone()).collect()
    };
    let sorted = |mut pieces: Vec<Piece>| {
        pieces.sort_by_key(|piece| {
            (format::to_bytes(&piece.entry), piece.input.clone(), piece.result.clone())
        });
        pieces
    };
    let all = sources.iter().flat_map(|source| of(source, None)).collect();
    assert_eq!(sorted(all), sorted(of(whole, None)));
    // The records of each source keep their order; this is visible where no other source has the same key.
    for (call, _) in whole.records() {
        let mut with_key = sources.iter().filter(|source| !of(source, Some(call.key)).is_empty());
        if let (Some(only), None) = (with_key.next(), with_key.next()) {
            assert_eq!(of(only, Some(call.key)), of(whole, Some(call.key)));
        }
    }
}

pub(crate) fn assert_no_record_becomes_late(sources: &[&Snapshot], whole: &Snapshot) {
    let idle = |snapshot: &Snapshot| {
        snapshot.header.idle
            || snapshot.controls().any(|control| !matches!(control, Entry::Watermark(_)))
    };
    // An idle source holds no watermark back, and may be late when it is active again.
    if sources.iter().any(|source| idle(source)) {
        return;
    }
    let mut on_time: Vec<Piece> = sources.iter().flat_map(|source| not_late(source)).collect();
    for piece in not_late(whole) {
        if let Some(at) = on_time.iter().position(|other| *other == piece) {
            on_time.swap_remove(at);
        }
    }
    assert!(on_time.is_empty(), "late only now: {on_time:?}");
}

/// The records that are not behind a watermark before them.
pub(crate) fn not_late(snapshot: &Snapshot) -> Vec<Piece> {
    let mut watermark = snapshot.header.watermark;
    let mut found = Vec::new();
    for piece in &snapshot.pieces {
        match piece.entry {
            Entry::Watermark(mark) => watermark = watermark.max(Some(mark)),
            Entry::Record(call) if call.timestamp.is_some() && call.timestamp > watermark => {
                found.push(piece.clone());
            }
            _ => {}
        }
    }
    found
}

pub(crate) fn outcome<In>(
    output: &StreamElement<Outcome<In, Out, Error>>,
) -> Option<(&Outcome<In, Out, Error>, Option<i64>)> {
    match output {
        StreamElement::Record { value, timestamp } => {
            Some((value, timestamp.map(Timestamp::as_millis)))
        }
        _ => None,
    }
}

/// The state of an operator that is visible from outside.
pub(crate) fn state<In: Record, S: Built>(
    op: &mut Operator<(In, Out, Error, Strategy, GivenKey, ()), S>,
    now: Instant,
) -> impl PartialEq + Debug + use<In, S> {
    (snapshot(op, now), op.metrics(now), format!("{op:?}"), op.poll_deadline(), op.has_output())
}

pub(crate) fn snapshot<In: Record, S: Built>(
    op: &mut Operator<(In, Out, Error, Strategy, GivenKey, ()), S>,
    now: Instant,
) -> Vec<u8> {
    let mut checkpoint = Checkpoint::new(CheckpointId(2));
    op.snapshot(now, &mut checkpoint).expect("it is possible at any moment");
    checkpoint.section(NAME).expect("the section that was put").to_vec()
}

pub(crate) fn schema(bytes: &mut Bytes<'_>) -> u32 {
    match bytes.byte() {
        0..200 => SCHEMA,
        other => u32::from(other % 4),
    }
}

/// A snapshot with a valid structure and any numbers in it.
pub(crate) fn read_snapshot<In: Record>(bytes: &mut Bytes<'_>) -> Snapshot {
    let header = Header {
        entries: 0,
        next_request_id: bytes.number(),
        request_id_step: bytes.number(),
        watermark: bytes.flag().then(|| bytes.number() as i64),
        idle: bytes.flag(),
    };
    let schema = schema(bytes);
    let (mut pieces, mut request_id) = (Vec::new(), 0_u64);
    while !bytes.is_empty() && pieces.len() < 40 {
        let kind = bytes.byte();
        pieces.push(match kind % 8 {
            0 => Piece::control(Entry::Watermark(bytes.number() as i64)),
            1 => Piece::control(Entry::Idle),
            2 => Piece::control(Entry::Active),
            progress => {
                request_id = match bytes.number() {
                    255.. => bytes.number(),
                    step => request_id.wrapping_add(1 + step % 4),
                };
                let attempts = if kind & 32 != 0 { bytes.number() as u32 } else { 0 };
                let call = Call {
                    timestamp: (kind & 8 != 0).then(|| bytes.number() as i64),
                    request_id,
                    key: bytes.number() % if kind & 16 != 0 { 4 } else { u64::MAX },
                    attempts,
                    interrupted: if attempts > 0 { bytes.number() as u32 % attempts } else { 0 },
                    spent: if kind & 64 != 0 { bytes.number() } else { 0 },
                    progress: match progress {
                        3 | 4 => Progress::Waiting,
                        5 => Progress::Backoff(bytes.number()),
                        6 => Progress::Done,
                        _ => Progress::Dropped,
                    },
                };
                let (input, result) = (read_input::<In>(bytes), read_result(bytes));
                Piece { entry: Entry::Record(call), input, result }
            }
        });
        if let Entry::Record(Call { progress, .. }) = pieces[pieces.len() - 1].entry
            && progress != Progress::Done
        {
            pieces.last_mut().expect("just pushed").result.clear();
        }
    }
    Snapshot { schema, header, pieces }
}

pub(crate) fn read_input<In: Record>(bytes: &mut Bytes<'_>) -> Vec<u8> {
    match bytes.byte() {
        250.. => bytes.take(9).to_vec(),
        _ => format::to_bytes(&In::read(bytes)),
    }
}

pub(crate) fn read_result(bytes: &mut Bytes<'_>) -> Vec<u8> {
    type Kept = Result<Out, Failure<Error>>;
    let kept: Kept = match bytes.byte() {
        255 => return bytes.take(3).to_vec(),
        254 => Err(Failure::TimedOut),
        253 => Err(Failure::AttemptTimedOut),
        252 => Err(Failure::ShutDown),
        other if other % 2 == 1 => Err(Failure::Error(other)),
        other => Ok(other.into()),
    };
    format::to_bytes(&kept)
}

/// Changes, removes or inserts bytes.
pub(crate) fn change(body: &mut Vec<u8>, how: &[u8]) {
    let &[at, what, with] = how else { return };
    let at = usize::from(at) % (body.len() + 1);
    match what % 4 {
        0 => body.insert(at, with),
        1 => body.truncate(at),
        2 if at < body.len() => drop(body.remove(at)),
        _ if at < body.len() => body[at] = with,
        _ => {}
    }
}

/// Runs `run` and returns the number of bytes that it has allocated, including those that it has freed.
pub(crate) fn measured<T>(run: impl FnOnce() -> T) -> (T, usize) {
    let region = Region::new(ALLOCATOR);
    let result = run();
    (result, region.change().bytes_allocated)
}

/// The total number of bytes that a read may allocate: a status takes one byte in the input and an entry of a
/// table afterwards.
pub(crate) fn allowed(bytes: &[u8]) -> usize {
    16 * 1024 + 1024 * bytes.len()
}

pub(crate) fn assert_in_proportion(allocated: usize, bytes: &[u8]) {
    assert!(allocated <= allowed(bytes), "{allocated} bytes for {}", bytes.len());
}

/// The finaliser of SplitMix64, counting.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound.max(1) as u64) as usize
    }
}
