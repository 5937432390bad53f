//! Branches that are added to a bank at work.
//!
//! ```text
//! create ─┬─ this process opens it ─► it is founded ─► its number is kept ─► it has a seat ─► directory: open
//!         └─ directory: founding ─► a node opens it ─► it is founded ─────────────────────► directory: open
//! ```
//!
//! Whoever wants a branch says its number, which is the next one. Each step may be the last: the same number again goes on where
//! that ended, and so makes no second branch. Nobody is placed in a branch before the last step.

use std::sync::Arc;
use std::time::{Duration, Instant};

use skerry_book::Command;
use skerry_book::command::OpenBranch;
use skerry_branch::api::{Body, Reply};
use skerry_directory::{Ask, BranchEntry, BranchRow, BranchState, Map, Name, Setting};
use skerry_node::seat::Seat;
use tokio::sync::Mutex;

use crate::auth::Caller;
use crate::bank::rejected;
use crate::catalogue;
use crate::detail::{Detail, said};
use crate::gateway::Shared;
use crate::problem::Problem;

/// The last number of a branch.
const LAST: u16 = 9_999;
/// A node opens a branch within this, or whoever asked is told to ask again. Shorter than clients wait.
const OPENS: Duration = Duration::from_secs(20);
/// A branch that was founded tells its room within this; newcomers wait for it, nobody else.
const TELLS: Duration = Duration::from_secs(5);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);
/// What a book says that was opened before, and one that went live before.
const DONE_BEFORE: [u16; 2] = [4_003, 2_017];

/// What a process does for a new branch. Calls may wait: they come from a thread that may.
pub trait Founder: Send + Sync {
    /// The names of the stores that its journal may be kept in.
    fn stores(&self) -> Vec<String>;

    /// The one of them that branch `number` takes if nobody says another.
    fn usual(&self, number: u16) -> String;

    /// How its book is opened today.
    ///
    /// # Errors
    ///
    /// Why not, in words for an operator; so for all of these.
    fn opening(&self) -> Result<OpenBranch, String>;

    /// Opens it in this process, if that hosts branches. Said again, it is the same one.
    ///
    /// # Errors
    ///
    /// As [`opening`](Self::opening); nothing of it is in use.
    fn open(&self, number: u16, store: &str) -> Result<Option<Arc<dyn Seat>>, String>;

    /// Remembers for good that it is one of this process's branches, and lets it and the others pay each other.
    ///
    /// # Errors
    ///
    /// As [`opening`](Self::opening); it is not one of them.
    fn keep(&self, number: u16) -> Result<(), String>;
}

/// Who founds, one at a time: numbers follow each other.
pub(crate) struct Founding {
    founder: Arc<dyn Founder>,
    turn: Mutex<()>,
}

impl std::fmt::Debug for Founding {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Founding").finish_non_exhaustive()
    }
}

impl Founding {
    pub(crate) fn new(founder: Arc<dyn Founder>) -> Self {
        Self { founder, turn: Mutex::default() }
    }

    /// Asks the founder where that may wait.
    async fn ask<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&dyn Founder) -> Result<T, String> + Send + 'static,
    ) -> Result<T, Problem> {
        let founder = Arc::clone(&self.founder);
        match tokio::task::spawn_blocking(move || ask(&*founder)).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(why)) => {
                Err(Problem::numbered(catalogue::BRANCH_UNAVAILABLE).detail(why).retry_after_ms(5_000))
            }
            Err(_) => Err(Problem::numbered(catalogue::INTERNAL)),
        }
    }

    /// The store that was asked for, or that of the branch as it is, or the usual one.
    fn store(&self, number: u16, asked: Option<&str>, is: Option<&BranchRow>) -> Result<Name, Problem> {
        let wrong =
            |detail: Detail| Problem::numbered(catalogue::INVALID_FIELD).field("store").detail(detail);
        if let Some(row) = is {
            return match asked {
                Some(asked) if asked != row.store.as_str() => {
                    let store = &row.store;
                    Err(wrong(said!(
                        "branch {number} keeps its journal in {store}",
                        "分行 {number} 的日志保存在 {store}"
                    )))
                }
                _ => Ok(row.store.clone()),
            };
        }
        let known = self.founder.stores();
        let name = asked.map_or_else(|| self.founder.usual(number), str::to_owned);
        if !known.contains(&name) {
            let known = known.join(", ");
            return Err(wrong(said!(
                "there is no store {name:?} here; there are: {known}",
                "这里没有存储 {name:?}；可用的有：{known}"
            )));
        }
        Name::new(&name).map_err(|error| wrong(error.to_string().into()))
    }
}

/// Adds branch `number`; as the directory has it then, and whether it was there before.
///
/// # Errors
///
/// A number that is not the next one, a store that is not there; `branch_unavailable` if it did not open: the same number again
/// goes on.
pub(crate) async fn create(
    gateway: &Shared,
    caller: &Caller,
    digest: [u8; 16],
    (number, store): (u16, Option<&str>),
) -> Result<(BranchEntry, bool), Problem> {
    let none = || {
        Problem::numbered(catalogue::NOT_FOUND)
            .detail(said!("this process makes no branches", "本进程不能新建分行"))
    };
    let founding = gateway.founding.get().ok_or_else(none)?;
    let _turn = founding.turn.lock().await;
    let map = gateway.residence.map().await?;
    check(gateway, &map, number)?;
    let before = map.branch(number);
    let store = founding.store(number, store, before.map(|entry| &entry.row))?;
    if let Some(entry) = before.filter(|entry| is_there(gateway, &entry.row)) {
        return Ok((entry.clone(), true));
    }
    tracing::info!(branch = number, %store, principal = caller.principal().as_str(), "a branch is added");
    let place = store.clone();
    let here = founding.ask(move |founder| founder.open(number, place.as_str())).await?;
    let is_here = here.is_some();
    // As many as the one before it: none where one process has all.
    let followers =
        number.checked_sub(1).and_then(|before| map.branch(before)).map_or(0, |entry| entry.row.followers);
    let row = BranchRow { followers, ..BranchRow::new(number, store) };
    let seat = match here {
        Some(seat) => seat,
        None => {
            let founding = row.clone().with(&Setting::State(BranchState::Founding));
            gateway.residence.order(Ask::AddBranch(founding)).await?;
            opened(gateway, number).await?
        }
    };
    let opening = founding.ask(|founder| founder.opening()).await?;
    found(gateway, caller, digest, (&*seat, opening)).await?;
    if is_here {
        founding.ask(move |founder| founder.keep(number)).await?;
        gateway.bank.add(Arc::clone(&seat));
    }
    until(TELLS, || seat.room().is_some_and(|(_, capacity)| capacity > 0)).await;
    // One that nodes host is there already, and stays as it is.
    gateway.residence.order(Ask::AddBranch(row)).await?;
    gateway.residence.report(&gateway.bank);
    let open = Setting::State(BranchState::Open);
    gateway.residence.order(Ask::Steer { branch: number, setting: open }).await?;
    let map = gateway.residence.map().await?;
    let entry = map.branch(number).ok_or_else(|| Problem::numbered(catalogue::BRANCH_NOT_FOUND))?;
    Ok((entry.clone(), false))
}

/// Numbers have no gaps, so that whoever knows how many there are knows all.
fn check(gateway: &Shared, map: &Map, number: u16) -> Result<(), Problem> {
    let told = map.branches.iter().map(|entry| entry.row.number);
    let last = told.chain(gateway.bank.seats().keys().copied()).max().unwrap_or(0);
    let next = last + 1;
    let wrong =
        |detail: Detail| Err(Problem::numbered(catalogue::INVALID_FIELD).field("branch").detail(detail));
    match number {
        0 => wrong(said!("a branch is a number from 1 to {LAST}", "分行号是 1 到 {LAST} 之间的数")),
        _ if number > LAST => {
            wrong(said!("a bank has {LAST} branches at most", "一家银行最多有 {LAST} 个分行"))
        }
        _ if number > next => wrong(said!("the next branch is {next}", "下一个分行是 {next}")),
        _ => Ok(()),
    }
}

/// Whether nothing is left to be done.
fn is_there(gateway: &Shared, row: &BranchRow) -> bool {
    match row.state {
        BranchState::Closed => true,
        BranchState::Open => gateway.bank.seat(row.number).is_ok(),
        BranchState::Founding => false,
    }
}

/// The branch, once a node has opened it.
async fn opened(gateway: &Shared, number: u16) -> Result<Arc<dyn Seat>, Problem> {
    let open = || gateway.bank.seat(number).is_ok_and(|seat| seat.health().is_open());
    if until(OPENS, open).await {
        return gateway.bank.seat(number);
    }
    let detail = said!(
        "branch {number} is entered, but no node has opened it yet: ask for the same number again",
        "分行 {number} 已登记，但还没有节点打开它：请用同一个号码再次请求"
    );
    Err(Problem::numbered(catalogue::BRANCH_UNAVAILABLE).detail(detail).retry_after_ms(2_000))
}

async fn until(patience: Duration, is_so: impl Fn() -> bool) -> bool {
    let end = Instant::now() + patience;
    while !is_so() {
        if Instant::now() > end {
            return false;
        }
        tokio::time::sleep(LOOK).await;
    }
    true
}

/// Opens its book, in the caller's name: that is who the audit tells of.
async fn found(
    gateway: &Shared,
    caller: &Caller,
    digest: [u8; 16],
    (seat, opening): (&dyn Seat, OpenBranch),
) -> Result<(), Problem> {
    let caller = caller.founding();
    let live = opening.date;
    for command in [Command::OpenBranch(opening), Command::GoLive(live)] {
        let body = Body::Command { command: Box::new(command), key: None };
        match gateway.bank.ask_seat(seat, &caller, digest, body).await? {
            Reply::Command(Ok(_)) => {}
            Reply::Command(Err(rejection)) if DONE_BEFORE.contains(&rejection.code()) => {}
            Reply::Command(Err(rejection)) => return Err(rejected(rejection, None, digest)),
            _ => return Err(Problem::numbered(catalogue::INTERNAL)),
        }
    }
    Ok(())
}
