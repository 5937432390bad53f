//! `skerry branch archive`: old segments of a journal to the cold folder, in a running bank or in a resting one's folder.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use serde_json::{Value, json};
use skerry_money::Date;
use skerry_node::seat::Before;

use crate::cli::Remote;
use crate::config::{Config, Overrides};
use crate::folder::Folder;
use crate::output::print;
use crate::remote::{connect, runtime};
use crate::residences::Residences;

/// Which branch, how far, and where it is.
#[derive(Debug, Clone, Args)]
pub(crate) struct ArchiveArgs {
    #[command(flatten)]
    remote: Remote,
    /// Branch number
    branch: u16,
    /// Only what lies before this position, or before this business day (YYYY-MM-DD)
    #[arg(long, value_name = "POSITION|DATE")]
    before: String,
    /// Straight in this data folder, whose bank must be stopped, instead of in a running bank
    #[arg(long, value_name = "PATH", conflicts_with = "server")]
    data: Option<PathBuf>,
    /// The configuration that names the cold folder of a stopped bank
    #[arg(long, value_name = "PATH", env = "SKERRY_CONFIG")]
    config: Option<PathBuf>,
}

/// How long to wait before looking again.
const PAUSE: Duration = Duration::from_secs(1);

/// Archives and says how far it went.
///
/// # Errors
///
/// Why it went no further; what was moved stays moved.
pub(crate) fn run(args: &ArchiveArgs, json: bool) -> anyhow::Result<()> {
    let before = before(&args.before)?;
    let answer = if args.data.is_some() { resting(args, before)? } else { running(args, before)? };
    print(&answer, json)
}

/// A position, or a day.
fn before(text: &str) -> anyhow::Result<Before> {
    let position = text.parse().ok().map(Before::Position);
    let day = || text.parse::<Date>().ok().map(Before::Day);
    position
        .or_else(day)
        .with_context(|| format!("--before takes a position or a date such as 2026-01-31, not {text:?}"))
}

fn running(args: &ArchiveArgs, before: Before) -> anyhow::Result<Value> {
    let wish = match before {
        Before::Position(position) => json!({"position": position}),
        Before::Day(day) => json!({"date": day.to_string()}),
    };
    let (client, runtime) = (connect(&args.remote)?, runtime()?);
    let path = format!("/v1/branches/{}/archive", args.branch);
    loop {
        let answer: Value = runtime.block_on(client.post(&path, &wish))?;
        if answer["done"] == true {
            return Ok(answer);
        }
        eprintln!("branch {}: position {} is the first that is left, going on", args.branch, answer["start"]);
        std::thread::sleep(PAUSE);
    }
}

fn resting(args: &ArchiveArgs, before: Before) -> anyhow::Result<Value> {
    let overrides = Overrides { data: args.data.clone(), ..Overrides::default() };
    let config = Config::load(args.config.as_deref(), overrides)?;
    let data = &config.storage.data;
    ensure!(data.join(crate::folder::IDENTITY_FILE).exists(), "there is no bank at {}", data.display());
    let folder = Folder::open(&config)?;
    Residences::new(&config, data).check(args.branch, folder.identity.branches)?;
    let start = crate::up::branches::archive(&config, &folder, args.branch, before)?;
    Ok(json!({"branch": args.branch, "start": start, "done": true}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn before_is_a_position_or_a_day() {
        assert_eq!(before("4000000").unwrap(), Before::Position(4_000_000));
        assert!(matches!(before("2026-01-31").unwrap(), Before::Day(day) if day.to_string() == "2026-01-31"));
        for wrong in ["", "soon", "2026-02-30", "-1"] {
            assert!(before(wrong).unwrap_err().to_string().contains("--before"), "{wrong}");
        }
    }
}
