//! A bank through its face: customers, accounts, transfers, statements, receipts.
#![expect(clippy::unwrap_used, reason = "a test that fails may panic where it stands")]

mod common;

use common::{TestBank, id, transfer};
use serde_json::{Value, json};
use skerry_branch::meters::Kind;
use skerry_gateway::NewToken;

#[tokio::test(flavor = "multi_thread")]
async fn a_newcomers_first_five_minutes() {
    let bank = TestBank::new(2);
    let (customer, ana) = bank.customer(1).await;
    let (_, ben) = bank.customer(1).await;
    let paid = bank.pay("gl:1001", &ana, "100.00").await;
    assert_eq!(paid.status, 201);
    let location = paid.ok()["location"].as_str().unwrap().to_owned();
    assert_eq!(paid.headers["location"], location.as_str());
    assert!(location.starts_with("/v1/accounts/gl:1001@0001/transfers/"), "{location}");
    assert_eq!(bank.get(&location).await.ok()["status"], "posted");
    let moved = bank.pay(&ana, &ben, "30.50").await.ok();
    assert_eq!((bank.balance(&ana).await, bank.balance(&ben).await), ("69.50".into(), "30.50".into()));

    let statement = bank.get(&format!("/v1/accounts/{ana}/entries?order=asc")).await.ok();
    let lines: Vec<(&str, &str)> = statement["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| (line["side"].as_str().unwrap(), line["balance"]["amount"].as_str().unwrap()))
        .collect();
    assert_eq!(lines, [("credit", "100.00"), ("debit", "69.50")]);

    let receipt = bank.get(&format!("{}/receipt", moved["location"].as_str().unwrap())).await.ok();
    assert_eq!(receipt["status"], "signed, not anchored");
    let hex = receipt["receipt"].as_str().unwrap();
    let bytes: Vec<u8> =
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
    let receipt = skerry_proof::Receipt::decode(&bytes).unwrap();
    assert_eq!(receipt.position, moved["position"].as_u64().unwrap());

    let trial = bank.get("/v1/trial-balance").await.ok();
    for total in trial["totals"].as_array().unwrap() {
        assert_eq!(total["closing"]["amount"], "0.00");
        assert_eq!(total["debits"], total["credits"]);
    }
    let known = bank.get(&format!("/v1/customers/{customer}")).await.ok();
    assert!(known["name"].as_str().unwrap().starts_with("Customer "));
    assert_eq!(known["accounts"], json!([ana]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_answers_the_same_and_another_transfer_under_its_id_is_refused() {
    let bank = TestBank::new(1);
    let (ana, ben) = (bank.funded(1, "10.00").await, bank.funded(1, "0.01").await);
    let body = transfer(&id(), &ana, &ben, "10.00");
    let first = bank.post("/v1/transfers", body.clone()).await;
    let second = bank.post("/v1/transfers", body.clone()).await;
    assert_eq!((first.status.as_u16(), second.status.as_u16()), (201, 200));
    assert_eq!(first.ok()["position"], second.ok()["position"]);
    assert_eq!(second.ok()["repeated"], true);
    let mut other = body;
    other["amount"]["amount"] = "9.99".into();
    assert_eq!(bank.post("/v1/transfers", other).await.problem(), "id_reused");
    assert_eq!(bank.balance(&ben).await, "10.01");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_stands_in_for_an_id_and_without_either_nothing_moves() {
    let bank = TestBank::new(1);
    let (ana, ben) = (bank.funded(1, "10.00").await, bank.funded(1, "0.01").await);
    let mut body = transfer(&id(), &ana, &ben, "1.00");
    body.as_object_mut().unwrap().remove("id");
    assert_eq!(bank.post("/v1/transfers", body.clone()).await.problem(), "id_needed");
    let keyed = [("idempotency-key", "wages-1")];
    let first = bank.call("POST", "/v1/transfers", &body, &keyed).await.ok();
    let second = bank.call("POST", "/v1/transfers", &body, &keyed).await.ok();
    assert_eq!((first["id"].clone(), second["repeated"].clone()), (second["id"].clone(), Value::Bool(true)));
    assert_eq!(bank.balance(&ana).await, "9.00");
    let wrong = bank.call("POST", "/v1/transfers", &body, &[("idempotency-key", "with space")]).await;
    assert_eq!(wrong.problem(), "invalid_idempotency_key");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_says_rule_figures_field_and_language() {
    let bank = TestBank::new(2);
    let (ana, ben) = (bank.funded(1, "5.00").await, bank.funded(1, "0.01").await);
    let body = transfer(&id(), &ana, &ben, "7.25");
    let answer = bank.call("POST", "/v1/transfers", &body, &[("accept-language", "zh-CN")]).await;
    assert_eq!(answer.problem(), "insufficient_funds");
    let problem = answer.json();
    assert_eq!((&problem["title"], &problem["detail"]), (&json!("余额不足"), &json!("可用 5.00，需要 7.25")));
    assert_eq!(problem["figures"], json!({"have": "5.00", "need": "7.25"}));
    assert_eq!((problem["number"].as_u64(), problem["field"].as_str()), (Some(1111), Some("amount")));
    bank.pay("gl:1001", &ana, "100.00").await.ok();
    assert_eq!(
        bank.post("/v1/transfers", body).await.problem(),
        "insufficient_funds",
        "an id once refused stays so"
    );
    let page = bank.get("/docs/errors/1111").await;
    assert!(String::from_utf8_lossy(&page.bytes).contains("insufficient_funds"));

    let far = bank.funded(2, "1.00").await;
    let linked = json!({"transfers": [
        {"id": id(), "debit": ana, "credit": far, "amount": {"amount": "1.00", "currency": "CNY"}, "linked": true},
        transfer(&id(), "gl:1001", &ana, "1.00"),
    ]});
    let results = bank.post("/v1/transfers/batch", linked).await.ok();
    assert_eq!(results["results"][0]["code"], "crosses_branches");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_exactly_is_wrong_is_said_in_the_language_of_the_caller() {
    let bank = TestBank::new(1);
    let ana = bank.funded(1, "5.00").await;
    let nobody =
        json!({"id": id(), "debit": ana, "credit": ana, "amount": {"amount": "1.00", "currency": "CNY"}});
    for (method, path, body, english, chinese) in [
        // Of the gateway, with a figure and without; of the ledger; of the reader of JSON, who has English alone.
        ("GET", "/v1/branches/none/channels", json!(null), "a number from 1 to 9999", "1 至 9999 的整数"),
        ("GET", "/v1/branches/77/channels", json!(null), "this bank has no branch 77", "本行没有分行 77"),
        ("POST", "/v1/transfers", nobody, "debit and credit are the same account", "借贷为同一账户"),
        ("POST", "/v1/transfers", json!({"id": 7}), "invalid type: integer `7`", "invalid type: integer `7`"),
    ] {
        for (language, wanted) in
            [("en", english), ("zh", chinese), ("zh-CN,zh;q=0.9,en;q=0.8", chinese), ("fr", english)]
        {
            let answer = bank.call(method, path, &body, &[("accept-language", language)]).await;
            let detail = answer.json()["detail"].as_str().unwrap().to_owned();
            assert!(detail.starts_with(wanted), "{path} {language}: {detail}");
        }
    }
    let answer = bank
        .call("GET", "/v1/nothing", &json!(null), &[("authorization", "Basic x"), ("accept-language", "zh")])
        .await;
    assert_eq!(
        (answer.headers["content-language"].to_str().unwrap(), answer.json()["title"].clone()),
        ("zh-CN", json!("未找到"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn holds_are_posted_in_part_voided_and_looked_up() {
    let bank = TestBank::new(1);
    let (ana, ben) = (bank.funded(1, "100.00").await, bank.funded(1, "0.01").await);
    let hold = |amount: &str| {
        let mut body = transfer(&id(), &ana, &ben, amount);
        body["pending"] = true.into();
        body["timeout"] = 3_600.into();
        body
    };
    let first = bank.post("/v1/transfers", hold("60.00")).await.ok();
    assert_eq!(first["status"], "pending");
    let balances = bank.get(&format!("/v1/accounts/{ana}")).await.ok()["balances"].clone();
    assert_eq!(balances["held"]["amount"], "60.00");
    assert_eq!(balances["available"]["amount"], "40.00");
    assert_eq!(balances["posted"]["amount"], "100.00");
    let location = first["location"].as_str().unwrap().to_owned();
    let part = json!({"id": id(), "amount": {"amount": "45.00", "currency": "CNY"}});
    assert_eq!(bank.post(&format!("{location}/post"), part.clone()).await.ok()["amount"]["amount"], "45.00");
    assert_eq!(bank.post(&format!("{location}/post"), part).await.ok()["repeated"], true);
    let again = bank.post(&format!("{location}/post"), json!({"id": id()})).await;
    assert_eq!(again.problem(), "hold_already_posted");
    assert_eq!(again.json()["field"], "post");
    assert_eq!(bank.get(&location).await.ok()["status"], "posted");

    let second = bank.post("/v1/transfers", hold("50.00")).await.ok();
    let location = second["location"].as_str().unwrap();
    let keyed = [("idempotency-key", "void-1")];
    assert_eq!(
        bank.call("POST", &format!("{location}/void"), &Value::Null, &keyed).await.ok()["status"],
        "voided"
    );
    assert_eq!(bank.post(&format!("{location}/void"), Value::Null).await.problem(), "id_needed");
    assert_eq!(bank.get(location).await.ok()["status"], "voided");
    assert_eq!(bank.balance(&ana).await, "55.00");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reversal_happens_once_and_is_for_operators() {
    let bank = TestBank::new(1);
    let (ana, ben) = (bank.funded(1, "10.00").await, bank.funded(1, "0.01").await);
    let paid = bank.pay(&ana, &ben, "4.00").await.ok();
    let path = format!("{}/reverse", paid["location"].as_str().unwrap());
    let service = bank.role("app", "service");
    assert_eq!(bank.call_as(&service, "POST", &path, &Value::Null).await.problem(), "forbidden");
    assert_eq!(bank.post(&path, Value::Null).await.status, 201);
    let again = bank.post(&path, Value::Null).await;
    assert_eq!((again.status.as_u16(), again.ok()["repeated"].clone()), (200, Value::Bool(true)));
    let other = bank.post(&path, json!({"id": id()})).await;
    assert_eq!(other.problem(), "original_already_reversed");
    assert_eq!(bank.balance(&ana).await, "10.00");
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_answer_in_order_across_branches_and_chains_hold_together() {
    let bank = TestBank::new(2);
    let (ana, ben) = (bank.funded(1, "10.00").await, bank.funded(1, "0.01").await);
    let (cid, dan) = (bank.funded(2, "10.00").await, bank.funded(2, "0.01").await);
    let mut linked = transfer(&id(), &ana, &ben, "1.00");
    linked["linked"] = true.into();
    let body = json!({"transfers": [
        transfer(&id(), &cid, &dan, "1.00"),
        transfer(&id(), &ana, &ben, "2.00"),
        transfer(&id(), &cid, &dan, "99.00"),
        linked,
        transfer(&id(), &ana, &ben, "99.00"),
    ]});
    let done = bank.post("/v1/transfers/batch", body).await.ok();
    let codes: Vec<&str> = done["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|result| result["code"].as_str().unwrap_or_else(|| result["status"].as_str().unwrap()))
        .collect();
    assert_eq!(
        codes,
        ["posted", "posted", "insufficient_funds", "linked_transfer_failed", "insufficient_funds"]
    );
    assert_eq!(done["accepted"], 2);
    assert_eq!((bank.balance(&ana).await, bank.balance(&cid).await), ("8.00".into(), "9.00".into()));

    let wrong =
        json!({"transfers": [transfer(&id(), &ana, &ben, "1.00"), {"id": id(), "debit": ana, "amount": 5}]});
    let answer = bank.post("/v1/transfers/batch", wrong).await;
    assert_eq!(answer.problem(), "invalid_field");
    assert_eq!(answer.json()["field"], "transfers[1].amount");
    assert_eq!(bank.balance(&ana).await, "8.00", "nothing of a batch that cannot be read is tried");
}

fn reference(account: &str) -> u64 {
    let number = skerry_money::AccountNumber::parse(account).unwrap();
    skerry_ledger::AccountRef::customer(number.branch(), number.serial()).0
}

fn packed(debit: &str, credit: &str, amount: u64) -> Vec<u8> {
    let transfer = skerry_ledger::Transfer {
        id: skerry_ledger::TransferId(skerry_gateway::text::parse_uuid(&id()).unwrap()),
        debit: skerry_ledger::AccountRef(reference(debit)),
        credit: skerry_ledger::AccountRef(reference(credit)),
        amount,
        ..skerry_ledger::Transfer::default()
    };
    let mut bytes = [0; 96];
    skerry_book::packed::encode(&transfer, &mut bytes);
    bytes.to_vec()
}

async fn send_packed(bank: &TestBank, body: Vec<u8>) -> common::Answer {
    let request = axum::http::Request::post("/v1/transfers/batch")
        .header("authorization", format!("Bearer {}", bank.operator))
        .header("content-type", "application/vnd.skerry.transfers")
        .body(axum::body::Body::from(body));
    bank.send(request.unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn packed_batches_go_to_their_branches_and_come_back_in_order() {
    let bank = TestBank::new(2);
    let (ana, ben) = (bank.funded(1, "10.00").await, bank.funded(1, "0.01").await);
    let (cid, dan) = (bank.funded(2, "10.00").await, bank.funded(2, "0.01").await);
    let codes = |answer: &common::Answer| -> Vec<u16> {
        assert_eq!(answer.headers["content-type"], "application/vnd.skerry.transfers");
        answer.bytes.chunks(32).map(|result| u16::from_le_bytes([result[0], result[1]])).collect()
    };
    let one_branch = [packed(&ana, &ben, 100), packed(&ana, &ben, 100_000)].concat();
    assert_eq!(codes(&send_packed(&bank, one_branch).await), [0, 1111]);
    let scattered =
        [packed(&cid, &dan, 1), packed(&ana, &ben, 2), packed(&cid, &dan, 999_999), packed(&ana, &ben, 3)];
    assert_eq!(codes(&send_packed(&bank, scattered.concat()).await), [0, 0, 1111, 0]);
    assert_eq!((bank.balance(&ana).await, bank.balance(&cid).await), ("8.95".into(), "9.99".into()));
    assert!(send_packed(&bank, Vec::new()).await.bytes.is_empty());
    let mut cut = packed(&ana, &ben, 1);
    cut.pop();
    assert_eq!(send_packed(&bank, cut).await.problem(), "packed_malformed");
    let mut rubbish = packed(&ana, &ben, 1);
    rubbish[40..42].copy_from_slice(&9_999_u16.to_le_bytes());
    let answer = send_packed(&bank, [packed(&ana, &ben, 1), rubbish].concat()).await;
    assert_eq!(
        (answer.problem().as_str(), answer.json()["field"].as_str()),
        ("packed_malformed", Some("transfers[1].currency"))
    );
    assert_eq!(send_packed(&bank, packed(&ana, &ben, 1).repeat(8_193)).await.problem(), "batch_too_large");
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_filter_page_and_turn() {
    let bank = TestBank::new(1);
    let (ana, ben) = (bank.funded(1, "100.00").await, bank.funded(1, "0.01").await);
    for nth in 1..=6 {
        let mut body = transfer(&id(), &ana, &ben, &format!("{nth}.00"));
        body["code"] = (nth % 2).into();
        body["reference"] =
            if nth == 3 { "a rather long reference of a supplier".into() } else { format!("r{nth}").into() };
        bank.post("/v1/transfers", body).await.ok();
    }
    let amounts = |page: &Value| -> Vec<String> {
        page["entries"]
            .as_array()
            .unwrap()
            .iter()
            .map(|line| line["amount"]["amount"].as_str().unwrap().to_owned())
            .collect()
    };
    let get = async |query: &str| bank.get(&format!("/v1/accounts/{ana}/entries?{query}")).await.ok();
    assert_eq!(amounts(&get("code=1&side=debit").await), ["5.00", "3.00", "1.00"]);
    assert_eq!(amounts(&get("reference=r4").await), ["4.00"]);
    assert_eq!(amounts(&get("reference=a%20rather%20long%20reference%20of%20a%20supplier").await), ["3.00"]);
    assert_eq!(amounts(&get("min=2.00&max=4.00&currency=CNY&order=asc").await), ["2.00", "3.00", "4.00"]);
    let first = get("limit=3").await;
    assert_eq!(amounts(&first), ["6.00", "5.00", "4.00"]);
    let second = get(&format!("limit=3&cursor={}", first["next"].as_str().unwrap())).await;
    assert_eq!(amounts(&second), ["3.00", "2.00", "1.00"]);
    let back = get(&format!("order=asc&limit=9&cursor={}", second["previous"].as_str().unwrap())).await;
    assert_eq!(amounts(&back), ["4.00", "5.00", "6.00"]);
    let found = bank.get("/v1/transfers?branch=1&reference=r5").await.ok();
    assert_eq!(found["transfers"][0]["debit"], ana.as_str());

    let today = get("limit=1").await["entries"][0]["business_date"].as_str().unwrap().to_owned();
    let as_of = bank.get(&format!("/v1/accounts/{ana}/balance?booked={today}")).await.ok();
    assert_eq!(as_of["balance"]["amount"], "79.00");
    let before = bank.get(&format!("/v1/accounts/{ana}/balance?value=2020-01-01")).await.ok();
    assert_eq!(before["balance"]["amount"], "0.00");
    let days = bank.get(&format!("/v1/accounts/{ana}/balances")).await.ok();
    assert_eq!(days["days"][0]["closing"]["amount"], "79.00");
    for (query, problem) in [
        ("limit=0", "invalid_query"),
        ("order=up", "invalid_query"),
        ("cursor=zz", "cursor_invalid"),
        ("min=1&currency=JPY", "invalid_query"),
        ("colour=red", "invalid_query"),
    ] {
        assert_eq!(
            bank.get(&format!("/v1/accounts/{ana}/entries?{query}")).await.problem(),
            problem,
            "{query}"
        );
    }
    let nobody = skerry_money::AccountNumber::new(1, 999).to_string();
    assert_eq!(bank.get(&format!("/v1/accounts/{nobody}/entries")).await.problem(), "account_not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_is_opened_once_and_a_key_answers_again() {
    let bank = TestBank::new(3);
    let body = json!({"name": "Customer 1", "document": {"kind": "passport", "number": "E 12-34"}});
    let keyed = [("idempotency-key", "signup-1")];
    let first = bank.call("POST", "/v1/customers", &body, &keyed).await;
    assert_eq!(
        (first.status.as_u16(), &first.headers["idempotency-key"]),
        (201, &"signup-1".parse().unwrap())
    );
    let customer = first.ok()["id"].clone();
    assert_eq!(bank.call("POST", "/v1/customers", &body, &keyed).await.ok()["id"], customer);
    let twice = bank
        .post("/v1/customers", json!({"name": "X", "document": {"kind": "passport", "number": "e1234"}}))
        .await;
    assert_eq!((twice.problem().as_str(), &twice.json()["existing"]), ("document_known", &customer));
    let mut other = body;
    other["name"] = "Customer 2".into();
    assert_eq!(bank.call("POST", "/v1/customers", &other, &keyed).await.problem(), "key_reused");

    // The same document, many at once: one of them opens it.
    let race: Vec<_> = (0..8)
        .map(|_| {
            bank.post("/v1/customers", json!({"name": "Y", "document": {"kind": "passport", "number": "R1"}}))
        })
        .collect();
    let mut opened = 0;
    for answer in futures(race).await {
        opened += u32::from(answer.status.is_success());
    }
    assert_eq!(opened, 1);
}

async fn futures<F: Future>(list: Vec<F>) -> Vec<F::Output> {
    let mut list: Vec<_> = list.into_iter().map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|context| {
        let mut waiting = false;
        for (future, output) in &mut list {
            if output.is_none() {
                match future.as_mut().poll(context) {
                    std::task::Poll::Ready(value) => *output = Some(value),
                    std::task::Poll::Pending => waiting = true,
                }
            }
        }
        if waiting { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
    })
    .await;
    list.into_iter().filter_map(|(_, output)| output).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_sealed_changed_hidden_and_spread_over_branches() {
    let bank = TestBank::new(2);
    let mut homes = std::collections::BTreeSet::new();
    for number in 0..4 {
        let body = json!({"name": "SecretName", "document": {"kind": "id_card", "number": format!("SecretDoc{number}")}});
        homes.insert(bank.post("/v1/customers", body).await.ok()["branch"].as_u64().unwrap());
    }
    assert_eq!(homes.len(), 2, "newcomers go where there is most room");
    let (customer, _) = bank.customer(1).await;
    let path = format!("/v1/customers/{customer}");
    let change = json!({"name": "Another", "contacts": {"telephone": "1"}});
    bank.call("PATCH", &path, &change, &[]).await.ok();
    let seen = bank.get(&path).await.ok();
    assert_eq!((seen["name"].as_str(), &seen["contacts"]["telephone"]), (Some("Another"), &json!("1")));
    let auditor = bank.role("audit", "auditor");
    assert_eq!(bank.call_as(&auditor, "GET", &path, &Value::Null).await.ok()["name"], Value::Null);
    for entry in walk(&bank.folder) {
        let bytes = std::fs::read(&entry).unwrap();
        for secret in ["SecretName", "SecretDoc"] {
            assert!(
                !bytes.windows(secret.len()).any(|part| part == secret.as_bytes()),
                "{secret} in {entry:?}"
            );
        }
    }
    assert_eq!(bank.call("DELETE", &path, &Value::Null, &[]).await.problem(), "customer_has_accounts");
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_are_limited_frozen_closed_and_reopened() {
    let bank = TestBank::new(1);
    let ana = bank.funded(1, "10.00").await;
    let ben = bank.funded(1, "0.01").await;
    let path = format!("/v1/accounts/{ana}");
    let limits = json!({"floor": {"amount": "-5.00", "currency": "CNY"}, "daily": {"amount": "12.00", "currency": "CNY"}});
    let view = bank.call("PATCH", &format!("{path}/limits"), &limits, &[]).await.ok();
    assert_eq!(view["balances"]["available"]["amount"], "15.00");
    assert_eq!(view["limits"]["daily"]["amount"], "12.00");
    assert_eq!(bank.pay(&ana, &ben, "12.01").await.problem(), "daily_limit_exceeded");
    bank.call("PATCH", &format!("{path}/limits"), &json!({"unlimited": true}), &[]).await.ok();
    bank.pay(&ana, &ben, "12.01").await.ok();
    let wrong = json!({"floor": {"amount": "-5", "currency": "JPY"}});
    assert_eq!(bank.call("PATCH", &format!("{path}/limits"), &wrong, &[]).await.problem(), "invalid_field");

    let frozen = bank.post(&format!("{path}/freeze"), json!({"sides": "debit", "reason": 7})).await.ok();
    assert_eq!((&frozen["status"], &frozen["frozen"]), (&json!("frozen"), &json!({"debit": 7, "credit": 0})));
    assert_eq!(bank.pay(&ana, &ben, "0.01").await.problem(), "debit_frozen");
    bank.pay("gl:1001", &ana, "2.01").await.ok();
    bank.post(&format!("{path}/unfreeze"), json!({"sides": "debit"})).await.ok();

    assert_eq!(bank.balance(&ana).await, "0.00");
    assert_eq!(bank.post(&format!("{path}/close"), Value::Null).await.ok()["status"], "closed");
    assert_eq!(bank.pay("gl:1001", &ana, "1.00").await.problem(), "credit_closed");
    assert_eq!(bank.post(&format!("{path}/reopen"), json!({})).await.ok()["status"], "open");
    assert_eq!(bank.post(&format!("{path}/reopen"), json!({})).await.problem(), "account_not_closed");
    let cash = bank.get("/v1/accounts/gl:1001@0001?currency=CNY").await.ok();
    assert_eq!(cash["balances"]["posted"]["amount"], "-12.02");
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_of_a_known_account_ask_nothing_of_the_writer() {
    let bank = TestBank::new(1);
    let account = bank.funded(1, "10.00").await;
    let reads_at = async |transfers: u64| {
        // Meters are a moment old, but never out of order: a transfer that shows was counted after all before it.
        loop {
            let meters = bank.gateway.bank.seat(1).unwrap().health().meters;
            if meters.kind(Kind::Transfers).messages >= transfers {
                return meters.kind(Kind::Read).messages;
            }
            tokio::task::yield_now().await;
        }
    };
    let before = reads_at(1).await;
    for what in ["balance", "balances", "entries"] {
        bank.get(&format!("/v1/accounts/{account}/{what}")).await.ok();
    }
    bank.pay("gl:1001", &account, "1.00").await.ok();
    assert_eq!(reads_at(2).await, before, "the writer was asked");
    // Of an account that does not exist nothing is kept.
    let none = skerry_money::AccountNumber::new(1, 999_999);
    for _ in 0..2 {
        assert_eq!(bank.get(&format!("/v1/accounts/{none}/balance")).await.problem(), "account_not_found");
    }
    let metrics = String::from_utf8(bank.get("/metrics").await.bytes).unwrap();
    assert!(metrics.contains("skerry_http_accounts_known 1\n"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customers_token_sees_and_pays_its_own_only() {
    let bank = TestBank::new(2);
    let (customer, own) = bank.customer(1).await;
    bank.pay("gl:1001", &own, "10.00").await.ok();
    let other = bank.funded(1, "10.00").await;
    let far = bank.funded(2, "10.00").await;
    let token = bank.token(&NewToken {
        principal: "ana-app".into(),
        role: "customer".into(),
        customer: Some(customer.clone()),
        ..NewToken::default()
    });
    let get = async |path: String| bank.call_as(&token, "GET", &path, &Value::Null).await;
    assert_eq!(get(format!("/v1/accounts/{own}")).await.ok()["balances"]["posted"]["amount"], "10.00");
    assert!(get(format!("/v1/accounts/{own}/entries")).await.status.is_success());
    assert!(get(format!("/v1/customers/{customer}")).await.status.is_success());
    for path in [
        format!("/v1/accounts/{other}"),
        format!("/v1/accounts/{other}/entries"),
        format!("/v1/accounts/{other}/balance?booked=2026-01-01"),
        format!("/v1/accounts/{far}"),
        format!("/v1/accounts/{far}/entries"),
    ] {
        assert_eq!(get(path.clone()).await.problem(), "out_of_scope", "{path}");
    }
    for path in ["/v1/audit?branch=1", "/v1/trial-balance", "/v1/webhooks", "/v1/tokens", "/v1/branches"] {
        assert_eq!(get(path.to_owned()).await.problem(), "forbidden", "{path}");
    }
    let pay = async |debit: &str, credit: &str| {
        bank.call_as(&token, "POST", "/v1/transfers", &transfer(&id(), debit, credit, "1.00")).await
    };
    assert!(pay(&own, &other).await.status.is_success());
    assert!(!pay(&other, &own).await.status.is_success());
    assert!(!pay("gl:1001", &own).await.status.is_success());
    // A hold of somebody else is not theirs to resolve, whatever path they name it under.
    let mut hold = transfer(&id(), &other, &own, "5.00");
    hold["pending"] = true.into();
    let hold = bank.post("/v1/transfers", hold).await.ok();
    let hold = hold["id"].as_str().unwrap();
    for number in [&other, &own] {
        let path = format!("/v1/accounts/{number}/transfers/{hold}/post");
        let answer = bank.call_as(&token, "POST", &path, &json!({"id": id()})).await;
        assert!(!answer.status.is_success(), "{path}: {}", String::from_utf8_lossy(&answer.bytes));
    }
    assert_eq!((bank.balance(&own).await, bank.balance(&other).await), ("9.00".into(), "11.00".into()));
}
