//! Branches, stores and the chosen bus: rows that operators steer, and what branches report.

use skerry_directory::{BranchRow, BusRow, Mode, Name, Refusal, Room, Setting, StoreRow, Told, Who};
use tokio_postgres::types::Type;

use super::rows::{self, BRANCH_COLUMNS, Branch, signed};
use super::turn::{Broken, Given, Ruled, Turn, no, whole};

impl Turn<'_> {
    pub(super) async fn branches(&self) -> Result<Vec<Branch>, Broken> {
        let sql = format!("select {BRANCH_COLUMNS} from skerry.directory_branch order by number");
        let found = self.query(&sql, &[]).await?;
        found.iter().map(|row| whole(rows::branch(row), "branches")).collect()
    }

    pub(super) async fn branch(&self, number: u16) -> Result<Option<Branch>, Broken> {
        let sql = format!("select {BRANCH_COLUMNS} from skerry.directory_branch where number = $1");
        let found = self.query(&sql, &[(&i32::from(number), Type::INT4)]).await?;
        found.first().map(|row| whole(rows::branch(row), "branches")).transpose()
    }

    pub(super) async fn has(&self, table: &str, name: &Name) -> Result<bool, Broken> {
        let sql = format!("select 1 from skerry.{table} where name = $1");
        Ok(!self.query(&sql, &[(&name.as_str(), Type::TEXT)]).await?.is_empty())
    }

    pub(super) async fn check_row(&self, row: &BranchRow) -> Result<Option<Refusal>, Broken> {
        if !self.has("directory_store", &row.store).await? {
            return Ok(Some(Refusal::NoStore(row.store.clone())));
        }
        if let Some(node) = &row.placement
            && !self.has("directory_node", node).await?
        {
            return Ok(Some(Refusal::NoNode(node.clone())));
        }
        Ok(None)
    }

    pub(super) async fn put_branch(&mut self, row: &BranchRow) -> Ruled {
        if let Some(refusal) = self.check_row(row).await? {
            return no(refusal);
        }
        let sql = "insert into skerry.directory_branch \
                   (number, state, dedicated, weight, newcomers, gray, store, placement, since) \
                   values ($1, $2, $3, $4, $5, $6, $7, $8, 0) on conflict (number) do update set \
                   state = $2, dedicated = $3, weight = $4, newcomers = $5, gray = $6, store = $7, placement = $8";
        let given: [Given<'_>; 8] = [
            (&i32::from(row.number), Type::INT4),
            (&rows::state(row.state), Type::INT4),
            (&(row.mode == Mode::Dedicated), Type::BOOL),
            (&i32::from(row.weight), Type::INT4),
            (&row.newcomers, Type::BOOL),
            (&row.gray, Type::BOOL),
            (&row.store.as_str(), Type::TEXT),
            (&row.placement.as_ref().map(Name::as_str), Type::TEXT),
        ];
        self.write(sql, &given).await?;
        self.want_followers(row).await?;
        self.another_map();
        Ok(Told::Done)
    }

    async fn want_followers(&self, row: &BranchRow) -> Result<(), Broken> {
        let number: Given<'_> = (&i32::from(row.number), Type::INT4);
        if row.followers == 0 {
            let sql = "delete from skerry.directory_wanted where branch = $1";
            return self.write(sql, &[number]).await.map(drop);
        }
        let sql = "insert into skerry.directory_wanted (branch, followers) values ($1, $2) \
                   on conflict (branch) do update set followers = $2";
        self.write(sql, &[number, (&i32::from(row.followers), Type::INT4)]).await.map(drop)
    }

    pub(super) async fn add_branch(&mut self, row: BranchRow) -> Ruled {
        if self.branch(row.number).await?.is_some() {
            return Ok(Told::Done);
        }
        self.put_branch(&row).await
    }

    pub(super) async fn steer(&mut self, number: u16, setting: &Setting) -> Ruled {
        let Some(before) = self.branch(number).await? else { return no(Refusal::NoBranch(number)) };
        let after = before.row.clone().with(setting);
        if before.row == after { Ok(Told::Done) } else { self.put_branch(&after).await }
    }

    pub(super) async fn report(&mut self, rooms: &[(u16, Option<Room>)]) -> Ruled {
        for (branch, room) in rooms {
            let sql = "update skerry.directory_branch set customers = $2, capacity = $3, \
                       since = case when customers is not distinct from $2 then since else 0 end where number = $1";
            let given: [Given<'_>; 3] = [
                (&i32::from(*branch), Type::INT4),
                (&room.map(|room| i64::from(room.customers)), Type::INT8),
                (&room.map(|room| i64::from(room.capacity)), Type::INT8),
            ];
            self.write(sql, &given).await?;
        }
        Ok(Told::Done)
    }

    pub(super) async fn put_store(&mut self, row: &StoreRow) -> Ruled {
        let sql = "insert into skerry.directory_store as old (name, kind, place) values ($1, $2, $3) \
                   on conflict (name) do update set kind = $2, place = $3 where old.kind <> $2 or old.place <> $3";
        let given: [Given<'_>; 3] = [
            (&row.name.as_str(), Type::TEXT),
            (&row.kind.as_str(), Type::TEXT),
            (&row.place.as_str(), Type::TEXT),
        ];
        if self.write(sql, &given).await? > 0 {
            self.another_map();
        }
        Ok(Told::Done)
    }

    pub(super) async fn drop_store(&mut self, name: Name) -> Ruled {
        if let Some(user) = self.branches().await?.iter().find(|branch| branch.row.store == name) {
            return no(Refusal::StoreInUse { store: name, branch: user.row.number });
        }
        let sql = "delete from skerry.directory_store where name = $1";
        if self.write(sql, &[(&name.as_str(), Type::TEXT)]).await? > 0 {
            self.another_map();
        }
        Ok(Told::Done)
    }

    pub(super) async fn bus(&self) -> Result<Option<BusRow>, Broken> {
        let found =
            self.query("select name, chosen_by, at_us from skerry.directory_bus where one = 1", &[]).await?;
        found.first().map(|row| whole(rows::bus(row), "bus")).transpose()
    }

    pub(super) async fn use_bus(&mut self, bus: &Name, by: &Who) -> Ruled {
        let sql = "insert into skerry.directory_bus as old (one, name, chosen_by, at_us) values (1, $1, $2, $3) \
                   on conflict (one) do update set name = $1, chosen_by = $2, at_us = $3 where old.name <> $1";
        let given: [Given<'_>; 3] =
            [(&bus.as_str(), Type::TEXT), (&by.as_str(), Type::TEXT), (&signed(self.now_us), Type::INT8)];
        if self.write(sql, &given).await? > 0 {
            self.another_map();
        }
        Ok(Told::Done)
    }
}

pub(super) fn find(branches: &[Branch], number: u16) -> Option<&Branch> {
    branches.iter().find(|branch| branch.row.number == number)
}
