//! In which store a branch keeps its journal: its folder says so, from its first day on.

use std::path::Path;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use skerry_gateway::residence;

use crate::config::Config;
use crate::folder::{self, Folder};

const STORE_FILE: &str = "store.toml";

/// What a branch's folder says of its journal.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    store: String,
}

/// The store that the branch in `folder` keeps its journal in; `None` for local files.
///
/// # Errors
///
/// A file that cannot be read.
pub(crate) fn kept_in(folder: &Path) -> anyhow::Result<Option<String>> {
    let path = folder.join(STORE_FILE);
    if !path.exists() {
        return Ok(None);
    }
    let text =
        std::fs::read_to_string(&path).with_context(|| format!("could not read {}", path.display()))?;
    let kept: Kept = toml::from_str(&text).with_context(|| format!("in {}", path.display()))?;
    Ok(Some(kept.store))
}

/// The store that branch `number` takes if nobody says another; `None` for local files.
pub(crate) fn usual(config: &Config, number: u16) -> Option<&str> {
    in_turn(&config.storage.journals, number)
}

pub(super) fn in_turn(journals: &[String], number: u16) -> Option<&str> {
    let turn = usize::from(number.saturating_sub(1)).checked_rem(journals.len())?;
    journals.get(turn).map(String::as_str)
}

/// Says for good where the journal of the new branch `number` lies: in `store`, or in local files.
///
/// # Errors
///
/// A file that cannot be read or written; the branch began elsewhere.
pub(crate) fn choose(folder: &Folder, number: u16, store: Option<&str>) -> anyhow::Result<()> {
    let path = folder.branch(number);
    let kept = kept_in(&path)?;
    let has_begun = kept.is_some() || path.join("journal").exists();
    if has_begun && kept.as_deref() != store {
        let (kept, local) = (kept.as_deref(), residence::Store::LOCAL);
        bail!("branch {number} began in the store {}: it stays there", kept.unwrap_or(local));
    }
    folder::make_dir(&path)?;
    match store.filter(|_| !has_begun) {
        None => Ok(()),
        Some(store) => {
            let text = toml::to_string(&Kept { store: store.to_owned() })?;
            folder::write_new(&path.join(STORE_FILE), text.as_bytes(), 0o644)
        }
    }
}
