//! Lets a thread that owns endpoints sleep until one of them has something.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::seam::Wake;

/// A thread's sleep, which any number of endpoints can end.
#[derive(Debug, Clone, Default)]
pub struct ThreadWait {
    shared: Arc<(Mutex<bool>, Condvar)>,
}

impl ThreadWait {
    /// For [`Bus::on_event`](crate::Bus::on_event).
    #[must_use]
    pub fn wake(&self) -> Wake {
        let shared = Arc::clone(&self.shared);
        Arc::new(move || {
            *shared.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
            shared.1.notify_one();
        })
    }

    /// Sleeps until woken or for `at_most`. A wake since the last sleep ends this one at once.
    pub fn sleep(&self, at_most: Duration) {
        let woken = self.shared.0.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = self.shared.1.wait_timeout_while(woken, at_most, |woken| !*woken);
        *wait.unwrap_or_else(PoisonError::into_inner).0 = false;
    }
}
