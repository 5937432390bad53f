//! Rows as batches: nothing that comes from a table is believed before it verifies.

use skerry_journal::{Damage, DamageKind, Head, Position, ReadError, SealedBatch};
use skerry_proof::Hash;
use tokio_postgres::Row;

use crate::schema::Tables;

/// Numbers of ours in columns: positions stay below 2⁶³.
pub(crate) fn column(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A column as a number of ours; a negative one is not ours.
pub(crate) fn number(row: &Row, index: usize) -> Result<u64, tokio_postgres::Error> {
    let value: i64 = row.try_get(index)?;
    Ok(u64::try_from(value).unwrap_or(u64::MAX))
}

/// A column as a hash; one of another length is a hash of nothing.
pub(crate) fn hash(row: &Row, index: usize) -> Result<Hash, tokio_postgres::Error> {
    let bytes: &[u8] = row.try_get(index)?;
    Ok(bytes.try_into().unwrap_or([0xff; 32]))
}

/// Where a batch lies, as its row says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) position: u64,
    pub(crate) end: u64,
    pub(crate) batch: u64,
    pub(crate) hash: Hash,
}

impl Place {
    /// The first four columns of a row.
    pub(crate) fn of(row: &Row) -> Result<Self, tokio_postgres::Error> {
        let position = number(row, 0)?;
        let records: i32 = row.try_get(1)?;
        let end = position.saturating_add(u64::try_from(records).unwrap_or(0));
        Ok(Self { position, end, batch: number(row, 2)?, hash: hash(row, 3)? })
    }

    /// The place after it.
    pub(crate) fn after(&self) -> Head {
        Head { position: Position(self.end), batch: self.batch.saturating_add(1), hash: self.hash }
    }
}

/// A row with its batch, as it came.
pub(crate) struct Stored {
    pub(crate) place: Place,
    pub(crate) body: Vec<u8>,
}

impl Stored {
    pub(crate) fn of(row: &Row) -> Result<Self, tokio_postgres::Error> {
        let body: &[u8] = row.try_get(4)?;
        Ok(Self { place: Place::of(row)?, body: body.to_vec() })
    }
}

/// Verifies rows, each against itself and against the one before it.
pub(crate) struct Checker {
    tables: Tables,
    /// The place that the next batch must continue, if it is known.
    before: Option<Head>,
    scratch: Vec<Hash>,
}

impl Checker {
    pub(crate) fn new(tables: Tables, before: Option<Head>) -> Self {
        Self { tables, before, scratch: Vec::new() }
    }

    /// The batch of a row.
    pub(crate) fn batch(&mut self, stored: Stored) -> Result<SealedBatch, ReadError> {
        let Stored { place, body } = stored;
        let bad = |kind| damage(self.tables, place.position, kind);
        let batch = SealedBatch::from_bytes(body, &mut self.scratch)
            .map_err(|error| bad(skerry_journal::batch::damage_of(error)))?;
        let header = batch.header();
        if header.branch != self.tables.branch {
            return Err(bad(DamageKind::ForeignBranch(header.branch)));
        }
        if batch.hash() != place.hash
            || Head::after(&batch) != place.after()
            || header.first_position != place.position
        {
            return Err(bad(DamageKind::EndMark));
        }
        if let Some(before) = &self.before {
            skerry_journal::batch::continues(before, header).map_err(|why| bad(DamageKind::Chain(why)))?;
        }
        self.before = Some(Head::after(&batch));
        Ok(batch)
    }
}

/// A row that is not what was written, or is not there.
pub(crate) fn damage(tables: Tables, position: u64, kind: DamageKind) -> ReadError {
    let file = format!("table {}", tables.leaf(tables.span_of(Position(position))));
    Damage { file, offset: 0, position, kind }.into()
}
