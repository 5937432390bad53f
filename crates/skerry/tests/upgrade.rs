//! From one release to the next: docs/upgrading.md typed as it stands, with binaries of earlier releases that `scripts/old-release` builds
//! from the history. Nothing is lost, nothing comes twice, retries of before are known, and clients hear nothing worse than *again*.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends where it is")]

mod common;
mod ground;
#[path = "../../nats/tests/common/mod.rs"]
#[expect(dead_code, reason = "its rig is for the seam's contract")]
mod nats;
#[path = "../../postgres/tests/common/mod.rs"]
mod postgres;
mod releases;

use std::collections::BTreeMap;
use std::path::Path;

use common::{Folder, assert_balanced, balance, block_on, problem, transfer, until, uuid7};
use ground::process::Process;
use ground::{hosts, until_at_rest};
use nats::Servers;
use postgres::Group;
use releases::{Desk, Load, Release, Ways, blocks, project, sums};
use serde_json::{Value, json};
use skerry_client::{Client, Error};

/// The last release without payments between branches: one machine, journals of level 1.
const ONE_MACHINE: &str = "373984fcf17385d49595bd8f07f1083b5f02ac28";
/// The first one whose nodes, gateways and directory are said to run.
const NODES: &str = "df2d1daf148a689b5a87bfca8a84e5ebb385ed74";
/// Of the page's commands so many are about a bank in one process.
const IN_ONE_PROCESS: usize = 2;

fn customer(client: &Client, name: &str, branch: u64) -> String {
    let wish = json!({"name": name, "document": {"kind": "test", "number": name}, "branch": branch});
    let customer: Value = block_on(client.post("/v1/customers", &wish)).unwrap();
    customer["id"].as_str().unwrap().to_owned()
}

fn account(client: &Client, name: &str, branch: u64) -> String {
    let path = format!("/v1/customers/{}/accounts", customer(client, name, branch));
    let wish = json!({"product": "current", "currency": "CNY"});
    let account: Value = block_on(client.post(&path, &wish)).unwrap();
    account["number"].as_str().unwrap().to_owned()
}

fn cents(text: &str) -> i64 {
    text.replace('.', "").parse().unwrap()
}

/// What a bank in one process holds, and what its clients remember of it.
struct Book {
    /// By branch, two accounts.
    accounts: BTreeMap<u64, [String; 2]>,
    paid: Vec<Value>,
    hold: Value,
    /// What is refused, and how.
    refused: Vec<(Value, String)>,
    balances: BTreeMap<String, String>,
}

impl Book {
    fn fill(client: &Client) -> Self {
        let mut accounts = BTreeMap::new();
        let mut paid = Vec::new();
        for branch in 1..=2 {
            let own = [1, 2].map(|number| account(client, &format!("Customer {branch}-{number}"), branch));
            for account in &own {
                paid.push(transfer(&uuid7(), "gl:1001", account, "1000.00"));
            }
            for turn in 0..20 {
                let (from, to) = (&own[turn % 2], &own[(turn + 1) % 2]);
                paid.push(transfer(&uuid7(), from, to, &format!("{turn}.25")));
            }
            accounts.insert(branch, own);
        }
        for wish in &paid {
            let _done: Value = block_on(client.post("/v1/transfers", wish)).unwrap();
        }
        let [one, two] = &accounts[&1];
        let mut hold = transfer(&uuid7(), one, two, "10.00");
        hold["pending"] = true.into();
        let _held: Value = block_on(client.post("/v1/transfers", &hold)).unwrap();
        let too_much = transfer(&uuid7(), one, two, "1000000.00");
        assert_eq!(problem(ask(client, &too_much)).code, "insufficient_funds");
        // Its id is used up; and one that was taken stands for what it was taken for.
        let mut other = paid[2].clone();
        other["amount"]["amount"] = "7.77".into();
        let refused = [too_much, other].map(|wish| {
            let code = problem(ask(client, &wish)).code;
            (wish, code)
        });
        let refused = refused.into();
        let mut book = Self { accounts, paid, hold, refused, balances: BTreeMap::new() };
        book.balances = book.now(client);
        book
    }

    fn numbers(&self) -> impl Iterator<Item = &String> {
        self.accounts.values().flatten()
    }

    fn now(&self, client: &Client) -> BTreeMap<String, String> {
        self.numbers().map(|number| (number.clone(), block_on(balance(client, number)))).collect()
    }

    /// All is as it was, and whoever asks again is told what he was told.
    fn check(&self, client: &Client) {
        assert_eq!(self.now(client), self.balances);
        for wish in self.paid.iter().chain([&self.hold]) {
            let _told: Value = block_on(client.post("/v1/transfers", wish)).unwrap();
        }
        for (wish, code) in &self.refused {
            assert_eq!(problem(ask(client, wish)).code, *code);
        }
        assert_eq!(self.now(client), self.balances, "retries move nothing");
        block_on(assert_balanced(client));
    }
}

fn ask(client: &Client, wish: &Value) -> Result<Value, Error> {
    block_on(client.post("/v1/transfers", wish))
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A desk beside the folder `data`, whose bank listens on a port that is free now.
fn desk(folder: &Folder) -> Desk {
    let (here, port) = (|name| folder.0.join(name).display().to_string(), free_port());
    let told = vec![
        ("SKERRY_DATA", here("data")),
        ("SKERRY_LISTEN", format!("127.0.0.1:{port}")),
        ("SKERRY_SERVER", format!("http://127.0.0.1:{port}")),
        ("SKERRY_TOKEN_FILE", here("data/operator.token")),
    ];
    Desk { folder: folder.0.clone(), told }
}

fn operator(data: &Path) -> Client {
    ground::client(data).unwrap()
}

/// Ends a bank in the background with the test.
struct Down<'a>(&'a Desk, &'a Release);

impl Drop for Down<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.0.folder.join("data/bank.log")).unwrap_or_default();
            eprintln!("-- the bank's log:\n{log}");
        }
        if ground::client(&self.0.folder.join("data")).is_some() {
            self.0.tries(self.1, "skerry down");
        }
    }
}

#[test]
fn a_bank_of_one_machine_goes_on_and_between_its_branches_once_they_are_raised() {
    let Some(old) = Release::of(ONE_MACHINE, "") else { return };
    let (new, folder, page) = (Release::new(), Folder::new("upgrade"), blocks());
    let (desk, data) = (desk(&folder), folder.data());
    let mut bank = desk.starts(&old, "skerry up --branches 2", "data");
    let book = Book::fill(&operator(&data));
    let receipt = |release: &Release| {
        let (debit, id) = (book.paid[2]["debit"].as_str().unwrap(), book.paid[2]["id"].as_str().unwrap());
        desk.prints(release, &format!("skerry --json transfer receipt {debit} {id}"))
    };
    std::fs::write(folder.0.join("old.json"), receipt(&old)).unwrap();

    // The page, under the new release.
    let down = Down(&desk, &new);
    let said = desk.types(&new, &page[0]);
    assert!(said.contains("open"), "{said}");
    bank.ended();
    book.check(&operator(&data));
    desk.types(&new, "skerry verify old.json");
    std::fs::write(folder.0.join("new.json"), receipt(&new)).unwrap();
    desk.types(&old, "skerry verify new.json");

    // Payments to the other branch need its format; and the old release still could have it back.
    let across = |id: &str| transfer(id, &book.accounts[&1][0], &book.accounts[&2][0], "1.00");
    assert_eq!(problem(ask(&operator(&data), &across(&uuid7()))).code, "crosses_branches");
    desk.types(&new, "skerry down");
    let back = desk.starts(&old, "skerry up", "data");
    book.check(&operator(&data));
    back.stop();
    desk.types(&new, "skerry up --detach");
    book.check(&operator(&data));

    desk.types(&new, &page[1]);
    let said = desk.refused(&new, "skerry branch raise-format 1");
    assert!(said.contains("format_level"), "{said}");
    let paid = until("a payment goes to the other branch", || {
        // An id that was refused stays so.
        let wish = across(&uuid7());
        match ask(&operator(&data), &wish) {
            Ok(_) => Some(wish),
            Err(Error::Problem(problem)) if problem.code == "peer_unknown" => None,
            Err(error) => panic!("{error:?}"),
        }
    });
    let payee = &book.accounts[&2][0];
    let there = cents(&book.balances[payee]) + 100;
    until("it is there", || (cents(&block_on(balance(&operator(&data), payee))) == there).then_some(()));
    desk.types(&new, "skerry down");
    // The old release says why it cannot have it any more, and touches nothing.
    let back = desk.starts(&old, "skerry up", "data");
    let seen: Value = block_on(operator(&data).get("/v1/branches")).unwrap();
    for branch in seen["branches"].as_array().unwrap() {
        assert!(branch["state"] == "sick" && branch["reason"].is_string(), "{seen}");
    }
    back.stop();
    desk.types(&new, "skerry up --detach");
    let _told: Value = ask(&operator(&data), &paid).unwrap();
    assert_eq!(cents(&block_on(balance(&operator(&data), payee))), there);
    block_on(assert_balanced(&operator(&data)));
    drop(down);
    for branch in [1, 2] {
        desk.types(&new, &format!("skerry branch export {branch} --out export-{branch}"));
        desk.types(&new, &format!("skerry verify export-{branch}"));
    }
}

#[test]
fn a_bank_of_one_machine_that_was_killed_goes_on_with_the_next_release() {
    let Some(old) = Release::of(ONE_MACHINE, "") else { return };
    let (new, folder) = (Release::new(), Folder::new("upgrade-killed"));
    let (desk, data) = (desk(&folder), folder.data());
    let bank = desk.starts(&old, "skerry up --branches 1", "data");
    let client = operator(&data);
    let accounts: Vec<String> =
        (0..4).map(|number| account(&client, &format!("Customer {number}"), 1)).collect();
    for account in &accounts {
        ask(&client, &transfer(&uuid7(), "gl:1001", account, "1000.00")).unwrap();
    }
    let token = std::fs::read_to_string(data.join("operator.token")).unwrap();
    let ways = Ways::new(vec![bank.server()], token);
    let load = Load::begin(&ways, &accounts);
    load.until_more(50);
    // Whoever was not answered asks again, with the same id, until the new release answers.
    bank.kill();
    let bank = desk.starts(&new, "skerry up", "data");
    load.until_more(20);
    let paid = load.end();
    for wish in &paid {
        ways.pay(wish);
    }
    let sums = sums(&paid);
    for account in &accounts {
        let sum = sums.get(account).copied().unwrap_or(0);
        assert_eq!(cents(&block_on(balance(&operator(&data), account))), 100_000 + sum, "{account}");
    }
    block_on(assert_balanced(&operator(&data)));
    bank.stop();
    desk.types(&new, "skerry branch export 1 --out export");
    desk.types(&new, "skerry verify export");
}

const BRANCHES: u16 = 4;

fn until_at(ways: &Ways, what: &str, at: impl Fn(&BTreeMap<u64, String>) -> bool) {
    until(what, || hosts(&ways.client(0)).filter(|hosts| at(hosts)));
}

fn count(hosts: &BTreeMap<u64, String>, node: &str) -> usize {
    hosts.values().filter(|host| *host == node).count()
}

/// Only the gray branch is on `b`.
fn gray_only(hosts: &BTreeMap<u64, String>) -> bool {
    hosts[&1] == "b" && count(hosts, "a") == 3
}

/// Two accounts of each branch, with 1000.00 on each.
fn fund(ways: &Ways) -> Vec<String> {
    let mut accounts = Vec::new();
    for branch in 1..=BRANCHES {
        for number in 1..=2 {
            let name = format!("Customer {branch}-{number}");
            let wish = json!({"name": name, "document": {"kind": "test", "number": name}, "branch": branch});
            let customer: Value = ways.insist(|client| block_on(client.post("/v1/customers", &wish)));
            let path = format!("/v1/customers/{}/accounts", customer["id"].as_str().unwrap());
            let wish = json!({"product": "current", "currency": "CNY"});
            let account: Value = ways.insist(|client| block_on(client.post(&path, &wish)));
            let account = account["number"].as_str().unwrap().to_owned();
            ways.pay(&transfer(&uuid7(), "gl:1001", &account, "1000.00"));
            accounts.push(account);
        }
    }
    accounts
}

#[test]
fn a_bank_of_nodes_is_upgraded_under_load_gray_branches_first() {
    let Some(old) = Release::of(NODES, "otel,cluster") else { return };
    let (new, folder) = (Release::new(), Folder::new("upgrade-nodes"));
    let (group, servers) = (Group::single(), Servers::new(1, ground::NATS, None));
    let config = ground::configuration(&group, &servers, BRANCHES);
    std::fs::write(folder.0.join("skerry.toml"), config).unwrap();
    let mut desk = Desk { folder: folder.0.clone(), told: vec![("SKERRY_LISTEN", "127.0.0.1:0".to_owned())] };
    let mut page = blocks().into_iter().skip(IN_ONE_PROCESS);

    // The bank of the old release.
    desk.types(&old, "skerry identity new --config skerry.toml --data data-a");
    desk.types(&old, "skerry identity export --data data-a bank.identity");
    for name in ["b", "g", "h", "n"] {
        desk.types(&old, &format!("skerry identity import --data data-{name} bank.identity"));
    }
    let node = |name: &str| format!("skerry node --name {name} --config skerry.toml --data data-{name}");
    let gateway =
        |name: &str| format!("skerry gateway --name {name} --config skerry.toml --data data-{name}");
    let a = desk.starts(&old, &node("a"), "data-a");
    let b = desk.starts(&old, &node("b"), "data-b");
    let g = desk.starts(&old, &gateway("g"), "data-g");
    for name in ["h", "n"] {
        for file in ["tokens.json", "operator.token"] {
            let to = folder.0.join(format!("data-{name}")).join(file);
            std::fs::copy(folder.0.join("data-g").join(file), to).unwrap();
        }
    }
    let h = desk.starts(&old, &gateway("h"), "data-h");
    let token = std::fs::read_to_string(folder.0.join("data-g/operator.token")).unwrap();
    let ways = Ways::new(vec![g.server(), h.server()], token.clone());
    desk.told.push(("SKERRY_SERVER", g.server()));
    desk.told.push(("SKERRY_TOKEN_FILE", folder.0.join("data-g/operator.token").display().to_string()));
    until_at(&ways, "each has its share", |at| count(at, "a") == 2 && count(at, "b") == 2);
    let accounts = fund(&ways);
    let load = Load::begin(&ways, &accounts);
    load.until_more(5);

    // The first node, for the gray branch.
    desk.types(&new, &page.next().unwrap());
    desk.types(&new, &page.next().unwrap());
    until_at(&ways, "b is empty", |at| count(at, "a") == 4);
    b.stop();
    let line = page.next().unwrap();
    assert!(line.trim_end() == format!("{} --gray", node("b")), "{line}");
    let b = desk.starts(&new, &line, "data-b");
    load.until_more(5);
    desk.types(&new, &page.next().unwrap());
    until_at(&ways, "the gray branch runs the new release", gray_only);
    load.until_more(20);
    // A gateway of the new release understands old nodes, and an old one has understood the new one all the time.
    let extra = desk.starts(&new, &gateway("n"), "data-n");
    let among = Ways::new(vec![extra.server()], token);
    until_at(&among, "it finds all of them", gray_only);
    for account in &accounts {
        among.pay(&transfer(&uuid7(), "gl:1001", account, "1.00"));
    }
    extra.stop();
    assert!(gray_only(&hosts(&ways.client(0)).unwrap()), "nothing else has come to it");

    // Back, and there again.
    desk.types(&new, &page.next().unwrap());
    until_at(&ways, "the old release has it back", |at| count(at, "a") == 4);
    load.until_more(5);
    desk.types(&new, "skerry node resume b");
    until_at(&ways, "it goes there again", gray_only);
    load.until_more(5);

    // All others.
    b.stop();
    let b = desk.starts(&new, &node("b"), "data-b");
    desk.types(&new, &page.next().unwrap());
    until_at(&ways, "a is empty", |at| count(at, "b") == 4);
    a.stop();
    let line = page.next().unwrap();
    let a = desk.starts(&new, &line, "data-a");
    desk.types(&new, &page.next().unwrap());
    until_at(&ways, "each has its share again", |at| count(at, "a") == 2 && count(at, "b") == 2);
    load.until_more(5);
    assert_eq!(ways.broken(), 0, "so far every call was answered by a gateway");

    // The gateways: whoever meets none goes to the other.
    ways.change(&[&g]);
    h.stop();
    let h = desk.starts(&new, &gateway("h"), "data-h");
    ways.change(&[&h]);
    load.until_more(5);
    g.stop();
    let line = page.next().unwrap();
    let g = desk.starts(&new, &line, "data-g");
    ways.change(&[&g, &h]);
    desk.told.push(("SKERRY_SERVER", g.server()));
    desk.types(&new, &page.next().unwrap());
    assert_eq!(page.next(), None, "commands that nobody has typed");
    load.until_more(20);

    let paid = load.end();
    eprintln!("{} payments; clients were told besides: {:?}", paid.len(), ways.heard());
    until_at_rest(&ways.client(0), BRANCHES);
    let (sums, client) = (sums(&paid), ways.client(0));
    let right = |client: &Client| {
        for account in &accounts {
            let sum = sums.get(account).copied().unwrap_or(0);
            assert_eq!(cents(&block_on(balance(client, account))), 100_100 + sum, "{account}");
        }
        block_on(assert_balanced(client));
    };
    right(&client);
    // Every tenth once more: all are known.
    paid.iter().step_by(10).for_each(|wish| ways.pay(wish));
    right(&client);
    for process in [g, h, a, b] {
        Process::stop(process);
    }
    for branch in 1..=BRANCHES {
        let export = format!("export-{branch}");
        desk.types(
            &new,
            &format!("skerry branch export {branch} --config skerry.toml --data data-a --out {export}"),
        );
        desk.types(&new, &format!("skerry verify {export}"));
    }
}

#[test]
fn a_history_without_the_release_is_said() {
    let script = project().join("scripts/old-release");
    let said = std::process::Command::new(script).arg("0".repeat(40)).output().unwrap();
    assert_eq!(said.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&said.stderr).contains("does not have commit"));
}
