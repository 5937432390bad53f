//! The threads that run a branch's jobs, and what goes to and fro between them and the writer.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;

use crossbeam_channel::{Sender, unbounded};
use skerry_journal::{JournalStore, Storage};

use super::Driver;
use crate::branch::ReaderOf;
use crate::clock::Now;
use crate::handle::wake;
use crate::jobs::{Job, JobDone, Lane, Workshop};

/// How nice the thread is that writes snapshots (nice(1)).
#[cfg(target_os = "linux")]
const STEP_BACK: i32 = 19;

/// The threads that run jobs of one opening.
pub(super) struct Lanes<R> {
    senders: Vec<Sender<Job<R>>>,
    threads: Vec<JoinHandle<()>>,
}

impl<R> Lanes<R> {
    /// Lets the threads finish what they have.
    fn join(self) {
        drop(self.senders);
        for thread in self.threads {
            drop(thread.join());
        }
    }
}

impl<J, S> Driver<J, S>
where
    J: JournalStore + 'static,
    S: Storage,
    ReaderOf<J>: Send + Sync,
{
    pub(super) fn start_lanes(
        &self,
        generation: u64,
        workshop: &Arc<Workshop<S>>,
    ) -> Option<Lanes<ReaderOf<J>>> {
        let mut lanes = Lanes { senders: Vec::new(), threads: Vec::new() };
        for lane in Lane::ALL {
            let (sender, jobs) = unbounded::<Job<ReaderOf<J>>>();
            let (workshop, results) = (Arc::clone(workshop), self.results.clone());
            let waker = self.shared.wake.clone();
            let name = format!("branch-{}-{lane:?}", self.shared.number).to_lowercase();
            let thread = std::thread::Builder::new().name(name).spawn(move || {
                if lane == Lane::Snapshots {
                    step_back();
                }
                for job in jobs {
                    let what = format!("{job:?}");
                    let run = AssertUnwindSafe(|| workshop.run(job));
                    let done = std::panic::catch_unwind(run);
                    let done = done.unwrap_or_else(|_| JobDone::Failed(format!("{what} panicked")));
                    drop(results.send((generation, done)));
                    wake(&waker);
                }
            });
            match thread {
                Ok(thread) => lanes.threads.push(thread),
                Err(error) => {
                    tracing::error!("could not start a thread for jobs: {error}");
                    return None;
                }
            }
            lanes.senders.push(sender);
        }
        Some(lanes)
    }

    /// Readers of the former opening see it no more; its jobs end.
    pub(super) fn let_go(&mut self) {
        *self.shared.open.write().unwrap_or_else(PoisonError::into_inner) = None;
        if let Some((generation, lanes)) = self.lanes.take() {
            lanes.join();
            // Kept as a number alone: results of that generation are stale.
            self.lanes = Some((generation, Lanes { senders: Vec::new(), threads: Vec::new() }));
        }
    }

    pub(super) fn take_back(&mut self, now: Now) -> bool {
        let current = self.lanes.as_ref().map(|(generation, _)| *generation);
        let mut any = false;
        while let Ok((generation, done)) = self.done.try_recv() {
            if Some(generation) == current {
                self.branch.finish(done, now);
                any = true;
            }
        }
        any
    }

    pub(super) fn hand_out(&mut self) {
        while let Some(job) = self.branch.take_job() {
            let lane = Lane::ALL.iter().position(|lane| *lane == job.lane()).unwrap_or(0);
            let sender = self.lanes.as_ref().and_then(|(_, lanes)| lanes.senders.get(lane));
            if let Some(sender) = sender {
                drop(sender.send(job));
            }
        }
    }
}

/// Lets the threads that somebody waits for go first.
fn step_back() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), STEP_BACK) {
        tracing::debug!("could not lower the priority of a background thread: {error}");
    }
}
