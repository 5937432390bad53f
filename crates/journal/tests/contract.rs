//! One contract, every implementation of the seam.

#[path = "common/mod.rs"]
mod common;
#[path = "common/folder.rs"]
mod folder;

use std::cell::RefCell;

use folder::{TestFolder, store};
use skerry_journal::contract::check_contract;
use skerry_journal::{FaultStorage, LocalStore, MemoryStore, Mode};

#[test]
fn local_files_with_a_thread() {
    on_real_files(Mode::Threaded);
}

#[test]
fn local_files_step_by_step() {
    on_real_files(Mode::Stepped);
}

fn on_real_files(mode: Mode) {
    let folders = RefCell::new(Vec::new());
    let folder = || {
        let folder = TestFolder::new();
        let storage = folder.storage();
        folders.borrow_mut().push(folder);
        storage
    };
    check_contract(|| LocalStore { cold: Some(folder()), ..store(&folder(), mode) });
}

#[test]
fn local_segments_over_the_fault_storage() {
    for mode in [Mode::Threaded, Mode::Stepped] {
        check_contract(|| LocalStore {
            cold: Some(FaultStorage::new(2)),
            ..store(&FaultStorage::new(1), mode)
        });
    }
}

#[test]
fn memory() {
    check_contract(MemoryStore::default);
}
