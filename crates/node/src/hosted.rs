//! A branch of this process in its seat.

use std::sync::Arc;
use std::time::Duration;

use skerry_branch::ReadError;
use skerry_branch::api::{Busy, Request};
use skerry_branch::evidence::receipts::{EvidenceError, Recorded};
use skerry_branch::history::{
    AsOf, Day, DayBy, Found, HistoryError, HistoryHandle, Page, Query, SideError, Totals,
};
use skerry_branch::keys::{KeyError, Keys};
use skerry_branch::{BranchHandle, Condition, Watcher};
use skerry_ledger::{AccountRef, TransferId};
use skerry_money::Date;
use skerry_proof::KeyHistory;

use crate::seat::{Before, Health, Seat, Trouble};

/// How long a query waits for the history to come up to what was durable when it was asked.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long a receipt waits for the checkpoint that was ordered for it.
const SIGNING: Duration = Duration::from_secs(5);

/// A [`Seat`] over a branch's handle.
#[derive(Debug, Clone)]
pub struct Hosted {
    handle: BranchHandle,
    signing_keys: Option<Arc<KeyHistory>>,
    store: Option<String>,
}

impl Hosted {
    /// The seat of the branch behind `handle`.
    #[must_use]
    pub const fn new(handle: BranchHandle) -> Self {
        Self { handle, signing_keys: None, store: None }
    }

    /// The same, naming the keys that sign its checkpoints in every receipt.
    #[must_use]
    pub fn signed_with(mut self, keys: Arc<KeyHistory>) -> Self {
        self.signing_keys = Some(keys);
        self
    }

    /// The same, saying in which store its journal is kept.
    #[must_use]
    pub fn kept_in(mut self, store: Option<String>) -> Self {
        self.store = store;
        self
    }

    /// The history, come up to everything that anybody has been told.
    fn history(&self) -> Result<(HistoryHandle, u64), Trouble> {
        // What nobody has been told of yet need not be waited for.
        let found = self.handle.history_answered(PATIENCE).map_err(history_trouble)?;
        found.ok_or_else(|| Trouble::NotYet("the branch is not open".to_owned()))
    }
}

fn history_trouble(error: HistoryError) -> Trouble {
    match error {
        HistoryError::Behind { .. } | HistoryError::Unconfirmed => Trouble::NotYet(error.to_string()),
        HistoryError::Side(away @ (SideError::Archived { .. } | SideError::Away(_))) => {
            Trouble::Archived(chain(&away))
        }
        other => Trouble::Failed(chain(&other)),
    }
}

fn evidence_trouble(error: EvidenceError) -> Trouble {
    match error {
        EvidenceError::NotYet { .. } | EvidenceError::Unconfirmed | EvidenceError::Closed => {
            Trouble::NotYet(error.to_string())
        }
        EvidenceError::Read(away @ (ReadError::Archived { .. } | ReadError::ColdAway { .. })) => {
            Trouble::Archived(chain(&away))
        }
        other => Trouble::Failed(chain(&other)),
    }
}

/// Logs that the keys of customers failed: as an error, unless they are merely away and may come back by themselves.
pub fn log_keys_failed(error: &KeyError) {
    let text = chain(error);
    if matches!(error, KeyError::Away(_)) {
        tracing::warn!(error = text, "the customers' keys are away");
    } else {
        tracing::error!(error = text, "the customers' keys failed");
    }
}

/// An error with its causes on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

impl Seat for Hosted {
    fn number(&self) -> u16 {
        self.handle.number()
    }

    fn signing_keys(&self) -> Option<Arc<KeyHistory>> {
        self.signing_keys.clone()
    }

    fn submit(&self, request: Request) -> Result<(), Busy> {
        self.handle.submit(request)
    }

    fn epoch(&self) -> u64 {
        self.handle.epoch()
    }

    fn durable(&self) -> u64 {
        self.handle.position()
    }

    fn watch(&self, watcher: Watcher) {
        self.handle.watch(watcher);
    }

    fn covered(&self) -> u64 {
        self.handle.checkpoint().map_or(0, |signed| signed.checkpoint.position)
    }

    fn room(&self) -> Option<(u64, u64)> {
        if self.handle.condition() != Condition::Open {
            return None;
        }
        let figures = self.handle.figures();
        let status = figures.status.as_ref()?;
        Some((u64::from(status.customers), u64::from(status.capacity)))
    }

    fn health(&self) -> Health {
        let figures = self.handle.figures();
        let (mut state, mut reason) = match self.handle.condition() {
            Condition::Open => ("open", None),
            Condition::Closed => ("closed", None),
            Condition::Sick(reason) => ("sick", Some(reason)),
        };
        if let Some(jumped_us) = figures.clock_jumped_us {
            state = "sick";
            reason = Some(format!(
                "the clock jumped by {jumped_us} us: set it right, or say that it is right ('skerry branch confirm-clock')"
            ));
        }
        let status = figures.status.clone();
        let status = status.as_ref();
        Health {
            state: state.into(),
            reason,
            store: self.store.clone(),
            checkpoint_fault: figures.metrics.checkpoint_fault.clone(),
            position: self.handle.position(),
            start: self.handle.start(),
            business_date: status.and_then(|status| status.day).unwrap_or_default(),
            customers: status.map_or(0, |status| u64::from(status.customers)),
            accounts: status.map_or(0, |status| status.accounts as u64),
            holds: status.map_or(0, |status| status.holds as u64),
            capacity: status.map_or(0, |status| u64::from(status.capacity)),
            queue: figures.queue_requests as u64,
            meters: figures.meters.clone(),
            figures: crate::figures::counters(&figures),
            histograms: crate::figures::histograms(&figures),
        }
    }

    fn reopen(&self) -> Result<(), String> {
        self.handle.reopen().map(drop)
    }

    fn confirm_clock(&self) {
        self.handle.confirm_clock();
    }

    fn archive(&self, before: Before) -> Result<u64, String> {
        let position = match before {
            Before::Position(position) => position,
            Before::Day(day) => self.handle.position_on(day).map_err(|error| chain(&error))?,
        };
        self.handle.archive(position)
    }

    fn is_at_hand(&self) -> bool {
        matches!(self.handle.history_answered(Duration::ZERO), Ok(Some(_)))
    }

    fn page(&self, query: &Query) -> Result<Page, Trouble> {
        let (history, at_least) = self.history()?;
        history.query(&Query { at_least, ..*query }).map_err(history_trouble)
    }

    fn transfer(&self, id: TransferId) -> Result<Option<Found>, Trouble> {
        self.history()?.0.transfer(id).map_err(history_trouble)
    }

    fn totals(&self, account: AccountRef, as_of: AsOf) -> Result<Totals, Trouble> {
        let (history, at_least) = self.history()?;
        history.totals(account, as_of, at_least).map_err(history_trouble)
    }

    fn days(&self, account: AccountRef, by: DayBy, from: Date, to: Date) -> Result<Vec<Day>, Trouble> {
        let (history, at_least) = self.history()?;
        history.days(account, by, (from, to), at_least).map_err(history_trouble)
    }

    fn records(&self, from: u64, most: usize) -> Result<Vec<Recorded>, Trouble> {
        self.handle.recorded(from, most).map_err(evidence_trouble)
    }

    fn receipt(&self, position: u64) -> Result<Vec<u8>, Trouble> {
        let begun = std::time::Instant::now();
        loop {
            match self.handle.receipt(position) {
                Ok(receipt) => return Ok(receipt.encode()),
                Err(EvidenceError::NotYet { .. }) if begun.elapsed() < SIGNING => {
                    // A signing is under way: it takes a batch and a signature.
                    self.handle.mark(false);
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(error) => return Err(evidence_trouble(error)),
            }
        }
    }

    fn keys(&self) -> Arc<dyn Keys> {
        self.handle.keys()
    }
}
