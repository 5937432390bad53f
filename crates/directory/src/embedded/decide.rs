//! What an ask comes to: looked up, decided, and laid down as records.

use skerry_journal::Storage;

use super::Open;
use super::record::Record;
use super::state::{Broken, Heard, Lease, Pending, confirmed};
use crate::assign::{choose, takes};
use crate::rows::{
    Alias, BranchEntry, BranchRow, BranchState, BusRow, CustomerRef, DrainRow, Follow, Holder, LeaseView,
    Map, Name, NodeEntry, NodeRow, Room, Setting, StoreRow, Who,
};
use crate::seam::{Ask, Choice, Finding, Now, Rebuild, Refusal, Reserve, Told};

/// Reservations that may be open at once.
const PENDING_MAX: usize = 100_000;

type Ruled = Result<Told, Broken>;

const fn no(refusal: Refusal) -> Ruled {
    Ok(Told::No(refusal))
}

impl<S: Storage> Open<S> {
    pub(super) fn handle(&mut self, ask: Ask, now: Now) -> Ruled {
        if let Err(refusal) = ask.check() {
            return no(refusal);
        }
        match ask {
            Ask::Map { since } if since == self.state.version() => Ok(Told::Unchanged),
            Ask::Map { .. } => Ok(Told::Map(Box::new(self.map(now)))),
            Ask::Find(alias) => self.find(&alias).map(Told::Found),
            Ask::FindMoved(customer) => Ok(Told::Moved(self.state.moved.get(&customer).copied())),
            Ask::Reserve(wish) => self.reserve(&wish, now),
            Ask::Confirm { aliases, customer } => self.confirm(&aliases, customer),
            Ask::Release { alias, claim } => self.release(alias, claim, now),
            Ask::Forget { aliases, customer } => self.forget(&aliases, customer),
            Ask::PutMoved { customer, branch } => self.put_moved(customer, branch),
            Ask::Rebuild(step) => self.rebuild(step, now),
            Ask::AddBranch(row) => self.add_branch(row),
            Ask::Steer { branch, setting } => self.steer(branch, &setting),
            Ask::Report(rooms) => self.report(&rooms),
            Ask::PutStore(row) => self.put_store(row),
            Ask::DropStore(name) => self.drop_store(&name),
            Ask::UseBus { bus, by } => self.use_bus(bus, by, now),
            Ask::Beat { node, follows } => self.beat(node, follows, now),
            Ask::Drain { node, by } => self.drain(node, by, now),
            Ask::DropNode(name) => self.drop_node(&name, now),
            Ask::Acquire { branch, holder, lease_us } => self.acquire(branch, &holder, lease_us, now),
            Ask::Renew { branches, holder, lease_us } => self.renew(&branches, &holder, lease_us, now),
            Ask::GiveUp { leases, holder } => self.give_up(&leases, &holder),
        }
    }

    fn map(&self, now: Now) -> Map {
        let state = &self.state;
        let branches = state.branches.values().map(|row| BranchEntry {
            row: row.clone(),
            lease: self.lease(row.number, now).map(|lease| LeaseView {
                holder: lease.holder.clone(),
                grant: lease.grant,
                left_us: lease.until.saturating_sub(now.monotonic_us),
            }),
            room: state.placed.get(&row.number).and_then(|placed| placed.room),
        });
        let nodes = state.nodes.values().map(|row| {
            let heard = state.seen.get(&row.name);
            NodeEntry {
                row: row.clone(),
                silent_us: now.monotonic_us - heard.map_or(self.since(now), |heard| heard.at_us),
                drain: state.drains.get(&row.name).cloned(),
                follows: heard.map(|heard| heard.follows.clone()).unwrap_or_default(),
            }
        });
        Map {
            version: state.version(),
            rebuilding: !state.complete,
            branches: branches.collect(),
            stores: state.stores.values().cloned().collect(),
            nodes: nodes.collect(),
            bus: state.bus.clone(),
        }
    }

    /// The map is another from now on.
    const fn changed(&mut self) {
        self.state.changes += 1;
    }

    fn keep_changed(&mut self, record: Record) -> Ruled {
        self.keep(record)?;
        self.changed();
        Ok(Told::Done)
    }

    // Aliases.

    fn customer(&self, alias: &Alias) -> Result<Option<CustomerRef>, Broken> {
        Ok(confirmed(&self.log, &self.state.index, alias)?.map(|(_, customer)| customer))
    }

    fn find(&self, alias: &Alias) -> Result<Finding, Broken> {
        if let Some(pending) = self.state.pending.get(alias) {
            return Ok(Finding::Reserved { branch: pending.branch });
        }
        Ok(self.customer(alias)?.map_or(Finding::Nobody, Finding::Customer))
    }

    fn left_us(&self, pending: &Pending, now: Now) -> u64 {
        pending.until.unwrap_or(0).saturating_sub(now.monotonic_us)
    }

    fn reserve(&mut self, wish: &Reserve, now: Now) -> Ruled {
        if !self.state.complete {
            return no(Refusal::Rebuilding);
        }
        for alias in &wish.aliases {
            if let Some(customer) = self.customer(alias)? {
                return Ok(Told::Taken { alias: *alias, customer });
            }
        }
        let Some(first) = wish.aliases.first().copied() else { return no(Refusal::Invalid("no alias")) };
        if let Some(told) = self.in_the_way(wish, first, now) {
            return Ok(told);
        }
        let home = self.state.pending.get(&first).map(|pending| pending.branch);
        let branch = match home.or_else(|| self.choose(&wish.choice)) {
            Some(branch) => branch,
            None => return no(self.why_none(&wish.choice)),
        };
        if self.state.pending.len() + wish.aliases.len() > PENDING_MAX {
            return no(Refusal::TooMany(self.state.pending.len()));
        }
        let until = now.monotonic_us.saturating_add(wish.within_us);
        let claim = self.state.next_claim();
        for alias in &wish.aliases {
            if !self.state.pending.contains_key(alias) {
                self.keep(Record::Reserved(*alias, branch, first))?;
            }
            if let Some(pending) = self.state.pending.get_mut(alias) {
                (pending.until, pending.claim) = (pending.until.max(Some(until)), claim);
            }
        }
        if home.is_none() {
            self.state.placed.entry(branch).or_default().since += 1;
        }
        Ok(Told::Reserved { branch, joined: home.is_some() })
    }

    /// Another reservation that keeps this one from being made.
    fn in_the_way(&self, wish: &Reserve, first: Alias, now: Now) -> Option<Told> {
        for alias in &wish.aliases {
            let Some(pending) = self.state.pending.get(alias) else { continue };
            let left = self.left_us(pending, now);
            if pending.first == first {
                // Whoever opens the same customer goes to the same branch, while it may still take them.
                if left > 0 || self.is_wanted(pending.branch, &wish.choice) {
                    continue;
                }
            } else if left > 0 {
                return Some(Told::Held { alias: *alias, branch: pending.branch, retry_after_us: left });
            }
            let Pending { branch, first, claim, .. } = *pending;
            return Some(Told::Unsettled { alias: *alias, branch, first, claim });
        }
        None
    }

    fn is_wanted(&self, branch: u16, choice: &Choice) -> bool {
        let may = self.state.branches.get(&branch).is_some_and(takes);
        match choice {
            Choice::In(wanted) => *wanted == branch,
            Choice::Among(branches) => may && branches.contains(&branch),
            Choice::Any => may,
        }
    }

    fn choose(&self, choice: &Choice) -> Option<u16> {
        if let Choice::In(branch) = choice {
            let row = self.state.branches.get(branch)?;
            return (row.state == BranchState::Open).then_some(*branch);
        }
        let placed = |number| self.state.placed.get(number).copied().unwrap_or_default();
        choose(self.state.branches.iter().map(|(number, row)| (row, placed(number))), choice)
    }

    fn why_none(&self, choice: &Choice) -> Refusal {
        match choice {
            Choice::In(branch) if self.state.branches.contains_key(branch) => Refusal::NotOpen(*branch),
            Choice::In(branch) => Refusal::NoBranch(*branch),
            Choice::Among(_) | Choice::Any => Refusal::NoRoom,
        }
    }

    fn confirm(&mut self, aliases: &[Alias], customer: CustomerRef) -> Ruled {
        let mut new = Vec::new();
        for alias in aliases {
            let pending = self.state.pending.get(alias).map(|pending| pending.branch);
            let known = self.customer(alias)?;
            let bound = pending.or(known.map(|known| known.branch));
            if let Some(branch) = bound.filter(|branch| *branch != customer.branch) {
                return no(Refusal::Elsewhere { alias: *alias, branch });
            }
            if known != Some(customer) || pending.is_some() {
                new.push(*alias);
            }
        }
        new.into_iter().try_for_each(|alias| self.keep_lazily(Record::Confirmed(alias, customer)))?;
        Ok(Told::Done)
    }

    fn release(&mut self, alias: Alias, claim: u64, now: Now) -> Ruled {
        match self.state.pending.get(&alias) {
            None => Ok(Told::Done),
            Some(pending) if pending.claim == claim && self.left_us(pending, now) == 0 => {
                // What was reserved under it goes with it: no claim on those is younger.
                let under = |(_, pending): &(&Alias, &Pending)| pending.first == alias;
                let mut gone: Vec<Alias> =
                    self.state.pending.iter().filter(under).map(|(under, _)| *under).collect();
                gone.extend((!gone.contains(&alias)).then_some(alias));
                gone.into_iter().try_for_each(|alias| self.keep(Record::Gone(alias)))?;
                Ok(Told::Done)
            }
            Some(_) => no(Refusal::Claimed(alias)),
        }
    }

    fn forget(&mut self, aliases: &[Alias], customer: CustomerRef) -> Ruled {
        for alias in aliases {
            if self.customer(alias)? == Some(customer) {
                self.keep(Record::Gone(*alias))?;
            }
        }
        Ok(Told::Done)
    }

    fn put_moved(&mut self, customer: CustomerRef, branch: Option<u16>) -> Ruled {
        if let Some(missing) = branch.filter(|branch| !self.state.branches.contains_key(branch)) {
            return no(Refusal::NoBranch(missing));
        }
        let branch = branch.filter(|branch| *branch != customer.branch);
        if self.state.moved.get(&customer).copied() != branch {
            self.keep(Record::Moved(customer, branch))?;
        }
        Ok(Told::Done)
    }

    fn rebuild(&mut self, step: Rebuild, now: Now) -> Ruled {
        match step {
            Rebuild::Begin => {
                self.keep_changed(Record::Begun)?;
                self.state.rebuild = self.state.version();
                let scan_after_us = self.claims_lost_left_us(now);
                Ok(Told::Rebuilding { number: self.state.rebuild, scan_after_us })
            }
            // The ending of this very rebuild may come twice.
            Rebuild::End { number } if self.state.complete && number == self.state.rebuild => Ok(Told::Done),
            Rebuild::Record { number, .. } | Rebuild::End { number }
                if self.state.complete || number != self.state.rebuild =>
            {
                no(Refusal::NotRebuilding)
            }
            Rebuild::Record { list, .. } => {
                let mut elsewhere = Vec::new();
                for (alias, customer) in list {
                    match self.customer(&alias)? {
                        Some(known) if known == customer => {}
                        Some(known) if known.branch != customer.branch => elsewhere.push((alias, known)),
                        _ => self.keep_lazily(Record::Confirmed(alias, customer))?,
                    }
                }
                Ok(Told::Recorded { elsewhere })
            }
            Rebuild::End { .. } => self.keep_changed(Record::Complete),
        }
    }

    // Branches and stores.

    fn check_row(&self, row: &BranchRow) -> Option<Refusal> {
        if !self.state.stores.contains_key(&row.store) {
            return Some(Refusal::NoStore(row.store.clone()));
        }
        let missing = row.placement.as_ref().filter(|node| !self.state.nodes.contains_key(*node));
        missing.map(|node| Refusal::NoNode(node.clone()))
    }

    fn add_branch(&mut self, row: BranchRow) -> Ruled {
        if self.state.branches.contains_key(&row.number) {
            return Ok(Told::Done);
        }
        match self.check_row(&row) {
            Some(refusal) => no(refusal),
            None => self.keep_changed(Record::Branch(row)),
        }
    }

    fn steer(&mut self, branch: u16, setting: &Setting) -> Ruled {
        let Some(before) = self.state.branches.get(&branch) else { return no(Refusal::NoBranch(branch)) };
        let after = before.clone().with(setting);
        if *before == after {
            return Ok(Told::Done);
        }
        match self.check_row(&after) {
            Some(refusal) => no(refusal),
            None => self.keep_changed(Record::Branch(after)),
        }
    }

    fn report(&mut self, rooms: &[(u16, Option<Room>)]) -> Ruled {
        for (branch, room) in rooms.iter().filter(|(branch, _)| self.state.branches.contains_key(branch)) {
            self.state.placed.entry(*branch).or_default().report(*room);
        }
        Ok(Told::Done)
    }

    fn put_store(&mut self, row: StoreRow) -> Ruled {
        if self.state.stores.get(&row.name) == Some(&row) {
            return Ok(Told::Done);
        }
        self.keep_changed(Record::Store(row))
    }

    fn drop_store(&mut self, name: &Name) -> Ruled {
        if !self.state.stores.contains_key(name) {
            return Ok(Told::Done);
        }
        match self.state.branches.values().find(|row| row.store == *name) {
            Some(row) => no(Refusal::StoreInUse { store: name.clone(), branch: row.number }),
            None => self.keep_changed(Record::StoreGone(name.clone())),
        }
    }

    fn use_bus(&mut self, bus: Name, by: Who, now: Now) -> Ruled {
        if self.state.bus.as_ref().is_some_and(|row| row.name == bus) {
            return Ok(Told::Done);
        }
        self.keep_changed(Record::Bus(BusRow { name: bus, by, at_us: now.wall_us }))
    }

    // Nodes and leases.

    fn beat(&mut self, row: NodeRow, follows: Vec<Follow>, now: Now) -> Ruled {
        self.state.seen.insert(row.name.clone(), Heard { at_us: now.monotonic_us, follows });
        if self.state.nodes.get(&row.name) == Some(&row) {
            return Ok(Told::Done);
        }
        self.keep_changed(Record::Node(row))
    }

    fn drain(&mut self, node: Name, by: Option<Who>, now: Now) -> Ruled {
        if !self.state.nodes.contains_key(&node) {
            return no(Refusal::NoNode(node));
        }
        if self.state.drains.contains_key(&node) == by.is_some() {
            return Ok(Told::Done);
        }
        let row = by.map(|by| DrainRow { by, at_us: now.wall_us });
        self.keep_changed(Record::Drain(node, row))
    }

    fn drop_node(&mut self, name: &Name, now: Now) -> Ruled {
        if !self.state.nodes.contains_key(name) {
            return Ok(Told::Done);
        }
        let holds = |branch: &u16| self.lease(*branch, now).is_some_and(|lease| lease.holder.node == *name);
        if let Some(branch) = self.state.leases.keys().copied().find(holds) {
            return no(Refusal::NodeInUse { node: name.clone(), branch });
        }
        self.state.seen.remove(name);
        self.keep_changed(Record::NodeGone(name.clone()))
    }

    /// The lease of a branch that still runs.
    fn lease(&self, branch: u16, now: Now) -> Option<&Lease> {
        self.state.leases.get(&branch).filter(|lease| lease.until > now.monotonic_us)
    }

    /// The number of the grant.
    fn grant(&mut self, branch: u16, holder: &Holder, lease_us: u64, now: Now) -> Result<u64, Refusal> {
        match self.state.branches.get(&branch) {
            None => return Err(Refusal::NoBranch(branch)),
            Some(row) if row.state == BranchState::Closed => return Err(Refusal::NotOpen(branch)),
            Some(_) => {}
        }
        if let Some(other) = self.lease(branch, now).filter(|lease| lease.holder != *holder) {
            let left_us = other.until - now.monotonic_us;
            return Err(Refusal::HeldBy { holder: other.holder.clone(), left_us });
        }
        let left_us = self.leases_lost_left_us(now);
        let known = self.state.leases.get(&branch);
        if left_us > 0 && known.is_none() {
            return Err(Refusal::TooSoon { left_us });
        }
        let own = known.filter(|lease| lease.holder == *holder).map(|lease| lease.grant);
        let until =
            now.monotonic_us.saturating_add(lease_us).max(self.lease(branch, now).map_or(0, |l| l.until));
        if own.is_none() {
            self.changed();
        }
        let grant = own.unwrap_or(self.state.version());
        self.state.leases.insert(branch, Lease { holder: holder.clone(), grant, until });
        Ok(grant)
    }

    fn acquire(&mut self, branch: u16, holder: &Holder, lease_us: u64, now: Now) -> Ruled {
        if !self.state.nodes.contains_key(&holder.node) {
            return no(Refusal::NoNode(holder.node.clone()));
        }
        match self.grant(branch, holder, lease_us, now) {
            Ok(grant) => Ok(Told::Granted { grant, lease_us, wall_us: now.wall_us }),
            Err(refusal) => no(refusal),
        }
    }

    fn renew(&mut self, branches: &[u16], holder: &Holder, lease_us: u64, now: Now) -> Ruled {
        let (mut kept, mut lost) = (Vec::new(), Vec::new());
        for branch in branches.iter().copied() {
            let own = self.state.leases.get(&branch).is_some_and(|lease| lease.holder == *holder);
            if own && self.grant(branch, holder, lease_us, now).is_ok() {
                kept.push(branch);
            } else {
                lost.push(branch);
            }
        }
        Ok(Told::Renewed { kept, lost, lease_us, wall_us: now.wall_us })
    }

    fn give_up(&mut self, leases: &[(u16, u64)], holder: &Holder) -> Ruled {
        for (branch, grant) in leases {
            let own = |lease: &Lease| lease.holder == *holder && lease.grant == *grant;
            if self.state.leases.get(branch).is_some_and(own) {
                self.state.leases.remove(branch);
                self.changed();
            }
        }
        Ok(Told::Done)
    }
}
