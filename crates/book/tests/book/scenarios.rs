//! Stories of a branch as text: `tests/scenarios/*.txt`. A line is `what is asked => what is answered`.
//!
//! ```text
//! clock DATE MINUTE               by NAME ROLE               request NAME | -          key NAME | -
//! import-key NAME                 others COUNT: as many commands with keys of their own
//! branch CURRENCIES DATE          day DATE                   live DATE                 retention DAYS
//! four-eyes MATTERS | -           propose NAME MATTER        approve NAME              end NAME
//! customer NAME DOCUMENT [DATE]   change NAME DOCUMENT       erase NAME
//! account NAME CUSTOMER PRODUCT CURRENCY [DATE]              close | reopen NAME
//! limits NAME FLOOR               freeze | unfreeze NAME debit | credit | both
//! transfer ID DEBIT CREDIT AMOUNT [FLAGS…]                   import ID DEBIT CREDIT AMOUNT DATE
//! at BRANCH: what follows is asked of that branch, of the same institution
//! channels: between all branches   deliver: everything that is under way ends, and what became of it
//! balance NAME                    trial DATE booked | value HEAD CURRENCY              position
//! ```
//!
//! The answer is `ok`, `again` (a retry), `pending` figures, or a rejection's number and name.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use crate::world::{World, at, image, operator, person, restore, same};
use skerry_book::actor::{Actor, Cause, Role};
use skerry_book::channel::check_pair;
use skerry_book::command::{
    ChangeCustomer, ChangeLimits, Freeze, OpenAccount, OpenBranch, OpenCustomer, Propose, Unfreeze,
};
use skerry_book::event::Terms;
use skerry_book::policy::{Matter, Matters, Policy};
use skerry_book::{Command, Done, Payment, Rejection, derive_id};
use skerry_ledger::{AccountRef, Basis, Flags, Imported, Sides, Transfer, TransferId, UNLIMITED};
use skerry_money::{Currency, Date};

#[test]
fn scenarios_go_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    let mut failures = String::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        for (line, expected, found) in play(&text) {
            let name = file.file_name().unwrap().to_string_lossy().into_owned();
            writeln!(failures, "{name}:{line}: expected {expected:?}, found {found:?}").unwrap();
        }
    }
    assert!(failures.is_empty(), "\n{failures}");
}

/// Plays a story; returns the lines that went otherwise.
fn play(text: &str) -> Vec<(usize, String, String)> {
    let mut story =
        Story { world: World::new(), others: BTreeMap::new(), names: BTreeMap::new(), ids: BTreeMap::new() };
    let mut failures = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.split('#').next().unwrap().trim();
        if line.is_empty() {
            continue;
        }
        let (asked, expected) =
            line.split_once("=>").map_or((line, "ok"), |(asked, expected)| (asked, expected.trim()));
        let words: Vec<&str> = asked.split_whitespace().collect();
        let found = story.line(&words);
        story.check();
        if found != expected {
            failures.push((number, expected.to_owned(), found));
        }
    }
    for world in story.worlds() {
        let book = &world.book;
        assert!(same(book, &world.replay(crate::world::SEED)), "a replay differs");
        assert!(same(book, &restore(&image(book), crate::world::SEED).unwrap()), "a restored image differs");
    }
    failures
}

struct Story {
    world: World,
    /// Other branches of the institution, by number.
    others: BTreeMap<u16, World>,
    names: BTreeMap<String, Done>,
    ids: BTreeMap<String, TransferId>,
}

fn date(text: &str) -> Date {
    Date::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn digest(name: &str) -> [u8; 16] {
    let mut digest = [0; 16];
    for (to, from) in digest.iter_mut().zip(name.bytes()) {
        *to = from;
    }
    digest
}

fn sides(text: &str) -> Sides {
    Sides { debit: text != "credit", credit: text != "debit" }
}

fn flag(word: &str) -> Flags {
    match word {
        "pending" => Flags::PENDING,
        "post" => Flags::POST,
        "void" => Flags::VOID,
        "reversal" => Flags::REVERSAL,
        "bank" => Flags::BANK,
        "closing" => Flags::CLOSING_DEBIT,
        "balancing" => Flags::BALANCING_DEBIT,
        "balancing-credit" => Flags::BALANCING_CREDIT,
        "closing-credit" => Flags::CLOSING_CREDIT,
        "linked" => Flags::LINKED,
        other => panic!("unknown flag {other}"),
    }
}

impl Story {
    fn worlds(&self) -> impl Iterator<Item = &World> {
        std::iter::once(&self.world).chain(self.others.values())
    }

    fn check(&self) {
        for world in self.worlds() {
            world.check();
            for other in self.others.values().filter(|other| other.book.branch() != world.book.branch()) {
                assert_eq!(check_pair(&world.book, &other.book), Ok(()));
            }
        }
    }

    /// What follows is asked of `branch`.
    fn turn_to(&mut self, branch: u16) {
        if branch == self.world.book.branch() {
            return;
        }
        let mut next = self.others.remove(&branch).unwrap_or_else(|| World::numbered(branch));
        next.time_us = next.time_us.max(self.world.time_us);
        let left = std::mem::replace(&mut self.world, next);
        self.others.insert(left.book.branch(), left);
    }

    /// Does `act` with every ordered pair of branches, by its first.
    fn with_pairs(&mut self, mut act: impl FnMut(&mut World, &mut World)) {
        let home = self.world.book.branch();
        let all: Vec<u16> = self.worlds().map(|world| world.book.branch()).collect();
        for (from, to) in all.iter().flat_map(|from| all.iter().map(move |to| (*from, *to))) {
            if from != to {
                self.turn_to(from);
                let mut other = self.others.remove(&to).unwrap();
                act(&mut self.world, &mut other);
                self.others.insert(to, other);
            }
        }
        self.turn_to(home);
    }

    /// Delivers and answers everything; what became of it, as counts.
    fn deliver(&mut self) -> String {
        let (mut settled, mut returned) = (0, 0);
        self.with_pairs(|from, to| {
            let (home, peer) = (from.book.branch(), to.book.branch());
            let Some(channel) = from.book.channel(peer) else { return };
            let (first, done) = (channel.outgoing.done + 1, channel.outgoing.done);
            let payments: Vec<Payment> = channel.outgoing.open.iter().map(|open| open.payment).collect();
            to.arrive(home, first, &payments, done);
            let incoming = &to.book.channel(home).unwrap().incoming;
            let outcomes: Vec<u16> = incoming.outcomes.iter().copied().collect();
            let new = outcomes.iter().rev().take(payments.len());
            settled += new.clone().filter(|outcome| **outcome == 0).count();
            returned += new.filter(|outcome| **outcome != 0).count();
            from.learn(peer, incoming.forgotten + 1, &outcomes);
        });
        format!("{settled} accepted {returned} refused")
    }

    fn customer(&self, name: &str) -> u32 {
        match self.names.get(name) {
            Some(Done::Customer(serial)) => *serial,
            _ => 999,
        }
    }

    fn account(&self, name: &str) -> AccountRef {
        match self.names.get(name) {
            Some(Done::Account(account)) => *account,
            _ if name == "-" => AccountRef::default(),
            _ => self.head(name).unwrap_or(AccountRef::customer(self.world.book.branch(), 999)),
        }
    }

    /// `gl:1001` in CNY, `gl:1001:USD`, `gl:1001:USD:2` of branch 2, `other` for an account of another branch.
    fn head(&self, name: &str) -> Option<AccountRef> {
        if name == "other" {
            return Some(AccountRef::customer(2, 1));
        }
        if name == "nobody" {
            return Some(AccountRef::customer(2, 999));
        }
        let mut parts = name.strip_prefix("gl:")?.split(':');
        let code = parts.next()?.parse().ok()?;
        let currency = Currency::from_alpha(parts.next().unwrap_or("CNY"))?;
        let branch = parts.next().map_or(self.world.book.branch(), |branch| branch.parse().unwrap());
        Some(AccountRef::head(branch, code, currency))
    }

    /// An id of version 7, made when its name is first used.
    fn id(&mut self, name: &str) -> TransferId {
        if name == "-" {
            return TransferId::NONE;
        }
        let millis = u128::from(self.world.time_us / 1_000);
        let next = u128::try_from(self.ids.len()).unwrap();
        let new = TransferId((millis << 80) | (7 << 76) | (0b10 << 62) | next);
        *self.ids.entry(name.to_owned()).or_insert(new)
    }

    fn line(&mut self, words: &[&str]) -> String {
        match *words {
            ["clock", day, minute] => self.world.time_us = at(date(day), minute.parse().unwrap()),
            ["at", branch] => self.turn_to(branch.parse().unwrap()),
            ["channels"] => self.with_pairs(|from, to| drop(from.open_channel(to.book.branch(), 1))),
            ["deliver"] => return self.deliver(),
            ["by", name, role] => self.by(name, role),
            ["request", name] => self.world.actor.request = digest(name),
            ["key", "-"] => (self.world.key, self.world.actor.cause) = (None, Cause::Request),
            ["others", count] => {
                for number in 0..count.parse::<u32>().unwrap() {
                    let name = format!("other-{}-{number}", self.world.time_us);
                    self.line(&["key", &name]);
                    assert_eq!(self.line(&["retention", "3650"]), "ok");
                }
            }
            ["import-key", name] => {
                self.world.key = Some(self.world.book.import_key(name.as_bytes()));
                self.world.actor.cause = Cause::Import;
            }
            ["key", name] => {
                self.world.actor.cause = Cause::Request;
                self.world.key =
                    Some(self.world.book.idempotency_key(&self.world.actor.principal, name.as_bytes()));
            }
            ["balance", name] => {
                let account = self.world.book.account(self.account(name));
                return account.map_or("none".to_owned(), |account| account.balance().to_string());
            }
            ["trial", day, basis, head, currency] => return self.trial(day, basis, head, currency),
            ["expire"] => return self.world.expire().to_string(),
            ["transfer", ref rest @ ..] | ["import", ref rest @ ..] => {
                return self.transfer(words.first() == Some(&"import"), rest);
            }
            _ => return self.command(words),
        }
        "ok".to_owned()
    }

    fn by(&mut self, name: &str, role: &str) {
        let roles = [Role::Operator, Role::Service, Role::Auditor, Role::Customer, Role::Bank];
        let role = roles.into_iter().find(|one| one.name() == role).unwrap();
        let before = self.world.actor;
        let actor = if role == Role::Operator { operator(name) } else { person(name, role) };
        self.world.actor = Actor { request: before.request, cause: before.cause, ..actor };
    }

    fn trial(&self, day: &str, basis: &str, head: &str, currency: &str) -> String {
        let basis = if basis == "value" { Basis::Value } else { Basis::Booked };
        let lines = self.world.book.trial_balance(date(day), basis);
        let found =
            lines.iter().find(|line| line.code.to_string() == head && line.currency.alpha() == currency);
        found.map_or("none".to_owned(), |line| format!("{} {} {}", line.debits, line.credits, line.closing))
    }

    fn transfer(&mut self, imported: bool, words: &[&str]) -> String {
        let [id, debit, credit, amount, rest @ ..] = words else {
            panic!("a transfer has four words: {words:?}")
        };
        let mut transfer = Transfer {
            id: self.id(id),
            debit: self.account(debit),
            credit: self.account(credit),
            amount: amount.parse().unwrap(),
            ..Transfer::default()
        };
        for word in rest {
            match word.split_once('=') {
                Some(("related", name)) => transfer.related = self.id(name),
                Some(("value", day)) => transfer.value_date = Some(date(day)),
                Some(("timeout", seconds)) => transfer.timeout_seconds = seconds.parse().unwrap(),
                _ if imported => {
                    let day = date(word);
                    transfer.id = derive_id(self.world.book.seed(), id.as_bytes());
                    transfer.flags = Flags::IMPORTED;
                    transfer.imported = Some(Imported { time_us: at(day, 720), business_date: day });
                }
                _ => transfer.flags = transfer.flags.with(flag(word)),
            }
        }
        transfer.digest = skerry_book::packed::digest(&transfer, &[], &[0; 16], self.world.book.seed());
        match self.world.transfer(&transfer) {
            Ok(_) => "ok".to_owned(),
            Err(rejection) => named(rejection),
        }
    }

    fn command(&mut self, words: &[&str]) -> String {
        let command = self.read(words);
        match self.world.command(&command) {
            Ok(decision) => {
                if matches!(words, ["customer" | "account", ..]) {
                    self.names.insert(words[1].to_owned(), decision.done);
                }
                if decision.repeated { "again".to_owned() } else { "ok".to_owned() }
            }
            Err(rejection) => named(rejection),
        }
    }

    fn read(&self, words: &[&str]) -> Command {
        match *words {
            ["branch", currencies, day] => {
                let currencies =
                    currencies.split(',').map(|alpha| Currency::from_alpha(alpha).unwrap()).collect();
                let terms = Terms {
                    institution: [1; 16],
                    currencies,
                    offset_minutes: 0,
                    cutoff_minutes: 0,
                    capacity: 3,
                };
                Command::OpenBranch(OpenBranch { terms, date: date(day) })
            }
            ["day", day] => Command::OpenDay(date(day)),
            ["live", day] => Command::GoLive(date(day)),
            ["currency", alpha] => Command::OpenCurrency(Currency::from_alpha(alpha).unwrap()),
            ["retention", days] => Command::SetPolicy(Policy {
                retention_days: days.parse().unwrap(),
                ..self.world.book.policy()
            }),
            ["four-eyes", matters] => {
                let matters =
                    matters.split(',').filter_map(Matter::from_name).fold(Matters::NONE, Matters::with);
                Command::SetPolicy(Policy { four_eyes: matters, ..self.world.book.policy() })
            }
            ["propose", name, matter] => Command::Propose(Propose {
                request: digest(name),
                matter: Matter::from_name(matter).unwrap(),
            }),
            ["approve", name] => Command::Approve(digest(name)),
            ["end", name] => Command::EndProposal(digest(name)),
            _ => self.read_customer(words),
        }
    }

    fn read_customer(&self, words: &[&str]) -> Command {
        let document = |text: &str| {
            let mut bytes = [0; 32];
            bytes[..16].copy_from_slice(&digest(text));
            bytes
        };
        let sealed = || Box::from(b"sealed".as_slice());
        match *words {
            ["customer", _, text, ref opened @ ..] => Command::OpenCustomer(OpenCustomer {
                document: document(text),
                key_ref: 5,
                line: 0,
                opened: opened.first().map(|day| date(day)),
                sealed: sealed(),
            }),
            ["change", name, text] => Command::ChangeCustomer(ChangeCustomer {
                customer: self.customer(name),
                document: Some(document(text)),
                sealed: sealed(),
            }),
            ["erase", name] => Command::EraseCustomer(self.customer(name)),
            ["account", _, customer, product, alpha, ref opened @ ..] => Command::OpenAccount(OpenAccount {
                customer: self.customer(customer),
                product: self
                    .world
                    .book
                    .chart()
                    .product_by_key(product)
                    .map_or(999, |product| product.number),
                currency: Currency::from_alpha(alpha).unwrap(),
                opened: opened.first().map(|day| date(day)),
                floor: 0,
                daily_limit: UNLIMITED,
            }),
            _ => self.read_account(words),
        }
    }

    fn read_account(&self, words: &[&str]) -> Command {
        match *words {
            ["close", name] => Command::CloseAccount(self.account(name)),
            ["reopen", name] => Command::ReopenAccount(self.account(name)),
            ["limits", name, floor] => Command::ChangeLimits(ChangeLimits {
                account: self.account(name),
                floor: Some(floor.parse().unwrap()),
                daily_limit: None,
            }),
            ["freeze", name, side] => {
                Command::Freeze(Freeze { account: self.account(name), sides: sides(side), reason: 3 })
            }
            ["unfreeze", name, side] => {
                Command::Unfreeze(Unfreeze { account: self.account(name), sides: sides(side) })
            }
            _ => panic!("cannot read {words:?}"),
        }
    }
}

fn named(rejection: Rejection) -> String {
    format!("{} {}", rejection.code(), rejection.name())
}
