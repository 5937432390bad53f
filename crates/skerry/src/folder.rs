//! The data folder: what lies where, made at the first start and held by one process at a time.
//!
//! ```text
//! data/
//!   bank.toml          who the bank is; written once, then only compared, but for branches that are added
//!   operator.token     the first operator's token, mode 0600
//!   tokens.json        hashes of all tokens
//!   tokens.lock        held while these are changed
//!   webhooks.json      who is called with events, secrets sealed; webhooks.progress.json: how far each is
//!   signers.toml       the bank's public keys, first to present (signing.rs)
//!   secrets/           32 random bytes each, in hex, mode 0600; the signer's key may be sealed
//!   keys/              a key per customer, wrapped
//!   branches/0001/     journal, side files, snapshots
//!   running.json       address and process of the bank while it runs
//!   LOCK               held while it runs
//! ```

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::signing::Signing;

mod bank;

pub(crate) use bank::Identity;

/// The directory's files; derived, so a backup leaves them out.
pub(crate) const DIRECTORY: &str = "directory";
/// Hashes of all tokens.
pub(crate) const TOKENS_FILE: &str = "tokens.json";
/// The first operator's token.
pub(crate) const TOKEN_FILE: &str = "operator.token";
/// Who the bank is.
pub(crate) const IDENTITY_FILE: &str = "bank.toml";
const RUNNING_FILE: &str = "running.json";

/// A data folder that this process holds.
#[derive(Debug)]
pub(crate) struct Folder {
    root: PathBuf,
    /// Whether this start made it.
    pub(crate) fresh: bool,
    pub(crate) identity: Identity,
    pub(crate) secrets: Secrets,
    pub(crate) signing: Signing,
    _lock: File,
}

/// What must not be seen. Never printed.
pub(crate) struct Secrets {
    /// Wraps the customers' keys.
    pub(crate) master: [u8; 32],
    /// Digests, derived ids, the HMAC of documents.
    pub(crate) institution: [u8; 32],
    /// Shared by gateway and branches.
    pub(crate) gateway: [u8; 32],
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets(..)")
    }
}

/// Where a bank that runs can be reached.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Running {
    pub(crate) server: String,
    pub(crate) process: u32,
}

impl Folder {
    /// Opens the folder that `config` names, making it if it is not there, and locks it.
    ///
    /// # Errors
    ///
    /// Another process holds it; it cannot be written; it belongs to a bank of another identity.
    pub(crate) fn open(config: &Config) -> anyhow::Result<Self> {
        let root = config.storage.data.clone();
        make_dir(&root)?;
        let lock = hold(&root)?;
        let path = root.join(IDENTITY_FILE);
        let fresh = !path.exists();
        let identity = if fresh { Identity::make(config)? } else { Identity::load(&path)? };
        identity.compare(config, &path)?;
        make_dir(&root.join("secrets"))?;
        make_dir(&root.join("keys"))?;
        make_dir(&root.join("branches"))?;
        let secrets = Secrets::open(&root.join("secrets"), fresh)?;
        let signing = Signing::open(config, &root, fresh)?;
        if fresh {
            // Last, so that a start that failed half way is a first start again.
            identity.write(&path)?;
        }
        Ok(Self { root, fresh, identity, secrets, signing, _lock: lock })
    }

    /// The same, of a bank that was founded before: a machine that joins one must not begin another by mistake.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open); no bank is in it.
    #[cfg(feature = "cluster")]
    pub(crate) fn of_a_bank(config: &Config) -> anyhow::Result<Self> {
        let path = config.storage.data.join(IDENTITY_FILE);
        ensure!(
            path.exists(),
            "{} is not there: 'skerry identity new' founds a bank for many machines, 'skerry identity import' makes this machine one \
             of its machines",
            path.display()
        );
        Self::open(config)
    }

    /// The folder itself.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of one branch.
    pub(crate) fn branch(&self, branch: u16) -> PathBuf {
        branch_folder(&self.root, branch)
    }

    /// Makes durable that the folders of branch `number` are there: the storage in them syncs what is in it.
    ///
    /// # Errors
    ///
    /// As the system says.
    pub(crate) fn settle(&self, number: u16) -> anyhow::Result<()> {
        for path in [self.branch(number), self.root.join("branches"), self.root.join("keys")] {
            let synced = File::open(&path).and_then(|folder| folder.sync_all());
            synced.with_context(|| format!("could not sync {}", path.display()))?;
        }
        Ok(())
    }

    /// Says for good that the bank has `branches`: the next start opens so many.
    ///
    /// # Errors
    ///
    /// The file cannot be written; the bank has as many as before.
    pub(crate) fn remember(&self, branches: u16) -> anyhow::Result<()> {
        let path = self.root.join(IDENTITY_FILE);
        let before = Identity::load(&path)?;
        if before.branches >= branches {
            return Ok(());
        }
        before.with_branches(branches).write(&path)
    }

    /// Writes the first operator's token, readable by the owner alone.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub(crate) fn write_token(&self, token: &str) -> anyhow::Result<()> {
        write_new(&self.root.join(TOKEN_FILE), format!("{token}\n").as_bytes(), 0o600)
    }

    /// Says where the bank can be reached, for `status` and `down`.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub(crate) fn announce(&self, server: &str) -> anyhow::Result<()> {
        let running = Running { server: server.to_owned(), process: std::process::id() };
        write_new(&self.root.join(RUNNING_FILE), &serde_json::to_vec(&running)?, 0o644)
    }

    /// Takes the announcement back.
    pub(crate) fn retract(&self) {
        // A stale announcement is harmless: whoever reads it finds nobody there.
        let _gone = std::fs::remove_file(self.root.join(RUNNING_FILE));
    }
}

/// The folder of the keys of `branch`'s customers under a data folder, if they are not in a store.
pub(crate) fn keys_folder(root: &Path, branch: u16) -> PathBuf {
    root.join("keys").join(format!("{branch:04}"))
}

/// The folder of `branch` under a data folder.
pub(crate) fn branch_folder(root: &Path, branch: u16) -> PathBuf {
    root.join("branches").join(format!("{branch:04}"))
}

/// What the bank of this folder announced, if it did.
pub(crate) fn running(root: &Path) -> Option<Running> {
    serde_json::from_slice(&std::fs::read(root.join(RUNNING_FILE)).ok()?).ok()
}

/// The address that the bank of this folder announced.
pub(crate) fn running_server(root: &Path) -> Option<String> {
    running(root).map(|running| running.server)
}

/// Whether a process holds the folder.
pub(crate) fn is_held(root: &Path) -> bool {
    root.join("LOCK").exists() && hold(root).is_err()
}

impl Secrets {
    fn open(folder: &Path, fresh: bool) -> anyhow::Result<Self> {
        Ok(Self {
            master: secret(&folder.join("master.key"), fresh)?,
            institution: secret(&folder.join("institution.key"), fresh)?,
            gateway: secret(&folder.join("gateway.key"), fresh)?,
        })
    }
}

/// Reads 32 bytes in hex, or makes them at a first start. Refuses a file that others may read.
fn secret(path: &Path, fresh: bool) -> anyhow::Result<[u8; 32]> {
    if fresh && !path.exists() {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)
            .map_err(|error| anyhow::anyhow!("the system gives no random bytes: {error}"))?;
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        write_new(path, hex.as_bytes(), 0o600)?;
        return Ok(bytes);
    }
    let wrong = || format!("could not read the secret {}", path.display());
    let mode = std::fs::metadata(path).with_context(wrong)?.permissions().mode() & 0o077;
    ensure!(mode == 0, "{} can be read by others: run 'chmod 600 {0}'", path.display());
    let text = std::fs::read_to_string(path).with_context(wrong)?;
    parse_hex(text.trim()).with_context(|| format!("{} does not hold 32 bytes in hex", path.display()))
}

/// 32 bytes in hex.
pub(crate) fn parse_hex(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(bytes)
}

/// Makes a folder that only its owner may read.
///
/// # Errors
///
/// As the system says.
pub(crate) fn make_dir(path: &Path) -> anyhow::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("could not make the folder {}", path.display()))
}

/// Takes the folder for this process.
///
/// # Errors
///
/// If another process holds it.
pub(crate) fn hold(root: &Path) -> anyhow::Result<File> {
    let path = root.join("LOCK");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("could not open {} (is the data folder read-only?)", path.display()))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            bail!(
                "the data folder {} is held by another process; stop it with 'skerry down --data {0}'",
                root.display()
            )
        }
        Err(error) => Err(error).with_context(|| format!("could not lock {}", path.display())),
    }
}

/// Writes a whole file beside its place, syncs it and moves it there: a crash leaves the old one or the new one.
///
/// # Errors
///
/// Names the file.
pub(crate) fn write_new(path: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    let beside = path.with_extension("new");
    let attempt = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(mode).open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&beside, path)?;
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    attempt().with_context(|| format!("could not write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(data: &Path) -> Config {
        let mut config = Config::default();
        config.storage.data = data.to_owned();
        config
    }

    fn temporary(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("skerry-folder-{name}-{}", std::process::id()));
        let _gone = std::fs::remove_dir_all(&path);
        path
    }

    #[test]
    fn the_second_start_finds_what_the_first_made() {
        let root = temporary("second");
        let first = Folder::open(&config(&root)).unwrap();
        assert!(first.fresh);
        let (master, signer) = (first.secrets.master, first.signing.signer.public_key());
        assert_ne!(master, first.secrets.gateway);
        drop(first);
        let second = Folder::open(&config(&root)).unwrap();
        assert!(!second.fresh);
        assert_eq!((second.secrets.master, second.signing.signer.public_key()), (master, signer));
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn one_process_at_a_time() {
        let root = temporary("lock");
        let held = Folder::open(&config(&root)).unwrap();
        let error = Folder::open(&config(&root)).unwrap_err().to_string();
        assert!(error.contains("held by another process"), "{error}");
        drop(held);
        Folder::open(&config(&root)).unwrap();
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_secret_that_others_may_read_is_refused() {
        let root = temporary("mode");
        drop(Folder::open(&config(&root)).unwrap());
        let path = root.join("secrets/master.key");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let error = Folder::open(&config(&root)).unwrap_err().to_string();
        assert!(error.contains("chmod 600"), "{error}");
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn another_identity_is_refused() {
        let root = temporary("identity");
        drop(Folder::open(&config(&root)).unwrap());
        let mut other = config(&root);
        other.bank.time_zone = "+05:00".to_owned();
        let error = Folder::open(&other).unwrap_err().to_string();
        assert!(error.contains("bank.time_zone was fixed"), "{error}");
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn branches_are_added_and_never_taken_away() {
        let root = temporary("branches");
        let said = |branches| {
            let mut config = config(&root);
            config.bank.branches = branches;
            Folder::open(&config)
        };
        drop(said(2).unwrap());
        let error = said(7).unwrap_err().to_string();
        assert!(error.contains("bank.branches") && error.contains("has 2"), "{error}");
        let folder = said(2).unwrap();
        folder.remember(3).unwrap();
        folder.remember(1).unwrap();
        drop(folder);
        for founded_with_or_has in [2, 3] {
            assert_eq!(said(founded_with_or_has).unwrap().identity.branches, 3);
        }
        assert_eq!(
            Folder::open(&config(&root)).unwrap().identity.branches,
            3,
            "and where nobody says a number"
        );
        assert!(said(5).is_err());
        std::fs::remove_dir_all(root).unwrap();
    }
}
