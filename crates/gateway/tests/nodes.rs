//! Nodes as operators steer them: drained and resumed, branches pinned to them; who may, what is refused, what the directory keeps.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends where it is")]

mod common;

use common::TestBank;
use serde_json::{Value, json};
use skerry_directory::{Ask, Follow, Holder, Map, Name, NodeRow, Told, Where};

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn told(bank: &TestBank, ask: Ask) -> Told {
    bank.directory.handle().ask_and_wait(ask).unwrap()
}

fn map(bank: &TestBank) -> Map {
    match told(bank, Ask::Map { since: 0 }) {
        Told::Map(map) => *map,
        other => panic!("{other:?}"),
    }
}

/// A bank whose directory has heard of these nodes; the first has the leases of both branches.
fn bank(nodes: &[&str]) -> TestBank {
    let bank = TestBank::new(2);
    for node in nodes {
        let (address, version) = (Where::new("seat").unwrap(), Where::new("1").unwrap());
        let row = NodeRow { name: name(node), address, capacity: 8, version, draining: false };
        assert_eq!(told(&bank, Ask::Beat { node: row, follows: Vec::new() }), Told::Done);
    }
    for branch in [1, 2] {
        let holder = Holder { node: name(nodes[0]), incarnation: 1 };
        let granted = told(&bank, Ask::Acquire { branch, holder, lease_us: 60_000_000 });
        assert!(matches!(granted, Told::Granted { .. }), "{granted:?}");
    }
    bank
}

async fn metrics(bank: &TestBank) -> String {
    String::from_utf8(bank.get("/metrics").await.bytes.to_vec()).unwrap()
}

async fn drain(bank: &TestBank, token: &str, node: &str, body: Value) -> common::Answer {
    bank.call_as(token, "PUT", &format!("/v1/nodes/{node}/draining"), &body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_drain_a_node_and_hear_what_stays() {
    let bank = bank(&["a"]);
    let operator = bank.operator.clone();
    let view = drain(&bank, &operator, "a", json!({"draining": true})).await.ok();
    assert_eq!(
        (&view["name"], &view["draining"], &view["drained_by"]),
        (&json!("a"), &json!(true), &json!("chief"))
    );
    assert_eq!(
        (&view["branches"], &view["stays"]),
        (&json!([1, 2]), &json!([1, 2])),
        "nobody else takes them"
    );
    let again = drain(&bank, &operator, "a", json!({"draining": true})).await.ok();
    assert_eq!(again["drained_at"], view["drained_at"], "said already: nothing has changed");
    assert_eq!(map(&bank).node(&name("a")).unwrap().drain.as_ref().unwrap().by.as_str(), "chief");
    let listed = bank.get("/v1/directory").await.ok();
    assert_eq!(
        (&listed["nodes"][0]["draining"], &listed["nodes"][0]["drained_by"]),
        (&json!(true), &json!("chief"))
    );
    let view = drain(&bank, &operator, "a", json!({"draining": false})).await.ok();
    assert_eq!(
        (&view["draining"], &view["drained_by"], &view["stays"]),
        (&json!(false), &Value::Null, &Value::Null)
    );
    assert_eq!(map(&bank).nodes[0].drain, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_and_what_is_not_there_is_refused() {
    let bank = bank(&["a"]);
    let operator = bank.operator.clone();
    let version = map(&bank).version;
    for role in ["auditor", "service"] {
        let token = bank.role(role, role);
        assert_eq!(drain(&bank, &token, "a", json!({"draining": true})).await.problem(), "forbidden");
    }
    let of_one_branch = bank.operator_of(1);
    assert_eq!(drain(&bank, &of_one_branch, "a", json!({"draining": true})).await.problem(), "out_of_scope");
    let seen = bank.call_as(&of_one_branch, "GET", "/v1/directory", &Value::Null).await.ok();
    assert_eq!(seen["nodes"][0]["branches"], json!([1]), "of the others it is told nothing");
    for unknown in ["b", "A", "-", "%20"] {
        for draining in [true, false] {
            let refused = drain(&bank, &operator, unknown, json!({"draining": draining})).await;
            let code = (refused.problem(), refused.status.as_u16(), refused.json()["field"].clone());
            assert_eq!(code, ("node_not_found".to_owned(), 404, json!("node")), "{unknown}");
        }
    }
    assert_eq!(drain(&bank, &operator, "a", json!({})).await.problem(), "missing_field");
    assert_eq!(drain(&bank, &operator, "a", json!({"draining": 1})).await.problem(), "invalid_field");
    let more = json!({"draining": true, "now": true});
    assert_eq!(drain(&bank, &operator, "a", more).await.problem(), "unknown_field");
    assert_eq!(map(&bank).version, version, "and nothing was changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn branches_are_kept_on_a_node_until_any_will_do() {
    let bank = bank(&["a", "b"]);
    let steer = async |branch: u16, wish: Value| {
        bank.call("PATCH", &format!("/v1/branches/{branch}"), &wish, &[]).await
    };
    let view = steer(1, json!({"node": "b", "mode": "dedicated"})).await.ok();
    assert_eq!(
        (&view["placement"], &view["mode"], &view["host"]),
        (&json!("b"), &json!("dedicated"), &json!("a"))
    );
    let view = steer(1, json!({"mode": "scattered"})).await.ok();
    assert_eq!(view["placement"], "b", "what is left out stays");
    let refused = steer(1, json!({"weight": 5, "node": "c"})).await;
    assert_eq!((refused.problem().as_str(), &refused.json()["field"]), ("node_not_found", &json!("node")));
    assert_eq!(steer(1, json!({"node": "no name"})).await.problem(), "node_not_found");
    assert_eq!(steer(3, json!({"node": "b"})).await.problem(), "branch_not_found");
    let row = &map(&bank).branches[0].row;
    assert_eq!((row.weight, row.placement.as_ref()), (100, Some(&name("b"))), "and nothing was changed");
    let view = steer(1, json!({"node": null})).await.ok();
    assert_eq!(view["placement"], Value::Null);
    assert_eq!(map(&bank).branches[0].row.placement, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_say_how_many_nodes_follow_a_branch_and_see_who_does() {
    let bank = bank(&["a", "b"]);
    let steer = async |wish: Value| bank.call("PATCH", "/v1/branches/1", &wish, &[]).await;
    assert!(metrics(&bank).await.contains("skerry_branch_followers_wanted{branch=\"1\"} 0"), "nobody said");
    let view = steer(json!({"followers": 2})).await.ok();
    assert_eq!((&view["followers"], &view["followed_by"]), (&json!(2), &Value::Null));
    assert_eq!(map(&bank).branches[0].row.followers, 2);
    assert_eq!(steer(json!({"followers": 4})).await.problem(), "invalid_field");
    assert_eq!(steer(json!({"followers": "two"})).await.problem(), "invalid_field");
    assert_eq!(map(&bank).branches[0].row.followers, 2, "and nothing was changed");
    let figures = metrics(&bank).await;
    assert!(figures.contains("skerry_branch_followers_wanted{branch=\"1\"} 2"), "{figures}");
    assert!(figures.contains("skerry_branch_followers_near{branch=\"1\"} 0"), "{figures}");
    assert!(figures.contains("skerry_branch_followers_wanted{branch=\"2\"} 0"), "{figures}");

    let row = map(&bank).node(&name("b")).unwrap().row.clone();
    let follows = vec![Follow { branch: 1, behind: Some(3) }, Follow { branch: 2, behind: None }];
    assert_eq!(told(&bank, Ask::Beat { node: row, follows }), Told::Done);
    let listed = bank.get("/v1/branches").await.ok();
    assert_eq!(
        (&listed["branches"][0]["followed_by"], &listed["branches"][1]["followed_by"]),
        (&json!([{"node": "b", "near": true, "behind": 3}]), &json!([{"node": "b", "near": false}]))
    );
    let directory = bank.get("/v1/directory").await.ok();
    assert_eq!(directory["branches"][0]["followed_by"], listed["branches"][0]["followed_by"]);
    assert_eq!(directory["nodes"][1]["follows"][0], json!({"branch": 1, "near": true, "behind": 3}));
    let figures = metrics(&bank).await;
    assert!(figures.contains("skerry_branch_followers_near{branch=\"1\"} 1"), "{figures}");
    assert_eq!(steer(json!({"followers": 0})).await.ok()["followers"], 0);
}
