//! Buses between branches as the API shows them: who may look, who may choose, and what the directory says afterwards.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends where it is")]

mod common;

use common::TestBank;
use serde_json::{Value, json};
use skerry_directory::{Ask, Name, Told, Who};

fn chosen(bank: &TestBank) -> Option<(String, String)> {
    let Told::Map(map) = bank.directory.handle().ask_and_wait(Ask::Map { since: 0 }).unwrap() else {
        panic!("a map")
    };
    map.bus.map(|row| (row.name.to_string(), row.by.to_string()))
}

async fn choose(bank: &TestBank, token: &str, body: Value) -> common::Answer {
    bank.call_as(token, "PUT", "/v1/buses/chosen", &body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_choose_a_bus_and_the_directory_keeps_it() {
    let bank = TestBank::new(2);
    let view = bank.get("/v1/buses").await.ok();
    assert_eq!(
        (&view["chosen"], &view["configured"], &view["straight"]),
        (&json!("local"), &json!("local"), &json!(true))
    );
    assert_eq!((&view["by"], &view["buses"][0]["link"]), (&Value::Null, &json!("up")));
    let operator = bank.operator.clone();
    let auditor = bank.role("auditor", "auditor");
    let service = bank.role("service", "service");
    assert_eq!(bank.call_as(&auditor, "GET", "/v1/buses", &Value::Null).await.ok()["chosen"], "local");
    for token in [&auditor, &service] {
        assert_eq!(choose(&bank, token, json!({"bus": "local"})).await.problem(), "forbidden");
    }
    let of_one_branch = bank.operator_of(1);
    assert_eq!(choose(&bank, &of_one_branch, json!({"bus": "local"})).await.problem(), "out_of_scope");
    for unknown in ["main", "Main", "", "a b", &"x".repeat(50)] {
        let refused = choose(&bank, &operator, json!({"bus": unknown})).await;
        assert_eq!(
            (refused.problem().as_str(), refused.status.as_u16()),
            ("bus_not_found", 404),
            "{unknown:?}"
        );
        assert_eq!(refused.json()["field"], "bus");
    }
    assert_eq!(
        choose(&bank, &operator, json!({"bus": "local", "now": true})).await.problem(),
        "unknown_field"
    );
    assert_eq!(chosen(&bank), None, "nothing of this has chosen");

    let view = choose(&bank, &operator, json!({"bus": "local"})).await.ok();
    assert_eq!((&view["chosen"], &view["by"]), (&json!("local"), &json!("chief")));
    let again = choose(&bank, &operator, json!({"bus": "local"})).await.ok();
    assert_eq!(again["at"], view["at"], "chosen already: nothing has changed");
    assert_eq!(chosen(&bank), Some(("local".into(), "chief".into())));
    let status = bank.get("/v1/status").await.ok();
    assert_eq!((&status["buses"][0]["bus"], &status["healthy"]), (&json!("local"), &json!(true)));
    let metrics = bank.get("/metrics").await;
    let metrics = String::from_utf8(metrics.bytes).unwrap();
    for line in ["skerry_bus_chosen{bus=\"local\"} 1\n", "skerry_bus_link_up{bus=\"local\"} 1\n"] {
        assert!(metrics.contains(line), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_does_not_know_the_chosen_bus_takes_its_own() {
    let bank = TestBank::new(2);
    let ask = Ask::UseBus { bus: Name::new("elsewhere").unwrap(), by: Who::new("chief").unwrap() };
    assert_eq!(bank.directory.handle().ask_and_wait(ask), Ok(Told::Done));
    let view = bank.get("/v1/buses").await.ok();
    assert_eq!((&view["chosen"], &view["by"]), (&json!("local"), &json!("chief")));
    let (from, to) = (bank.funded(1, "5.00").await, bank.funded(2, "5.00").await);
    bank.pay(&from, &to, "1.00").await.ok();
}
