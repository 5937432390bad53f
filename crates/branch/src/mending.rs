//! Whether what ails a branch may pass by itself, and when to try again: for journals whose server may be away for a while.
//!
//! It decides nothing about journals that are opened by order alone; their store has no patience to tell.

use std::time::Duration;

use skerry_journal::OpenError;

use crate::clock::Now;
use crate::open::OpenFailure;
use crate::work::Fault;

/// A branch that stood for so long begins to count anew.
const STOOD_US: u64 = 10_000_000;

/// What is known of attempts at opening.
#[derive(Debug, Default)]
pub(crate) struct Mending {
    attempts: u32,
    /// Whether waiting may help.
    may_pass: bool,
    opened_us: u64,
}

impl Mending {
    pub(crate) fn opened(&mut self, now: Now) {
        self.opened_us = now.monotonic_us;
        self.may_pass = false;
    }

    pub(crate) fn did_not_open(&mut self, failure: &OpenFailure) {
        self.attempts = self.attempts.saturating_add(1);
        self.may_pass = match failure {
            OpenFailure::Journal(error) => matches!(error, OpenError::Away { .. }),
            OpenFailure::Key(error) => error.may_pass(),
            OpenFailure::Read(_) | OpenFailure::Side(_) => true,
            _ => false,
        };
    }

    pub(crate) fn stopped(&mut self, fault: &Fault, now: Now) {
        let stood = now.monotonic_us.saturating_sub(self.opened_us) >= STOOD_US;
        self.attempts = if stood { 0 } else { self.attempts.saturating_add(1) };
        // Whoever was fenced must not take the journal back by itself.
        self.may_pass = match fault {
            Fault::Append(_) | Fault::Refused { .. } => !fault.is_fenced(),
            Fault::Read(_) | Fault::Side(_) | Fault::Job(_) => true,
            Fault::Record { .. } | Fault::Rewound { .. } => false,
        };
    }

    pub(crate) fn panicked(&mut self) {
        self.may_pass = false;
    }

    /// How long to wait before opening again, if `patience` for so many attempts knows.
    pub(crate) fn wait(&self, patience: impl FnOnce(u32) -> Option<Duration>) -> Option<Duration> {
        if self.may_pass { patience(self.attempts) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use skerry_journal::{AppendFault, AppendFaultKind};

    use super::*;

    fn at(seconds: u64) -> Now {
        Now { wall_us: 0, monotonic_us: seconds * 1_000_000 }
    }

    fn lost(kind: AppendFaultKind) -> Fault {
        Fault::Append(AppendFault { kind, batch: 1, source: None })
    }

    #[test]
    fn what_may_pass_is_waited_for_longer_each_time_and_a_fence_is_not() {
        let mut mending = Mending::default();
        let attempts =
            |mending: &Mending| mending.wait(|attempts| Some(Duration::from_secs(attempts.into())));
        assert_eq!(attempts(&mending), None, "nothing ails it");
        mending.opened(at(0));
        mending.stopped(&lost(AppendFaultKind::Uncertain), at(1));
        assert_eq!(attempts(&mending), Some(Duration::from_secs(1)));
        mending.opened(at(1));
        mending.stopped(&lost(AppendFaultKind::Uncertain), at(2));
        assert_eq!(attempts(&mending), Some(Duration::from_secs(2)), "it did not stand for long");
        mending.opened(at(2));
        mending.stopped(&lost(AppendFaultKind::Uncertain), at(20));
        assert_eq!(attempts(&mending), Some(Duration::ZERO));
        mending.opened(at(20));
        assert_eq!(attempts(&mending), None);
        mending.stopped(&lost(AppendFaultKind::Fenced), at(40));
        assert_eq!(attempts(&mending), None, "another owner has it");
        assert_eq!(mending.wait(|_| None), None);
    }
}
