//! The contract of the [`Keys`] seam as one suite: every implementation must pass it.
//!
//! It is ordinary code, not a test module, so that implementations in other crates run the same suite.

use crate::{Entropy, KeyError, KeyRef, Keys};

/// A place for keys that can be opened again and again.
pub trait Place {
    /// What opening gives.
    type Keys: Keys;

    /// Opens it under the master key `[master; 32]`. A place that is far away may say what is wrong with it at the first call only.
    ///
    /// # Errors
    ///
    /// As the place says.
    fn open(&self, master: u8) -> Result<Self::Keys, KeyError>;
}

/// Bytes that repeat nowhere soon; no secret, for tests.
#[must_use]
pub fn numbers(seed: u64) -> Entropy {
    let mut state = seed;
    Box::new(move |bytes| {
        for byte in bytes {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = state.to_be_bytes()[0];
        }
    })
}

const MASTER: u8 = 3;

fn open<P: Place>(place: &P) -> P::Keys {
    place.open(MASTER).expect("the place opens")
}

/// Runs the suite. `fresh` makes an empty place.
///
/// # Panics
///
/// If the implementation breaks the contract.
pub fn check_contract<P: Place>(mut fresh: impl FnMut() -> P) {
    what_is_sealed_unseals_after_reopening_and_only_under_its_key(&fresh());
    no_reference_is_given_out_twice(&fresh());
    what_is_erased_stays_so(&fresh());
    a_key_that_was_never_there_can_be_erased(&fresh());
    another_master_key_is_refused(&fresh());
    unknown_keys_are_refused(&fresh());
}

fn what_is_sealed_unseals_after_reopening_and_only_under_its_key<P: Place>(place: &P) {
    let keys = open(place);
    let made = keys.create(3).expect("keys are made");
    assert_eq!(made, [KeyRef(1), KeyRef(2), KeyRef(3)]);
    let sealed = keys.seal(made[1], b"Customer 2").expect("a key seals");
    let again = keys.seal(made[1], b"Customer 2").expect("a key seals");
    assert_ne!(sealed, again, "the same bytes are never sealed alike");
    drop(keys);
    let keys = open(place);
    for sealed in [&sealed, &again] {
        assert_eq!(keys.unseal(made[1], sealed).expect("it unseals"), b"Customer 2");
    }
    assert!(matches!(keys.unseal(made[0], &sealed), Err(KeyError::NotSealed)));
    let mut bent = sealed;
    bent[30] ^= 1;
    assert!(matches!(keys.unseal(made[1], &bent), Err(KeyError::NotSealed)));
}

fn no_reference_is_given_out_twice<P: Place>(place: &P) {
    let mut all = Vec::new();
    for count in [1, 0, 2, 40, 1] {
        let keys = open(place);
        all.extend(keys.create(count).expect("keys are made"));
        all.extend(keys.create(count).expect("keys are made"));
    }
    let different: std::collections::BTreeSet<_> = all.iter().collect();
    assert_eq!(different.len(), 2 * 44);
    assert_eq!(all.len(), 2 * 44);
    assert!(!different.contains(&KeyRef(0)));
}

fn what_is_erased_stays_so<P: Place>(place: &P) {
    let keys = open(place);
    let made = keys.create(4).expect("keys are made");
    let sealed: Vec<_> = made.iter().map(|key| keys.seal(*key, b"a name").expect("a key seals")).collect();
    keys.erase(made[1]).expect("a key is erased");
    keys.erase(made[1]).expect("erasing twice is erasing once");
    // One that nothing was sealed under yet since the place was opened.
    let unused = keys.create(1).expect("keys are made")[0];
    keys.erase(unused).expect("a key is erased");
    assert!(matches!(keys.seal(unused, b""), Err(KeyError::Erased)));
    let again = open(place);
    for keys in [&keys, &again] {
        assert!(matches!(keys.unseal(made[1], &sealed[1]), Err(KeyError::Erased)));
        assert!(matches!(keys.seal(made[1], b""), Err(KeyError::Erased)));
        assert_eq!(keys.unseal(made[0], &sealed[0]).expect("the others are whole"), b"a name");
        assert_eq!(keys.erased().expect("it tells"), [made[1], unused]);
        let asked = [made[3], made[1], unused, made[0]];
        let mut left = keys.not_erased(&asked).expect("it tells");
        left.sort();
        assert_eq!(left, [made[0], made[3]]);
        assert!(keys.not_erased(&[]).expect("it tells").is_empty());
    }
}

fn a_key_that_was_never_there_can_be_erased<P: Place>(place: &P) {
    let keys = open(place);
    keys.create(2).expect("keys are made");
    keys.erase(KeyRef(9)).expect("a key is erased");
    keys.erase(KeyRef(0)).expect("0 names none");
    assert_eq!(keys.not_erased(&[KeyRef(9), KeyRef(20)]).expect("it tells"), [KeyRef(20)]);
    drop(keys);
    let keys = open(place);
    assert_eq!(keys.erased().expect("it tells"), [KeyRef(9)]);
    let made = keys.create(3).expect("keys are made");
    assert!(made.iter().all(|key| *key > KeyRef(9)), "{made:?}: an erased key does not come back");
}

fn another_master_key_is_refused<P: Place>(place: &P) {
    let key = open(place).create(1).expect("keys are made")[0];
    let refused = |outcome: Result<(), KeyError>| assert!(matches!(outcome, Err(KeyError::WrongMaster)));
    refused(place.open(MASTER + 1).and_then(|keys| keys.create(1)).map(drop));
    refused(place.open(MASTER + 1).and_then(|keys| keys.unseal(key, b"")).map(drop));
    refused(place.open(MASTER + 1).and_then(|keys| keys.erase(key)));
    open(place).seal(key, b"").expect("nothing was changed");
}

fn unknown_keys_are_refused<P: Place>(place: &P) {
    let keys = open(place);
    keys.create(1).expect("keys are made");
    for key in [0, 2, u64::MAX >> 1] {
        assert!(matches!(keys.seal(KeyRef(key), b""), Err(KeyError::Unknown(of)) if of == key));
        assert!(matches!(keys.unseal(KeyRef(key), b""), Err(KeyError::Unknown(of)) if of == key));
    }
}

/// For places that several processes may open at once, each believing that it owns the branch: nothing is given out twice, and what
/// one erases no other unseals.
///
/// # Panics
///
/// If the implementation breaks the contract.
pub fn check_two_owners<P: Place>(place: &P)
where
    P::Keys: 'static,
{
    let owners: Vec<_> = (0..4).map(|_| std::sync::Arc::new(open(place))).collect();
    let working: Vec<_> = owners
        .iter()
        .map(|keys| {
            let keys = std::sync::Arc::clone(keys);
            std::thread::spawn(move || -> Vec<KeyRef> {
                (0..20).flat_map(|count| keys.create(count % 4).expect("keys are made")).collect()
            })
        })
        .collect();
    let mut all: Vec<_> = working.into_iter().flat_map(|thread| thread.join().expect("it works")).collect();
    let made = all.len();
    all.sort();
    all.dedup();
    assert_eq!((made, all.len()), (4 * 30, 4 * 30), "a reference was given out twice");

    let sealed = owners[0].seal(all[7], b"a name").expect("a key seals");
    assert_eq!(owners[1].unseal(all[7], &sealed).expect("another's key unseals"), b"a name");
    owners[2].erase(all[7]).expect("a key is erased");
    for keys in &owners {
        assert!(matches!(keys.unseal(all[7], &sealed), Err(KeyError::Erased)));
        assert_eq!(keys.erased().expect("it tells"), [all[7]]);
    }
}
