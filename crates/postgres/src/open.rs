//! Opening: make what is missing, raise the epoch, then look at what is there.
//!
//! The raise is a commit of its own: when it returns without a warning, a standby has it and everything before it, so nothing
//! that is read afterwards can be lost any more. Whatever an older owner still had on its way is either read here or matches no row.

use std::sync::Arc;

use skerry_journal::mark::{self, MarkFile};
use skerry_journal::{DamageKind, Head, OpenError, Position, ReadError, Recovery, Storage};
use skerry_proof::Hash;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};

use crate::check::{self, Checker, Place, Stored, column, hash, number};
use crate::error::LinkError;
use crate::ground::Ground;
use crate::journal::PostgresStore;
use crate::link::Link;
use crate::pool::Pool;
use crate::schema::{self, Tables};
use crate::shared::{Ends, lock};

type Failure = tokio_postgres::Error;

/// A branch's row beside its journal.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeadRow {
    pub(crate) epoch: u64,
    pub(crate) ends: Ends,
    span_records: u64,
}

impl HeadRow {
    fn of(row: &Row) -> Result<Self, Failure> {
        let place = |first| -> Result<Head, Failure> {
            let position = Position(number(row, first)?);
            Ok(Head { position, batch: number(row, first + 1)?, hash: hash(row, first + 2)? })
        };
        let ends = Ends { head: place(1)?, start: place(4)? };
        Ok(Self { epoch: number(row, 0)?, ends, span_records: number(row, 7)?.max(1) })
    }

    pub(crate) fn tables(&self, branch: u16) -> Tables {
        Tables { branch, span_records: self.span_records }
    }
}

/// Reads the row of `branch`.
pub(crate) async fn read_head(client: Arc<Client>, branch: u16) -> Result<Option<HeadRow>, Failure> {
    let rows = client.query_typed(schema::HEAD_READ, &[(&i32::from(branch), Type::INT4)]).await?;
    rows.first().map(HeadRow::of).transpose()
}

/// The head row of a journal that is there, for one who is not its owner.
pub(crate) fn look(pool: &Pool, branch: u16, place: &str) -> Result<HeadRow, OpenError> {
    let looked =
        pool.lend(|link| link.run("read the head of a journal", READ, |client| read_head(client, branch)));
    let missing = || LinkError::Configuration {
        place: place.to_owned(),
        what: format!("there is no journal of branch {branch}"),
    };
    looked.and_then(|row| row.ok_or_else(missing)).map_err(|error| error.into_open(place))
}

/// What opening has made ready.
pub(crate) struct Ready<F> {
    pub(crate) link: Link,
    pub(crate) tables: Tables,
    pub(crate) ends: Ends,
    pub(crate) recovery: Recovery,
    pub(crate) mark: Option<MarkFile<F>>,
}

/// See [`JournalStore::open`](skerry_journal::JournalStore::open).
pub(crate) fn open<S: Storage>(store: &PostgresStore<S>, place: &str) -> Result<Ready<S::File>, OpenError> {
    let branch = store.options.branch;
    let marked = match &store.mark {
        Some(folder) => mark::read(folder, branch, false)?,
        None => None,
    };
    let away = |error: LinkError| error.into_open(place);
    let link = store.pool.server().connect().map_err(away)?;
    let least = marked.map_or(0, |mark| mark.epoch).max(lock(&store.told).epoch);
    let ground = Ground { server: store.pool.server(), link: &link };
    let opening = Opening { store, ground };
    let raised = opening.prepare().and_then(|found| opening.raise(found, least));
    let (tables, row) = raised.map_err(|error| {
        store.pool.server().pass_over(link.host());
        away(error)
    })?;
    let looking = Looking { link: &link, tables, place, ends: row.ends };
    looking.check_last()?;
    let HeadRow { epoch, ends, .. } = row;
    if store.options.accept_loss {
        *lock(&store.told) = crate::shared::Told { durable: ends.head, epoch };
    } else {
        looking.hold_against(&[marked.unwrap_or_default().durable, lock(&store.told).durable])?;
    }
    opening.make_leaf(tables, tables.span_of(ends.head.position)).map_err(away)?;
    let mark = match &store.mark {
        None => None,
        Some(folder) => {
            let refused = |error| OpenError::of_storage(&folder.place(), error);
            let mut file = MarkFile::open(folder, branch, marked).map_err(refused)?;
            let mut known = file.last();
            (known.epoch, known.durable, known.start) = (epoch, ends.head, ends.start);
            file.write(known).map_err(refused)?;
            Some(file)
        }
    };
    let recovery = Recovery {
        head: ends.head,
        start: ends.start.position,
        epoch,
        mark_missing: store.mark.is_some() && marked.is_none() && ends.head.batch > 0,
        ..Recovery::default()
    };
    Ok(Ready { link, tables, ends, recovery, mark })
}

/// See [`JournalStore::forgive`](skerry_journal::JournalStore::forgive).
pub(crate) fn forgive<S: Storage>(store: &PostgresStore<S>, epoch: u64) -> Result<(), OpenError> {
    let Some(folder) = &store.mark else { return Ok(()) };
    let branch = store.options.branch;
    let Some(mut known) = mark::read(folder, branch, false)?.filter(|mark| mark.epoch < epoch) else {
        return Ok(());
    };
    let refused = |error| OpenError::of_storage(&folder.place(), error);
    let mut file = MarkFile::open(folder, branch, Some(known)).map_err(refused)?;
    known.durable = Head::default();
    file.write(known).map_err(refused)
}

/// Changing what is there.
struct Opening<'a, S> {
    store: &'a PostgresStore<S>,
    ground: Ground<'a>,
}

impl<S: Storage> Opening<'_, S> {
    /// The branch's row, with whatever of the tables is missing made.
    fn prepare(&self) -> Result<HeadRow, LinkError> {
        let branch = self.store.options.branch;
        let read = || self.ground.run("read the head of a journal", |client| read_head(client, branch));
        match read() {
            Err(error) if error.is_missing_table() => self.make_tables()?,
            Err(error) => return Err(error),
            Ok(Some(row)) => {
                self.ground.check_meta(&self.store.options.bank)?;
                return Ok(row);
            }
            Ok(None) => (),
        }
        self.ground.check_meta(&self.store.options.bank)?;
        let span = column(self.store.options.span_records.max(1));
        self.ground.run("found a journal", |client| async move {
            let none: Hash = [0; 32];
            let values: [(&(dyn ToSql + Sync), Type); 3] =
                [(&i32::from(branch), Type::INT4), (&&none[..], Type::BYTEA), (&span, Type::INT8)];
            client.execute_typed(schema::HEAD_FOUND, &values).await
        })?;
        read()?.ok_or_else(|| self.ground.strange("the head of a journal vanished while it was made"))
    }

    fn make_tables(&self) -> Result<(), LinkError> {
        for statement in schema::TABLES {
            self.ground.make(statement.to_owned())?;
        }
        Ok(())
    }

    /// Raises the epoch above what the row and what this machine know. The row that comes back is as it was at that moment.
    fn raise(&self, mut found: HeadRow, least: u64) -> Result<(Tables, HeadRow), LinkError> {
        let branch = self.store.options.branch;
        for _ in 0..RAISES_MAX {
            let (old, new) = (column(found.epoch), column(found.epoch.max(least) + 1));
            let raised = self.ground.run("raise the epoch", |client| async move {
                let values: [(&(dyn ToSql + Sync), Type); 3] =
                    [(&i32::from(branch), Type::INT4), (&old, Type::INT8), (&new, Type::INT8)];
                let rows = client.query_typed(schema::HEAD_RAISE, &values).await?;
                rows.first().map(HeadRow::of).transpose()
            })?;
            if let Some(row) = raised {
                return Ok((row.tables(branch), row));
            }
            let again = self.ground.run("read the head of a journal", |client| read_head(client, branch))?;
            found = again.ok_or_else(|| self.ground.strange("the head of a journal is gone"))?;
        }
        Err(self.ground.strange("others raise the epoch as fast as we do"))
    }

    /// Makes the table of a span, unless it is there.
    fn make_leaf(&self, tables: Tables, span: u64) -> Result<(), LinkError> {
        let look = tables.has_leaf(span);
        match self.ground.run("look for a span", |client| async move { client.batch_execute(&look).await }) {
            Err(error) if error.is_missing_table() => {
                tables.make_leaf(span).into_iter().try_for_each(|statement| self.ground.make(statement))
            }
            other => other,
        }
    }
}

/// Attempts at raising the epoch while others raise it too.
const RAISES_MAX: usize = 16;

/// Looking at what is there once the epoch is raised.
struct Looking<'a> {
    link: &'a Link,
    tables: Tables,
    place: &'a str,
    ends: Ends,
}

impl Looking<'_> {
    /// The last batch must verify, and be what the head says.
    fn check_last(&self) -> Result<(), OpenError> {
        let Ends { start, head } = self.ends;
        if head == start {
            return Ok(());
        }
        let missing = || {
            let kind = DamageKind::MissingSegment(head.position.0);
            Err(self.opened(check::damage(self.tables, head.position.0, kind)))
        };
        let Some(stored) = self.batch_before(head.position)? else { return missing() };
        let place = stored.place;
        Checker::new(self.tables, None).batch(stored).map_err(|error| self.opened(error))?;
        if place.after() == head { Ok(()) } else { missing() }
    }

    /// Nothing that was once told may be missing, or be something else.
    fn hold_against(&self, known: &[Head]) -> Result<(), OpenError> {
        let Ends { start, head } = self.ends;
        for known in known {
            let rewound = |disagrees| {
                let (journal, position) = (head.position.0, known.position.0);
                Err(OpenError::Rewound { place: self.place.to_owned(), journal, position, disagrees })
            };
            if known.position > head.position {
                return rewound(false);
            }
            if known.position <= start.position {
                continue;
            }
            let there = self.batch_before(known.position)?.map(|stored| stored.place.after());
            if there != Some(*known) {
                return rewound(true);
            }
        }
        Ok(())
    }

    /// The last batch that begins before `position`.
    fn batch_before(&self, position: Position) -> Result<Option<Stored>, OpenError> {
        let last = position.0.saturating_sub(1);
        let found = last_row(self.link, self.tables, (self.ends.start.position.0, last));
        found.map_err(|error| error.into_open(self.place))
    }

    fn opened(&self, error: ReadError) -> OpenError {
        OpenError::of_read(self.place, error)
    }
}

/// The last batch that begins in `range`, its end included; spans are looked through from the last one down.
pub(crate) fn last_row(link: &Link, tables: Tables, range: (u64, u64)) -> Result<Option<Stored>, LinkError> {
    look_down(link, tables, range, |span| tables.last_before(span), Stored::of)
}

/// The same without the batch itself.
pub(crate) fn last_place(link: &Link, tables: Tables, range: (u64, u64)) -> Result<Option<Place>, LinkError> {
    look_down(link, tables, range, |span| tables.last_place(span), Place::of)
}

fn look_down<T: Send + 'static>(
    link: &Link,
    tables: Tables,
    (from, to): (u64, u64),
    text: impl Fn(u64) -> String,
    read: fn(&Row) -> Result<T, Failure>,
) -> Result<Option<T>, LinkError> {
    let (first, last) = (tables.span_of(Position(from)), tables.span_of(Position(to)));
    for span in (first..=last).rev() {
        let text = text(span);
        let found = link.run("read a batch", READ, |client| async move {
            let values: [(&(dyn ToSql + Sync), Type); 2] =
                [(&i32::from(tables.branch), Type::INT4), (&column(to), Type::INT8)];
            let rows = client.query_typed(&text, &values).await?;
            rows.first().map(read).transpose()
        });
        match found {
            Ok(None) => (),
            // The table of a span is made when its first batch is about to be written.
            Err(error) if error.is_missing_table() && span > first => (),
            found => return found,
        }
    }
    Ok(None)
}

/// How long a read may take.
pub(crate) const READ: std::time::Duration = std::time::Duration::from_secs(10);
