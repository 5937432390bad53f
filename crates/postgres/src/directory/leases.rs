//! Nodes and leases, on the server's clock.

use std::collections::BTreeMap;

use skerry_directory::{BranchState, DrainRow, Follow, Holder, Name, NodeRow, Refusal, Told, Who};
use tokio_postgres::types::Type;

use super::branches::find;
use super::rows::{self, Branch, signed};
use super::turn::{Broken, Given, Ruled, Turn, no, whole};

impl Turn<'_> {
    pub(super) async fn beat(&mut self, row: &NodeRow, follows: &[Follow]) -> Ruled {
        let sql = "select name, address, capacity, version, draining, seen_us from skerry.directory_node where name = $1";
        let found = self.query(sql, &[(&row.name.as_str(), Type::TEXT)]).await?;
        let known =
            found.first().map(|row| whole(rows::node(row), "nodes")).transpose()?.map(|known| known.0);
        let sql = "insert into skerry.directory_node (name, address, capacity, version, draining, seen_us) \
                   values ($1, $2, $3, $4, $5, $6) on conflict (name) do update set \
                   address = $2, capacity = $3, version = $4, draining = $5, seen_us = $6";
        let given: [Given<'_>; 6] = [
            (&row.name.as_str(), Type::TEXT),
            (&row.address.as_str(), Type::TEXT),
            (&i32::from(row.capacity), Type::INT4),
            (&row.version.as_str(), Type::TEXT),
            (&row.draining, Type::BOOL),
            (&signed(self.now_us), Type::INT8),
        ];
        self.write(sql, &given).await?;
        self.put_follows(&row.name, follows).await?;
        if known.as_ref() != Some(row) {
            self.another_map();
        }
        Ok(Told::Done)
    }

    async fn put_follows(&self, node: &Name, follows: &[Follow]) -> Result<(), Broken> {
        if follows.is_empty() {
            return self.no_row_of("directory_follows", node).await.map(drop);
        }
        let sql = "insert into skerry.directory_follows (node, branches, behind) values ($1, $2, $3) \
                   on conflict (node) do update set branches = $2, behind = $3";
        let branches: Vec<i32> = follows.iter().map(|follow| i32::from(follow.branch)).collect();
        let behind: Vec<Option<i64>> = follows.iter().map(|follow| follow.behind.map(signed)).collect();
        let given: [Given<'_>; 3] =
            [(&node.as_str(), Type::TEXT), (&branches, Type::INT4_ARRAY), (&behind, Type::INT8_ARRAY)];
        self.write(sql, &given).await.map(drop)
    }

    pub(super) async fn follows(&self) -> Result<BTreeMap<Name, Vec<Follow>>, Broken> {
        let found = self.query("select node, branches, behind from skerry.directory_follows", &[]).await?;
        found.iter().map(|row| whole(rows::follows(row), "follows")).collect()
    }

    pub(super) async fn drains(&self) -> Result<BTreeMap<Name, DrainRow>, Broken> {
        let found = self.query("select node, said_by, at_us from skerry.directory_drain", &[]).await?;
        found.iter().map(|row| whole(rows::drain(row), "drains")).collect()
    }

    pub(super) async fn drain(&mut self, node: Name, by: Option<&Who>) -> Ruled {
        if !self.has("directory_node", &node).await? {
            return no(Refusal::NoNode(node));
        }
        let changed = match by {
            Some(by) => {
                let sql = "insert into skerry.directory_drain (node, said_by, at_us) values ($1, $2, $3) \
                           on conflict (node) do nothing";
                let given: [Given<'_>; 3] = [
                    (&node.as_str(), Type::TEXT),
                    (&by.as_str(), Type::TEXT),
                    (&signed(self.now_us), Type::INT8),
                ];
                self.write(sql, &given).await?
            }
            None => self.no_row_of("directory_drain", &node).await?,
        };
        if changed > 0 {
            self.another_map();
        }
        Ok(Told::Done)
    }

    async fn no_row_of(&self, table: &str, node: &Name) -> Result<u64, Broken> {
        let sql = format!("delete from skerry.{table} where node = $1");
        self.write(&sql, &[(&node.as_str(), Type::TEXT)]).await
    }

    pub(super) async fn drop_node(&mut self, name: Name) -> Ruled {
        let holds = |branch: &&Branch| {
            branch.lease.as_ref().is_some_and(|lease| lease.node == name && lease.until_us > self.now_us)
        };
        if let Some(held) = self.branches().await?.iter().find(holds) {
            return no(Refusal::NodeInUse { node: name, branch: held.row.number });
        }
        for table in ["directory_drain", "directory_follows"] {
            self.no_row_of(table, &name).await?;
        }
        let sql = "delete from skerry.directory_node where name = $1";
        if self.write(sql, &[(&name.as_str(), Type::TEXT)]).await? > 0 {
            self.another_map();
        }
        Ok(Told::Done)
    }

    /// The number of the grant.
    pub(super) async fn grant(
        &mut self,
        branch: &Branch,
        holder: &Holder,
        lease_us: u64,
    ) -> Result<Result<u64, Refusal>, Broken> {
        let number = branch.row.number;
        if branch.row.state == BranchState::Closed {
            return Ok(Err(Refusal::NotOpen(number)));
        }
        let (mut own, mut until) = (None, self.now_us.saturating_add(lease_us));
        if let Some(lease) = &branch.lease {
            if is_own(lease, holder) {
                (own, until) = (Some(lease.grant), until.max(lease.until_us));
            } else if lease.until_us > self.now_us {
                let other = Holder { node: lease.node.clone(), incarnation: lease.incarnation };
                return Ok(Err(Refusal::HeldBy { holder: other, left_us: lease.until_us - self.now_us }));
            }
        }
        let left_us = self.leases_over_us.saturating_sub(self.now_us);
        if branch.lease.is_none() && left_us > 0 {
            return Ok(Err(Refusal::TooSoon { left_us }));
        }
        if own.is_none() {
            self.another_map();
        }
        let grant = own.unwrap_or(self.version);
        let sql = "update skerry.directory_branch set holder = $2, incarnation = $3, grant_number = $4, \
                   lease_until_us = $5 where number = $1";
        let given: [Given<'_>; 5] = [
            (&i32::from(number), Type::INT4),
            (&holder.node.as_str(), Type::TEXT),
            (&signed(holder.incarnation), Type::INT8),
            (&signed(grant), Type::INT8),
            (&signed(until), Type::INT8),
        ];
        self.write(sql, &given).await?;
        Ok(Ok(grant))
    }

    pub(super) async fn acquire(&mut self, number: u16, holder: &Holder, lease_us: u64) -> Ruled {
        if !self.has("directory_node", &holder.node).await? {
            return no(Refusal::NoNode(holder.node.clone()));
        }
        let Some(branch) = self.branch(number).await? else { return no(Refusal::NoBranch(number)) };
        match self.grant(&branch, holder, lease_us).await? {
            Ok(grant) => Ok(Told::Granted { grant, lease_us, wall_us: self.now_us }),
            Err(refusal) => no(refusal),
        }
    }

    pub(super) async fn renew(&mut self, numbers: &[u16], holder: &Holder, lease_us: u64) -> Ruled {
        let (mut kept, mut lost) = (Vec::new(), Vec::new());
        let branches = self.branches().await?;
        for number in numbers {
            let own = |branch: &&Branch| branch.lease.as_ref().is_some_and(|lease| is_own(lease, holder));
            let granted = match find(&branches, *number).filter(own) {
                Some(branch) => self.grant(branch, holder, lease_us).await?.is_ok(),
                None => false,
            };
            if granted { kept.push(*number) } else { lost.push(*number) }
        }
        Ok(Told::Renewed { kept, lost, lease_us, wall_us: self.now_us })
    }

    pub(super) async fn give_up(&mut self, leases: &[(u16, u64)], holder: &Holder) -> Ruled {
        for (number, grant) in leases {
            let sql = "update skerry.directory_branch set holder = null, incarnation = null, grant_number = null, \
                       lease_until_us = null where number = $1 and holder = $2 and incarnation = $3 and grant_number = $4";
            let given: [Given<'_>; 4] = [
                (&i32::from(*number), Type::INT4),
                (&holder.node.as_str(), Type::TEXT),
                (&signed(holder.incarnation), Type::INT8),
                (&signed(*grant), Type::INT8),
            ];
            if self.write(sql, &given).await? > 0 {
                self.another_map();
            }
        }
        Ok(Told::Done)
    }
}

fn is_own(lease: &rows::Lease, holder: &Holder) -> bool {
    lease.node == holder.node && lease.incarnation == holder.incarnation
}
