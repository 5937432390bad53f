//! Where customers live: the directory as the gateway uses it.
//!
//! A newcomer's document is bound to one branch first; that branch decides, for its book refuses a document that it knows;
//! then the directory is told whose the document is. Each step may be lost: who comes with the same document is sent to the
//! same branch, and is answered by what is in its book.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use skerry_branch::api::{Answer, Read};
use skerry_directory::{
    Alias, AliasKind, Ask, BranchRow, Choice, CustomerRef, DirectoryHandle, Map, Name, NotAsked, Rebuild,
    Refusal, Reserve, Room, StoreRow, Told, Where,
};
use tokio::sync::oneshot;

use crate::auth::Caller;
use crate::bank::Bank;
use crate::catalogue;
use crate::gateway::Gateway;
use crate::problem::Problem;

/// A request to open a customer begins within this in the branch, or not at all.
pub(crate) const BEGINS: Duration = Duration::from_secs(50);
/// How long a claim on a document runs: making the key, the request to the branch, and clocks that differ.
const CLAIM: Duration = Duration::from_secs(110);
/// An answer of the directory is waited for so long.
const PATIENCE: Duration = Duration::from_secs(10);
/// An ask whose outcome is unknown is sent so often.
const ATTEMPTS: u32 = 4;
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(120);
/// Steps to settle what somebody else left behind.
const TURNS: usize = 6;
/// A newcomer for whom nobody has room waits so long for a branch that is about to open: one that moves, or that another node
/// takes over.
const OPENS: Duration = Duration::from_secs(3);
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// The directory, asked and told.
#[derive(Debug)]
pub struct Residence {
    handle: DirectoryHandle,
    /// Where journals may be kept, once that was said.
    stores: OnceLock<Vec<Store>>,
    /// The rooms that the directory was told last.
    reported: Arc<Mutex<BTreeMap<u16, Option<Room>>>>,
}

/// A document that is bound to a branch.
pub(crate) struct Bound {
    pub(crate) branch: u16,
    /// Whose it is, as far as the directory knows.
    pub(crate) known: Option<CustomerRef>,
    begun: Instant,
}

impl Bound {
    /// How long the branch may take to begin.
    ///
    /// # Errors
    ///
    /// If so much time has passed that the claim might run out before.
    pub(crate) fn begins(&self) -> Result<Duration, Problem> {
        if self.begun.elapsed() > BEGINS {
            return Err(Problem::numbered(catalogue::DEADLINE_PASSED).retry_after_ms(1_000));
        }
        Ok(BEGINS)
    }
}

/// What a rebuild came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rebuilt {
    /// Customers that were taken in.
    pub customers: u64,
    /// Documents that a second branch has too; each is in the log.
    pub elsewhere: u64,
}

/// A document's alias.
pub(crate) const fn document(line: u8, hmac: [u8; 32]) -> Alias {
    Alias { line, kind: AliasKind::Document, key: hmac }
}

impl Residence {
    /// Asks through `handle`.
    #[must_use]
    pub fn new(handle: DirectoryHandle) -> Self {
        Self { handle, stores: OnceLock::new(), reported: Arc::default() }
    }

    /// Asks and waits; asks again while the outcome is unknown.
    ///
    /// # Errors
    ///
    /// `busy`, `directory_unavailable`, `shutting_down`.
    pub async fn ask(&self, ask: Ask) -> Result<Told, Problem> {
        for _ in 0..ATTEMPTS {
            let (send, receive) = oneshot::channel();
            self.handle.ask(ask.clone(), Box::new(move |told| drop(send.send(told)))).map_err(not_asked)?;
            match tokio::time::timeout(PATIENCE, receive).await {
                Ok(Ok(Ok(told))) => return Ok(told),
                Ok(Ok(Err(fault))) => {
                    tracing::warn!(%fault, "asking the directory again");
                    tokio::time::sleep(BETWEEN_ATTEMPTS).await;
                }
                Ok(Err(_)) | Err(_) => break,
            }
        }
        Err(Problem::numbered(catalogue::DIRECTORY_UNAVAILABLE).retry_after_ms(1_000))
    }

    /// Tells what may be lost.
    pub(crate) fn tell(&self, ask: Ask) {
        // Whoever comes next finds it out.
        let _untold = self.handle.ask(ask, Box::new(drop));
    }

    /// Tells the directory the rooms that have changed.
    pub(crate) fn report(&self, bank: &Bank) {
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        let mut news = Vec::new();
        for (number, seat) in bank.seats().iter() {
            let narrow = |count| u32::try_from(count).unwrap_or(u32::MAX);
            let room = seat.room().map(|(customers, capacity)| Room {
                customers: narrow(customers),
                capacity: narrow(capacity),
            });
            if reported.get(number) != Some(&room) {
                reported.insert(*number, room);
                news.push((*number, room));
            }
        }
        for part in news.chunks(skerry_directory::seam::LIST_MAX) {
            let untold = Arc::clone(&self.reported);
            let answer = Box::new(move |told: Result<Told, _>| {
                if told.is_err() {
                    untold.lock().unwrap_or_else(PoisonError::into_inner).clear();
                }
            });
            if self.handle.ask(Ask::Report(part.to_vec()), answer).is_err() {
                reported.clear();
            }
        }
    }

    /// The map of branches, stores and nodes.
    ///
    /// # Errors
    ///
    /// As [`ask`](Self::ask).
    pub async fn map(&self) -> Result<Map, Problem> {
        match self.ask(Ask::Map { since: 0 }).await? {
            Told::Map(map) => Ok(*map),
            other => Err(unexpected(&other)),
        }
    }

    /// The map, if it is another than version `since` and the directory says so at the first attempt.
    pub(crate) async fn map_since(&self, since: u64) -> Option<Map> {
        let (send, receive) = oneshot::channel();
        self.handle.ask(Ask::Map { since }, Box::new(move |told| drop(send.send(told)))).ok()?;
        match tokio::time::timeout(PATIENCE, receive).await {
            Ok(Ok(Ok(Told::Map(map)))) => Some(*map),
            _ => None,
        }
    }

    /// Asks for what has no other answer than that it is done.
    ///
    /// # Errors
    ///
    /// As [`ask`](Self::ask), and the refusal.
    pub(crate) async fn order(&self, ask: Ask) -> Result<(), Problem> {
        match self.ask(ask).await? {
            Told::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }
}

fn not_asked(error: NotAsked) -> Problem {
    match error {
        NotAsked::Busy => Problem::numbered(catalogue::BUSY).retry_after_ms(200),
        NotAsked::Closed => Problem::numbered(catalogue::SHUTTING_DOWN).retry_after_ms(5_000),
    }
}

/// A refusal, or an answer that belongs to another question.
fn unexpected(told: &Told) -> Problem {
    let Told::No(refusal) = told else {
        tracing::error!(?told, "the directory answered something else");
        return Problem::numbered(catalogue::INTERNAL);
    };
    refused(refusal)
}

/// What the directory refuses.
pub(crate) fn refused(refusal: &Refusal) -> Problem {
    let problem = match refusal {
        Refusal::NoRoom => Problem::numbered(catalogue::NO_OPEN_BRANCH).retry_after_ms(5_000),
        Refusal::NoBranch(_) => Problem::numbered(catalogue::BRANCH_NOT_FOUND),
        Refusal::NoNode(_) => Problem::numbered(catalogue::NODE_NOT_FOUND).field("node"),
        Refusal::NotOpen(_) => Problem::numbered(catalogue::NO_OPEN_BRANCH).retry_after_ms(5_000),
        Refusal::Rebuilding => Problem::numbered(catalogue::DIRECTORY_REBUILDING).retry_after_ms(2_000),
        Refusal::NotRebuilding => Problem::numbered(catalogue::DIRECTORY_UNAVAILABLE).retry_after_ms(1_000),
        Refusal::Claimed(_) => Problem::numbered(catalogue::DOCUMENT_RESERVED).retry_after_ms(1_000),
        Refusal::TooMany(_) => Problem::numbered(catalogue::BUSY).retry_after_ms(1_000),
        Refusal::Invalid(_) => Problem::numbered(catalogue::INVALID_FIELD),
        other => {
            tracing::error!(%other, "the directory refused");
            Problem::numbered(catalogue::INTERNAL)
        }
    };
    problem.detail(refusal.to_string())
}

/// The branches that a newcomer of this caller may come to.
pub(crate) fn choice(bank: &Bank, caller: &Caller) -> Choice {
    let seats = bank.seats();
    let own: Vec<u16> = seats.keys().copied().filter(|number| caller.may_in(*number).is_ok()).collect();
    if own.len() == seats.len() { Choice::Any } else { Choice::Among(own) }
}

/// Binds a document to one branch.
///
/// # Errors
///
/// Nobody has room, the directory does not answer, or somebody is about to use the document elsewhere.
pub(crate) async fn bind(gateway: &Gateway, alias: Alias, choice: &Choice) -> Result<Bound, Problem> {
    for _ in 0..TURNS {
        let (begun, told) = reserve(gateway, alias, choice).await?;
        match told {
            Told::Reserved { branch, .. } => return Ok(Bound { branch, known: None, begun }),
            Told::Taken { customer, .. } => {
                return Ok(Bound { branch: customer.branch, known: Some(customer), begun });
            }
            Told::Unsettled { branch, claim, .. } => settle(gateway, alias, branch, claim).await?,
            Told::Held { retry_after_us, .. } => {
                let after_ms = u32::try_from(retry_after_us / 1_000).unwrap_or(u32::MAX);
                return Err(Problem::numbered(catalogue::DOCUMENT_RESERVED).retry_after_ms(after_ms));
            }
            other => return Err(unexpected(&other)),
        }
    }
    Err(Problem::numbered(catalogue::DOCUMENT_RESERVED).retry_after_ms(1_000))
}

/// Asks for a document; where nobody has room, again until a branch has opened. Tells when it asked last.
async fn reserve(gateway: &Gateway, alias: Alias, choice: &Choice) -> Result<(Instant, Told), Problem> {
    let within_us = u64::try_from(CLAIM.as_micros()).unwrap_or(u64::MAX);
    let came = Instant::now();
    loop {
        let begun = Instant::now();
        let wish = Reserve { aliases: vec![alias], choice: choice.clone(), within_us };
        let told = gateway.residence.ask(Ask::Reserve(wish)).await?;
        let waits = matches!(told, Told::No(Refusal::NoRoom)) && may_open(&gateway.bank, choice);
        if !waits || came.elapsed() >= OPENS {
            return Ok((begun, told));
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
        gateway.residence.report(&gateway.bank);
    }
}

/// Whether a branch of the choice is neither open nor given up.
fn may_open(bank: &Bank, choice: &Choice) -> bool {
    let is_chosen = |number| match choice {
        Choice::In(wanted) => *wanted == number,
        Choice::Among(list) => list.contains(&number),
        Choice::Any => true,
    };
    bank.seats()
        .iter()
        .any(|(number, seat)| is_chosen(*number) && seat.room().is_none() && !seat.health().is_sick())
}

/// Somebody bound the document and went away: the branch knows what came of it.
async fn settle(gateway: &Gateway, alias: Alias, branch: u16, claim: u64) -> Result<(), Problem> {
    let ask = match in_branch(gateway, alias, branch).await? {
        Some(customer) => Ask::Confirm { aliases: vec![alias], customer },
        None => Ask::Release { alias, claim },
    };
    match gateway.residence.ask(ask).await? {
        // Somebody was faster: the next reservation tells.
        Told::Done | Told::No(Refusal::Claimed(_)) => Ok(()),
        other => Err(unexpected(&other)),
    }
}

/// Who has the document in this branch, by its own book.
pub(crate) async fn in_branch(
    gateway: &Gateway,
    alias: Alias,
    branch: u16,
) -> Result<Option<CustomerRef>, Problem> {
    let read = Read::Document { line: alias.line, document: alias.key };
    match gateway.bank.survey(branch, read).await? {
        Some(Answer::Customer(found)) => Ok(Some(CustomerRef { branch, serial: found.serial })),
        _ => Ok(None),
    }
}

/// Where journals of this bank may be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    /// As the configuration names it; [`LOCAL`](Self::LOCAL) are the files of the data folder.
    pub name: String,
    /// `local` or `postgres`.
    pub kind: &'static str,
    /// A folder, or an address without a password.
    pub place: String,
}

impl Store {
    /// The name of local files.
    pub const LOCAL: &str = "local";

    fn row(&self) -> Result<StoreRow, Problem> {
        let wrong = |_| Problem::numbered(catalogue::INTERNAL);
        let (name, kind) = (Name::new(&self.name).map_err(wrong)?, Name::new(self.kind).map_err(wrong)?);
        // A place that is too long or too odd to be shown is shown by the store's name.
        let place = Where::new(&self.place).or_else(|_| Where::new(&self.name)).map_err(wrong)?;
        Ok(StoreRow { name, kind, place })
    }
}

/// Brings the directory in line with the branches of this process and the stores that they may be kept in, and takes their
/// customers in if it knows none.
///
/// # Errors
///
/// The directory does not answer, or a branch whose customers are wanted is not open.
pub async fn prepare(gateway: &Gateway, stores: &[Store]) -> Result<Option<Rebuilt>, Problem> {
    gateway.residence.stores.get_or_init(|| stores.to_vec());
    enrol(gateway).await?;
    if gateway.residence.map().await?.rebuilding { rebuild(gateway).await.map(Some) } else { Ok(None) }
}

/// Says which stores and branches there are, and what room; those that the directory knows stay as they are.
async fn enrol(gateway: &Gateway) -> Result<(), Problem> {
    for store in gateway.residence.stores.get().into_iter().flatten() {
        gateway.residence.order(Ask::PutStore(store.row()?)).await?;
    }
    for (number, seat) in gateway.bank.seats().iter() {
        let store = seat.health().store.unwrap_or_else(|| Store::LOCAL.to_owned());
        let store = Name::new(&store).map_err(|_| Problem::numbered(catalogue::INTERNAL))?;
        gateway.residence.order(Ask::AddBranch(BranchRow::new(*number, store))).await?;
    }
    gateway.residence.reported.lock().unwrap_or_else(PoisonError::into_inner).clear();
    gateway.residence.report(&gateway.bank);
    Ok(())
}

/// Takes the branches and their customers in again, whatever the directory has lost. Nobody is placed meanwhile; everything
/// else goes on.
///
/// # Errors
///
/// The directory does not answer, a branch is not open, or another rebuild was begun.
pub async fn rebuild(gateway: &Gateway) -> Result<Rebuilt, Problem> {
    enrol(gateway).await?;
    let (number, scan_after_us) = match gateway.residence.ask(Ask::Rebuild(Rebuild::Begin)).await? {
        Told::Rebuilding { number, scan_after_us } => (number, scan_after_us),
        other => return Err(unexpected(&other)),
    };
    tokio::time::sleep(Duration::from_micros(scan_after_us)).await;
    let mut rebuilt = Rebuilt::default();
    for branch in gateway.bank.seats().keys().copied() {
        take_in(gateway, branch, number, &mut rebuilt).await?;
    }
    gateway.residence.order(Ask::Rebuild(Rebuild::End { number })).await?;
    Ok(rebuilt)
}

async fn take_in(gateway: &Gateway, branch: u16, number: u64, rebuilt: &mut Rebuilt) -> Result<(), Problem> {
    let mut from = Some(1);
    while let Some(first) = from {
        let Some(Answer::Customers { list, next }) =
            gateway.bank.survey(branch, Read::Customers { from: first }).await?
        else {
            return Err(Problem::numbered(catalogue::INTERNAL));
        };
        from = next;
        let alias = |line: &skerry_branch::api::CustomerLine| {
            (document(line.line, line.document), CustomerRef { branch, serial: line.serial })
        };
        let list: Vec<_> = list.iter().map(alias).collect();
        rebuilt.customers += u64::try_from(list.len()).unwrap_or(0);
        match gateway.residence.ask(Ask::Rebuild(Rebuild::Record { number, list })).await? {
            Told::Recorded { elsewhere } => {
                for (alias, customer) in &elsewhere {
                    tracing::error!(?alias, branch, other = ?customer, "two branches have this document");
                }
                rebuilt.elsewhere += u64::try_from(elsewhere.len()).unwrap_or(0);
            }
            other => return Err(unexpected(&other)),
        }
    }
    Ok(())
}
