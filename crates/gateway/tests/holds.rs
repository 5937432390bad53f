//! Holds from outside: who may end them, and what is told of how they ended.
#![expect(clippy::unwrap_used, reason = "a test that fails may panic where it stands")]

mod common;

use common::{TestBank, id, transfer};
use serde_json::{Value, json};
use skerry_gateway::NewToken;

fn held(id: &str, debit: &str, credit: &str, amount: &str) -> Value {
    let mut body = transfer(id, debit, credit, amount);
    body["pending"] = json!(true);
    body
}

async fn looked_up(bank: &TestBank, debit: &str, id: &str) -> Value {
    bank.get(&format!("/v1/accounts/{debit}/transfers/{id}")).await.ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn customers_do_not_end_what_the_bank_holds() {
    let bank = TestBank::new(1);
    let (customer, ana) = bank.customer(1).await;
    bank.pay("gl:1001", &ana, "10.00").await.ok();
    let ben = bank.funded(1, "1.00").await;
    let own = bank.token(&NewToken {
        principal: "ana".into(),
        role: "customer".into(),
        customer: Some(customer),
        ..NewToken::default()
    });
    let by_bank = id();
    bank.post("/v1/transfers", held(&by_bank, &ana, &ben, "4.00")).await.ok();
    let path = |hold: &str, deed: &str| format!("/v1/accounts/{ana}/transfers/{hold}/{deed}");
    for deed in ["void", "post"] {
        let wish = json!({"id": id()});
        let refused = bank.call_as(&own, "POST", &path(&by_bank, deed), &wish).await;
        assert_eq!(refused.problem(), "out_of_scope", "{deed}");
        let mut plain = json!({"id": id(), "debit": ana});
        plain[deed] = json!(by_bank);
        let refused = bank.call_as(&own, "POST", "/v1/transfers", &plain).await;
        assert_eq!(refused.problem(), "out_of_scope", "{deed}");
        let refused = bank.call_as(&own, "POST", "/v1/transfers/batch", &json!({"transfers": [plain]})).await;
        assert_eq!(refused.json()["field"], "transfers[0]", "{deed}");
    }
    assert_eq!(looked_up(&bank, &ana, &by_bank).await["status"], "pending");
    let by_ana = id();
    bank.call_as(&own, "POST", "/v1/transfers", &held(&by_ana, &ana, &ben, "1.00")).await.ok();
    bank.call_as(&own, "POST", &path(&by_ana, "void"), &json!({"id": id()})).await.ok();
    assert_eq!(looked_up(&bank, &ana, &by_ana).await["status"], "voided");
    bank.post(&path(&by_bank, "post"), json!({"id": id()})).await.ok();
    assert_eq!(bank.balance(&ana).await, "6.00");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_up_and_a_search_tell_how_it_ended() {
    let bank = TestBank::new(1);
    let (ana, ben) = (bank.funded(1, "10.00").await, bank.funded(1, "1.00").await);
    let (hold, posting) = (id(), id());
    let mut wish = held(&hold, &ana, &ben, "4.00");
    wish["reference"] = json!("table 4");
    bank.post("/v1/transfers", wish).await.ok();
    assert!(looked_up(&bank, &ana, &hold).await["ended"].is_null());
    let part = json!({"id": posting, "amount": {"amount": "1.50", "currency": "CNY"}});
    bank.post(&format!("/v1/accounts/{ana}/transfers/{hold}/post"), part).await.ok();
    let found = looked_up(&bank, &ana, &hold).await;
    assert_eq!((&found["status"], &found["amount"]["amount"]), (&json!("posted"), &json!("4.00")));
    assert_eq!((&found["ended"]["status"], &found["ended"]["id"]), (&json!("posted"), &json!(posting)));
    assert_eq!(found["ended"]["amount"]["amount"], "1.50");
    let search = bank.get("/v1/transfers?branch=1&reference=table%204").await.ok();
    assert_eq!(
        (&search["transfers"][0]["status"], &search["transfers"][0]["ended"]),
        (&json!("posted"), &found["ended"])
    );
    let paid = bank.pay(&ana, &ben, "2.00").await.ok()["id"].as_str().unwrap().to_owned();
    let back = bank.post(&format!("/v1/accounts/{ana}/transfers/{paid}/reverse"), Value::Null).await.ok();
    let found = looked_up(&bank, &ana, &paid).await;
    assert_eq!((&found["status"], &found["ended"]["status"]), (&json!("posted"), &json!("reversed")));
    assert_eq!(found["ended"]["id"], back["id"]);
}
