//! Who signs for the bank: the key file or command that the configuration names, and the history of keys beside it.
//!
//! ```text
//! data/signers.toml          the bank's public keys, first to present, and the rotations between them
//! data/secrets/signer.key    the present key, unless a command has it; plain, or sealed under a passphrase
//! data/secrets/signer.next   only within a rotation
//! ```
//!
//! # Invariants
//!
//! - What signs is what `signers.toml` names as present: a key that was swapped without a rotation is refused, since
//!   nobody outside could tell it from a thief's.
//! - A rotation is durable in `signers.toml` before the old key goes, and `signer.next` before either.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};
use skerry_proof::{KeyHistory, PublicKey, Rotation, SignatureAlgorithm, Signer};
use skerry_signers::answer::hex;
use skerry_signers::key_file::{self, LENGTH_MAX, Secret};
use skerry_signers::{Cost, External, ExternalSigner, KeyFile, SealedKey};

use crate::config::Config;
use crate::folder::write_new;

/// The history of the bank's public keys.
pub(crate) const HISTORY_FILE: &str = "signers.toml";
/// The present key, within the data folder.
pub(crate) const KEY_FILE: &str = "secrets/signer.key";
const NEXT_FILE: &str = "secrets/signer.next";

/// A signer that branches share.
pub(crate) type Shared = Arc<dyn Signer + Send + Sync>;

/// The bank's signer and all its public keys.
#[derive(Clone)]
pub(crate) struct Signing {
    pub(crate) signer: Shared,
    pub(crate) history: Arc<KeyHistory>,
}

impl std::fmt::Debug for Signing {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Signing({})", self.signer.key_id())
    }
}

/// `signers.toml`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format: u32,
    first: String,
    /// Each in hexadecimal, oldest first.
    rotations: Vec<String>,
}

impl Signing {
    /// Opens what `config` names in the folder at `root`; makes a key if this is the first start.
    ///
    /// # Errors
    ///
    /// A key file that is not there, is open to others, does not open, or is not the key that signed last.
    pub(crate) fn open(config: &Config, root: &Path, fresh: bool) -> anyhow::Result<Self> {
        let path = root.join(KEY_FILE);
        if fresh && config.evidence.signer.command.is_empty() && !path.exists() {
            make_key(config, &path)?;
        }
        let known = history(root)?;
        if let Some(known) = &known {
            finish_rotation(root, known)?;
        }
        let signer = load(config, root)?;
        let history = match known {
            Some(history) => history,
            None => {
                let history = KeyHistory::new(signer.public_key());
                keep(root, &history)?;
                history
            }
        };
        let (present, found) = (history.present().id(), signer.key_id());
        ensure!(
            present == found,
            "the signer is key {found}, but {} names {present} as the present one: a change of keys needs \
             'skerry key rotate'",
            root.join(HISTORY_FILE).display()
        );
        Ok(Self { signer, history: Arc::new(history) })
    }
}

/// The signer that `config` names. A command is not asked anything yet.
fn load(config: &Config, root: &Path) -> anyhow::Result<Shared> {
    if let Some(external) = external(config)? {
        return Ok(Arc::new(external));
    }
    let path = root.join(KEY_FILE);
    let file = read_key_file(&path)?;
    let passphrase = passphrase(config)?;
    ensure!(
        passphrase.is_none() || matches!(file, KeyFile::Sealed(_)),
        "{} is not sealed, although evidence.signer.passphrase_file is configured: run 'skerry key seal'",
        path.display()
    );
    open_key_file(&path, &file, passphrase.as_deref().map(Vec::as_slice))
}

/// Opens a key file that was read from `path`.
///
/// # Errors
///
/// Names the file.
pub(crate) fn open_key_file(
    path: &Path,
    file: &KeyFile,
    passphrase: Option<&[u8]>,
) -> anyhow::Result<Shared> {
    let (algorithm, secret) =
        file.open(passphrase).with_context(|| format!("could not open the key {}", path.display()))?;
    let signer = key_file::signer(algorithm, &secret);
    Ok(Arc::from(signer.with_context(|| format!("could not use the key {}", path.display()))?))
}

/// Reads a key file that only its owner may read.
///
/// # Errors
///
/// Names the file.
pub(crate) fn read_key_file(path: &Path) -> anyhow::Result<KeyFile> {
    let bytes = read_secret(path, LENGTH_MAX)?;
    KeyFile::parse(&bytes).with_context(|| format!("could not read the key {}", path.display()))
}

/// The passphrase in the file that `config` names, if it names one.
fn passphrase(config: &Config) -> anyhow::Result<Option<zeroize::Zeroizing<Vec<u8>>>> {
    config.evidence.signer.passphrase_file.as_deref().map(read_passphrase).transpose()
}

/// The first line of a file that only its owner may read.
///
/// # Errors
///
/// Names the file; also for fewer than 8 bytes.
pub(crate) fn read_passphrase(path: &Path) -> anyhow::Result<zeroize::Zeroizing<Vec<u8>>> {
    let bytes = read_secret(path, 4096)?;
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    ensure!(line.len() >= 8, "the passphrase in {} has fewer than 8 bytes", path.display());
    Ok(zeroize::Zeroizing::new(line.to_vec()))
}

/// Reads a file that nobody else may read.
///
/// # Errors
///
/// A file that cannot be read, that others can read, or that is longer than `most` bytes.
pub(crate) fn read_secret(path: &Path, most: usize) -> anyhow::Result<zeroize::Zeroizing<Vec<u8>>> {
    let wrong = || format!("could not read the secret {}", path.display());
    let metadata = std::fs::metadata(path).with_context(wrong)?;
    ensure!(
        metadata.permissions().mode() & 0o077 == 0,
        "{} can be read by others: run 'chmod 600 {0}'",
        path.display()
    );
    let fits = usize::try_from(metadata.len()).is_ok_and(|length| length <= most);
    ensure!(fits, "{} is longer than {most} bytes: it is no secret of this kind", path.display());
    Ok(zeroize::Zeroizing::new(std::fs::read(path).with_context(wrong)?))
}

fn external(config: &Config) -> anyhow::Result<Option<ExternalSigner>> {
    let signer = &config.evidence.signer;
    Ok(config.signer_public_key()?.filter(|_| !signer.command.is_empty()).map(|public_key| {
        ExternalSigner::new(External {
            command: signer.command.clone(),
            public_key,
            timeout: Duration::from_millis(signer.timeout_ms),
        })
    }))
}

/// Makes a key of the configured scheme and writes it to `path`, sealed if a passphrase is configured.
fn make_key(config: &Config, path: &Path) -> anyhow::Result<Shared> {
    let algorithm = config.signature_algorithm()?;
    let mut secret = Secret::default();
    let signer = loop {
        fill(secret.as_mut_slice());
        // Of 2³² random numbers one is no SM2 key.
        if let Ok(signer) = key_file::signer(algorithm, &secret) {
            break signer;
        }
    };
    write_key(path, algorithm, &secret, passphrase(config)?.as_deref().map(Vec::as_slice))?;
    Ok(Arc::from(signer))
}

fn write_key(
    path: &Path,
    algorithm: SignatureAlgorithm,
    secret: &Secret,
    passphrase: Option<&[u8]>,
) -> anyhow::Result<()> {
    match passphrase {
        None => write_new(path, KeyFile::plain_text(algorithm, secret).as_bytes(), 0o600),
        Some(passphrase) => {
            let sealed = SealedKey::seal(algorithm, secret, passphrase, Cost::default(), &mut fill)?;
            write_new(path, &sealed.encode(), 0o600)
        }
    }
}

fn fill(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the operating system gives random bytes");
}

/// The history of keys of the bank at `root`; `None` before its first start.
///
/// # Errors
///
/// A file that cannot be read, or rotations that do not verify.
pub(crate) fn history(root: &Path) -> anyhow::Result<Option<KeyHistory>> {
    let path = root.join(HISTORY_FILE);
    if !path.exists() {
        return Ok(None);
    }
    let wrong = || format!("could not read {}", path.display());
    let text = std::fs::read_to_string(&path).with_context(wrong)?;
    let stored: Stored = toml::from_str(&text).with_context(wrong)?;
    ensure!(stored.format == 1, "{} is of format {}; this release reads 1", path.display(), stored.format);
    read_history(&stored.first, stored.rotations.iter().map(String::as_str)).with_context(wrong).map(Some)
}

/// The keys of a bank whose folder may be older than the history of keys, without any secret where that is possible.
///
/// # Errors
///
/// As [`history`], and as the key file says.
pub(crate) fn public_history(root: &Path) -> anyhow::Result<KeyHistory> {
    match history(root)? {
        Some(history) => Ok(history),
        None => {
            let path = root.join(KEY_FILE);
            let public = read_key_file(&path)?.public_key();
            Ok(KeyHistory::new(public.with_context(|| format!("could not use the key {}", path.display()))?))
        }
    }
}

/// A history out of its texts.
///
/// # Errors
///
/// Which rotation is wrong, and how.
pub(crate) fn read_history<'a>(
    first: &str,
    rotations: impl Iterator<Item = &'a str>,
) -> anyhow::Result<KeyHistory> {
    let mut history = KeyHistory::new(first.parse().with_context(|| format!("the first key {first:?}"))?);
    for (number, text) in (1..).zip(rotations) {
        let wrong = || format!("rotation {number} of the keys");
        let bytes = crate::offline::parse_bytes(text).with_context(wrong).context("it is not hexadecimal")?;
        let rotation = Rotation::decode(&bytes).with_context(wrong)?;
        history.push(rotation).with_context(wrong)?;
    }
    Ok(history)
}

/// The rotations as text, oldest first.
pub(crate) fn rotations(history: &KeyHistory) -> Vec<String> {
    history.rotations().iter().map(|rotation| hex(&rotation.encode())).collect()
}

fn keep(root: &Path, history: &KeyHistory) -> anyhow::Result<()> {
    let stored = Stored { format: 1, first: history.first().to_string(), rotations: rotations(history) };
    write_new(&root.join(HISTORY_FILE), toml::to_string(&stored)?.as_bytes(), 0o644)
}

/// Puts the next key in its place, if a rotation was cut off between being durable and that.
fn finish_rotation(root: &Path, history: &KeyHistory) -> anyhow::Result<()> {
    let next = root.join(NEXT_FILE);
    if !next.exists() {
        return Ok(());
    }
    let public: PublicKey = read_key_file(&next)?.public_key()?;
    if public == history.present() {
        std::fs::rename(&next, root.join(KEY_FILE)).context("could not put the next key in its place")?;
        std::fs::File::open(root.join("secrets"))?.sync_all()?;
    }
    Ok(())
}

/// Lets the present key hand over to another: to one that is made, or to the one of `next`'s command.
///
/// # Errors
///
/// If either cannot sign; nothing is changed then.
pub(crate) fn rotate(
    config: &Config,
    next: &Config,
    root: &Path,
    institution: &str,
    retired_us: u64,
) -> anyhow::Result<KeyHistory> {
    let present = Signing::open(config, root, false)?;
    let elsewhere = external(next)?;
    let leaves = elsewhere.is_some();
    let new: Shared = match elsewhere {
        Some(external) => Arc::new(external),
        None => make_key(next, &root.join(NEXT_FILE))?,
    };
    let mut history = (*present.history).clone();
    let rotation = Rotation::sign(&history, institution, retired_us, &*present.signer, &*new)?;
    history.push(rotation)?;
    keep(root, &history)?;
    if leaves {
        // The new key lies elsewhere; the old one must not stay to be stolen.
        let old = root.join(KEY_FILE);
        if old.exists() {
            std::fs::remove_file(&old).with_context(|| format!("could not remove {}", old.display()))?;
        }
    } else {
        finish_rotation(root, &history)?;
    }
    Ok(history)
}

/// Seals the key file under the configured passphrase: a plain one, or one that is sealed under `old`.
///
/// # Errors
///
/// Names the file that is wrong.
pub(crate) fn seal(config: &Config, root: &Path, old: Option<&PathBuf>) -> anyhow::Result<PublicKey> {
    let path = root.join(KEY_FILE);
    let Some(passphrase) = passphrase(config)? else {
        bail!("no passphrase file is configured: name one in evidence.signer.passphrase_file");
    };
    let file = read_key_file(&path)?;
    ensure!(
        old.is_some() || matches!(file, KeyFile::Plain(..)),
        "{} is sealed already: --old names the file of its present passphrase",
        path.display()
    );
    let old = old.map(|old| read_passphrase(old)).transpose()?;
    let opened = file.open(old.as_deref().map(Vec::as_slice));
    let (algorithm, secret) = opened.with_context(|| format!("could not open the key {}", path.display()))?;
    write_key(&path, algorithm, &secret, Some(&passphrase))?;
    Ok(key_file::signer(algorithm, &secret)?.public_key())
}
