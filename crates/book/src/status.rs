//! What operators look at: counts, days, and the trial balance with names.

use alloc::vec::Vec;

use skerry_ledger::{AccountKind, AccountRef, Basis};
use skerry_money::{Currency, Date};

use crate::book::Book;
use crate::channel::channel_head;
use crate::chart::Class;

/// A branch at a glance.
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Its number.
    pub branch: u16,
    /// Records so far.
    pub position: u64,
    /// Time of the last record, microseconds since 1970.
    pub time_us: u64,
    /// The open business day.
    pub day: Option<Date>,
    /// The first business day.
    pub first_day: Option<Date>,
    /// Business days opened so far.
    pub days: u32,
    /// From which day on nothing is imported, once said.
    pub live: Option<Date>,
    /// The level of records.
    pub format: u16,
    /// Which life it is in.
    pub incarnation: u32,
    /// Customers ever opened, erased ones included.
    pub customers: u32,
    /// Customers erased.
    pub erased: u32,
    /// How many customers it takes.
    pub capacity: u32,
    /// Customer accounts ever opened, closed ones included.
    pub accounts: usize,
    /// Open holds.
    pub holds: usize,
    /// Transfers posted or held, and holds resolved.
    pub moved: u64,
    /// Refusals that were journaled.
    pub refused: u64,
    /// Idempotency keys kept.
    pub keys: usize,
    /// Currencies in use.
    pub currencies: Vec<Currency>,
    /// The chart's version.
    pub chart: u32,
}

/// A row of the trial balance, with the head's meaning.
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrialLine {
    /// The head's code.
    pub code: u32,
    /// The currency.
    pub currency: Currency,
    /// What it counts.
    pub class: Class,
    /// Minor units debited before the day.
    pub debits_before: u128,
    /// Minor units credited before the day.
    pub credits_before: u128,
    /// Minor units debited on the day.
    pub debits: u128,
    /// Minor units credited on the day.
    pub credits: u128,
    /// Credits less debits at the end of the day, minor units. Over all lines of a currency this sums to zero.
    pub closing: i128,
}

impl Book {
    /// Counts, days, format.
    #[must_use]
    pub fn status(&self) -> Status {
        let life = &self.life;
        Status {
            branch: self.branch,
            position: life.position,
            time_us: life.time_us,
            day: life.day,
            first_day: life.first_day,
            days: life.days,
            live: self.ledger.live_date(),
            format: life.format,
            incarnation: life.incarnation,
            customers: self.customers.len(),
            erased: life.erased,
            capacity: life.terms.as_ref().map_or(0, |terms| terms.capacity),
            accounts: self.ledger.customer_count(),
            holds: self.ledger.hold_count(),
            moved: life.moved,
            refused: life.refused,
            keys: self.keys.len(),
            currencies: life.currencies.clone(),
            chart: life.chart.version,
        }
    }

    /// The trial balance of a day, by code and currency, as booked or as of value. Heads that never moved are
    /// left out.
    ///
    /// # Panics
    ///
    /// If the ledger has a head that no chart had: the journal is corrupt.
    #[must_use]
    pub fn trial_balance(&self, date: Date, basis: Basis) -> Vec<TrialLine> {
        let rows = self.ledger.trial_balance(date, basis);
        let lines = rows.iter().map(|row| {
            let (code, currency) = code_and_currency(row.head);
            TrialLine {
                code,
                currency,
                class: self.class_of(code),
                debits_before: row.debits_before,
                credits_before: row.credits_before,
                debits: row.debits,
                credits: row.credits,
                closing: row.closing(),
            }
        });
        lines.collect()
    }
}

impl Book {
    /// Heads of channels are in no chart; like clearing with other banks they are assets.
    fn class_of(&self, code: u32) -> Class {
        let class = self.chart().head(code).map(|head| head.class);
        let own = channel_head(code).map(|_| Class::Asset);
        class.or(own).expect("heads are never removed from a chart")
    }
}

fn code_and_currency(head: AccountRef) -> (u32, Currency) {
    match head.kind() {
        Some(AccountKind::Head(code, currency)) => (code, currency),
        _ => panic!("a trial balance has rows of heads only"),
    }
}
