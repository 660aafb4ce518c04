//! Reads any bytes as a section, a checkpoint or an envelope.
//!
//! A checksum rejects nearly all bytes, so most of the fuzzer's bytes are put into a valid envelope, and some
//! of them are written as a snapshot with a valid structure.
#![no_main]

mod judge;
mod record;

use std::fmt::Debug;

use self::judge::*;
use self::record::Record;
use inflight_core::envelope;
use inflight_core::{
    Checkpoint, CheckpointId, Completion, Expired, Failure, Fixed, GivenKey, Heap, Instant,
    Operator, Outcome, RestoreError, Status, StreamElement, TimeoutAction, Timestamp,
    merge_snapshots, split_snapshot,
};
use inflight_fuzz::bytes::Bytes;
use inflight_fuzz::format::{
    self, Call, Entry, Header, NAME, Piece, Progress, SCHEMA, Snapshot, checkpoint_magic,
    section_magic,
};
use inflight_fuzz::policy::{Built, Error, Order, Out, Policy, Strategy};
use libfuzzer_sys::fuzz_target;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<std::alloc::System> = &INSTRUMENTED_SYSTEM;

fuzz_target!(|data: &[u8]| {
    let mut bytes = Bytes::new(data);
    let plan = Plan::read(&mut bytes);
    match plan.record {
        0 => plan.run::<u32>(bytes),
        1 => plan.run::<(u32, Vec<u8>)>(bytes),
        _ => plan.run::<String>(bytes),
    }
});

/// The input of a test.
struct Plan {
    record: usize,
    fixed: bool,
    migrating: bool,
    /// True if the operator has worked before.
    worn: bool,
    policy: Policy,
    now: Instant,
    parts: usize,
    kind: usize,
    /// The format of the snapshots.
    format: u16,
    /// The source of the driver's choices.
    seed: u64,
}

impl Plan {
    fn read(bytes: &mut Bytes<'_>) -> Self {
        let (record, kind, what) = (bytes.below(3), bytes.below(16), bytes.byte());
        let fixed = what & 1 != 0;
        let now = match what >> 3 & 3 {
            3 => Instant::from_nanos(bytes.number() as i64),
            some => Instant::from_nanos(i64::from(some) * 1000),
        };
        Self {
            record,
            kind: kind % 8,
            format: 1 + kind as u16 / 8,
            fixed,
            migrating: what & 2 != 0,
            worn: what & 4 != 0,
            now,
            parts: usize::from(what >> 5),
            policy: Policy::read(bytes, if fixed { Fixed::<8>::MOST } else { Heap::MOST }),
            seed: bytes.byte().into(),
        }
    }

    fn run<In: Record>(&self, mut bytes: Bytes<'_>) {
        match self.kind {
            0 => self.try_section::<In>(bytes.rest()),
            1 => {
                let schema = schema(&mut bytes);
                self.try_section::<In>(&format::seal(
                    bytes.rest(),
                    section_magic(),
                    self.format,
                    schema,
                ));
            }
            2 | 3 => {
                let snapshot = read_snapshot::<In>(&mut bytes);
                let section = snapshot.seal(self.format);
                assert_eq!(Snapshot::read(&section).map(|read| read.pieces), Some(snapshot.pieces));
                self.try_section::<In>(&section);
            }
            4 => {
                let changes: Vec<_> = (0..bytes.below(8)).map(|_| bytes.take(3)).collect();
                let snapshot = read_snapshot::<In>(&mut bytes);
                let mut body = snapshot.body(self.format);
                changes.iter().for_each(|how| change(&mut body, how));
                let (format, schema) = (self.format, snapshot.schema);
                self.try_section::<In>(&format::seal(&body, section_magic(), format, schema));
            }
            5 => self.try_checkpoint::<In>(bytes.rest()),
            6 => {
                let checkpoint = format::seal(bytes.rest(), checkpoint_magic(), 1, 0);
                self.try_checkpoint::<In>(&checkpoint);
            }
            _ => {
                let mut sections = Vec::new();
                while !bytes.is_empty() && sections.len() < 4 {
                    let length = bytes.below(64);
                    let mut snapshot = read_snapshot::<In>(&mut Bytes::new(bytes.take(length)));
                    snapshot.schema = SCHEMA;
                    // The formats take turns: snapshots of both are merged.
                    sections.push(snapshot.seal(1 + (self.format + sections.len() as u16) % 2));
                }
                self.try_merge::<In>(&sections);
            }
        }
    }

    fn try_section<In: Record>(&self, section: &[u8]) {
        let _ = envelope::open_up_to(section, section_magic(), format::FORMAT);
        let _ = envelope::open(section, checkpoint_magic());
        let whole = if self.fixed {
            self.try_restore::<In, Fixed<8>>(section)
        } else {
            self.try_restore::<In, Heap>(section)
        };
        self.try_split::<In>(section, whole);
        self.try_merge::<In>(&[section.to_vec(), section.to_vec()]);
    }

    fn try_checkpoint<In: Record>(&self, bytes: &[u8]) {
        let (loaded, allocated) = measured(|| Checkpoint::from_bytes(bytes));
        assert_in_proportion(allocated, bytes);
        let Ok(mut checkpoint) = loaded else { return };

        let sections: Vec<(String, Vec<u8>)> =
            checkpoint.sections().map(|(name, bytes)| (name.into(), bytes.to_vec())).collect();
        for (name, _) in &sections {
            let first = sections.iter().find(|(other, _)| other == name);
            assert_eq!(checkpoint.section(name), first.map(|(_, bytes)| &bytes[..]));
            assert!(checkpoint.put(name, b"again").is_err());
        }
        let saved = checkpoint.bytes().expect("nobody has failed it").to_vec();
        assert!(bytes.starts_with(&saved[..4]));
        assert_eq!(Checkpoint::from_bytes(&saved).as_ref(), Ok(&checkpoint));
        for (_, section) in sections.iter().take(2) {
            self.try_section::<In>(section);
        }
    }

    /// Restores an operator from a section. Returns the restored content if that has succeeded.
    fn try_restore<In: Record, S: Built>(&self, section: &[u8]) -> Option<Vec<Element<In>>> {
        let checkpoint = format::checkpoint(section);
        let mut op = self.operator::<In, S>();
        let (now, before) = (self.now, state(&mut op, self.now));

        let (restored, allocated) = measured(|| op.restore(now, &checkpoint));
        assert_in_proportion(allocated, section);

        let expected = self.expected::<In>(section);
        assert_eq!(
            restored.is_ok(),
            expected.is_some(),
            "{restored:?} of {:?}",
            Snapshot::read(section)
        );
        let Some(expected) = expected else {
            assert!(op.is_empty() && op.poll_attempt(now).is_none() && op.poll_output().is_none());
            assert_eq!(state(&mut op, now), before);
            return None;
        };
        if !expected.is_empty() {
            assert_eq!(op.restore(now, &checkpoint), Err(RestoreError::NotEmpty));
        }
        self.check_snapshot::<In, S>(&mut op, &expected);
        // No operator writes such numbers: they make more attempts than a test can wait for.
        let endless =
            |call: &Call| call.interrupted > call.attempts || call.attempts > u32::MAX / 2;
        if !expected.iter().filter_map(Element::record).any(|(call, _)| endless(call)) {
            self.drive(op, &expected);
        }
        Some(expected)
    }

    fn operator<In: Record, S: Built>(&self) -> Operator<(In, Out, Error, Strategy, GivenKey, ()), S> {
        let how = self.policy.checkpointing::<In>();
        let how = if self.migrating { how.migrating(In::migrate) } else { how };
        let mut op = self.policy.build::<In, S>(how);
        if self.worn {
            let (now, mut none) = (Instant::ZERO, Bytes::new(&[]));
            op.push_with_key(now, 0, StreamElement::value(In::read(&mut none)))
                .expect("there is room");
            let id = op.poll_attempt(now).expect("a record waits").id;
            while op.handle_completion(now, id, Err(Failure::Panicked)) == Completion::Retry {}
            op.push_with_key(now, 0, StreamElement::Watermark(Timestamp::from_millis(5)))
                .expect("room too");
            assert!(op.poll_output().is_some() && op.poll_output().is_some());
        }
        op
    }

    /// The expected content; `None` if the restore should fail.
    fn expected<In: Record>(&self, section: &[u8]) -> Option<Vec<Element<In>>> {
        let snapshot = Snapshot::read(section)?;
        let elements: Option<Vec<_>> =
            snapshot.pieces.iter().map(|piece| self.element(piece, snapshot.schema)).collect();
        let elements = elements?;
        let records = snapshot.records().count();
        let most = records.max(elements.len() - records);
        let room = self.policy.capacity + if self.fixed { 0 } else { 1 << 24 };
        (snapshot.header.request_id_step > 0 && most <= room).then_some(elements)
    }

    fn element<In: Record>(&self, piece: &Piece, schema: u32) -> Option<Element<In>> {
        let Some(mut call) = piece.call() else { return Some(Element::Control(piece.entry)) };
        let input = match schema {
            SCHEMA => format::from_bytes(&piece.input)?,
            older if older < SCHEMA && self.migrating => In::migrate(older, &piece.input)?,
            _ => return None,
        };
        let mut kept = None;
        if call.progress == Progress::Done {
            if self.policy.keeping_results && schema == SCHEMA {
                kept = Some(format::from_bytes(&piece.result)?);
            } else {
                call = Call { attempts: 0, interrupted: 0, spent: 0, ..call };
                call.progress = Progress::Waiting;
            }
        }
        Some(Element::Record { call, input, kept })
    }

    /// A snapshot of a restored operator restores to the same content again.
    fn check_snapshot<In: Record, S: Built>(
        &self,
        op: &mut Operator<(In, Out, Error, Strategy, GivenKey, ()), S>,
        expected: &[Element<In>],
    ) {
        let section = snapshot(op, self.now);
        let saved = Snapshot::read(&section).expect("a snapshot can be read");
        assert_eq!(saved.schema, SCHEMA);
        let wanted = expected.iter().filter_map(Element::record);
        let mut wanted: Vec<_> = wanted.map(|(call, input)| (call.request_id, input)).collect();
        let mut found: Vec<_> = saved
            .records()
            .map(|(call, piece)| (call.request_id, format::from_bytes(&piece.input)))
            .map(|(id, input)| (id, input.expect("what was written can be read")))
            .collect();
        let ids_count_up = ids_count_up(expected);
        if !ids_count_up {
            wanted.sort_by_key(|(id, input)| (*id, format::to_bytes(*input)));
            found.sort_by_key(|(id, input)| (*id, format::to_bytes(input)));
        }
        assert!(found.iter().map(|(id, input)| (*id, input)).eq(wanted), "{found:?}");
        let controls = |elements: &[Element<In>]| -> Vec<Entry> {
            elements.iter().filter_map(Element::control).collect()
        };
        if self.all_fit(expected) {
            assert!(saved.controls().eq(controls(expected)));
        }

        let mut again = self.operator::<In, S>();
        again
            .restore(self.now, &format::checkpoint(&section))
            .expect("it has been written just now");
        if ids_count_up {
            assert_eq!(snapshot(&mut again, self.now), section);
        }
    }

    /// True if every element has room at once, so that none is merged.
    fn all_fit<In: Record>(&self, elements: &[Element<In>]) -> bool {
        let records = elements.iter().filter(|element| element.record().is_some()).count();
        records.max(elements.len() - records) <= self.policy.capacity
    }

    /// Drives an operator to the end: the restored records come out once each, and in order.
    fn drive<In: Record, S: Built>(
        &self,
        mut op: Operator<(In, Out, Error, Strategy, GivenKey, ()), S>,
        expected: &[Element<In>],
    ) {
        let mut now = self.now.max(Instant::ZERO);
        let mut random = Random(self.seed);
        let mut running = Vec::new();
        let mut outputs = Vec::new();
        let mut dropped = 0;
        let before = op.metrics(now);
        let mut attempts_left = expected.len() * (self.policy.retry.max_retries as usize + 2);
        let mut rounds_left = 16 + 16 * expected.len();
        loop {
            rounds_left = rounds_left.checked_sub(1).expect("it comes to an end");
            while let Some(call) = op.poll_attempt(now) {
                attempts_left =
                    attempts_left.checked_sub(1).expect("no more attempts than allowed");
                check_attempt(expected, call.info.request_id, call.info.number, call.input);
                running.push(call.id);
            }
            assert!(op.in_flight() <= self.policy.capacity);
            let has_output = op.has_output();
            if let Some(output) = op.poll_output() {
                assert!(has_output);
                outputs.push(output);
                assert!(outputs.len() <= expected.len(), "more comes out than has gone in");
            }
            if has_output {
                continue; // without an output, something was forgotten
            }
            if op.is_empty() {
                break;
            }
            let deadline = op.poll_deadline();
            if !running.is_empty() && (deadline.is_none() || random.below(4) > 0) {
                let id = running.swap_remove(random.below(running.len()));
                let result = match random.below(4) {
                    0 => Err(Failure::Error(random.below(256) as Error)),
                    1 => Err(Failure::Cancelled),
                    _ => Ok(random.below(1000) as Out),
                };
                let answer = op.handle_completion(now, id, result);
                assert_ne!(answer, Completion::Late, "an attempt that is running");
                continue;
            }
            let Some(deadline) = deadline else {
                panic!("{op:?} stands still; restored: {expected:?}")
            };
            now = now.max(deadline);
            while let Some(expired) = op.handle_deadline(now) {
                running.retain(|id| *id != expired.id());
                if let (Expired::Call(id), 0) = (expired, random.below(3)) {
                    assert!(op.resolve_timeout(id, |_| TimeoutAction::Drop));
                    dropped += 1;
                }
            }
        }
        let metrics = op.metrics(now);
        let records = expected.iter().filter(|element| element.record().is_some()).count() as u64;
        let was_dropped = expected.iter().filter(|element| element.is_dropped()).count() as u64;
        assert_eq!(metrics.records_in, metrics.emitted + metrics.dropped);
        assert_eq!(metrics.records_in - self.before(), records);
        assert_eq!(metrics.dropped, dropped + was_dropped);
        assert_eq!((metrics.in_flight, metrics.running, metrics.done), (0, 0, 0));
        assert!(before.records_in <= metrics.records_in);
        assert!(running.is_empty());
        self.check_outputs(expected, &outputs, dropped > 0);
    }

    /// The number of records that have gone through the operator before.
    fn before(&self) -> u64 {
        self.worn.into()
    }

    fn check_outputs<In: Record>(
        &self,
        expected: &[Element<In>],
        outputs: &[StreamElement<Outcome<In, Out, Error>>],
        some_dropped: bool,
    ) {
        // A result that was kept is handed on unchanged.
        let mut outcomes: Vec<_> = outputs.iter().filter_map(outcome).collect();
        for element in expected {
            let Element::Record { call, input, kept: Some(kept) } = element else { continue };
            let at = outcomes.iter().position(|(outcome, timestamp)| {
                outcome.input == *input
                    && outcome.result == *kept
                    && outcome.attempts == call.attempts
                    && *timestamp == call.timestamp
            });
            outcomes.swap_remove(at.expect("a kept result comes out"));
        }
        if some_dropped {
            return; // which of them is not visible from outside
        }
        let expected_parts =
            parts(expected.iter().filter(|element| !element.is_dropped()).map(|element| {
                match element {
                    Element::Record { call, input, .. } => Ok((call.timestamp, input)),
                    Element::Control(entry) => Err(*entry),
                }
            }));
        let found_parts = parts(outputs.iter().map(|output| match output {
            StreamElement::Record { value, timestamp } => {
                Ok((timestamp.map(Timestamp::as_millis), &value.input))
            }
            StreamElement::Watermark(timestamp) => Err(Entry::Watermark(timestamp.as_millis())),
            StreamElement::Status(Status::Idle) => Err(Entry::Idle),
            StreamElement::Status(Status::Active) => Err(Entry::Active),
            StreamElement::Barrier(_) => panic!("nobody has put a barrier in"),
        }));
        assert_eq!(expected_parts.len(), found_parts.len(), "{outputs:?}");
        for (expected, found) in expected_parts.iter().zip(&found_parts) {
            match (expected, found) {
                (Part::Status(one), Part::Status(other)) => assert_eq!(one, other),
                // Adjacent watermarks may have merged if there was no room for all of them.
                (Part::Watermarks(one), Part::Watermarks(other)) => {
                    assert_eq!(one.iter().max(), other.iter().max());
                    assert!(one.len() >= other.len());
                }
                (Part::Records(one), Part::Records(other)) => self.check_order(one, other),
                _ => panic!("a record has crossed a control element: {expected:?} {found:?}"),
            }
        }
        if self.all_fit(expected) {
            let marks = |parts: &[Part<'_, In>]| -> Vec<i64> {
                let all = parts.iter().map(|part| match part {
                    Part::Watermarks(all) => all.clone(),
                    _ => Vec::new(),
                });
                all.flatten().collect()
            };
            assert_eq!(marks(&expected_parts), marks(&found_parts));
        }
    }

    fn check_order<In: Record>(
        &self,
        expected: &Vec<Stamped<'_, In>>,
        found: &Vec<Stamped<'_, In>>,
    ) {
        if self.policy.order == Order::Ordered {
            assert_eq!(expected, found);
        }
        let mut left = expected.clone();
        for record in found {
            let at = left.iter().position(|other| other == record);
            left.remove(at.expect("no record comes out twice, or that has not gone in"));
        }
        assert!(left.is_empty(), "lost: {left:?}");
    }

    fn try_split<In: Record>(&self, section: &[u8], whole: Option<Vec<Element<In>>>) {
        let owner = |key: u64| key as usize;
        let (parts, allocated) = measured(|| split_snapshot(section, self.parts, owner));
        assert!(allocated <= (1 + self.parts) * allowed(section), "{allocated} bytes");
        let Ok(parts) = parts else {
            assert!(whole.is_none() || self.parts == 0, "what can be restored can be split");
            return;
        };
        let snapshot = Snapshot::read(section).expect("what can be split can be read");
        let read: Vec<_> =
            parts.iter().map(|part| Snapshot::read(part).expect("so can parts")).collect();
        assert_eq!(read.len(), self.parts);
        for (number, part) in read.iter().enumerate() {
            assert_eq!(part.schema, snapshot.schema);
            let mine = |piece: &&Piece| {
                piece.call().is_none_or(|call| call.key as usize % self.parts == number)
            };
            assert!(part.pieces.iter().eq(snapshot.pieces.iter().filter(mine)));
        }
        if whole.is_some() {
            let merged = merge_snapshots(parts.iter().map(Vec::as_slice)).expect("they are sound");
            let merged = Snapshot::read(&merged).expect("a merged snapshot can be read");
            assert_same_records(&[&snapshot], &merged);
            let (Some(fresh), small) = (read.first(), snapshot.header.next_request_id < 1 << 40)
            else {
                return;
            };
            if small && snapshot.header.request_id_step < 1 << 20 {
                let next: Vec<_> = read.iter().map(|part| part.header.next_request_id).collect();
                let step = fresh.header.request_id_step;
                let mut ids: Vec<_> =
                    next.iter().flat_map(|next| (0..3).map(move |n| next + n * step)).collect();
                ids.sort_unstable();
                assert!(ids.windows(2).all(|two| two[0] != two[1]), "clashing ids: {ids:?}");
            }
        }
    }

    fn try_merge<In: Record>(&self, sections: &[Vec<u8>]) {
        let input = sections.concat();
        let (merged, allocated) = measured(|| merge_snapshots(sections.iter().map(Vec::as_slice)));
        assert_in_proportion(allocated, &input);
        let Ok(merged) = merged else { return };
        let sources: Vec<_> = sections.iter().map(|section| Snapshot::read(section)).collect();
        let sources: Vec<_> = sources.iter().map(|source| source.as_ref().unwrap()).collect();
        let whole = Snapshot::read(&merged).expect("a merged snapshot can be read");
        assert_same_records(&sources, &whole);
        assert_no_record_becomes_late(&sources, &whole);
        if self.fixed {
            self.try_restore::<In, Fixed<8>>(&merged);
        } else {
            self.try_restore::<In, Heap>(&merged);
        }
    }
}
