//! One life of a branch after another, each on another machine: an owner at work, a follower of its journal, and the moment when the
//! follower takes over. What it has then is what a fresh replay has, whatever was under way. The journal is whichever the test brings.

use std::hash::Hasher;
use std::sync::Arc;

use skerry_book::Command;
use skerry_branch::api::{Body, Reply};
use skerry_branch::keys::{Keys, SlotKeys};
use skerry_branch::{Branch, Condition, Now, Options, Parts};
use skerry_journal::{FaultStorage, JournalStore, Storage};
use skerry_ledger::Transfer;
use skerry_proof::checkpoint::Checkpoint;
use skerry_proof::{Ed25519Signer, Hash};

use crate::branch::*;

pub(crate) type Bank<J> = Stepped<FaultStorage, J>;

/// Derived files come early and often.
fn small() -> Options {
    let mut options = Options { snapshot_records: 40, freeze_pages: 1, ..options() };
    options.ids.memtable_ids = 60;
    options.history.span_rows = 50;
    options
}

pub(crate) fn keys(seed: u64) -> Arc<dyn Keys> {
    let folder = FaultStorage::new(seed).folder("keys").unwrap();
    Arc::new(SlotKeys::open(&folder, [5; 32], entropy(3)).unwrap())
}

/// The branch on the machine with this disk; the keys are everybody's.
pub(crate) fn on<J: JournalStore>(
    store: J,
    machine: &FaultStorage,
    keys: &Arc<dyn Keys>,
    now: Now,
) -> Bank<J> {
    let branch = Branch::new(Parts {
        store,
        storage: machine.clone(),
        options: small(),
        signer: Arc::new(Ed25519Signer::from_seed(&[4; 32])),
        keys: Arc::clone(keys),
        ticks: Box::new(|| 0),
    });
    Stepped { branch, storage: machine.clone(), now, openings: 0 }
}

/// Turns until nobody waits for anything; a journal with a thread of its own is waited for.
pub(crate) fn settle<J: JournalStore>(bank: &mut Bank<J>) {
    loop {
        bank.settle();
        if bank.branch.is_idle() || *bank.branch.condition() != Condition::Open {
            return;
        }
        std::thread::yield_now();
    }
}

fn command<J: JournalStore>(bank: &mut Bank<J>, command: Command) -> bool {
    let slot = bank.submit(operator(), Body::Command { command: Box::new(command), key: None });
    settle(bank);
    matches!(slot.take(), Some(Reply::Command(Ok(_))))
}

pub(crate) fn found_with<J: JournalStore>(bank: &mut Bank<J>, customers: u64, each: u64) {
    assert!(command(bank, found()));
    let policy = skerry_book::policy::Policy { retention_days: 0, ..bank.branch.book().unwrap().policy() };
    assert!(command(bank, Command::SetPolicy(policy)));
    for number in 1..=customers {
        let key = bank.branch_keys().create(1).unwrap()[0];
        assert!(command(bank, open_customer(number, key.0)));
        assert!(command(bank, open_account(u32::try_from(number).unwrap())));
        let slot = pay(bank, transfer(cash(), account(number), each, bank.now.wall_us));
        settle(bank);
        assert_eq!(accepted(&slot), Some(true));
    }
}

pub(crate) fn pay<J: JournalStore>(bank: &mut Bank<J>, one: Transfer) -> Slot {
    bank.submit(operator(), Body::Packed(pack(&[one])))
}

/// Whether it was: unknown and busy are neither.
pub(crate) fn accepted(slot: &Slot) -> Option<bool> {
    match slot.take() {
        Some(Reply::Packed(packed)) => Some(unpack(&packed.results)[0].code == 0),
        None | Some(Reply::Unknown | Reply::Busy(_)) => None,
        Some(other) => panic!("{other:?}"),
    }
}

/// What a branch says of all that it has: its head, its book, its evidence, and what its history knows of each account.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Word {
    position: u64,
    image: u64,
    evidence: (u64, Hash, Hash),
    totals: Vec<(u128, u128)>,
}

pub(crate) fn word<J: JournalStore>(bank: &mut Bank<J>, accounts: u64) -> Word {
    let mut digest = std::hash::DefaultHasher::new();
    digest.write(&bank.image());
    let image = digest.finish();
    let position = bank.branch.book().unwrap().position();
    bank.branch.mark(bank.now, false);
    settle(bank);
    let stated: Checkpoint = bank.branch.workshop().unwrap().latest().unwrap().checkpoint.clone();
    assert_eq!(bank.branch.book().unwrap().position(), position, "nothing happened meanwhile");
    assert_eq!(stated.position, position);
    let history = bank.branch.history().unwrap();
    let totals = (1..=accounts).map(|serial| {
        let dates = skerry_branch::history::AsOf::default();
        let totals = history.totals(account(serial), dates, position).unwrap();
        let posted = bank.branch.book().unwrap().account(account(serial)).unwrap();
        assert_eq!((totals.debits, totals.credits), (posted.debits_posted, posted.credits_posted));
        (totals.debits, totals.credits)
    });
    let totals = totals.collect();
    Word { position, image, evidence: (stated.batches, stated.head, stated.history_root), totals }
}

/// What a run went through.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Follower that had read all there was, and some that had not.
    pub(crate) level: u32,
    pub(crate) behind: u32,
    /// The old owner had batches on their way.
    pub(crate) in_flight: u32,
    /// It was refused.
    pub(crate) fenced: u32,
}

const ACCOUNTS: u64 = 3;

/// Five owners after each other, each but the first promoted from a follower at a random moment. `lives_on`: the journal can be taken
/// from an owner that is alive.
pub(crate) fn live<J: JournalStore + Clone>(seed: u64, store: &J, lives_on: bool, seen: &mut Seen) {
    let mut random = Random(seed);
    let keys = keys(seed);
    let machines: Vec<_> = (0..3).map(|number| FaultStorage::new(seed * 100 + number)).collect();
    let begin = Now { wall_us: NOON_US, monotonic_us: 1_000_000 };
    let mut owner = on(store.clone(), &machines[0], &keys, begin);
    owner.open().unwrap();
    found_with(&mut owner, ACCOUNTS, 1_000_000);
    let (mut customers, mut done) = (ACCOUNTS, Vec::new());
    for life in 1..=4 {
        let machine = &machines[life % machines.len()];
        let mut follower = on(store.clone(), machine, &keys, owner.now);
        let mut sent: Vec<(Transfer, Slot)> = Vec::new();
        for _ in 0..20 + random.next(120) {
            match random.next(14) {
                0..=4 => {
                    let (from, to) = (1 + random.next(ACCOUNTS), 1 + random.next(ACCOUNTS));
                    let one = transfer(account(from), account(to), 1 + random.next(9), owner.now.wall_us);
                    sent.push((one, pay(&mut owner, one)));
                }
                5 if random.next(4) == 0 => {
                    customers += 1;
                    let key = keys.create(1).unwrap()[0];
                    let serial = u32::try_from(customers).unwrap();
                    assert!(command(&mut owner, open_customer(customers, key.0)));
                    assert!(command(&mut owner, open_account(serial)));
                    if random.next(2) == 0 {
                        assert!(command(&mut owner, Command::CloseAccount(account(customers))));
                        assert!(command(&mut owner, Command::EraseCustomer(serial)));
                    }
                }
                6 | 7 => drop(owner.branch.turn(owner.now)),
                8 => drop(owner.branch.step_journal()),
                9 => drop(owner.work_off(2)),
                10 => owner.branch.mark(owner.now, random.next(4) == 0),
                11 => owner.pass_us(random.next(300_000)),
                _ => {
                    follower.branch.follow().unwrap();
                    follower.branch.keep_up().unwrap();
                    let followed = follower.branch.followed().unwrap();
                    assert!(
                        followed.position <= owner.branch.book().unwrap().position(),
                        "only what is there"
                    );
                }
            }
        }
        follower.now = owner.now;
        let before = follower.branch.followed();
        let mut old = Some(owner);
        if !lives_on {
            old = None;
        }
        seen.in_flight += u32::from(old.as_ref().is_some_and(|old| !old.branch.has_answered()));
        let promoted = follower.open().unwrap();
        let known = before.map_or(promoted.snapshot, |followed| followed.position);
        assert_eq!(
            promoted.replayed,
            promoted.head.position.0 - known,
            "what was followed is not read again"
        );
        if promoted.replayed == 0 {
            seen.level += 1
        } else {
            seen.behind += 1
        }
        if let Some(old) = &mut old {
            // Whatever it had on its way, and whatever it takes, is refused from here on.
            let late = pay(old, transfer(account(1), account(2), 1, old.now.wall_us));
            settle(old);
            assert_eq!(accepted(&late), None);
            assert!(matches!(old.branch.condition(), Condition::Sick(_)));
            seen.fenced += 1;
        }
        assert_eq!(follower.branch.reader_head(), promoted.head, "nothing came after the epoch was raised");
        for (one, slot) in sent {
            if accepted(&slot) == Some(true) {
                done.push(one);
            }
        }
        let position = promoted.head.position.0;
        for one in &done {
            // Found by its id, wherever the index has it.
            let again = pay(&mut follower, *one);
            settle(&mut follower);
            assert_eq!(accepted(&again), Some(true));
        }
        assert_eq!(
            follower.branch.book().unwrap().position(),
            position,
            "everything that was told is there once"
        );
        let theirs = word(&mut follower, ACCOUNTS);
        let now = follower.now;
        follower.branch.close(now);
        let mut fresh = on(store.clone(), &FaultStorage::new(seed * 100 + 50), &keys, now);
        fresh.open().unwrap();
        assert_eq!(word(&mut fresh, ACCOUNTS), theirs, "seed {seed}, life {life}");
        fresh.branch.close(now);
        owner = follower;
        owner.open().unwrap();
    }
}
