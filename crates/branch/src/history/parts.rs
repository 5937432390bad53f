//! The pieces that a question walks over, and their lists.
//!
//! The history is a row of parts in journal order: sealed spans, then chunks in memory. For a question
//! each part gives a [`PartList`]: blocks of items, each block with what moved before it where the
//! question is about an account.

use std::sync::Arc;

use super::asked::{AsOf, Query, Side, Totals};
use super::columns::{Columns, Lead, Row, Zone, reference_hash};
use super::list::{BLOCK_ENTRIES, List};
use super::mix::Seed;
use super::seal::table_key;
use super::side::SideError;
use super::span::Span;

/// A piece of the history.
#[derive(Clone)]
pub(super) enum Part {
    Span(Arc<Span>),
    /// Rows in memory, counted from the position `first`.
    Rows {
        first: u64,
        columns: Arc<Columns>,
    },
}

/// What keys the parts of one branch.
#[derive(Clone, Copy)]
pub(super) struct Keyed {
    pub(super) seed: Seed,
    pub(super) branch: u16,
}

/// One record that a part leads to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spot {
    pub(super) position: u64,
    pub(super) side: Option<Side>,
    /// Whether it moved posted balances; `None` if only the record tells.
    pub(super) posted: Option<bool>,
    /// What is known without reading the record.
    pub(super) row: Option<Row>,
    /// The accounting date of its batch (or, for rows in memory, its own).
    pub(super) batch_date: i32,
}

/// The list of one part for one question.
pub(super) enum PartList {
    Nothing,
    Listed {
        span: Arc<Span>,
        list: List,
        with_sides: bool,
    },
    /// Rows in memory with what moved before each block of them.
    Rows {
        first: u64,
        columns: Arc<Columns>,
        hits: Vec<u32>,
        before: Vec<Totals>,
        lead: Lead,
    },
    Places {
        span: Arc<Span>,
        offsets: Vec<u32>,
    },
    Everything {
        span: Arc<Span>,
        zones: Vec<(u32, Zone)>,
    },
}

impl Part {
    /// The first position it stands for.
    pub(super) fn first(&self) -> u64 {
        match self {
            Self::Span(span) => span.extent.first,
            Self::Rows { first, columns } => {
                first + columns.rows.first().map_or(0, |row| u64::from(row.offset))
            }
        }
    }

    /// Its list for a lead.
    pub(super) fn list(&self, keyed: Keyed, lead: Lead) -> Result<PartList, SideError> {
        let span = match self {
            Self::Span(span) => Arc::clone(span),
            Self::Rows { first, columns } => return Ok(PartList::of_rows(*first, columns, keyed, lead)),
        };
        let listed = |list: Option<List>, with_sides: bool| match list {
            None => PartList::Nothing,
            Some(list) => PartList::Listed { span: Arc::clone(&span), list, with_sides },
        };
        Ok(match lead {
            Lead::Account(account) => listed(span.account(table_key(keyed.branch, account.0))?, true),
            Lead::Code(code) => listed(span.code(code)?, false),
            Lead::Reference(reference) => {
                let hash = reference_hash(keyed.seed, &reference);
                let offsets = if hash == 0 { Vec::new() } else { span.reference(hash)? };
                PartList::Places { span, offsets }
            }
            Lead::All => {
                let zones = span.zones()?;
                PartList::Everything { span, zones }
            }
        })
    }
}

impl PartList {
    fn of_rows(first: u64, columns: &Arc<Columns>, keyed: Keyed, lead: Lead) -> Self {
        let hits = columns.hits(keyed.seed, lead);
        if hits.is_empty() {
            return Self::Nothing;
        }
        let mut before = Vec::with_capacity(hits.len() / BLOCK_ENTRIES + 1);
        let mut sum = Totals::default();
        for (index, hit) in hits.iter().enumerate() {
            if index % BLOCK_ENTRIES == 0 {
                before.push(sum);
            }
            let row = &columns.rows[*hit as usize];
            if let Some(side) = side_of(columns, *hit, lead).filter(|_| row.posted) {
                sum = sum.plus(Totals::of(side, row.amount));
            }
        }
        before.push(sum);
        Self::Rows { first, columns: Arc::clone(columns), hits, before, lead }
    }

    /// How many records it leads to, at most.
    pub(super) fn count(&self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::Listed { list, .. } => list.count,
            Self::Rows { hits, .. } => hits.len(),
            Self::Places { offsets, .. } => offsets.len(),
            Self::Everything { span, .. } => (span.extent.end - span.extent.first) as usize,
        }
    }

    /// What moved on the account in this part (of those that a balance as of `dates` counts).
    pub(super) fn moved(&self, dates: &AsOf) -> Totals {
        match self {
            Self::Listed { list, .. } => {
                let counted = list.groups.iter().filter(|group| group.counts(dates));
                counted.fold(Totals::default(), |sum, group| sum.plus(group.moved))
            }
            Self::Rows { before, .. } if *dates == AsOf::default() => {
                before.last().copied().unwrap_or_default()
            }
            Self::Rows { columns, hits, lead, .. } => {
                let counts = |row: &Row| {
                    row.posted
                        && dates.business_date.is_none_or(|date| row.booked <= date.0)
                        && dates.value_date.is_none_or(|date| row.value <= date.0)
                };
                let counted = hits.iter().filter(|hit| counts(&columns.rows[**hit as usize]));
                let sides = counted.filter_map(|hit| {
                    let side = side_of(columns, *hit, *lead)?;
                    Some(Totals::of(side, columns.rows[*hit as usize].amount))
                });
                sides.fold(Totals::default(), Totals::plus)
            }
            _ => Totals::default(),
        }
    }

    pub(super) fn blocks(&self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::Listed { list, .. } => list.blocks(),
            Self::Rows { hits, .. } => hits.len().div_ceil(BLOCK_ENTRIES),
            Self::Places { offsets, .. } => offsets.len().div_ceil(BLOCK_ENTRIES),
            Self::Everything { zones, .. } => zones.len(),
        }
    }

    /// The block that holds `position`, or where it would be.
    pub(super) fn block_of(&self, position: u64) -> Result<usize, SideError> {
        let last = self.blocks().saturating_sub(1);
        let offset = |first: u64| u32::try_from(position.saturating_sub(first)).unwrap_or(u32::MAX);
        Ok(match self {
            Self::Nothing => 0,
            Self::Listed { span, list, .. } => list.block_of(&span.file, offset(span.extent.first))?,
            Self::Rows { first, columns, hits, .. } => {
                let wanted = offset(*first);
                let at = hits.partition_point(|hit| columns.rows[*hit as usize].offset < wanted);
                (at / BLOCK_ENTRIES).min(last)
            }
            Self::Places { span, offsets } => {
                let wanted = offset(span.extent.first);
                (offsets.partition_point(|at| *at < wanted) / BLOCK_ENTRIES).min(last)
            }
            Self::Everything { span, zones } => {
                let wanted = offset(span.extent.first);
                zones.partition_point(|(first, _)| *first <= wanted).saturating_sub(1)
            }
        })
    }

    /// Whether block `index` could answer `query` at all.
    pub(super) fn block_meets(&self, index: usize, query: &Query) -> Result<bool, SideError> {
        Ok(match self {
            Self::Listed { span, list, .. } => {
                span.extent.zone.meets(query) && list.head(&span.file, index)?.2.meets(query)
            }
            Self::Places { span, .. } => span.extent.zone.meets(query),
            Self::Everything { zones, .. } => zones[index].1.meets(query),
            Self::Nothing | Self::Rows { .. } => true,
        })
    }

    /// What moved on the account in this part before block `index`; `index` may be the number of blocks.
    pub(super) fn before(&self, index: usize) -> Result<Totals, SideError> {
        match self {
            Self::Listed { list, .. } if index == list.blocks() => Ok(list.moved()),
            Self::Listed { span, list, .. } => Ok(list.head(&span.file, index)?.1),
            Self::Rows { before, .. } => Ok(before[index]),
            _ => Ok(Totals::default()),
        }
    }

    /// The records of block `index`, in journal order.
    pub(super) fn spots(&self, index: usize) -> Result<Vec<Spot>, SideError> {
        Ok(match self {
            Self::Nothing => Vec::new(),
            Self::Listed { span, list, with_sides } => {
                let spot = |item: &super::list::Item| Spot {
                    side: with_sides.then_some(item.side),
                    posted: with_sides.then_some(item.posted),
                    ..unread(span, item.offset)
                };
                list.items(&span.file, index)?.iter().map(spot).collect()
            }
            Self::Rows { first, columns, hits, lead, .. } => {
                let block = hits.chunks(BLOCK_ENTRIES).nth(index).unwrap_or_default();
                let spot = |hit: &u32| {
                    let row = &columns.rows[*hit as usize];
                    Spot {
                        position: first + u64::from(row.offset),
                        side: side_of(columns, *hit, *lead),
                        posted: Some(row.posted),
                        row: Some(*row),
                        batch_date: row.booked,
                    }
                };
                block.iter().map(spot).collect()
            }
            Self::Places { span, offsets } => {
                let block = offsets.chunks(BLOCK_ENTRIES).nth(index).unwrap_or_default();
                block.iter().map(|offset| unread(span, *offset)).collect()
            }
            Self::Everything { span, zones } => {
                let all = (span.extent.end - span.extent.first) as u32;
                let end = zones.get(index + 1).map_or(all, |(first, _)| *first);
                (zones[index].0..end).map(|offset| unread(span, offset)).collect()
            }
        })
    }
}

fn side_of(columns: &Columns, row: u32, lead: Lead) -> Option<Side> {
    match lead {
        Lead::Account(account) => columns.side(row as usize, account),
        _ => None,
    }
}

fn unread(span: &Span, offset: u32) -> Spot {
    Spot {
        position: span.extent.first + u64::from(offset),
        side: None,
        posted: None,
        row: None,
        batch_date: span.day(offset),
    }
}
