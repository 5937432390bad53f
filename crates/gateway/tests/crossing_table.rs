//! What crosses between branches and what does not: each row of the table in docs/api.md, shown on a bank of two branches.

#![expect(clippy::unwrap_used, reason = "a helper that fails, fails its test")]

mod common;

use axum::http::StatusCode;
use common::{Answer, TestBank, id, transfer};
use serde_json::{Value, json};

/// The first cells of the table's rows, in order.
fn rows() -> Vec<String> {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/api.md")).unwrap();
    let table =
        text.split("| asked for | across branches |\n|---|---|\n").nth(1).expect("the table is there");
    let rows = table.lines().take_while(|line| line.starts_with('|'));
    rows.map(|line| line.split('|').nth(1).unwrap().trim().to_owned()).collect()
}

/// A bank of two branches that have met.
struct Scene {
    bank: TestBank,
    payer: String,
    payee: String,
}

impl Scene {
    async fn new() -> Self {
        let bank = TestBank::new(2);
        let (payer, payee) = (bank.funded(1, "100.00").await, bank.funded(2, "1.00").await);
        let scene = Self { bank, payer, payee };
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while !scene.pay(json!({}), true).await.status.is_success() {
            assert!(std::time::Instant::now() < deadline, "the branches never met");
            tokio::task::yield_now().await;
        }
        scene
    }

    /// A transfer of 1.00 across with `more` in it, followed to its end if it is to be.
    async fn pay(&self, more: Value, wait: bool) -> Answer {
        let mut body = transfer(&id(), &self.payer, &self.payee, "1.00");
        for (name, value) in more.as_object().unwrap() {
            body[name] = value.clone();
        }
        let headers: &[(&str, &str)] = if wait { &[("prefer", "wait=30")] } else { &[] };
        self.bank.call("POST", "/v1/transfers", &body, headers).await
    }

    /// Follows a payment to its end.
    async fn end(&self, location: &str) -> Value {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        loop {
            let payment = self.bank.get(location).await.ok();
            if payment["status"] != "sent" {
                return payment;
            }
            assert!(std::time::Instant::now() < deadline, "it never ended: {payment}");
            tokio::task::yield_now().await;
        }
    }

    async fn balances(&self) -> (String, String) {
        (self.bank.balance(&self.payer).await, self.bank.balance(&self.payee).await)
    }

    async fn returned(&self, more: Value) -> Value {
        let before = self.bank.balance(&self.payer).await;
        let answer = self.pay(more, true).await.ok();
        assert_eq!(answer["status"], "returned", "{answer}");
        assert_eq!(self.bank.balance(&self.payer).await, before);
        answer["returned"]["code"].clone()
    }

    async fn show(&self, row: &str) {
        match row {
            "a transfer" => {
                let answer = self.pay(json!({}), true).await;
                assert_eq!(
                    (answer.status, &answer.json()["status"]),
                    (StatusCode::CREATED, &json!("settled"))
                );
            }
            "many in a JSON batch" => self.batch().await,
            "many in a packed batch" => self.packed().await,
            "many payees (`POST /v1/payments`)" => self.payees().await,
            "from a head of the payer's branch (`gl:1001`)" => {
                let answer = self.pay(json!({"debit": "gl:1001@0001"}), true).await;
                assert_eq!(
                    (answer.status, &answer.json()["status"]),
                    (StatusCode::CREATED, &json!("settled"))
                );
                let service = self.bank.role("app", "service");
                let body = transfer(&id(), "gl:1001@0001", &self.payee, "1.00");
                let refused = self.bank.call_as(&service, "POST", "/v1/transfers", &body).await;
                assert_eq!(refused.problem(), "operators_only");
            }
            "`pending`" => {
                let before = self.bank.balance(&self.payee).await;
                let answer = self.pay(json!({"pending": true}), true).await.ok();
                assert_eq!(answer["status"], "pending", "{answer}");
                assert_eq!(self.bank.balance(&self.payee).await, before);
            }
            "`post` of such a hold" => self.resolve("post").await,
            "`void` of such a hold" => self.resolve("void").await,
            "`reverse`" => self.reverse().await,
            "`linked`" => {
                let near = self.bank.funded(1, "1.00").await;
                let mut first = transfer(&id(), &self.payer, &self.payee, "1.00");
                first["linked"] = true.into();
                let batch = json!({"transfers": [first, transfer(&id(), &self.payer, &near, "1.00")]});
                let done = self.bank.post("/v1/transfers/batch", batch).await.ok();
                let codes: Vec<&Value> =
                    done["results"].as_array().unwrap().iter().map(|one| &one["code"]).collect();
                assert!(codes.contains(&&json!("crosses_branches")), "{done}");
                assert_eq!(done["accepted"], 0);
            }
            "`balancing`" => self.stays(json!({"balancing": "debit"})).await,
            "`closing`" => self.stays(json!({"pending": true, "closing": "debit"})).await,
            "an import" => {
                let line = json!({
                    "cause": "crossing/1", "debit": self.payer, "credit": self.payee,
                    "amount": {"amount": "1.00", "currency": "CNY"},
                    "time": "1993-03-01T10:00:00Z", "business_date": "1993-03-01",
                });
                let done = self.bank.post("/v1/import/transfers", json!({"transfers": [line]})).await.ok();
                assert_eq!(done["results"][0]["problem"]["code"], "crosses_branches", "{done}");
            }
            "to a head of another branch" => {
                self.stays(json!({"credit": "gl:1001@0002"})).await;
            }
            "a `reference`" => {
                let long = "invoice 2026-11 ".repeat(8);
                self.pay(json!({"reference": long}), true).await.ok();
                assert_eq!(self.newest(&self.payee).await["reference"], long);
            }
            "a `note`" => {
                self.pay(json!({"note": "for the roof"}), true).await.ok();
                assert!(self.newest(&self.payee).await.get("note").is_none());
                assert_eq!(self.newest(&self.payer).await["note"], "for the roof");
            }
            "to an account that is not there" => {
                let number = "00020000009999";
                let check = 98 - number.parse::<u64>().unwrap() * 100 % 97;
                let code = self.returned(json!({"credit": format!("{number}{check:02}")})).await;
                assert_eq!(code, "credit_not_found");
            }
            "to an account in another currency" => {
                let (customer, _) = self.bank.customer(2).await;
                let wish = json!({"product": "current", "currency": "USD"});
                let account = self.bank.post(&format!("/v1/customers/{customer}/accounts"), wish).await.ok();
                assert_eq!(self.returned(json!({"credit": account["number"]})).await, "currencies_differ");
            }
            "to a frozen account" => {
                let frozen = self.bank.funded(2, "1.00").await;
                let freeze = json!({"sides": "credit", "reason": 3});
                self.bank.post(&format!("/v1/accounts/{frozen}/freeze"), freeze).await.ok();
                assert_eq!(self.returned(json!({"credit": frozen})).await, "credit_frozen");
            }
            other => panic!("docs/api.md says what becomes of {other}, and no test shows it"),
        }
    }

    async fn stays(&self, more: Value) {
        let before = self.balances().await;
        assert_eq!(self.pay(more, true).await.problem(), "crosses_branches");
        assert_eq!(self.balances().await, before);
    }

    /// The newest entry of a statement.
    async fn newest(&self, account: &str) -> Value {
        self.bank.get(&format!("/v1/accounts/{account}/entries?order=desc")).await.ok()["entries"][0].clone()
    }

    async fn batch(&self) {
        let transfers = json!({"transfers": [
            transfer(&id(), &self.payer, &self.payee, "2.00"),
            transfer(&id(), &self.payer, &self.payee, "9999.00"),
            transfer(&id(), &self.payee, &self.payer, "0.50"),
        ]});
        let done = self.bank.post("/v1/transfers/batch", transfers).await.ok();
        let results = &done["results"];
        assert_eq!(
            (&results[0]["status"], &results[2]["status"]),
            (&json!("sent"), &json!("sent")),
            "{done}"
        );
        assert_eq!(results[1]["code"], "insufficient_funds", "{done}");
        for index in [0, 2] {
            let end = self.end(results[index]["location"].as_str().unwrap()).await;
            assert_eq!(end["status"], "settled");
        }
    }

    async fn packed(&self) {
        let reference = |text: &str| {
            let number = skerry_money::AccountNumber::parse(text).unwrap();
            skerry_ledger::AccountRef::customer(number.branch(), number.serial())
        };
        let transfer = |debit: &str, credit: &str, amount| skerry_ledger::Transfer {
            id: skerry_ledger::TransferId(skerry_gateway::text::parse_uuid(&id()).unwrap()),
            debit: reference(debit),
            credit: reference(credit),
            amount,
            ..skerry_ledger::Transfer::default()
        };
        let many = [transfer(&self.payer, &self.payee, 100), transfer(&self.payee, &self.payer, 50)];
        let mut body = Vec::new();
        for transfer in &many {
            let mut bytes = [0; 96];
            skerry_book::packed::encode(transfer, &mut bytes);
            body.extend_from_slice(&bytes);
        }
        let request = axum::http::Request::post("/v1/transfers/batch")
            .header("authorization", format!("Bearer {}", self.bank.operator))
            .header("content-type", "application/vnd.skerry.transfers")
            .body(axum::body::Body::from(body));
        let answer = self.bank.send(request.unwrap()).await;
        let results = answer.bytes.as_chunks::<32>().0;
        for (bytes, transfer) in results.iter().zip(many) {
            let outcome = skerry_book::packed::Outcome::decode(bytes).unwrap();
            assert_eq!(outcome.code, skerry_book::packed::SENT);
            let path = format!("/v1/payments/{}", uuid(transfer.id.0));
            assert_eq!(self.end(&path).await["status"], "settled");
        }
        assert_eq!(results.len(), 2);
    }

    async fn payees(&self) {
        let near = self.bank.funded(1, "1.00").await;
        let payee = |credit: &str, amount: &str| json!({"credit": credit, "amount": {"amount": amount, "currency": "CNY"}});
        let body = json!({"id": id(), "debit": self.payer, "payees": [payee(&self.payee, "2.00"), payee(&near, "1.50")]});
        let paid = self.bank.post("/v1/payments", body).await.ok();
        assert_eq!(
            (&paid["amount"]["amount"], &paid["payees"][1]["status"]),
            (&json!("3.50"), &json!("posted"))
        );
        assert_eq!(self.end(paid["payees"][0]["location"].as_str().unwrap()).await["status"], "settled");
    }

    async fn resolve(&self, how: &str) {
        let hold = id();
        let before = self.balances().await;
        self.pay(json!({"id": hold, "pending": true}), false).await.ok();
        let path = format!("/v1/accounts/{}/transfers/{hold}/{how}", self.payer);
        let body = json!({"id": id(), how: hold, "debit": self.payer, "credit": self.payee});
        let answer = self.bank.call("POST", "/v1/transfers", &body, &[("prefer", "wait=30")]).await;
        assert!(answer.status.is_success(), "{path}: {}", answer.json());
        let (payer, payee) = self.balances().await;
        if how == "post" {
            assert_eq!(answer.json()["status"], "settled", "{}", answer.json());
            assert!(payer != before.0 && payee != before.1, "it left");
        } else {
            assert_eq!((payer, payee), before);
        }
    }

    async fn reverse(&self) {
        let before = self.balances().await;
        let first = id();
        self.pay(json!({"id": first}), true).await.ok();
        let path = format!("/v1/accounts/{}/transfers/{first}/reverse", self.payer);
        let back = self.bank.post(&path, json!({})).await.ok();
        assert_eq!((&back["from"], &back["debit"]), (&json!(2), &json!(self.payee)));
        assert_eq!(self.end(back["location"].as_str().unwrap()).await["status"], "settled");
        assert_eq!(self.balances().await, before);
    }
}

fn uuid(id: u128) -> String {
    let hex = format!("{id:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_of_the_table_is_true() {
    let rows = rows();
    assert!(rows.len() >= 19, "rows were lost: {rows:?}");
    let scene = Scene::new().await;
    for row in rows {
        scene.show(&row).await;
    }
    let trial = scene.bank.get("/v1/trial-balance").await.ok();
    let transit = trial["rows"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|row| row["head"].as_u64().is_some_and(|head| head / 10_000 == 1105));
    for row in transit {
        assert!(
            row["closing"]["amount"] == "0.00" || row["closing"]["amount"] == "-0.00",
            "nothing stays on its way: {row}"
        );
    }
}
