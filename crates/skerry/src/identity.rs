//! `skerry identity`: what makes a machine one of a bank's machines, carried from one to the other in a file.
//!
//! It is who the bank is, its secrets and its signing key, and no branch: these are in the stores. Whoever has the file can read
//! customers' names and sign for the bank, so it is written for its owner alone, and is to be deleted once it was taken in.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::cli::{IdentityCommand, Local};
use crate::config::{Config, Overrides};
use crate::folder::{self, IDENTITY_FILE, Identity};
use crate::offline::parse_bytes;
use crate::output::print;
use crate::signing::{HISTORY_FILE, KEY_FILE};

/// What is carried, in the order in which it is laid down: who the bank is comes last, as in a first start.
const FILES: [(&str, u32); 6] = [
    ("secrets/master.key", 0o600),
    ("secrets/institution.key", 0o600),
    ("secrets/gateway.key", 0o600),
    (KEY_FILE, 0o600),
    (HISTORY_FILE, 0o644),
    (IDENTITY_FILE, 0o644),
];

/// The largest file that is carried.
const LENGTH_MAX: u64 = 1 << 20;

/// The carried file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Carried {
    format: u32,
    /// Each in hexadecimal. The signing key is missing where a command signs.
    files: BTreeMap<String, String>,
}

/// `skerry identity …`
///
/// # Errors
///
/// Names the file that is missing, in the way, or open to others.
pub(crate) fn run(command: &IdentityCommand, json: bool) -> anyhow::Result<()> {
    match command {
        IdentityCommand::New(settings) => crate::cluster::found(settings, json),
        IdentityCommand::Export { local, file } => export(&data(local)?, file, json),
        IdentityCommand::Import { local, file } => import(&data(local)?, file, json),
    }
}

fn data(local: &Local) -> anyhow::Result<PathBuf> {
    let overrides = Overrides { data: local.data.clone(), ..Overrides::default() };
    Ok(Config::load(local.config.as_deref(), overrides)?.storage.data)
}

fn export(data: &Path, file: &Path, json: bool) -> anyhow::Result<()> {
    ensure!(data.join(IDENTITY_FILE).exists(), "{} is not the data folder of a bank", data.display());
    let mut files = BTreeMap::new();
    for (name, _) in FILES {
        let path = data.join(name);
        if name == KEY_FILE && !path.exists() {
            // A command signs.
            continue;
        }
        let bytes = std::fs::read(&path).with_context(|| format!("could not read {}", path.display()))?;
        let bytes = Zeroizing::new(bytes);
        files.insert(name.to_owned(), skerry_signers::answer::hex(&bytes));
    }
    let text = Zeroizing::new(toml::to_string(&Carried { format: 1, files })?);
    let written = || -> std::io::Result<()> {
        let mut out = OpenOptions::new().create_new(true).write(true).mode(0o600).open(file)?;
        out.write_all(text.as_bytes())?;
        out.sync_all()
    };
    written().with_context(|| format!("could not write {} (it must not be there yet)", file.display()))?;
    eprintln!(
        "{} holds the bank's secrets: carry it over a safe way, take it in with 'skerry identity import', and delete it",
        file.display()
    );
    tell(data, json)
}

fn import(data: &Path, file: &Path, json: bool) -> anyhow::Result<()> {
    let found = std::fs::metadata(file).with_context(|| format!("could not read {}", file.display()))?;
    ensure!(
        found.permissions().mode() & 0o077 == 0,
        "{} can be read by others: run 'chmod 600 {0}'",
        file.display()
    );
    ensure!(found.len() <= LENGTH_MAX, "{} is too long to be an identity", file.display());
    let text = std::fs::read_to_string(file).with_context(|| format!("could not read {}", file.display()))?;
    let text = Zeroizing::new(text);
    let wrong = || format!("{} does not hold a bank's identity", file.display());
    let carried: Carried = toml::from_str(&text).map_err(|_| anyhow::anyhow!("{}", wrong()))?;
    ensure!(carried.format == 1, "{} is of format {}; this release reads 1", file.display(), carried.format);
    if let Some(other) = carried.files.keys().find(|name| FILES.iter().all(|(known, _)| known != name)) {
        bail!("{}: {other:?} is no part of one", wrong());
    }
    let mut files = Vec::new();
    for (name, mode) in FILES {
        match carried.files.get(name) {
            Some(text) => {
                let bytes = parse_bytes(text).with_context(|| format!("{}: {name}", wrong()))?;
                files.push((name, mode, Zeroizing::new(bytes)));
            }
            None => ensure!(name == KEY_FILE, "{}: {name} is missing", wrong()),
        }
    }
    folder::make_dir(data)?;
    let _held = folder::hold(data)?;
    ensure!(
        !data.join(IDENTITY_FILE).exists(),
        "{} holds a bank already: an identity is taken into a new folder",
        data.display()
    );
    folder::make_dir(&data.join("secrets"))?;
    for (name, mode, bytes) in files {
        folder::write_new(&data.join(name), &bytes, mode)?;
    }
    tell(data, json)
}

/// Says which bank it is, so that machines can be compared.
fn tell(data: &Path, json: bool) -> anyhow::Result<()> {
    let identity = Identity::load(&data.join(IDENTITY_FILE))?;
    let history = crate::signing::history(data)?.context("signers.toml is not there")?;
    let bank = crate::erasures::bank_name(&history);
    print(&serde_json::json!({"institution": identity.institution, "bank": bank}), json)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bank(name: &str) -> (PathBuf, Config) {
        let root = std::env::temp_dir().join(format!("skerry-identity-{name}-{}", std::process::id()));
        let _gone = std::fs::remove_dir_all(&root);
        std::fs::create_dir_all(&root).unwrap();
        let mut config = Config::default();
        config.storage.data = root.join("data");
        drop(folder::Folder::open(&config).unwrap());
        (root, config)
    }

    #[test]
    fn another_folder_is_the_same_bank_afterwards() {
        let (root, config) = bank("carry");
        let (file, other) = (root.join("bank.identity"), root.join("other"));
        export(&config.storage.data, &file, true).unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let error = export(&config.storage.data, &file, true).unwrap_err().to_string();
        assert!(error.contains("must not be there"), "{error}");
        import(&other, &file, true).unwrap();
        let first = folder::Folder::open(&config).unwrap();
        let mut second = config;
        second.storage.data = other.clone();
        let second = folder::Folder::open(&second).unwrap();
        assert!(!second.fresh);
        assert_eq!(first.secrets.master, second.secrets.master);
        assert_eq!(first.secrets.gateway, second.secrets.gateway);
        assert_eq!(first.signing.signer.key_id(), second.signing.signer.key_id());
        drop(second);
        let error = import(&other, &file, true).unwrap_err().to_string();
        assert!(error.contains("holds a bank already"), "{error}");
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_file_that_others_may_read_or_that_holds_anything_else_is_refused() {
        let (root, config) = bank("refuse");
        let (file, other) = (root.join("bank.identity"), root.join("other"));
        export(&config.storage.data, &file, true).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(import(&other, &file, true).unwrap_err().to_string().contains("chmod 600"));
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        for (wrong, part) in [
            (text.replace("secrets/gateway.key", "../gateway.key"), "no part of one"),
            (text.replace("secrets/gateway.key", KEY_FILE), "does not hold"),
            (
                text.lines().filter(|line| !line.contains("gateway")).collect::<Vec<_>>().join("\n"),
                "is missing",
            ),
            (text.replace("format = 1", "format = 2"), "format 2"),
            ("bank".to_owned(), "does not hold"),
        ] {
            std::fs::write(&file, wrong).unwrap();
            let error = import(&other, &file, true).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
            assert!(!other.join(IDENTITY_FILE).exists());
        }
        std::fs::remove_dir_all(root).unwrap();
    }
}
