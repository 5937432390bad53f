//! Tests of the key slots: the seam's contract, damage, and what is in the files.

use super::*;
use crate::contract::{self, Place, check_contract};
use skerry_journal::RealStorage;

fn folder(name: &str) -> RealStorage {
    let path = std::env::temp_dir().join(format!("skerry-keys-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    RealStorage::open(path).unwrap()
}

impl Place for RealStorage {
    type Keys = SlotKeys<Self>;

    fn open(&self, master: u8) -> Result<SlotKeys<Self>, KeyError> {
        SlotKeys::open(self, [master; 32], contract::numbers(7))
    }
}

fn open(storage: &RealStorage) -> SlotKeys<RealStorage> {
    Place::open(storage, 3).unwrap()
}

fn file(storage: &RealStorage, name: &str) -> <RealStorage as Storage>::File {
    Storage::open(storage, name, true).unwrap()
}

#[test]
fn keeps_the_contract() {
    let mut count = 0;
    check_contract(|| {
        count += 1;
        folder(&format!("contract-{count}"))
    });
}

#[test]
fn an_erased_key_is_gone_from_both_files() {
    let storage = folder("erase");
    let keys = open(&storage);
    let key = keys.create(1).unwrap()[0];
    keys.erase(key).unwrap();
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
    file(&storage, FILES[0]).write_at(SLOT_U64 + 40, &[0xff; 8]).unwrap();
    assert_eq!(keys.unseal(made[0], &sealed).unwrap(), b"a name");
    file(&storage, FILES[1]).write_at(SLOT_U64, &[ERASED]).unwrap();
    assert!(matches!(keys.unseal(made[0], &sealed), Err(KeyError::Erased)));
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
    file(&storage, FILES[1]).write_at(3 * SLOT_U64, &[ERASED]).unwrap();
    keys.erase(KeyRef(9)).unwrap();
    assert_eq!(erased_in(&storage).unwrap(), [KeyRef(2), KeyRef(3), KeyRef(5), KeyRef(9)]);
    assert_eq!(erased_in(&storage).unwrap(), keys.erased().unwrap());
    storage.remove(FILES[0]).unwrap();
    assert_eq!(erased_in(&storage).unwrap().len(), 4);
}

#[test]
fn a_copy_of_wrapped_keys_opens_under_their_master_key() {
    let (master, mut entropy) = (Master::new([3; 32]), contract::numbers(1));
    let storage = folder("copy");
    let secret = Secret::draw(&mut entropy);
    let header = master.wrap(KeyRef(0), &Secret::of_header(), &mut entropy);
    let copy = SlotCopy::begin(&storage, &header).unwrap();
    copy.put(KeyRef(4), Some(&master.wrap(KeyRef(4), &secret, &mut entropy))).unwrap();
    copy.put(KeyRef(5), None).unwrap();
    copy.finish().unwrap();
    let keys = open(&storage);
    let sealed = secret.seal(KeyRef(4), b"a name", &mut entropy);
    assert_eq!(keys.unseal(KeyRef(4), &sealed).unwrap(), b"a name");
    assert!(matches!(keys.unseal(KeyRef(2), &sealed), Err(KeyError::Unknown(2))));
    assert_eq!(keys.erased().unwrap(), [KeyRef(5)]);
    assert_eq!(keys.create(1).unwrap(), [KeyRef(6)]);
    assert!(matches!(Place::open(&storage, 4), Err(KeyError::WrongMaster)));
}
