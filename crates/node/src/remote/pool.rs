//! A few threads for what may wait for the disk, and a bounded queue in front of them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

type Work = Box<dyn FnOnce() + Send>;

/// Threads that end with it, once what was taken is done.
pub(crate) struct Pool {
    queue: Option<SyncSender<Work>>,
    threads: Vec<JoinHandle<()>>,
}

impl Pool {
    /// `threads` of them, and room for `waiting` pieces of work besides those that are being done.
    pub(crate) fn start(threads: usize, waiting: usize) -> std::io::Result<Self> {
        let (queue, taken) = sync_channel(waiting);
        let taken = Arc::new(Mutex::new(taken));
        let start = |number| {
            let taken = Arc::clone(&taken);
            std::thread::Builder::new().name(format!("seat-{number}")).spawn(move || work(&taken))
        };
        let threads = (0..threads).map(start).collect::<std::io::Result<_>>()?;
        Ok(Self { queue: Some(queue), threads })
    }

    /// Has `work` done by one of them; never waits.
    ///
    /// # Errors
    ///
    /// The queue is full; nothing was taken.
    pub(crate) fn take(&self, work: Work) -> Result<(), ()> {
        let Some(queue) = &self.queue else { return Err(()) };
        queue.try_send(work).map_err(|error| match error {
            TrySendError::Full(_) | TrySendError::Disconnected(_) => (),
        })
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.queue = None;
        for thread in self.threads.drain(..) {
            let _panicked = thread.join();
        }
    }
}

fn work(taken: &Mutex<Receiver<Work>>) {
    loop {
        let next = taken.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(work) = next else { return };
        // The panic hook has told of it; whoever asked hears of it by the work's being dropped.
        let _panicked = catch_unwind(AssertUnwindSafe(work));
    }
}
