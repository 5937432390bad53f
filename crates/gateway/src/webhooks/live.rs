//! A webhook as it is now: what is counted of it, and how far behind it is.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::store::{Progress, Record};
use crate::events::cursor::Cursor;
use crate::gateway::Shared;
use crate::text;

/// What is counted of one webhook since the bank began, and how it is.
#[derive(Debug, Default)]
pub(crate) struct Live {
    /// Events delivered.
    pub(crate) delivered: AtomicU64,
    /// Attempts that failed.
    pub(crate) failures: AtomicU64,
    /// Deliveries under way.
    pub(crate) flying: AtomicU64,
    /// When the oldest event that is read and not delivered happened, microseconds since 1970; 0 if there is none.
    pub(crate) oldest_us: AtomicU64,
    /// Why its branches cannot be read just now; empty if they can.
    pub(crate) trouble: Mutex<String>,
}

/// What was counted since the bank began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Delivered {
    pub(crate) delivered: u64,
    pub(crate) failures: u64,
}

impl Live {
    /// The counts.
    pub(crate) fn counts(&self) -> Delivered {
        Delivered {
            delivered: self.delivered.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
        }
    }
}

/// A webhook as it is now.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    pub(crate) record: Record,
    pub(crate) progress: Progress,
    pub(crate) live: Arc<Live>,
}

impl Shown {
    /// Where it goes on.
    pub(crate) fn cursor(&self) -> Cursor {
        Cursor::parse(&self.progress.cursor).unwrap_or_default()
    }

    /// Records between what it has and what its branches have.
    pub(crate) fn lag(&self, gateway: &Shared) -> u64 {
        let cursor = self.cursor();
        let seats = gateway.bank.seats();
        let wanted = |branch: u16| self.record.branches.as_ref().is_none_or(|own| own.contains(&branch));
        let seats = seats.iter().filter(|(branch, _)| wanted(**branch));
        seats.map(|(branch, seat)| seat.durable().saturating_sub(cursor.place(*branch).next)).sum()
    }

    /// Seconds since the oldest event happened that it has not.
    pub(crate) fn late_s(&self) -> u64 {
        match self.live.oldest_us.load(Ordering::Relaxed) {
            0 => 0,
            oldest_us => text::now_us().saturating_sub(oldest_us) / 1_000_000,
        }
    }
}
