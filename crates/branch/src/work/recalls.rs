//! Requests that ask for what lies in the archive: they stand aside while a job reads it, and nobody waits behind them.
//!
//! The writer never reads the cold folder, which may be slow or away. Of the requests whose ids lead there one is read for at
//! a time; with the records at hand it is served again, first of all, and then they are forgotten. The others wait for their turn, and
//! whoever comes when [`ASIDE_MAX`] of them wait is told to come later.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use skerry_journal::{Journal, StoredRecord};

use super::Work;
use crate::api::{Busy, BusyReason, Reply, Request};
use crate::clock::Now;
use crate::held::Held;
use crate::jobs::Job;
use crate::queue::Ask;

/// Requests that wait for their turn to be read for.
const ASIDE_MAX: usize = 64;

/// Records of the archive that have been read for the request at the front, by their positions.
#[derive(Default)]
pub(crate) struct Recalled(Mutex<BTreeMap<u64, StoredRecord>>);

impl Recalled {
    /// The record at `position`, if it has been read.
    pub(crate) fn get(&self, position: u64) -> Option<StoredRecord> {
        self.lock().get(&position).cloned()
    }

    /// Whether the record at `position` has been read.
    pub(crate) fn has(&self, position: u64) -> bool {
        self.lock().contains_key(&position)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, StoredRecord>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The requests that ask for what lies in the archive.
#[derive(Default)]
pub(crate) struct Recalls {
    /// What has been read for the one that is served next.
    pub(crate) read: Arc<Recalled>,
    /// The one that a job reads for.
    current: Option<(Ask, Request)>,
    /// The one that was read for is at the front of the intake.
    ready: bool,
    aside: VecDeque<(Ask, Request)>,
}

impl Recalls {
    pub(crate) fn is_empty(&self) -> bool {
        self.current.is_none() && self.aside.is_empty()
    }

    /// All of them, to be answered otherwise.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = (Ask, Request)> {
        self.ready = false;
        self.read.lock().clear();
        self.current.take().into_iter().chain(self.aside.drain(..))
    }
}

impl<J: Journal> Work<J> {
    /// Puts a request aside, of which nothing has been done, until the records at `positions` have been read.
    pub(super) fn recall(&mut self, ask: Ask, request: Request, positions: Vec<u64>, now: Now) {
        if self.recalls.current.is_none() {
            self.recalls.current = Some((ask, request));
            self.recalls.ready = false;
            self.jobs.push_back(Job::Recall(self.far.clone(), positions));
        } else if self.recalls.aside.len() < ASIDE_MAX {
            self.recalls.aside.push_back((ask, request));
        } else {
            let busy = Busy { retry_after_ms: 1_000, reason: BusyReason::Queue };
            self.hold(request, Reply::Busy(busy), now);
        }
    }

    /// The archive has answered, or cannot.
    pub(crate) fn recalled(&mut self, records: Result<Vec<StoredRecord>, String>, now: Now) {
        let Some((ask, request)) = self.recalls.current.take() else { return };
        match records {
            Ok(records) => {
                crate::coverage::Mark::Recalled.hit();
                let mut read = self.recalls.read.lock();
                read.extend(records.into_iter().map(|record| (record.position.0, record)));
                drop(read);
                self.recalls.ready = true;
                self.intake.push_front((ask, request));
            }
            Err(why) => {
                crate::coverage::Mark::RecallFailed.hit();
                self.hold(request, Reply::Archived(why), now);
                self.next_recall();
            }
        }
    }

    /// After a request was answered: if nobody is read for, it was the one whose turn it was, and the next one's has come.
    pub(super) fn end_recall(&mut self) {
        let recalls = &mut self.recalls;
        if recalls.current.is_none() && (recalls.ready || !recalls.aside.is_empty()) {
            self.next_recall();
        }
    }

    fn next_recall(&mut self) {
        self.recalls.ready = false;
        self.recalls.read.lock().clear();
        if let Some(next) = self.recalls.aside.pop_front() {
            self.intake.push_front(next);
        }
    }

    /// Holds the answer to a request until everything it may have seen is durable.
    pub(super) fn hold(&mut self, request: Request, value: Reply, now: Now) {
        self.held.push(Held {
            needs: self.needs(),
            proof: self.sealed.batch + 1,
            check: self.checks + 1,
            principal: request.actor.principal,
            taken_us: now.monotonic_us,
            value,
            reply: request.reply,
        });
    }
}
