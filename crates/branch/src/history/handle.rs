//! Questions from any thread.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use skerry_ledger::{AccountRef, TransferId};
use skerry_money::Date;

use crate::ids::IdsReader;

use super::asked::{AsOf, Day, DayBy, Entry, Found, Page, Query, Totals};
use super::columns::{Columns, Lead};
use super::find::View;
use super::parts::{Keyed, Part, PartList};
use super::records::Records;
use super::seal::Unsealed;
use super::side::{SideError, SideFolder};
use super::span::Span;

/// Why a question was not answered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HistoryError {
    /// The history has not come as far as the question demands; ask again, or wait.
    #[error("the history stands at position {position}, not yet at {wanted}")]
    Behind {
        /// How far it has come.
        position: u64,
        /// How far it should have come.
        wanted: u64,
    },
    /// The lease is no good any more, and the journal's store did not confirm in time that this still is the branch's owner.
    #[error("the branch's lease has run out, and its store does not say in time who owns it")]
    Unconfirmed,
    /// A side file or the journal could not be read. A damaged side file is rebuilt by [`History::repair`].
    ///
    /// [`History::repair`]: super::History::repair
    #[error("could not read the history")]
    Side(#[from] SideError),
}

/// What the feeder and the questions share.
pub(super) struct State {
    pub(super) spans: Vec<Arc<Span>>,
    /// Waiting for their job, oldest first.
    pub(super) sealing: Vec<Arc<Unsealed>>,
    /// Full chunks of what will be the next span.
    pub(super) chunks: Vec<Arc<Columns>>,
    pub(super) tail: Columns,
    /// First offset and accounting date, per change, of `chunks` and `tail`.
    pub(super) days: Vec<(u32, i32)>,
    /// The position from which rows of `chunks` and `tail` count.
    pub(super) first: u64,
    pub(super) end: u64,
    /// A side file that was found damaged.
    pub(super) damaged: Option<String>,
}

pub(super) struct Shared {
    pub(super) state: RwLock<State>,
    pub(super) folder: SideFolder,
    pub(super) keyed: Keyed,
    pub(super) records: Arc<dyn Records>,
    pub(super) ids: IdsReader,
    pub(super) position: Mutex<u64>,
    pub(super) moved_on: Condvar,
}

/// Leads nowhere: no row has the reference that is none.
const NOTHING: Lead = Lead::Reference([0; 16]);

/// Asks the history from any thread; clones ask the same one.
#[derive(Clone)]
pub struct HistoryHandle(pub(super) Arc<Shared>);

impl std::fmt::Debug for HistoryHandle {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "HistoryHandle(to {})", self.position())
    }
}

impl HistoryHandle {
    /// Everything before this position is answered for.
    #[must_use]
    pub fn position(&self) -> u64 {
        *self.0.position.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the history has come to `position`.
    ///
    /// # Errors
    ///
    /// [`HistoryError::Behind`] if it has not within `patience`.
    pub fn wait_for(&self, position: u64, patience: Duration) -> Result<(), HistoryError> {
        let until = Instant::now() + patience;
        let mut at = self.0.position.lock().unwrap_or_else(PoisonError::into_inner);
        while *at < position {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(HistoryError::Behind { position: *at, wanted: position });
            }
            (at, _) = self.0.moved_on.wait_timeout(at, left).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }

    /// A page of transfers.
    ///
    /// # Errors
    ///
    /// [`HistoryError::Behind`] if [`Query::at_least`] is not reached; [`HistoryError::Side`] if a file cannot be read.
    pub fn query(&self, query: &Query) -> Result<Page, HistoryError> {
        // A chunk in the making is looked through for the best lead, or two where two may lead.
        let leads: Vec<Lead> = [query.account.map(Lead::Account), query.code.map(Lead::Code)]
            .into_iter()
            .flatten()
            .chain(query.reference.map(Lead::Reference))
            .collect();
        let view = self.view(&leads, query.at_least)?;
        self.watch(view.page(query))
    }

    /// What has been debited to and credited to `account`, counting the dates that `dates` says.
    ///
    /// # Errors
    ///
    /// As [`HistoryHandle::query`].
    pub fn totals(&self, account: AccountRef, dates: AsOf, at_least: u64) -> Result<Totals, HistoryError> {
        let lead = Lead::Account(account);
        let view = self.view(&[lead], at_least)?;
        let lists = self.watch(view.lists(lead))?;
        Ok(lists.iter().fold(Totals::default(), |sum, list| sum.plus(list.moved(&dates))))
    }

    /// The days from `from` to `to` on which `account` moved, with its closing totals.
    ///
    /// # Errors
    ///
    /// As [`HistoryHandle::query`].
    pub fn days(
        &self,
        account: AccountRef,
        by: DayBy,
        (from, to): (Date, Date),
        at_least: u64,
    ) -> Result<Vec<Day>, HistoryError> {
        let lead = Lead::Account(account);
        let view = self.view(&[lead], at_least)?;
        let mut moved: BTreeMap<i32, Totals> = BTreeMap::new();
        for list in self.watch(view.lists(lead))? {
            add_days(&list, by, &mut moved);
        }
        let mut closing = Totals::default();
        let mut days = Vec::new();
        for (date, moved) in moved.range(..=to.0) {
            closing = closing.plus(*moved);
            if *date >= from.0 {
                days.push(Day { date: Date(*date), moved: *moved, closing });
            }
        }
        Ok(days)
    }

    /// The transfer with this id, if it is durable and was not refused, with what resolved it.
    ///
    /// # Errors
    ///
    /// As [`HistoryHandle::query`].
    pub fn transfer(&self, id: TransferId) -> Result<Option<Found>, HistoryError> {
        let ids = &self.0.ids;
        let Some(position) = self.watch(ids.find(id))? else { return Ok(None) };
        let resolved = self.watch(ids.find_resolution(id))?;
        let view = self.view(&[NOTHING], position.max(resolved.unwrap_or(0)) + 1)?;
        let entry = self.watch(view.entry(position))?;
        let resolved_by = match resolved {
            Some(position) => self.watch(view.entry(position))?,
            None => None,
        };
        Ok(entry.map(|entry: Entry| Found { entry, resolved_by }))
    }

    /// All parts as they are now; of the chunk in the making only what `leads` lead to (all of it if to nothing).
    fn view(&self, leads: &[Lead], at_least: u64) -> Result<View<'_>, HistoryError> {
        let state = self.0.state.read().unwrap_or_else(PoisonError::into_inner);
        if state.end < at_least {
            return Err(HistoryError::Behind { position: state.end, wanted: at_least });
        }
        let rows =
            |first: u64| move |columns: &Arc<Columns>| Part::Rows { first, columns: Arc::clone(columns) };
        let mut parts: Vec<Part> = state.spans.iter().map(|span| Part::Span(Arc::clone(span))).collect();
        for unsealed in &state.sealing {
            parts.extend(unsealed.chunks.iter().map(rows(unsealed.first)));
        }
        parts.extend(state.chunks.iter().map(rows(state.first)));
        let tail = Arc::new(if leads.is_empty() {
            state.tail.clone()
        } else {
            let mut hits: Vec<u32> =
                leads.iter().flat_map(|lead| state.tail.hits(self.0.keyed.seed, *lead)).collect();
            hits.sort_unstable();
            hits.dedup();
            state.tail.only(&hits)
        });
        parts.push(rows(state.first)(&tail));
        // A chunk without rows has no first position.
        parts.retain(|part| !matches!(part, Part::Rows { columns, .. } if columns.rows.is_empty()));
        let dated = |first: u64| move |(offset, date): &(u32, i32)| (first + u64::from(*offset), *date);
        let sealing = state.sealing.iter();
        let mut days: Vec<(u64, i32)> =
            sealing.flat_map(|unsealed| unsealed.days.iter().map(dated(unsealed.first))).collect();
        days.extend(state.days.iter().map(dated(state.first)));
        Ok(View { parts, days, end: state.end, keyed: self.0.keyed, records: &*self.0.records })
    }

    /// Takes a damaged side file away and notes it, for the feeder to rebuild.
    fn watch<T>(&self, result: Result<T, SideError>) -> Result<T, HistoryError> {
        result.map_err(|error| {
            if let SideError::Damaged { file, .. } = &error {
                let mut state = self.0.state.write().unwrap_or_else(PoisonError::into_inner);
                state.damaged = Some(file.clone());
            }
            HistoryError::Side(self.0.folder.discard(error))
        })
    }
}

/// Adds what moved in a part by days.
fn add_days(list: &PartList, by: DayBy, moved: &mut BTreeMap<i32, Totals>) {
    let mut add = |booked: i32, value: i32, totals: Totals| {
        let day = moved.entry(if by == DayBy::Business { booked } else { value }).or_default();
        *day = day.plus(totals);
    };
    match list {
        PartList::Listed { list, .. } => {
            list.groups.iter().for_each(|group| add(group.booked, group.value, group.moved));
        }
        PartList::Rows { columns, hits, lead: Lead::Account(account), .. } => {
            for hit in hits {
                let row = columns.rows[*hit as usize];
                if let Some(side) = columns.side(*hit as usize, *account).filter(|_| row.posted) {
                    add(row.booked, row.value, Totals::of(side, row.amount));
                }
            }
        }
        _ => (),
    }
}
