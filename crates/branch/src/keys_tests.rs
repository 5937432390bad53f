//! Tests of the key slots: made, sealed, erased, found again.

use super::*;
use skerry_journal::RealStorage;

fn entropy() -> Entropy {
    let mut state = 7_u64;
    Box::new(move |bytes| {
        for byte in bytes {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = state.to_be_bytes()[0];
        }
    })
}

fn folder(name: &str) -> RealStorage {
    let path = std::env::temp_dir().join(format!("skerry-keys-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    RealStorage::open(path).unwrap()
}

fn open(storage: &RealStorage) -> SlotKeys<RealStorage> {
    SlotKeys::open(storage, [3; 32], entropy()).unwrap()
}

#[test]
fn what_is_sealed_unseals_after_reopening_and_only_under_its_key() {
    let storage = folder("seal");
    let keys = open(&storage);
    let made = keys.create(3).unwrap();
    assert_eq!(made, [KeyRef(1), KeyRef(2), KeyRef(3)]);
    let sealed = keys.seal(made[1], b"Customer 2").unwrap();
    drop(keys);
    let keys = open(&storage);
    assert_eq!(keys.unseal(made[1], &sealed).unwrap(), b"Customer 2");
    assert!(matches!(keys.unseal(made[0], &sealed), Err(KeyError::NotSealed)));
    assert_eq!(keys.create(1).unwrap(), [KeyRef(4)]);
}

#[test]
fn an_erased_key_is_gone_from_both_files_for_ever() {
    let storage = folder("erase");
    let keys = open(&storage);
    let key = keys.create(1).unwrap()[0];
    let sealed = keys.seal(key, b"a name").unwrap();
    keys.erase(key).unwrap();
    keys.erase(key).unwrap();
    drop(keys);
    let keys = open(&storage);
    assert!(matches!(keys.unseal(key, &sealed), Err(KeyError::Erased)));
    assert_eq!(keys.erased().unwrap(), [key]);
    for file in FILES {
        let bytes = read_whole(&storage, file).unwrap();
        assert!(bytes[SLOT + 1..2 * SLOT].iter().all(|byte| *byte == 0), "{file} holds the key no more");
    }
}

#[test]
fn a_damaged_copy_harms_no_key_and_an_erasure_in_one_copy_counts() {
    let storage = folder("damage");
    let keys = open(&storage);
    let made = keys.create(2).unwrap();
    let sealed = keys.seal(made[0], b"a name").unwrap();
    let file = storage.open(FILES[0], true).unwrap();
    file.write_at(SLOT_U64 + 40, &[0xff; 8]).unwrap();
    assert_eq!(keys.unseal(made[0], &sealed).unwrap(), b"a name");
    let file = storage.open(FILES[1], true).unwrap();
    file.write_at(SLOT_U64, &[ERASED]).unwrap();
    assert!(matches!(keys.unseal(made[0], &sealed), Err(KeyError::Erased)));
}

#[test]
fn another_master_key_is_refused() {
    let storage = folder("master");
    open(&storage).create(1).unwrap();
    assert!(matches!(SlotKeys::open(&storage, [4; 32], entropy()), Err(KeyError::WrongMaster)));
}

#[test]
fn what_is_erased_is_seen_without_the_master_key_and_in_either_copy() {
    let storage = folder("seen");
    assert!(
        matches!(erased_in(&storage), Err(KeyError::Storage(error)) if error.kind == StorageErrorKind::NotFound)
    );
    let keys = open(&storage);
    keys.create(5).unwrap();
    assert_eq!(erased_in(&storage).unwrap(), []);
    keys.erase(KeyRef(2)).unwrap();
    keys.erase(KeyRef(5)).unwrap();
    // An erasure that was cut short between the copies, and one of a key that was never there.
    storage.open(FILES[1], true).unwrap().write_at(3 * SLOT_U64, &[ERASED]).unwrap();
    keys.erase(KeyRef(9)).unwrap();
    assert_eq!(erased_in(&storage).unwrap(), [KeyRef(2), KeyRef(3), KeyRef(5), KeyRef(9)]);
    assert_eq!(erased_in(&storage).unwrap(), keys.erased().unwrap());
    storage.remove(FILES[0]).unwrap();
    assert_eq!(erased_in(&storage).unwrap().len(), 4);
}
