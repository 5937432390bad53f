//! Payments between branches through the gateway: at once, waited for, returned, in batches, and asked about.

#![expect(clippy::unwrap_used, reason = "a helper that fails, fails its test")]

mod common;

use axum::http::StatusCode;
use common::{Answer, TestBank, id, transfer};
use serde_json::{Value, json};

/// Sends until the branches have met: just after they were founded they do not know each other.
async fn send(bank: &TestBank, body: &Value, headers: &[(&str, &str)]) -> Answer {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        let answer = bank.call("POST", "/v1/transfers", body, headers).await;
        let early = [json!("peer_unknown"), json!("crosses_branches")];
        if answer.status.is_success() || !early.contains(&answer.json()["code"]) {
            return answer;
        }
        assert!(std::time::Instant::now() < deadline, "the branches never met");
        tokio::task::yield_now().await;
    }
}

/// Asks until the payment has ended.
async fn ended(bank: &TestBank, path: &str) -> Value {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        let payment = bank.get(path).await.ok();
        if payment["status"] != "sent" {
            return payment;
        }
        assert!(std::time::Instant::now() < deadline, "it never ended: {payment}");
        tokio::task::yield_now().await;
    }
}

const WAIT: (&str, &str) = ("prefer", "respond-async, wait=30");

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_to_another_branch_is_accepted_and_followed() {
    let bank = TestBank::new(2);
    let (ana, ben) = (bank.funded(1, "10.00").await, bank.funded(2, "1.00").await);
    let body = transfer(&id(), &ana, &ben, "2.50");
    let answer = send(&bank, &body, &[]).await;
    assert!([StatusCode::ACCEPTED, StatusCode::CREATED].contains(&answer.status));
    let location = answer.headers["location"].to_str().unwrap().to_owned();
    assert_eq!(location, format!("/v1/payments/{}", body["id"].as_str().unwrap()));
    let payment = ended(&bank, &location).await;
    assert_eq!(payment["status"], "settled");
    assert_eq!(
        (payment["from"].as_u64(), payment["to"].as_u64(), payment["number"].as_u64()),
        (Some(1), Some(2), Some(1))
    );
    assert_eq!((bank.balance(&ana).await, bank.balance(&ben).await), ("7.50".to_owned(), "3.50".to_owned()));
    let again = bank.post("/v1/transfers", body.clone()).await.ok();
    assert_eq!((&again["status"], &again["position"]), (&payment["status"], &payment["position"]));
    assert_eq!(bank.balance(&ana).await, "7.50");
    for (account, other, amount) in [(&ana, &ben, "7.50"), (&ben, &ana, "3.50")] {
        let entries = bank.get(&format!("/v1/accounts/{account}/entries")).await.ok();
        let all = entries["entries"].as_array().unwrap();
        let found = all.iter().find(|entry| entry["counterparty"] == other.as_str());
        let found = found.unwrap_or_else(|| panic!("the statement names the other side: {entries}"));
        assert_eq!(found["balance"]["amount"], amount);
    }
    let channels = bank.get("/v1/branches/1/channels").await.ok();
    let (channel, one) =
        (&channels["channels"][0], json!({"count": 1, "amount": {"amount": "2.50", "currency": "CNY"}}));
    assert_eq!((&channel["peer"], &channel["sent"], &channel["open"]), (&json!(2), &json!(1), &json!(0)));
    assert_eq!((&channel["totals"][0]["sent"], &channel["totals"][0]["settled"]), (&one, &one));
    assert!(channel.get("outgoing_stopped").is_none(), "it has not stopped: {channel}");
    assert_eq!(bank.get("/v1/branches/2/channels").await.ok()["channels"][0]["totals"][0]["received"], one);
    assert_eq!(bank.get("/v1/branches/9/channels").await.problem(), "branch_not_found");
    let trial = bank.get("/v1/trial-balance").await.ok();
    let rows = trial["rows"].as_array().unwrap();
    let position = rows.iter().find(|row| row["head"] == 11_060_002).unwrap();
    assert_eq!(position["name"], "Position with another branch 0002");
    assert_eq!(bank.get(&format!("/v1/payments/{}", id())).await.problem(), "not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_may_wait_for_the_end_and_learns_why_money_came_back() {
    let bank = TestBank::new(2);
    let (ana, ben) = (bank.funded(1, "10.00").await, bank.funded(2, "1.00").await);
    let settled = send(&bank, &transfer(&id(), &ana, &ben, "1.00"), &[WAIT]).await;
    assert_eq!((settled.status, &settled.json()["status"]), (StatusCode::CREATED, &json!("settled")));
    let freeze = json!({"sides": "credit", "reason": 3});
    bank.post(&format!("/v1/accounts/{ben}/freeze"), freeze).await.ok();
    let returned = send(&bank, &transfer(&id(), &ana, &ben, "1.00"), &[WAIT]).await.ok();
    assert_eq!(returned["status"], "returned");
    assert_eq!(
        (&returned["returned"]["code"], &returned["returned"]["to"]),
        (&json!("credit_frozen"), &json!(ana))
    );
    assert_eq!(bank.balance(&ana).await, "9.00");
    let refused = send(&bank, &transfer(&id(), &ana, &ben, "100.00"), &[WAIT]).await;
    assert_eq!(refused.problem(), "insufficient_funds");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_may_cross_and_a_reversal_goes_back() {
    let bank = TestBank::new(2);
    let (ana, ben) = (bank.funded(1, "10.00").await, bank.funded(2, "1.00").await);
    let first = transfer(&id(), &ana, &ben, "1.00");
    send(&bank, &first, &[WAIT]).await.ok();
    let batch = json!({"transfers": [
        transfer(&id(), &ana, &ben, "2.00"),
        transfer(&id(), &ben, &ana, "0.50"),
        transfer(&id(), "gl:1001", &ana, "0.25"),
    ]});
    let done = bank.post("/v1/transfers/batch", batch).await.ok();
    assert_eq!(done["accepted"], 3);
    let statuses: Vec<&Value> =
        done["results"].as_array().unwrap().iter().map(|one| &one["status"]).collect();
    assert_eq!(statuses, [&json!("sent"), &json!("sent"), &json!("posted")]);
    for one in [&done["results"][0], &done["results"][1]] {
        assert_eq!(ended(&bank, one["location"].as_str().unwrap()).await["status"], "settled");
    }
    let back = json!({"id": id(), "debit": ben, "credit": ana, "reverse": first["id"]});
    let answer = send(&bank, &back, &[WAIT]).await.ok();
    assert_eq!((&answer["status"], &answer["amount"]["amount"]), (&json!("settled"), &json!("1.00")));
    let again = json!({"id": id(), "debit": ben, "credit": ana, "reverse": first["id"]});
    assert_eq!(send(&bank, &again, &[WAIT]).await.problem(), "original_already_reversed");
    assert_eq!(bank.balance(&ana).await, "8.75");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_is_reversed_at_its_payers_account_by_the_payees_branch() {
    let bank = TestBank::new(2);
    let (ana, ben) = (bank.funded(1, "10.00").await, bank.funded(2, "1.00").await);
    let first = transfer(&id(), &ana, &ben, "4.00");
    send(&bank, &first, &[WAIT]).await.ok();
    let path =
        |account: &str| format!("/v1/accounts/{account}/transfers/{}/reverse", first["id"].as_str().unwrap());
    let other = bank.funded(1, "1.00").await;
    assert_eq!(bank.post(&path(&other), json!({})).await.problem(), "not_found", "of another payer");
    let back = bank.post(&path(&ana), json!({})).await.ok();
    assert_eq!((&back["debit"], &back["credit"], &back["from"]), (&json!(ben), &json!(ana), &json!(2)));
    assert_eq!(ended(&bank, back["location"].as_str().unwrap()).await["status"], "settled");
    let again = bank.post(&path(&ana), json!({})).await.ok();
    assert_eq!((&again["id"], &again["repeated"]), (&back["id"], &json!(true)), "once");
    assert_eq!((bank.balance(&ana).await, bank.balance(&ben).await), ("10.00".to_owned(), "1.00".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_payees_are_one_debit_or_none() {
    let bank = TestBank::new(2);
    let (ana, ben) = (bank.funded(1, "10.00").await, bank.funded(2, "1.00").await);
    let near = bank.funded(1, "1.00").await;
    send(&bank, &transfer(&id(), &ana, &ben, "1.00"), &[WAIT]).await.ok();
    let payee = |credit: &str, amount: &str| json!({"credit": credit, "amount": {"amount": amount, "currency": "CNY"}});
    let wages = |payees: Vec<Value>| json!({"id": id(), "debit": ana, "payees": payees});
    let nobody = "0002000000009997".to_owned();
    let nobody = format!("{}{:02}", &nobody[..14], 98 - nobody[..14].parse::<u64>().unwrap() * 100 % 97);
    let body = wages(vec![payee(&ben, "2.00"), payee(&near, "1.50"), payee(&nobody, "0.50")]);
    let paid = bank.post("/v1/payments", body.clone()).await;
    assert_eq!(paid.status, StatusCode::ACCEPTED, "{:?}", paid.json());
    let paid = paid.json();
    assert_eq!((&paid["amount"]["amount"], &paid["payees"][1]["status"]), (&json!("4.00"), &json!("posted")));
    for (index, status) in [(0, "settled"), (2, "returned")] {
        let location = paid["payees"][index]["location"].as_str().unwrap();
        assert_eq!(ended(&bank, location).await["status"], status);
    }
    assert_eq!(bank.balance(&ana).await, "5.50", "what nobody took came back");
    let again = bank.post("/v1/payments", body).await;
    assert_eq!((again.status, &again.json()["repeated"]), (StatusCode::OK, &json!(true)));
    assert_eq!(again.headers["idempotent-replayed"], "true");
    let refused = wages(vec![payee(&ben, "2.00"), payee(&near, "3.00"), payee(&ben, "1.00")]);
    let refused = bank.post("/v1/payments", refused).await;
    assert_eq!(refused.problem(), "insufficient_funds");
    assert!(refused.json()["field"].as_str().unwrap().starts_with("payees[2]"), "{:?}", refused.json());
    assert_eq!((bank.balance(&ana).await, bank.balance(&ben).await), ("5.50".to_owned(), "4.00".to_owned()));
    assert_eq!(bank.post("/v1/payments", wages(Vec::new())).await.problem(), "invalid_field");
}
