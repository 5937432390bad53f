//! Reading on from a cursor: which branches, which events, and what of them the caller may see.
//!
//! A step reads one branch for a bounded number of records, on a thread that may wait for the disk; a page goes round
//! the branches, each for its share, so that a busy one starves none and a sick one stops none.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use skerry_book::Event;
use skerry_branch::api::{Answer, Read};
use skerry_branch::evidence::receipts::Recorded;
use skerry_ledger::AccountRef;

use super::cursor::{Cursor, Place};
use super::domain::{self, Happened, PREFIX, TYPES, Told};
use crate::auth::Caller;
use crate::catalogue;
use crate::detail::said;
use crate::gateway::Gateway;
use crate::problem::Problem;
use crate::routes::audit::{Wanted, is_wanted, wanted};
use skerry_node::seat::{Seat, Trouble};

/// Records that one page looks at in all: some tens of milliseconds of reading.
const LOOKED_AT_MAX: usize = 50_000;

/// Records that one step reads: at least, and at most.
const STEP: (usize, usize) = (64, 4_096);

/// Which events somebody wants, and which they may see.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    /// Types, or the beginnings of some; none is all.
    types: Vec<String>,
    account: Option<Wanted>,
    /// The customer who may see only their own.
    own: Option<Own>,
}

#[derive(Debug)]
struct Own {
    serial: u32,
    /// Their accounts: those they had, and those that are opened while we read.
    accounts: Mutex<HashSet<u64>>,
}

/// A cursor of this bank, as a query or a webhook has it.
///
/// # Errors
///
/// `cursor_invalid` for what is no cursor, or another bank's.
pub(crate) fn cursor(gateway: &Gateway, text: &str) -> Result<Cursor, Problem> {
    let invalid = || Problem::numbered(catalogue::CURSOR_INVALID).field("after");
    let cursor = Cursor::parse(text).ok_or_else(invalid)?;
    let strange = cursor.places().find(|(branch, _)| gateway.bank.seat(*branch).is_err());
    match strange {
        Some((branch, _)) => Err(invalid().detail(said!(
            "it names branch {branch}, which this bank has not",
            "其中的分行 {branch} 不属于本行"
        ))),
        None => Ok(cursor),
    }
}

/// A list of types, as a query or a webhook has it.
///
/// # Errors
///
/// `event_type_unknown` for one that no event has.
pub(crate) fn types(named: &[&str]) -> Result<Vec<String>, Problem> {
    let known = |wish: &str| {
        let plain = wish.strip_prefix(PREFIX);
        wish == "skerry" || plain.is_some_and(|wish| TYPES.iter().any(|kind| begins(kind, wish)))
    };
    for wish in named {
        if !known(wish) {
            let wish: String = wish.chars().take(64).collect();
            let detail = said!(
                "no event has the type {wish:?}, and no type begins with it",
                "没有 {wish:?} 类型的事件，也没有以其开头的类型"
            );
            return Err(Problem::numbered(catalogue::EVENT_TYPE_UNKNOWN).field("type").detail(detail));
        }
    }
    Ok(named.iter().map(|wish| (*wish).to_owned()).collect())
}

/// Whether a type is `wish` or begins with its words.
fn begins(kind: &str, wish: &str) -> bool {
    kind.strip_prefix(wish).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

impl Filter {
    /// All events of these types.
    pub(crate) fn of_types(types: Vec<String>) -> Self {
        Self { types, ..Self::default() }
    }

    fn is_narrow(&self) -> bool {
        !self.types.is_empty() || self.account.is_some() || self.own.is_some()
    }

    /// The event that a record is, if it is one and passes.
    fn tell(&self, branch: u16, recorded: &Recorded) -> Option<Told> {
        let happened = domain::happened(branch, recorded)?;
        if !self.may_see(branch, recorded, &happened) {
            return None;
        }
        if let Some(wanted) = self.account
            && !happened.accounts.iter().any(|account| is_wanted(*account, wanted))
        {
            return None;
        }
        let told = domain::told(branch, recorded, happened);
        let passes = self.types.is_empty() || self.types.iter().any(|wish| begins(&told.event.kind, wish));
        passes.then_some(told)
    }

    fn may_see(&self, branch: u16, recorded: &Recorded, happened: &Happened) -> bool {
        let Some(own) = &self.own else { return true };
        let mut accounts = own.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Event::AccountOpened(event) = &recorded.event
            && event.customer == own.serial
        {
            accounts.insert(event.account.0);
        }
        let is_own = |account: &AccountRef| account.branch() == branch && accounts.contains(&account.0);
        happened.customer == Some(own.serial) || happened.accounts.iter().any(is_own)
    }
}

/// Somebody who reads, and how far they are.
#[derive(Debug)]
pub(crate) struct Reader {
    branches: Vec<u16>,
    /// Whether branches that come later are read too.
    all: bool,
    filter: Arc<Filter>,
    /// How far.
    pub(crate) cursor: Cursor,
    turn: usize,
}

/// What a page found.
#[derive(Debug, Default)]
pub(crate) struct Page {
    /// In the order of each branch's journal.
    pub(crate) told: Vec<Told>,
    /// Whether there is more to look at now.
    pub(crate) more: bool,
    /// Branches that could not be read.
    pub(crate) troubles: Vec<(u16, Problem)>,
}

impl Page {
    /// Whether it is worth an answer.
    pub(crate) fn is_idle(&self) -> bool {
        self.told.is_empty() && !self.more
    }
}

/// What a step found.
struct Step {
    told: Vec<Told>,
    place: Place,
    looked_at: usize,
    is_end: bool,
}

impl Reader {
    /// A reader of `branches` from `cursor` on.
    pub(crate) fn new(branches: Vec<u16>, filter: Filter, cursor: Cursor) -> Self {
        Self { branches, all: false, filter: Arc::new(filter), cursor, turn: 0 }
    }

    /// The same, which reads branches that come later too, as far as somebody [lets it](Self::widen).
    pub(crate) fn of_all(self, all: bool) -> Self {
        Self { all, ..self }
    }

    /// Reads from now on the branches too that have come since, from their beginning.
    pub(crate) fn widen(&mut self, gateway: &Gateway, may: impl Fn(u16) -> bool) {
        let seats = gateway.bank.seats();
        if self.all && seats.len() > self.branches.len() {
            self.branches = seats.keys().copied().filter(|branch| may(*branch)).collect();
        }
    }

    /// A reader of what `caller` may see and asks for.
    ///
    /// # Errors
    ///
    /// `out_of_scope`, `branch_not_found`, or what is wrong with the filter.
    pub(crate) async fn for_caller(
        gateway: &Gateway,
        caller: &Caller,
        branch: Option<u16>,
        kinds: Option<&str>,
        account: Option<&str>,
        cursor: Cursor,
    ) -> Result<Self, Problem> {
        let kinds: Vec<&str> = kinds.map(|kinds| kinds.split(',').collect()).unwrap_or_default();
        // A head may name its branch, `gl:1001@0002`; an account does.
        let named = account.and_then(|text| text.split_once('@')).and_then(|(_, branch)| branch.parse().ok());
        let account = account.map(wanted).transpose()?;
        let home = match account {
            Some(Wanted::One(account)) => Some(account.branch()),
            _ => named,
        };
        let own = caller.customer();
        let branch = branch.or(home).or(own.map(|customer| customer.branch()));
        let is_of_all = branch.is_none();
        let branches = match branch {
            Some(branch) => {
                caller.may_in(branch)?;
                gateway.bank.seat(branch)?;
                vec![branch]
            }
            None => {
                let all = gateway.bank.seats();
                all.keys().copied().filter(|branch| caller.may_in(*branch).is_ok()).collect()
            }
        };
        let mut filter = Filter { types: types(&kinds)?, account, own: None };
        if let Some(customer) = own {
            let serial = crate::routes::serial(customer)?;
            let found = gateway.bank.look(customer.branch(), caller, Read::Customer(serial)).await?;
            let Some(Answer::Customer(found)) = found else { return Err(Problem::numbered(3020)) };
            let accounts = found.accounts.iter().map(|(account, _)| account.0).collect();
            filter.own = Some(Own { serial, accounts: Mutex::new(accounts) });
        }
        Ok(Self::new(branches, filter, cursor).of_all(is_of_all))
    }

    /// The trouble of the only branch, as a page would tell it.
    pub(crate) fn trouble(&self, problem: Problem) -> Vec<(u16, Problem)> {
        self.branches.first().map(|branch| (*branch, problem)).into_iter().collect()
    }

    /// Whether there is one branch only to read.
    pub(crate) fn is_of_one(&self) -> bool {
        self.branches.len() == 1
    }

    /// Whether the branches can go on from the cursor.
    ///
    /// # Errors
    ///
    /// What is wrong with it for ever; nothing that passes by itself.
    pub(crate) async fn check(&self, gateway: &Gateway) -> Result<(), Problem> {
        for (branch, _) in self.cursor.places().filter(|(branch, _)| self.branches.contains(branch)) {
            match self.step(gateway, branch, 1, 1).await {
                Err(problem) if problem.status().is_client_error() => return Err(problem),
                _ => {}
            }
        }
        Ok(())
    }

    /// Begins at the end: what is durable now is passed over.
    pub(crate) async fn skip_to_end(&mut self, gateway: &Gateway) -> Result<(), Problem> {
        for branch in self.branches.clone() {
            let place = gateway.bank.query(branch, |seat| end(seat)).await?;
            self.cursor.put(branch, place);
        }
        Ok(())
    }

    /// At most `limit` events from where we are; moves the cursor past all that was looked at.
    ///
    /// # Errors
    ///
    /// The trouble of the only branch asked for. That of one among many is in the page.
    pub(crate) async fn page(&mut self, gateway: &Gateway, limit: usize) -> Result<Page, Problem> {
        let mut page = Page::default();
        let count = self.branches.len().max(1);
        let share = (limit / count).max(1);
        let mut queue: VecDeque<u16> = self.branches.iter().copied().collect();
        queue.rotate_left(self.turn % count);
        self.turn = self.turn.wrapping_add(1);
        let (mut room, mut budget) = (limit, LOOKED_AT_MAX);
        while room > 0 && budget > 0 {
            let Some(branch) = queue.pop_front() else { break };
            match self.step(gateway, branch, share.min(room), budget).await {
                Ok(step) => {
                    self.cursor.put(branch, step.place);
                    room = room.saturating_sub(step.told.len());
                    budget = budget.saturating_sub(step.looked_at);
                    page.told.extend(step.told);
                    if !step.is_end {
                        queue.push_back(branch);
                    }
                }
                Err(problem) if self.branches.len() == 1 => return Err(problem),
                Err(problem) => page.troubles.push((branch, problem)),
            }
        }
        page.more = !queue.is_empty();
        Ok(page)
    }

    async fn step(
        &self,
        gateway: &Gateway,
        branch: u16,
        take: usize,
        budget: usize,
    ) -> Result<Step, Problem> {
        let seat = gateway.bank.seat(branch)?;
        let place = self.cursor.place(branch);
        if place.next > 0 && seat.durable() == place.next {
            return Ok(Step { told: Vec::new(), place, looked_at: 0, is_end: true });
        }
        let filter = Arc::clone(&self.filter);
        let (least, most) = STEP;
        let stride = if filter.is_narrow() { most } else { (take * 2).clamp(least, most) }.min(budget);
        if filter.is_narrow() {
            // Much is looked at for little: never where others wait for the thread.
            return gateway.bank.wait(seat, move |seat| read(seat, &filter, place, take, stride)).await;
        }
        gateway.bank.query(branch, move |seat| read(seat, &filter, place, take, stride)).await
    }
}

fn read(seat: &dyn Seat, filter: &Filter, place: Place, take: usize, stride: usize) -> Result<Step, Trouble> {
    let mut from = place;
    let mut records = seat.records(from.next, stride)?;
    if records.first().map_or(seat.durable() < from.next, |first| first.incarnation != from.incarnation) {
        from = whence(seat, place)?;
        records = if from.next == place.next { records } else { seat.records(from.next, stride)? };
    }
    let mut step = Step { told: Vec::new(), place: from, looked_at: 0, is_end: false };
    for recorded in &records {
        step.looked_at += 1;
        step.place = Place { next: recorded.position + 1, incarnation: recorded.incarnation };
        step.told.extend(filter.tell(seat.number(), recorded));
        if step.told.len() >= take {
            break;
        }
    }
    // What has come since is news, and is heard as such.
    step.is_end = step.looked_at == 0 || seat.durable() <= step.place.next;
    Ok(step)
}

/// From where to go on for somebody at `place` of a branch that has begun another life, or has less than that: from the
/// first position that they have not read as it is now.
fn whence(seat: &dyn Seat, place: Place) -> Result<Place, Trouble> {
    let durable = seat.durable();
    if place.next == 0 {
        return Ok(place);
    }
    let Some(last) = place.next.min(durable).checked_sub(1) else {
        return Err(Trouble::NotYet("the branch is not open".to_owned()));
    };
    let life = seat.record(last)?.incarnation;
    if life > place.incarnation {
        let (mut low, mut high) = (0, last);
        while low < high {
            let middle = low + (high - low) / 2;
            if seat.record(middle)?.incarnation > place.incarnation {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        return Ok(Place { next: low, incarnation: place.incarnation });
    }
    if place.next > durable || life < place.incarnation {
        let (branch, Place { next, incarnation }) = (seat.number(), place);
        return Err(Trouble::Ahead(format!(
            "the cursor stands at position {next} of life {incarnation} of branch {branch}, which has {durable} and life {life}"
        )));
    }
    Ok(place)
}

/// The end of what is durable.
fn end(seat: &dyn Seat) -> Result<Place, Trouble> {
    let durable = seat.durable();
    let Some(last) = durable.checked_sub(1) else {
        return Err(Trouble::NotYet("the branch is not open".to_owned()));
    };
    Ok(Place { next: durable, incarnation: seat.record(last)?.incarnation })
}
