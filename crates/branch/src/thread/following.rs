//! The writer's thread while it follows another owner's journal, and when it hands the branch over to one.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use skerry_journal::{JournalStore, Storage};

use super::{Driver, TICK};
use crate::branch::{Branch, ReaderOf, chain};
use crate::handle::Following;

/// Between two looks at a journal that grows.
const SOON: Duration = Duration::from_millis(80);
/// Between two looks at one that rests: doubled from look to look up to this.
const LATER: Duration = Duration::from_millis(160);
/// After a failure, doubled from one to the next up to a minute: what cannot be followed is read from its beginning each time.
const AFTER_FAILURE: Duration = Duration::from_secs(1);
const DOUBLINGS: u32 = 6;

/// When to look again.
pub(super) struct Pace {
    next: Instant,
    wait: Duration,
    /// Since when it has not been at the end.
    behind_since: Instant,
    has_caught_up: bool,
    /// What was said last, not to say it every second.
    said: Option<String>,
    /// Failures since it was last at the end.
    failures: u32,
}

impl Default for Pace {
    fn default() -> Self {
        let now = Instant::now();
        Self { next: now, wait: SOON, behind_since: now, has_caught_up: false, said: None, failures: 0 }
    }
}

impl<J, S> Driver<J, S>
where
    J: JournalStore + 'static,
    S: Storage,
    ReaderOf<J>: Send + Sync,
{
    /// How long to sleep at most.
    pub(super) fn tick(&self) -> Duration {
        let Some(pace) = &self.pace else { return TICK };
        pace.next.saturating_duration_since(Instant::now()).min(TICK)
    }

    /// Follows, if it is to and it is time. Whether more is waiting.
    pub(super) fn keep_up(&mut self) -> bool {
        let Some(pace) = &self.pace else { return false };
        if pace.next > Instant::now() {
            self.tell_following();
            return false;
        }
        let read = self.branch.follow().and_then(|()| self.branch.keep_up());
        let behind = self.branch.followed().unwrap_or_default().behind();
        let Some(pace) = &mut self.pace else { return false };
        let now = Instant::now();
        let more = match read {
            Ok(read) if behind > 0 => {
                (pace.wait, pace.said) = (SOON, None);
                read
            }
            // A journal that grows all the time is looked at now and then as well: each look is a question to its store.
            Ok(read) => {
                (pace.behind_since, pace.has_caught_up, pace.said) = (now, true, None);
                pace.failures = 0;
                pace.wait = if read { SOON } else { (pace.wait * 2).min(LATER) };
                pace.next = now + pace.wait;
                false
            }
            Err(failure) => {
                let reason = chain(&failure);
                if pace.said.as_ref() != Some(&reason) {
                    tracing::warn!(branch = self.shared.number, "the branch is not followed: {reason}");
                }
                (pace.said, pace.next) =
                    (Some(reason), now + AFTER_FAILURE * (1 << pace.failures.min(DOUBLINGS)));
                pace.failures = if failure.may_pass() { 0 } else { pace.failures.saturating_add(1) };
                if self.branch.followed().is_none() {
                    pace.has_caught_up = false;
                }
                false
            }
        };
        self.tell_following();
        self.settle();
        more
    }

    pub(super) fn tell_following(&self) {
        let following = self.pace.as_ref().map(|pace| {
            let since = u64::try_from(pace.behind_since.elapsed().as_micros()).unwrap_or(u64::MAX);
            let followed = self.branch.followed().unwrap_or_default();
            let is_failing = pace.said.is_some();
            let at_end = pace.has_caught_up && followed.behind() == 0 && !is_failing;
            let behind_us = if at_end { 0 } else { since };
            Following { followed, behind_us, has_caught_up: pace.has_caught_up, is_failing }
        });
        *self.shared.following.lock().unwrap_or_else(PoisonError::into_inner) = following;
    }

    /// Serves what waits, lets go of the journal, says so, and finishes what is left of background work.
    pub(super) fn hand_over(&mut self, gone: &Sender<()>) {
        self.branch.drain();
        self.turn_until(Branch::has_answered);
        let workshop = self.branch.workshop();
        let now = self.now();
        self.branch.close(now);
        let _ = gone.send(());
        self.let_go();
        if let Some(workshop) = workshop {
            workshop.rest();
        }
        self.settle();
        self.tell_following();
    }
}
