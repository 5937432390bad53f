//! Hot followers: what a node has that dies goes to whoever follows it, and a branch that is moved goes from follower to follower while
//! its customers pay; nothing is lost and nothing comes twice.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends where it is")]

mod bank_of_nodes;
mod common;
mod ground;
#[path = "../../nats/tests/common/mod.rs"]
#[expect(dead_code, reason = "its rig is for the seam's contract")]
mod nats;
#[path = "../../postgres/tests/common/mod.rs"]
mod postgres;

use std::collections::BTreeMap;

use bank_of_nodes::{BRANCHES, Ground, Load, accounts, hosts, right_to_the_cent, until, until_open};
use common::block_on;
use hyper::Method;
use serde_json::{Value, json};
use skerry_client::Client;

/// The nodes that follow a branch and are near.
fn near(client: &Client, branch: u64) -> Vec<String> {
    let Ok(view) = block_on(client.get::<Value>("/v1/branches")) else { return Vec::new() };
    let found =
        view["branches"].as_array().unwrap().iter().find(|one| one["branch"] == branch).unwrap().clone();
    let followers = found["followed_by"].as_array().into_iter().flatten();
    let near = followers.filter(|follower| follower["near"] == true);
    near.map(|follower| follower["node"].as_str().unwrap().to_owned()).collect()
}

fn until_followed(client: &Client) {
    until("every branch has a near follower", || {
        (1..=u64::from(BRANCHES)).all(|branch| !near(client, branch).is_empty()).then_some(())
    });
}

#[test]
fn followers_take_over_what_a_node_had_that_dies_and_what_is_moved_under_load() {
    let ground = Ground::new("followers");
    ground.found(&["a", "b", "c", "g"]);
    let (a, b) = (ground.node("a"), ground.node("b"));
    let c = ground.node("c");
    let gateway = ground.gateway("g");
    let client = gateway.client();
    until_open(&client, &["a", "b", "c"]);
    let accounts = accounts(&client);
    until_followed(&client);

    // Each branch of `a` is open at once where it was followed.
    let load = Load::begin(&gateway, &accounts);
    load.until_more(5);
    until_followed(&client);
    let lost: Vec<u64> =
        hosts(&client).into_iter().filter(|(_, node)| node == "a").map(|(branch, _)| branch).collect();
    assert!(!lost.is_empty());
    let followers: BTreeMap<u64, Vec<String>> =
        lost.iter().map(|branch| (*branch, near(&client, *branch))).collect();
    a.kill();
    for (branch, followers) in &followers {
        let host = until("it is open elsewhere", || hosts(&client).remove(branch).filter(|host| host != "a"));
        assert!(
            followers.contains(&host),
            "branch {branch} went to {host}, but was followed by {followers:?}"
        );
    }
    load.until_more(5);
    until_open(&client, &["b", "c"]);
    until_followed(&client);

    // There and back, from follower to follower; a client that says the same again hears nothing worse.
    let (branch, from) = hosts(&client).into_iter().next().unwrap();
    let other = if from == "b" { "c" } else { "b" };
    for to in [other, from.as_str()] {
        let steered: Value = block_on(client.send_json(
            Method::PATCH,
            &format!("/v1/branches/{branch}"),
            &json!({"node": to}),
            &[],
        ))
        .unwrap()
        .json()
        .unwrap();
        assert_eq!(steered["placement"], to);
        until("it is there", || (hosts(&client).get(&branch).map(String::as_str) == Some(to)).then_some(()));
        load.until_more(5);
        until_followed(&client);
    }
    let (sums, heard) = load.end();
    println!("clients heard {heard:?}");
    right_to_the_cent(&client, &accounts, &sums);
    for node in [&b, &c] {
        assert!(node.log().contains("a follower took over"), "{}", node.log());
    }
    drop((b, c, gateway));
}
