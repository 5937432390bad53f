//! One question, walked over the parts of a view.
//!
//! Blocks that cannot answer are passed over; of the others each record is read from the journal, in
//! pieces, and only as long as the page is not full. Running totals begin at a block's known totals
//! and go up (oldest first) or down (newest first) from there.

use skerry_book::record::crossing::kind as crossing;
use skerry_book::record::kind;
use skerry_ledger::{AccountRef, Flags};
use skerry_money::Date;

use super::asked::{AsOf, Cursor, Entry, Kinds, Order, Page, Query, Side, Totals};
use super::columns::{Lead, Row};
use super::parts::{Keyed, Part, PartList, Spot};
use super::records::{RECORD_BYTES, Raw, Records, is_posted};
use super::side::SideError;

/// Records read in one go.
const PIECE: usize = 32;
/// Records that one question may read before its page ends short.
const READ_MAX: usize = if cfg!(test) { 100 } else { 50_000 };

/// What a question is asked of: parts in journal order, up to `end`.
pub(super) struct View<'a> {
    pub(super) parts: Vec<Part>,
    /// First position and accounting date, per change, of what is not sealed.
    pub(super) days: Vec<(u64, i32)>,
    pub(super) end: u64,
    pub(super) keyed: Keyed,
    pub(super) records: &'a dyn Records,
}

struct Walk<'a> {
    view: &'a View<'a>,
    query: &'a Query,
    lists: Vec<PartList>,
    /// What moved on the account before each part.
    bases: Vec<Totals>,
    /// Lists of the asked account where another filter leads.
    account_lists: Option<(Vec<PartList>, Vec<Totals>)>,
    /// Where the question begins, as a number of records before it.
    place: u64,
    limit: usize,
    read: usize,
    page: Page,
}

/// Whether to go on.
#[derive(PartialEq, Eq)]
enum Step {
    On,
    Stop,
}

/// The filters that lead; the best one first.
fn leads(query: &Query) -> Vec<Lead> {
    let leads = [
        query.reference.map(Lead::Reference),
        query.account.map(Lead::Account),
        query.code.map(Lead::Code),
        Some(Lead::All),
    ];
    leads.into_iter().flatten().collect()
}

impl<'a> View<'a> {
    /// A page of what answers `query`.
    pub(super) fn page(&self, query: &'a Query) -> Result<Page, SideError> {
        let mut walk = Walk::begin(self, query)?;
        walk.run()?;
        Ok(walk.page)
    }

    pub(super) fn lists(&self, lead: Lead) -> Result<Vec<PartList>, SideError> {
        self.parts.iter().map(|part| part.list(self.keyed, lead)).collect()
    }

    /// The record at `position` as an entry about no account.
    pub(super) fn entry(&self, position: u64) -> Result<Option<Entry>, SideError> {
        let mut found = Vec::with_capacity(1);
        self.records.read(&[position], &mut found)?;
        let batch_date = self.batch_date(position);
        let moved = match found.first() {
            Some(record) => Raw(record).moved(position, batch_date)?,
            None => None,
        };
        Ok(moved.map(|moved| Entry { position, moved, side: None, totals: None }))
    }

    fn part_of(&self, position: u64) -> usize {
        self.parts.partition_point(|part| part.first() <= position).saturating_sub(1)
    }

    fn batch_date(&self, position: u64) -> i32 {
        if let Some(Part::Span(span)) = self.parts.get(self.part_of(position))
            && position < span.extent.end
        {
            return span.day((position - span.extent.first) as u32);
        }
        let at = self.days.partition_point(|(first, _)| *first <= position);
        at.checked_sub(1).map_or(0, |at| self.days[at].1)
    }
}

/// Sums of `lists` before each.
fn bases(lists: &[PartList]) -> Vec<Totals> {
    let everything = AsOf::default();
    let sum = |sum: &mut Totals, list: &PartList| {
        let before = *sum;
        *sum = before.plus(list.moved(&everything));
        Some(before)
    };
    lists.iter().scan(Totals::default(), sum).collect()
}

impl<'a> Walk<'a> {
    fn begin(view: &'a View<'a>, query: &'a Query) -> Result<Self, SideError> {
        let leads = leads(query);
        let mut lead = leads[0];
        let mut lists = view.lists(lead)?;
        // An account with many entries and a rare code: the code leads.
        if let (Lead::Account(_), Some(code @ Lead::Code(_))) = (lead, leads.get(1).copied()) {
            let by_code = view.lists(code)?;
            let count = |lists: &[PartList]| lists.iter().map(PartList::count).sum::<usize>();
            if count(&by_code) * 2 < count(&lists) {
                (lead, lists) = (code, by_code);
            }
        }
        let account_lists = match (query.account, lead) {
            (None, _) | (_, Lead::Account(_)) => None,
            (Some(account), _) => {
                let lists = view.lists(Lead::Account(account))?;
                let bases = bases(&lists);
                Some((lists, bases))
            }
        };
        let place = match (query.order, query.cursor) {
            (_, Some(cursor)) => cursor.0.min(view.end),
            (Order::OldestFirst, None) => 0,
            (Order::NewestFirst, None) => view.end,
        };
        let page = Page { previous: query.cursor, as_of: view.end, ..Page::default() };
        let limit = query.limit.clamp(1, Query::LIMIT_MAX);
        Ok(Self { view, query, bases: bases(&lists), lists, account_lists, place, limit, read: 0, page })
    }

    fn run(&mut self) -> Result<(), SideError> {
        let parts = self.view.parts.len();
        let newest_first = self.query.order == Order::NewestFirst;
        for step in 0..parts {
            let part = if newest_first { parts - 1 - step } else { step };
            if self.out_of_reach(part) || self.lists[part].blocks() == 0 {
                continue;
            }
            if self.part(part)? == Step::Stop {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Whether a whole part lies behind the place where the question begins.
    fn out_of_reach(&self, part: usize) -> bool {
        let parts = &self.view.parts;
        match self.query.order {
            Order::NewestFirst => parts[part].first() >= self.place,
            Order::OldestFirst => parts.get(part + 1).is_some_and(|next| next.first() <= self.place),
        }
    }

    fn part(&mut self, part: usize) -> Result<Step, SideError> {
        let blocks = self.lists[part].blocks();
        match self.query.order {
            Order::NewestFirst => {
                let last = self.lists[part].block_of(self.place.saturating_sub(1))?;
                for block in (0..=last).rev() {
                    if self.block(part, block)? == Step::Stop {
                        return Ok(Step::Stop);
                    }
                }
            }
            Order::OldestFirst => {
                for block in self.lists[part].block_of(self.place)?..blocks {
                    if self.block(part, block)? == Step::Stop {
                        return Ok(Step::Stop);
                    }
                }
            }
        }
        Ok(Step::On)
    }

    fn block(&mut self, part: usize, block: usize) -> Result<Step, SideError> {
        if !self.lists[part].block_meets(block, self.query)? {
            return Ok(Step::On);
        }
        let mut spots = self.lists[part].spots(block)?;
        let newest_first = self.query.order == Order::NewestFirst;
        let edge = if newest_first { block + 1 } else { block };
        let mut running = self.bases[part].plus(self.lists[part].before(edge)?);
        if newest_first {
            spots.reverse();
        }
        for piece in spots.chunks(PIECE) {
            let records = self.read(piece)?;
            for (spot, record) in piece.iter().zip(&records) {
                if self.spot(spot, record.as_ref(), &mut running)? == Step::Stop {
                    return Ok(Step::Stop);
                }
            }
        }
        Ok(Step::On)
    }

    /// Whether a spot lies on the asked side of the place where the question begins.
    fn in_reach(&self, position: u64) -> bool {
        match self.query.order {
            Order::NewestFirst => position < self.place,
            Order::OldestFirst => position >= self.place,
        }
    }

    /// Whether a spot must be read: to be filtered, or because running totals need its amount.
    fn wanted(&self, spot: &Spot) -> bool {
        let may_answer = self.in_reach(spot.position)
            && !(self.query.kinds == Kinds::Posted && spot.posted == Some(false))
            && (self.query.side.is_none() || spot.side.is_none() || self.query.side == spot.side)
            && spot.row.is_none_or(|row| may_pass(self.query, &row));
        may_answer || (spot.side.is_some() && spot.posted == Some(true) && spot.row.is_none())
    }

    fn read(&mut self, piece: &[Spot]) -> Result<Vec<Option<[u8; RECORD_BYTES]>>, SideError> {
        let wanted: Vec<bool> = piece.iter().map(|spot| self.wanted(spot)).collect();
        let pairs = piece.iter().zip(&wanted).filter(|(_, wanted)| **wanted);
        let positions: Vec<u64> = pairs.map(|(spot, _)| spot.position).collect();
        self.read += positions.len();
        let mut found = Vec::with_capacity(positions.len());
        self.view.records.read(&positions, &mut found)?;
        let mut found = found.into_iter();
        Ok(wanted.iter().map(|wanted| if *wanted { found.next() } else { None }).collect())
    }

    fn spot(
        &mut self,
        spot: &Spot,
        record: Option<&[u8; RECORD_BYTES]>,
        running: &mut Totals,
    ) -> Result<Step, SideError> {
        let after = advance(self.query.order, spot, record, running);
        if !self.in_reach(spot.position) {
            return Ok(Step::On);
        }
        let entry = match record {
            Some(record) => self.answer(spot, record)?,
            None => None,
        };
        if let Some(mut entry) = entry {
            if self.page.entries.len() == self.limit {
                self.page.next = self.page.entries.last().map(|last| self.beyond(last.position));
                return Ok(Step::Stop);
            }
            entry.totals = match (spot.side, &self.account_lists) {
                (Some(_), _) => Some(after),
                (None, Some((lists, bases))) => Some(self.totals_at(lists, bases, spot.position)?),
                (None, None) => None,
            };
            self.page.entries.push(entry);
        }
        if self.read >= READ_MAX {
            self.page.next = Some(self.beyond(spot.position));
            return Ok(Step::Stop);
        }
        Ok(Step::On)
    }

    /// The place right after `position`, in the question's order.
    fn beyond(&self, position: u64) -> Cursor {
        match self.query.order {
            Order::NewestFirst => Cursor(position),
            Order::OldestFirst => Cursor(position + 1),
        }
    }

    /// The entry, if the record answers the question.
    fn answer(&self, spot: &Spot, record: &[u8; RECORD_BYTES]) -> Result<Option<Entry>, SideError> {
        let (query, raw) = (self.query, Raw(record));
        let side = spot.side.or_else(|| query.account.and_then(|account| side_in(raw, account)));
        let passes = is_of(query.kinds, raw)
            && (query.account.is_none()
                || (side.is_some() && query.side.is_none_or(|wanted| side == Some(wanted))))
            && query.code.is_none_or(|code| code == raw.code())
            && query.reference.is_none_or(|reference| reference == raw.reference())
            && query.amount.has(raw.amount())
            && query.time_us.has(raw.own_time_us())
            && query.business_date.has(Date(raw.business_date(spot.batch_date)))
            && query.value_date.has(Date(raw.value_date()));
        if !passes {
            return Ok(None);
        }
        let moved = raw.moved(spot.position, spot.batch_date)?;
        Ok(moved.map(|moved| Entry { position: spot.position, moved, side, totals: None }))
    }

    /// The account's posted totals right after `position`, where another filter leads.
    fn totals_at(&self, lists: &[PartList], bases: &[Totals], position: u64) -> Result<Totals, SideError> {
        let part = self.view.part_of(position);
        let list = &lists[part];
        let block = list.block_of(position)?;
        let mut totals = bases[part].plus(list.before(block)?);
        let spots = list.spots(block)?;
        let before: Vec<Spot> =
            spots.into_iter().filter(|spot| spot.position <= position && spot.posted == Some(true)).collect();
        let positions: Vec<u64> = before.iter().map(|spot| spot.position).collect();
        let mut records = Vec::with_capacity(positions.len());
        self.view.records.read(&positions, &mut records)?;
        for (spot, record) in before.iter().zip(&records) {
            if let Some(side) = spot.side {
                totals = totals.plus(Totals::of(side, Raw(record).amount()));
            }
        }
        Ok(totals)
    }
}

/// Moves the running totals over a spot; returns what they are right after its record.
fn advance(order: Order, spot: &Spot, record: Option<&[u8; RECORD_BYTES]>, running: &mut Totals) -> Totals {
    let amount = spot.row.map(|row| row.amount).or_else(|| record.map(|record| Raw(record).amount()));
    let moved = match (spot.side, spot.posted, amount) {
        (Some(side), Some(true), Some(amount)) => Totals::of(side, amount),
        _ => Totals::default(),
    };
    match order {
        Order::OldestFirst => {
            *running = running.plus(moved);
            *running
        }
        Order::NewestFirst => {
            let after = *running;
            *running = running.less(moved);
            after
        }
    }
}

/// Whether a row passes the filters that it knows of.
fn may_pass(query: &Query, row: &Row) -> bool {
    query.amount.has(row.amount)
        && query.code.is_none_or(|code| code == row.code)
        && query.time_us.has(row.time_us)
        && query.business_date.has(Date(row.booked))
        && query.value_date.has(Date(row.value))
}

fn is_of(kinds: Kinds, raw: Raw<'_>) -> bool {
    match kinds {
        Kinds::Posted => raw.is_moved() && is_posted(raw.kind()),
        Kinds::Holds => raw.is_moved() && is_of_a_hold(raw),
        Kinds::All => raw.is_moved(),
    }
}

fn is_of_a_hold(raw: Raw<'_>) -> bool {
    match raw.kind() {
        kind::POSTED | crossing::RECEIVED | crossing::RETURNED => false,
        crossing::SENT_AGAIN | crossing::RECEIVED_AGAIN | crossing::WITHDRAWN => false,
        crossing::SENT => raw.flags().has(Flags::POST),
        _ => true,
    }
}

fn side_in(raw: Raw<'_>, account: AccountRef) -> Option<Side> {
    if raw.debit() == account { Some(Side::Debit) } else { (raw.credit() == account).then_some(Side::Credit) }
}
