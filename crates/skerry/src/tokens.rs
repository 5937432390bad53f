//! `skerry token … --data`: tokens made and taken back straight in a data folder, whether or not its bank runs.
//!
//! Whoever can write there may do so anyway; what it saves is the lock-out when the last operator's token is lost, or the hour
//! when it is stolen. A bank that runs on the folder looks at the file twice a second.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use serde_json::json;
use skerry_gateway::auth::Operation;
use skerry_gateway::tokens::{NewToken, TokenStore};

use crate::cli::TokenCommand;
use crate::folder::{IDENTITY_FILE, TOKENS_FILE};
use crate::output::print;

/// Does `command` on the tokens in `data`.
///
/// # Errors
///
/// No data folder; a field of a new token that is wrong; an id that no token has; the file.
pub(crate) fn run(data: &Path, command: TokenCommand, json: bool) -> anyhow::Result<()> {
    ensure!(data.join(IDENTITY_FILE).exists(), "{} is not the data folder of a bank", data.display());
    let store = TokenStore::open(&data.join(TOKENS_FILE))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
    let answer = match command {
        TokenCommand::Create { principal, role, days, branch, customer, operations } => {
            let new = NewToken {
                principal,
                role,
                branches: branch.map(|branch| vec![branch]),
                customer,
                operations: allowed(&operations)?,
                certificate: None,
                lifetime_s: Some(u64::from(days) * 86_400),
                made_by: None,
            };
            let (token, record) = store.create(&new, now.as_secs())?;
            let mut answer = serde_json::to_value(record)?;
            answer["token"] = token.into();
            answer
        }
        TokenCommand::List => json!({"tokens": store.list()}),
        TokenCommand::Revoke { id } => serde_json::to_value(store.revoke(&id, None, now.as_secs())?)?,
    };
    print(&answer, json)
}

/// None named is all that the role allows.
fn allowed(names: &[String]) -> anyhow::Result<Option<Vec<Operation>>> {
    if names.is_empty() {
        return Ok(None);
    }
    let read = |name: &String| {
        serde_json::from_value(json!(name)).with_context(|| format!("there is no operation {name:?}"))
    };
    names.iter().map(read).collect::<anyhow::Result<_>>().map(Some)
}
