//! Lives of a small bank from a seed: clients open customers through a directory that loses answers, goes silent, loses its
//! power, its bits and its files, while the branches' books are what is true.
//!
//! The id space is tiny on purpose: bugs live where two clients want the same document.

mod dice;

use std::collections::{BTreeMap, BTreeSet};

use dice::Dice;
use skerry_directory::{
    Alias, AliasKind, Ask, Choice, CustomerRef, Directory, Embedded, EmbeddedOptions, Fault, FaultyDirectory,
    Finding, Name, Now, Rebuild, Recovery, Refusal, Reserve, Room, Setting, StoreRow, Ticket, Told, Weather,
    Where,
};
use skerry_journal::{FaultStorage, Storage};

const BRANCHES: u16 = 3;
const DOCUMENTS: u64 = 9;
const PHONES: u64 = 4;

fn alias(kind: AliasKind, number: u64) -> Alias {
    Alias { line: 0, kind, key: *blake3::hash(&[kind.number(), number.to_le_bytes()[0]]).as_bytes() }
}

fn document(number: u64) -> Alias {
    alias(AliasKind::Document, number)
}

fn phone(number: u64) -> Alias {
    alias(AliasKind::Phone, number % PHONES)
}

/// What the branches' books say: the truth.
#[derive(Default)]
struct Books {
    serials: BTreeMap<u16, u32>,
    customers: BTreeMap<Alias, (CustomerRef, Option<Alias>)>,
}

impl Books {
    fn in_branch(&self, branch: u16, document: &Alias) -> Option<(CustomerRef, Option<Alias>)> {
        self.customers.get(document).copied().filter(|(customer, _)| customer.branch == branch)
    }

    /// The branch decides: a second one with the same document is refused, in this branch alone.
    fn open(&mut self, branch: u16, document: Alias, phone: Option<Alias>) -> CustomerRef {
        if let Some((customer, _)) = self.in_branch(branch, &document) {
            return customer;
        }
        let serial = self.serials.entry(branch).or_insert(0);
        *serial += 1;
        let customer = CustomerRef { branch, serial: *serial };
        let elsewhere = self.customers.insert(document, (customer, phone));
        assert!(elsewhere.is_none(), "{document:?} is in two branches: {elsewhere:?} and {customer:?}");
        let same = |(_, other): &&(CustomerRef, Option<Alias>)| phone.is_some() && *other == phone;
        assert!(self.customers.values().filter(same).count() <= 1, "{phone:?} is two customers'");
        customer
    }

    fn aliases(&self) -> Vec<(Alias, CustomerRef)> {
        let all = self.customers.iter().flat_map(|(document, (customer, phone))| {
            std::iter::once((*document, *customer)).chain(phone.map(|phone| (phone, *customer)))
        });
        all.collect()
    }
}

#[derive(Debug, Clone)]
enum Doing {
    Idle,
    Asking(Ask, Ticket, u64),
    /// The request to the branch is on its way; it acts at the first moment, unless that is behind the second.
    Journaling {
        branch: u16,
        acts: u64,
        deadline: u64,
    },
}

struct Client {
    document: u64,
    with_phone: bool,
    doing: Doing,
}

impl Client {
    fn phone(&self) -> Option<Alias> {
        self.with_phone.then(|| phone(self.document))
    }

    fn aliases(&self) -> Vec<Alias> {
        std::iter::once(document(self.document)).chain(self.phone()).collect()
    }
}

/// What was reached: a run that never loses an answer proves little.
type Reached = BTreeSet<&'static str>;

struct World {
    dice: Dice,
    disk: FaultStorage,
    directory: Option<FaultyDirectory<Embedded<FaultStorage>>>,
    us: u64,
    books: Books,
    clients: Vec<Client>,
    weather: Weather,
    reached: Reached,
    /// A rebuild is under way, and the branches may be read from then on.
    scan_at: Option<u64>,
}

const OPTIONS: EmbeddedOptions = EmbeddedOptions {
    alone: false,
    asks_max: 64,
    log_bytes_max: 16 << 10,
    lazy_us: 30_000,
    retry_us: 10_000,
};

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let weather = Weather {
            lost_ask_ppm: [0, 50_000][dice.below(2) as usize],
            lost_answer_ppm: [0, 100_000][dice.below(2) as usize],
            doubled_ppm: [0, 100_000][dice.below(2) as usize],
            delay_us_max: [0, 400_000][dice.below(2) as usize],
            patience_us: 200_000,
        };
        let clients = (0..6).map(|_| Client { document: 0, with_phone: false, doing: Doing::Idle }).collect();
        let disk = FaultStorage::new(seed);
        Self {
            dice,
            disk,
            directory: None,
            us: 1_000_000,
            books: Books::default(),
            clients,
            weather,
            reached: Reached::new(),
            scan_at: None,
        }
    }

    fn now(&self) -> Now {
        Now { wall_us: 1_767_585_600_000_000 + self.us, monotonic_us: self.us }
    }

    fn start(&mut self) {
        let Ok(embedded) = Embedded::open(&self.disk, OPTIONS) else {
            self.reached.insert("does not open at once");
            return;
        };
        match embedded.recovery() {
            Recovery::Fresh => self.reached.insert("fresh"),
            Recovery::Whole => self.reached.insert("opened whole"),
            Recovery::ThrownAway(_) => self.reached.insert("thrown away"),
        };
        let directory = FaultyDirectory::new(embedded, self.dice.below(1 << 40));
        directory.set_weather(self.weather);
        self.directory = Some(directory);
        // Nobody answers what the one before was asked.
        for client in &mut self.clients {
            if let Doing::Asking(_, ticket, _) = &mut client.doing {
                *ticket = Ticket(u64::MAX);
            }
        }
        // The operator's rows are set up again wherever they are missing.
        self.set_up();
    }

    fn set_up(&mut self) {
        let local = Name::new("local").expect("as set up");
        let place = Where::new("here").expect("as set up");
        let mut asks = vec![Ask::PutStore(StoreRow { name: local.clone(), kind: local.clone(), place })];
        asks.extend(
            (1..=BRANCHES).map(|n| Ask::AddBranch(skerry_directory::BranchRow::new(n, local.clone()))),
        );
        let room = Some(Room { customers: 0, capacity: 1_000 });
        asks.push(Ask::Report((1..=BRANCHES).map(|branch| (branch, room)).collect()));
        for ask in asks {
            let _unheard = self.directory.as_mut().map(|directory| directory.submit(ask));
        }
    }

    fn submit(&mut self, ask: Ask) -> Option<Ticket> {
        self.directory.as_mut()?.submit(ask).ok()
    }

    fn step(&mut self) {
        self.us += match self.dice.below(50) {
            0 => self.dice.below(150_000_000),
            1..5 => self.dice.below(5_000_000),
            _ => self.dice.below(50_000),
        };
        if self.directory.is_none() {
            self.start();
        }
        let at = self.dice.below(self.clients.len() as u64) as usize;
        self.act(at);
        if self.dice.chance(3) {
            self.hear();
        }
        if self.dice.chance(25) {
            self.trouble();
        }
        self.rebuild();
    }

    fn act(&mut self, at: usize) {
        match self.clients[at].doing.clone() {
            Doing::Idle => {
                self.clients[at].document = self.dice.below(DOCUMENTS);
                self.clients[at].with_phone = self.clients[at].document.is_multiple_of(2);
                self.reserve(at);
            }
            Doing::Asking(ask, _, since) if self.us > since + 2_000_000 => {
                // The directory went away with the ask: again, or never mind.
                self.reached.insert("asked again");
                self.clients[at].doing = Doing::Idle;
                if self.dice.chance(2) {
                    self.ask(at, ask);
                }
            }
            Doing::Journaling { branch, acts, deadline } if self.us >= acts => {
                self.clients[at].doing = Doing::Idle;
                if self.us <= deadline {
                    self.journal(at, branch);
                } else {
                    self.reached.insert("too late for the branch");
                }
            }
            Doing::Asking(..) | Doing::Journaling { .. } => {}
        }
    }

    fn reserve(&mut self, at: usize) {
        let choice = match self.dice.below(3) {
            0 => Choice::In(1 + self.dice.below(u64::from(BRANCHES)) as u16),
            1 => Choice::Among(vec![1, 3]),
            _ => Choice::Any,
        };
        let within_us = [500_000, 5_000_000, 60_000_000][self.dice.below(3) as usize];
        let aliases = self.clients[at].aliases();
        self.ask(at, Ask::Reserve(Reserve { aliases, choice, within_us }));
    }

    fn ask(&mut self, at: usize, ask: Ask) {
        if let Some(ticket) = self.submit(ask.clone()) {
            self.clients[at].doing = Doing::Asking(ask, ticket, self.us);
        }
    }

    fn journal(&mut self, at: usize, branch: u16) {
        let (aliases, phone) = (self.clients[at].aliases(), self.clients[at].phone());
        let known = self.books.in_branch(branch, &aliases[0]).is_some();
        let customer = self.books.open(branch, aliases[0], phone);
        self.reached.insert(if known { "the branch knew the document" } else { "opened" });
        if self.dice.chance(3) {
            self.reached.insert("died before confirming");
            return;
        }
        self.ask(at, Ask::Confirm { aliases, customer });
    }

    fn hear(&mut self) {
        let now = self.now();
        let Some(directory) = &mut self.directory else { return };
        let mut heard = Vec::new();
        while let Some(answered) = directory.poll(now) {
            heard.push(answered);
        }
        for answered in heard {
            let asked = self.clients.iter().position(
                |client| matches!(&client.doing, Doing::Asking(_, ticket, _) if *ticket == answered.ticket),
            );
            let Some(at) = asked else { continue };
            let Doing::Asking(ask, _, since) = std::mem::replace(&mut self.clients[at].doing, Doing::Idle)
            else {
                continue;
            };
            match answered.outcome {
                Ok(told) => self.told(at, &ask, since, told),
                Err(Fault::Unknown(_)) => {
                    self.reached.insert("unknown");
                    if !self.dice.chance(4) {
                        self.ask(at, ask);
                    }
                }
            }
        }
    }

    fn told(&mut self, at: usize, ask: &Ask, since: u64, told: Told) {
        match told {
            Told::Reserved { branch, joined } => {
                let Ask::Reserve(wish) = ask else { panic!("{ask:?}") };
                self.reached.insert(if joined { "joined" } else { "reserved" });
                // The deadline counts from before the ask was sent.
                let deadline = since + wish.within_us;
                let acts = self.us + self.dice.below(wish.within_us * 2);
                self.clients[at].doing = Doing::Journaling { branch, acts, deadline };
            }
            Told::Taken { alias, customer } => {
                let known = self.books.customers.values().any(|(known, _)| *known == customer);
                assert!(known, "{alias:?} leads to {customer:?}, whom no branch knows");
                self.reached.insert("taken");
            }
            Told::Held { .. } => drop(self.reached.insert("held")),
            Told::Unsettled { alias, branch, first, claim } => {
                self.reached.insert("unsettled");
                let settled = match self.books.in_branch(branch, &first) {
                    Some((customer, phone)) if alias == first || phone == Some(alias) => {
                        Ask::Confirm { aliases: vec![alias], customer }
                    }
                    _ => Ask::Release { alias, claim },
                };
                self.ask(at, settled);
            }
            Told::No(Refusal::Rebuilding) => {
                self.reached.insert("refused during a rebuild");
                self.begin_rebuild();
            }
            Told::No(Refusal::Claimed(_)) => drop(self.reached.insert("claimed in the meantime")),
            Told::No(Refusal::Elsewhere { alias, branch }) => panic!("{alias:?} leads to branch {branch}"),
            Told::No(Refusal::NoRoom | Refusal::NoBranch(_)) => drop(self.reached.insert("not set up yet")),
            Told::Done => {}
            other => panic!("{ask:?} was answered {other:?}"),
        }
    }

    /// Asks until it is answered; `None` if the directory is away.
    fn insist(&mut self, ask: &Ask) -> Option<Told> {
        for _ in 0..400 {
            let ticket = self.submit(ask.clone())?;
            for _ in 0..100 {
                self.us += 10_000;
                let now = self.now();
                match self.directory.as_mut()?.poll(now) {
                    Some(answered) if answered.ticket == ticket => match answered.outcome {
                        Ok(told) => return Some(told),
                        Err(_) => break,
                    },
                    _ => {}
                }
            }
        }
        None
    }

    fn begin_rebuild(&mut self) {
        if self.scan_at.is_none()
            && let Some(Told::Rebuilding { scan_after_us, .. }) = self.insist(&Ask::Rebuild(Rebuild::Begin))
        {
            self.reached.insert(if scan_after_us > 0 {
                "a rebuild waits for lost claims"
            } else {
                "a rebuild at once"
            });
            self.scan_at = Some(self.us + scan_after_us);
        }
    }

    fn rebuild(&mut self) {
        if self.scan_at.is_none_or(|at| at > self.us) {
            return;
        }
        self.scan_at = None;
        let begun = self.insist(&Ask::Rebuild(Rebuild::Begin));
        // It went away in between, and perhaps lost everything once more.
        let Some(Told::Rebuilding { scan_after_us: 0, number }) = begun else { return };
        match self.insist(&Ask::Rebuild(Rebuild::Record { number, list: self.books.aliases() })) {
            Some(Told::Recorded { elsewhere }) => assert_eq!(elsewhere, []),
            _ => return,
        }
        if self.insist(&Ask::Rebuild(Rebuild::End { number })) == Some(Told::Done) {
            self.reached.insert("rebuilt");
        }
    }

    fn trouble(&mut self) {
        match self.dice.below(9) {
            0 | 1 => {
                self.directory = None;
                self.disk.power_cut();
                self.reached.insert("power cut");
            }
            2 => {
                self.disk.lose_power_in(self.dice.below(30));
                self.us += 1;
                if self.dice.chance(2) {
                    self.hear();
                }
                self.directory = None;
                self.disk.power_cut();
            }
            3 => self.disk.fail_next_sync(self.dice.below(3)),
            4 => self.disk.short_next_write(self.dice.below(3)),
            5 if self.dice.chance(4) => {
                // A process that ends in good order.
                self.directory = None;
            }
            6 if self.dice.chance(4) => self.lose_files(),
            7 if self.dice.chance(4) => self.flip_a_bit(),
            8 => {
                let cut_off = self.dice.chance(2);
                self.directory.iter().for_each(|directory| directory.set_unreachable(cut_off));
                let setting = Setting::Newcomers(self.dice.chance(2));
                let branch = 1 + self.dice.below(u64::from(BRANCHES)) as u16;
                self.submit(Ask::Steer { branch, setting });
            }
            _ => {}
        }
    }

    fn lose_files(&mut self) {
        self.directory = None;
        self.disk.power_cut();
        for name in self.disk.list().expect("as set up") {
            self.disk.remove(&name).expect("as set up");
        }
        self.disk.sync_dir().expect("as set up");
        self.scan_at = None;
        self.reached.insert("lost its files");
    }

    fn flip_a_bit(&mut self) {
        self.directory = None;
        self.disk.power_cut();
        let names = self.disk.list().expect("as set up");
        if names.is_empty() {
            return;
        }
        let name = &names[self.dice.below(names.len() as u64) as usize];
        let offset = self.dice.below(12_288);
        if self.disk.flip_bit(name, offset, self.dice.below(8) as u8).is_ok() {
            self.reached.insert("a bit flipped");
        }
    }

    /// No more troubles: everything that was opened is found, and nothing else.
    fn rest(&mut self) {
        self.weather = Weather { patience_us: 200_000, ..Weather::default() };
        self.directory = None;
        self.disk.power_cut();
        self.start();
        self.scan_at = None;
        let Some(Told::Map(map)) = self.insist(&Ask::Map { since: 0 }) else { panic!("it answers") };
        if map.rebuilding {
            self.begin_rebuild();
            self.us = self.scan_at.expect("it rebuilds");
            self.rebuild();
        }
        for number in 0..DOCUMENTS {
            for alias in [document(number), phone(number)] {
                let Some(Told::Found(finding)) = self.insist(&Ask::Find(alias)) else { panic!("it answers") };
                let truth = self.books.aliases().into_iter().find(|(known, _)| *known == alias);
                match (finding, truth) {
                    (Finding::Customer(found), Some((_, customer))) => {
                        assert_eq!(found, customer, "{alias:?}")
                    }
                    (Finding::Reserved { branch }, Some((_, customer))) => {
                        assert_eq!(branch, customer.branch, "{alias:?}");
                    }
                    (Finding::Reserved { .. } | Finding::Nobody, None) => {}
                    (finding, truth) => panic!("{alias:?}: {finding:?}, but {truth:?}"),
                }
            }
        }
    }
}

#[test]
fn a_document_is_one_customer_s_whatever_happens() {
    let mut reached = Reached::new();
    for seed in 1..=300 {
        let mut world = World::new(seed);
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            (0..500).for_each(|_| world.step());
            world.rest();
        }));
        assert!(ran.is_ok(), "seed {seed}");
        reached.append(&mut world.reached);
    }
    for state in [
        "fresh",
        "opened whole",
        "thrown away",
        "asked again",
        "unknown",
        "too late for the branch",
        "the branch knew the document",
        "opened",
        "died before confirming",
        "reserved",
        "joined",
        "taken",
        "held",
        "unsettled",
        "claimed in the meantime",
        "refused during a rebuild",
        "a rebuild waits for lost claims",
        "a rebuild at once",
        "rebuilt",
        "power cut",
        "lost its files",
        "a bit flipped",
        "does not open at once",
    ] {
        assert!(reached.contains(state), "no life reached: {state}; reached {reached:?}");
    }
}
