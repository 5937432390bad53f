//! A branch on threads over real files: many clients at once, receipts, sickness that stays alone, reopening.

#![expect(clippy::unwrap_used, reason = "a helper that fails, fails its test")]

mod common;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use common::*;
use skerry_book::{Command, Done};
use skerry_branch::api::{Answer, Body, Read, Reply};
use skerry_branch::history::Query;
use skerry_branch::{BranchHandle, BranchThread, Condition, Options};
use skerry_journal::{Mode, RealStorage, Storage, StorageFile};
use skerry_ledger::Transfer;
use skerry_proof::{Ed25519Signer, Signer};

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("skerry-branch-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Self(path)
    }

    fn storage(&self) -> RealStorage {
        RealStorage::open(&self.0).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn spawn(folder: &Folder, options: Options) -> BranchThread {
    BranchThread::spawn(parts(&folder.storage(), Mode::Threaded, options), Box::new(|bytes| bytes.fill(3)))
        .unwrap()
}

fn ask(handle: &BranchHandle, body: Body) -> Reply {
    let (send, receive) = mpsc::channel();
    handle.submit(request(operator(), body, move |reply| send.send(reply).unwrap())).unwrap();
    receive.recv_timeout(Duration::from_secs(30)).unwrap()
}

fn command(handle: &BranchHandle, command: Command) -> Done {
    match ask(handle, Body::Command { command: Box::new(command), key: None }) {
        Reply::Command(Ok(commanded)) => commanded.done,
        other => panic!("{other:?}"),
    }
}

fn packed(handle: &BranchHandle, transfers: &[Transfer]) -> Vec<skerry_book::packed::Outcome> {
    match ask(handle, Body::Packed(pack(transfers))) {
        Reply::Packed(packed) => unpack(&packed.results),
        other => panic!("{other:?}"),
    }
}

fn balance(handle: &BranchHandle, serial: u64) -> i128 {
    match ask(handle, Body::Read(Read::Account(account(serial)))) {
        Reply::Answer(Answer::Account(view)) => view.account.balance(),
        other => panic!("{other:?}"),
    }
}

fn now_us() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(since.as_micros()).unwrap()
}

/// A founded branch with `accounts` accounts that hold 1,000 each.
fn bank(folder: &Folder, options: Options, accounts: u64) -> BranchThread {
    let thread = spawn(folder, options);
    let handle = thread.handle();
    assert_eq!(handle.condition(), Condition::Open);
    let today = skerry_money::Date::at(now_us(), 0);
    command(&handle, Command::OpenBranch(skerry_book::command::OpenBranch { terms: terms(), date: today }));
    for number in 1..=accounts {
        let key = handle.keys().create(1).unwrap()[0];
        assert_eq!(
            command(&handle, open_customer(number, key.0)),
            Done::Customer(u32::try_from(number).unwrap())
        );
        command(&handle, open_account(u32::try_from(number).unwrap()));
    }
    let deposits: Vec<_> =
        (1..=accounts).map(|serial| transfer(cash(), account(serial), 1_000, now_us())).collect();
    assert!(packed(&handle, &deposits).iter().all(|outcome| outcome.code == 0));
    thread
}

#[test]
fn many_clients_at_once_and_everything_after_closing_and_opening() {
    let folder = Folder::new("clients");
    let thread = bank(&folder, options(), 8);
    let clients: Vec<_> = (0..8_u64)
        .map(|client| {
            let handle = thread.handle();
            std::thread::spawn(move || {
                for step in 0..50 {
                    let to = (client + 1 + step % 7) % 8 + 1;
                    let outcome =
                        packed(&handle, &[transfer(account(client + 1), account(to), 1, now_us())])[0];
                    assert_eq!(outcome.code, 0);
                }
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
    let handle = thread.handle();
    let balances: Vec<i128> = (1..=8).map(|serial| balance(&handle, serial)).collect();
    assert_eq!(balances.iter().sum::<i128>(), 8_000);
    let position = handle.answered();
    assert_eq!(handle.position(), position, "all that is durable was answered");
    let history = handle.history().unwrap();
    history.wait_for(position, Duration::from_secs(10)).unwrap();
    let page = history.query(&Query { at_least: position, ..Query::of_account(account(1)) }).unwrap();
    assert!(page.entries.len() >= 51);
    thread.close();

    let thread = spawn(&folder, options());
    let handle = thread.handle();
    assert_eq!(handle.position(), position);
    assert_eq!((1..=8).map(|serial| balance(&handle, serial)).collect::<Vec<_>>(), balances);
    assert_eq!(handle.checkpoint().unwrap().checkpoint.position, position, "closing signs a last checkpoint");
}

#[test]
fn a_receipt_proves_a_record_offline_and_is_refused_before_a_checkpoint_covers_it() {
    let folder = Folder::new("receipt");
    let thread = bank(&folder, options(), 2);
    let handle = thread.handle();
    let outcomes = packed(
        &handle,
        &[transfer(account(1), account(2), 5, now_us()), transfer(account(2), account(1), 6, now_us())],
    );
    let position = outcomes[1].position;
    assert!(handle.receipt(position).is_err());
    assert!(matches!(ask(&handle, Body::Checkpoint), Reply::Marked));
    handle.mark(false);
    let until = std::time::Instant::now() + Duration::from_secs(20);
    let receipt = loop {
        match handle.receipt(position) {
            Ok(receipt) => break receipt,
            Err(error) => assert!(std::time::Instant::now() < until, "{error}"),
        }
        std::thread::yield_now();
    };
    let ring = [Ed25519Signer::from_seed(&[4; 32]).public_key()];
    let again = skerry_proof::Receipt::decode(&receipt.encode()).unwrap();
    again.verify(&ring[..]).unwrap();
    let mut forged = again;
    forged.record[40] ^= 1;
    assert!(forged.verify(&ring[..]).is_err());
    let recorded = handle.recorded(position, 1).unwrap();
    assert_eq!(recorded[0].position, position);
    assert_eq!(recorded[0].actor.principal.as_str(), "operator");
}

#[test]
fn a_corrupt_journal_makes_one_branch_sick_and_no_other() {
    let (sick_folder, well_folder) = (Folder::new("sick"), Folder::new("well"));
    let sick = bank(&sick_folder, options(), 2);
    let well = bank(&well_folder, options(), 2);
    for _ in 0..20 {
        packed(&sick.handle(), &[transfer(account(1), account(2), 1, now_us())]);
    }
    sick.close();
    let journal = sick_folder.storage().folder("journal").unwrap();
    let segment = journal.list().unwrap().into_iter().find(|name| name.starts_with("seg-")).unwrap();
    let file = journal.open(&segment, true).unwrap();
    let (mut byte, place) = ([0], 4096 * 3 + 300);
    file.read_at(place, &mut byte).unwrap();
    file.write_at(place, &[byte[0] ^ 8]).unwrap();
    let sick = spawn(&sick_folder, options());
    let Condition::Sick(reason) = sick.handle().condition() else {
        panic!("{:?}", sick.handle().condition())
    };
    assert!(reason.contains(&segment) && reason.contains("position"), "{reason}");
    let refused = sick.handle().submit(request(operator(), Body::Read(Read::Status), |_| {}));
    assert!(refused.is_err());
    assert_eq!(packed(&well.handle(), &[transfer(account(1), account(2), 1, now_us())])[0].code, 0);
    // The bit is put right, and the branch opens without a new process.
    file.write_at(place, &byte).unwrap();
    sick.handle().reopen().unwrap();
    assert_eq!(balance(&sick.handle(), 2), 1_020);
}

#[test]
fn a_panic_in_a_branch_is_told_and_healed_by_reopening() {
    let folder = Folder::new("panic");
    let thread = bank(&folder, options(), 2);
    let handle = thread.handle();
    handle.submit(request(operator(), Body::Read(Read::Status), |_| panic!("a reply that panics"))).unwrap();
    let until = std::time::Instant::now() + Duration::from_secs(20);
    while handle.condition() == Condition::Open {
        assert!(std::time::Instant::now() < until, "the panic is noticed");
        std::thread::yield_now();
    }
    assert!(matches!(handle.condition(), Condition::Sick(reason) if reason.contains("a reply that panics")));
    handle.reopen().unwrap();
    assert_eq!(packed(&handle, &[transfer(account(1), account(2), 1, now_us())])[0].code, 0);
}

#[test]
fn snapshots_are_taken_under_load_and_a_second_process_is_refused() {
    let folder = Folder::new("load");
    let thread = bank(&folder, Options { snapshot_records: 2_000, ..options() }, 4);
    let stop = Arc::new(AtomicBool::new(false));
    let loader = {
        let (handle, stop) = (thread.handle(), Arc::clone(&stop));
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let batch: Vec<_> = (0..500)
                    .map(|n| transfer(account(n % 4 + 1), account((n + 1) % 4 + 1), 1, now_us()))
                    .collect();
                assert_eq!(packed(&handle, &batch).len(), 500);
            }
        })
    };
    let until = std::time::Instant::now() + Duration::from_secs(30);
    while thread.handle().figures().metrics.snapshots < 2 {
        assert!(std::time::Instant::now() < until, "snapshots are taken while traffic flows");
        std::thread::sleep(Duration::from_millis(20));
    }
    let second = spawn(&folder, options());
    assert!(matches!(second.handle().condition(), Condition::Sick(reason) if reason.contains("in use")));
    stop.store(true, Ordering::Relaxed);
    loader.join().unwrap();
    let balances: Vec<i128> = (1..=4).map(|serial| balance(&thread.handle(), serial)).collect();
    thread.close();
    second.handle().reopen().unwrap();
    assert_eq!((1..=4).map(|serial| balance(&second.handle(), serial)).collect::<Vec<_>>(), balances);
}
