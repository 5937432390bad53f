//! Where journals and the directory are kept: in local files, or in a store that the configuration names. A branch is told once
//! and stays there.
//!
//! The stores themselves are behind the feature `cluster`; without it a configuration that names one is refused in words.

#[cfg(feature = "cluster")]
use std::path::Path;
use std::path::PathBuf;

#[cfg(feature = "cluster")]
use anyhow::Context;
use anyhow::{bail, ensure};
use serde::{Deserialize, Serialize};
use skerry_branch::keys::{KeyRef, Keys, SlotKeys};
use skerry_directory::DirectoryThread;
use skerry_gateway::residence;
#[cfg(feature = "cluster")]
use skerry_journal::{JournalStore, export_from};
use skerry_journal::{LocalOptions, LocalStore, RealStorage};

use crate::config::{Config, range};
use crate::folder::{self, Folder};
use crate::up::branches::{cold_storage, fill};

mod kept;

use kept::in_turn;
pub(crate) use kept::{choose, kept_in, usual};

/// A PostgreSQL server, or several that stand in for each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Store {
    /// `postgres://user@host:port,host:port/database`, without a password.
    pub(crate) postgres: String,
    /// A file of mode 0600 whose first line is the password.
    pub(crate) password_file: Option<PathBuf>,
    /// PEM file of the roots that the server's certificate must lead to; needed beyond the loopback.
    pub(crate) ca: Option<PathBuf>,
    /// Our own certificate and key, where the server wants one.
    pub(crate) certificate: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
    /// Plain connections beyond the loopback. Said aloud, or not at all.
    #[serde(default)]
    pub(crate) insecure: bool,
    /// `replicated` to any one of at least two standbys, or `single`: said aloud.
    #[serde(default = "replicated")]
    pub(crate) durability: String,
    /// How long a commit may take.
    #[serde(default = "commit_timeout_ms")]
    pub(crate) commit_timeout_ms: u64,
    /// Connections for reading, of all branches together.
    #[serde(default = "readers_max")]
    pub(crate) readers_max: u32,
}

fn replicated() -> String {
    "replicated".to_owned()
}

const fn commit_timeout_ms() -> u64 {
    5_000
}

const fn readers_max() -> u32 {
    8
}

/// Checks the stores of a configuration, as far as that needs no server.
///
/// # Errors
///
/// The first key that is wrong.
pub(crate) fn check(config: &Config) -> anyhow::Result<()> {
    for (name, store) in &config.stores {
        let named = (1..=32).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        ensure!(named, "stores: a name has 1 to 32 small letters, digits or hyphens, {name:?} is none");
        ensure!(
            name != residence::Store::LOCAL,
            "stores.{name}: local is the name of the data folder's own files"
        );
        let key = |key: &str| format!("stores.{name}.{key}");
        ensure!(
            matches!(store.durability.as_str(), "replicated" | "single"),
            "{} must be \"replicated\" or \"single\", not {:?}",
            key("durability"),
            store.durability
        );
        range(&key("commit_timeout_ms"), store.commit_timeout_ms, 500, 60_000)?;
        range(&key("readers_max"), u64::from(store.readers_max), 1, 1_000)?;
        let own = store.certificate.is_some();
        ensure!(own == store.key.is_some(), "{} and {} go together", key("certificate"), key("key"));
        ensure!(!own || store.ca.is_some(), "{} needs {}", key("certificate"), key("ca"));
    }
    if let Some(name) = config.storage.journals.iter().find(|name| !config.stores.contains_key(*name)) {
        bail!("storage.journals names {name:?}, but there is no [stores.{name}]");
    }
    if let Some(name) = config.storage.directory.as_ref().filter(|name| !config.stores.contains_key(*name)) {
        bail!("storage.directory names {name:?}, but there is no [stores.{name}]");
    }
    built_for(&config.stores)
}

#[cfg(not(feature = "cluster"))]
fn built_for(stores: &std::collections::BTreeMap<String, Store>) -> anyhow::Result<()> {
    match stores.keys().next() {
        None => Ok(()),
        Some(name) => bail!("stores.{name} is a PostgreSQL server: {LEAN}"),
    }
}

#[cfg(not(feature = "cluster"))]
pub(crate) const LEAN: &str =
    "this binary was built without them; build it with 'cargo build --release --features cluster'";

#[cfg(feature = "cluster")]
fn built_for(stores: &std::collections::BTreeMap<String, Store>) -> anyhow::Result<()> {
    stores.iter().try_for_each(|(name, store)| store.server(name).map(drop))
}

/// All stores of `config` and the local files of `folder`, as the directory shows them.
pub(crate) fn shown(config: &Config, folder: &Folder) -> Vec<residence::Store> {
    let local = residence::Store {
        name: residence::Store::LOCAL.to_owned(),
        kind: residence::Store::LOCAL,
        place: folder.root().display().to_string(),
    };
    std::iter::once(local).chain(named(config)).collect()
}

/// All stores of `config` that other machines can use too.
pub(crate) fn named(config: &Config) -> impl Iterator<Item = residence::Store> {
    config.stores.iter().map(|(name, store)| residence::Store {
        name: name.clone(),
        kind: "postgres",
        place: store.postgres.clone(),
    })
}

/// A branch's journal, to be opened.
pub(crate) enum Journal {
    /// In local files.
    Local(LocalStore<RealStorage>),
    /// In a store.
    #[cfg(feature = "cluster")]
    Postgres(skerry_postgres::PostgresStore<RealStorage>),
}

/// The stores of a bank, connected to when a branch needs them.
pub(crate) struct Stores {
    /// Those of new branches, in turn.
    journals: Vec<String>,
    #[cfg(feature = "cluster")]
    directory: Option<String>,
    #[cfg(feature = "cluster")]
    pools: std::collections::BTreeMap<String, skerry_postgres::Pool>,
    #[cfg(feature = "cluster")]
    bank: String,
}

impl Stores {
    /// The stores that `config` names, for the bank of `folder`.
    ///
    /// # Errors
    ///
    /// As [`check`].
    #[cfg(feature = "cluster")]
    pub(crate) fn new(config: &Config, folder: &Folder) -> anyhow::Result<Self> {
        let pool = |(name, store): (&String, &Store)| {
            let server = store.server(name)?;
            Ok((name.clone(), skerry_postgres::Pool::new(server, usize::try_from(store.readers_max)?)))
        };
        let pools = config.stores.iter().map(pool).collect::<anyhow::Result<_>>()?;
        let bank = crate::erasures::bank_name(&folder.signing.history);
        let (journals, directory) = (config.storage.journals.clone(), config.storage.directory.clone());
        Ok(Self { journals, directory, pools, bank })
    }

    /// Without stores.
    ///
    /// # Errors
    ///
    /// Never.
    #[cfg(not(feature = "cluster"))]
    pub(crate) fn new(config: &Config, _folder: &Folder) -> anyhow::Result<Self> {
        Ok(Self { journals: config.storage.journals.clone() })
    }

    /// Where branch `number` keeps its journal; a new branch takes the next store, and its folder says so from now on.
    ///
    /// # Errors
    ///
    /// A file that cannot be read or written.
    pub(crate) fn of(&self, folder: &Folder, number: u16) -> anyhow::Result<Option<String>> {
        let path = folder.branch(number);
        if path.exists() {
            return kept_in(&path);
        }
        let Some(store) = in_turn(&self.journals, number) else { return Ok(None) };
        choose(folder, number, Some(store))?;
        Ok(Some(store.to_owned()))
    }

    /// The journal of branch `number` in `store`.
    ///
    /// # Errors
    ///
    /// A store that is not configured, or that this binary does not know how to use.
    pub(crate) fn journal(
        &self,
        config: &Config,
        folder: &Folder,
        number: u16,
        store: Option<&str>,
    ) -> anyhow::Result<Journal> {
        match store {
            None => {
                let storage = RealStorage::open(folder.branch(number).join("journal"))?;
                let segment_bytes = config.storage.segment_bytes;
                let options = LocalOptions { segment_bytes, ..LocalOptions::new(number) };
                Ok(Journal::Local(LocalStore { storage, options, cold: cold_storage(config, number) }))
            }
            Some(store) => self.in_store(config, folder, number, store),
        }
    }

    /// The keys of branch `number`'s customers: beside its journal, so that they are wherever that can be opened.
    ///
    /// # Errors
    ///
    /// As [`journal`](Self::journal), and key files that cannot be opened.
    pub(crate) fn keys(
        &self,
        folder: &Folder,
        number: u16,
        store: Option<&str>,
    ) -> anyhow::Result<Box<dyn Keys>> {
        match store {
            None => {
                let keys = RealStorage::open(folder::keys_folder(folder.root(), number))?;
                Ok(Box::new(SlotKeys::open(&keys, folder.secrets.master, Box::new(fill))?))
            }
            Some(store) => self.keys_in_store(folder, number, store),
        }
    }

    /// The directory, if a store holds it. Of a bank that `begins` nobody can have been placed before.
    ///
    /// # Errors
    ///
    /// If the machine gives no thread.
    #[cfg(feature = "cluster")]
    pub(crate) fn directory(&self, begins: bool) -> anyhow::Result<Option<DirectoryThread>> {
        use skerry_postgres::PostgresDirectory;

        let Some(pool) = self.directory.as_ref().and_then(|name| self.pools.get(name)) else {
            return Ok(None);
        };
        let open = if begins { PostgresDirectory::found } else { PostgresDirectory::open };
        Ok(Some(DirectoryThread::spawn(open(pool.server().clone(), &self.bank)?)?))
    }

    /// None: there are no stores.
    ///
    /// # Errors
    ///
    /// Never.
    #[cfg(not(feature = "cluster"))]
    pub(crate) fn directory(&self, _begins: bool) -> anyhow::Result<Option<DirectoryThread>> {
        Ok(None)
    }

    #[cfg(not(feature = "cluster"))]
    fn in_store(&self, _: &Config, _: &Folder, number: u16, store: &str) -> anyhow::Result<Journal> {
        bail!("branch {number} keeps its journal in the PostgreSQL store {store:?}: {LEAN}")
    }

    #[cfg(not(feature = "cluster"))]
    fn keys_in_store(&self, _: &Folder, number: u16, store: &str) -> anyhow::Result<Box<dyn Keys>> {
        bail!("branch {number} keeps its keys in the PostgreSQL store {store:?}: {LEAN}")
    }

    #[cfg(feature = "cluster")]
    fn keys_in_store(&self, folder: &Folder, number: u16, store: &str) -> anyhow::Result<Box<dyn Keys>> {
        let pool = self.pools.get(store).with_context(|| not_configured(number, store))?.clone();
        let master = folder.secrets.master;
        Ok(Box::new(skerry_postgres::PostgresKeys::new(pool, number, &self.bank, master, Box::new(fill))))
    }

    #[cfg(feature = "cluster")]
    fn in_store(
        &self,
        config: &Config,
        folder: &Folder,
        number: u16,
        store: &str,
    ) -> anyhow::Result<Journal> {
        let pool = self.pools.get(store).with_context(|| not_configured(number, store))?;
        let mark = RealStorage::open(folder.branch(number).join("mark"))?;
        let options = skerry_postgres::PostgresOptions::new(number, &self.bank);
        let cold = cold_storage(config, number);
        let journal = skerry_postgres::PostgresStore::new(pool.clone(), options, Some(mark), cold);
        Ok(Journal::Postgres(journal))
    }
}

#[cfg(feature = "cluster")]
fn not_configured(number: u16, store: &str) -> String {
    format!("branch {number} keeps its journal in store {store:?}, but there is no [stores.{store}]")
}

#[cfg(feature = "cluster")]
impl Store {
    /// The server that is meant; nothing is connected yet.
    pub(crate) fn server(&self, name: &str) -> anyhow::Result<skerry_postgres::Server> {
        use skerry_postgres::{Durability, Server, ServerOptions, TlsFiles};

        if let Some(file) = &self.password_file {
            check_secret(file).with_context(|| format!("stores.{name}.password_file"))?;
        }
        let own = self.certificate.clone().zip(self.key.clone());
        let options = ServerOptions {
            password_file: self.password_file.clone(),
            tls: self.ca.clone().map(|ca| TlsFiles { ca, own }),
            insecure: self.insecure,
            durability: if self.durability == "single" { Durability::Single } else { Durability::Replicated },
            patience: std::time::Duration::from_millis(self.commit_timeout_ms),
            ..ServerOptions::new(name, &self.postgres)
        };
        Ok(Server::new(options)?)
    }
}

/// A secret that others may read is none.
#[cfg(feature = "cluster")]
fn check_secret(path: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt;

    let found = std::fs::metadata(path).with_context(|| format!("could not read {}", path.display()))?;
    let mode = found.permissions().mode() & 0o077;
    ensure!(mode == 0, "{} can be read by others: run 'chmod 600 {0}'", path.display());
    Ok(())
}

/// A few connections to the store of a branch, for commands that need no running bank.
#[cfg(feature = "cluster")]
fn pool_of(config: &Config, branch: u16, store: &str) -> anyhow::Result<skerry_postgres::Pool> {
    let named = config.stores.get(store).with_context(|| not_configured(branch, store))?;
    Ok(skerry_postgres::Pool::new(named.server(store)?, 2))
}

/// Copies the keys of a branch's customers out of its store into key files of `target`. Beside a running bank too.
///
/// # Errors
///
/// A store that cannot be reached, or holds no such keys.
#[cfg(feature = "cluster")]
pub(crate) fn copy_keys(
    config: &Config,
    branch: u16,
    store: &str,
    target: &RealStorage,
) -> anyhow::Result<()> {
    skerry_postgres::copy_keys(&pool_of(config, branch, store)?, branch, target)
        .with_context(|| format!("could not copy the customers' keys of branch {branch}"))
}

/// Without stores there are no keys in any.
///
/// # Errors
///
/// Always.
#[cfg(not(feature = "cluster"))]
pub(crate) fn copy_keys(_: &Config, branch: u16, store: &str, _: &RealStorage) -> anyhow::Result<()> {
    bail!("branch {branch} keeps its keys in the PostgreSQL store {store:?}: {LEAN}")
}

/// The keys of a branch that are erased in its store.
///
/// # Errors
///
/// A store that cannot be reached.
#[cfg(feature = "cluster")]
pub(crate) fn erased(config: &Config, branch: u16, store: &str) -> anyhow::Result<Vec<KeyRef>> {
    skerry_postgres::erased_keys(&pool_of(config, branch, store)?, branch)
        .with_context(|| format!("could not read the erasures of branch {branch}"))
}

/// Without stores there are no keys in any.
///
/// # Errors
///
/// Always.
#[cfg(not(feature = "cluster"))]
pub(crate) fn erased(_: &Config, branch: u16, store: &str) -> anyhow::Result<Vec<KeyRef>> {
    bail!("branch {branch} keeps its keys in the PostgreSQL store {store:?}: {LEAN}")
}

/// Copies the journal of a branch out of its store, checked, into segments of `target`. Beside a running bank too.
///
/// # Errors
///
/// A store that cannot be reached; damage, with its place.
#[cfg(feature = "cluster")]
pub(crate) fn export(
    config: &Config,
    branch: u16,
    store: &str,
    target: &RealStorage,
) -> anyhow::Result<skerry_journal::Head> {
    let pool = pool_of(config, branch, store)?;
    let options = skerry_postgres::PostgresOptions::new(branch, "");
    let cold = cold_storage(config, branch);
    let reader = skerry_postgres::PostgresStore::new(pool, options, None, cold).look()?;
    crate::offline::check_origin(&reader, branch)?;
    Ok(export_from(&reader, branch, target, config.storage.segment_bytes)?)
}

/// Without stores there is nothing to copy out of.
///
/// # Errors
///
/// Always.
#[cfg(not(feature = "cluster"))]
pub(crate) fn export(
    _config: &Config,
    branch: u16,
    store: &str,
    _target: &RealStorage,
) -> anyhow::Result<skerry_journal::Head> {
    bail!("branch {branch} keeps its journal in the PostgreSQL store {store:?}: {LEAN}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        let config: Config = toml::from_str(text).unwrap();
        config.check().unwrap_err().to_string()
    }

    #[test]
    fn what_is_wrong_with_a_store_names_its_key() {
        let with = |more: &str| format!("[stores.main]\npostgres = \"postgres://u@127.0.0.1/bank\"\n{more}");
        for (text, part) in [
            ("[storage]\njournals = [\"main\"]".to_owned(), "there is no [stores.main]"),
            ("[storage]\ndirectory = \"main\"".to_owned(), "storage.directory names \"main\""),
            (with("durability = \"none\""), "stores.main.durability"),
            (with("commit_timeout_ms = 1"), "stores.main.commit_timeout_ms"),
            (with("readers_max = 0"), "stores.main.readers_max"),
            (with("certificate = \"a.pem\""), "stores.main.key"),
            (with("certificate = \"a.pem\"\nkey = \"a.key\""), "stores.main.ca"),
            ("[stores.local]\npostgres = \"\"".to_owned(), "own files"),
            ("[stores.Main]\npostgres = \"\"".to_owned(), "small letters"),
        ] {
            let error = refused(&text);
            assert!(error.contains(part), "{error}");
        }
        assert!(toml::from_str::<Config>(&with("sslmode = \"off\"")).is_err(), "unknown keys are errors");
    }

    #[cfg(not(feature = "cluster"))]
    #[test]
    fn a_lean_binary_says_what_it_lacks() {
        let error = refused("[stores.main]\npostgres = \"postgres://u@127.0.0.1/bank\"");
        assert!(error.contains("--features cluster") && error.contains("stores.main"), "{error}");
    }

    #[cfg(feature = "cluster")]
    #[test]
    fn an_address_is_read_when_the_configuration_is_checked() {
        let error = refused("[stores.main]\npostgres = \"postgres://u:secret@127.0.0.1/bank\"");
        assert!(error.contains("password_file") && !error.contains("secret"), "{error}");
        let error = refused("[stores.far]\npostgres = \"postgres://u@10.1.1.1/bank\"");
        assert!(error.contains("store \"far\"") && error.contains("loopback"), "{error}");
    }
}
