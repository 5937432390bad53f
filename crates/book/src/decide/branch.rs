//! The branch's own life: opening, days, formats, chart, policy, losses.

use alloc::boxed::Box;
use alloc::vec::Vec;

use skerry_ledger::{AccountCommand, AccountRef, Stamp};
use skerry_money::{Currency, Date};

use super::{Decided, plain};
use crate::book::{ARCHIVE_LEVEL, Book, FORMAT_LEVEL};
use crate::chart::Chart;
use crate::command::{Done, Incarnate, OpenBranch};
use crate::event::{
    ArchiveBefore, ArchiveOrdered, BranchOpened, ChartAdopted, DayOpened, Event, FormatRaised, HeadOpened,
    Incarnated, PolicyChanged, Terms, WentLive,
};
use crate::policy::Policy;
use crate::rejection::Rejection;

/// The most currencies that a branch opens with.
const CURRENCIES_MAX: usize = 64;
const OFFSET_MINUTES_MAX: i16 = 18 * 60;
const MINUTES_PER_DAY: u16 = 1_440;

impl Book {
    pub(super) fn decide_open_branch(&self, wish: &OpenBranch, at: Stamp) -> Decided {
        if self.life.terms.is_some() {
            return Err(Rejection::BranchAlreadyOpen);
        }
        check_terms(&wish.terms)?;
        let chart = Chart::standard();
        let heads = self.head_events(&chart, &wish.terms.currencies, 0, at)?;
        let mut events = alloc::vec![
            Event::BranchOpened(BranchOpened { at, branch: self.branch, terms: wish.terms.clone() }),
            Event::FormatRaised(FormatRaised { at, level: FORMAT_LEVEL }),
            Event::ChartAdopted(ChartAdopted { at, chart: Box::new(chart) }),
        ];
        events.extend(heads);
        events.push(Event::DayOpened(DayOpened { at, date: wish.date }));
        Ok((events, Done::Plain))
    }

    pub(super) fn decide_incarnate(&self, wish: &Incarnate, at: Stamp) -> Decided {
        let Incarnate { incarnation, lost_from, lost_to } = *wish;
        if self.life.incarnation.checked_add(1) != Some(incarnation) {
            return Err(Rejection::IncarnationNotNext { incarnation: self.life.incarnation });
        }
        let mut events = alloc::vec![Event::Incarnated(Incarnated { at, incarnation, lost_from, lost_to })];
        events.extend(self.channels_of_a_new_life(incarnation, at));
        Ok((events, Done::Plain))
    }

    pub(super) fn decide_format(&self, level: u16, at: Stamp) -> Decided {
        if level <= self.life.format || level > FORMAT_LEVEL {
            return Err(Rejection::FormatLevel { level: self.life.format, known: FORMAT_LEVEL });
        }
        plain(Event::FormatRaised(FormatRaised { at, level }))
    }

    pub(super) fn decide_archive(&self, before: ArchiveBefore, at: Stamp) -> Decided {
        if self.life.format < ARCHIVE_LEVEL {
            return Err(Rejection::FormatLevel { level: self.life.format, known: ARCHIVE_LEVEL });
        }
        plain(Event::ArchiveOrdered(ArchiveOrdered { at, before }))
    }

    pub(super) fn decide_chart(&self, chart: &Chart, at: Stamp) -> Decided {
        self.life.chart.check_successor(chart)?;
        let mut added = chart.clone();
        added.heads.retain(|head| self.life.chart.head(head.code).is_none());
        let heads = self.head_events(&added, &self.life.currencies, self.ledger.heads().count(), at)?;
        let mut events =
            alloc::vec![Event::ChartAdopted(ChartAdopted { at, chart: Box::new(chart.clone()) })];
        events.extend(heads);
        Ok((events, Done::Plain))
    }

    /// The events that bring `currency` into use; none if it is.
    pub(crate) fn currency_events(&self, currency: Currency, at: Stamp) -> Result<Vec<Event>, Rejection> {
        if self.life.currencies.contains(&currency) {
            return Ok(Vec::new());
        }
        self.head_events(&self.life.chart, &[currency], self.ledger.heads().count(), at)
    }

    /// Opens every head of `chart` in each of `currencies`, in slots from `slot` on.
    fn head_events(
        &self,
        chart: &Chart,
        currencies: &[Currency],
        slot: usize,
        at: Stamp,
    ) -> Result<Vec<Event>, Rejection> {
        let full = Rejection::Ledger(skerry_ledger::Rejection::BranchFull);
        let pairs =
            currencies.iter().flat_map(|currency| chart.heads.iter().map(move |head| (head.code, *currency)));
        let opened = (slot..).zip(pairs).map(|(slot, (code, currency))| {
            let account = AccountRef::head(self.branch, code, currency);
            let slot = u16::try_from(slot).map_err(|_| full)?;
            Ok(Event::HeadOpened(HeadOpened { at, account, slot }))
        });
        opened.collect()
    }

    pub(super) fn decide_day(&self, date: Date, at: Stamp) -> Decided {
        if let Some(open) = self.life.day.filter(|open| date <= *open) {
            return Err(Rejection::DayNotLater { open: open.0 });
        }
        match self.day_of(at.time_us) {
            Some(today) if date > today => Err(Rejection::DayNotBegun { today: today.0 }),
            _ => plain(Event::DayOpened(DayOpened { at, date })),
        }
    }

    pub(super) fn decide_live(&self, date: Date, at: Stamp) -> Decided {
        self.ledger.decide_account(&AccountCommand::GoLive { date })?;
        match self.life.first_native {
            Some(first) if date > first => Err(Rejection::LiveAfterFirstEntry { first: first.0 }),
            _ => plain(Event::WentLive(WentLive { at, date })),
        }
    }

    pub(super) fn decide_policy(policy: Policy, at: Stamp) -> Decided {
        if policy.retention_days > Policy::RETENTION_DAYS_MAX {
            return Err(Rejection::RetentionTooLong { most: Policy::RETENTION_DAYS_MAX });
        }
        plain(Event::PolicyChanged(PolicyChanged { at, policy }))
    }
}

fn check_terms(terms: &Terms) -> Result<(), Rejection> {
    let mut numbers: Vec<u16> = terms.currencies.iter().map(|currency| currency.number()).collect();
    numbers.sort_unstable();
    let distinct = numbers.is_sorted_by(|left, right| left < right);
    let valid = (1..=CURRENCIES_MAX).contains(&terms.currencies.len())
        && distinct
        && terms.cutoff_minutes < MINUTES_PER_DAY
        && terms.offset_minutes.unsigned_abs() <= OFFSET_MINUTES_MAX.unsigned_abs()
        && terms.capacity > 0;
    if valid { Ok(()) } else { Err(Rejection::TermsInvalid) }
}
