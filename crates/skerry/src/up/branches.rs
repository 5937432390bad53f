//! The branches of a data folder: opened on threads, founded, opened without what is lost, archived.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use skerry_book::command::{Command, OpenBranch};
use skerry_book::event::Terms;
use skerry_book::{Actor, Cause, Seed};
use skerry_branch::api::{Body, GatewayKey, Reply, Request, Scope};
use skerry_branch::keys::Keys;
use skerry_branch::{BranchHandle, BranchThread, Condition, Found, Options, Parts};
use skerry_journal::{JournalStore, RealStorage};
use skerry_money::{Currency, Date};
use skerry_node::hosted::Hosted;
use skerry_node::seat::{Before, Seat};

use crate::config::Config;
use crate::erasures::Listed;
use crate::folder::{self, Folder, Identity};
use crate::stores::{Journal, Stores};

/// A branch that was founded tells its figures within this, also on a disk that is slow for a while.
const FIGURES: Duration = Duration::from_secs(60);

/// What a branch of this folder is made of, with its journal in `store` and its customers' keys where that is.
fn parts<J>(
    config: &Config,
    folder: &Folder,
    number: u16,
    key: &GatewayKey,
    (store, keys): (J, Box<dyn Keys>),
) -> anyhow::Result<Parts<J, RealStorage>> {
    let derived = RealStorage::open(folder.branch(number).join("derived"))?;
    let keys: Arc<dyn Keys> = match &config.storage.erasures {
        Some(list) => {
            let bank = crate::erasures::bank_name(&folder.signing.history);
            let listed = Listed::new(keys, list, &bank, number)?;
            match listed.agreed() {
                // They are held against the list as soon as they are there, and before anything else.
                Err(error) if error.may_pass() => {
                    tracing::warn!(
                        branch = number,
                        error = format!("{:#}", anyhow::Error::new(error)),
                        "the keys are away"
                    );
                }
                other => drop(other?),
            }
            Arc::new(listed)
        }
        None => Arc::from(keys),
    };
    let options = branch_options(config, folder, number, key)?;
    let began = Instant::now();
    Ok(Parts {
        store,
        storage: derived,
        options,
        signer: Arc::clone(&folder.signing.signer),
        keys,
        ticks: Box::new(move || u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX)),
    })
}

fn branch_options(
    config: &Config,
    folder: &Folder,
    number: u16,
    key: &GatewayKey,
) -> anyhow::Result<Options> {
    let mut options = Options::new(
        number,
        &folder.identity.institution,
        Seed::new(folder.secrets.institution),
        key.clone(),
    );
    options.limits.requests = usize::try_from(config.branch.queue_max).unwrap_or(usize::MAX);
    options.limits.in_flight = usize::try_from(config.quota.in_flight).unwrap_or(usize::MAX);
    options.limits.records_per_second = u64::from(config.quota.per_second);
    options.checkpoint_us = u64::from(config.branch.checkpoint_seconds) * 1_000_000;
    options.snapshot_records = config.branch.snapshot_records;
    options.evidence = folder.identity.evidence()?;
    Ok(options)
}

/// Random bytes of the operating system. Without them no key is safe, so their absence ends the process.
pub(crate) fn fill(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the operating system gives random bytes");
}

/// A journal somewhere, with the branch's threads on it; and the store's name, if it is not in local files.
pub(super) fn open_branch(
    config: &Config,
    folder: &Folder,
    stores: &Stores,
    number: u16,
    key: &GatewayKey,
) -> anyhow::Result<(BranchThread, Option<String>)> {
    let store = stores.of(folder, number)?;
    // Founding waits for nobody: a branch that has never been open must open now.
    let never_open = store.is_some() && !folder.branch(number).join("mark/MARK").exists();
    let keys = stores.keys(folder, number, store.as_deref())?;
    let branch = match stores.journal(config, folder, number, store.as_deref())? {
        Journal::Local(journal) => spawn(parts(config, folder, number, key, (journal, keys))?)?,
        #[cfg(feature = "cluster")]
        Journal::Postgres(journal) => spawn(parts(config, folder, number, key, (journal, keys))?)?,
    };
    if let Condition::Sick(cause) = branch.handle().condition() {
        // The other branches go on; this one says why it is sick, and can be opened again.
        tracing::error!(branch = number, cause, "the branch did not open");
        if never_open {
            bail!("the new branch {number} cannot be founded: {cause}");
        }
    }
    Ok((branch, store))
}

/// A branch whose journal is in `store`, open on this machine as long as `leash` holds.
///
/// # Errors
///
/// A store that is not configured, or whatever keeps the branch from opening.
#[cfg(feature = "cluster")]
pub(crate) fn open_leased(
    config: &Config,
    folder: &Folder,
    stores: &Stores,
    place: (u16, &str),
    held: (&GatewayKey, Arc<dyn skerry_branch::Leash>),
) -> anyhow::Result<BranchThread> {
    let branch = spawn(leased_parts(config, folder, stores, place, held)?)?;
    opened(branch)
}

/// The same, but following whoever has it open. [`promote`] opens it under `leash`.
///
/// # Errors
///
/// A store that is not configured, or whatever keeps it from beginning.
#[cfg(feature = "cluster")]
pub(crate) fn follow_leased(
    config: &Config,
    folder: &Folder,
    stores: &Stores,
    place: (u16, &str),
    held: (&GatewayKey, Arc<dyn skerry_branch::Leash>),
) -> anyhow::Result<BranchThread> {
    let parts = leased_parts(config, folder, stores, place, held)?;
    Ok(BranchThread::follow(parts, Box::new(|bytes: &mut [u8; 32]| fill(bytes)))?)
}

/// A branch that was followed here, open from where it is.
///
/// # Errors
///
/// Whatever keeps it from opening.
#[cfg(feature = "cluster")]
pub(crate) fn promote(follower: BranchThread) -> anyhow::Result<BranchThread> {
    // What came of it its condition says.
    let _found = follower.handle().reopen();
    opened(follower)
}

#[cfg(feature = "cluster")]
fn opened(branch: BranchThread) -> anyhow::Result<BranchThread> {
    let number = branch.handle().number();
    match branch.handle().condition() {
        Condition::Open => Ok(branch),
        Condition::Sick(cause) => {
            branch.close();
            bail!("branch {number} did not open: {cause}")
        }
        Condition::Closed => bail!("branch {number} was closed while it opened"),
    }
}

#[cfg(feature = "cluster")]
fn leased_parts(
    config: &Config,
    folder: &Folder,
    stores: &Stores,
    (number, store): (u16, &str),
    (key, leash): (&GatewayKey, Arc<dyn skerry_branch::Leash>),
) -> anyhow::Result<Parts<skerry_postgres::PostgresStore<RealStorage>, RealStorage>> {
    if store == skerry_gateway::residence::Store::LOCAL {
        bail!(
            "branch {number} keeps its journal in local files, which no other machine could open: a node hosts only branches whose \
               journal is in a store"
        );
    }
    let keys = stores.keys(folder, number, Some(store))?;
    let Journal::Postgres(journal) = stores.journal(config, folder, number, Some(store))? else {
        bail!("the journal of branch {number} is not in store {store}");
    };
    let mut parts = parts(config, folder, number, key, (journal, keys))?;
    parts.options.leash = Some(leash);
    Ok(parts)
}

fn spawn<J: JournalStore + 'static>(parts: Parts<J, RealStorage>) -> anyhow::Result<BranchThread> {
    Ok(BranchThread::spawn(parts, Box::new(|bytes: &mut [u8; 32]| fill(bytes)))?)
}

/// Opens the book of a branch that has none.
///
/// # Errors
///
/// The branch refuses or does not answer.
pub(crate) fn found_if_new(
    config: &Config,
    folder: &Folder,
    handle: &BranchHandle,
    key: &GatewayKey,
) -> anyhow::Result<()> {
    let is_new = handle.figures().status.as_ref().is_some_and(|status| status.first_day.is_none());
    if is_new && handle.condition() == Condition::Open { found(config, folder, handle, key) } else { Ok(()) }
}

/// How the book of a new branch is opened today.
///
/// # Errors
///
/// A clock that cannot be right.
pub(crate) fn opening(config: &Config, identity: &Identity) -> anyhow::Result<OpenBranch> {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .context("the clock is before 1970")?;
    let now_us = u64::try_from(now.as_micros()).context("the clock is beyond its range")?;
    let currencies: Vec<Currency> =
        identity.currencies.iter().filter_map(|alpha| Currency::from_alpha(alpha)).collect();
    let terms = Terms {
        institution: identity.institution_bytes(),
        currencies,
        offset_minutes: identity.offset_minutes,
        cutoff_minutes: identity.cutoff_minutes,
        capacity: config.branch.customers_max,
    };
    let date = Date::business_day(now_us, i32::from(identity.offset_minutes), identity.cutoff_minutes);
    Ok(OpenBranch { terms, date })
}

/// Opens a new branch's book: terms, chart, heads, first business day.
fn found(config: &Config, folder: &Folder, handle: &BranchHandle, key: &GatewayKey) -> anyhow::Result<()> {
    let opening = opening(config, &folder.identity)?;
    let live = opening.date;
    for command in [Command::OpenBranch(opening), Command::GoLive(live)] {
        let name = command.name();
        match ask(handle, key, command)? {
            Reply::Command(Ok(_)) => (),
            other => bail!("could not {name} in branch {}: {other:?}", handle.number()),
        }
    }
    // Newcomers are placed by the branch's figures, so these must know of the room before anybody comes.
    let began = Instant::now();
    while handle.figures().status.as_ref().is_none_or(|status| status.first_day.is_none()) {
        if began.elapsed() > FIGURES {
            bail!("branch {} does not tell its figures within {FIGURES:?}", handle.number());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// One command of the bank's own, waited for.
fn ask(handle: &BranchHandle, key: &GatewayKey, command: Command) -> anyhow::Result<Reply> {
    let (sender, receiver) = std::sync::mpsc::channel();
    let actor = Actor::bank(Cause::Founding);
    let scope = Scope::default();
    let request = Request {
        actor,
        scope,
        deadline_us: 0,
        mac: key.authenticate(&actor, scope, 0),
        body: Body::Command { command: Box::new(command), key: None },
        reply: Box::new(move |reply| drop(sender.send(reply))),
    };
    handle.submit(request)?;
    receiver.recv_timeout(Duration::from_secs(60)).context("the branch did not answer")
}

/// Opens a branch whose journal was rewound, without what is lost, and closes it again.
///
/// # Errors
///
/// If it opens as it is, if its own error names another position, or if it does not open even so.
pub(crate) fn declare_loss(
    config: &Config,
    folder: &Folder,
    number: u16,
    position: u64,
) -> anyhow::Result<Found> {
    let key = GatewayKey::new(folder.secrets.gateway);
    let stores = Stores::new(config, folder)?;
    let store = stores.of(folder, number)?;
    let keys = stores.keys(folder, number, store.as_deref())?;
    match stores.journal(config, folder, number, store.as_deref())? {
        Journal::Local(journal) => {
            let mut accepting = journal.clone();
            accepting.options.accept_loss = true;
            declare(parts(config, folder, number, &key, (journal, keys))?, accepting, position)
        }
        #[cfg(feature = "cluster")]
        Journal::Postgres(journal) => {
            let accepting = journal.clone().accepting_loss();
            declare(parts(config, folder, number, &key, (journal, keys))?, accepting, position)
        }
    }
}

fn declare<J: JournalStore + 'static>(
    parts: Parts<J, RealStorage>,
    accepting: J,
    position: u64,
) -> anyhow::Result<Found> {
    let branch = spawn(parts)?;
    let handle = branch.handle();
    let number = handle.number();
    let Condition::Sick(cause) = handle.condition() else {
        bail!("branch {number} opens as it is: there is no loss to declare");
    };
    if !names_position(&cause, position) {
        bail!("position {position} is not in the branch's own words, which are: {cause}");
    }
    let found = handle.declare_loss(accepting).map_err(anyhow::Error::msg)?;
    branch.close();
    Ok(found)
}

/// Whether a branch's own words name this position. Other numbers in them, such as a branch's, do not count.
fn names_position(words: &str, position: u64) -> bool {
    let digits =
        |rest: &str| rest.split(|c: char| !c.is_ascii_digit()).next().map(str::parse) == Some(Ok(position));
    words.split("position ").skip(1).any(digits)
}

/// The storage of a branch's journal, for commands that need no running bank.
pub(crate) fn journal_storage(data: &Path, branch: u16) -> anyhow::Result<RealStorage> {
    let path = folder::branch_folder(data, branch).join("journal");
    RealStorage::existing(&path)
        .with_context(|| format!("there is no journal of branch {branch} at {}", path.display()))
}

/// The cold folder of a branch, which need not be there now.
pub(crate) fn cold_storage(config: &Config, branch: u16) -> Option<RealStorage> {
    config.storage.cold.as_ref().map(|cold| RealStorage::at(cold.join(format!("{branch:04}"))))
}

/// Opens one branch of a resting bank, archives, and closes it again. Returns the first position that is not archived.
///
/// # Errors
///
/// If it does not open, or why it went no further.
pub(crate) fn archive(config: &Config, folder: &Folder, number: u16, before: Before) -> anyhow::Result<u64> {
    let key = GatewayKey::new(folder.secrets.gateway);
    let (branch, _) = open_branch(config, folder, &Stores::new(config, folder)?, number, &key)?;
    let done = Hosted::new(branch.handle()).archive(before);
    branch.close();
    done.map_err(anyhow::Error::msg)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_position_proves_that_the_words_were_read() {
        let words = "journal_rewound: branch 2 has payments of this branch up to 3 that the journal, which ends at position 57 and \
                     has them up to 1, does not have";
        assert!(names_position(words, 57));
        for other in [1, 2, 3, 5, 7, 570] {
            assert!(!names_position(words, other), "{other}");
        }
    }
}
