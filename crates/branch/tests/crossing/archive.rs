//! Payments and the archive: what is under way stays in the journal, what is over is told from the archive.

use skerry_branch::Options;
use skerry_branch::api::{Body, PaymentState, Read, Reply};
use skerry_journal::{FaultStorage, Storage};

use super::common::*;
use super::{ACCOUNTS, BRANCHES, EACH, carry, check_all, founded, founded_with, of, options_of, payment};

/// So many payments within the branch, and so many openings, that what came before can be archived.
fn grow_old(bank: &mut Stepped<FaultStorage>) {
    for round in 0..6 {
        let now = bank.now.wall_us;
        let pay = |n| transfer(of(1, n % ACCOUNTS + 1), of(1, (n + 1) % ACCOUNTS + 1), 1, now);
        bank.packed(&(0..1_000).map(pay).collect::<Vec<_>>());
        if round > 2 {
            bank.branch.close(bank.now);
            bank.open().unwrap();
            bank.branch.know(&BRANCHES);
            bank.settle();
            bank.branch.mark(bank.now, true);
            bank.settle();
        }
    }
}

#[test]
fn what_is_under_way_is_not_archived_and_what_was_settled_is_told_from_the_archive() {
    let storage = FaultStorage::new(1);
    let mut small = Options { snapshots_kept: 1, ..options_of(1) };
    small.history.span_rows = 1_000;
    small.ids.memtable_ids = 1_000;
    let mut banks = vec![founded_with(&storage, small), founded(2, &FaultStorage::new(2))];
    carry(&mut banks);
    let one = transfer(of(1, 1), of(2, 2), 250, banks[0].now.wall_us);
    let outcome = banks[0].packed(&[one])[0];
    grow_old(&mut banks[0]);
    assert!(banks[0].archive(u64::MAX).unwrap() <= outcome.position, "nobody has answered it yet");
    for bank in &mut banks {
        bank.pass_us(1_000_000);
    }
    carry(&mut banks);
    assert_eq!(payment(&mut banks[0], one.id).state, PaymentState::Settled);
    grow_old(&mut banks[0]);
    assert!(banks[0].archive(u64::MAX).unwrap() > outcome.position);
    for _ in 0..2 {
        assert_eq!(banks[0].packed(&[one])[0], outcome, "a retry");
        let seen = payment(&mut banks[0], one.id);
        assert_eq!((seen.state, seen.position), (PaymentState::Settled, outcome.position));
        storage.folder("cold").unwrap().take_away(true);
        let reply = banks[0].ask(operator(), Body::Read(Read::Payment(one.id)));
        assert!(matches!(reply, Reply::Archived(ref why) if why.contains("cold folder")), "{reply:?}");
        storage.folder("cold").unwrap().take_away(false);
    }
    assert_eq!(banks[1].balance(of(2, 2)), i128::from(EACH) + 250);
    check_all(&banks);
}
