//! Where customers live: one branch each, whoever comes at once, and again after the directory was rebuilt.

#![expect(clippy::unwrap_used, reason = "a helper that fails, fails its test")]

mod common;
#[path = "common/receiver.rs"]
mod receiver;

use std::collections::{BTreeMap, BTreeSet};

use axum::http::StatusCode;
use common::TestBank;
use receiver::until;
use serde_json::{Value, json};
use skerry_directory::{Ask, Map, Rebuild, Told};

fn wish(number: u32) -> Value {
    json!({"name": format!("Customer {number}"), "document": {"kind": "passport", "number": format!("P{number}")}})
}

async fn branch_of(bank: &TestBank, number: u32) -> (String, u64) {
    let body = bank.post("/v1/customers", wish(number)).await.ok();
    (body["id"].as_str().unwrap().to_owned(), body["branch"].as_u64().unwrap())
}

/// Whose the document is, as the bank says when somebody else comes with it.
async fn owner(bank: &TestBank, number: u32) -> String {
    let answer = bank.post("/v1/customers", wish(number)).await;
    assert_eq!(answer.problem(), "document_known");
    answer.json()["existing"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_come_at_once_with_one_document_are_one_customer() {
    let bank = std::sync::Arc::new(TestBank::new(4));
    for number in 0..6 {
        let same = (0..24).map(|_| {
            let bank = std::sync::Arc::clone(&bank);
            tokio::spawn(async move {
                let answer = bank.post("/v1/customers", wish(number)).await;
                let body = answer.json();
                match answer.status {
                    StatusCode::CREATED => (true, body["id"].as_str().unwrap().to_owned()),
                    _ => {
                        assert_eq!(answer.problem(), "document_known");
                        (false, body["existing"].as_str().unwrap().to_owned())
                    }
                }
            })
        });
        let mut ids = BTreeSet::new();
        let mut opened = 0;
        for task in same.collect::<Vec<_>>() {
            let (new, id) = task.await.unwrap();
            opened += u32::from(new);
            ids.insert(id);
        }
        assert_eq!((opened, ids.len()), (1, 1), "{ids:?}");
    }
}

#[tokio::test]
async fn a_document_that_was_given_up_is_anybody_s() {
    let bank = TestBank::new(3);
    let (first, branch) = branch_of(&bank, 1).await;
    let change = json!({"document": {"kind": "passport", "number": "P2"}});
    bank.call("PATCH", &format!("/v1/customers/{first}"), &change, &[]).await.ok();
    assert_eq!(owner(&bank, 2).await, first);
    let (second, elsewhere) = branch_of(&bank, 1).await;
    assert_ne!((&second, elsewhere), (&first, branch), "another customer, and another branch has more room");
    let back = json!({"document": {"kind": "passport", "number": "P1"}});
    let refused = bank.call("PATCH", &format!("/v1/customers/{first}"), &back, &[]).await;
    assert_eq!(refused.problem(), "document_known");
    assert_eq!(refused.json()["existing"], second.as_str());
    let policy = json!({"four_eyes": [], "retention_days": 0});
    for branch in 1..=3 {
        bank.call("PUT", &format!("/v1/branches/{branch}/policy"), &policy, &[]).await.ok();
    }
    let erased = bank.call("DELETE", &format!("/v1/customers/{second}"), &Value::Null, &[]).await;
    assert_eq!(erased.status, StatusCode::NO_CONTENT);
    let (third, _) = branch_of(&bank, 1).await;
    assert!(third != second && third != first);
}

#[tokio::test]
async fn a_directory_that_was_rebuilt_knows_everybody() {
    let bank = TestBank::new(3);
    let mut before = BTreeMap::new();
    for number in 0..30 {
        before.insert(number, branch_of(&bank, number).await.0);
    }
    // As if its files had been lost: it knows nobody, and so places nobody.
    bank.directory.handle().ask_and_wait(Ask::Rebuild(Rebuild::Begin)).unwrap();
    assert_eq!(bank.get("/v1/directory").await.ok()["rebuilding"], true);
    let refused = bank.post("/v1/customers", wish(7)).await;
    assert_eq!((refused.problem().as_str(), refused.status.as_u16()), ("directory_rebuilding", 503));
    let service = bank.role("clerk", "service");
    let not_theirs = bank.call_as(&service, "POST", "/v1/directory/rebuild", &Value::Null).await;
    assert_eq!(not_theirs.problem(), "forbidden");
    let rebuilt = bank.post("/v1/directory/rebuild", json!({})).await.ok();
    assert_eq!(rebuilt, json!({"customers": 30, "elsewhere": 0}));
    for (number, id) in &before {
        assert_eq!(owner(&bank, *number).await, *id);
    }
    let (_, branch) = branch_of(&bank, 99).await;
    assert!((1..=3).contains(&branch));
}

/// A branch that moves is nobody's for a moment. Only those behind a bus move.
#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_waits_for_the_only_branch_while_it_moves() {
    let bank = TestBank::new(1);
    let Some(holder) = bank.holder() else { return };
    let room = || match bank.directory.handle().ask_and_wait(Ask::Map { since: 0 }) {
        Ok(Told::Map(map)) => Map::clone(&map).branch(1).unwrap().room,
        other => panic!("{other:?}"),
    };
    branch_of(&bank, 1).await;
    assert!(room().is_some());
    holder.remove(1);
    until("the branch is away", || bank.gateway.bank.seats()[&1].room().is_none()).await;
    let back = async {
        // The newcomer has asked: nobody has room.
        until("nobody has room", || room().is_none()).await;
        holder.add(bank.hosted(1));
    };
    let (opened, ()) = tokio::join!(bank.post("/v1/customers", wish(2)), back);
    assert_eq!(opened.ok()["branch"], 1);
}

#[tokio::test]
async fn operators_say_where_newcomers_go() {
    let bank = TestBank::new(3);
    let steer = async |branch: u16, wish: Value| {
        bank.call("PATCH", &format!("/v1/branches/{branch}"), &wish, &[]).await
    };
    let one = steer(1, json!({"newcomers": false})).await.ok();
    assert_eq!((&one["branch"], &one["newcomers"], &one["weight"]), (&json!(1), &json!(false), &json!(100)));
    steer(2, json!({"gray": true, "mode": "dedicated"})).await.ok();
    for number in 0..5 {
        assert_eq!(branch_of(&bank, number).await.1, 3);
    }
    steer(3, json!({"weight": 0})).await.ok();
    assert_eq!(branch_of(&bank, 5).await.1, 2, "the gray one, for there is no other");
    steer(2, json!({"newcomers": false})).await.ok();
    assert_eq!(bank.post("/v1/customers", wish(6)).await.problem(), "no_open_branch");
    let mut named = wish(6);
    named["branch"] = json!(1);
    assert_eq!(bank.post("/v1/customers", named).await.ok()["branch"], 1, "an operator may still name it");
    let view = bank.get("/v1/directory").await.ok();
    assert_eq!(view["branches"][1]["mode"], "dedicated");
    assert_eq!(view["branches"][2]["weight"], 0);
    assert_eq!(steer(3, json!({"weight": 1001})).await.problem(), "invalid_field");
    assert_eq!(steer(9, json!({"weight": 1})).await.problem(), "branch_not_found");
    let auditor = bank.role("auditor-1", "auditor");
    let refused = bank.call_as(&auditor, "PATCH", "/v1/branches/1", &json!({"weight": 5})).await;
    assert_eq!(refused.problem(), "forbidden");
}
