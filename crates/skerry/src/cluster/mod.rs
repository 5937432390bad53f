//! One bank in several processes: `skerry node` hosts branches by lease, `skerry gateway` serves HTTP in front of them.
//!
//! ```text
//! clients ── HTTP ──► gateway ── bus ──► node: branches ──► journals in stores
//!                        │                 │ leases
//!                        └──► directory ◄──┘
//! ```
//!
//! Here is what both begin with. Nothing of it is in the bank's usual binary.

mod driver;
mod founding;
mod gateway;
mod node;

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use skerry_branch::api::GatewayKey;
use skerry_bus::Name;
use skerry_directory::{Ask, BranchState, DirectoryHandle, DirectoryThread, Map, Told};
use skerry_gateway::residence;
use skerry_post::PostThread;

use crate::buses;
use crate::config::Config;
use crate::folder::Folder;
use crate::stores::Stores;

pub(crate) use founding::found;
pub(crate) use gateway::run as run_gateway;
pub(crate) use node::run as run_node;

/// Between two asks for the first map.
const AGAIN: Duration = Duration::from_millis(500);

/// The longest name of a process: its post's endpoint is called the same with five letters more.
const NAME_MAX: usize = 26;

/// What every process of a bank holds.
struct Process {
    config: Config,
    folder: Folder,
    stores: Stores,
    key: GatewayKey,
    directory: DirectoryThread,
    post: PostThread,
}

impl Process {
    /// Opens the data folder of the process `name` and gets on its way to the directory and the buses.
    ///
    /// # Errors
    ///
    /// Whatever is missing in the configuration or in the folder.
    fn open(config: Config, name: &str) -> anyhow::Result<Self> {
        check(&config)?;
        let endpoint = Name::new(&format!("{name}-post"))?;
        let folder = Folder::of_a_bank(&config)?;
        let stores = Stores::new(&config, &folder)?;
        let key = GatewayKey::new(folder.secrets.gateway);
        let directory = stores.directory(false)?.context("storage.directory names no store")?;
        let post = buses::start_among(&config, &key, endpoint)?;
        Ok(Self { config, folder, stores, key, directory, post })
    }

    /// The map as the directory tells it first; waits for it.
    ///
    /// # Errors
    ///
    /// A bank without branches; a branch that no machine but one could open.
    fn first_map(&self) -> anyhow::Result<Map> {
        let map = ask_until_heard(&self.directory.handle());
        let mut hosted =
            map.branches.iter().filter(|entry| entry.row.state != BranchState::Closed).peekable();
        ensure!(
            hosted.peek().is_some(),
            "the directory knows no branches: 'skerry identity new' founds a bank with its branches"
        );
        for entry in hosted {
            let (number, store) = (entry.row.number, entry.row.store.as_str());
            ensure!(
                store != residence::Store::LOCAL,
                "branch {number} keeps its journal in local files, which no other machine could open: a bank of several machines \
                 keeps all journals in stores"
            );
            ensure!(
                self.config.stores.contains_key(store),
                "branch {number} keeps its journal in store {store:?}, but there is no [stores.{store}]"
            );
        }
        Ok(map)
    }
}

/// The map, however long the directory is away.
fn ask_until_heard(directory: &DirectoryHandle) -> Map {
    let mut told = false;
    loop {
        match directory.ask_and_wait(Ask::Map { since: 0 }) {
            Ok(Told::Map(map)) => return *map,
            Ok(other) => tracing::error!(?other, "the directory answered something else"),
            Err(error) if !told => {
                told = true;
                tracing::warn!(%error, "the directory cannot be reached; it is asked until it answers");
            }
            Err(_) => {}
        }
        std::thread::sleep(AGAIN);
    }
}

/// What a bank of several processes needs in its configuration.
fn check(config: &Config) -> anyhow::Result<()> {
    if config.storage.directory.is_none() {
        bail!("storage.directory must name one of [stores.…]: several processes share one directory");
    }
    ensure!(
        config.buses.contains_key(&config.bus.usual),
        "bus.use must name one of [buses.…]: processes of several machines reach each other over it"
    );
    Ok(())
}

/// The endpoint of a process, after its name.
fn endpoint(name: &str) -> anyhow::Result<Name> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    ensure!(
        (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(plain) && !name.starts_with('-'),
        "--name has 1 to {NAME_MAX} small letters, digits or hyphens, and does not begin with a hyphen; it is {name:?}"
    );
    Ok(Name::new(name)?)
}
