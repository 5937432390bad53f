//! Erasures kept outside of the data folder, so that no restore of an older backup brings an erased customer's key back.
//!
//! A list is a text file of lines `BANK BRANCH KEY erased`: the beginning of the bank's first public key, so that banks can share a list, and
//! numbers that mean nothing without the journal; never personal data. It is only ever added to. A last line without its end, of a write that was cut off, does not count.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, bail, ensure};
use skerry_branch::keys::{KeyError, KeyRef, Keys, SlotKeys, erased_in};
use skerry_journal::RealStorage;
use skerry_proof::KeyHistory;

/// Ends a line, so that a number that was cut off is not taken for another.
const END: &str = " erased";

/// A branch and a key of one of its customers.
pub(crate) type Erasure = (u16, KeyRef);

/// Keys that note every erasure in a list.
pub(crate) struct Listed {
    keys: SlotKeys<RealStorage>,
    list: PathBuf,
    bank: String,
    branch: u16,
    known: Mutex<BTreeSet<Erasure>>,
}

impl Listed {
    /// Notes what is erased already and is not in the list yet, and erases what the list has and these keys do not:
    /// they are from an older copy.
    ///
    /// # Errors
    ///
    /// A list that cannot be read or written, or keys that cannot.
    pub(crate) fn new(
        keys: SlotKeys<RealStorage>,
        list: &Path,
        bank: &str,
        branch: u16,
    ) -> anyhow::Result<Self> {
        let known = if list.exists() { read_list(list, bank)? } else { BTreeSet::new() };
        let gone: BTreeSet<KeyRef> = keys.erased()?.into_iter().collect();
        for (_, key) in known.iter().filter(|(of, key)| *of == branch && !gone.contains(key)) {
            tracing::warn!(
                branch,
                key = key.0,
                "the list of erasures names a key that was back: it is erased again"
            );
            keys.erase(*key)?;
        }
        let listed =
            Self { list: list.to_owned(), bank: bank.to_owned(), branch, known: Mutex::new(known), keys };
        for key in gone {
            listed.note(key)?;
        }
        Ok(listed)
    }

    /// Adds `key` to the list, durably.
    fn note(&self, key: KeyRef) -> anyhow::Result<()> {
        let mut known = self.known();
        if known.contains(&(self.branch, key)) {
            return Ok(());
        }
        let attempt = || -> std::io::Result<()> {
            let fresh = !self.list.exists();
            let mut file = OpenOptions::new().create(true).append(true).open(&self.list)?;
            // One write: lines of several branches do not mix. The leading end closes a line that was cut off.
            file.write_all(format!("\n{} {} {}{END}\n", self.bank, self.branch, key.0).as_bytes())?;
            file.sync_all()?;
            if fresh {
                File::open(
                    self.list.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new(".")),
                )?
                .sync_all()?;
            }
            Ok(())
        };
        attempt()
            .with_context(|| format!("could not add to the list of erasures {}", self.list.display()))?;
        known.insert((self.branch, key));
        Ok(())
    }

    fn known(&self) -> MutexGuard<'_, BTreeSet<Erasure>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Keys for Listed {
    fn create(&self, count: usize) -> Result<Vec<KeyRef>, KeyError> {
        self.keys.create(count)
    }

    fn seal(&self, key: KeyRef, plain: &[u8]) -> Result<Vec<u8>, KeyError> {
        self.keys.seal(key, plain)
    }

    fn unseal(&self, key: KeyRef, sealed: &[u8]) -> Result<Vec<u8>, KeyError> {
        self.keys.unseal(key, sealed)
    }

    fn erase(&self, key: KeyRef) -> Result<(), KeyError> {
        self.keys.erase(key)?;
        // The key is gone, list or no list; what could not be noted is noted at the next start.
        if let Err(error) = self.note(key) {
            tracing::error!(branch = self.branch, "an erasure is not in the list yet: {error:#}");
        }
        Ok(())
    }
}

/// The erasures of the bank that `source` knows: a list, or a data folder with its keys. The latter is only read.
///
/// # Errors
///
/// A source that is neither, or cannot be read.
pub(crate) fn read(source: &Path, bank: &str) -> anyhow::Result<BTreeSet<Erasure>> {
    if source.is_dir() { read_folder(source) } else { read_list(source, bank) }
}

fn read_folder(data: &Path) -> anyhow::Result<BTreeSet<Erasure>> {
    let keys = data.join("keys");
    let entries = std::fs::read_dir(&keys)
        .with_context(|| format!("{} is no data folder: it has no keys", data.display()))?;
    let mut found = BTreeSet::new();
    for entry in entries {
        let path = entry?.path();
        let branch =
            path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse::<u16>().ok());
        let Some(branch) = branch else { continue };
        let erased = erased_in(&RealStorage::existing(&path)?)
            .with_context(|| format!("could not read the keys in {}", path.display()))?;
        found.extend(erased.into_iter().map(|key| (branch, key)));
    }
    Ok(found)
}

/// How lists call the bank with these keys: by its first key, for a list outlives every rotation.
pub(crate) fn bank_name(keys: &KeyHistory) -> String {
    keys.first().bytes().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

fn read_list(path: &Path, bank: &str) -> anyhow::Result<BTreeSet<Erasure>> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("could not read the list of erasures {}", path.display()))?;
    parse(&text, bank).with_context(|| format!("in the list of erasures {}", path.display()))
}

fn parse(text: &str, bank: &str) -> anyhow::Result<BTreeSet<Erasure>> {
    let mut found = BTreeSet::new();
    for (number, line) in (1..).zip(text.split_inclusive('\n')) {
        let Some(line) = line.strip_suffix('\n') else { break };
        if line.is_empty() {
            continue;
        }
        let Some(words) = line.strip_suffix(END) else {
            // The end of a write that was cut off, closed by the next one: it was noted again.
            tracing::warn!("line {number} of the list of erasures was cut off: {line:?}");
            continue;
        };
        let mut words = words.split(' ');
        let (whose, branch, key, more) = (words.next(), words.next(), words.next(), words.next());
        let numbers = branch.zip(key).filter(|_| more.is_none());
        let numbers = numbers.and_then(|(branch, key)| Some((branch.parse().ok()?, key.parse().ok()?)));
        let Some((branch, key)) = numbers else {
            bail!("line {number} is not BANK BRANCH KEY erased: {line:?}");
        };
        if whose != Some(bank) {
            continue;
        }
        if key == 0 {
            bail!("line {number} names key 0, which no customer has");
        }
        found.insert((branch, KeyRef(key)));
    }
    Ok(found)
}

/// Erases in the data folder `data`, whose keys `master` wraps, what `erasures` name. Returns how many that were.
///
/// # Errors
///
/// Keys that cannot be opened or written.
pub(crate) fn apply(data: &Path, master: [u8; 32], erasures: &BTreeSet<Erasure>) -> anyhow::Result<u64> {
    let mut again = 0;
    let branches: BTreeSet<u16> = erasures.iter().map(|(branch, _)| *branch).collect();
    for branch in branches {
        let folder = data.join("keys").join(format!("{branch:04}"));
        ensure!(folder.is_dir(), "branch {branch} of the list of erasures is none of this backup's");
        let unused = Box::new(|_: &mut [u8]| ());
        let keys = SlotKeys::open(&RealStorage::existing(&folder)?, master, unused)?;
        let gone: BTreeSet<KeyRef> = keys.erased()?.into_iter().collect();
        for (_, key) in erasures.iter().filter(|(of, key)| *of == branch && !gone.contains(key)) {
            keys.erase(*key)?;
            again += 1;
        }
    }
    Ok(again)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_and_what_was_cut_off_does_not_count() {
        let list = "\nab 1 42 erased\n\nab 2 7 erased\n\ncd 9 9 erased\n\nab 1 42 erased\n\nab 3 1 erased";
        assert_eq!(parse(list, "ab").unwrap(), BTreeSet::from([(1, KeyRef(42)), (2, KeyRef(7))]));
        assert_eq!(parse(list, "cd").unwrap(), BTreeSet::from([(9, KeyRef(9))]), "another bank's");
        let cut = parse("ab 1 42 erased\nab 1 1\nab 1 17 erased\n", "ab").unwrap();
        assert_eq!(cut, BTreeSet::from([(1, KeyRef(42)), (1, KeyRef(17))]), "half a number is no key");
        for wrong in ["ab 1 2 3 erased\n", "ab 1 x erased\n", "ab 1 0 erased\n", "ab 70000 1 erased\n"] {
            assert!(parse(wrong, "ab").is_err(), "{wrong:?}");
        }
    }
}
