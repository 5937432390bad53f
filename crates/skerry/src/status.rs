//! `skerry status`: branch, node, machine and cause of every fault; and what the meters cost at given prices.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::cli::Target;
use crate::output::print;
use crate::remote::{connect, runtime};

/// Asks the bank; if it does not answer, says what its folder tells. Exit code 0 only if all is well.
///
/// # Errors
///
/// Only if the answer cannot be read: a bank that is down is an answer.
pub(crate) fn run(target: &Target, json: bool) -> anyhow::Result<ExitCode> {
    let mut remote = target.remote.clone();
    if let Some(data) = &target.data {
        if remote.token_file.is_none() {
            remote.token_file = Some(data.join(crate::folder::TOKEN_FILE)).filter(|path| path.exists());
        }
        if let Some(server) = crate::folder::running_server(data) {
            remote.server = server;
        }
    }
    let asked = connect(&remote).and_then(|client| {
        let answer: Result<Value, _> = runtime()?.block_on(client.get("/v1/status"));
        Ok(answer?)
    });
    match asked {
        Ok(answer) => {
            print(&answer, json)?;
            let well = answer["healthy"].as_bool().unwrap_or(true);
            Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Err(error) => {
            let report = json!({
                "healthy": false,
                "server": remote.server,
                "cause": format!("{error:#}"),
                "command": "skerry up",
            });
            print(&report, json)?;
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Prices of what a bank uses (docs/cost.md). Any currency; the report carries its name.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Prices {
    currency: String,
    /// One core for one hour.
    core_hour: f64,
    /// One gigabyte (10⁹ bytes) of disk for one month.
    disk_gb_month: f64,
    /// One gigabyte of memory for one month.
    memory_gb_month: f64,
    /// One gigabyte sent to clients.
    #[serde(default)]
    traffic_gb: f64,
}

impl Prices {
    /// Reads a price file.
    ///
    /// # Errors
    ///
    /// The file and the key that is wrong.
    pub(crate) fn load(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("could not read the prices {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("in the prices {}", path.display()))
    }

    /// What the meters come to; `None` if they lack a figure.
    pub(crate) fn report(&self, meters: &Value) -> Option<Value> {
        let figure = |name: &str| meters["totals"][name].as_f64();
        let accounts = figure("accounts")?.max(1.0);
        let transfers = figure("transfers")?.max(1.0);
        let cpu = figure("cpu_seconds")? / 3600.0 * self.core_hour;
        let disk_month = figure("disk_bytes")? / 1e9 * self.disk_gb_month;
        let memory_month = figure("memory_bytes")? / 1e9 * self.memory_gb_month;
        let traffic = figure("sent_bytes").unwrap_or(0.0) / 1e9 * self.traffic_gb;
        Some(json!({
            "currency": self.currency,
            "account_year": round((disk_month + memory_month) * 12.0 / accounts),
            "million_payments": round((cpu + traffic) / transfers * 1e6),
            "cpu_so_far": round(cpu),
            "traffic_so_far": round(traffic),
            "disk_month": round(disk_month),
            "memory_month": round(memory_month),
            "accounts": meters["totals"]["accounts"],
            "transfers": meters["totals"]["transfers"],
        }))
    }
}

/// Six decimals: prices of single accounts are small.
fn round(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_turn_meters_into_money() {
        let prices: Prices = toml::from_str(
            "currency = \"CNY\"\ncore_hour = 0.36\ndisk_gb_month = 1.0\nmemory_gb_month = 10.0",
        )
        .unwrap();
        let meters = json!({"totals": {
            "accounts": 1000, "transfers": 2_000_000, "cpu_seconds": 20.0,
            "disk_bytes": 1_000_000_000_u64, "memory_bytes": 1_000_000_000_u64,
        }});
        let report = prices.report(&meters).unwrap();
        assert_eq!(report["account_year"], json!(0.132));
        assert_eq!(report["million_payments"], json!(0.001));
        assert!(prices.report(&json!({})).is_none());
    }
}
