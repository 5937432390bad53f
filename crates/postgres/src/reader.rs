//! Reading by position: a record by slice, batches by the piece, the archive through the cold folder.
//!
//! Nothing beyond the durable end is looked at, whatever the tables hold; nothing is given out before it verifies.

use std::ops::ControlFlow;
use std::sync::{Arc, RwLock, mpsc};

use skerry_journal::{
    ArchiveError, BatchView, DamageKind, Head, JournalReader, LocalReader, OpenError, Position, ReadError,
    SealedBatch, Shelved, Storage, StoredRecord,
};
use skerry_proof::{BatchHeader, RECORD_LENGTH, Tails};
use tokio_postgres::types::{ToSql, Type};

use crate::check::{Checker, Stored, column, damage, number};
use crate::error::LinkError;
use crate::link::Link;
use crate::open::{self, READ, last_row, read_head};
use crate::schema::HEADER;
use crate::shared::Shared;

/// Reads a journal in a store; any number of them on any thread.
#[derive(Debug)]
pub struct PostgresReader<S: Storage> {
    pub(crate) shared: Arc<Shared<S>>,
    /// Whether it reads through to the cold folder.
    far: bool,
    /// Whether it is not the owner's, and has to look for what is new.
    watches: bool,
    /// The cold folder as far as it reached when it was last asked.
    cold: Arc<RwLock<Known<S>>>,
}

/// A reader of the cold folder, and the place that it reads up to.
type Known<S> = Option<(Head, LocalReader<S>)>;

impl<S: Storage> Clone for PostgresReader<S> {
    fn clone(&self) -> Self {
        let (shared, cold) = (Arc::clone(&self.shared), Arc::clone(&self.cold));
        Self { shared, far: self.far, watches: self.watches, cold }
    }
}

/// Batches are fetched in pieces of so many bytes.
pub(crate) const PIECE: usize = 8 << 20;
/// No piece is larger, but for a single batch.
const PIECE_MAX: usize = 64 << 20;

/// Where a position lies.
enum Lies<S: Storage> {
    Here,
    Cold(LocalReader<S>),
}

impl<S: Storage> PostgresReader<S> {
    pub(crate) fn of(shared: &Arc<Shared<S>>, far: bool) -> Self {
        Self { shared: Arc::clone(shared), far, watches: false, cold: Arc::default() }
    }

    /// One that is not the owner's.
    pub(crate) fn watching(shared: &Arc<Shared<S>>) -> Self {
        Self { watches: true, ..Self::of(shared, true) }
    }

    fn locate(&self, position: Position) -> Result<Lies<S>, ReadError> {
        let (start, durable) = (self.shared.start(), self.head());
        if position >= durable.position {
            return Err(ReadError::Beyond { position: position.0, durable: durable.position.0 });
        }
        if position >= start.position {
            return Ok(Lies::Here);
        }
        let archived = ReadError::Archived { first: start.position.0 };
        if self.far { self.cold_before(start).map(Lies::Cold).ok_or(archived) } else { Err(archived) }
    }

    /// Reads what lies in the cold folder before `start`.
    fn cold_before(&self, start: Head) -> Option<LocalReader<S>> {
        let shelf = self.shared.shelf.as_ref()?;
        let known = self.cold.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        if let Some((end, reader)) = known
            && end == start
        {
            return Some(reader);
        }
        let reader = shelf.reader(start);
        *self.cold.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Some((start, reader.clone()));
        Some(reader)
    }

    /// Looks in the tables; if one has gone meanwhile, once more where the journal begins now.
    fn look<T>(
        &self,
        position: Position,
        here: impl Fn(&Link) -> Result<Result<T, ReadError>, LinkError>,
        cold: impl Fn(&LocalReader<S>) -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        for last in [false, true] {
            match self.locate(position)? {
                Lies::Cold(reader) => return cold(&reader),
                Lies::Here => match self.shared.pool.lend(&here) {
                    Err(error) if error.is_missing_table() && !last => self.learn_start()?,
                    outcome => return outcome.map_err(|error| error.into_read(&self.shared.place))?,
                },
            }
        }
        Err(damage(self.shared.tables, position.0, DamageKind::MissingSegment(position.0)))
    }

    /// Another owner may have let go of spans since.
    pub(crate) fn learn_start(&self) -> Result<(), ReadError> {
        let branch = self.shared.tables.branch;
        let read =
            |link: &Link| link.run("read the head of a journal", READ, |client| read_head(client, branch));
        let row = self.shared.pool.lend(read).map_err(|error| error.into_read(&self.shared.place))?;
        if let Some(row) = row
            && row.ends.start.position > self.shared.start().position
        {
            self.shared.begins_at(row.ends.start);
        }
        Ok(())
    }

    pub(crate) fn missing(&self, position: Position) -> ReadError {
        damage(self.shared.tables, position.0, DamageKind::MissingSegment(position.0))
    }

    /// The batch that holds `from`, as its row is.
    fn holding(&self, link: &Link, from: Position) -> Result<Result<Stored, ReadError>, LinkError> {
        let start = self.shared.start().position.0;
        let found = last_row(link, self.shared.tables, (start, from.0))?;
        Ok(found.filter(|stored| stored.place.end > from.0).ok_or_else(|| self.missing(from)))
    }

    /// Whole batches from the one that holds `from` on, within `bytes_max` and before `end`.
    pub(crate) fn piece(
        &self,
        from: Position,
        bytes_max: usize,
        end: Head,
    ) -> Result<Vec<SealedBatch>, ReadError> {
        let here = |link: &Link| {
            let stored = match self.holding(link, from)? {
                Ok(stored) => stored,
                Err(missing) => return Ok(Err(missing)),
            };
            let mut total = stored.body.len();
            let mut next = stored.place.after();
            let mut rows = vec![stored];
            while next.position < end.position && total < bytes_max {
                let room = (bytes_max - total).min(PIECE_MAX);
                let more = self.following(link, next.position, end.position, room)?;
                let Some(last) = more.last() else { break };
                next = last.place.after();
                total += more.iter().map(|stored| stored.body.len()).sum::<usize>();
                rows.extend(more);
            }
            Ok(Ok(rows))
        };
        let rows = self.look(from, here, |_| Ok(Vec::new()))?;
        let mut checker = Checker::new(self.shared.tables, None);
        rows.into_iter().map(|stored| checker.batch(stored)).collect()
    }

    fn following(
        &self,
        link: &Link,
        from: Position,
        end: Position,
        room: usize,
    ) -> Result<Vec<Stored>, LinkError> {
        let tables = self.shared.tables;
        let text = tables.following(tables.span_of(from));
        let (from, end) = (column(from.0), column(end.0));
        let room = i64::try_from(room).unwrap_or(i64::MAX);
        link.run("read batches", READ, |client| async move {
            let values: [(&(dyn ToSql + Sync), Type); 4] = [
                (&i32::from(tables.branch), Type::INT4),
                (&from, Type::INT8),
                (&end, Type::INT8),
                (&room, Type::INT8),
            ];
            client.query_typed(&text, &values).await?.iter().map(Stored::of).collect()
        })
    }

    fn record_here(
        &self,
        link: &Link,
        position: Position,
    ) -> Result<Result<StoredRecord, ReadError>, LinkError> {
        let tables = self.shared.tables;
        let first = tables.span_of(self.shared.start().position);
        for span in (first..=tables.span_of(position)).rev() {
            let text = tables.slice(span);
            let at = column(position.0);
            let found = link.run("read a record", READ, |client| async move {
                let values: [(&(dyn ToSql + Sync), Type); 2] =
                    [(&i32::from(tables.branch), Type::INT4), (&at, Type::INT8)];
                let rows = client.query_typed(&text, &values).await?;
                rows.first().map(Slice::of).transpose()
            });
            let found = match found {
                // The table of a span is made when its first batch is about to be written.
                Err(error) if error.is_missing_table() && span > first => None,
                found => found?,
            };
            if let Some(slice) = found {
                return match self.header_of(&slice, position) {
                    Ok((header, record)) => self.with_tail(link, span, header, record, position),
                    Err(error) => Ok(Err(error)),
                };
            }
        }
        Ok(Err(self.missing(position)))
    }

    /// The header must be that of a batch of ours that holds the position.
    fn header_of(
        &self,
        slice: &Slice,
        position: Position,
    ) -> Result<(BatchHeader, [u8; RECORD_LENGTH]), ReadError> {
        let bad = |kind| damage(self.shared.tables, position.0, kind);
        let header = BatchHeader::decode(&slice.header)
            .map_err(|error| bad(skerry_journal::batch::damage_of(error)))?;
        if header.branch != self.shared.tables.branch {
            return Err(bad(DamageKind::ForeignBranch(header.branch)));
        }
        if header.first_position != slice.first || header.end_position() <= position.0 {
            return Err(self.missing(position));
        }
        let record = slice.record.as_slice().try_into().map_err(|_| bad(DamageKind::CutOff))?;
        Ok((header, record))
    }

    fn with_tail(
        &self,
        link: &Link,
        span: u64,
        header: BatchHeader,
        record: [u8; RECORD_LENGTH],
        position: Position,
    ) -> Result<Result<StoredRecord, ReadError>, LinkError> {
        let stored = |tail| StoredRecord { position, header, record, tail };
        if header.tails_length == 0 {
            return Ok(Ok(stored(None)));
        }
        let tables = self.shared.tables;
        let text = tables.part(span);
        let before = HEADER as u64 + header.records_length() + u64::from(header.actors_length);
        let (offset, length) = (column(before + 1), column(u64::from(header.tails_length)));
        let first = column(header.first_position);
        let area: Vec<u8> = link.run("read a record's tail", READ, |client| async move {
            let (offset, length) =
                (i32::try_from(offset).unwrap_or(i32::MAX), i32::try_from(length).unwrap_or(0));
            let values: [(&(dyn ToSql + Sync), Type); 4] = [
                (&i32::from(tables.branch), Type::INT4),
                (&first, Type::INT8),
                (&offset, Type::INT4),
                (&length, Type::INT4),
            ];
            client.query_typed_one(&text, &values).await?.try_get(0)
        })?;
        let index = u32::try_from(position.0 - header.first_position).unwrap_or(u32::MAX);
        Ok(match Tails::parse(&area, header.record_count) {
            Ok(tails) => Ok(stored(tails.get(index).map(<[u8]>::to_vec))),
            Err(_malformed) => Err(damage(tables, position.0, DamageKind::Extras)),
        })
    }

    /// Fetches piece after piece on a thread of its own, so that the next one is on its way while one is looked at.
    fn scan_here(
        &self,
        from: Position,
        end: Head,
        visit: &mut dyn FnMut(BatchView<'_>) -> ControlFlow<()>,
    ) -> Result<Head, ReadError> {
        let (sender, pieces) = mpsc::sync_channel(1);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let mut next = from;
                while next < end.position {
                    let piece = self.piece(next, PIECE, end);
                    let last = piece.as_ref().ok().and_then(|piece| piece.last().map(Head::after));
                    // Nobody listens any more once the visitor has had enough.
                    if sender.send(piece).is_err() {
                        return;
                    }
                    match last {
                        Some(last) => next = last.position,
                        None => return,
                    }
                }
            });
            let mut done: Option<Head> = None;
            for piece in pieces {
                for batch in piece? {
                    if let Some(before) = &done {
                        let continues = skerry_journal::batch::continues(before, batch.header());
                        let tables = self.shared.tables;
                        let at = batch.header().first_position;
                        continues.map_err(|why| damage(tables, at, DamageKind::Chain(why)))?;
                    }
                    done = Some(Head::after(&batch));
                    if visit(batch.view()).is_break() {
                        return Ok(Head::after(&batch));
                    }
                }
            }
            done.ok_or_else(|| self.missing(from))
        })
    }
}

/// A header and a record, cut out of a row.
struct Slice {
    first: u64,
    header: Vec<u8>,
    record: Vec<u8>,
}

impl Slice {
    fn of(row: &tokio_postgres::Row) -> Result<Self, tokio_postgres::Error> {
        Ok(Self { first: number(row, 0)?, header: row.try_get(2)?, record: row.try_get(3)? })
    }
}

impl<S: Storage> JournalReader for PostgresReader<S> {
    fn start(&self) -> Position {
        self.shared.start().position
    }

    fn origin(&self) -> Result<Head, ReadError> {
        let start = self.shared.start();
        match self.cold_before(start) {
            Some(cold) if self.far && start.position > Position(0) => cold.origin(),
            _ => Ok(start),
        }
    }

    fn copy_old(&self, before: Position, most: usize) -> Result<Shelved, ArchiveError> {
        self.copy_spans(before, most)
    }

    fn head(&self) -> Head {
        self.shared.durable()
    }

    fn look_again(&self) -> Result<Head, OpenError> {
        if self.watches {
            let ends = open::look(&self.shared.pool, self.shared.tables.branch, &self.shared.place)?.ends;
            self.shared.begins_at(ends.start);
            self.shared.ends_at(ends.head);
        }
        Ok(self.head())
    }

    fn read(&self, from: Position, bytes_max: usize) -> Result<Vec<SealedBatch>, ReadError> {
        let end = self.head();
        if from == end.position {
            return Ok(Vec::new());
        }
        let Lies::Cold(cold) = self.locate(from)? else { return self.piece(from, bytes_max, end) };
        let mut batches = cold.read(from, bytes_max)?;
        let total: usize = batches.iter().map(|batch| batch.bytes().len()).sum();
        let start = self.shared.start();
        let all_of_it = batches.last().is_some_and(|last| Head::after(last) == start);
        if all_of_it && total < bytes_max && start.position < end.position {
            let more = self.piece(start.position, bytes_max - total, end)?;
            // The first of a piece comes whatever its size.
            let fits = more.first().is_some_and(|first| first.bytes().len() <= bytes_max - total);
            batches.extend(if fits { more } else { Vec::new() });
        }
        Ok(batches)
    }

    fn read_record(&self, position: Position) -> Result<StoredRecord, ReadError> {
        self.look(position, |link| self.record_here(link, position), |cold| cold.read_record(position))
    }

    fn scan(
        &self,
        from: Position,
        visit: &mut dyn FnMut(BatchView<'_>) -> ControlFlow<()>,
    ) -> Result<Head, ReadError> {
        let end = self.head();
        if from == end.position {
            return Ok(end);
        }
        let Lies::Cold(cold) = self.locate(from)? else { return self.scan_here(from, end, visit) };
        let mut broken = false;
        let done = cold.scan(from, &mut |batch| {
            let flow = visit(batch);
            broken = flow.is_break();
            flow
        })?;
        if broken || done.position >= end.position {
            Ok(done)
        } else {
            self.scan_here(done.position, end, visit)
        }
    }
}
