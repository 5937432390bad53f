//! Branches on their threads pay each other: straight, over a bus that fails, over one bus and then another; what the post drops.

#![expect(clippy::unwrap_used, reason = "a helper that fails, fails its test")]

#[path = "../../branch/tests/common/mod.rs"]
mod common;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use common::*;
use skerry_book::channel::{check_pair, position, transit};
use skerry_branch::api::{Answer, Body, GatewayKey, Read, Reply};
use skerry_branch::channels::message::{Header, Said};
use skerry_branch::{BranchHandle, BranchThread, Options};
use skerry_bus::{
    Bus, Connect, ConnectError, FaultRates, FaultyBus, Limits, LocalBus, LocalExchange, Message, Name,
    Weather,
};
use skerry_journal::{Mode, RealStorage};
use skerry_ledger::{AccountRef, Transfer, TransferId};
use skerry_post::{Figures, LOCAL, NoWay, Post, PostOptions, PostThread, Route, subject};

const EACH: u64 = 1_000_000;
const PATIENCE: Duration = Duration::from_secs(120);

fn key() -> GatewayKey {
    options().gateway
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn of(branch: u16) -> AccountRef {
    AccountRef::customer(branch, 1)
}

fn options_of(branch: u16) -> Options {
    Options { branch, snapshot_records: 1 << 40, checkpoint_us: 3_000_000, ..options() }
}

fn now_us() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(since.as_micros()).unwrap()
}

/// Looks until it is so.
fn until(what: &str, mut is: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(2)); // between two looks, not to win a race
    }
}

/// Branches on their threads, and every payment that was acknowledged.
struct Bank {
    folder: PathBuf,
    threads: Vec<BranchThread>,
    handles: Vec<BranchHandle>,
    sent: Vec<(usize, TransferId)>,
    amounts: Vec<i128>,
}

impl Bank {
    /// Branches 1 to `count`, each with one account and money on it.
    fn new(count: u16) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let nth = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("skerry-post-{}-{nth}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        let amounts = vec![i128::from(EACH); usize::from(count)];
        let mut bank = Self { folder, threads: Vec::new(), handles: Vec::new(), sent: Vec::new(), amounts };
        for number in 1..=count {
            let parts = parts(&bank.storage(number), Mode::Threaded, options_of(number));
            let thread = BranchThread::spawn_local(parts, Box::new(|bytes| bytes.fill(3))).unwrap();
            let handle = thread.handle();
            for command in [found(), open_customer(1, handle.keys().create(1).unwrap()[0].0), open_account(1)]
            {
                let body = Body::Command { command: Box::new(command), key: None };
                assert!(matches!(ask(&handle, body), Reply::Command(Ok(_))));
            }
            let till = AccountRef::head(number, 1001, cny());
            let deposit = transfer(till, of(number), EACH, now_us());
            let paid = ask(&handle, Body::Packed(pack(&[deposit])));
            assert!(matches!(paid, Reply::Packed(packed) if packed.accepted == 1));
            bank.handles.push(handle);
            bank.threads.push(thread);
        }
        bank
    }

    fn storage(&self, number: u16) -> RealStorage {
        RealStorage::open(self.folder.join(number.to_string())).unwrap()
    }

    fn host(&self, post: &Post, at: impl IntoIterator<Item = usize>) {
        let all: Vec<u16> = self.handles.iter().map(BranchHandle::number).collect();
        at.into_iter().for_each(|at| post.host(&self.handles[at]));
        post.know(&all);
    }

    /// `count` payments of 1 from one branch to another, each with an id of its own, sent again until all are acknowledged.
    fn pay(&mut self, from: usize, to: usize, count: usize) {
        let (payer, payee) = (self.handles[from].number(), self.handles[to].number());
        let payments: Vec<Transfer> =
            (0..count).map(|_| transfer(of(payer), of(payee), 1, now_us())).collect();
        until("all are acknowledged", || {
            let Reply::Packed(packed) = ask(&self.handles[from], Body::Packed(pack(&payments))) else {
                panic!("a packed answer")
            };
            // Until the two have met, and while the window is full, the same ids are sent again.
            let expected = [0, 1, 4001, 4011];
            let outcomes = unpack(&packed.results);
            assert!(outcomes.iter().all(|outcome| expected.contains(&outcome.code)), "{outcomes:?}");
            usize::try_from(packed.accepted).unwrap() == count
        });
        self.sent.extend(payments.iter().map(|payment| (from, payment.id)));
        self.amounts[from] -= count as i128;
        self.amounts[to] += count as i128;
    }

    fn open(&self) -> u64 {
        let channels = |handle| match ask(handle, Body::Read(Read::Channels)) {
            Reply::Answer(Answer::Channels(channels)) => channels,
            other => panic!("{other:?}"),
        };
        let all = self.handles.iter().flat_map(channels);
        all.map(|(_, channel)| channel.sent - channel.done).sum()
    }

    /// Waits until nothing is under way, closes, and reads all journals again: what holds at rest must hold in them.
    fn at_rest(self, posts: Vec<PostThread>) {
        until("nothing is under way", || self.open() == 0);
        drop(posts);
        self.threads.into_iter().for_each(BranchThread::close);
        let mut banks: Vec<Stepped<RealStorage>> = Vec::new();
        for handle in &self.handles {
            let storage = RealStorage::open(self.folder.join(handle.number().to_string())).unwrap();
            let mut bank = Stepped::with(&storage, options_of(handle.number()));
            bank.now.wall_us = now_us();
            bank.open().unwrap();
            banks.push(bank);
        }
        for (at, bank) in banks.iter().enumerate() {
            let book = bank.branch.book().unwrap();
            let balance = |head| book.account(head).map_or(0, |head| head.balance());
            assert_eq!(skerry_book::invariants::check(book), Ok(()));
            assert_eq!(balance(of(self.handles[at].number())), self.amounts[at], "each payment once");
            for other in banks.iter().skip(at + 1) {
                let (one, two) = (bank.branch.book().unwrap(), other.branch.book().unwrap());
                assert_eq!(check_pair(one, two), Ok(()));
            }
            for (peer, handle) in self.handles.iter().enumerate().filter(|(peer, _)| *peer != at) {
                let (own, theirs) = (self.handles[at].number(), handle.number());
                assert_eq!(balance(transit(own, theirs, cny())), 0, "transit at rest");
                let mirrored = banks[peer].branch.book().unwrap().account(position(theirs, own, cny()));
                let mirrored = mirrored.map_or(0, |head| head.balance());
                assert_eq!(balance(position(own, theirs, cny())), -mirrored);
            }
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn ask(handle: &BranchHandle, body: Body) -> Reply {
    let (send, receive) = mpsc::channel();
    handle.submit(request(operator(), body, move |reply| send.send(reply).unwrap())).unwrap();
    receive.recv_timeout(Duration::from_secs(30)).unwrap()
}

fn post(endpoint: &str, straight: bool, usual: &str, routes: Vec<Route>) -> PostThread {
    let options = PostOptions {
        endpoint: name(endpoint),
        straight,
        usual: usual.to_owned(),
        routes,
        ..PostOptions::local(key())
    };
    PostThread::start(options).unwrap()
}

fn figures(post: &PostThread, bus: &str) -> Figures {
    post.post().figures().into_iter().find(|figures| figures.name == bus).unwrap()
}

/// An exchange under a weather.
struct Stormy {
    exchange: LocalExchange,
    weather: Weather,
    seed: u64,
}

impl Connect for Stormy {
    type Bus = FaultyBus<LocalBus>;

    fn connect(&self, name: Name, limits: Limits) -> Result<Self::Bus, ConnectError> {
        Ok(FaultyBus::new(self.exchange.connect(name, limits)?, self.weather.clone(), self.seed))
    }
}

#[test]
fn branches_of_one_process_pay_each_other_straight() {
    let mut bank = Bank::new(2);
    let posts = PostThread::start(PostOptions::local(key())).unwrap();
    bank.host(&posts.post(), [0, 1]);
    bank.pay(0, 1, 2_000);
    bank.pay(1, 0, 2_000);
    until("nothing is under way", || bank.open() == 0);
    let local = figures(&posts, LOCAL);
    assert!(local.chosen && local.up && local.sent > 4 && local.heard == local.sent, "{local:?}");
    bank.at_rest(vec![posts]);
}

#[test]
fn processes_pay_each_other_over_a_bus_that_loses_doubles_delays_and_cuts() {
    for seed in 1..=3 {
        let (mut bank, weather, exchange) = (Bank::new(3), Weather::default(), LocalExchange::default());
        let process = |endpoint: &str, seed| {
            let stormy = Stormy { exchange: exchange.clone(), weather: weather.clone(), seed };
            post(endpoint, true, "only", vec![Route::over("only", stormy)])
        };
        // Branches 1 and 2 live in one process, 3 in another.
        let (one, other) = (process("one", seed), process("other", seed + 100));
        bank.host(&one.post(), [0, 1]);
        bank.host(&other.post(), [2]);
        bank.pay(0, 2, 10);
        weather.set(FaultRates { loss: 250, doubling: 250, delay: 400, delay_us: 30_000 });
        for round in 0..4 {
            if round == 2 {
                weather.cut(name("one"), name("other"));
                bank.pay(0, 2, 30);
                weather.heal();
                weather.isolate(name("other"));
                bank.pay(2, 1, 30);
                weather.heal();
            }
            // Each that pays through a cut has met the other before: who has not, has no channel to keep a payment in.
            for (from, to) in [(0, 2), (2, 0), (1, 2), (2, 1), (0, 1)] {
                bank.pay(from, to, 100);
            }
        }
        weather.set(FaultRates::default());
        until("nothing is under way", || bank.open() == 0);
        let (sent, heard) = (figures(&one, "only").sent, figures(&other, "only").heard);
        assert!(sent > 0 && heard > 0 && figures(&one, LOCAL).sent > 0, "{sent} {heard}");
        assert_eq!((figures(&one, "only").refused, figures(&other, LOCAL).sent), (0, 0));
        bank.at_rest(vec![one, other]);
    }
}

#[test]
fn the_bus_is_switched_under_payments() {
    let (mut bank, first, second) = (Bank::new(2), LocalExchange::default(), LocalExchange::default());
    let routes = |seed: u64| {
        let weather = Weather::default();
        // What is on its way when the bus is switched is late, and comes over the one that was left.
        weather.set(FaultRates { delay: 500, delay_us: 20_000, ..FaultRates::default() });
        let stormy = Stormy { exchange: first.clone(), weather, seed };
        vec![Route::over("first", stormy), Route::over("second", second.clone())]
    };
    // Each branch in a process of its own, and each told at another moment.
    let posts = [post("one", false, "first", routes(1)), post("other", false, "first", routes(2))];
    bank.host(&posts[0].post(), [0]);
    bank.host(&posts[1].post(), [1]);
    until("both buses are reached", || {
        posts.iter().all(|one| ["first", "second"].iter().all(|bus| one.post().is_up(bus).unwrap()))
    });
    for (round, bus) in ["second", "first", "second", "first"].into_iter().enumerate() {
        for (at, one) in posts.iter().enumerate() {
            bank.pay(at, 1 - at, 200);
            assert_eq!(one.post().choose(Some(bus)), Ok(true), "{round}");
            assert_eq!(one.post().choose(Some(bus)), Ok(false), "again it changes nothing");
            bank.pay(at, 1 - at, 200);
        }
    }
    until("nothing is under way", || bank.open() == 0);
    for (one, bus) in posts.iter().zip(["first", "second"]).chain(posts.iter().zip(["second", "first"])) {
        let figures = figures(one, bus);
        assert!(figures.sent > 0 && figures.heard > 0, "{figures:?}");
        assert_eq!(figures.chosen, bus == "first");
    }
    assert_eq!(posts[0].post().choose(None), Ok(false), "the first is the usual one");
    let unknown = posts[0].post().choose(Some("third")).unwrap_err();
    assert_eq!(unknown.to_string(), "there is no bus \"third\"; there are: local, first, second");
    bank.at_rest(posts.into());
}

#[test]
fn among_several_processes_nobody_takes_the_way_that_ends_at_one() {
    let route = || vec![Route::over("only", LocalExchange::default())];
    let options = |usual: &str| PostOptions {
        among: true,
        usual: usual.to_owned(),
        routes: route(),
        ..PostOptions::local(key())
    };
    assert!(PostThread::start(options(LOCAL)).is_err(), "not as the usual one either");
    let one = PostThread::start(options("only")).unwrap();
    let refused = one.post().choose(Some(LOCAL)).unwrap_err();
    assert_eq!(refused, NoWay::NotShared { known: "only".to_owned() });
    assert_eq!(one.post().is_up(LOCAL), Err(refused));
    assert!(figures(&one, "only").chosen && !figures(&one, LOCAL).chosen, "nothing has changed");
    let unknown = one.post().choose(Some("third")).unwrap_err();
    assert_eq!(unknown.to_string(), "there is no bus \"third\"; there are: only");
}

#[test]
fn branches_of_one_process_take_the_bus_where_straight_is_not_wanted() {
    let (mut bank, exchange) = (Bank::new(2), LocalExchange::default());
    let one = post("one", false, LOCAL, vec![Route::over("only", exchange)]);
    bank.host(&one.post(), [0, 1]);
    bank.pay(0, 1, 50);
    until("the bus is reached", || one.post().is_up("only").unwrap());
    let before = figures(&one, LOCAL).sent;
    assert!(before > 0 && figures(&one, "only").sent == 0);
    until("nothing is under way", || bank.open() == 0);
    one.post().choose(Some("only")).unwrap();
    bank.pay(1, 0, 50);
    until("nothing is under way", || bank.open() == 0);
    let only = figures(&one, "only");
    assert!(only.sent > 0 && only.heard > 0, "{only:?}");
    bank.at_rest(vec![one]);
}

#[test]
fn a_bus_that_is_away_at_first_is_tried_until_it_is_there() {
    let (mut bank, exchange) = (Bank::new(2), LocalExchange::default());
    let (open, gate) = mpsc::channel::<()>();
    let connect = move |endpoint| {
        if gate.try_recv().is_err() {
            return Err(ConnectError::Failed("not yet".into()));
        }
        let bus = exchange.connect(endpoint, Limits::default())?;
        Ok(Box::new(bus) as Box<dyn Bus>)
    };
    let one = post("one", false, "late", vec![Route { name: "late".into(), connect: Box::new(connect) }]);
    bank.host(&one.post(), [0, 1]);
    until("what cannot go is dropped and counted", || figures(&one, "late").dropped_away > 0);
    assert_eq!(one.post().is_up("late"), Ok(false));
    open.send(()).unwrap();
    bank.pay(0, 1, 20);
    assert_eq!(one.post().is_up("late"), Ok(true));
    bank.at_rest(vec![one]);
}

#[test]
fn what_no_branch_of_the_institution_has_said_ends_at_the_post() {
    let (mut bank, exchange) = (Bank::new(2), LocalExchange::default());
    let mut stranger = exchange.connect(name("stranger"), Limits::default()).unwrap();
    let one = post("one", false, "only", vec![Route::over("only", exchange)]);
    bank.host(&one.post(), [0, 1]);
    bank.pay(0, 1, 10);
    let header = Header { from: 2, to: 1, incarnation: 1, to_incarnation: 1 };
    let elsewhere = Header { to: 3, ..header };
    let mut cut = header.seal(&Said::Hello, &key()).to_vec();
    cut.pop();
    for payload in [
        b"garbage".to_vec(),
        Vec::new(),
        vec![0; 900_000],
        header.seal(&Said::Hello, &GatewayKey::new([99; 32])).to_vec(),
        elsewhere.seal(&Said::Hello, &key()).to_vec(),
        cut,
    ] {
        stranger.publish(&Message::new(subject(1), payload)).unwrap();
    }
    until("all six are counted", || figures(&one, "only").refused >= 6);
    bank.pay(1, 0, 10);
    assert_eq!(figures(&one, "only").refused, 6, "and nothing else was");
    bank.at_rest(vec![one]);
}
