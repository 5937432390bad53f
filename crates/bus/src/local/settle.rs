//! One lane of a group: what waits, what is in hand, and what becomes of a delivery.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::stream::{Kept, Room};
use crate::due::Due;
use crate::options::{ConsumeOptions, Settlement};
use crate::seam::Moment;
use crate::text::Name;

/// Most deliveries taken in one go.
const BATCH_MAX: usize = 64;

/// A delivery on its way to an instance.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) lane: usize,
    pub(super) kept: Arc<Kept>,
    pub(super) attempt: u32,
    pub(super) due: Moment,
}

/// What an instance says of a delivery.
#[derive(Debug)]
pub(super) struct Settled {
    pub(super) lane: usize,
    pub(super) sequence: u64,
    pub(super) attempt: u32,
    pub(super) settlement: Settlement,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holder {
    /// An instance has it in hand.
    Instance(u64),
    /// It waits until it is due.
    Pause,
    /// It can be delivered again at once.
    Free,
}

#[derive(Debug)]
struct Out {
    kept: Arc<Kept>,
    attempt: u32,
    due: Moment,
    holder: Holder,
}

/// The messages of one label for one group.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) label: Option<Name>,
    pub(super) waiting: VecDeque<Arc<Kept>>,
    out: BTreeMap<u64, Out>,
    free: BTreeSet<u64>,
    due: Due,
}

/// Messages that a lane has done with, and how many of them are dead letters.
#[derive(Debug, Default)]
pub(super) struct Finished {
    done: Vec<Arc<Kept>>,
    dead: u64,
}

impl Finished {
    /// Frees their room; returns how many are dead letters.
    pub(super) fn finish(self, room: &mut Room) -> u64 {
        self.done.iter().for_each(|kept| room.done(kept));
        self.dead
    }
}

impl Lane {
    pub(super) fn new(label: Option<Name>) -> Self {
        let (waiting, out, free) = (VecDeque::new(), BTreeMap::new(), BTreeSet::new());
        Self { label, waiting, out, free, due: Due::default() }
    }

    /// Whether something could be delivered, the window aside.
    pub(super) fn has_some(&self) -> bool {
        !self.waiting.is_empty() || !self.free.is_empty()
    }

    pub(super) fn next_due(&mut self) -> Option<Moment> {
        let out = &self.out;
        self.due.next(|sequence| out.get(&sequence).is_some_and(|out| out.holder != Holder::Free))
    }

    pub(super) fn into_kept(self) -> impl Iterator<Item = Arc<Kept>> {
        self.waiting.into_iter().chain(self.out.into_values().map(|out| out.kept))
    }

    /// What `instance` has in hand can be delivered at once.
    pub(super) fn give_back(&mut self, instance: u64) {
        for (sequence, out) in &mut self.out {
            if out.holder == Holder::Instance(instance) {
                out.holder = Holder::Free;
                self.free.insert(*sequence);
            }
        }
    }

    /// Hears what became of a delivery. One that is in other hands by now is left alone.
    pub(super) fn settle(
        &mut self,
        settled: &Settled,
        instance: u64,
        now: Moment,
        options: &ConsumeOptions,
        mut bury: impl FnMut(&Kept, u32, &str) -> bool,
    ) -> Finished {
        let mut finished = Finished::default();
        let sequence = settled.sequence;
        let Some(out) = self.out.get_mut(&sequence) else { return finished };
        if out.holder != Holder::Instance(instance) || out.attempt != settled.attempt {
            return finished;
        }
        let used_up = format!("failed {} times", out.attempt);
        let (pause, reason) = match &settled.settlement {
            Settlement::Done => {
                finished.done.extend(self.out.remove(&sequence).map(|out| out.kept));
                return finished;
            }
            Settlement::Retry { after_us } if out.attempt < options.attempts_max => (*after_us, None),
            Settlement::Retry { after_us } => ((*after_us).max(options.ack_wait_us), Some(&*used_up)),
            Settlement::Dead(reason) => (options.ack_wait_us, Some(&**reason)),
        };
        if reason.is_some_and(|reason| bury(&out.kept, out.attempt, reason)) {
            finished.done.extend(self.out.remove(&sequence).map(|out| out.kept));
            finished.dead += 1;
            return finished;
        }
        if reason.is_some() {
            // No room among the dead letters: it waits for some, and is not delivered again before.
            out.attempt = out.attempt.max(options.attempts_max);
        }
        self.pause(sequence, now.after(pause));
        finished
    }

    fn pause(&mut self, sequence: u64, due: Moment) {
        let Some(out) = self.out.get_mut(&sequence) else { return };
        (out.holder, out.due) = (Holder::Pause, due);
        let out = &self.out;
        self.due.push(due, sequence, out.len(), |sequence| out.contains_key(&sequence));
    }

    /// Frees what was not acknowledged in time, and buries what has used up its attempts.
    pub(super) fn fall_due(
        &mut self,
        now: Moment,
        options: &ConsumeOptions,
        mut bury: impl FnMut(&Kept, u32, &str) -> bool,
    ) -> Finished {
        while let Some(sequence) = self.due.pop(now) {
            let Some(out) = self.out.get_mut(&sequence).filter(|out| out.due <= now) else { continue };
            out.holder = Holder::Free;
            self.free.insert(sequence);
        }
        let mut finished = Finished::default();
        let used_up = |sequence: &u64| self.out[sequence].attempt >= options.attempts_max;
        for sequence in self.free.iter().copied().filter(used_up).collect::<Vec<_>>() {
            self.free.remove(&sequence);
            let out = &self.out[&sequence];
            let reason = format!("not settled after {} deliveries", out.attempt);
            if bury(&out.kept, out.attempt, &reason) {
                finished.done.extend(self.out.remove(&sequence).map(|out| out.kept));
                finished.dead += 1;
            } else {
                self.pause(sequence, now.after(options.ack_wait_us));
            }
        }
        finished
    }

    /// Hands out what may be delivered, redeliveries first. `true` if there is more for another go.
    pub(super) fn take(
        &mut self,
        index: usize,
        instance: u64,
        instances: usize,
        now: Moment,
        options: &ConsumeOptions,
        taken: &mut Vec<Taken>,
    ) -> bool {
        let window = usize::try_from(options.window).unwrap_or(usize::MAX);
        let share = (self.waiting.len() + self.free.len()) / instances;
        for _ in 0..share.clamp(1, BATCH_MAX) {
            let sequence = match self.free.pop_first() {
                Some(sequence) => sequence,
                None if self.out.len() >= window => return false,
                None => {
                    let Some(kept) = self.waiting.pop_front() else { return false };
                    let sequence = kept.sequence;
                    let out = Out { kept, attempt: 0, due: now, holder: Holder::Free };
                    self.out.insert(sequence, out);
                    sequence
                }
            };
            self.hand_out(sequence, index, instance, now.after(options.ack_wait_us), taken);
        }
        !self.free.is_empty() || (self.out.len() < window && !self.waiting.is_empty())
    }

    fn hand_out(&mut self, sequence: u64, lane: usize, instance: u64, due: Moment, taken: &mut Vec<Taken>) {
        let out = self.out.get_mut(&sequence).expect("what is handed out is in the table");
        out.attempt += 1;
        (out.holder, out.due) = (Holder::Instance(instance), due);
        taken.push(Taken { lane, kept: Arc::clone(&out.kept), attempt: out.attempt, due });
        let out = &self.out;
        self.due.push(due, sequence, out.len(), |sequence| out.contains_key(&sequence));
    }
}
