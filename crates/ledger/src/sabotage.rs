//! A deliberate bug, so that the simulator can show that it catches it: a rule of the ledger is forgotten.
//!
//! It is there only with the feature `sabotage`, which no release has, and off until it is switched on for the
//! whole process.

use core::sync::atomic::{AtomicBool, Ordering};

static HOLDS_FORGOTTEN: AtomicBool = AtomicBool::new(false);

/// Forgets, from now on or no longer, that open holds use up what may still be debited.
pub fn forget_holds(forget: bool) {
    HOLDS_FORGOTTEN.store(forget, Ordering::Relaxed);
}

pub(crate) fn holds_are_forgotten() -> bool {
    HOLDS_FORGOTTEN.load(Ordering::Relaxed)
}
