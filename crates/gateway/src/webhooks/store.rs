//! What is kept of webhooks: two files in the data folder, readable by their owner only, replaced by rename.
//!
//! ```text
//! webhooks.json            who is called, and with which secrets, sealed; written when an operator changes something
//! webhooks.progress.json   how far each was delivered; written at most once a second
//! ```
//!
//! A secret must be had in the clear to sign with it, so unlike a token's it cannot be kept as a hash: it is sealed
//! (ChaCha20-Poly1305) under a key that derives from the institution's secret, and bound to its webhook. Neither file is part of a
//! backup: a bank that is restored, perhaps for a drill, calls nobody until it is told to.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::sign::{SECRET_BYTES, Secret};
use crate::tokens::replace_private;
use crate::{random, text};

const VERSION: u32 = 1;

/// Nonce and tag beside the secret.
const NONCE_BYTES: usize = 12;

/// Why the files are of no use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A file could not be read or written.
    #[error("could not {action} {path:?}")]
    File {
        /// What was attempted.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A file is not what we wrote.
    #[error("could not read webhooks in {path:?}: {reason}")]
    Format {
        /// Which file.
        path: PathBuf,
        /// What is wrong in it.
        reason: String,
    },
}

/// A webhook as it is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    pub(crate) id: String,
    pub(crate) url: String,
    /// None is all.
    #[serde(default)]
    pub(crate) types: Vec<String>,
    /// Absent is all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) branches: Option<Vec<u16>>,
    /// RFC 3339.
    pub(crate) created: String,
    /// Whose token made it.
    pub(crate) created_by: String,
    /// Newest first.
    pub(crate) secrets: Vec<Sealed>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) disabled: Option<Disabled>,
}

impl Record {
    /// The secrets to sign with: the newest, and for a while the one before.
    pub(crate) fn holding(&self, now_s: u64) -> impl Iterator<Item = &Sealed> {
        self.secrets.iter().filter(move |sealed| sealed.until_s.is_none_or(|until| now_s < until))
    }

    /// Takes a new secret; the one before it holds until then, and older ones are forgotten.
    pub(crate) fn rotate(&mut self, new: Sealed, until_s: u64) {
        self.secrets.truncate(1);
        self.secrets.iter_mut().for_each(|old| old.until_s = Some(until_s));
        self.secrets.insert(0, new);
    }
}

/// A sealed secret.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sealed {
    /// Nonce and ciphertext, in hexadecimal.
    sealed: String,
    /// Seconds since 1970 until which it signs beside a newer one; absent is for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) until_s: Option<u64>,
}

/// The reason of a webhook that an operator has switched off.
pub(crate) const OPERATOR: &str = "operator";

/// Why a webhook is called no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Disabled {
    /// `operator`, `gone` (the receiver answered 410), `gave_up` (it failed for days), or the code of a problem such as
    /// `cursor_ahead`.
    pub reason: String,
    /// What exactly, in English.
    pub detail: String,
    /// When (RFC 3339).
    pub at: String,
}

impl Disabled {
    /// Whether nobody said so: the receiver failed or is gone, or its cursor leads nowhere.
    pub(crate) fn is_the_receivers(&self) -> bool {
        self.reason != OPERATOR
    }
}

/// How far a webhook is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Progress {
    /// Everything before it is delivered.
    pub(crate) cursor: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) failing: Option<Failing>,
}

/// A delivery that fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Failing {
    /// The first failure, seconds since 1970.
    pub(crate) since_s: u64,
    /// Attempts so far.
    pub(crate) attempts: u32,
    /// The next attempt, milliseconds since 1970.
    pub(crate) next_ms: u64,
    /// Why the last one failed.
    pub(crate) detail: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordsFile {
    version: u32,
    webhooks: Vec<Record>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProgressFile {
    version: u32,
    webhooks: BTreeMap<String, Progress>,
}

/// The two files.
#[derive(Debug)]
pub(crate) struct Files {
    records: PathBuf,
    progress: PathBuf,
}

impl Files {
    /// Those in `folder`.
    pub(crate) fn within(folder: &Path) -> Self {
        Self { records: folder.join("webhooks.json"), progress: folder.join("webhooks.progress.json") }
    }

    /// What they hold; files that are not there hold nothing.
    pub(crate) fn read(&self) -> Result<(Vec<Record>, BTreeMap<String, Progress>), StoreError> {
        let records: Option<RecordsFile> = read(&self.records)?;
        let progress: Option<ProgressFile> = read(&self.progress)?;
        let versions = [
            (&self.records, records.as_ref().map(|file| file.version)),
            (&self.progress, progress.as_ref().map(|file| file.version)),
        ];
        for (path, version) in versions {
            if let Some(version) = version.filter(|version| *version != VERSION) {
                let reason = format!("version {version} is not {VERSION}");
                return Err(StoreError::Format { path: path.clone(), reason });
            }
        }
        let records = records.map(|file| file.webhooks).unwrap_or_default();
        Ok((records, progress.map(|file| file.webhooks).unwrap_or_default()))
    }

    /// Replaces the one with the webhooks.
    pub(crate) fn write_records(&self, webhooks: Vec<Record>) -> Result<(), StoreError> {
        write(&self.records, &RecordsFile { version: VERSION, webhooks })
    }

    /// Replaces the one with how far they are.
    pub(crate) fn write_progress(&self, webhooks: BTreeMap<String, Progress>) -> Result<(), StoreError> {
        write(&self.progress, &ProgressFile { version: VERSION, webhooks })
    }
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>, StoreError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(StoreError::File { action: "read", path: path.to_owned(), source }),
    };
    let format =
        |error: serde_json::Error| StoreError::Format { path: path.to_owned(), reason: error.to_string() };
    serde_json::from_slice(&bytes).map(Some).map_err(format)
}

fn write<T: Serialize>(path: &Path, file: &T) -> Result<(), StoreError> {
    let failed = |source| StoreError::File { action: "write", path: path.to_owned(), source };
    let bytes = serde_json::to_vec_pretty(file).map_err(|error| failed(error.into()))?;
    replace_private(path, &bytes).map_err(failed)
}

/// Seals and opens secrets.
#[derive(Debug, Clone)]
pub(crate) struct Sealer(Zeroizing<[u8; 32]>);

impl Sealer {
    /// Under the institution's key for webhooks.
    pub(crate) fn new(key: Zeroizing<[u8; 32]>) -> Self {
        Self(key)
    }

    fn cipher(&self) -> ChaCha20Poly1305 {
        ChaCha20Poly1305::new(Key::from_slice(&*self.0))
    }

    /// Seals the secret of the webhook `id`.
    pub(crate) fn seal(&self, id: &str, secret: &Secret) -> Sealed {
        let nonce: [u8; NONCE_BYTES] = random::bytes();
        let payload = Payload { msg: secret.bytes(), aad: id.as_bytes() };
        let sealed = self.cipher().encrypt(Nonce::from_slice(&nonce), payload).unwrap_or_default();
        Sealed { sealed: text::hex(&nonce) + &text::hex(&sealed), until_s: None }
    }

    /// Opens it; `None` if it is damaged, another webhook's, or sealed under another key.
    pub(crate) fn open(&self, id: &str, sealed: &Sealed) -> Option<Secret> {
        const LENGTH: usize = NONCE_BYTES + SECRET_BYTES + 16;
        let bytes = text::unhex::<LENGTH>(&sealed.sealed)?;
        let (nonce, ciphertext) = bytes.split_at(NONCE_BYTES);
        let payload = Payload { msg: ciphertext, aad: id.as_bytes() };
        let plain = Zeroizing::new(self.cipher().decrypt(Nonce::from_slice(nonce), payload).ok()?);
        Some(Secret::new(plain.as_slice().try_into().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_before_holds_for_its_time_and_older_ones_not_at_all() {
        let sealed = |text: &str| Sealed { sealed: text.to_owned(), until_s: None };
        let mut record = Record {
            id: "wh_1".to_owned(),
            url: String::new(),
            types: Vec::new(),
            branches: None,
            created: String::new(),
            created_by: String::new(),
            secrets: vec![sealed("1")],
            disabled: None,
        };
        let at = |record: &Record, now_s| -> Vec<String> {
            record.holding(now_s).map(|one| one.sealed.clone()).collect()
        };
        assert_eq!(at(&record, 99), ["1"]);
        record.rotate(sealed("2"), 100);
        assert_eq!((at(&record, 99), at(&record, 100)), (vec!["2".into(), "1".into()], vec!["2".into()]));
        record.rotate(sealed("3"), 110);
        assert_eq!((at(&record, 99), at(&record, 110)), (vec!["3".into(), "2".into()], vec!["3".into()]));
    }

    #[test]
    fn a_secret_opens_for_its_webhook_under_its_key_alone() {
        let sealer = Sealer::new(Zeroizing::new([1; 32]));
        let secret = Secret::made();
        let sealed = sealer.seal("wh_1", &secret);
        assert_eq!(sealer.open("wh_1", &sealed).unwrap().bytes(), secret.bytes());
        assert!(sealer.open("wh_2", &sealed).is_none());
        assert!(Sealer::new(Zeroizing::new([2; 32])).open("wh_1", &sealed).is_none());
        assert!(!sealed.sealed.contains(&text::hex(secret.bytes())));
    }
}
