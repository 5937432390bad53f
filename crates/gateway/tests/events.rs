//! What happened, told: pages, waiting, streams, filters, and who may see what.
#![expect(clippy::unwrap_used, reason = "a test that fails may panic where it stands")]

mod common;
#[path = "common/receiver.rs"]
mod receiver;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{Request, Response};
use common::{TestBank, id, transfer};
use http_body_util::BodyExt;
use receiver::until;
use serde_json::{Value, json};
use skerry_gateway::events::TYPES;
use skerry_gateway::{Limits, NewToken};

/// All events after a cursor, page by page, and the cursor after them.
async fn all(bank: &TestBank, query: &str, after: &str) -> (Vec<Value>, String) {
    let (mut seen, mut after) = (Vec::new(), after.to_owned());
    loop {
        let page = bank.get(&format!("/v1/events?limit=7&after={after}{query}")).await.ok();
        page["next"].as_str().unwrap().clone_into(&mut after);
        seen.extend(page["events"].as_array().unwrap().clone());
        if page["more"] != true {
            return (seen, after);
        }
    }
}

fn names(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().unwrap().strip_prefix("skerry.").unwrap()).collect()
}

/// A day in the life of two accounts in one branch and one in another.
async fn story(bank: &TestBank) -> (String, String, String) {
    let ana = bank.funded(1, "10.00").await;
    let ben = bank.funded(1, "5.00").await;
    let far = bank.funded(2, "1.00").await;
    let mut hold = transfer(&id(), &ana, &ben, "2.00");
    hold["pending"] = true.into();
    hold["reference"] = "lodging 7".into();
    hold["note"] = "for Customer 1".into();
    let hold = bank.post("/v1/transfers", hold).await.ok()["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/accounts/{ana}/transfers/{hold}/post");
    bank.post(&path, json!({"id": id()})).await.ok();
    assert_eq!(bank.pay(&ana, &ben, "999.00").await.problem(), "insufficient_funds");
    let sent = transfer(&id(), &ana, &far, "1.00");
    bank.call("POST", "/v1/transfers", &sent, &[("prefer", "wait=20")]).await.ok();
    bank.post(&format!("/v1/accounts/{ben}/freeze"), json!({"sides": "both", "reason": 3})).await.ok();
    bank.post(&format!("/v1/accounts/{ben}/unfreeze"), json!({"sides": "both"})).await.ok();
    let limits = json!({"daily": {"amount": "100.00", "currency": "CNY"}});
    bank.call("PATCH", &format!("/v1/accounts/{ana}/limits"), &limits, &[]).await.ok();
    (ana, ben, far)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_story_is_told_as_cloudevents_about_its_accounts_without_personal_data() {
    let bank = TestBank::new(2);
    let (ana, _, far) = story(&bank).await;
    let (events, _) = all(&bank, &format!("&account={ana}"), "").await;
    let expected = [
        "account.opened",
        "transfer.posted",
        "transfer.held",
        "transfer.hold_posted",
        "transfer.refused",
        "payment.sent",
        "account.limits_changed",
    ];
    assert_eq!(names(&events), expected);
    for event in &events {
        assert_eq!((&event["specversion"], &event["subject"]), (&json!("1.0"), &json!(ana)), "{event}");
        assert_eq!((&event["source"], &event["partitionkey"]), (&json!("/branches/0001"), &json!(ana)));
        let position = event["data"]["position"].as_u64().unwrap();
        assert_eq!(event["id"], format!("0001-{position}"));
        assert_eq!(event["sequence"], format!("{position:020}"));
        assert!(event["time"].as_str().unwrap().ends_with('Z'));
        for (name, _) in event.as_object().unwrap() {
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()), "{name}");
        }
    }
    let paid = &events[5];
    assert_eq!(paid["data"]["amount"], json!({"amount": "1.00", "currency": "CNY"}));
    assert_eq!((&paid["data"]["debit"], &paid["data"]["credit"]), (&json!(ana), &json!(far)));
    assert_eq!(events[4]["data"]["reason"], "insufficient_funds");
    // One request is one trace, by the digest that the audit shows.
    let acts = bank.get(&format!("/v1/audit?account={ana}&act=account.limits_changed")).await.ok();
    let request = acts["acts"][0]["request"].as_str().unwrap();
    assert!(events[6]["traceparent"].as_str().unwrap().starts_with(&format!("00-{request}-")));
    let (events, _) = all(&bank, &format!("&account={far}"), "").await;
    assert_eq!(names(&events), ["account.opened", "transfer.posted", "payment.received"]);
    let (everything, _) = all(&bank, "", "").await;
    let text = serde_json::to_string(&everything).unwrap();
    for private in ["Customer ", "lodging", "chief", "reference", "note"] {
        assert!(!text.contains(private), "{private} in {text}");
    }
    let ids: BTreeSet<&str> = everything.iter().map(|event| event["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), everything.len(), "each once");
}

/// docs/events.md is the contract: it has a row for each type, and in the row each field that comes.
#[tokio::test(flavor = "multi_thread")]
async fn the_table_has_every_type_and_every_field() {
    let page = include_str!("../../../docs/events.md");
    let row = |kind: &str| page.lines().find(|line| line.starts_with(&format!("| `{kind}`")));
    for kind in TYPES {
        assert!(row(kind).is_some(), "docs/events.md has no row for {kind}");
    }
    let bank = TestBank::new(2);
    story(&bank).await;
    bank.call("PUT", "/v1/branches/1/policy", &json!({"four_eyes": ["limits"], "retention_days": 9}), &[])
        .await
        .ok();
    let (events, _) = all(&bank, "", "").await;
    let everywhere = ["position", "business_date"];
    for event in &events {
        let kind = event["type"].as_str().unwrap().strip_prefix("skerry.").unwrap();
        let row = row(kind).unwrap_or_else(|| panic!("{kind} came and is not in the table"));
        for (field, _) in event["data"].as_object().unwrap() {
            assert!(
                everywhere.contains(&field.as_str()) || row.contains(&format!("`{field}`")),
                "{field} of {kind} is not in its row"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_pass_what_they_name_and_refuse_what_nothing_has() {
    let bank = TestBank::new(2);
    story(&bank).await;
    let (some, _) = all(&bank, "&type=skerry.transfer,skerry.account.frozen&branch=1", "").await;
    let kinds: BTreeSet<&str> = names(&some).into_iter().collect();
    let expected =
        ["account.frozen", "transfer.held", "transfer.hold_posted", "transfer.posted", "transfer.refused"];
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), expected);
    for wrong in [
        "skerry.transfers",
        "skerry.trans",
        "transfer.posted",
        "skerry.transfer.posted.x",
        "skerry.transfer,",
    ] {
        let refused = bank.get(&format!("/v1/events?type={wrong}")).await;
        assert_eq!(refused.problem(), "event_type_unknown", "{wrong}");
    }
    assert_eq!(bank.get("/v1/events?after=1.1~1.2").await.problem(), "cursor_invalid");
    assert_eq!(bank.get("/v1/events?after=1.1000000&branch=1").await.problem(), "cursor_ahead");
    assert_eq!(bank.get("/v1/events?branch=9").await.problem(), "branch_not_found");
    assert_eq!(bank.get("/v1/events?account=x").await.problem(), "invalid_field");
    // One branch that the cursor is wrong for does not keep the others' events.
    let page = bank.get("/v1/events?after=1.1000000").await.ok();
    assert_eq!(page["unavailable"], json!([{"branch": 1, "code": "cursor_ahead"}]));
    assert!(page["events"].as_array().unwrap().iter().all(|event| event["source"] == "/branches/0002"));
    assert!(!page["events"].as_array().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_is_answered_when_something_happens() {
    let bank = TestBank::new(2);
    let ana = bank.funded(2, "10.00").await;
    let (_, mut end) = all(&bank, "", "").await;
    let waiting = async {
        // An answer may come early, and empty, if the book has told itself something.
        let begun = Instant::now();
        loop {
            assert!(begun.elapsed() < Duration::from_secs(120), "it is not waited for events");
            let path = format!("/v1/events?after={end}");
            let answer = bank.call("GET", &path, &Value::Null, &[("prefer", "wait=30")]).await;
            let page = answer.ok();
            page["next"].as_str().unwrap().clone_into(&mut end);
            if page["events"] != json!([]) {
                return answer;
            }
        }
    };
    let paying = async {
        // The one who waits is counted once it does.
        until("somebody waits", || bank.gateway.meters.streams.get() > 0).await;
        bank.pay("gl:1001", &ana, "1.00").await.ok();
    };
    let (answer, ()) = tokio::join!(waiting, paying);
    assert_eq!(answer.headers["preference-applied"], "wait=30");
    assert_eq!(names(answer.ok()["events"].as_array().unwrap()), ["transfer.posted"]);
    let nothing = bank
        .call(
            "GET",
            &format!("/v1/events?after={}", answer.json()["next"].as_str().unwrap()),
            &Value::Null,
            &[("prefer", "wait=1")],
        )
        .await;
    assert_eq!(nothing.ok()["events"], json!([]));
    assert_eq!(bank.gateway.meters.streams.get(), 0, "what was taken is given back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_sees_what_touches_them_and_nothing_else() {
    let bank = TestBank::new(2);
    let (customer, own) = bank.customer(1).await;
    let other = bank.funded(1, "10.00").await;
    bank.funded(2, "1.00").await;
    bank.pay(&other, &own, "3.00").await.ok();
    let token = bank.token(&NewToken {
        principal: "phone".into(),
        role: "customer".into(),
        customer: Some(customer.clone()),
        ..NewToken::default()
    });
    let page = bank.call_as(&token, "GET", "/v1/events?limit=1000", &Value::Null).await.ok();
    assert_eq!(
        names(page["events"].as_array().unwrap()),
        ["customer.opened", "account.opened", "transfer.posted"]
    );
    // An account that is opened while they read is theirs too.
    let mut stream = Stream::of(Stream::ask(&bank, &token, "/v1/events?after=now", None).await);
    let wish = json!({"product": "current", "currency": "CNY"});
    let second = bank.post(&format!("/v1/customers/{customer}/accounts"), wish).await.ok();
    bank.pay(&other, second["number"].as_str().unwrap(), "1.00").await.ok();
    bank.pay("gl:1001", &other, "1.00").await.ok();
    let path = format!("/v1/events?after={}", page["next"].as_str().unwrap());
    let page = bank.call_as(&token, "GET", &path, &Value::Null).await.ok();
    assert_eq!(names(page["events"].as_array().unwrap()), ["account.opened", "transfer.posted"]);
    let streamed = [stream.next().await.unwrap().1, stream.next().await.unwrap().1];
    assert_eq!(names(&streamed), ["account.opened", "transfer.posted"], "and in a stream");
    for path in ["/v1/events?branch=2".to_owned(), "/v1/events?account=gl:1001@0002".to_owned()] {
        assert_eq!(
            bank.call_as(&token, "GET", &path, &Value::Null).await.problem(),
            "out_of_scope",
            "{path}"
        );
    }
    let path = format!("/v1/events?account={other}");
    let page = bank.call_as(&token, "GET", &path, &Value::Null).await.ok();
    assert_eq!(
        names(page["events"].as_array().unwrap()),
        ["transfer.posted", "transfer.posted"],
        "those with them"
    );
    let blind = bank.token(&NewToken {
        principal: "blind".into(),
        role: "service".into(),
        operations: Some(vec![skerry_gateway::auth::Operation::AccountsRead]),
        ..NewToken::default()
    });
    assert_eq!(bank.call_as(&blind, "GET", "/v1/events", &Value::Null).await.problem(), "out_of_scope");
    let narrow = bank.token(&NewToken {
        principal: "narrow".into(),
        role: "service".into(),
        branches: Some(vec![2]),
        ..NewToken::default()
    });
    let page = bank.call_as(&narrow, "GET", "/v1/events", &Value::Null).await.ok();
    assert!(page["events"].as_array().unwrap().iter().all(|event| event["source"] == "/branches/0002"));
}

/// A stream as it comes: `(id, type)` of each event.
struct Stream {
    body: Body,
    text: String,
    /// All of it.
    heard: String,
}

impl Stream {
    async fn ask(bank: &TestBank, token: &str, path: &str, last: Option<&str>) -> Response<Body> {
        let mut request = Request::get(path)
            .header("authorization", format!("Bearer {token}"))
            .header("accept", "text/event-stream");
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        bank.front.clone().answer(request.body(Body::empty()).unwrap()).await
    }

    async fn open(bank: &TestBank, path: &str, last: Option<&str>) -> Self {
        Self::of(Self::ask(bank, &bank.operator, path, last).await)
    }

    fn of(response: Response<Body>) -> Self {
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { body: response.into_body(), text: String::new(), heard: String::new() }
    }

    /// The next event; nothing at the end of the stream.
    async fn next(&mut self) -> Option<(String, Value)> {
        let heard = tokio::time::timeout(Duration::from_secs(120), self.listen()).await;
        heard.expect("an event comes")
    }

    async fn listen(&mut self) -> Option<(String, Value)> {
        loop {
            while let Some((frame, rest)) = self.text.split_once("\n\n") {
                let (frame, rest) = (frame.to_owned(), rest.to_owned());
                self.text = rest;
                let line =
                    |name: &str| frame.lines().find_map(|line| line.strip_prefix(name).map(str::to_owned));
                if let (Some(id), Some(data)) = (line("id: "), line("data: ")) {
                    return Some((id, serde_json::from_str(&data).unwrap()));
                }
            }
            let frame = self.body.frame().await?.unwrap();
            let text = std::str::from_utf8(frame.data_ref().unwrap()).unwrap();
            self.text.push_str(text);
            self.heard.push_str(text);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_goes_on_where_it_broke() {
    let bank = TestBank::new(2);
    let ana = bank.funded(1, "10.00").await;
    let (whole, _) = all(&bank, "", "").await;
    let mut stream = Stream::open(&bank, "/v1/events", None).await;
    let mut seen = Vec::new();
    let mut last = String::new();
    for _ in 0..whole.len() / 2 {
        let (id, event) = stream.next().await.unwrap();
        seen.push(event);
        last = id;
    }
    drop(stream);
    let mut stream = Stream::open(&bank, "/v1/events", Some(&last)).await;
    while seen.len() < whole.len() {
        seen.push(stream.next().await.unwrap().1);
    }
    let ids = |events: &[Value]| events.iter().map(|event| event["id"].to_string()).collect::<BTreeSet<_>>();
    assert_eq!(ids(&seen), ids(&whole), "each once, none left out");
    bank.pay("gl:1001", &ana, "1.00").await.ok();
    assert_eq!(names(&[stream.next().await.unwrap().1]), ["transfer.posted"], "and as it happens");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_from_a_cursor_that_no_branch_knows_is_refused_or_says_so() {
    let bank = TestBank::new(2);
    for (path, code) in [
        ("/v1/events?after=nonsense", "cursor_invalid"),
        ("/v1/events?after=1.1~9.1", "cursor_invalid"),
        ("/v1/events?branch=1&after=1.1000000", "cursor_ahead"),
        ("/v1/events?branch=1&after=1.1.9", "cursor_ahead"),
    ] {
        let refused = Stream::ask(&bank, &bank.operator, path, None).await;
        assert_eq!(refused.headers()["content-type"], "application/problem+json", "{path}");
        let text = refused.into_body().collect().await.unwrap().to_bytes();
        assert!(String::from_utf8_lossy(&text).contains(code), "{path}: {text:?}");
    }
    let mut stream = Stream::open(&bank, "/v1/events?after=1.1000000", None).await;
    stream.next().await.unwrap();
    assert!(
        stream.heard.contains("branch 1 cursor_ahead"),
        "the other branch's events come: {}",
        stream.heard
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_bounded_and_end_with_their_token() {
    let limits = Limits { event_streams: 3, event_streams_each: 2, ..Limits::default() };
    let bank = TestBank::with_limits(1, limits);
    let open = async |token: &str| Stream::ask(&bank, token, "/v1/events", None).await;
    let (auditor, till) = (bank.role("auditor", "auditor"), bank.role("till-1", "service"));
    let mut streams = vec![open(&auditor).await, open(&auditor).await];
    assert_eq!(open(&auditor).await.status(), 503, "one principal has its share");
    streams.push(open(&till).await);
    assert!(streams.iter().all(|stream| stream.status() == 200));
    assert_eq!(open(&bank.operator).await.status(), 503, "and all have theirs");
    let tokens = bank.gateway.tokens.list();
    let mine = tokens.iter().find(|token| token.principal == "till-1").unwrap();
    bank.gateway.tokens.revoke(&mine.id, None, 1).unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(120), streams.pop().unwrap().into_body().collect());
    let ended = ended.await.expect("a stream ends with its token").unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&ended).contains("token is not good any more"));
    drop(streams);
    until("all are given back", || bank.gateway.meters.streams.get() == 0).await;
    assert_eq!(open(&bank.operator).await.status(), 200, "what was taken is given back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_who_takes_nothing_is_dropped_and_loses_nothing() {
    let limits = Limits {
        event_stall: Duration::from_millis(50),
        request: Duration::from_secs(30),
        ..Limits::default()
    };
    let bank = TestBank::with_limits(1, limits);
    let ana = bank.funded(1, "10.00").await;
    let transfers: Vec<Value> = (0..1_500).map(|_| transfer(&id(), "gl:1001", &ana, "0.01")).collect();
    bank.post("/v1/transfers/batch", json!({"transfers": transfers})).await.ok();
    let mut stream = Stream::open(&bank, "/v1/events?type=skerry.transfer", None).await;
    until("it is cut off", || bank.gateway.meters.streams_dropped.get() > 0).await;
    let (mut seen, mut last) = (Vec::new(), String::new());
    while let Some((id, event)) = stream.next().await {
        seen.push(event["id"].to_string());
        last = id;
    }
    assert!(!seen.is_empty() && seen.len() < 1_000, "it was cut: {}", seen.len());
    // On a busy machine even a reader who takes everything may be cut off now and then: it goes on again.
    while seen.len() < 1_501 {
        let mut stream = Stream::open(&bank, "/v1/events?type=skerry.transfer", Some(&last)).await;
        while seen.len() < 1_501
            && let Some((id, event)) = stream.next().await
        {
            seen.push(event["id"].to_string());
            last = id;
        }
    }
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), 1_501, "each once, none left out");
}
