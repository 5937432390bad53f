//! The commands that need no running bank: verify, export, backup, restore and its drill, declare a loss.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};
use skerry_branch::evidence::checkpoints;
use skerry_journal::{JournalReader, LocalReader, Position, RealStorage, export as export_journal};
use skerry_proof::{KeyHistory, PublicKey, Receipt, SignedCheckpoint, Summary, verify_export};
use skerry_signers::answer::hex;

use crate::cli::{BackupArgs, Local, RestoreArgs, VerifyArgs};
use crate::config::{Config, Overrides};
use crate::folder::{self, Folder, Identity, parse_hex};
use crate::output::print;
use crate::residences::Residences;
use crate::signing::{self, public_history};
use crate::up::Bank;
use crate::up::branches::{cold_storage, journal_storage};

/// Says what an export is and which key signed it.
const LABEL: &str = "export.json";

/// `skerry verify`: a receipt in JSON, or an exported journal.
///
/// # Errors
///
/// What cannot be read. What can be read and is not to be believed is an answer, with exit code 1.
pub(crate) fn verify(args: &VerifyArgs, json: bool) -> anyhow::Result<ExitCode> {
    let given = args
        .key
        .as_deref()
        .map(|text| text.parse::<PublicKey>().context("--key is no public key"))
        .transpose()?;
    let found = if args.file.is_dir() {
        verify_journal(&args.file, args.cold.as_deref(), given)
    } else {
        verify_receipt(&args.file, given)
    };
    match found {
        Ok(report) => {
            print(&report, json)?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            print(&json!({"valid": false, "cause": format!("{error:#}")}), json)?;
            Ok(ExitCode::FAILURE)
        }
    }
}

/// The keys to believe: the one given, with those that the file's rotations join to it; else what the file itself names.
fn trusted(given: Option<PublicKey>, label: &Value) -> anyhow::Result<(KeyHistory, &'static str)> {
    let named = named_keys(label)?;
    match (given, named) {
        (Some(given), Some(named)) if named.contains(&given) => {
            let trust = if named.rotations().is_empty() {
                "the key given"
            } else {
                "the key given, and the keys that rotations join to it"
            };
            Ok((named, trust))
        }
        (Some(given), _) => Ok((KeyHistory::new(given), "the key given")),
        (None, Some(named)) => Ok((named, "the key that the file itself names: compare it with the bank's")),
        (None, None) => bail!("the file names no public key: give the bank's with --key"),
    }
}

/// The history of keys in a file: its present key and the rotations that led to it.
fn named_keys(label: &Value) -> anyhow::Result<Option<KeyHistory>> {
    let Some(present) = label["public_key"].as_str() else { return Ok(None) };
    let present: PublicKey = present.parse().context("the file's public key")?;
    let none = Vec::new();
    let rotations = label["rotations"].as_array().unwrap_or(&none);
    let texts: Option<Vec<&str>> = rotations.iter().map(Value::as_str).collect();
    let texts = texts.context("the file's rotations are not texts")?;
    let Some(first) = texts.first() else { return Ok(Some(KeyHistory::new(present))) };
    let first = parse_bytes(first).context("the file's first rotation is not hexadecimal")?;
    let first = skerry_proof::Rotation::decode(&first).context("the file's first rotation")?.old;
    let history = signing::read_history(&first.to_string(), texts.into_iter())?;
    ensure!(history.present() == present, "the file's rotations do not lead to the public key it names");
    Ok(Some(history))
}

fn read_json(path: &Path) -> anyhow::Result<Value> {
    let bytes = fs::read(path).with_context(|| format!("could not read {}", path.display()))?;
    serde_json::from_slice(&bytes).with_context(|| format!("{} is not JSON", path.display()))
}

fn verify_receipt(path: &Path, given: Option<PublicKey>) -> anyhow::Result<Value> {
    let label = read_json(path)?;
    let text = label["receipt"].as_str().with_context(|| format!("{} holds no receipt", path.display()))?;
    let bytes = parse_bytes(text).context("the receipt is not hexadecimal")?;
    let receipt = Receipt::decode(&bytes)?;
    let (keys, trust) = trusted(given, &label)?;
    let standing = receipt.verify(&keys)?;
    let checkpoint = &receipt.checkpoint.checkpoint;
    let shown = record(&receipt)?;
    let proven = [
        ("id", shown["id"].clone()),
        ("branch", json!(checkpoint.branch)),
        ("position", json!(receipt.position)),
    ];
    for (name, proven) in proven {
        if let Some(said) = label.get(name) {
            ensure!(*said == proven, "the file says {name} {said}, its receipt proves {proven}");
        }
    }
    Ok(json!({
        "valid": true,
        "status": standing.to_string(),
        "trust": trust,
        "institution": checkpoint.institution.trim_end_matches('\0'),
        "branch": checkpoint.branch,
        "position": receipt.position,
        "record": shown,
        "checkpoint": {"position": checkpoint.position, "history_root": hex(&checkpoint.history_root)},
        "hash": checkpoint.algorithm.name(),
        "signature": receipt.checkpoint.signature_algorithm.name(),
        "key_id": receipt.checkpoint.key_id.to_string(),
    }))
}

pub(crate) fn parse_bytes(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim().as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

/// What the record says, in words: a proof of something nobody can read proves little.
fn record(receipt: &Receipt) -> anyhow::Result<Value> {
    let day = skerry_money::Date(receipt.checkpoint.checkpoint.business_date);
    let moved =
        skerry_book::record::decode_entry(&receipt.record, day).context("could not read the record")?;
    let Some(moved) = moved else { return Ok(json!({"kind": "not a transfer"})) };
    Ok(json!({
        "kind": format!("{:?}", moved.kind).to_lowercase(),
        "id": crate::remote::uuid_text(moved.id.0),
        "debit": party(moved.debit),
        "credit": party(moved.credit),
        "amount": skerry_money::Amount::new(moved.amount, moved.currency).to_string(),
        "currency": moved.currency.alpha(),
        "value_date": moved.value_date.to_string(),
    }))
}

fn party(account: skerry_ledger::AccountRef) -> String {
    use skerry_ledger::AccountKind;
    match account.kind() {
        Some(AccountKind::Customer(serial)) => {
            skerry_money::AccountNumber::new(account.branch(), serial).to_string()
        }
        Some(AccountKind::Head(code, _)) => format!("gl:{code}@{:04}", account.branch()),
        None => format!("{:#x}", account.0),
    }
}

fn verify_journal(path: &Path, cold: Option<&Path>, given: Option<PublicKey>) -> anyhow::Result<Value> {
    let label = if path.join(LABEL).exists() { read_json(&path.join(LABEL))? } else { own_label(path)? };
    let branch = label["branch"]
        .as_u64()
        .and_then(|number| u16::try_from(number).ok())
        .context("the label has no branch")?;
    let (keys, trust) = trusted(given, &label)?;
    let cold = cold.map(RealStorage::existing).transpose()?;
    let summary = walk(path, cold, branch, &keys)?;
    Ok(json!({
        "valid": true,
        "branch": branch,
        "batches": summary.batches,
        "records": summary.records,
        "head": hex(&summary.head),
        "history_root": hex(&summary.history_root),
        "checkpoints": summary.checkpoints,
        "signed_records": summary.signed_records,
        "status": "signed, not anchored",
        "trust": trust,
    }))
}

/// What an export's label would say of a branch's folder in a data folder: its number, and the bank's keys if the history
/// of keys lies there.
fn own_label(path: &Path) -> anyhow::Result<Value> {
    let path = fs::canonicalize(path).with_context(|| format!("could not read {}", path.display()))?;
    let number = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse::<u16>().ok());
    let number = number.filter(|_| path.join("journal").is_dir());
    let number = number.with_context(|| format!("{} is no export and no branch's folder", path.display()))?;
    let keys = path.ancestors().nth(2).map(signing::history).transpose()?.flatten();
    Ok(match keys {
        Some(keys) => json!({
            "branch": number,
            "public_key": keys.present().to_string(),
            "rotations": signing::rotations(&keys),
        }),
        None => json!({"branch": number}),
    })
}

/// Every batch and every checkpoint of an export or of a branch's folder, with what was archived from it.
fn walk(path: &Path, cold: Option<RealStorage>, branch: u16, keys: &KeyHistory) -> anyhow::Result<Summary> {
    let journal = RealStorage::existing(path.join("journal"))?;
    let reader = LocalReader::open_existing_with(&journal, cold, branch)?;
    let start = reader.origin()?.position;
    ensure!(
        start == Position(0),
        "the journal begins at position {start}: what lies before it is archived; name its cold folder with --cold"
    );
    let lying = if path.join("checkpoints").exists() { "checkpoints" } else { "derived/checkpoints" };
    let kept = read_checkpoints(&path.join(lying))?;
    let end = reader.head().position;
    let mut from = Position(0);
    let mut failed = None;
    // One piece of the journal at a time: an export may be larger than memory.
    let mut waiting = std::collections::VecDeque::new();
    let batches = std::iter::from_fn(|| {
        if waiting.is_empty() && from < end {
            match reader.read(from, 8 << 20) {
                Ok(batches) => {
                    waiting.extend(batches.iter().map(|batch| batch.bytes().to_vec()));
                    from = batches.last().map_or(end, |batch| Position(batch.header().end_position()));
                }
                Err(error) => failed = Some(error),
            }
        }
        waiting.pop_front()
    });
    let summary = verify_export(batches, &kept, keys);
    if let Some(error) = failed {
        return Err(error.into());
    }
    Ok(summary?)
}

fn read_checkpoints(path: &Path) -> anyhow::Result<Vec<SignedCheckpoint>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let storage = RealStorage::existing(path)?;
    let mut found = Vec::new();
    for signed in checkpoints::newest_first(&storage)? {
        found.push(signed?);
    }
    Ok(found)
}

fn config(local: &Local) -> anyhow::Result<Config> {
    Config::load(local.config.as_deref(), Overrides { data: local.data.clone(), ..Overrides::default() })
}

/// Copies journal, checkpoints and label of one branch to `to`. Works beside a running bank.
fn copy_branch(
    config: &Config,
    residences: &Residences<'_>,
    branch: u16,
    to: &Path,
) -> anyhow::Result<Value> {
    let data = &config.storage.data;
    fs::create_dir_all(to).with_context(|| format!("could not make {}", to.display()))?;
    // Checkpoints first: one that is newer than the journal's copy would look like a rewind.
    let from = folder::branch_folder(data, branch).join("derived/checkpoints");
    let kept = to.join("checkpoints");
    fs::create_dir_all(&kept)?;
    let mut copied = 0;
    if from.exists() {
        for entry in fs::read_dir(&from)? {
            let entry = entry?;
            if entry.path().extension().is_some_and(|extension| extension == "skc") {
                fs::copy(entry.path(), kept.join(entry.file_name()))?;
                copied += 1;
            }
        }
    }
    let target = RealStorage::open(to.join("journal"))?;
    let head = match residences.of(branch)? {
        None => {
            let cold = cold_storage(config, branch);
            let reader = LocalReader::open_existing_with(&journal_storage(data, branch)?, cold, branch)?;
            check_origin(&reader, branch)?;
            export_journal(&reader, &target)?
        }
        Some(store) => crate::stores::export(config, branch, &store, &target)?,
    };
    let keys = public_history(data)?;
    let label = json!({
        "branch": branch,
        "position": head.position.0,
        "checkpoints": copied,
        "public_key": keys.present().to_string(),
        "rotations": signing::rotations(&keys),
    });
    fs::write(to.join(LABEL), serde_json::to_vec_pretty(&label)?)?;
    Ok(label)
}

/// A copy is whole or not made.
pub(crate) fn check_origin<R: JournalReader>(reader: &R, branch: u16) -> anyhow::Result<()> {
    let start = reader.origin().context("a copy holds what is archived too")?.position;
    ensure!(
        start == Position(0),
        "the journal of branch {branch} begins at position {start} and no cold folder is configured: set storage.cold"
    );
    Ok(())
}

/// `skerry branch export`
///
/// # Errors
///
/// A journal that is not there or is damaged; a folder that exists already.
pub(crate) fn export(local: &Local, branch: u16, out: &Path, json: bool) -> anyhow::Result<()> {
    ensure!(!out.exists(), "{} exists already", out.display());
    let config = config(local)?;
    let residences = Residences::new(&config, &config.storage.data);
    let label = copy_branch(&config, &residences, branch, out)?;
    print(&label, json)
}

/// `skerry backup`
///
/// # Errors
///
/// As [`export`], for any branch.
pub(crate) fn backup(args: &BackupArgs, json: bool) -> anyhow::Result<()> {
    ensure!(!args.to.exists(), "{} exists already", args.to.display());
    let config = config(&args.local)?;
    let data = &config.storage.data;
    let identity = Identity::load(&data.join(folder::IDENTITY_FILE))?;
    let residences = Residences::new(&config, data);
    let branches = residences.count(identity.branches)?;
    folder::make_dir(&args.to)?;
    let mut labels = Vec::new();
    for branch in 1..=branches {
        labels.push(copy_branch(&config, &residences, branch, &folder::branch_folder(&args.to, branch))?);
        eprintln!("branch {branch} copied");
    }
    // After the journals: a key that none of them names does no harm.
    for name in ["secrets", "keys"] {
        copy_tree(&data.join(name), &args.to.join(name))?;
    }
    for branch in 1..=branches {
        if let Some(store) = residences.of(branch)? {
            let keys = RealStorage::open(folder::keys_folder(&args.to, branch))?;
            crate::stores::copy_keys(&config, branch, &store, &keys)?;
        }
    }
    for name in [folder::TOKENS_FILE, folder::TOKEN_FILE, signing::HISTORY_FILE] {
        if data.join(name).exists() {
            fs::copy(data.join(name), args.to.join(name))
                .with_context(|| format!("could not copy {name}"))?;
        }
    }
    // Last: a folder without it is no backup. It knows the branches that were copied, whichever were added meanwhile.
    identity.with_branches(branches).write(&args.to.join(folder::IDENTITY_FILE))?;
    print(&json!({"backup": args.to, "branches": labels}), json)
}

fn copy_tree(from: &Path, to: &Path) -> anyhow::Result<()> {
    folder::make_dir(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("could not read {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)
                .with_context(|| format!("could not copy {}", entry.path().display()))?;
        }
    }
    Ok(())
}

/// `skerry restore`: lays the backup down, verifies it, opens it for real and closes it again.
///
/// # Errors
///
/// A backup that is incomplete, does not verify, or does not open.
pub(crate) fn restore(args: &RestoreArgs, json: bool) -> anyhow::Result<()> {
    let identity =
        Identity::load(&args.from.join(folder::IDENTITY_FILE)).context("this is no whole backup")?;
    ensure!(
        args.data.is_none() || args.without_erasures || !args.erasures.is_empty(),
        "say with --erasures which customers were erased since the backup: the list of storage.erasures, or the data folder \
         being replaced; or say --without-erasures"
    );
    let bank = crate::erasures::bank_name(&public_history(&args.from)?);
    let config = Config::load(args.config.as_deref(), Overrides::default())?;
    let mut erasures = std::collections::BTreeSet::new();
    for source in &args.erasures {
        erasures.extend(crate::erasures::read(source, &bank, &config)?);
    }
    let drill = std::env::temp_dir().join(format!("skerry-drill-{}", std::process::id()));
    let data: PathBuf = args.data.clone().unwrap_or_else(|| drill.clone());
    ensure!(!data.exists(), "{} exists already", data.display());
    let done = lay_down(&args.from, &data, &identity, args.config.as_deref(), &erasures);
    if args.data.is_none() {
        // Also after a failure: a drill leaves nothing behind.
        let _gone = fs::remove_dir_all(&drill);
    }
    let (branches, erased) = done?;
    print(
        &json!({
            "restored": args.data, "drill": args.data.is_none(), "branches": branches, "erased_again": erased,
        }),
        json,
    )
}

fn lay_down(
    from: &Path,
    data: &Path,
    identity: &Identity,
    config: Option<&Path>,
    erasures: &std::collections::BTreeSet<crate::erasures::Erasure>,
) -> anyhow::Result<(Vec<Value>, u64)> {
    let keys = public_history(from)?;
    let mut branches = Vec::new();
    let master =
        fs::read_to_string(from.join("secrets/master.key")).context("could not read the master key")?;
    let master = parse_hex(master.trim()).context("the master key is not 32 bytes in hex")?;
    copy_tree(from, data)?;
    // Before anything else can use them.
    let erased = crate::erasures::apply(data, master, erasures)?;
    for branch in 1..=identity.branches {
        let place = folder::branch_folder(data, branch);
        let summary =
            walk(&place, None, branch, &keys).with_context(|| format!("branch {branch} does not verify"))?;
        // In a data folder checkpoints lie among what is derived; indexes and snapshots are made anew.
        fs::create_dir_all(place.join("derived"))?;
        fs::rename(place.join("checkpoints"), place.join("derived/checkpoints"))?;
        fs::remove_file(place.join(LABEL))?;
        eprintln!("branch {branch}: {} records verified", summary.records);
        branches.push(json!({
            "branch": branch, "records": summary.records, "signed_records": summary.signed_records,
            "checkpoints": summary.checkpoints,
        }));
    }
    let overrides = Overrides {
        data: Some(data.to_owned()),
        listen: Some(std::net::SocketAddr::from(([127, 0, 0, 1], 0))),
        ..Overrides::default()
    };
    let bank = Bank::start(Config::load(config, overrides)?)?;
    let sick = bank.sick();
    bank.stop()?;
    ensure!(sick.is_empty(), "a restored branch does not open: {}", sick.join("; "));
    Ok((branches, erased))
}

/// `skerry branch declare-loss`: the bank must be stopped; the operator repeats the position that the error named.
///
/// # Errors
///
/// If the branch opens without it, the position is another, or it does not open even so.
pub(crate) fn declare_loss(local: &Local, branch: u16, position: u64, json: bool) -> anyhow::Result<()> {
    let config = config(local)?;
    let folder = Folder::open(&config)?;
    ensure!(!folder.fresh, "there is no bank at {}", config.storage.data.display());
    Residences::new(&config, &config.storage.data).check(branch, folder.identity.branches)?;
    let found = crate::up::branches::declare_loss(&config, &folder, branch, position)?;
    print(
        &json!({
            "branch": branch, "position": found.head.position.0, "lost_to": position,
            "replayed": found.replayed,
        }),
        json,
    )
}
