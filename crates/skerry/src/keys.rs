//! `skerry key`: the bank's signing keys, listed, handed over, sealed, served.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use clap::Subcommand;
use serde_json::{Value, json};
use skerry_branch::evidence::checkpoints;
use skerry_journal::RealStorage;
use skerry_proof::KeyHistory;

use crate::cli::Local;
use crate::config::{Config, Overrides};
use crate::erasures::numbered;
use crate::folder::{self, Folder};
use crate::output::print;
use crate::signing;

/// The bank's signing keys.
#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// List the bank's public keys, first to present, with the times at which they were retired
    List(Local),
    /// Hand over from the present signing key to a new one; the bank must be stopped
    Rotate {
        #[command(flatten)]
        local: Local,
        /// Configuration that names the next signer; without it a new key of the present configuration is made
        #[arg(long, value_name = "PATH")]
        next: Option<PathBuf>,
    },
    /// Seal the key file under the configured passphrase; the bank must be stopped
    Seal {
        #[command(flatten)]
        local: Local,
        /// File of the passphrase it is sealed under now, to change that
        #[arg(long, value_name = "PATH")]
        old: Option<PathBuf>,
    },
    /// Answer requests to sign on stdin, as a bank's signing command (docs/signers.md)
    Serve {
        /// The key file
        #[arg(long, value_name = "PATH")]
        file: PathBuf,
        /// File of the passphrase it is sealed under
        #[arg(long, value_name = "PATH")]
        passphrase_file: Option<PathBuf>,
    },
}

/// `skerry key …`
///
/// # Errors
///
/// What cannot be read, opened or signed; a bank that runs.
pub(crate) fn run(command: &KeyCommand, json: bool) -> anyhow::Result<()> {
    match command {
        KeyCommand::List(local) => {
            let data = config(local)?.storage.data;
            print(&listed(&signing::public_history(&data)?), json)
        }
        KeyCommand::Rotate { local, next } => {
            let config = config(local)?;
            let next = match next {
                Some(next) => Config::load(Some(next), Overrides::default())?,
                None => config.clone(),
            };
            let folder = open(&config)?;
            let institution = &folder.identity.institution;
            let history = signing::rotate(&config, &next, folder.root(), institution, retired_us(&folder)?)?;
            eprintln!("publish the new key; receipts of the old ones stay good");
            print(&listed(&history), json)
        }
        KeyCommand::Seal { local, old } => {
            let config = config(local)?;
            let _held = folder::hold(&config.storage.data)?;
            let public = signing::seal(&config, &config.storage.data, old.as_ref())?;
            print(&json!({"public_key": public.to_string(), "sealed": true}), json)
        }
        KeyCommand::Serve { file, passphrase_file } => {
            let passphrase = passphrase_file.as_deref().map(signing::read_passphrase).transpose()?;
            let key = signing::read_key_file(file)?;
            let signer = signing::open_key_file(file, &key, passphrase.as_deref().map(Vec::as_slice))?;
            let (input, output) = (std::io::stdin().lock(), std::io::stdout().lock());
            skerry_signers::serve::serve(&*signer, input, output).context("could not talk to the bank")
        }
    }
}

fn config(local: &Local) -> anyhow::Result<Config> {
    Config::load(local.config.as_deref(), Overrides { data: local.data.clone(), ..Overrides::default() })
}

fn open(config: &Config) -> anyhow::Result<Folder> {
    let data = &config.storage.data;
    ensure!(data.join(folder::IDENTITY_FILE).exists(), "there is no bank at {}", data.display());
    Folder::open(config)
}

/// The time until which the old key is to be believed: now, or the time of a checkpoint that is later than that.
fn retired_us(folder: &Folder) -> anyhow::Result<u64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
    let mut latest = u64::try_from(now.as_micros()).context("the clock is beyond its range")?;
    for (_, branch) in numbered(&folder.root().join("branches"))? {
        let path = branch.join("derived/checkpoints");
        if path.exists()
            && let Some(signed) = checkpoints::newest_first(&RealStorage::existing(path)?)?.next()
        {
            latest = latest.max(signed?.checkpoint.time_us);
        }
    }
    Ok(latest)
}

fn listed(history: &KeyHistory) -> Value {
    let keys: Vec<Value> = history
        .keys()
        .map(|(key, retired_us)| {
            json!({
                "public_key": key.to_string(),
                "key_id": key.id().to_string(),
                "signature": key.algorithm().name(),
                "retired_us": retired_us,
            })
        })
        .collect();
    json!({
        "public_key": history.present().to_string(),
        "rotations": signing::rotations(history),
        "keys": keys,
    })
}
