//! The peers: other ledgers, measured in turns with ours on the same machine, disk and work.
//!
//! A peer is driven by its own tool, as its users would: `tigerbeetle benchmark`, `pgbench`.

pub(super) mod postgres;
pub(super) mod tigerbeetle;

use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::machine::Contention;
use super::stats::Latency;

/// A peer to run beside ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Peer {
    /// A `tigerbeetle` binary that the user supplies.
    TigerBeetle(PathBuf),
    /// The conventional ledger of `bench/peers/postgres`, in a cluster of its own.
    Postgres,
    /// The same over two databases with `PREPARE TRANSACTION`, beside payments between branches.
    TwoPhase,
}

impl FromStr for Peer {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        match text.split_once('=') {
            Some(("tigerbeetle", path)) if !path.is_empty() => Ok(Self::TigerBeetle(PathBuf::from(path))),
            None if text == "postgres" => Ok(Self::Postgres),
            None if text == "two-phase" => Ok(Self::TwoPhase),
            _ => anyhow::bail!("a peer is tigerbeetle=PATH, postgres or two-phase"),
        }
    }
}

impl Peer {
    /// Its name in results.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::TigerBeetle(_) => "tigerbeetle",
            Self::Postgres => "postgres",
            Self::TwoPhase => "two-phase",
        }
    }
}

/// What a peer did in one turn.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct PeerRun {
    pub(super) peer: String,
    /// How it was driven: `batches of 8189`, `single, 16 clients`.
    pub(super) variant: String,
    pub(super) transfers: u64,
    pub(super) transfers_per_second: f64,
    /// Of a batch, or of a transfer when they come one by one.
    pub(super) latency_ms: Latency,
    /// Of its queries of an account, where its tool makes some.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) query_latency_ms: Option<Latency>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) disk_bytes_per_transfer: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) server_cpu_seconds_per_million: Option<f64>,
    /// How it makes a transfer durable before it answers.
    pub(super) durability: String,
    /// Whether that is what ours does: in the disk before the reply.
    pub(super) durable: bool,
    pub(super) contention: Contention,
    pub(super) counted: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_named_as_the_help_says() {
        assert_eq!("postgres".parse::<Peer>().unwrap(), Peer::Postgres);
        let path = PathBuf::from("/opt/tb");
        assert_eq!("tigerbeetle=/opt/tb".parse::<Peer>().unwrap(), Peer::TigerBeetle(path));
        for wrong in ["tigerbeetle", "tigerbeetle=", "mysql", ""] {
            assert!(wrong.parse::<Peer>().is_err(), "{wrong}");
        }
    }
}
