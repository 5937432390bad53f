//! What outlives a failure: power cuts at any moment, failed syncs, snapshots, rewinds, erasures.

#![expect(clippy::unwrap_used, reason = "a helper that fails, fails its test")]

mod common;

use std::collections::BTreeMap;

use common::*;
use skerry_book::Command;
use skerry_branch::api::{Body, Reply};
use skerry_branch::keys::KeyError;
use skerry_branch::{Condition, OpenFailure, Options};
use skerry_journal::{FaultPlan, FaultStorage, Mode, Storage};
use skerry_ledger::{Transfer, TransferId};
use skerry_proof::{Ed25519Signer, Signer};

/// What a client believes: which of its transfers were accepted, refused, or left unknown.
#[derive(Default)]
struct Client {
    sent: Vec<(Transfer, Slot)>,
    accepted: BTreeMap<TransferId, Transfer>,
    unknown: BTreeMap<TransferId, Transfer>,
}

impl Client {
    fn listen(&mut self) {
        for (transfer, slot) in std::mem::take(&mut self.sent) {
            match slot.take() {
                None => self.sent.push((transfer, slot)),
                Some(Reply::Packed(packed)) => {
                    self.unknown.remove(&transfer.id);
                    if unpack(&packed.results)[0].code == 0 {
                        self.accepted.insert(transfer.id, transfer);
                    } else {
                        assert!(
                            !self.accepted.contains_key(&transfer.id),
                            "what was accepted is refused at its retry"
                        );
                    }
                }
                Some(Reply::Unknown | Reply::Busy(_)) => {
                    self.unknown.insert(transfer.id, transfer);
                }
                Some(other) => panic!("{other:?}"),
            }
        }
    }
}

fn snappy() -> Options {
    Options { snapshot_records: 40, freeze_pages: 1, checkpoint_us: 3_000_000, ..options() }
}

/// One life after another on one disk, each ended by a power cut at a random moment.
fn live_through(seed: u64, options: &Options, plan: FaultPlan) -> Result<(), String> {
    let storage = FaultStorage::new(seed);
    let mut random = Random(seed);
    let mut client = Client::default();
    let accounts = 5;
    let mut bank = Stepped::with(&storage, options.clone());
    bank.open().map_err(|error| error.to_string())?;
    bank.found(accounts, 1_000_000);
    for life in 0..4 {
        storage.set_plan(plan);
        storage.lose_power_in(5 + random.next(120));
        while !storage.is_dark() && *bank.branch.condition() == Condition::Open {
            match random.next(9) {
                0..=3 => {
                    let (from, to) = (1 + random.next(accounts), 1 + random.next(accounts));
                    let again = client.unknown.values().next().copied().filter(|_| random.next(2) == 0);
                    let one = again.unwrap_or_else(|| {
                        transfer(account(from), account(to), 1 + random.next(9), bank.now.wall_us)
                    });
                    let slot = bank.submit(operator(), Body::Packed(pack(&[one])));
                    client.sent.push((one, slot));
                }
                4 | 5 => drop(bank.branch.turn(bank.now)),
                6 => drop(bank.branch.step_journal()),
                7 => drop(bank.work_off(1)),
                _ => bank.pass_us(random.next(300_000)),
            }
            client.listen();
        }
        storage.set_plan(FaultPlan::default());
        bank.branch.close(bank.now);
        client.listen();
        if let Some((_, _)) = client.sent.first() {
            return Err("a request was never answered".to_owned());
        }
        storage.power_cut();
        // The keys' files were opened before the cut: so are a machine's after it.
        bank = Stepped { now: bank.now, openings: bank.openings, ..Stepped::with(&storage, options.clone()) };
        bank.pass_us(1_000_000);
        bank.open().map_err(|error| format!("life {life}: {error}"))?;
        bank.settle();
        check(&mut bank, &mut client)?;
    }
    Ok(())
}

/// Everything that was acknowledged is there once, and the retry of everything says so.
fn check(bank: &mut Stepped<FaultStorage>, client: &mut Client) -> Result<(), String> {
    let book = bank.branch.book().expect("it is open");
    skerry_book::invariants::check(book).map_err(str::to_owned)?;
    let unknown: Vec<Transfer> = std::mem::take(&mut client.unknown).into_values().collect();
    for one in unknown.iter().chain(client.accepted.clone().values()) {
        let before = bank.branch.book().expect("open").position();
        let outcome = bank.packed(&[*one])[0];
        let acknowledged = client.accepted.contains_key(&one.id);
        if acknowledged {
            if outcome.code != 0 || bank.branch.book().expect("open").position() != before {
                return Err(format!("an acknowledged transfer is gone: {outcome:?}"));
            }
        } else if outcome.code == 0 {
            client.accepted.insert(one.id, *one);
        }
    }
    for serial in 1..=5 {
        let reference = account(serial);
        let moved = client.accepted.values().fold(1_000_000_i128, |sum, transfer| {
            let amount = i128::from(transfer.amount);
            sum + if transfer.credit == reference { amount } else { 0 }
                - if transfer.debit == reference { amount } else { 0 }
        });
        let balance = bank.balance(reference);
        if balance != moved {
            return Err(format!("account {serial} has {balance}, should have {moved}"));
        }
    }
    Ok(())
}

#[test]
fn power_cuts_at_any_moment_lose_nothing_acknowledged() {
    for seed in 0..150 {
        live_through(seed, &snappy(), FaultPlan::default())
            .unwrap_or_else(|what| panic!("seed {seed}: {what}"));
    }
}

#[test]
fn failing_syncs_and_writes_lose_nothing_acknowledged() {
    let plan = FaultPlan {
        failed_sync_ppm: 20_000,
        failed_write_ppm: 10_000,
        short_write_ppm: 10_000,
        ..FaultPlan::default()
    };
    for seed in 1_000..1_080 {
        live_through(seed, &snappy(), plan).unwrap_or_else(|what| panic!("seed {seed}: {what}"));
    }
}

#[cfg(feature = "sabotage")]
#[test]
fn deliberate_bugs_are_caught() {
    use skerry_branch::sabotage::Sabotage;
    let bugs = [
        Sabotage { early_reply: true, ..Sabotage::default() },
        Sabotage { hasty_derived: true, ..Sabotage::default() },
    ];
    for sabotage in bugs {
        let options = Options { sabotage, ..snappy() };
        let caught = (0..150).any(|seed| live_through(seed, &options, FaultPlan::default()).is_err());
        assert!(caught, "{sabotage:?} passes unseen");
    }
}

/// The third of them, a skipped sync, is a storage that lies.
#[cfg(feature = "sabotage")]
#[test]
fn a_skipped_sync_is_caught() {
    use skerry_branch::sabotage::Unsynced;
    let lost = (0..20).any(|seed| {
        let storage = FaultStorage::new(seed);
        let lying = Unsynced(storage.clone());
        let mut bank = Stepped::opened(&lying);
        bank.found(2, 500);
        let now = bank.now.wall_us;
        for _ in 0..20 {
            bank.packed(&[transfer(account(1), account(2), 1, now)]);
        }
        let acknowledged = bank.branch.book().unwrap().position();
        storage.power_cut();
        let folder = storage.folder("keys").unwrap();
        if skerry_branch::keys::SlotKeys::open(&folder, [5; 32], entropy(3)).is_err() {
            return true; // Keys that were given out are gone, and that is told.
        }
        let mut bank = Stepped { now: bank.now, ..Stepped::new(&storage) };
        bank.open().is_err() || bank.branch.book().unwrap().position() < acknowledged
    });
    assert!(lost, "what is not synced is lost in some power cut");
}

#[test]
fn a_checkpoint_is_signed_in_time_although_nothing_more_happens() {
    let storage = FaultStorage::new(9);
    let mut bank = Stepped::opened(&storage);
    bank.found(1, 500);
    assert!(
        bank.branch
            .workshop()
            .unwrap()
            .latest()
            .is_none_or(|signed| signed.checkpoint.position < bank.branch.book().unwrap().position())
    );
    bank.pass_us(601_000_000);
    bank.settle();
    let signed = bank.branch.workshop().unwrap().latest().unwrap();
    assert_eq!(signed.checkpoint.position, bank.branch.book().unwrap().position());
    bank.pass_us(601_000_000);
    bank.settle();
    assert_eq!(bank.branch.workshop().unwrap().latest().unwrap(), signed, "nothing new, nothing to sign");
}

#[test]
fn a_snapshot_opens_the_same_book_and_only_the_tail_is_replayed() {
    let storage = FaultStorage::new(3);
    let mut bank = Stepped::opened(&storage);
    bank.found(4, 500);
    bank.branch.mark(bank.now, true);
    bank.settle();
    let now = bank.now.wall_us;
    bank.packed(&[transfer(account(1), account(2), 1, now), transfer(account(1), account(2), 9_000, now)]);
    let image = bank.image();
    bank.branch.close(bank.now);
    let found = bank.open().unwrap();
    assert_eq!(bank.image(), image);
    assert!(found.snapshot > 0);
    assert_eq!(found.replayed, 2);
    bank.settle();
    let signed = bank.branch.workshop().unwrap().latest().unwrap();
    assert!(signed.checkpoint.state_digest.is_some(), "a span is closed by a signed digest of its state");
}

#[test]
fn a_failed_sync_makes_the_branch_sick_its_requests_unknown_and_reopening_heals_it() {
    let storage = FaultStorage::new(4);
    let mut bank = Stepped::opened(&storage);
    bank.found(2, 500);
    storage.fail_next_sync(0);
    let one = transfer(account(1), account(2), 1, bank.now.wall_us);
    assert!(matches!(bank.ask(operator(), Body::Packed(pack(&[one]))), Reply::Unknown));
    assert!(matches!(bank.branch.condition(), Condition::Sick(reason) if reason.contains("batch")));
    assert!(matches!(bank.ask(operator(), Body::Packed(pack(&[one]))), Reply::Busy(_)));
    bank.open().unwrap();
    assert_eq!(bank.packed(&[one])[0].code, 0);
    assert_eq!(bank.balance(account(2)), 501);
}

#[test]
fn a_rewound_journal_does_not_open_until_the_loss_is_declared() {
    let storage = FaultStorage::new(5);
    let mut bank = Stepped::opened(&storage);
    bank.found(2, 500);
    bank.branch.mark(bank.now, false);
    bank.settle();
    bank.branch.close(bank.now);
    // A backup of the journal as it is now…
    let journal = storage.folder("journal").unwrap();
    let backup: Vec<(String, Vec<u8>)> = journal
        .list()
        .unwrap()
        .into_iter()
        .map(|name| (name.clone(), skerry_journal::storage::read_whole(&journal, &name).unwrap()))
        .collect();
    bank.open().unwrap();
    let now = bank.now.wall_us;
    bank.packed(&[transfer(account(1), account(2), 7, now)]);
    bank.branch.mark(bank.now, true);
    bank.settle();
    bank.branch.close(bank.now);
    // …comes back after the branch has signed more.
    for name in journal.list().unwrap() {
        journal.remove(&name).unwrap();
    }
    for (name, bytes) in backup {
        skerry_journal::storage::replace_whole(&journal, &name, &bytes).unwrap();
    }
    let failure = bank.open().unwrap_err();
    assert!(matches!(failure, OpenFailure::Rewound { disagrees: false, .. }), "{failure}");
    assert!(failure.to_string().starts_with("journal_rewound: the journal ends at position "));
    assert!(matches!(bank.branch.condition(), Condition::Sick(_)));
    let mut local = local_options(Mode::Stepped);
    local.accept_loss = true;
    let store = skerry_journal::LocalStore { storage: journal, options: local, cold: None };
    bank.branch.declare_loss(store, bank.now, [77; 32]).unwrap();
    bank.settle();
    let book = bank.branch.book().unwrap();
    assert_eq!(book.incarnation(), 2);
    assert_eq!(book.losses().len(), 1);
    assert!(book.losses()[0].lost_to > book.losses()[0].lost_from);
    assert_eq!(bank.balance(account(2)), 500, "the lost transfer is lost, and listed as such");
    let one = transfer(account(1), account(2), 1, bank.now.wall_us);
    assert_eq!(bank.packed(&[one])[0].code, 0);
    bank.branch.close(bank.now);
    bank.open().unwrap();
    assert_eq!(bank.balance(account(2)), 501);
}

#[test]
fn erasing_a_key_survives_a_crash_before_the_key_was_destroyed() {
    let storage = FaultStorage::new(6);
    let mut bank = Stepped::opened(&storage);
    bank.found(1, 0);
    let keys = bank.branch_keys();
    let key = skerry_branch::keys::KeyRef(1);
    let sealed = keys.seal(key, b"a name").unwrap();
    bank.command(Command::SetPolicy(skerry_book::policy::Policy {
        retention_days: 0,
        ..bank.branch.book().unwrap().policy()
    }));
    bank.command(Command::CloseAccount(account(1)));
    // Durable, but no job runs any more.
    let slot =
        bank.submit(operator(), Body::Command { command: Box::new(Command::EraseCustomer(1)), key: None });
    while bank.branch.turn(bank.now) | bank.branch.step_journal() {}
    assert!(matches!(slot.take(), Some(Reply::Command(Ok(_)))));
    assert!(keys.unseal(key, &sealed).is_ok());
    storage.power_cut();
    let mut bank = Stepped { now: bank.now, ..Stepped::new(&storage) };
    bank.open().unwrap();
    assert!(matches!(bank.branch_keys().unseal(key, &sealed), Err(KeyError::Erased)));
}

#[test]
fn checkpoints_are_signed_by_time_and_prove_their_consistency() {
    let storage = FaultStorage::new(7);
    let mut bank = Stepped::opened(&storage);
    bank.found(2, 500);
    let ring = [Ed25519Signer::from_seed(&[4; 32]).public_key()];
    let mut last: Option<skerry_proof::checkpoint::Checkpoint> = None;
    for _ in 0..5 {
        bank.pass_us(601_000_000);
        let now = bank.now.wall_us;
        bank.packed(&[transfer(account(1), account(2), 1, now)]);
        let signed = bank.branch.workshop().unwrap().latest().unwrap();
        signed.verify(&ring[..]).unwrap();
        let stated = signed.checkpoint.clone();
        assert!(last.is_none_or(|last| last.position < stated.position), "a new one each ten minutes");
        assert!(stated.totals.iter().all(|total| total.debits == total.credits && total.debits > 0));
        last = Some(stated);
    }
}

#[test]
fn old_segments_go_to_cold_storage_and_nothing_is_missing_from_what_is_left() {
    let storage = FaultStorage::new(11);
    let mut small = options();
    small.history.span_rows = 20_000;
    small.ids.memtable_ids = 20_000;
    let mut bank = Stepped::with(&storage, small);
    bank.open().unwrap();
    bank.found(4, 1_000_000);
    let cold = storage.folder("cold").unwrap();
    assert!(bank.archive(u64::MAX).is_err(), "without a snapshot everything is needed");
    let now = bank.now.wall_us;
    let batch = || -> Vec<Transfer> {
        (0..8_000).map(|n| transfer(account(n % 4 + 1), account((n + 1) % 4 + 1), 1, now)).collect()
    };
    for round in 0..24 {
        bank.packed(&batch());
        if round == 11 || round == 20 {
            bank.branch.mark(bank.now, true);
            bank.settle();
        }
    }
    let kept = bank.archive(u64::MAX).unwrap();
    assert!(kept > 0 && kept <= 12 * 8_000 + 100, "up to the older snapshot and no further: {kept}");
    assert!(!cold.list().unwrap().is_empty());
    let image = bank.image();
    bank.branch.close(bank.now);
    bank.open().unwrap();
    bank.settle();
    assert_eq!(bank.image(), image);
    for serial in 1..=4 {
        let posted = bank.account(account(serial));
        let history = bank.branch.history().unwrap();
        let at_least = history.position();
        let totals =
            history.totals(account(serial), skerry_branch::history::AsOf::default(), at_least).unwrap();
        assert_eq!((totals.debits, totals.credits), (posted.debits_posted, posted.credits_posted));
    }
    assert!(bank.packed(&batch()).iter().all(|outcome| outcome.code == 0));
}
