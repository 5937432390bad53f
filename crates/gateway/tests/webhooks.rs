//! Receivers that are called: signed, in order, until they have it, and left alone when there is no sense in it.
#![expect(clippy::unwrap_used, reason = "a test that fails may panic where it stands")]

mod common;
#[path = "common/receiver.rs"]
mod receiver;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{TestBank, id, transfer};
use hmac::{Hmac, Mac};
use receiver::{Answer, Call, Receiver, until};
use serde_json::{Value, json};
use sha2::Sha256;
use skerry_gateway::webhooks::{Retries, Settings};
use skerry_gateway::{NewToken, oidc};

fn quick() -> Settings {
    let first = Duration::from_millis(2);
    let retries = Retries { first, most: Duration::from_millis(20), give_up: Duration::from_secs(3_600) };
    // However busy the machine is, whoever answers is waited for.
    Settings { retries, timeout: Duration::from_secs(60), ..Settings::default() }
}

fn bank(branches: u16, settings: Settings) -> TestBank {
    let bank = TestBank::new(branches);
    bank.gateway.begin_webhooks(settings).unwrap();
    bank
}

async fn make(bank: &TestBank, receiver: &Receiver, more: Value) -> (String, String) {
    let mut wish = json!({"url": receiver.url(), "after": ""});
    wish.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let made = bank.post("/v1/webhooks", wish).await.ok();
    (made["id"].as_str().unwrap().to_owned(), made["secret"].as_str().unwrap().to_owned())
}

async fn look(bank: &TestBank, id: &str) -> Value {
    bank.get(&format!("/v1/webhooks/{id}")).await.ok()
}

async fn until_shown(bank: &TestBank, id: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let begun = std::time::Instant::now();
    loop {
        let shown = look(bank, id).await;
        if is_so(&shown) {
            return shown;
        }
        assert!(begun.elapsed() < Duration::from_secs(120), "it never came about: {shown}");
        tokio::time::sleep(Duration::from_millis(5)).await; // between two looks
    }
}

async fn all_ids(bank: &TestBank) -> BTreeSet<String> {
    let (mut ids, mut after) = (BTreeSet::new(), String::new());
    loop {
        let page = bank.get(&format!("/v1/events?limit=1000&after={after}")).await.ok();
        page["next"].as_str().unwrap().clone_into(&mut after);
        let events = page["events"].as_array().unwrap();
        ids.extend(events.iter().map(|event| event["id"].as_str().unwrap().to_owned()));
        if page["more"] != true {
            return ids;
        }
    }
}

fn ids(calls: &[Call]) -> BTreeSet<String> {
    calls.iter().map(|call| call.id().to_owned()).collect()
}

fn signature(secret: &str, call: &Call) -> String {
    let plain = |text: &str| text.trim_end_matches('=').replace('+', "-").replace('/', "_");
    let key = oidc::jwt::base64url(&plain(secret.strip_prefix("whsec_").unwrap())).unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
    mac.update(format!("{}.{}.", call.id(), call.head["webhook-timestamp"]).as_bytes());
    mac.update(&call.body);
    skerry_gateway::text::hex(&mac.finalize().into_bytes())
}

fn signatures(call: &Call) -> Vec<String> {
    let plain = |text: &str| text.trim_end_matches('=').replace('+', "-").replace('/', "_");
    let each = call.head["webhook-signature"].split(' ').map(|one| one.strip_prefix("v1,").unwrap());
    each.map(|one| skerry_gateway::text::hex(&oidc::jwt::base64url(&plain(one)).unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_is_posted_once_and_signed() {
    let bank = bank(2, quick());
    bank.funded(1, "10.00").await;
    let receiver = Receiver::new(|_| Answer::Status(204));
    let (hook, secret) = make(&bank, &receiver, json!({})).await;
    bank.funded(2, "10.00").await;
    let expected = all_ids(&bank).await;
    until("all are there", || ids(&receiver.calls()) == expected).await;
    let calls = receiver.calls();
    assert_eq!(calls.len(), expected.len(), "none twice");
    for call in &calls {
        assert_eq!(call.head["content-type"], "application/cloudevents+json; charset=utf-8");
        assert_eq!((call.path.as_str(), call.id()), ("/hooks", call.event()["id"].as_str().unwrap()));
        assert_eq!(signatures(call), [signature(&secret, call)]);
    }
    let shown = until_shown(&bank, &hook, |shown| shown["lag_records"] == 0).await;
    assert_eq!((&shown["delivered"], &shown["failures"]), (&json!(calls.len()), &json!(0)));
    let metrics = String::from_utf8(bank.get("/metrics").await.bytes).unwrap();
    assert!(
        metrics.contains(&format!("skerry_webhook_deliveries_total{{webhook=\"{hook}\"}} {}", calls.len()))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_shown_once_and_rotate_with_an_overlap() {
    let bank = bank(1, quick());
    let receiver = Receiver::new(|_| Answer::Status(200));
    let (hook, old) = make(&bank, &receiver, json!({"after": "now"})).await;
    let rotated = bank.post(&format!("/v1/webhooks/{hook}/rotate"), Value::Null).await.ok();
    let new = rotated["secret"].as_str().unwrap().to_owned();
    assert_ne!(old, new);
    bank.funded(1, "10.00").await;
    until("something came", || receiver.count() > 0).await;
    let call = &receiver.calls()[0];
    assert_eq!(signatures(call), [signature(&new, call), signature(&old, call)]);
    let kept = std::fs::read_to_string(bank.folder.join("webhooks.json")).unwrap();
    let told = [bank.get("/v1/webhooks").await.ok().to_string(), look(&bank, &hook).await.to_string(), kept];
    for (secret, text) in
        [&old, &new].into_iter().flat_map(|secret| told.iter().map(move |text| (secret, text)))
    {
        assert!(!text.contains(secret.strip_prefix("whsec_").unwrap()) && !text.contains("whsec_"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn order_holds_for_each_account_while_several_are_on_their_way() {
    let bank = bank(1, quick());
    let accounts = [bank.funded(1, "1.00").await, bank.funded(1, "1.00").await, bank.funded(1, "1.00").await];
    // Some are refused, some hang a moment: whoever is sent too early overtakes.
    let count = AtomicUsize::new(0);
    let receiver = Receiver::new(move |_| {
        let nth = count.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(u64::try_from(nth % 4).unwrap())); // a slow receiver
        Answer::Status(if nth % 11 == 7 { 500 } else { 200 })
    });
    make(&bank, &receiver, json!({"types": ["skerry.transfer"]})).await;
    let transfers: Vec<Value> =
        (0..150).map(|nth| transfer(&id(), "gl:1001", &accounts[nth * nth % 3], "0.01")).collect();
    bank.post("/v1/transfers/batch", json!({"transfers": transfers})).await.ok();
    let mut last = BTreeMap::new();
    until("all are there", || ids(&receiver.calls()).len() == 153).await;
    let mut seen = BTreeSet::new();
    for call in receiver.calls() {
        let event = call.event();
        let account = event["subject"].as_str().unwrap().to_owned();
        let position = event["data"]["position"].as_u64().unwrap();
        let before = last.insert(account, position).unwrap_or(0);
        assert!(before <= position, "{position} came after {before}");
        seen.insert(position);
    }
    assert_eq!(seen.len(), 153);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_is_tried_until_it_is_taken_and_nothing_overtakes_it() {
    let bank = bank(1, Settings { timeout: Duration::from_millis(500), ..quick() });
    let ana = bank.funded(1, "1.00").await;
    let receiver = Receiver::new(|_| Answer::Status(500));
    let (hook, _) = make(&bank, &receiver, json!({"types": ["skerry.transfer"]})).await;
    let failing = |shown: &Value| {
        let failing = &shown["failing"];
        failing["attempts"].as_u64().unwrap_or(0) > 3 && failing["detail"] == "the receiver answered 500"
    };
    assert_eq!(until_shown(&bank, &hook, failing).await["enabled"], true);
    bank.pay("gl:1001", &ana, "1.00").await.ok();
    // Redirects are not followed, silence is not waited for, a flood is not read.
    let elsewhere = Receiver::new(|_| Answer::Status(200));
    let to = elsewhere.url();
    receiver.answer(move |_| Answer::With(307, "location", to.clone()));
    until_shown(&bank, &hook, |shown| shown["failing"]["detail"] == "redirects are not followed: 307").await;
    assert_eq!(elsewhere.count(), 0);
    receiver.answer(|_| Answer::Hang);
    until_shown(&bank, &hook, |shown| shown["failing"]["detail"] == "no answer within 500 ms").await;
    assert!(receiver.calls().windows(2).all(|pair| pair[0].id() == pair[1].id()), "it alone is tried");
    receiver.answer(|_| Answer::Flood);
    let shown = until_shown(&bank, &hook, |shown| shown["delivered"] == 2).await;
    assert!(shown["failing"].is_null() && shown["failures"].as_u64().unwrap() > 5, "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_wants_no_more_is_left_alone_until_enabled_and_then_gets_everything() {
    let bank = bank(1, quick());
    let ana = bank.funded(1, "1.00").await;
    let receiver = Receiver::new(|_| Answer::Status(410));
    let (hook, _) = make(&bank, &receiver, json!({})).await;
    let shown = until_shown(&bank, &hook, |shown| shown["enabled"] == false).await;
    assert_eq!(shown["disabled"]["reason"], "gone");
    receiver.answer(|_| Answer::Status(200));
    let before = all_ids(&bank).await;
    bank.pay("gl:1001", &ana, "1.00").await.ok();
    // A test goes out all the same, and means nothing.
    let tested = bank.post(&format!("/v1/webhooks/{hook}/test"), Value::Null).await.ok();
    assert_eq!(tested["delivered"], true, "{tested}");
    // What was on its way with the one that was refused may come yet, but nothing new.
    let calls = receiver.calls();
    let (tests, others): (Vec<_>, Vec<_>) = calls.iter().partition(|call| call.id().starts_with("test-"));
    assert_eq!(tests.len(), 1);
    assert_eq!(tests[0].event()["type"], "skerry.webhook.test");
    assert!(others.iter().all(|call| before.contains(call.id())), "{:?}", ids(&calls));
    receiver.forget();
    bank.post(&format!("/v1/webhooks/{hook}/enable"), Value::Null).await.ok();
    let expected = all_ids(&bank).await;
    until("all are there", || ids(&receiver.calls()) == expected).await;
    // Again, from the beginning, under the same ids.
    receiver.forget();
    bank.post(&format!("/v1/webhooks/{hook}/replay"), json!({"after": ""})).await.ok();
    until("all come again", || ids(&receiver.calls()) == expected).await;
    let off = bank.post(&format!("/v1/webhooks/{hook}/disable"), Value::Null).await.ok();
    assert_eq!(off["disabled"]["reason"], "operator");
    bank.call("DELETE", &format!("/v1/webhooks/{hook}"), &Value::Null, &[]).await.ok();
    assert_eq!(bank.get(&format!("/v1/webhooks/{hook}")).await.problem(), "not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_long_enough_it_is_given_up_with_the_reason_shown() {
    let settings = quick();
    let retries = Retries { give_up: Duration::ZERO, ..settings.retries };
    let bank = bank(1, Settings { retries, ..settings });
    let receiver = Receiver::new(|_| Answer::Status(503));
    let (hook, _) = make(&bank, &receiver, json!({})).await;
    let shown = until_shown(&bank, &hook, |shown| shown["enabled"] == false).await;
    assert_eq!(shown["disabled"]["reason"], "gave_up");
    assert!(shown["disabled"]["detail"].as_str().unwrap().contains("503"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_are_checked_bounded_and_the_operators() {
    let bank = bank(2, Settings { endpoints_max: 2, ..quick() });
    let receiver = Receiver::new(|_| Answer::Status(200));
    let post = async |body: Value| bank.post("/v1/webhooks", body).await;
    assert_eq!(post(json!({"url": "http://shop.example/"})).await.problem(), "webhook_invalid");
    assert_eq!(post(json!({"url": receiver.url(), "branches": []})).await.problem(), "webhook_invalid");
    assert_eq!(post(json!({"url": receiver.url(), "branches": [9]})).await.problem(), "branch_not_found");
    assert_eq!(
        post(json!({"url": receiver.url(), "types": ["skerry.x"]})).await.problem(),
        "event_type_unknown"
    );
    for (after, code) in [("x", "cursor_invalid"), ("9.1", "cursor_invalid"), ("2.1000000", "cursor_ahead")] {
        assert_eq!(post(json!({"url": receiver.url(), "after": after})).await.problem(), code, "{after}");
    }
    for nowhere in ["https://10.0.0.1/", "https://169.254.169.254/", "https://[::ffff:192.168.0.1]/"] {
        assert_eq!(post(json!({"url": nowhere})).await.problem(), "webhook_invalid", "{nowhere}");
    }
    let (hook, _) = make(&bank, &receiver, json!({"branches": [1]})).await;
    let (auditor, till) = (bank.role("auditor", "auditor"), bank.role("till-1", "service"));
    let listed = bank.call_as(&auditor, "GET", "/v1/webhooks", &Value::Null).await.ok();
    assert_eq!(listed["webhooks"][0]["id"], hook.as_str());
    let wish = json!({"url": receiver.url()});
    assert_eq!(bank.call_as(&auditor, "POST", "/v1/webhooks", &wish).await.problem(), "forbidden");
    assert_eq!(bank.call_as(&till, "GET", "/v1/webhooks", &Value::Null).await.problem(), "forbidden");
    let narrow = bank.token(&NewToken {
        principal: "branch-2".into(),
        role: "operator".into(),
        branches: Some(vec![2]),
        ..NewToken::default()
    });
    let listed = bank.call_as(&narrow, "GET", "/v1/webhooks", &Value::Null).await.ok();
    assert_eq!(listed["webhooks"], json!([]), "not theirs to see");
    assert_eq!(
        bank.call_as(&narrow, "DELETE", &format!("/v1/webhooks/{hook}"), &Value::Null).await.problem(),
        "out_of_scope"
    );
    assert_eq!(bank.call_as(&narrow, "POST", "/v1/webhooks", &wish).await.problem(), "out_of_scope");
    let own = json!({"url": receiver.url(), "branches": [2]});
    bank.call_as(&narrow, "POST", "/v1/webhooks", &own).await.ok();
    assert_eq!(post(wish).await.problem(), "webhooks_full");
}
