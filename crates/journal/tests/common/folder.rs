//! A folder of the machine for one test.

#![expect(clippy::unwrap_used, reason = "the setting for tests does not reach their helpers")]

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use skerry_journal::{LocalStore, Mode, RealStorage, Storage};

use crate::common::small;

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// A folder that is removed when the test is over.
pub(crate) struct TestFolder {
    pub(crate) path: PathBuf,
}

impl TestFolder {
    pub(crate) fn new() -> Self {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("skerry-journal-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self { path }
    }

    pub(crate) fn storage(&self) -> RealStorage {
        RealStorage::open(&self.path).unwrap()
    }
}

impl Drop for TestFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

pub(crate) fn store<S: Storage>(storage: &S, mode: Mode) -> LocalStore<S> {
    LocalStore { storage: storage.clone(), options: small(mode), cold: None }
}
