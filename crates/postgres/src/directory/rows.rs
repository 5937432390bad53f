//! The directory's tables, and reading their rows. A row that cannot be what was written ends the transaction.

use skerry_directory::{
    Alias, AliasKind, BranchRow, BranchState, BusRow, CustomerRef, DrainRow, Follow, Mode, Name, NodeRow,
    Room, StoreRow, Where, Who,
};
use tokio_postgres::Row;

/// What is made in a database that has none of it. The state's row says that customers are to be taken in: whoever lost these
/// tables may have lost claims, which run for two minutes.
pub(super) const TABLES: [&str; 12] = [
    "create schema if not exists skerry",
    "create table if not exists skerry.directory_state (one integer primary key, format integer not null, bank text not null, \
     complete boolean not null, rebuild bigint not null, version bigint not null, claims bigint not null, \
     claims_over_us bigint not null, leases_over_us bigint not null)",
    "create table if not exists skerry.directory_store (name text primary key, kind text not null, place text not null)",
    "create table if not exists skerry.directory_node (name text primary key, address text not null, \
     capacity integer not null, version text not null, draining boolean not null, seen_us bigint not null)",
    "create table if not exists skerry.directory_branch (number integer primary key, state integer not null, \
     dedicated boolean not null, weight integer not null, newcomers boolean not null, gray boolean not null, \
     store text not null, placement text, customers bigint, capacity bigint, since bigint not null, \
     holder text, incarnation bigint, grant_number bigint, lease_until_us bigint)",
    "create table if not exists skerry.directory_alias (line integer not null, kind integer not null, key bytea not null, \
     branch integer not null, serial bigint, first_kind integer not null, first_key bytea not null, \
     claim bigint not null, until_us bigint not null, primary key (line, kind, key))",
    // Those reserved are counted, and given back together, among millions that are not.
    "create index if not exists directory_alias_reserved on skerry.directory_alias (line, first_kind, first_key) \
     where serial is null",
    "create table if not exists skerry.directory_moved (branch integer not null, serial bigint not null, \
     lives_in integer not null, primary key (branch, serial))",
    "create table if not exists skerry.directory_drain (node text primary key, said_by text not null, at_us bigint not null)",
    "create table if not exists skerry.directory_bus (one integer primary key, name text not null, \
     chosen_by text not null, at_us bigint not null)",
    // Beside the branch's row, so that releases that know of no followers go on with theirs: without a row here none are wanted.
    "create table if not exists skerry.directory_wanted (branch integer primary key, followers integer not null)",
    "create table if not exists skerry.directory_follows (node text primary key, branches integer[] not null, \
     behind bigint[] not null)",
];

/// Of the tables above.
pub(super) const FORMAT: i32 = 1;
/// Versions and claims begin with the microsecond, in steps of which there is room for 256 changes: tables that are made again
/// go on above those that were lost, however soon.
pub(super) const STATE_FOUNDED: &str = "insert into skerry.directory_state select 1, 1, $1, false, 0, \
     (extract(epoch from clock_timestamp()) * 1000000)::bigint << 8, (extract(epoch from clock_timestamp()) * 1000000)::bigint << 8, 0, 0 \
     on conflict (one) do nothing";
pub(super) const STATE_MADE_AGAIN: &str = "insert into skerry.directory_state select 1, 1, $1, false, 0, \
     (extract(epoch from clock_timestamp()) * 1000000)::bigint << 8, (extract(epoch from clock_timestamp()) * 1000000)::bigint << 8, \
     (extract(epoch from clock_timestamp()) * 1000000)::bigint + 120000000, \
     (extract(epoch from clock_timestamp()) * 1000000)::bigint + 60000000 on conflict (one) do nothing";
pub(super) const WHOSE: &str = "select format, bank from skerry.directory_state where one = 1";

pub(super) const NOW: &str = "select (extract(epoch from clock_timestamp()) * 1000000)::bigint";
pub(super) const STATE: &str = "select complete, rebuild, version, claims, claims_over_us, leases_over_us from skerry.directory_state where one = 1";
pub(super) const STATE_WRITE: &str = "update skerry.directory_state set complete = $1, rebuild = $2, version = $3, \
     claims = $4, claims_over_us = $5 where one = 1";

pub(super) const BRANCH_COLUMNS: &str = "number, state, dedicated, weight, newcomers, gray, store, placement, \
     customers, capacity, since, holder, incarnation, grant_number, lease_until_us, \
     (select followers from skerry.directory_wanted as wanted where wanted.branch = number)";

/// A branch with what is known of it for a while.
pub(super) struct Branch {
    pub(super) row: BranchRow,
    pub(super) room: Option<Room>,
    pub(super) since: u32,
    pub(super) lease: Option<Lease>,
}

pub(super) struct Lease {
    pub(super) node: Name,
    pub(super) incarnation: u64,
    pub(super) grant: u64,
    pub(super) until_us: u64,
}

/// A row of aliases.
pub(super) struct Known {
    pub(super) branch: u16,
    pub(super) serial: Option<u32>,
    pub(super) first: Alias,
    pub(super) claim: u64,
    pub(super) until_us: u64,
}

impl Known {
    pub(super) fn customer(&self) -> Option<CustomerRef> {
        self.serial.map(|serial| CustomerRef { branch: self.branch, serial })
    }
}

/// As the database counts. Nothing here comes near its sign.
pub(super) fn signed(value: u64) -> i64 {
    i64::from_ne_bytes(value.to_ne_bytes())
}

pub(super) fn unsigned(value: i64) -> u64 {
    u64::from_ne_bytes(value.to_ne_bytes())
}

fn narrow<T: TryFrom<i64>>(value: i64) -> Option<T> {
    T::try_from(value).ok()
}

pub(super) fn branch(row: &Row) -> Option<Branch> {
    let state = match row.try_get::<_, i32>(1).ok()? {
        0 => BranchState::Founding,
        1 => BranchState::Open,
        2 => BranchState::Closed,
        _ => return None,
    };
    let placement: Option<String> = row.try_get(7).ok()?;
    let (customers, capacity): (Option<i64>, Option<i64>) = (row.try_get(8).ok()?, row.try_get(9).ok()?);
    let room = match (customers, capacity) {
        (Some(customers), Some(capacity)) => {
            Some(Room { customers: narrow(customers)?, capacity: narrow(capacity)? })
        }
        _ => None,
    };
    let followers: Option<i32> = row.try_get(15).ok()?;
    let holder: Option<String> = row.try_get(11).ok()?;
    let lease = match holder {
        Some(holder) => Some(Lease {
            node: Name::new(&holder).ok()?,
            incarnation: unsigned(row.try_get(12).ok()?),
            grant: unsigned(row.try_get(13).ok()?),
            until_us: unsigned(row.try_get(14).ok()?),
        }),
        None => None,
    };
    Some(Branch {
        row: BranchRow {
            number: u16::try_from(row.try_get::<_, i32>(0).ok()?).ok()?,
            state,
            mode: if row.try_get(2).ok()? { Mode::Dedicated } else { Mode::Scattered },
            weight: u16::try_from(row.try_get::<_, i32>(3).ok()?).ok()?,
            newcomers: row.try_get(4).ok()?,
            gray: row.try_get(5).ok()?,
            store: Name::new(row.try_get(6).ok()?).ok()?,
            placement: placement.map(|name| Name::new(&name)).transpose().ok()?,
            followers: u8::try_from(followers.unwrap_or(0)).ok()?,
        },
        room,
        since: narrow(row.try_get(10).ok()?)?,
        lease,
    })
}

pub(super) const fn state(state: BranchState) -> i32 {
    match state {
        BranchState::Founding => 0,
        BranchState::Open => 1,
        BranchState::Closed => 2,
    }
}

/// `name, kind, place`
pub(super) fn store(row: &Row) -> Option<StoreRow> {
    let (name, kind, place) = (row.try_get(0).ok()?, row.try_get(1).ok()?, row.try_get(2).ok()?);
    Some(StoreRow {
        name: Name::new(name).ok()?,
        kind: Name::new(kind).ok()?,
        place: Where::new(place).ok()?,
    })
}

/// `name, chosen_by, at_us`
pub(super) fn bus(row: &Row) -> Option<BusRow> {
    let (name, by): (&str, &str) = (row.try_get(0).ok()?, row.try_get(1).ok()?);
    let at_us = unsigned(row.try_get(2).ok()?);
    Some(BusRow { name: Name::new(name).ok()?, by: Who::new(by).ok()?, at_us })
}

/// `node, said_by, at_us`
pub(super) fn drain(row: &Row) -> Option<(Name, DrainRow)> {
    let (node, by): (&str, &str) = (row.try_get(0).ok()?, row.try_get(1).ok()?);
    let at_us = unsigned(row.try_get(2).ok()?);
    Some((Name::new(node).ok()?, DrainRow { by: Who::new(by).ok()?, at_us }))
}

/// `node, branches, behind`
pub(super) fn follows(row: &Row) -> Option<(Name, Vec<Follow>)> {
    let (branches, behind): (Vec<i32>, Vec<Option<i64>>) = (row.try_get(1).ok()?, row.try_get(2).ok()?);
    let follow = |(branch, behind): (i32, Option<i64>)| {
        Some(Follow { branch: u16::try_from(branch).ok()?, behind: behind.map(unsigned) })
    };
    let follows = branches.into_iter().zip(behind).map(follow).collect::<Option<_>>()?;
    Some((Name::new(row.try_get(0).ok()?).ok()?, follows))
}

/// `name, address, capacity, version, draining, seen_us`
pub(super) fn node(row: &Row) -> Option<(NodeRow, u64)> {
    let node = NodeRow {
        name: Name::new(row.try_get(0).ok()?).ok()?,
        address: Where::new(row.try_get(1).ok()?).ok()?,
        capacity: u16::try_from(row.try_get::<_, i32>(2).ok()?).ok()?,
        version: Where::new(row.try_get(3).ok()?).ok()?,
        draining: row.try_get(4).ok()?,
    };
    Some((node, unsigned(row.try_get(5).ok()?)))
}

/// `branch, serial, first_kind, first_key, claim, until_us`, of a line.
pub(super) fn known(line: u8, row: &Row) -> Option<Known> {
    let kind = u8::try_from(row.try_get::<_, i32>(2).ok()?).ok()?;
    let key: &[u8] = row.try_get(3).ok()?;
    let serial: Option<i64> = row.try_get(1).ok()?;
    Some(Known {
        branch: u16::try_from(row.try_get::<_, i32>(0).ok()?).ok()?,
        serial: match serial {
            Some(serial) => Some(narrow(serial)?),
            None => None,
        },
        first: Alias { line, kind: AliasKind::of(kind)?, key: key.try_into().ok()? },
        claim: unsigned(row.try_get(4).ok()?),
        until_us: unsigned(row.try_get(5).ok()?),
    })
}
