//! Notes on transfers: read by both sides, counted by retries, told to nobody else.
#![expect(clippy::unwrap_used, reason = "a test that fails may panic where it stands")]

mod common;

use common::{TestBank, id, transfer};
use serde_json::{Value, json};
use skerry_gateway::NewToken;

fn noted(id: &str, debit: &str, credit: &str, note: &str) -> Value {
    let mut wish = transfer(id, debit, credit, "1.00");
    wish["note"] = note.into();
    wish
}

fn token_of(bank: &TestBank, customer: &str) -> String {
    bank.token(&NewToken {
        principal: format!("app-{customer}"),
        role: "customer".into(),
        customer: Some(customer.into()),
        ..NewToken::default()
    })
}

/// The note and its status wherever `token` meets it: lookup, statement, search, receipt.
async fn shown(bank: &TestBank, token: &str, debit: &str, own: &str, id: &str) -> Vec<(Value, Value)> {
    let mut paths = vec![format!("/v1/accounts/{own}/entries")];
    if own == debit {
        paths.push(format!("/v1/accounts/{debit}/transfers/{id}"));
        paths.push(format!("/v1/accounts/{debit}/transfers/{id}/receipt"));
    }
    let mut found = Vec::new();
    for path in paths {
        let answer = bank.call_as(token, "GET", &path, &Value::Null).await.ok();
        let one = match answer["entries"].as_array() {
            Some(entries) => entries.iter().find(|entry| entry["id"] == id).unwrap().clone(),
            None => answer,
        };
        assert!(one.get("note").is_some(), "{path}: {one}");
        found.push((one["note"].clone(), one["note_status"].clone()));
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_read_it_and_auditors_see_that_it_is_there() {
    let bank = TestBank::new(1);
    let ((payer, debit), (payee, credit)) = (bank.customer(1).await, bank.customer(1).await);
    bank.pay("gl:1001", &debit, "10.00").await.ok();
    let (note, id) = ("房租 November – “danke”", id());
    bank.post("/v1/transfers", noted(&id, &debit, &credit, note)).await.ok();
    let read = (Value::from(note), Value::Null);
    let (payer, payee) = (token_of(&bank, &payer), token_of(&bank, &payee));
    assert_eq!(shown(&bank, &payer, &debit, &debit, &id).await, vec![read.clone(); 3]);
    assert_eq!(shown(&bank, &payee, &debit, &credit, &id).await, vec![read.clone()]);
    assert_eq!(shown(&bank, &bank.operator, &debit, &debit, &id).await, vec![read.clone(); 3]);
    let auditor = bank.role("auditor", "auditor");
    let withheld = (Value::Null, Value::from("withheld"));
    assert_eq!(shown(&bank, &auditor, &debit, &debit, &id).await, vec![withheld; 3]);
    let anywhere = bank.get(&format!("/v1/transfers/{id}")).await.ok();
    assert_eq!(anywhere["note"], note);
    let plain = bank.pay(&debit, &credit, "1.00").await.ok();
    let plain = bank.get(plain["location"].as_str().unwrap()).await.ok();
    assert!(plain.get("note").is_none() && plain.get("note_status").is_none(), "{plain}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_is_the_same_note_and_another_note_is_another_transfer() {
    let bank = TestBank::new(1);
    let (debit, credit) = (bank.funded(1, "10.00").await, bank.funded(1, "0.01").await);
    let id = id();
    let first = bank.post("/v1/transfers", noted(&id, &debit, &credit, "rent")).await.ok();
    let again = bank.post("/v1/transfers", noted(&id, &debit, &credit, "rent")).await;
    assert_eq!(again.status, 200);
    assert_eq!(
        (again.ok()["position"].clone(), again.ok()["repeated"].clone()),
        (first["position"].clone(), true.into())
    );
    for other in [noted(&id, &debit, &credit, "Rent"), transfer(&id, &debit, &credit, "1.00")] {
        assert_eq!(bank.post("/v1/transfers", other).await.problem(), "id_reused");
    }
    // The other way round: no note first, then one.
    let id = common::id();
    bank.post("/v1/transfers", transfer(&id, &debit, &credit, "1.00")).await.ok();
    assert_eq!(bank.post("/v1/transfers", noted(&id, &debit, &credit, "rent")).await.problem(), "id_reused");
    assert_eq!(bank.balance(&debit).await, "8.00");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_note_from_a_head_is_the_payee_s_and_between_heads_there_is_none() {
    let bank = TestBank::new(1);
    let (payee, credit) = bank.customer(1).await;
    let id = id();
    bank.post("/v1/transfers", noted(&id, "gl:1001", &credit, "cash from the till")).await.ok();
    let found = shown(&bank, &token_of(&bank, &payee), "gl:1001@0001", &credit, &id).await;
    assert_eq!(found, vec![(Value::from("cash from the till"), Value::Null)]);
    let heads = noted(&common::id(), "gl:1001@0001", "gl:1002@0001", "x");
    let answer = bank.post("/v1/transfers", heads).await;
    assert_eq!((answer.problem().as_str(), &answer.json()["field"]), ("invalid_field", &json!("note")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_note_is_named() {
    let bank = TestBank::new(1);
    let (debit, credit) = (bank.funded(1, "10.00").await, bank.funded(1, "0.01").await);
    for wrong in ["", &"é".repeat(141), "two\nlines", "nul\0"] {
        let answer = bank.post("/v1/transfers", noted(&id(), &debit, &credit, wrong)).await;
        assert_eq!((answer.problem().as_str(), &answer.json()["field"]), ("invalid_field", &json!("note")));
    }
    bank.post("/v1/transfers", noted(&id(), &debit, &credit, &"é".repeat(140))).await.ok();
    let missing = skerry_money::AccountNumber::new(1, 999).to_string();
    let answer = bank.post("/v1/transfers", noted(&id(), &missing, &credit, "x")).await;
    assert_eq!((answer.problem().as_str(), &answer.json()["field"]), ("account_not_found", &json!("debit")));
    let (stranger, _) = bank.customer(1).await;
    let stranger = token_of(&bank, &stranger);
    let wish = noted(&id(), &debit, &credit, "x");
    assert_eq!(bank.call_as(&stranger, "POST", "/v1/transfers", &wish).await.problem(), "out_of_scope");
    assert_eq!(bank.balance(&debit).await, "9.00");
}

#[tokio::test(flavor = "multi_thread")]
async fn notes_of_a_batch_are_sealed_each_for_itself() {
    let bank = TestBank::new(2);
    let (one, two) = (bank.funded(1, "10.00").await, bank.funded(2, "10.00").await);
    let (payee_one, payee_two) = (bank.funded(1, "0.01").await, bank.funded(2, "0.01").await);
    let ids: Vec<String> = (0..4).map(|_| id()).collect();
    let batch = json!({"transfers": [
        noted(&ids[0], &one, &payee_one, "first"),
        noted(&ids[1], &two, &payee_two, "second"),
        transfer(&ids[2], &one, &payee_one, "1.00"),
        noted(&ids[3], &one, &payee_one, "fourth"),
    ]});
    let done = bank.post("/v1/transfers/batch", batch.clone()).await.ok();
    assert_eq!(done["accepted"], 4, "{done}");
    assert_eq!(bank.post("/v1/transfers/batch", batch).await.ok()["results"][3]["repeated"], true);
    for (id, note) in [
        (&ids[0], json!("first")),
        (&ids[1], json!("second")),
        (&ids[2], Value::Null),
        (&ids[3], json!("fourth")),
    ] {
        assert_eq!(bank.get(&format!("/v1/transfers/{id}")).await.ok()["note"], note);
    }
    let wrong = json!({"transfers": [transfer(&id(), &one, &payee_one, "1.00"), noted(&id(), &one, &payee_one, "\u{7}")]});
    let answer = bank.post("/v1/transfers/batch", wrong).await;
    assert_eq!(
        (answer.problem().as_str(), &answer.json()["field"]),
        ("invalid_field", &json!("transfers[1].note"))
    );
    assert_eq!(bank.balance(&one).await, "7.00");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_and_audit_know_nothing_of_it_and_no_file_holds_it() {
    const NOTE: &str = "unmistakable 83 words";
    let bank = TestBank::new(1);
    let (debit, credit) = (bank.funded(1, "10.00").await, bank.funded(1, "0.01").await);
    bank.post("/v1/transfers", noted(&id(), &debit, &credit, NOTE)).await.ok();
    for path in ["/v1/events?after=", "/v1/audit?limit=100", "/v1/meters", "/metrics"] {
        let answer = bank.get(path).await;
        assert!(answer.status.is_success(), "{path}: {}", answer.status);
        let text = String::from_utf8(answer.bytes).unwrap();
        assert!(!text.contains(NOTE) && !text.contains("note"), "{path}: {text}");
    }
    let mut files = vec![bank.folder.clone()];
    let mut bytes = 0;
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            let read = std::fs::read(&path).unwrap();
            bytes += read.len();
            assert!(!read.windows(NOTE.len()).any(|window| window == NOTE.as_bytes()), "{}", path.display());
        }
    }
    assert!(bytes > 1_000, "files were searched");
}
