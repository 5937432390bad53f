//! One stream: messages kept until every group has settled them.
//!
//! Each group has a lane per label: what waits, in order, and what is in hand. A message counts against the
//! stream's bounds once, until the last lane has done with it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Parcel;
use super::settle::{Lane, Taken};
use crate::error::{Full, OrderFault, RefusedKind};
use crate::inbox::Inbox;
use crate::message::Message;
use crate::options::{ConsumeOptions, DeadLetter, StreamSpec, Takes};
use crate::seam::Moment;
use crate::text::{Name, Pattern, Subject};

/// Whose position it is: a group's, or a single endpoint's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GroupKey {
    pub(super) every: bool,
    pub(super) name: Name,
}

/// How a stream tells one instance that there is something.
#[derive(Debug)]
pub(super) struct Signal {
    pub(super) inbox: Arc<Inbox<Parcel>>,
    ready: AtomicBool,
    due: AtomicU64,
}

impl Signal {
    pub(super) fn new(inbox: Arc<Inbox<Parcel>>) -> Self {
        Self { inbox, ready: AtomicBool::new(true), due: AtomicU64::new(u64::MAX) }
    }

    /// There is, or may be, something to take.
    pub(super) fn raise(&self) {
        if !self.ready.load(Ordering::SeqCst) {
            self.ready.store(true, Ordering::SeqCst);
        }
        self.inbox.bell().ring();
    }

    /// Whether it was raised, or something is due.
    pub(super) fn lower(&self, now: Moment) -> bool {
        let ready = self.ready.load(Ordering::SeqCst) && self.ready.swap(false, Ordering::SeqCst);
        ready || self.due.load(Ordering::SeqCst) <= now.0
    }

    /// When to look again even if nothing is raised.
    pub(super) fn due(&self) -> Option<Moment> {
        let due = self.due.load(Ordering::SeqCst);
        (due != u64::MAX).then_some(Moment(due))
    }

    fn look_at(&self, due: Moment) {
        if due.0 < self.due.load(Ordering::SeqCst) {
            self.due.store(due.0, Ordering::SeqCst);
            // It may sleep until a later moment.
            self.inbox.bell().ring();
        }
    }
}

/// A kept message.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) sequence: u64,
    pub(super) message: Message,
    /// Lanes that have not done with it.
    left: AtomicU32,
}

#[derive(Debug)]
struct Instance {
    number: u64,
    takes: Takes,
    signal: Arc<Signal>,
}

#[derive(Debug)]
pub(super) struct Group {
    key: GroupKey,
    pub(super) options: ConsumeOptions,
    lanes: Vec<Lane>,
    instances: Vec<Instance>,
}

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) name: Name,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    spec: StreamSpec,
    next: u64,
    groups: Vec<Group>,
    room: Room,
}

/// What the stream holds, and its dead letters.
#[derive(Debug, Default)]
pub(super) struct Room {
    messages: usize,
    bytes: usize,
    dead: BTreeMap<u64, (GroupKey, DeadLetter)>,
    dead_bytes: usize,
    next_dead: u64,
}

impl Room {
    /// A lane has done with a message.
    pub(super) fn done(&mut self, kept: &Kept) {
        if kept.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.messages -= 1;
            self.bytes -= kept.message.size();
        }
    }

    /// Keeps a dead letter, if there is room.
    pub(super) fn bury(
        &mut self,
        spec: &StreamSpec,
        key: GroupKey,
        kept: &Kept,
        attempts: u32,
        reason: &str,
    ) -> bool {
        let bytes = kept.message.size();
        if !spec.dead.fit(self.dead.len(), self.dead_bytes, bytes) {
            return false;
        }
        self.next_dead += 1;
        let (number, group, message) = (self.next_dead, key.name, kept.message.clone());
        let letter = DeadLetter { number, group, attempts, reason: reason.into(), message };
        self.dead.insert(number, (key, letter));
        self.dead_bytes += bytes;
        true
    }
}

impl Stream {
    pub(super) fn new(spec: StreamSpec) -> Self {
        let name = spec.name;
        let room = Room::default();
        Self { name, state: Mutex::new(State { spec, next: 0, groups: Vec::new(), room }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn subjects(&self) -> Vec<Pattern> {
        self.state().spec.subjects.clone()
    }

    pub(super) fn keeps(&self, subject: &Subject) -> bool {
        self.state().spec.subjects.iter().any(|pattern| pattern.hears(subject))
    }

    /// Takes new subjects, labels and bounds.
    pub(super) fn redeclare(&self, spec: StreamSpec) -> Result<(), OrderFault> {
        let mut state = self.state();
        let gone = state.spec.labels.iter().find(|label| !spec.labels.contains(label));
        if let Some(label) = gone {
            return Err(OrderFault::LabelInUse(*label));
        }
        for group in &mut state.groups {
            for label in &spec.labels {
                if group.lanes.iter().all(|lane| lane.label != Some(*label)) {
                    group.lanes.push(Lane::new(Some(*label)));
                }
            }
        }
        state.spec = spec;
        Ok(())
    }

    /// Keeps a message for every group that wants it.
    pub(super) fn store(&self, message: Message) -> Result<(), RefusedKind> {
        let mut guard = self.state();
        let state = &mut *guard;
        let label = message.headers.label;
        if let Some(label) = label.filter(|label| !state.spec.labels.contains(label)) {
            return Err(RefusedKind::UnknownLabel(label));
        }
        if !state.spec.bounds.fit(state.room.messages, state.room.bytes, message.size()) {
            return Err(RefusedKind::Busy(Full::Stream));
        }
        state.next += 1;
        state.append(message, |_| true);
        Ok(())
    }

    /// Lets an instance of a group in.
    pub(super) fn join(&self, key: GroupKey, options: &ConsumeOptions, number: u64, signal: &Arc<Signal>) {
        let mut state = self.state();
        if state.groups.iter().all(|group| group.key != key) {
            let labels = state.spec.labels.iter().map(|label| Some(*label));
            let lanes = std::iter::once(None).chain(labels).map(Lane::new).collect();
            state.groups.push(Group { key, options: options.clone(), lanes, instances: Vec::new() });
        }
        let group = state.group(key).expect("it is there now");
        group.options = options.clone();
        let takes = options.takes.clone();
        group.instances.push(Instance { number, takes, signal: Arc::clone(signal) });
        group.look_again();
    }

    /// An instance goes; what it had in hand goes to others.
    pub(super) fn leave(&self, key: GroupKey, number: u64) {
        let mut state = self.state();
        let Some(group) = state.group(key) else { return };
        group.instances.retain(|instance| instance.number != number);
        group.lanes.iter_mut().for_each(|lane| lane.give_back(number));
        group.look_again();
    }

    /// Takes what an instance may have now, settling first what it says.
    pub(super) fn take(
        &self,
        key: GroupKey,
        number: u64,
        settled: &mut Vec<super::settle::Settled>,
        now: Moment,
        taken: &mut Vec<Taken>,
    ) -> u64 {
        let mut guard = self.state();
        let State { spec, groups, room, .. } = &mut *guard;
        let Some(group) = groups.iter_mut().find(|group| group.key == key) else {
            settled.clear();
            return 0;
        };
        let mut dead = 0;
        let freed = !settled.is_empty();
        for settled in settled.drain(..) {
            if let Some(lane) = group.lanes.get_mut(settled.lane) {
                dead += lane
                    .settle(&settled, number, now, &group.options, |kept, attempts, reason| {
                        room.bury(spec, key, kept, attempts, reason)
                    })
                    .finish(room);
            }
        }
        let instances = group.instances.len().max(1);
        let me = group.instances.iter().find(|instance| instance.number == number);
        let Some((takes, signal)) = me.map(|me| (me.takes.clone(), Arc::clone(&me.signal))) else {
            return dead;
        };
        let mut more = false;
        for (index, lane) in group.lanes.iter_mut().enumerate() {
            if !takes.takes(lane.label) {
                continue;
            }
            dead += lane
                .fall_due(now, &group.options, |kept, attempts, reason| {
                    room.bury(spec, key, kept, attempts, reason)
                })
                .finish(room);
            more |= lane.take(index, number, instances, now, &group.options, taken);
        }
        group.tell_others(number, &signal, freed, more);
        dead
    }

    /// Dead letters behind `after`.
    pub(super) fn dead_letters(&self, after: u64, limit: usize) -> Vec<DeadLetter> {
        let state = self.state();
        state
            .room
            .dead
            .range(after.saturating_add(1)..)
            .take(limit)
            .map(|(_, (_, letter))| letter.clone())
            .collect()
    }

    /// Stores a dead letter again for its group.
    pub(super) fn replay(&self, number: u64) -> Result<(), OrderFault> {
        let mut guard = self.state();
        let state = &mut *guard;
        let (key, letter) = state.room.dead.get(&number).ok_or(OrderFault::NotFound)?;
        let (key, bytes) = (*key, letter.message.size());
        if !state.groups.iter().any(|group| group.key == key) {
            return Err(OrderFault::NotFound);
        }
        if !state.spec.bounds.fit(state.room.messages, state.room.bytes, bytes) {
            return Err(OrderFault::Full);
        }
        let (_, letter) = state.room.dead.remove(&number).expect("it was just seen");
        state.room.dead_bytes -= bytes;
        state.next += 1;
        state.append(letter.message, |found| found == key);
        Ok(())
    }

    /// Throws a dead letter away.
    pub(super) fn discard(&self, number: u64) -> Result<(), OrderFault> {
        let mut state = self.state();
        let (_, letter) = state.room.dead.remove(&number).ok_or(OrderFault::NotFound)?;
        state.room.dead_bytes -= letter.message.size();
        Ok(())
    }

    /// Drops a group with all that waits for it.
    pub(super) fn forget(&self, key: GroupKey) -> Result<(), OrderFault> {
        let mut guard = self.state();
        let state = &mut *guard;
        let index = state.groups.iter().position(|group| group.key == key).ok_or(OrderFault::NotFound)?;
        let group = state.groups.remove(index);
        for kept in group.lanes.into_iter().flat_map(Lane::into_kept) {
            state.room.done(&kept);
        }
        Ok(())
    }
}

impl State {
    fn group(&mut self, key: GroupKey) -> Option<&mut Group> {
        self.groups.iter_mut().find(|group| group.key == key)
    }

    /// Appends `message` as number `next` to the lanes that want it.
    fn append(&mut self, message: Message, to: impl Fn(GroupKey) -> bool) {
        let (label, only, bytes) = (message.headers.label, message.headers.group, message.size());
        let kept = Arc::new(Kept { sequence: self.next, message, left: AtomicU32::new(0) });
        for group in &mut self.groups {
            let addressed = only.is_none_or(|only| only == group.key.name && !group.key.every);
            if !addressed || !to(group.key) || !group.options.filter.hears(&kept.message.subject) {
                continue;
            }
            let Some(lane) = group.lanes.iter_mut().find(|lane| lane.label == label) else { continue };
            lane.waiting.push_back(Arc::clone(&kept));
            kept.left.fetch_add(1, Ordering::Relaxed);
            for instance in group.instances.iter().filter(|instance| instance.takes.takes(label)) {
                instance.signal.raise();
            }
        }
        if kept.left.load(Ordering::Relaxed) > 0 {
            self.room.messages += 1;
            self.room.bytes += bytes;
        }
    }
}

impl Group {
    fn look_again(&self) {
        self.instances.iter().for_each(|instance| instance.signal.raise());
    }

    /// After `number` has taken: lets the others look if settling made room, and all know when something is due.
    fn tell_others(&mut self, number: u64, signal: &Signal, freed: bool, more: bool) {
        let waiting = self.lanes.iter().any(Lane::has_some);
        let due = self.lanes.iter_mut().filter_map(Lane::next_due).min();
        signal.due.store(due.map_or(u64::MAX, |due| due.0), Ordering::SeqCst);
        if more {
            signal.raise();
        }
        for other in self.instances.iter().filter(|instance| instance.number != number) {
            if freed && waiting {
                other.signal.raise();
            }
            if let Some(due) = due {
                other.signal.look_at(due);
            }
        }
    }
}
