//! The queue between the owner of a journal and whoever does its writing, and the way back.
//!
//! A batch is in flight from `submit` until `poll` has told it. After a failure the lane takes nothing, and what was
//! waiting is dropped unwritten: the fault names the first batch that is not known to be durable.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::batch::SealedBatch;
use crate::error::{AppendFault, AppendFaultKind};
use crate::seam::{Appended, Wake};

type Outcome = Result<Appended, AppendFault>;

#[derive(Default)]
struct State {
    waiting: VecDeque<SealedBatch>,
    finished: VecDeque<Outcome>,
    in_flight: usize,
    failed: bool,
    stop: bool,
    wake: Option<Arc<Wake>>,
}

/// Batches on their way to be written, and what became of them; for implementations of the seam. Shared by owner and writer.
#[derive(Default)]
pub struct Lane {
    state: Mutex<State>,
    work: Condvar,
    news: Condvar,
}

impl std::fmt::Debug for Lane {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Lane").field("in_flight", &self.in_flight()).finish_non_exhaustive()
    }
}

/// What the writer's thread woke up for.
#[expect(
    clippy::large_enum_variant,
    reason = "lives for a moment on one stack; a box would be an allocation a batch"
)]
enum Work {
    Append(SealedBatch),
    Idle,
    Stop,
}

impl Lane {
    /// Takes a batch; the owner has checked that it continues and that there is room.
    pub fn submit(&self, batch: SealedBatch) {
        let mut state = self.state();
        state.waiting.push_back(batch);
        state.in_flight += 1;
        drop(state);
        self.work.notify_one();
    }

    /// The next thing that happened, for [`Journal::poll`](crate::Journal::poll).
    pub fn poll(&self) -> Option<Outcome> {
        let mut state = self.state();
        let outcome = state.finished.pop_front()?;
        state.in_flight = if outcome.is_ok() { state.in_flight.saturating_sub(1) } else { 0 };
        Some(outcome)
    }

    /// How many batches are taken and not yet told.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.state().in_flight
    }

    /// Whether a batch has failed: nothing more may be submitted.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.state().failed
    }

    /// Asks to be woken whenever there is something to poll.
    pub fn set_wake(&self, wake: Wake) {
        self.state().wake = Some(Arc::new(wake));
    }

    /// The next batch to write.
    pub fn take(&self) -> Option<SealedBatch> {
        self.state().waiting.pop_front()
    }

    /// Tells what became of it.
    pub fn finish(&self, outcome: Outcome) {
        let mut state = self.state();
        if outcome.is_err() {
            state.failed = true;
            if !state.waiting.is_empty() {
                crate::coverage::Mark::WaitingDropped.hit();
            }
            state.waiting.clear();
        }
        state.finished.push_back(outcome);
        let wake = state.wake.clone();
        drop(state);
        self.news.notify_all();
        if let Some(wake) = wake {
            wake();
        }
    }

    /// Wakes the owner: there is something new that is no outcome of a batch.
    pub fn wake(&self) {
        let wake = self.state().wake.clone();
        wake.into_iter().for_each(|wake| wake());
    }

    /// Lets [`Lane::run`] end once nothing is waiting.
    pub fn stop(&self) {
        self.state().stop = true;
        self.work.notify_all();
    }

    /// Whether [`stop`](Self::stop) was said.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.state().stop
    }

    pub(crate) fn wait_finished(&self, timeout: Duration) {
        let state = self.state();
        let nothing = |state: &mut State| state.finished.is_empty() && state.in_flight > 0;
        drop(self.news.wait_timeout_while(state, timeout, nothing));
    }

    /// The writer's thread: `write` gets each batch in turn, and `None` once after each stretch of `idle` without one.
    pub(crate) fn run(&self, mut write: impl FnMut(Option<SealedBatch>) -> Option<Outcome>, idle: Duration) {
        let mut rested = false;
        loop {
            let batch = match self.next_work(if rested { None } else { Some(idle) }) {
                Work::Append(batch) => Some(batch),
                Work::Idle => None,
                Work::Stop => return,
            };
            rested = batch.is_none();
            let number = batch.as_ref().map(|batch| batch.header().batch);
            let outcome = catch_unwind(AssertUnwindSafe(|| write(batch)));
            match (outcome, number) {
                (Ok(Some(outcome)), _) => self.finish(outcome),
                (Ok(None), _) => (),
                (Err(_panic), number) => {
                    let batch = number.unwrap_or(u64::MAX);
                    self.finish(Err(AppendFault { kind: AppendFaultKind::Uncertain, batch, source: None }));
                }
            }
        }
    }

    fn next_work(&self, idle: Option<Duration>) -> Work {
        let mut state = self.state();
        loop {
            if let Some(batch) = state.waiting.pop_front() {
                return Work::Append(batch);
            }
            if state.stop {
                return Work::Stop;
            }
            match idle {
                None => state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(idle) => {
                    let (next, result) =
                        self.work.wait_timeout(state, idle).unwrap_or_else(PoisonError::into_inner);
                    state = next;
                    if result.timed_out() && state.waiting.is_empty() && !state.stop {
                        return Work::Idle;
                    }
                }
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The state is consistent between any two of its changes.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
