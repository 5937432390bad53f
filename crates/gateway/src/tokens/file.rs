//! The token file: read whole, replaced whole, by one process at a time.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{TokenError, TokenRecord};
use crate::stamp::Stamp;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenFile {
    version: u32,
    tokens: Vec<TokenRecord>,
}

const VERSION: u32 = 1;

/// Held while the file is read, changed and replaced: two processes that change it do so one after the other.
pub(super) fn alone(path: &Path) -> Result<fs::File, TokenError> {
    let lock = path.with_extension("lock");
    let failed = |source| TokenError::File { action: "lock", path: lock.clone(), source };
    let file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&lock)
        .map_err(failed)?;
    file.lock().map_err(failed)?;
    Ok(file)
}

/// What it holds, and its state when it was read; nothing if it is not there.
pub(super) fn read(path: &Path) -> Result<(Vec<TokenRecord>, Option<Stamp>), TokenError> {
    let failed = |source| TokenError::File { action: "read", path: path.to_owned(), source };
    let mut file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), None)),
        Err(error) => return Err(failed(error)),
    };
    let stamp = Stamp::of(&file.metadata().map_err(failed)?);
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(failed)?;
    let file: TokenFile = serde_json::from_slice(&bytes)
        .map_err(|error| TokenError::Format { path: path.to_owned(), reason: error.to_string() })?;
    if file.version != VERSION {
        let reason = format!("version {} is not {VERSION}", file.version);
        return Err(TokenError::Format { path: path.to_owned(), reason });
    }
    Ok((file.tokens, Some(stamp)))
}

pub(super) fn write(path: &Path, tokens: Vec<TokenRecord>) -> Result<(), TokenError> {
    let file = TokenFile { version: VERSION, tokens };
    let failed = |source| TokenError::File { action: "write", path: path.to_owned(), source };
    let bytes = serde_json::to_vec_pretty(&file).map_err(|error| failed(error.into()))?;
    replace_private(path, &bytes).map_err(failed)
}

/// Replaces the file at `path` by rename, durable before it is seen, readable by its owner only.
///
/// # Errors
///
/// Whatever the file system says.
pub fn replace_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let next = path.with_extension("next");
    let mut out = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&next)?;
    out.write_all(bytes)?;
    out.sync_all()?;
    fs::rename(&next, path)?;
    match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => fs::File::open(parent)?.sync_all(),
        None => fs::File::open(".")?.sync_all(),
    }
}
