//! The end of the dataflow: an operator that writes whole epochs into the worker's journal.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;

use crate::job::Answered;
use crate::journal::Journal;

/// The position of the worker's source behind each epoch that it has sent.
pub(crate) type Positions = Rc<RefCell<BTreeMap<u64, u64>>>;

/// Answers of epochs that are not complete, and the journal of those that are.
struct Sink {
    journal: Journal,
    positions: Positions,
    /// Lines of each epoch that is not written.
    open: BTreeMap<u64, String>,
    save_takes: Duration,
}

/// Writes each epoch when the frontier has passed it. The stream that comes out is empty: its frontier passes an epoch when all workers
/// have written it.
pub(crate) fn journal<'scope>(
    answers: StreamVec<'scope, u64, Answered>,
    journal: Journal,
    positions: Positions,
    save_takes: Duration,
) -> StreamVec<'scope, u64, ()> {
    let mut sink = Sink { journal, positions, open: BTreeMap::new(), save_takes };
    answers.unary_frontier::<CapacityContainerBuilder<_>, _, _, _>(
        Pipeline,
        "journal",
        move |capability, _| {
            let mut unsaved = Some(capability);
            move |(input, frontier), _| {
                input.for_each(|capability, answers| {
                    let epoch = *capability.least().expect("each answer travels at its epoch");
                    assert!(frontier.less_equal(&epoch), "an answer has crossed the frontier");
                    answers.drain(..).for_each(|answer| sink.take(epoch, &answer));
                });
                let complete = frontier.frontier().as_option().copied();
                sink.save(complete).expect("the journal can be written");
                match (complete, &mut unsaved) {
                    (Some(epochs), Some(unsaved)) => unsaved.downgrade(&epochs),
                    _ => unsaved = None,
                }
            }
        },
    )
}

impl Sink {
    fn take(&mut self, epoch: u64, answered: &Answered) {
        let record = &answered.input;
        let Ok(answer) = answered.result else { unreachable!("the service answers in the end") };
        let line =
            format!("r {epoch} {} {} {} {answer}\n", record.partition, record.number, record.key);
        self.open.entry(epoch).or_default().push_str(&line);
    }

    /// Writes all epochs before `complete`; all that there are if it is `None`.
    fn save(&mut self, complete: Option<u64>) -> io::Result<()> {
        let last = self.positions.borrow().last_key_value().map(|(epoch, _)| *epoch);
        let last = last.max(self.open.last_key_value().map(|(epoch, _)| *epoch));
        let complete = complete.or(last.map(|epoch| epoch + 1)).unwrap_or(0);
        while self.journal.epochs() < complete {
            std::thread::sleep(self.save_takes);
            let epoch = self.journal.epochs();
            let answers = self.open.remove(&epoch).unwrap_or_default();
            let position = self.positions.borrow_mut().remove(&epoch);
            self.journal.append(answers, position.unwrap_or(self.journal.position()))?;
            println!("saved {epoch}");
        }
        Ok(())
    }
}
