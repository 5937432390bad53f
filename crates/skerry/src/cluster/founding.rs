//! `skerry identity new`: founds a bank for several machines: its identity here, its branches in the directory. Nodes open them,
//! and those that are added later.

use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use skerry_book::command::OpenBranch;
use skerry_directory::{Ask, BranchRow, DirectoryHandle, Name, StoreRow, Told, Where};
use skerry_gateway::founding::Founder;
use skerry_node::seat::Seat;

use crate::cli::Settings;
use crate::config::Config;
use crate::folder::{Folder, IDENTITY_FILE, Identity, write_new};
use crate::output::print;
use crate::stores::{self, Stores};
use crate::up::branches::opening;

/// There from before the identity is until the directory knows the branches: a founding that broke off may be said again.
const UNFINISHED_FILE: &str = "founding";
/// A new branch of a bank of nodes is followed by so many.
const FOLLOWERS: u8 = 1;
/// Asks of the directory before the founding breaks off.
const ATTEMPTS: u32 = 10;

/// `skerry identity new`
///
/// # Errors
///
/// A bank is there already; no stores are named; the directory does not answer.
pub(crate) fn found(settings: &Settings, json: bool) -> anyhow::Result<()> {
    let config = Config::of(settings)?;
    super::check(&config)?;
    ensure!(
        !config.storage.journals.is_empty(),
        "storage.journals must name stores: what lies in local files no other machine could open"
    );
    let data = &config.storage.data;
    let unfinished = data.join(UNFINISHED_FILE);
    ensure!(
        !data.join(IDENTITY_FILE).exists() || unfinished.exists(),
        "{} holds a bank already",
        data.display()
    );
    crate::folder::make_dir(data)?;
    write_new(&unfinished, b"", 0o600)?;
    let folder = Folder::open(&config)?;
    let directory = Stores::new(&config, &folder)?.directory(true)?;
    let directory = directory.context("storage.directory names no store")?;
    enrol(&config, &directory.handle(), folder.identity.branches)?;
    std::fs::remove_file(&unfinished)
        .with_context(|| format!("could not remove {}", unfinished.display()))?;
    let bank = crate::erasures::bank_name(&folder.signing.history);
    let (institution, branches) = (&folder.identity.institution, folder.identity.branches);
    print(&serde_json::json!({"institution": institution, "bank": bank, "branches": branches}), json)
}

/// Tells the directory the stores, and the branches with a store each, in turn.
fn enrol(config: &Config, directory: &DirectoryHandle, branches: u16) -> anyhow::Result<()> {
    for store in stores::named(config) {
        let (name, kind) = (Name::new(&store.name)?, Name::new(store.kind)?);
        let place = Where::new(&store.place).or_else(|_| Where::new(&store.name))?;
        order(directory, &Ask::PutStore(StoreRow { name, kind, place }))?;
    }
    for (number, store) in (1..=branches).zip(config.storage.journals.iter().cycle()) {
        let row = BranchRow { followers: FOLLOWERS, ..BranchRow::new(number, Name::new(store)?) };
        order(directory, &Ask::AddBranch(row))?;
    }
    Ok(())
}

fn order(directory: &DirectoryHandle, ask: &Ask) -> anyhow::Result<()> {
    let mut last = None;
    for _ in 0..ATTEMPTS {
        match directory.ask_and_wait(ask.clone()) {
            Ok(Told::Done) => return Ok(()),
            Ok(Told::No(refusal)) => bail!("the directory refuses: {refusal}"),
            Ok(other) => bail!("the directory answered something else: {other:?}"),
            Err(error) => last = Some(error),
        }
    }
    let error = last.context("the directory was not asked")?;
    Err(anyhow::Error::new(error).context("say it again once the directory can be reached"))
}

/// What a gateway does for a branch that is added: it knows how its book is opened, and leaves the rest to nodes.
pub(super) struct Elsewhere {
    pub(super) config: Config,
    pub(super) identity: Identity,
}

impl Founder for Elsewhere {
    fn stores(&self) -> Vec<String> {
        self.config.stores.keys().cloned().collect()
    }

    fn usual(&self, number: u16) -> String {
        let first = || self.config.stores.keys().next().map(String::as_str);
        stores::usual(&self.config, number).or_else(first).unwrap_or_default().to_owned()
    }

    fn opening(&self) -> Result<OpenBranch, String> {
        opening(&self.config, &self.identity).map_err(|error| format!("{error:#}"))
    }

    fn open(&self, _: u16, _: &str) -> Result<Option<Arc<dyn Seat>>, String> {
        Ok(None)
    }

    fn keep(&self, _: u16) -> Result<(), String> {
        Ok(())
    }
}
