//! The jobs of the id index: write a frozen memtable as a run, make an empty one before it is needed, merge runs, take
//! obsolete files away.

use std::sync::Arc;

use crate::history::mix::Seed;
use crate::history::records::agrees;
use crate::history::table::Slot;
use crate::history::{Records, SideError, SideFolder};

use super::memtable::Memtable;
use super::run::{Extent, PREFIX, Run, SUFFIX, Shared};
use super::{Frozen, Ids};

/// A job: run it on any thread, then give its result to [`Ids::finish`].
pub struct IdsWork {
    folder: SideFolder,
    job: Job,
}

enum Job {
    Write {
        frozen: Arc<Frozen>,
        seed: Seed,
        /// The shared filter, if it has room, and how large a new one is.
        shared: (Option<Arc<Shared>>, usize),
    },
    /// With room for so many entries.
    Memtable(usize),
    Merge(Vec<Arc<Run>>),
    Remove(Vec<String>),
}

/// Empty memtables to have at hand: while runs are merged, more than one is frozen.
const AT_HAND: usize = 2;

/// What a job has made.
pub struct IdsDone(Made);

enum Made {
    /// A run for the oldest frozen memtable.
    Written(Run),
    /// One more, for when the one in use is full.
    Memtable(Memtable),
    /// A run for all those that lie in its extent.
    Merged(Run),
    Removed,
}

impl std::fmt::Debug for IdsWork {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self.job {
            Job::Write { .. } => "IdsWork(write)",
            Job::Memtable(_) => "IdsWork(memtable)",
            Job::Merge(_) => "IdsWork(merge)",
            Job::Remove(_) => "IdsWork(remove)",
        })
    }
}

impl std::fmt::Debug for IdsDone {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("IdsDone")
    }
}

impl IdsWork {
    /// Does the job; blocks on the disk.
    ///
    /// # Errors
    ///
    /// [`SideError`] if the machine refuses or a run is damaged; see [`Ids::find`].
    pub fn run(self) -> Result<IdsDone, SideError> {
        let made = match self.job {
            Job::Write { frozen, seed, shared: (shared, room) } => {
                let shared = shared.unwrap_or_else(|| Arc::new(Shared::with_room(room)));
                Made::Written(write(&self.folder, &frozen, seed, shared)?)
            }
            Job::Memtable(entries) => Made::Memtable(Memtable::new(entries)),
            Job::Merge(runs) => {
                Made::Merged(Run::merge(&self.folder, &runs).map_err(|error| self.folder.discard(error))?)
            }
            Job::Remove(names) => {
                names.iter().try_for_each(|name| self.folder.remove(name))?;
                Made::Removed
            }
        };
        Ok(IdsDone(made))
    }
}

fn write(folder: &SideFolder, frozen: &Frozen, seed: Seed, shared: Arc<Shared>) -> Result<Run, SideError> {
    let offset = |position: u64| u32::try_from(position - frozen.first).expect("a run spans 2^32 positions");
    let slots: Vec<Slot> = frozen
        .table
        .before(frozen.end)
        .map(|(id, position)| Slot { hash: seed.hash(id) >> 16 << 16, offset: offset(position) })
        .collect();
    let extent = Extent { first: frozen.first, end: frozen.end, head: frozen.head, range: frozen.range };
    Run::write(folder, extent, &slots, shared)
}

/// The most urgent job: memory first, then tiers, then tidying.
pub(super) fn choose(ids: &mut Ids) -> Option<IdsWork> {
    let job = if let Some(frozen) = ids.parts.frozen.first() {
        let frozen = Arc::clone(frozen);
        let fits = |shared: &&Arc<Shared>| shared.room() >= frozen.table.len();
        let shared = (ids.filter.as_ref().filter(fits).cloned(), ids.config.shared_room());
        Job::Write { frozen, seed: ids.seed, shared }
    } else if ids.emptied.len() < AT_HAND && ids.parts.active.len() > ids.config.memtable_ids / 2 {
        Job::Memtable(ids.config.entries())
    } else if let Some(runs) = to_merge(ids) {
        Job::Merge(runs)
    } else if ids.obsolete.is_empty() {
        return None;
    } else {
        Job::Remove(std::mem::take(&mut ids.obsolete))
    };
    Some(IdsWork { folder: ids.folder.clone(), job })
}

/// The newest `merge_fan` neighbours of one tier, if there are so many.
fn to_merge(ids: &Ids) -> Option<Vec<Arc<Run>>> {
    let fan = ids.config.merge_fan.max(2);
    let tier = |run: &Run| (run.count() / ids.config.memtable_ids.max(1) as u64).max(1).ilog(fan as u64);
    let runs = &ids.parts.runs;
    let newest = runs.last()?;
    let mut wanted = tier(newest);
    let mut end = runs.len();
    while end > 0 {
        let begin = runs[..end].iter().rposition(|run| tier(run) > wanted).map_or(0, |at| at + 1);
        if end - begin >= fan {
            let group = &runs[begin..begin + fan];
            let ids_in_all: u64 = group.iter().map(|run| run.count()).sum();
            let span = group[fan - 1].extent.end - group[0].extent.first;
            let fits = ids_in_all <= ids.config.run_ids_max && span <= u64::from(u32::MAX);
            return fits.then(|| group.to_vec());
        }
        wanted = runs[..begin].last().map_or(u32::MAX, |run| tier(run));
        end = begin;
    }
    None
}

/// Puts what a job has made in the place of what it was made from.
pub(super) fn adopt(ids: &mut Ids, done: IdsDone) {
    match done.0 {
        Made::Memtable(table) => ids.emptied.push(Arc::new(table)),
        Made::Written(run) => {
            crate::coverage::Mark::RunWritten.hit();
            ids.filter.clone_from(&run.shared);
            assert_eq!(ids.parts.frozen[0].end, run.extent.end, "runs are written in order");
            let written = ids.parts.frozen.remove(0);
            ids.emptied.push(Arc::clone(&written.table));
            ids.emptied.truncate(ids.config.frozen_max + 1);
            ids.parts.runs.push(Arc::new(run));
        }
        Made::Merged(run) => {
            crate::coverage::Mark::RunsMerged.hit();
            let inside =
                |other: &Run| run.extent.first <= other.extent.first && other.extent.end <= run.extent.end;
            let at = ids.parts.runs.iter().position(|other| inside(other)).expect("merged runs are here");
            let (gone, kept): (Vec<_>, Vec<_>) = ids.parts.runs.drain(..).partition(|other| inside(other));
            ids.obsolete.extend(gone.iter().map(|run| run.name().to_owned()));
            ids.parts.runs = kept;
            ids.parts.runs.insert(at, Arc::new(run));
        }
        Made::Removed => (),
    }
    bound_filters(&mut ids.parts.runs, ids.config.filter_ids_max);
}

/// Leaves the filters of the oldest runs to the disk when there are too many.
fn bound_filters(runs: &mut [Arc<Run>], ids_max: u64) {
    let mut ids = 0;
    for run in runs.iter_mut().rev() {
        ids += run.count();
        if ids > ids_max && (run.filter_bytes() > 0 || run.shared.is_some()) {
            *run = Arc::new(run.without_filter());
        }
    }
}

/// Opens the unbroken chain of runs from `start` that agrees with the journal; removes every other file.
pub(super) fn open_runs(
    folder: &SideFolder,
    records: &dyn Records,
    start: u64,
    filter_ids_max: u64,
) -> Result<Vec<Arc<Run>>, SideError> {
    let mut found = Vec::new();
    for name in folder.names(PREFIX, SUFFIX)? {
        match Run::open(folder, &name) {
            Ok(run) if agrees(records, start, run.extent.end, run.extent.head)? => found.push(run),
            Ok(_) | Err(SideError::Damaged { .. }) => {
                crate::coverage::Mark::RunThrownAway.hit();
                folder.remove(&name)?;
            }
            Err(error) => return Err(error),
        }
    }
    let mut chain = chain(folder, found, start)?;
    let mut ids = 0;
    let mut broken = None;
    for (index, run) in chain.iter_mut().enumerate().rev() {
        ids += run.count();
        if ids <= filter_ids_max {
            match run.load_filter() {
                Err(SideError::Damaged { .. }) => broken = Some(index),
                other => other?,
            }
        }
    }
    for run in chain.drain(broken.unwrap_or(chain.len())..) {
        folder.remove(run.name())?;
    }
    let whole = chain.first().is_some_and(|run| run.extent.first == 0)
        && chain.last().is_some_and(|run| run.extent.end >= start);
    // To forget an id that was used would be to let it move money twice.
    if start > 0 && !whole {
        return Err(SideError::Unfounded { what: "index of ids", start });
    }
    Ok(chain.into_iter().map(Arc::new).collect())
}

/// The longest runs that follow each other from the first that begins at or before `start`.
fn chain(folder: &SideFolder, mut found: Vec<Run>, start: u64) -> Result<Vec<Run>, SideError> {
    // Where a merge was cut short before its inputs were removed, the longer one comes first.
    found.sort_by_key(|run| (run.extent.first, std::cmp::Reverse(run.extent.end)));
    let mut next = found.first().map_or(start, |run| run.extent.first);
    let gap = next > start;
    let mut chain = Vec::new();
    for run in found {
        if run.extent.first == next && !gap {
            next = run.extent.end;
            chain.push(run);
        } else {
            folder.remove(run.name())?;
        }
    }
    Ok(chain)
}
