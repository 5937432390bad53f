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

use crate::config::Config;
use crate::folder::{self, IDENTITY_FILE, Identity};
use crate::residences::Residences;
use crate::stores;

/// Ends a line, so that a number that was cut off is not taken for another.
const END: &str = " erased";

/// A branch and a key of one of its customers.
pub(crate) type Erasure = (u16, KeyRef);

/// Keys that note every erasure in a list.
pub(crate) struct Listed {
    keys: Box<dyn Keys>,
    list: PathBuf,
    bank: String,
    branch: u16,
    known: Mutex<BTreeSet<Erasure>>,
    /// List and keys say the same.
    agreed: Mutex<bool>,
}

impl Listed {
    /// Keys beside the list in `list`.
    ///
    /// # Errors
    ///
    /// A list that cannot be read.
    pub(crate) fn new(keys: Box<dyn Keys>, list: &Path, bank: &str, branch: u16) -> anyhow::Result<Self> {
        let known = Mutex::new(if list.exists() { read_list(list, bank)? } else { BTreeSet::new() });
        let (list, bank) = (list.to_owned(), bank.to_owned());
        Ok(Self { keys, list, bank, branch, known, agreed: Mutex::new(false) })
    }

    /// The keys, once they and the list agree: what is erased is noted, and what the list has and these keys do not is erased, for
    /// they are from an older copy. Keys that are away have to come first.
    ///
    /// # Errors
    ///
    /// Keys that cannot be read or written.
    pub(crate) fn agreed(&self) -> Result<&dyn Keys, KeyError> {
        let mut agreed = self.agreed.lock().unwrap_or_else(PoisonError::into_inner);
        if !*agreed {
            let gone: BTreeSet<KeyRef> = self.keys.erased()?.into_iter().collect();
            let back: Vec<KeyRef> = {
                let known = self.known();
                let own = known.iter().filter(|(of, _)| *of == self.branch).map(|(_, key)| *key);
                own.filter(|key| !gone.contains(key)).collect()
            };
            for key in back {
                tracing::warn!(
                    branch = self.branch,
                    key = key.0,
                    "the list of erasures names a key that was back: it is erased again"
                );
                self.keys.erase(key)?;
            }
            gone.into_iter().for_each(|key| self.note_or_say(key));
            *agreed = true;
        }
        Ok(&*self.keys)
    }

    /// The key is gone, list or no list; what could not be noted is noted at the next start.
    fn note_or_say(&self, key: KeyRef) {
        if let Err(error) = self.note(key) {
            tracing::error!(branch = self.branch, "an erasure is not in the list yet: {error:#}");
        }
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
        self.agreed()?.create(count)
    }

    fn seal(&self, key: KeyRef, plain: &[u8]) -> Result<Vec<u8>, KeyError> {
        self.agreed()?.seal(key, plain)
    }

    fn unseal(&self, key: KeyRef, sealed: &[u8]) -> Result<Vec<u8>, KeyError> {
        self.agreed()?.unseal(key, sealed)
    }

    fn erase(&self, key: KeyRef) -> Result<(), KeyError> {
        self.agreed()?.erase(key)?;
        self.note_or_say(key);
        Ok(())
    }

    fn erased(&self) -> Result<Vec<KeyRef>, KeyError> {
        self.agreed()?.erased()
    }

    fn not_erased(&self, keys: &[KeyRef]) -> Result<Vec<KeyRef>, KeyError> {
        self.agreed()?.not_erased(keys)
    }
}

/// The erasures of the bank that `source` knows: a list, or a data folder with its keys and those in the stores that its branches are in.
/// The latter are only read.
///
/// # Errors
///
/// A source that is neither, or cannot be read; a store that `config` does not name.
pub(crate) fn read(source: &Path, bank: &str, config: &Config) -> anyhow::Result<BTreeSet<Erasure>> {
    if source.is_dir() { read_folder(source, config) } else { read_list(source, bank) }
}

fn read_folder(data: &Path, config: &Config) -> anyhow::Result<BTreeSet<Erasure>> {
    let keys = data.join("keys");
    let in_files = numbered(&keys);
    let in_files =
        in_files.with_context(|| format!("{} is no data folder: it has no keys", data.display()))?;
    let mut found = BTreeSet::new();
    for (branch, path) in in_files {
        let erased = erased_in(&RealStorage::existing(&path)?)
            .with_context(|| format!("could not read the keys in {}", path.display()))?;
        found.extend(erased.into_iter().map(|key| (branch, key)));
    }
    // A machine of several has no folder of a branch that it never hosted.
    let residences = Residences::new(config, data);
    let known = match Identity::load(&data.join(IDENTITY_FILE)) {
        Ok(identity) => residences.count(identity.branches)?,
        Err(_) => 0,
    };
    let here = numbered(&data.join("branches")).unwrap_or_default();
    for branch in here.iter().map(|(branch, _)| *branch).chain(1..=known).collect::<BTreeSet<_>>() {
        if let Some(store) = residences.of(branch)? {
            let erased = stores::erased(config, branch, &store)?;
            found.extend(erased.into_iter().map(|key| (branch, key)));
        }
    }
    Ok(found)
}

/// The folders in `path` that are called by a branch's number.
///
/// # Errors
///
/// As the system says.
pub(crate) fn numbered(path: &Path) -> std::io::Result<Vec<(u16, PathBuf)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let path = entry?.path();
        let number = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
        found.extend(number.map(|number| (number, path)));
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
        let folder = folder::keys_folder(data, branch);
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
