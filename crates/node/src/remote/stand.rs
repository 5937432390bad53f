//! The seat of a branch that is open in another process.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use skerry_branch::Watcher;
use skerry_branch::api::{Busy, BusyReason, Malformed, Reply, Request};
use skerry_branch::evidence::receipts::Recorded;
use skerry_branch::history::{AsOf, Day, DayBy, Found, Page, Query, Totals};
use skerry_branch::keys::Keys;
use skerry_ledger::{AccountRef, TransferId};
use skerry_money::Date;
use skerry_proof::KeyHistory;

use super::keys::RemoteKeys;
use super::seats::{Lost, Shared};
use super::table::Stand;
use super::wire::{Ask, Submit, Told};
use super::{now, wall_us};
use crate::seat::{Before, Health, Seat, Trouble};

/// How long a query is waited for: a receipt may wait five seconds for its checkpoint.
const QUERY_US: u64 = 15_000_000;

/// How long an opening or an archiving is waited for.
const LONG_US: u64 = 3_600_000_000;

/// How long a request without a deadline is waited for.
const NO_DEADLINE_US: u64 = 60_000_000;

/// A reply that leaves the branch at its deadline is still on its way.
const ON_ITS_WAY_US: u64 = 500_000;

/// See the module's head.
pub struct RemoteSeat {
    pub(crate) number: u16,
    pub(crate) stand: Arc<Stand>,
    pub(crate) shared: Arc<Shared>,
}

impl std::fmt::Debug for RemoteSeat {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "RemoteSeat({})", self.number)
    }
}

impl RemoteSeat {
    fn ask(&self, ask: Ask) -> Result<Told, Trouble> {
        match self.shared.ask_and_wait(self.number, ask, QUERY_US) {
            Ok(Told::Trouble(trouble)) => Err(trouble),
            Ok(Told::Failed(why)) => Err(Trouble::Failed(why)),
            Ok(told) => Ok(told),
            Err(lost @ (Lost::Refused(_) | Lost::TooLarge { .. })) => Err(Trouble::Failed(lost.to_string())),
            Err(lost) => Err(Trouble::NotYet(lost.to_string())),
        }
    }

    fn order(&self, ask: Ask, patience_us: u64) -> Result<u64, String> {
        match self.shared.ask_and_wait(self.number, ask, patience_us) {
            Ok(Told::Done(value)) => Ok(value),
            Ok(Told::Failed(why)) => Err(why),
            Ok(_) => Err(STRANGE.to_owned()),
            Err(lost) => Err(lost.to_string()),
        }
    }
}

const STRANGE: &str = "the process that has the branch answered something else";

fn strange<T>() -> Result<T, Trouble> {
    Err(Trouble::Failed(STRANGE.to_owned()))
}

/// What a request's end is to whoever sent it. `records` is how many it asked for.
fn reply_of(end: Result<Told, Lost>, records: usize) -> Reply {
    match end {
        Ok(Told::Reply(reply)) => *reply,
        Ok(Told::Busy(busy)) | Err(Lost::Busy(busy)) => Reply::Busy(busy),
        Ok(Told::Late) | Err(Lost::Late) => Reply::Expired,
        Err(Lost::TooLarge { bytes, most }) => {
            let fitting = records.saturating_mul(most) / bytes.max(1);
            Reply::Malformed(Malformed::TooMany { max: u32::try_from(fitting).unwrap_or(u32::MAX) })
        }
        Err(Lost::Refused(why)) => {
            tracing::error!(why, "the process that has a branch does not understand this one");
            Reply::Busy(Busy { retry_after_ms: 1_000, reason: BusyReason::Closed })
        }
        Ok(_) | Err(Lost::Unknown) => Reply::Unknown,
    }
}

impl Seat for RemoteSeat {
    fn number(&self) -> u16 {
        self.number
    }

    fn signing_keys(&self) -> Option<Arc<KeyHistory>> {
        self.stand.view().keys.clone()
    }

    fn submit(&self, request: Request) -> Result<(), Busy> {
        if !self.shared.may_be_asked(&self.stand) {
            return Err(Busy { retry_after_ms: 500, reason: BusyReason::Closed });
        }
        let Request { actor, scope, deadline_us, mac, body, reply } = request;
        let left = match deadline_us {
            0 => NO_DEADLINE_US,
            deadline => deadline.saturating_sub(wall_us()).saturating_add(ON_ITS_WAY_US),
        };
        let records = records_in(&body);
        let ask = Ask::Submit(Box::new(Submit { actor, scope, deadline_us, mac, body }));
        let told = Box::new(move |end| reply(reply_of(end, records)));
        self.shared.put(self.number, ask, left, told)
    }

    fn epoch(&self) -> u64 {
        self.stand.epoch.load(Ordering::Acquire)
    }

    fn durable(&self) -> u64 {
        self.stand.durable.load(Ordering::Acquire)
    }

    fn watch(&self, watcher: Watcher) {
        self.stand.watch(watcher);
    }

    fn covered(&self) -> u64 {
        self.stand.covered.load(Ordering::Acquire)
    }

    fn room(&self) -> Option<(u64, u64)> {
        let view = self.stand.view();
        let open = view.holder.is_some() && view.health.is_open();
        open.then_some((view.health.customers, view.health.capacity))
    }

    fn health(&self) -> Health {
        self.stand.health(now())
    }

    fn reopen(&self) -> Result<(), String> {
        self.order(Ask::Reopen, LONG_US).map(drop)
    }

    fn confirm_clock(&self) {
        // It is not waited for; whoever asked looks at the branch's health.
        let _busy = self.shared.put(self.number, Ask::ConfirmClock, QUERY_US, Box::new(|_| ()));
    }

    fn archive(&self, before: Before) -> Result<u64, String> {
        self.order(Ask::Archive(before), LONG_US)
    }

    fn is_at_hand(&self) -> bool {
        false
    }

    fn page(&self, query: &Query) -> Result<Page, Trouble> {
        match self.ask(Ask::Page(*query))? {
            Told::Page(page) => Ok(page),
            _ => strange(),
        }
    }

    fn transfer(&self, id: TransferId) -> Result<Option<Found>, Trouble> {
        match self.ask(Ask::Transfer(id))? {
            Told::Transfer(found) => Ok(found.map(|found| *found)),
            _ => strange(),
        }
    }

    fn totals(&self, account: AccountRef, as_of: AsOf) -> Result<Totals, Trouble> {
        match self.ask(Ask::Totals { account, as_of })? {
            Told::Totals(totals) => Ok(totals),
            _ => strange(),
        }
    }

    fn days(&self, account: AccountRef, by: DayBy, from: Date, to: Date) -> Result<Vec<Day>, Trouble> {
        match self.ask(Ask::Days { account, by, from, to })? {
            Told::Days(days) => Ok(days),
            _ => strange(),
        }
    }

    fn records(&self, from: u64, most: usize) -> Result<Vec<Recorded>, Trouble> {
        let most = u64::try_from(most).unwrap_or(u64::MAX);
        match self.ask(Ask::Records { from, most })? {
            Told::Records(records) => {
                let read = records.into_iter().map(|bytes| bytes.read());
                read.collect::<Result<_, _>>().map_err(|error| Trouble::Failed(error.to_string()))
            }
            _ => strange(),
        }
    }

    fn receipt(&self, position: u64) -> Result<Vec<u8>, Trouble> {
        match self.ask(Ask::Receipt(position))? {
            Told::Bytes(receipt) => Ok(receipt.into()),
            _ => strange(),
        }
    }

    fn keys(&self) -> Arc<dyn Keys> {
        Arc::new(RemoteKeys { shared: Arc::clone(&self.shared), branch: self.number })
    }
}

fn records_in(body: &skerry_branch::api::Body) -> usize {
    use skerry_branch::api::Body;
    match body {
        Body::Packed(bytes) => bytes.len() / skerry_book::packed::TRANSFER_LENGTH,
        Body::Transfers(list) | Body::Payout(list) => list.len(),
        _ => 1,
    }
}
