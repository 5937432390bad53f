//! Stories from a bank, as text: `tests/scenarios/*.txt`. No Rust is needed to read, check or add one.
//!
//! A line is a command, a bar and what came of it. `UPDATE_SCENARIOS=1 cargo test --package skerry-ledger
//! --test scenarios` writes what came of it into the files, for a reviewer to read as a diff.

mod common;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use common::{BRANCH, Bank, currency, derived_id, id_at, sealed};
use skerry_ledger::{
    AccountCommand, AccountRef, Basis, Flags, Imported, Limit, Rejection, Sides, Transfer, TransferId,
    UNLIMITED,
};
use skerry_money::{Amount, Balance, Currency, Date};

#[test]
fn every_scenario_comes_out_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .expect("the folder of scenarios")
        .map(|entry| entry.expect("a folder's entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    paths.sort();
    assert!(paths.len() >= 12, "only {} scenarios were found", paths.len());
    let wrong: String = paths.iter().map(|path| differences(path)).collect();
    assert!(wrong.is_empty(), "scenarios came out otherwise:\n{wrong}");
}

/// The lines of a scenario that came out otherwise than written, in a form to read.
fn differences(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("a scenario is text");
    let lines: Vec<&str> = text.lines().collect();
    let results = Story::new().tell(&lines);
    let mut wrong = String::new();
    let mut updated = String::new();
    for (index, line) in lines.iter().enumerate() {
        let Some(result) = results.get(&index) else {
            updated += line;
            updated.push('\n');
            continue;
        };
        let (command, expected) = split(line);
        let actual = if result.is_empty() { command.to_owned() } else { format!("{command:<66}| {result}") };
        writeln!(updated, "{}", actual.trim_end()).expect("writing to a string");
        if expected != result {
            let name = path.file_name().unwrap_or_default().display();
            write!(wrong, "{name}:{}: {command}\n  written: {expected}\n  came out: {result}\n", index + 1)
                .expect("writing to a string");
        }
    }
    if env::var_os("UPDATE_SCENARIOS").is_some() && !wrong.is_empty() {
        fs::write(path, updated).expect("a scenario can be written");
    }
    wrong
}

fn split(line: &str) -> (&str, &str) {
    line.split_once('|')
        .map_or((line.trim_end(), ""), |(command, result)| (command.trim_end(), result.trim()))
}

/// A bank and the names a scenario gave to its accounts and transfers.
struct Story {
    bank: Bank,
    accounts: BTreeMap<String, AccountRef>,
    ids: BTreeMap<String, TransferId>,
    /// Linked transfers waiting for the last of their chain, with their lines.
    chain: Vec<(usize, Transfer)>,
}

impl Story {
    fn new() -> Self {
        let bank = Bank::new(Date::parse("2024-03-01").expect("a date"));
        Self { bank, accounts: BTreeMap::new(), ids: BTreeMap::new(), chain: Vec::new() }
    }

    /// Runs the lines; the results of those that are commands, by index.
    fn tell(&mut self, lines: &[&str]) -> BTreeMap<usize, String> {
        let mut results = BTreeMap::new();
        for (index, line) in lines.iter().enumerate() {
            let (command, _) = split(line);
            let words: Vec<&str> = command.split_whitespace().collect();
            if words.is_empty() || words[0].starts_with('#') {
                continue;
            }
            let transfer = self.transfer(&Words { line, words: &words });
            match transfer {
                Some(transfer) => self.submit(index, transfer, &mut results),
                None => drop(results.insert(index, self.other(&Words { line, words: &words }))),
            }
            self.bank.check();
        }
        assert!(self.chain.is_empty(), "a scenario ends within a linked chain");
        results
    }

    fn submit(&mut self, index: usize, transfer: Transfer, results: &mut BTreeMap<usize, String>) {
        let linked = transfer.flags.has(Flags::LINKED);
        if linked || !self.chain.is_empty() {
            self.chain.push((index, transfer));
            if !linked {
                self.submit_chain(results);
            }
            return;
        }
        let asked = transfer.amount;
        let result = match self.bank.submit(&transfer) {
            Ok(moved) if moved.amount == asked => "ok".to_owned(),
            Ok(moved) => format!("ok {}", Amount::new(moved.amount, moved.currency)),
            Err(rejection) => describe(rejection),
        };
        results.insert(index, result);
    }

    fn submit_chain(&mut self, results: &mut BTreeMap<usize, String>) {
        let chain = std::mem::take(&mut self.chain);
        let transfers: Vec<Transfer> = chain.iter().map(|(_, transfer)| *transfer).collect();
        let outcome = self.bank.submit_chain(&transfers);
        for (member, (index, _)) in chain.iter().enumerate() {
            let result = match outcome {
                Ok(_) => "ok".to_owned(),
                Err((_, Rejection::AlreadyApplied)) => describe(Rejection::AlreadyApplied),
                Err((refused, rejection)) if refused == member => describe(rejection),
                Err(_) => describe(Rejection::LinkedTransferFailed),
            };
            results.insert(*index, result);
        }
    }

    /// The transfer that a line asks for, if it asks for one.
    fn transfer(&mut self, words: &Words<'_>) -> Option<Transfer> {
        let mut transfer = Transfer { flags: words.flags(), ..Transfer::default() };
        transfer.id = match words.words[0] {
            "transfer" | "import" | "post" | "void" | "reverse" => self.id(words.at(1)),
            _ => return None,
        };
        match words.words[0] {
            "transfer" | "import" => {
                assert_eq!(words.at(3), "->", "a transfer names two accounts: {}", words.line);
                (transfer.debit, transfer.credit) = (self.account(words.at(2)), self.account(words.at(4)));
                transfer.amount = self.amount(words.at(5), transfer.debit);
            }
            verb => {
                transfer.related = self.id(words.at(2));
                transfer.flags = transfer.flags.with(match verb {
                    "post" => Flags::POST,
                    "void" => Flags::VOID,
                    _ => Flags::REVERSAL,
                });
                transfer.amount =
                    words.after("amount").map_or(0, |text| self.amount(text, AccountRef::default()));
            }
        }
        transfer.currency = words.after("in").map(currency);
        transfer.code = words.after("code").map_or(0, |code| code.parse().expect("a code"));
        transfer.timeout_seconds =
            words.after("timeout").map_or(0, |seconds| seconds.parse().expect("seconds"));
        transfer.value_date = words.after("value").map(|date| Date::parse(date).expect("a date"));
        transfer.imported = words.after("booked").map(|date| {
            let business_date = Date::parse(date).expect("a date");
            let days = u64::try_from(business_date.0).expect("a day after 1970");
            let hour: u64 = words.after("hour").map_or(12, |hour| hour.parse().expect("an hour"));
            Imported { time_us: (days * 24 + hour) * 3_600_000_000, business_date }
        });
        Some(sealed(transfer))
    }

    fn other(&mut self, words: &Words<'_>) -> String {
        match words.words[0] {
            "day" => self.day(words),
            "wait" => {
                self.bank.wait(words.at(1).parse().expect("seconds"));
                String::new()
            }
            "expire" => self.expire(),
            "balance" => self.balance(words.at(1)),
            "trial" => self.trial(words),
            _ => self.command(words),
        }
    }

    fn day(&mut self, words: &Words<'_>) -> String {
        let day = Date::parse(words.at(1)).expect("a date");
        let fresh = Bank::new(day).stamp;
        assert!(fresh.time_us >= self.bank.stamp.time_us, "time never runs backwards: {}", words.line);
        self.bank.stamp = fresh;
        String::new()
    }

    fn expire(&mut self) -> String {
        let ended = self.bank.expire();
        let name = |id| self.ids.iter().find(|(_, known)| **known == id).map_or("?", |(name, _)| name);
        let names: Vec<&str> = ended.iter().map(|moved| name(moved.related)).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(" ") }
    }

    fn balance(&self, name: &str) -> String {
        let account = self.bank.ledger.account(self.account(name)).expect("an account to look at");
        let show = |minor| Balance::new(minor, account.currency).to_string();
        let mut text = format!("posted {}", show(account.balance()));
        if let Some(available) = account.available() {
            write!(text, ", available {}", show(available)).expect("writing to a string");
        }
        for (side, pending) in [("out", account.debits_pending), ("in", account.credits_pending)] {
            if pending != 0 {
                write!(text, ", held {side} {}", show(pending.cast_signed())).expect("writing to a string");
            }
        }
        if account.is_closed() {
            text += if account.is_closing() { ", closing" } else { ", closed" };
        }
        text
    }

    fn trial(&self, words: &Words<'_>) -> String {
        let date = Date::parse(words.at(1)).expect("a date");
        let basis = match words.at(2) {
            "booked" => Basis::Booked,
            "value" => Basis::Value,
            other => panic!("{other} is neither booked nor value"),
        };
        let name =
            |head| self.accounts.iter().find(|(_, known)| **known == head).map_or("?", |(name, _)| name);
        let rows = self.bank.ledger.trial_balance(date, basis);
        let rows: Vec<String> = rows
            .iter()
            .map(|row| {
                let head = self.bank.ledger.account(row.head).expect("a head in a trial balance exists");
                format!("{} {}", name(row.head), Balance::new(row.closing(), head.currency))
            })
            .collect();
        if rows.is_empty() { "nothing".to_owned() } else { rows.join(", ") }
    }

    fn command(&mut self, words: &Words<'_>) -> String {
        let name = words.at(1);
        let (command, opens) = match words.words[0] {
            "head" => (self.open_head(words), true),
            "account" => (self.open_account(words), true),
            "limits" => {
                let account = self.account(name);
                let currency = self.currency_of(account);
                let (floor, daily_limit) = (words.floor(currency), words.daily(currency));
                (AccountCommand::ChangeLimits { account, floor, daily_limit }, false)
            }
            "freeze" => {
                let reason = words.after("reason").map_or(0, |reason| reason.parse().expect("a reason"));
                (AccountCommand::Freeze { account: self.account(name), sides: words.sides(), reason }, false)
            }
            "unfreeze" => {
                (AccountCommand::Unfreeze { account: self.account(name), sides: words.sides() }, false)
            }
            "close" => (AccountCommand::Close { account: self.account(name) }, false),
            "reopen" => (AccountCommand::Reopen { account: self.account(name) }, false),
            "live" => (AccountCommand::GoLive { date: Date::parse(name).expect("a date") }, false),
            other => panic!("{other} is no command: {}", words.line),
        };
        match self.bank.run(command) {
            Ok(skerry_ledger::AccountEvent::Opened(opened)) if opens => {
                self.accounts.insert(name.to_owned(), opened.account);
            }
            Ok(skerry_ledger::AccountEvent::HeadOpened(opened)) if opens => {
                self.accounts.insert(name.to_owned(), opened.head);
            }
            Ok(_) => (),
            Err(rejection) => return describe(rejection),
        }
        "ok".to_owned()
    }

    fn open_head(&self, words: &Words<'_>) -> AccountCommand {
        let code = words.at(2).parse().expect("a head's code");
        let head = AccountRef::head(BRANCH, code, currency(words.at(3)));
        AccountCommand::OpenHead {
            head,
            opened: self.bank.stamp.business_date,
            limit: words.limit(Limit::None),
        }
    }

    fn open_account(&self, words: &Words<'_>) -> AccountCommand {
        let currency = currency(words.at(2));
        AccountCommand::Open {
            owner: 1,
            product: 1,
            head: self.account(words.at(3)),
            currency,
            opened: words
                .after("opened")
                .map_or(self.bank.stamp.business_date, |date| Date::parse(date).expect("a date")),
            limit: words.limit(Limit::Debits),
            floor: words.floor(currency),
            daily_limit: words.daily(currency),
        }
    }

    fn account(&self, name: &str) -> AccountRef {
        match name {
            "-" => AccountRef::default(),
            "NOBODY" => AccountRef::customer(BRANCH, 9_999_999_999),
            _ => *self.accounts.get(name).unwrap_or_else(|| panic!("no account is named {name}")),
        }
    }

    fn currency_of(&self, account: AccountRef) -> Currency {
        self.bank.ledger.account(account).map_or_else(|| currency("CNY"), |account| account.currency)
    }

    fn amount(&self, text: &str, account: AccountRef) -> u64 {
        if text == "all" { 0 } else { minor(text, self.currency_of(account)) }
    }

    /// The id of a name: version 7 made when first named; version 8 for a name that begins with `bank-`.
    fn id(&mut self, name: &str) -> TransferId {
        let number = u64::try_from(self.ids.len()).expect("few ids") + 1;
        let fresh = if name.starts_with("bank-") {
            derived_id(number)
        } else {
            id_at(self.bank.stamp.time_us, number)
        };
        *self.ids.entry(name.to_owned()).or_insert(fresh)
    }
}

/// The words of one line.
struct Words<'a> {
    line: &'a str,
    words: &'a [&'a str],
}

impl Words<'_> {
    fn at(&self, index: usize) -> &str {
        self.words.get(index).unwrap_or_else(|| panic!("too short: {}", self.line))
    }

    fn after(&self, word: &str) -> Option<&str> {
        let at = self.words.iter().position(|known| *known == word)?;
        Some(self.at(at + 1))
    }

    fn has(&self, word: &str) -> bool {
        self.words.contains(&word)
    }

    fn flags(&self) -> Flags {
        let names = [
            ("linked", Flags::LINKED),
            ("pending", Flags::PENDING),
            ("balancing-debit", Flags::BALANCING_DEBIT),
            ("balancing-credit", Flags::BALANCING_CREDIT),
            ("closing-debit", Flags::CLOSING_DEBIT),
            ("closing-credit", Flags::CLOSING_CREDIT),
            ("import", Flags::IMPORTED),
            ("by-bank", Flags::BANK),
        ];
        let set = names.into_iter().filter(|(name, _)| self.has(name));
        set.fold(Flags::default(), |flags, (_, flag)| flags.with(flag))
    }

    fn sides(&self) -> Sides {
        Sides { debit: self.has("debits"), credit: self.has("credits") }
    }

    fn limit(&self, usual: Limit) -> Limit {
        if self.has("owes") {
            Limit::Credits
        } else if self.has("unlimited") {
            Limit::None
        } else {
            usual
        }
    }

    fn floor(&self, currency: Currency) -> i64 {
        let signed = |text: &str| i64::try_from(minor(text, currency)).expect("a limit of 63 bits");
        let overdraft = self.after("overdraft").map_or(0, |text| -signed(text));
        self.after("minimum").map_or(overdraft, signed)
    }

    fn daily(&self, currency: Currency) -> u64 {
        self.after("daily").map_or(UNLIMITED, |text| minor(text, currency))
    }
}

fn minor(text: &str, currency: Currency) -> u64 {
    Amount::parse(text, currency).unwrap_or_else(|error| panic!("{text} is no amount: {error}")).minor()
}

/// A refusal as a scenario shows it: number, text.
fn describe(rejection: Rejection) -> String {
    format!("{} {rejection}", rejection.code())
}
