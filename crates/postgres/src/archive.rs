//! Old spans on their way to the cold folder, and letting go of those that are there.

use std::sync::Arc;

use skerry_journal::{ArchiveError, DamageKind, Head, JournalReader, Position, Shelved, Storage};
use tokio_postgres::types::{ToSql, Type};

use crate::check::{column, damage};
use crate::error::LinkError;
use crate::open::last_place;
use crate::reader::{PIECE, PostgresReader};
use crate::schema::HEAD_RELEASE;
use crate::shared::Shared;

/// Why copying went no further.
enum Copying {
    /// A table is not there any more.
    Gone,
    Failed(ArchiveError),
}

impl<E: Into<ArchiveError>> From<E> for Copying {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl<S: Storage> PostgresReader<S> {
    /// See [`JournalReader::copy_old`].
    pub(crate) fn copy_spans(&self, before: Position, most: usize) -> Result<Shelved, ArchiveError> {
        match self.copy(before, most) {
            // A later owner has let go of spans that this reader still counted on.
            Err(Copying::Gone) => {
                self.learn_start()?;
                self.copy(before, most).map_err(|again| match again {
                    Copying::Gone => self.missing(self.start()).into(),
                    Copying::Failed(error) => error,
                })
            }
            Err(Copying::Failed(error)) => Err(error),
            Ok(copied) => Ok(copied),
        }
    }

    fn copy(&self, before: Position, most: usize) -> Result<Shelved, Copying> {
        let shelf = self.shared.shelf.as_ref().ok_or(ArchiveError::NoCold)?;
        let tables = self.shared.tables;
        let (start, durable) = (self.shared.start(), self.head());
        shelf.begin(start)?;
        let (mut from, mut copied) = (start, 0);
        let mut span = tables.span_of(start.position);
        // A span into which nothing can be appended any more.
        while copied < most && tables.end_of(span) <= durable.position.0 {
            let range = (from.position.0, tables.end_of(span) - 1);
            let last = match self.shared.pool.lend(|link| last_place(link, tables, range)) {
                Err(error) if error.is_missing_table() => return Err(Copying::Gone),
                last => last.map_err(|error| error.into_read(&self.shared.place))?,
            };
            let end = last.map_or(from, |place| place.after());
            if end.position > before {
                break;
            }
            if end != from {
                self.shelve(from, end)?;
                copied += 1;
            }
            from = end;
            span += 1;
        }
        Ok(Shelved::before(from))
    }

    /// Copies the batches from `from` to `end` into one sealed segment of the cold folder.
    fn shelve(&self, from: Head, end: Head) -> Result<(), ArchiveError> {
        let shelf = self.shared.shelf.as_ref().ok_or(ArchiveError::NoCold)?;
        let mut waiting = Vec::new();
        let mut next = from;
        shelf.put(from, end, &mut || {
            if waiting.is_empty() && next.position < end.position {
                waiting = self.piece(next.position, PIECE, end)?;
                waiting.reverse();
            }
            let Some(batch) = waiting.pop() else { return Ok(None) };
            let continues = skerry_journal::batch::continues(&next, batch.header());
            continues.map_err(|why| damage(self.shared.tables, next.position.0, DamageKind::Chain(why)))?;
            next = Head::after(&batch);
            Ok(Some(batch))
        })
    }
}

/// Lets go of the spans that end before what was copied: first the row says so, then the tables go, in one transaction.
pub(crate) fn release<S: Storage>(
    shared: &Arc<Shared<S>>,
    copied: Shelved,
) -> Result<Position, ArchiveError> {
    let (tables, end, start) = (shared.tables, copied.end(), shared.start());
    if end.position <= start.position {
        return Ok(start.position);
    }
    let gone: Vec<String> = (tables.span_of(start.position)..)
        .take_while(|span| tables.end_of(*span) <= end.position.0)
        .map(|span| tables.drop_leaf(span))
        .collect();
    let epoch = column(shared.epoch);
    let patience = shared.pool.server().options().patience;
    let link = shared.pool.server().connect().map_err(|error| error.into_read(&shared.place))?;
    let released = link.run("let go of archived spans", patience, |client| async move {
        client.batch_execute("begin").await?;
        let (position, batch) = (column(end.position.0), column(end.batch));
        let values: [(&(dyn ToSql + Sync), Type); 5] = [
            (&i32::from(tables.branch), Type::INT4),
            (&epoch, Type::INT8),
            (&position, Type::INT8),
            (&batch, Type::INT8),
            (&&end.hash[..], Type::BYTEA),
        ];
        let moved = client.execute_typed(HEAD_RELEASE, &values).await?;
        if moved == 1 {
            for drop in &gone {
                client.batch_execute(drop).await?;
            }
        }
        client.batch_execute("commit").await?;
        Ok(moved == 1)
    });
    match released {
        Ok(true) => {
            shared.begins_at(end);
            // Else the mark says so later.
            let _marked = shared.write_mark();
            Ok(end.position)
        }
        Ok(false) => {
            let what = "the journal was opened under a higher epoch".to_owned();
            let refused = LinkError::Unsafe { place: shared.place.clone(), what };
            Err(refused.into_read(&shared.place).into())
        }
        Err(error) => Err(error.into_read(&shared.place).into()),
    }
}
