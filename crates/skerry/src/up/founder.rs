//! The branches that are open in this process, and those that are added while it runs.
//!
//! ```text
//! opened in its folder ─► founded, by the gateway ─► its number in bank.toml ─► known to all others
//! ```
//!
//! bank.toml is what a start goes by. Whoever is killed before it was written has as many branches as before, and what lies in the
//! new one's folder is gone on with when its number is asked for again; killed after that, they have one more, and it is founded.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, bail};
use skerry_book::command::OpenBranch;
use skerry_branch::api::GatewayKey;
use skerry_branch::{BranchThread, Condition};
use skerry_gateway::founding::Founder;
use skerry_gateway::residence;
use skerry_node::hosted::Hosted;
use skerry_node::seat::Seat;
use skerry_post::Post;

use super::branches::{found_if_new, open_branch, opening};
use crate::config::Config;
use crate::folder::Folder;
use crate::stores::{self, Stores};

/// A branch with the store of its journal, if that is not in local files.
type Opened = (BranchThread, Option<String>);

/// See the module.
pub(super) struct Branches {
    config: Config,
    folder: Arc<Folder>,
    stores: Stores,
    key: GatewayKey,
    post: Post,
    /// None once they are closed.
    open: Mutex<Option<BTreeMap<u16, Opened>>>,
}

impl Branches {
    /// Opens those that the bank has, and founds what is new.
    ///
    /// # Errors
    ///
    /// Whatever keeps one from opening, but for a sick one.
    pub(super) fn open(
        config: Config,
        folder: Arc<Folder>,
        stores: Stores,
        (key, post): (GatewayKey, Post),
    ) -> anyhow::Result<Self> {
        let mut open = BTreeMap::new();
        for number in 1..=folder.identity.branches {
            let opened = open_branch(&config, &folder, &stores, number, &key);
            open.insert(number, opened.with_context(|| format!("could not start branch {number}"))?);
        }
        for (branch, _) in open.values() {
            found_if_new(&config, &folder, &branch.handle(), &key)?;
            post.host(&branch.handle());
        }
        Ok(Self { config, folder, stores, key, post, open: Mutex::new(Some(open)) })
    }

    fn lock(&self) -> MutexGuard<'_, Option<BTreeMap<u16, Opened>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seat(&self, (branch, store): &Opened) -> Arc<dyn Seat> {
        let seat = Hosted::new(branch.handle()).signed_with(Arc::clone(&self.folder.signing.history));
        Arc::new(seat.kept_in(store.clone()))
    }

    /// Where their journals are.
    pub(super) const fn kept_in(&self) -> &Stores {
        &self.stores
    }

    /// By which a gateway asks them.
    pub(super) fn seats(&self) -> Vec<Arc<dyn Seat>> {
        self.lock().iter().flatten().map(|(_, opened)| self.seat(opened)).collect()
    }

    /// Those that do not serve, each with its cause.
    pub(super) fn sick(&self) -> Vec<String> {
        let open = self.lock();
        let told =
            open.iter().flatten().filter_map(|(number, (branch, _))| match branch.handle().condition() {
                Condition::Open => None,
                other => Some(format!("branch {number}: {other:?}")),
            });
        told.collect()
    }

    /// Closes them all; none is opened any more.
    pub(super) fn close(&self) {
        let open = self.lock().take();
        for (branch, _) in open.into_iter().flat_map(BTreeMap::into_values) {
            branch.close();
        }
    }

    fn opened(&self, number: u16, store: &str) -> anyhow::Result<Arc<dyn Seat>> {
        let mut open = self.lock();
        let open = open.as_mut().context("the bank is stopping")?;
        if let Some(opened) = open.get(&number) {
            return Ok(self.seat(opened));
        }
        let store = Some(store).filter(|store| *store != residence::Store::LOCAL);
        stores::choose(&self.folder, number, store)?;
        let opened = open_branch(&self.config, &self.folder, &self.stores, number, &self.key)?;
        if let Condition::Sick(cause) = opened.0.handle().condition() {
            opened.0.close();
            bail!("branch {number} did not open: {cause}");
        }
        let seat = self.seat(&opened);
        open.insert(number, opened);
        Ok(seat)
    }

    fn kept(&self, number: u16) -> anyhow::Result<()> {
        let open = self.lock();
        let (branch, _) = open.as_ref().and_then(|open| open.get(&number)).context("it is not open")?;
        self.folder.settle(number)?;
        self.folder.remember(number)?;
        self.post.host(&branch.handle());
        Ok(())
    }
}

impl Founder for Branches {
    fn stores(&self) -> Vec<String> {
        let local = residence::Store::LOCAL.to_owned();
        std::iter::once(local).chain(self.config.stores.keys().cloned()).collect()
    }

    fn usual(&self, number: u16) -> String {
        stores::usual(&self.config, number).unwrap_or(residence::Store::LOCAL).to_owned()
    }

    fn opening(&self) -> Result<OpenBranch, String> {
        opening(&self.config, &self.folder.identity).map_err(|error| format!("{error:#}"))
    }

    fn open(&self, number: u16, store: &str) -> Result<Option<Arc<dyn Seat>>, String> {
        self.opened(number, store).map(Some).map_err(|error| format!("{error:#}"))
    }

    fn keep(&self, number: u16) -> Result<(), String> {
        self.kept(number).map_err(|error| format!("{error:#}"))
    }
}
