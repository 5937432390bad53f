//! Where each branch keeps its journal, for commands that need no running bank: its folder says so, or the bank's directory. A machine
//! of several has no folder of a branch that it never hosted.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::path::Path;

use anyhow::ensure;
use skerry_gateway::residence::Store;

use crate::config::Config;
use crate::{folder, stores};

/// The branches of the bank in a data folder.
pub(crate) struct Residences<'a> {
    config: &'a Config,
    data: &'a Path,
    /// By branch, its store, as the directory told when it was asked first.
    told: OnceCell<BTreeMap<u16, String>>,
}

impl<'a> Residences<'a> {
    /// Of the bank in `data`, whose stores are in `config`.
    pub(crate) const fn new(config: &'a Config, data: &'a Path) -> Self {
        Self { config, data, told: OnceCell::new() }
    }

    /// The store that `branch` keeps its journal in; `None` for local files.
    ///
    /// # Errors
    ///
    /// A file that cannot be read; a directory that does not answer.
    pub(crate) fn of(&self, branch: u16) -> anyhow::Result<Option<String>> {
        let folder = folder::branch_folder(self.data, branch);
        if let Some(store) = stores::kept_in(&folder)? {
            return Ok(Some(store));
        }
        if folder.join("journal").exists() || self.config.storage.directory.is_none() {
            return Ok(None);
        }
        Ok(self.told()?.get(&branch).filter(|store| *store != Store::LOCAL).cloned())
    }

    /// How many branches there are: the folder `knows` of some, and branches that were added to a bank of several machines are in the
    /// directory alone. Their numbers have no gaps.
    ///
    /// # Errors
    ///
    /// A directory that does not answer.
    pub(crate) fn count(&self, knows: u16) -> anyhow::Result<u16> {
        if self.config.storage.directory.is_none() {
            return Ok(knows);
        }
        Ok(self.told()?.keys().next_back().copied().unwrap_or(0).max(knows))
    }

    /// Whether `branch` is one of them. Of those that the folder knows the directory is not asked.
    ///
    /// # Errors
    ///
    /// It is not, or the directory does not answer.
    pub(crate) fn check(&self, branch: u16, knows: u16) -> anyhow::Result<()> {
        if (1..=knows).contains(&branch) {
            return Ok(());
        }
        let most = self.count(knows)?;
        ensure!((1..=most).contains(&branch), "this bank has branches 1 to {most}");
        Ok(())
    }

    fn told(&self) -> anyhow::Result<&BTreeMap<u16, String>> {
        if let Some(told) = self.told.get() {
            return Ok(told);
        }
        let told = ask(self.config, self.data)?;
        Ok(self.told.get_or_init(|| told))
    }
}

/// The directory is asked so often before it counts as away.
#[cfg(feature = "cluster")]
const ATTEMPTS: u32 = 3;

#[cfg(feature = "cluster")]
fn ask(config: &Config, data: &Path) -> anyhow::Result<BTreeMap<u16, String>> {
    use anyhow::{Context, bail};
    use skerry_directory::{Ask, DirectoryThread, Told};

    let Some(name) = &config.storage.directory else { return Ok(BTreeMap::new()) };
    let store = config.stores.get(name).with_context(|| format!("there is no [stores.{name}]"))?;
    let bank = crate::erasures::bank_name(&crate::signing::public_history(data)?);
    let directory = skerry_postgres::PostgresDirectory::open(store.server(name)?, &bank)?;
    let directory = DirectoryThread::spawn(directory)?;
    let mut last = None;
    for _ in 0..ATTEMPTS {
        match directory.handle().ask_and_wait(Ask::Map { since: 0 }) {
            Ok(Told::Map(map)) => {
                let rows = map.branches.iter().map(|entry| (entry.row.number, entry.row.store.to_string()));
                return Ok(rows.collect());
            }
            Ok(other) => bail!("the directory answered something else: {other:?}"),
            Err(error) => last = Some(error),
        }
    }
    let error = last.context("the directory was not asked")?;
    Err(anyhow::Error::new(error).context("could not ask the directory where the branches are"))
}

#[cfg(not(feature = "cluster"))]
fn ask(_: &Config, _: &Path) -> anyhow::Result<BTreeMap<u16, String>> {
    anyhow::bail!("the bank's directory is in a PostgreSQL store: {}", stores::LEAN)
}
