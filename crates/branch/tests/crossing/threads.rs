//! Branches of one process, each on its thread, pay each other without a bus.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use skerry_branch::api::{Answer, Body, PaymentState, Read, Reply};
use skerry_branch::channels::exchange::Exchange;
use skerry_branch::{BranchHandle, BranchThread, Options};
use skerry_journal::{Mode, RealStorage};
use skerry_ledger::{Transfer, TransferId};

use super::common::*;
use super::{EACH, of, options_of, till};

fn ask(handle: &BranchHandle, body: Body) -> Reply {
    let (send, receive) = mpsc::channel();
    handle.submit(request(operator(), body, move |reply| send.send(reply).unwrap())).unwrap();
    receive.recv_timeout(Duration::from_secs(30)).unwrap()
}

fn now_us() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(since.as_micros()).unwrap()
}

#[test]
fn branches_of_one_process_pay_each_other_on_their_threads() {
    let folder = std::env::temp_dir().join(format!("skerry-crossing-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    let exchange = Exchange::default();
    let threads: Vec<BranchThread> = [1_u16, 2]
        .map(|number| {
            let storage = RealStorage::open(folder.join(number.to_string())).unwrap();
            let options = Options { snapshot_records: 1 << 40, ..options_of(number) };
            let parts = parts(&storage, Mode::Threaded, options);
            let thread = BranchThread::spawn(parts, Box::new(|bytes| bytes.fill(3))).unwrap();
            let handle = thread.handle();
            for command in [found(), open_customer(1, handle.keys().create(1).unwrap()[0].0), open_account(1)] {
                let body = Body::Command { command: Box::new(command), key: None };
                assert!(matches!(ask(&handle, body), Reply::Command(Ok(_))));
            }
            let deposit = transfer(till(number), of(number, 1), EACH, now_us());
            assert!(matches!(ask(&handle, Body::Packed(pack(&[deposit]))), Reply::Packed(packed) if packed.accepted == 1));
            exchange.add(&handle);
            thread
        })
        .into();
    let handles: Vec<BranchHandle> = threads.iter().map(BranchThread::handle).collect();
    let mut last = TransferId::NONE;
    for (from, to) in [(0, 2), (1, 1)] {
        let payments: Vec<Transfer> =
            (0..2_000).map(|_| transfer(of(from + 1, 1), of(to, 1), 1, now_us())).collect();
        // Until both are connected and know each other the payee's branch is unknown; the same ids are sent again.
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let Reply::Packed(packed) = ask(&handles[usize::from(from)], Body::Packed(pack(&payments)))
            else {
                panic!("a packed answer")
            };
            if packed.accepted == 2_000 {
                break;
            }
            let early = [0, 1, 4001, 4011];
            assert!(unpack(&packed.results).iter().all(|outcome| early.contains(&outcome.code)));
            assert!(Instant::now() < deadline, "the branches never met");
            std::thread::yield_now();
        }
        last = payments[1_999].id;
    }
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let Reply::Answer(Answer::Payment(view)) = ask(&handles[1], Body::Read(Read::Payment(last))) else {
            panic!("a payment")
        };
        if view.state == PaymentState::Settled {
            break;
        }
        assert!(Instant::now() < deadline, "it never settled: {view:?}");
        std::thread::yield_now();
    }
    for handle in &handles {
        let Reply::Answer(Answer::Channels(channels)) = ask(handle, Body::Read(Read::Channels)) else {
            panic!("channels")
        };
        let totals = channels[0].1.totals[0].1;
        assert_eq!((totals.sent.count, totals.received.amount), (2_000, 2_000));
    }
    threads.into_iter().for_each(BranchThread::close);
    let _ = std::fs::remove_dir_all(&folder);
}
