//! What the embedded directory holds in memory: every row but the confirmed aliases, which it has the places of.
//!
//! [`State::evolve`] takes in what became so and never refuses; deciding is in `decide.rs`.

use std::collections::BTreeMap;

use skerry_journal::{Storage, StorageError};

use super::index::Index;
use super::log::Log;
use super::record::{HEAD, Record, UNIT, decode, encode};
use crate::assign::Placed;
use crate::rows::{Alias, BranchRow, BusRow, CustomerRef, DrainRow, Follow, Holder, Name, NodeRow, StoreRow};

/// A reservation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pending {
    pub(super) branch: u16,
    pub(super) first: Alias,
    /// When every claim on it has run out, on the monotonic clock; `None` until the clock is known after opening.
    pub(super) until: Option<u64>,
    /// The number of the last claim; 0 until the clock is known after opening.
    pub(super) claim: u64,
}

#[derive(Debug, Clone)]
pub(super) struct Lease {
    pub(super) holder: Holder,
    pub(super) grant: u64,
    pub(super) until: u64,
}

/// What a node said last.
#[derive(Debug, Clone)]
pub(super) struct Heard {
    /// When, on the monotonic clock.
    pub(super) at_us: u64,
    pub(super) follows: Vec<Follow>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) opened: u64,
    /// Changes of the map since it was opened.
    pub(super) changes: u64,
    /// Claims since it was opened.
    pub(super) claims: u64,
    pub(super) complete: bool,
    /// The rebuild under way; 0 is none.
    pub(super) rebuild: u64,
    pub(super) branches: BTreeMap<u16, BranchRow>,
    pub(super) stores: BTreeMap<Name, StoreRow>,
    pub(super) nodes: BTreeMap<Name, NodeRow>,
    pub(super) drains: BTreeMap<Name, DrainRow>,
    pub(super) bus: Option<BusRow>,
    pub(super) moved: BTreeMap<CustomerRef, u16>,
    pub(super) pending: BTreeMap<Alias, Pending>,
    pub(super) index: Index,
    /// Not kept: for a while only.
    pub(super) placed: BTreeMap<u16, Placed>,
    pub(super) leases: BTreeMap<u16, Lease>,
    pub(super) seen: BTreeMap<Name, Heard>,
}

impl State {
    /// Grows with each change of the map, also over openings.
    pub(super) const fn version(&self) -> u64 {
        (self.opened << 32) | self.changes
    }

    /// A number that no claim had before, also over openings.
    pub(super) const fn next_claim(&mut self) -> u64 {
        self.claims += 1;
        (self.opened << 32) | self.claims
    }

    /// Takes in what became so. `at` is where the record lies, `known` where the alias of it lay before, if it is one.
    pub(super) fn evolve(&mut self, record: Record, at: u32, known: Option<u32>) {
        match record {
            Record::Confirmed(alias, _) => {
                self.pending.remove(&alias);
                match known {
                    Some(from) => self.index.replace(&alias, from, at),
                    None => self.index.insert(&alias, at),
                }
            }
            Record::Reserved(alias, branch, first) => {
                self.pending.insert(alias, Pending { branch, first, until: None, claim: 0 });
            }
            Record::Gone(alias) => {
                self.pending.remove(&alias);
                known.into_iter().for_each(|at| self.index.remove(&alias, at));
            }
            Record::Branch(row) => drop(self.branches.insert(row.number, row)),
            Record::Store(row) => drop(self.stores.insert(row.name.clone(), row)),
            Record::StoreGone(name) => drop(self.stores.remove(&name)),
            Record::Node(row) => drop(self.nodes.insert(row.name.clone(), row)),
            Record::NodeGone(name) => {
                self.nodes.remove(&name);
                self.drains.remove(&name);
            }
            Record::Moved(customer, Some(branch)) => drop(self.moved.insert(customer, branch)),
            Record::Moved(customer, None) => drop(self.moved.remove(&customer)),
            Record::Begun => {
                self.index = Index::default();
                self.complete = false;
            }
            Record::Complete => self.complete = true,
            Record::Opened(times) => self.opened = times,
            Record::Bus(row) => self.bus = Some(row),
            Record::Drain(node, Some(row)) => drop(self.drains.insert(node, row)),
            Record::Drain(node, None) => drop(self.drains.remove(&node)),
        }
    }

    /// Everything but the confirmed aliases, as records that make it again.
    pub(super) fn rows(&self) -> Vec<Record> {
        let mut rows = vec![Record::Opened(self.opened)];
        rows.extend(self.stores.values().cloned().map(Record::Store));
        rows.extend(self.nodes.values().cloned().map(Record::Node));
        rows.extend(self.drains.iter().map(|(node, row)| Record::Drain(node.clone(), Some(row.clone()))));
        rows.extend(self.branches.values().cloned().map(Record::Branch));
        rows.extend(self.moved.iter().map(|(customer, branch)| Record::Moved(*customer, Some(*branch))));
        rows.extend(self.pending.iter().map(|(alias, p)| Record::Reserved(*alias, p.branch, p.first)));
        rows.extend(self.complete.then_some(Record::Complete));
        rows.extend(self.bus.clone().map(Record::Bus));
        rows
    }
}

/// Where `alias` lies and whose it is.
pub(super) fn confirmed<S: Storage>(
    log: &Log<S>,
    index: &Index,
    alias: &Alias,
) -> Result<Option<(u32, CustomerRef)>, Broken> {
    for at in index.candidates(alias) {
        let mut bytes = [0; ALIAS_LENGTH];
        let place = u64::from(at) * UNIT as u64;
        if log.read(place, &mut bytes)? < bytes.len() {
            return Err(Broken::Damaged(place));
        }
        match decode(&bytes) {
            Some((Record::Confirmed(found, customer), _)) if found == *alias => {
                return Ok(Some((at, customer)));
            }
            Some((Record::Confirmed(..), _)) => {}
            _ => return Err(Broken::Damaged(place)),
        }
    }
    Ok(None)
}

/// A confirmed alias takes so many bytes.
pub(super) const ALIAS_LENGTH: usize = 48;

/// Why the files are not trusted any more.
#[derive(Debug)]
pub(super) enum Broken {
    /// The machine failed: they are opened again.
    Machine(StorageError),
    /// What lies there cannot be what was written: they are thrown away.
    Damaged(u64),
}

impl From<StorageError> for Broken {
    fn from(error: StorageError) -> Self {
        Self::Machine(error)
    }
}

/// Bytes of the table that are read at once.
const CHUNK: usize = 1 << 20;

/// Reads all records of the table in order: each with its bytes and its place.
pub(super) fn scan<S: Storage>(
    log: &Log<S>,
    mut each: impl FnMut(Record, &[u8], u64) -> Result<(), Broken>,
) -> Result<(), Broken> {
    let (end, mut at) = (log.end(), 0);
    let mut buffer = Vec::with_capacity(CHUNK + LONGEST);
    while at < end {
        buffer.resize(CHUNK, 0);
        let got = log.read(at, &mut buffer)?;
        buffer.truncate(got);
        if got == 0 {
            return Err(Broken::Damaged(at));
        }
        let last = at + got as u64 >= end;
        let mut used = 0;
        while used < got && (last || got - used >= LONGEST) {
            let rest = &buffer[used..];
            if rest.len() >= HEAD && rest[..HEAD] == [0; HEAD] {
                used += filler(at + used as u64, rest)?;
                continue;
            }
            let Some((record, taken)) = decode(rest) else { return Err(Broken::Damaged(at + used as u64)) };
            each(record, &rest[..taken], at + used as u64)?;
            used += taken;
        }
        at += used as u64;
        // The file and what is not yet in it are read apart.
        if used == 0 {
            return Err(Broken::Damaged(at));
        }
    }
    Ok(())
}

/// No record is longer.
const LONGEST: usize = 1_024;

/// The zeros up to the next sector, as far as they are in `rest`.
fn filler(at: u64, rest: &[u8]) -> Result<usize, Broken> {
    let sector = skerry_journal::storage::SECTOR;
    let length = usize::try_from(sector - at % sector).unwrap_or(rest.len()).min(rest.len());
    if rest[..length].iter().any(|byte| *byte != 0) {
        return Err(Broken::Damaged(at));
    }
    Ok(length)
}

/// A record's bytes.
pub(super) fn bytes_of(record: &Record) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64);
    encode(record, &mut bytes);
    bytes
}
