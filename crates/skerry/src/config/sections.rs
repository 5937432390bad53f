//! The sections of `skerry.toml` that have no module of their own, with their defaults.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Who the bank is and how its days are cut. Fixed once the data folder exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Bank {
    /// The institution's short name; part of every checkpoint.
    pub(crate) institution: String,
    /// Number of branches opened at the first start, numbered from 1.
    pub(crate) branches: u16,
    /// Currencies whose heads are open from the first day.
    pub(crate) currencies: Vec<String>,
    /// Offset of the accounting time zone, `+08:00`.
    pub(crate) time_zone: String,
    /// Local time at which the business day changes, `00:00`; the instant itself belongs to the new day.
    pub(crate) cutoff: String,
}

impl Default for Bank {
    fn default() -> Self {
        Self {
            institution: "skerry".to_owned(),
            branches: 4,
            currencies: vec!["CNY".to_owned()],
            time_zone: "+00:00".to_owned(),
            cutoff: "00:00".to_owned(),
        }
    }
}

/// The HTTP edge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Server {
    pub(crate) listen: SocketAddr,
    /// PEM files; without them only loopback addresses may be listened on.
    pub(crate) tls_certificate: Option<PathBuf>,
    pub(crate) tls_key: Option<PathBuf>,
    /// PEM file of the roots that sign partners' certificates, for tokens bound to one.
    pub(crate) tls_partners: Option<PathBuf>,
    /// Serve plain HTTP beyond the loopback. Said aloud, or not at all.
    pub(crate) insecure: bool,
    pub(crate) connections_max: u32,
    pub(crate) body_bytes_max: u32,
    pub(crate) body_timeout_ms: u64,
    pub(crate) request_timeout_ms: u64,
    pub(crate) idle_timeout_ms: u64,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7117)),
            tls_certificate: None,
            tls_key: None,
            tls_partners: None,
            insecure: false,
            connections_max: 12_000,
            body_bytes_max: 4 << 20,
            body_timeout_ms: 20_000,
            request_timeout_ms: 10_000,
            idle_timeout_ms: 120_000,
        }
    }
}

/// A process that hosts branches of a bank of several.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Node {
    /// Where it tells machines how it is; absent: nowhere. Bounds, certificate and `insecure` are those of `[server]`.
    pub(crate) listen: Option<SocketAddr>,
}

/// Where the bank lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Storage {
    pub(crate) data: PathBuf,
    pub(crate) segment_bytes: u64,
    /// Where `skerry branch archive` moves old segments: a folder that is there when it is used.
    pub(crate) cold: Option<PathBuf>,
    /// Stores that new branches keep their journals in, in turn; none: local files. A branch stays where it began.
    pub(crate) journals: Vec<String>,
    /// The store that holds the directory; none: the data folder.
    pub(crate) directory: Option<String>,
    /// A file outside of the data folder in which every erasure is noted, for restores.
    pub(crate) erasures: Option<PathBuf>,
}

impl Default for Storage {
    fn default() -> Self {
        let data = PathBuf::from("data");
        Self {
            data,
            segment_bytes: 256 << 20,
            cold: None,
            journals: Vec::new(),
            directory: None,
            erasures: None,
        }
    }
}

/// Bounds and habits of every branch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Branch {
    /// Customers at which a branch is full.
    pub(crate) customers_max: u32,
    /// Requests that may wait; beyond that a branch answers busy.
    pub(crate) queue_max: u32,
    /// A checkpoint is signed at least this often.
    pub(crate) checkpoint_seconds: u32,
    /// A snapshot is taken after this many records.
    pub(crate) snapshot_records: u64,
}

impl Default for Branch {
    fn default() -> Self {
        Self {
            customers_max: 5_000_000,
            queue_max: 65_536,
            checkpoint_seconds: 600,
            snapshot_records: 4_000_000,
        }
    }
}

/// What the bank proves with: hash, signature, and where the signing key is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Evidence {
    /// Behind record roots and history: `blake3`, `sha-256` or `sm3`. Fixed at the first start.
    pub(crate) hash: String,
    /// Of keys that the bank makes, at the first start and at a rotation: `ed25519` or `sm2`.
    pub(crate) signature: String,
    pub(crate) signer: Signer,
}

impl Default for Evidence {
    fn default() -> Self {
        Self { hash: "blake3".to_owned(), signature: "ed25519".to_owned(), signer: Signer::default() }
    }
}

/// The signing key: a file in the data folder, plain or sealed, or a command that has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Signer {
    /// The key file is sealed under the first line of this file.
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Program and arguments of a command that signs; then there is no key file.
    pub(crate) command: Vec<String>,
    /// The key that the command's signatures must verify under.
    pub(crate) public_key: Option<String>,
    /// From asking the command to its answer.
    pub(crate) timeout_ms: u64,
}

impl Default for Signer {
    fn default() -> Self {
        Self { passphrase_file: None, command: Vec::new(), public_key: None, timeout_ms: 5_000 }
    }
}

/// What one principal may take, so that none takes all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Quota {
    /// Transfers and commands a second; 0 is without limit.
    pub(crate) per_second: u32,
    /// Requests waiting at one time.
    pub(crate) in_flight: u32,
}

impl Default for Quota {
    fn default() -> Self {
        Self { per_second: 0, in_flight: 16_384 }
    }
}

/// What is said while it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Log {
    /// `error`, `warn`, `info`, `debug`, or a filter as `tracing` reads it.
    pub(crate) level: String,
    /// `text` or `json`.
    pub(crate) format: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: "text".to_owned() }
    }
}
