//! The tables and every statement that changes or reads them: plain SQL, nothing else.
//!
//! ```text
//! skerry.meta           format, and whose bank it is
//! skerry.journal_head   a row a branch: epoch, where its journal ends, where it begins
//! skerry.customer_key   a row a customer's key, wrapped by the master key
//! skerry.journal        a row a batch; partitions skerry.journal_b0001 by branch, in them skerry.journal_b0001_s000000 by span
//! ```
//!
//! A span is so many positions; a batch lies in the span of its first record. Statements name a span's table itself: nothing
//! has to be planned over all of them.

use skerry_journal::Position;

/// The layout of the tables.
pub(crate) const FORMAT: &str = "1";

/// What is made in a database that has none of it.
pub(crate) const TABLES: [&str; 5] = [
    "create schema if not exists skerry",
    "create table if not exists skerry.meta (name text primary key, value text not null)",
    "create table if not exists skerry.journal_head (\
     branch integer primary key, epoch bigint not null, \
     position bigint not null, batch bigint not null, hash bytea not null, \
     start_position bigint not null, start_batch bigint not null, start_hash bytea not null, \
     span_records bigint not null)",
    "create table if not exists skerry.journal (\
     branch integer not null, position bigint not null, records integer not null, batch bigint not null, \
     hash bytea not null, body bytea not null, primary key (branch, position)) partition by list (branch)",
    // Not compressed, and out of the row: a record is then read without the batch around it.
    "alter table skerry.journal alter column body set storage external",
];

/// What is made, besides schema and meta, in a database that has no customers' keys. A row is never taken away: an erased key is
/// one without its wrapped bytes, and number 0 is the key that the table is known by.
pub(crate) const KEY_TABLES: [&str; 4] = [
    TABLES[0],
    TABLES[1],
    "create table if not exists skerry.customer_key (branch integer not null, key bigint not null, wrapped bytea, \
     primary key (branch, key))",
    "create index if not exists customer_key_erased on skerry.customer_key (branch, key) where wrapped is null",
];

pub(crate) const KEY_READ: &str = "select wrapped from skerry.customer_key where branch = $1 and key = $2";
pub(crate) const KEY_LAST: &str = "select max(key) from skerry.customer_key where branch = $1";
pub(crate) const KEY_HEADER: &str = "insert into skerry.customer_key (branch, key, wrapped) values ($1, 0, $2) \
     on conflict (branch, key) do nothing";
/// Those of the numbers that are erased.
pub(crate) const KEYS_GONE: &str =
    "select key from skerry.customer_key where branch = $1 and key = any($2) and wrapped is null";
pub(crate) const KEYS_ERASED: &str = "select key from skerry.customer_key where branch = $1 and key > $2 and wrapped is null \
     order by key limit 10000";
/// A page of all there is, for a copy.
pub(crate) const KEYS_ALL: &str = "select key, wrapped from skerry.customer_key where branch = $1 and key > $2 \
     order by key limit 10000";

/// A check of the owner. Where commits wait for a standby it is a commit that waits too: a server that was replaced and does not know
/// it would still read its own row.
pub(crate) fn check(guarded: bool) -> String {
    if !guarded {
        return "select 1 from skerry.journal_head where branch = $1 and epoch = $2".to_owned();
    }
    let guard = guard(guarded, 3);
    format!("update skerry.journal_head set epoch = $2 where branch = $1 and epoch = $2{guard}")
}

/// The settings under which a commit waits for a standby, compared within the statement that writes.
fn guard(guarded: bool, first: usize) -> String {
    if !guarded {
        return String::new();
    }
    format!(
        " and current_setting('synchronous_standby_names') = ${first} and current_setting('synchronous_commit') = ${} \
         and current_setting('fsync') = 'on'",
        first + 1
    )
}

/// Adds keys under numbers that nobody has: if one of them is taken, none is added.
pub(crate) fn keys_made(guarded: bool) -> String {
    format!(
        "insert into skerry.customer_key (branch, key, wrapped) select $1, made.key, made.wrapped \
         from unnest($2, $3) as made (key, wrapped) where true{}",
        guard(guarded, 4)
    )
}

/// Takes a key's wrapped bytes away, or notes that it must never be there.
pub(crate) fn key_erased(guarded: bool) -> String {
    format!(
        "insert into skerry.customer_key (branch, key, wrapped) select $1, $2, null where true{} \
         on conflict (branch, key) do update set wrapped = null",
        guard(guarded, 3)
    )
}

pub(crate) const META_READ: &str = "select name, value from skerry.meta";
pub(crate) const META_WRITE: &str =
    "insert into skerry.meta (name, value) values ($1, $2) on conflict (name) do nothing";

pub(crate) const HEAD_READ: &str = "select epoch, position, batch, hash, start_position, start_batch, start_hash, \
     span_records from skerry.journal_head where branch = $1";
pub(crate) const HEAD_FOUND: &str = "insert into skerry.journal_head \
     (branch, epoch, position, batch, hash, start_position, start_batch, start_hash, span_records) \
     values ($1, 0, 0, 0, $2, 0, 0, $2, $3) on conflict (branch) do nothing";
/// The compare-and-set that every opening begins with. What it returns was written before it, and nothing can be after it.
pub(crate) const HEAD_RAISE: &str = "update skerry.journal_head set epoch = $3 where branch = $1 and epoch = $2 \
     returning epoch, position, batch, hash, start_position, start_batch, start_hash, span_records";
pub(crate) const HEAD_RELEASE: &str = "update skerry.journal_head \
     set start_position = $3, start_batch = $4, start_hash = $5 \
     where branch = $1 and epoch = $2 and start_position <= $3";

/// Bytes of a batch's header, and of a record: where a record lies in a batch.
pub(crate) const HEADER: usize = skerry_proof::batch::HEADER_LENGTH;
pub(crate) const RECORD: usize = skerry_proof::RECORD_LENGTH;

/// The tables of one branch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tables {
    pub(crate) branch: u16,
    /// Positions in a span.
    pub(crate) span_records: u64,
}

impl Tables {
    /// The span that holds batches that begin at `position`.
    pub(crate) const fn span_of(self, position: Position) -> u64 {
        position.0 / self.span_records
    }

    /// The first position of the span after `span`.
    pub(crate) const fn end_of(self, span: u64) -> u64 {
        (span + 1).saturating_mul(self.span_records)
    }

    /// The table of a span.
    pub(crate) fn leaf(self, span: u64) -> String {
        format!("skerry.journal_b{:04}_s{span:06}", self.branch)
    }

    fn parent(self) -> String {
        format!("skerry.journal_b{:04}", self.branch)
    }

    /// Makes the table of a branch, and in it that of a span.
    pub(crate) fn make_leaf(self, span: u64) -> [String; 3] {
        let (parent, leaf, branch) = (self.parent(), self.leaf(span), self.branch);
        let (from, to) = (span * self.span_records, self.end_of(span));
        [
            format!(
                "create table if not exists {parent} partition of skerry.journal for values in ({branch}) \
                 partition by range (position)"
            ),
            format!(
                "create table if not exists {leaf} partition of {parent} for values from ({from}) to ({to})"
            ),
            format!("alter table {leaf} alter column body set storage external"),
        ]
    }

    /// Whether the table of a span is there.
    pub(crate) fn has_leaf(self, span: u64) -> String {
        format!("select 1 from {} limit 0", self.leaf(span))
    }

    pub(crate) fn drop_leaf(self, span: u64) -> String {
        format!("drop table if exists {}", self.leaf(span))
    }

    /// The one statement of an append: it moves the head if epoch, position and hash are what the owner knows, and inserts the
    /// batch only from that. With `guarded` it also compares the settings that make the commit wait for a standby.
    pub(crate) fn append(self, span: u64, guarded: bool) -> String {
        let guard = guard(guarded, 10);
        format!(
            "with moved as (update skerry.journal_head set position = $5, batch = $6 + 1, hash = $7 \
             where branch = $1 and epoch = $2 and position = $3 and batch = $6 and hash = $4{guard} returning branch) \
             insert into {} (branch, position, records, batch, hash, body) \
             select branch, $3, $8, $6, $7, $9 from moved",
            self.leaf(span)
        )
    }

    /// The last batch of a span that begins at or before a position: row by row what the reader checks.
    pub(crate) fn last_before(self, span: u64) -> String {
        format!(
            "select position, records, batch, hash, body from {} where branch = $1 and position <= $2 \
             order by position desc limit 1",
            self.leaf(span)
        )
    }

    /// The same without the batch: where it ends.
    pub(crate) fn last_place(self, span: u64) -> String {
        format!(
            "select position, records, batch, hash from {} where branch = $1 and position <= $2 \
             order by position desc limit 1",
            self.leaf(span)
        )
    }

    /// The batches of a span from one position to before another, as many as fit into so many bytes.
    pub(crate) fn following(self, span: u64) -> String {
        format!(
            "select position, records, batch, hash, body from (select position, records, batch, hash, body, \
             sum(octet_length(body)) over (order by position rows unbounded preceding) as total from {} \
             where branch = $1 and position >= $2 and position < $3 order by position limit {FOLLOWING_MAX}) found \
             where total <= $4 order by position",
            self.leaf(span)
        )
    }

    /// The header of the batch that holds a position, and the record there: two slices of the row.
    pub(crate) fn slice(self, span: u64) -> String {
        format!(
            "select position, records, substring(body from 1 for {HEADER}), \
             substring(body from ({} + {RECORD} * ($2 - position))::integer for {RECORD}) \
             from {} where branch = $1 and position <= $2 order by position desc limit 1",
            HEADER + 1,
            self.leaf(span)
        )
    }

    /// So many bytes of a batch from an offset on.
    pub(crate) fn part(self, span: u64) -> String {
        format!(
            "select substring(body from $3 for $4) from {} where branch = $1 and position = $2",
            self.leaf(span)
        )
    }
}

/// Rows that one statement looks at.
pub(crate) const FOLLOWING_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_lies_in_the_span_of_its_first_record() {
        let tables = Tables { branch: 7, span_records: 200 };
        for (position, span) in [(0, 0), (199, 0), (200, 1), (201, 1), (400, 2)] {
            assert_eq!(tables.span_of(Position(position)), span);
            assert!(position < tables.end_of(span));
        }
        assert_eq!(tables.leaf(1), "skerry.journal_b0007_s000001");
        assert!(tables.make_leaf(1)[1].ends_with("for values from (200) to (400)"));
    }
}
