//! A bank of several processes: what it is configured with (one server for journals and directory, one for messages), and what its
//! clients see and are told while its branches go from node to node.

#![allow(
    dead_code,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::unwrap_used,
    reason = "shared by tests that use parts of it, where whatever fails ends the test"
)]

pub(crate) mod process;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Mutex;

use serde_json::Value;
use skerry_client::{Client, Error};

use crate::common::{self, block_on, until};
use crate::nats::Servers;
use crate::postgres::Group;

/// What NATS is started with.
pub(crate) const NATS: &str = "max_payload: 8MB";

/// The text of such a bank's configuration.
pub(crate) fn configuration(group: &Group, servers: &Servers, branches: u16) -> String {
    format!(
        "[bank]\nbranches = {branches}\n[storage]\njournals = [\"main\"]\ndirectory = \"main\"\n[stores.main]\n\
         postgres = {:?}\ndurability = \"single\"\n[bus]\nuse = \"main\"\n[buses.main]\nnats = [\"nats://127.0.0.1:{}\"]\n",
        group.url("postgres"),
        servers.all[0].port
    )
}

/// An operator of the gateway whose folder this is; none before it is there.
pub(crate) fn client(data: &Path) -> Option<Client> {
    let server = common::announced(&data.join("running.json"))?;
    let token = std::fs::read_to_string(data.join("operator.token")).ok()?;
    Some(common::client(&server, &token))
}

/// By branch, the node that hosts it; none while one has no host or is not open.
pub(crate) fn hosts(client: &Client) -> Option<BTreeMap<u64, String>> {
    let view: Value = block_on(client.get("/v1/directory")).ok()?;
    let host = |branch: &Value| Some((branch["branch"].as_u64()?, branch["host"].as_str()?.to_owned()));
    let hosts: BTreeMap<u64, String> =
        view["branches"].as_array()?.iter().map(host).collect::<Option<_>>()?;
    let status: Value = block_on(client.get("/v1/branches")).ok()?;
    let open = status["branches"].as_array()?.iter().filter(|branch| branch["state"] == "open").count();
    (open == hosts.len()).then_some(hosts)
}

/// Waits until every branch is open and its hosts are as wanted.
pub(crate) fn until_hosted(
    client: &Client,
    what: &str,
    wanted: impl Fn(&BTreeMap<u64, String>) -> bool,
) -> BTreeMap<u64, String> {
    until(what, || hosts(client).filter(&wanted))
}

/// What a client that follows the rules for trying again may be told while a branch goes from node to node.
pub(crate) const AGAIN: [&str; 9] = [
    "busy",
    "branch_unavailable",
    "outcome_unknown",
    "deadline_passed",
    "history_unavailable",
    "no_open_branch",
    // A new bank: its gateway takes in that nobody is there yet, and its branches have not met.
    "directory_rebuilding",
    "peer_unknown",
    // Its gateway is being stopped.
    "shutting_down",
];

/// Asks until it is done, and collects what was said instead; that may be nothing worse than *again*.
pub(crate) fn insist<T>(heard: &Mutex<BTreeSet<String>>, mut ask: impl FnMut() -> Result<T, Error>) -> T {
    until("it is done", || match ask() {
        Ok(done) => Some(done),
        Err(Error::Problem(problem)) => {
            assert!(AGAIN.contains(&problem.code.as_str()), "{problem:?}");
            heard.lock().unwrap().insert(problem.code);
            None
        }
        Err(error) => panic!("{error:?}"),
    })
}

/// Waits until nothing is under way between the branches from 1 to this one.
pub(crate) fn until_at_rest(client: &Client, branches: u16) {
    until("nothing is under way between branches", || {
        let at_rest = (1..=branches).all(|branch| {
            let view = block_on(client.get::<Value>(&format!("/v1/branches/{branch}/channels")));
            view.is_ok_and(|view| view["channels"].as_array().unwrap().iter().all(|one| one["open"] == 0))
        });
        at_rest.then_some(())
    });
}

/// What is on an account, in cents.
pub(crate) fn cents(client: &Client, account: &str) -> i64 {
    block_on(common::balance(client, account)).replace('.', "").parse().unwrap()
}
