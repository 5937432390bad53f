//! Aliases: where they lead, reserving, confirming, taking all customers in again.

use std::collections::BTreeMap;

use skerry_directory::assign::{Placed, choose, takes};
use skerry_directory::{Alias, BranchState, Choice, CustomerRef, Rebuild, Refusal, Reserve, Told};
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::branches::find;
use super::rows::{self, Branch, Known, signed};
use super::turn::{Broken, Given, Ruled, Turn, no, whole};

/// Reservations of one branch and all others: more than this are refused.
const PENDING_MAX: usize = 100_000;

/// What the table says of an alias.
pub(super) async fn known(client: &Client, alias: &Alias) -> Result<Option<Known>, Broken> {
    let sql = "select branch, serial, first_kind, first_key, claim, until_us from skerry.directory_alias \
               where line = $1 and kind = $2 and key = $3";
    let found = client.query_typed(sql, &key_of(&key(alias))).await?;
    found.first().map(|row| whole(rows::known(alias.line, row), "aliases")).transpose()
}

/// The branch that a customer was moved to.
pub(super) async fn moved(client: &Client, customer: CustomerRef) -> Result<Option<u16>, Broken> {
    let sql = "select lives_in from skerry.directory_moved where branch = $1 and serial = $2";
    let given: [Given<'_>; 2] =
        [(&i32::from(customer.branch), Type::INT4), (&i64::from(customer.serial), Type::INT8)];
    let found = client.query_typed(sql, &given).await?;
    let lives_in: Option<i32> = found.first().map(|row| row.try_get(0)).transpose()?;
    Ok(lives_in.and_then(|branch| u16::try_from(branch).ok()))
}

impl Turn<'_> {
    pub(super) async fn known(&self, alias: &Alias) -> Result<Option<Known>, Broken> {
        known(self.client, alias).await
    }

    pub(super) fn left_us(&self, known: &Known) -> u64 {
        known.until_us.saturating_sub(self.now_us)
    }

    pub(super) async fn put(
        &self,
        alias: &Alias,
        branch: u16,
        serial: Option<u32>,
        claim: (&Alias, u64, u64),
    ) -> Result<(), Broken> {
        let sql = "insert into skerry.directory_alias (line, kind, key, branch, serial, first_kind, first_key, claim, until_us) \
                   values ($1, $2, $3, $4, $5, $6, $7, $8, $9) on conflict (line, kind, key) do update set \
                   branch = $4, serial = $5, first_kind = $6, first_key = $7, claim = $8, until_us = $9";
        let (first, number, until_us) = claim;
        let given: [Given<'_>; 9] = [
            (&i32::from(alias.line), Type::INT4),
            (&i32::from(alias.kind.number()), Type::INT4),
            (&&alias.key[..], Type::BYTEA),
            (&i32::from(branch), Type::INT4),
            (&serial.map(i64::from), Type::INT8),
            (&i32::from(first.kind.number()), Type::INT4),
            (&&first.key[..], Type::BYTEA),
            (&signed(number), Type::INT8),
            (&signed(until_us), Type::INT8),
        ];
        self.write(sql, &given).await.map(drop)
    }

    pub(super) async fn drop_alias(&self, alias: &Alias) -> Result<(), Broken> {
        let sql = "delete from skerry.directory_alias where line = $1 and kind = $2 and key = $3";
        self.write(sql, &key_of(&key(alias))).await.map(drop)
    }

    pub(super) async fn reserve(&mut self, wish: &Reserve) -> Ruled {
        if !self.complete {
            return no(Refusal::Rebuilding);
        }
        let mut known = Vec::with_capacity(wish.aliases.len());
        for alias in &wish.aliases {
            known.push(self.known(alias).await?);
        }
        for (alias, known) in wish.aliases.iter().zip(&known) {
            if let Some(customer) = known.as_ref().and_then(Known::customer) {
                return Ok(Told::Taken { alias: *alias, customer });
            }
        }
        let Some(first) = wish.aliases.first().copied() else { return no(Refusal::Invalid("no alias")) };
        let branches = self.branches().await?;
        for (alias, known) in wish.aliases.iter().zip(&known) {
            let Some(known) = known else { continue };
            let left = self.left_us(known);
            if known.first == first {
                if left > 0 || is_wanted(&branches, known.branch, &wish.choice) {
                    continue;
                }
            } else if left > 0 {
                return Ok(Told::Held { alias: *alias, branch: known.branch, retry_after_us: left });
            }
            let (branch, claim) = (known.branch, known.claim);
            return Ok(Told::Unsettled { alias: *alias, branch, first: known.first, claim });
        }
        let home = known.first().and_then(Option::as_ref).map(|known| known.branch);
        let Some(branch) = home.or_else(|| chosen(&branches, &wish.choice)) else {
            return no(why_none(&branches, &wish.choice));
        };
        if home.is_none() && self.pending().await? + wish.aliases.len() > PENDING_MAX {
            return no(Refusal::TooMany(PENDING_MAX));
        }
        self.claims += 1;
        self.changed = true;
        let until = self.now_us.saturating_add(wish.within_us);
        for (alias, known) in wish.aliases.iter().zip(&known) {
            let until = known.as_ref().map_or(until, |known| known.until_us.max(until));
            self.put(alias, branch, None, (&first, self.claims, until)).await?;
        }
        if home.is_none() {
            let placed = "update skerry.directory_branch set since = since + 1 where number = $1";
            self.write(placed, &[(&i32::from(branch), Type::INT4)]).await?;
        }
        Ok(Told::Reserved { branch, joined: home.is_some() })
    }

    pub(super) async fn pending(&self) -> Result<usize, Broken> {
        let sql = "select count(*) from (select 1 from skerry.directory_alias where serial is null limit 100001) as pending";
        let found = self.query(sql, &[]).await?;
        let count: i64 = found.first().map_or(Ok(0), |row| row.try_get(0))?;
        Ok(usize::try_from(count).unwrap_or(PENDING_MAX))
    }

    pub(super) async fn confirm(&mut self, aliases: &[Alias], customer: CustomerRef) -> Ruled {
        let mut new = Vec::new();
        for alias in aliases {
            let known = self.known(alias).await?;
            if let Some(branch) = known.as_ref().map(|known| known.branch).filter(|b| *b != customer.branch) {
                return no(Refusal::Elsewhere { alias: *alias, branch });
            }
            if known.and_then(|known| known.customer()) != Some(customer) {
                new.push(*alias);
            }
        }
        for alias in new {
            self.put(&alias, customer.branch, Some(customer.serial), (&alias, 0, 0)).await?;
        }
        Ok(Told::Done)
    }

    pub(super) async fn release(&mut self, alias: &Alias, claim: u64) -> Ruled {
        match self.known(alias).await? {
            None => Ok(Told::Done),
            Some(known) if known.serial.is_none() && known.claim == claim && self.left_us(&known) == 0 => {
                // What was reserved under it goes with it: no claim on those is younger.
                let under = "delete from skerry.directory_alias where line = $1 and first_kind = $2 and first_key = $3 \
                             and serial is null";
                self.write(under, &key_of(&key(alias))).await?;
                self.drop_alias(alias).await?;
                Ok(Told::Done)
            }
            Some(_) => no(Refusal::Claimed(*alias)),
        }
    }

    pub(super) async fn forget(&mut self, aliases: &[Alias], customer: CustomerRef) -> Ruled {
        for alias in aliases {
            if self.known(alias).await?.and_then(|known| known.customer()) == Some(customer) {
                self.drop_alias(alias).await?;
            }
        }
        Ok(Told::Done)
    }

    pub(super) async fn put_moved(&mut self, customer: CustomerRef, branch: Option<u16>) -> Ruled {
        let branches = self.branches().await?;
        if let Some(missing) = branch.filter(|number| find(&branches, *number).is_none()) {
            return no(Refusal::NoBranch(missing));
        }
        let key: [Given<'_>; 2] =
            [(&i32::from(customer.branch), Type::INT4), (&i64::from(customer.serial), Type::INT8)];
        self.write("delete from skerry.directory_moved where branch = $1 and serial = $2", &key).await?;
        if let Some(branch) = branch.filter(|branch| *branch != customer.branch) {
            let [one, two] = key;
            let sql = "insert into skerry.directory_moved (branch, serial, lives_in) values ($1, $2, $3)";
            self.write(sql, &[one, two, (&i32::from(branch), Type::INT4)]).await?;
        }
        Ok(Told::Done)
    }

    pub(super) async fn rebuild(&mut self, step: Rebuild) -> Ruled {
        match step {
            Rebuild::Begin => {
                self.write("delete from skerry.directory_alias where serial is not null", &[]).await?;
                self.another_map();
                (self.complete, self.rebuild) = (false, self.version);
                let scan_after_us = self.claims_over_us.saturating_sub(self.now_us);
                Ok(Told::Rebuilding { number: self.rebuild, scan_after_us })
            }
            Rebuild::End { number } if self.complete && number == self.rebuild => Ok(Told::Done),
            Rebuild::Record { number, .. } | Rebuild::End { number }
                if self.complete || number != self.rebuild =>
            {
                no(Refusal::NotRebuilding)
            }
            Rebuild::Record { list, .. } => self.record(&list).await,
            Rebuild::End { .. } => {
                self.another_map();
                self.complete = true;
                Ok(Told::Done)
            }
        }
    }

    /// All in one statement; those that another branch has are found by what it left alone.
    pub(super) async fn record(&mut self, list: &[(Alias, CustomerRef)]) -> Ruled {
        let mut elsewhere = Vec::new();
        let sql = "insert into skerry.directory_alias as old (line, kind, key, branch, serial, first_kind, first_key, claim, until_us) \
                   select line, kind, key, branch, serial, kind, key, 0, 0 from unnest($1::int4[], $2::int4[], $3::bytea[], $4::int4[], $5::int8[]) \
                   as new (line, kind, key, branch, serial) on conflict (line, kind, key) do update set \
                   branch = excluded.branch, serial = excluded.serial, claim = 0, until_us = 0 \
                   where old.serial is null or old.branch = excluded.branch";
        // One statement may touch a row once: of two with the same alias the first is taken in, the other one found below.
        let mut first = BTreeMap::new();
        for (alias, customer) in list {
            first.entry(key(alias)).or_insert((alias, customer));
        }
        let once: Vec<_> = first.into_values().collect();
        let lines: Vec<i32> = once.iter().map(|(alias, _)| i32::from(alias.line)).collect();
        let kinds: Vec<i32> = once.iter().map(|(alias, _)| i32::from(alias.kind.number())).collect();
        let keys: Vec<&[u8]> = once.iter().map(|(alias, _)| &alias.key[..]).collect();
        let branches: Vec<i32> = once.iter().map(|(_, customer)| i32::from(customer.branch)).collect();
        let serials: Vec<i64> = once.iter().map(|(_, customer)| i64::from(customer.serial)).collect();
        let given: [Given<'_>; 5] = [
            (&lines, Type::INT4_ARRAY),
            (&kinds, Type::INT4_ARRAY),
            (&keys, Type::BYTEA_ARRAY),
            (&branches, Type::INT4_ARRAY),
            (&serials, Type::INT8_ARRAY),
        ];
        let written = self.write(sql, &given).await?;
        if written != u64::try_from(list.len()).unwrap_or(u64::MAX) {
            for (alias, customer) in list {
                let known = self.known(alias).await?.and_then(|known| known.customer());
                elsewhere.extend(
                    known.filter(|known| known.branch != customer.branch).map(|known| (*alias, known)),
                );
            }
        }
        Ok(Told::Recorded { elsewhere })
    }
}

/// Line, kind and key, as the database counts.
type Key<'k> = (i32, i32, &'k [u8]);

fn key(alias: &Alias) -> Key<'_> {
    (i32::from(alias.line), i32::from(alias.kind.number()), &alias.key)
}

fn key_of<'k>(key: &'k Key<'k>) -> [Given<'k>; 3] {
    [(&key.0, Type::INT4), (&key.1, Type::INT4), (&key.2, Type::BYTEA)]
}

fn is_wanted(branches: &[Branch], number: u16, choice: &Choice) -> bool {
    let may = find(branches, number).is_some_and(|branch| takes(&branch.row));
    match choice {
        Choice::In(wanted) => *wanted == number,
        Choice::Among(numbers) => may && numbers.contains(&number),
        Choice::Any => may,
    }
}

fn chosen(branches: &[Branch], choice: &Choice) -> Option<u16> {
    if let Choice::In(number) = choice {
        return find(branches, *number)
            .filter(|branch| branch.row.state == BranchState::Open)
            .map(|_| *number);
    }
    let placed = |branch: &Branch| Placed { room: branch.room, since: branch.since };
    choose(branches.iter().map(|branch| (&branch.row, placed(branch))), choice)
}

fn why_none(branches: &[Branch], choice: &Choice) -> Refusal {
    match choice {
        Choice::In(number) if find(branches, *number).is_some() => Refusal::NotOpen(*number),
        Choice::In(number) => Refusal::NoBranch(*number),
        Choice::Among(_) | Choice::Any => Refusal::NoRoom,
    }
}
