//! Rubbish in: a problem document each, no panic, and the bank goes on.
#![expect(clippy::unwrap_used, reason = "a test that fails may panic where it stands")]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use common::{Bank, Folder, assert_balanced, balance, block_on, open_account, problem, transfer, uuid7};
use hyper::Method;
use serde_json::{Value, json};

#[test]
fn every_kind_of_rubbish_gets_a_problem_document() {
    let folder = Folder::new("rubbish");
    let bank = Bank::start(&folder.data(), &["--branches", "2"]);
    block_on(async {
        let client = bank.client();
        let (_, one) = open_account(&client, "Customer 1").await;
        let (_, two) = open_account(&client, "Customer 2").await;
        let (_, three) = open_account(&client, "Customer 3").await;
        let other = if one[..4] == two[..4] { two.clone() } else { three.clone() };
        // Branch 9 is not there; its check digits are right (ISO 7064, MOD 97-10).
        let body = 9 * 10_u64.pow(10) + 1;
        let foreign = format!("{body:014}{:02}", 98 - body * 100 % 97);
        let _funded: Value =
            client.post("/v1/transfers", &transfer(&uuid7(), "gl:1001", &one, "100.00")).await.unwrap();

        let good = transfer(&uuid7(), &one, &other, "1.00");
        let with = |field: &str, value: Value| {
            let mut body = good.clone();
            body["id"] = json!(uuid7());
            body[field] = value;
            body
        };
        let money = |amount: Value| json!({"amount": amount, "currency": "CNY"});
        let wrong_check = format!("{}{}", &one[..15], (one.as_bytes()[15] - b'0' + 1) % 10);
        let future = "0fffffff-ffff-7000-8000-000000000001";
        let cases: Vec<(&str, Value, &str)> = vec![
            ("a negative amount", with("amount", money(json!("-1.00"))), "amount"),
            ("no amount at all", with("amount", money(json!("0"))), "amount"),
            ("a float", with("amount", money(json!(1.5))), "amount"),
            ("too many decimals", with("amount", money(json!("1.005"))), "amount"),
            ("a huge amount", with("amount", money(json!("999999999999999999999999"))), "amount"),
            ("an unknown currency", with("amount", json!({"amount": "1", "currency": "ZZZ"})), "currency"),
            ("a wrong type", with("debit", json!(7)), "debit"),
            ("an account with a wrong digit", with("debit", json!(wrong_check)), "debit"),
            ("an unknown head", with("debit", json!("gl:8888888")), "debit"),
            ("the same account twice", with("credit", json!(one)), "credit"),
            ("an unknown field", with("colour", json!("red")), "colour"),
            ("an id that is no UUID", with("id", json!("7")), "id"),
            ("an id of another version", with("id", json!("01939f2c-7a3b-4cde-8f01-23456789abcd")), "id"),
            ("an id from the far future", with("id", json!(future)), "id"),
            ("another branch", with("credit", json!(foreign)), "credit"),
        ];
        for (what, body, field) in cases {
            let problem = problem(client.post::<_, Value>("/v1/transfers", &body).await);
            assert!((400..500).contains(&problem.status), "{what}: {problem:?}");
            assert!(
                !problem.code.is_empty() && !problem.title.is_empty() && !problem.kind.is_empty(),
                "{what}: {problem:?}"
            );
            let said = format!(
                "{} {}",
                problem.field.clone().unwrap_or_default(),
                problem.detail.clone().unwrap_or_default()
            );
            assert!(said.contains(field), "{what}: {field} is not named in {problem:?}");
        }
        let crossing =
            problem(client.post::<_, Value>("/v1/transfers", &with("credit", json!(foreign))).await);
        assert_eq!(crossing.code, "peer_unknown");

        for body in ["", "{", "[]", "null", "{\"id\":", "\u{0}", "[[[[[[[[[[[[[[[["] {
            let answer = client
                .call(
                    Method::POST,
                    "/v1/transfers",
                    Some("application/json"),
                    body.as_bytes().to_vec().into(),
                    &[],
                )
                .await;
            assert_eq!(problem(answer).status, 400, "{body:?}");
        }
        for (path, status) in [("/v1/nothing", 404), ("/v1/accounts/12", 400), ("/v1/customers/c9", 400)] {
            assert_eq!(problem(client.get::<Value>(path).await).status, status, "{path}");
        }
        let odd = client
            .call(
                Method::POST,
                "/v1/transfers/batch",
                Some("application/vnd.skerry.transfers"),
                vec![0; 95].into(),
                &[],
            )
            .await;
        assert_eq!(problem(odd).status, 400);
        for token in ["", "x", "sk_unknown", &"a".repeat(5000)] {
            let stranger = bank.client_with(token);
            let refused = stranger.get::<Value>("/v1/branches").await;
            let status = problem(refused).status;
            assert!(status == 401 || status == 431 || status == 400, "{token:.20}: {status}");
        }
        assert_eq!(balance(&client, &one).await, "100.00", "nothing of all this moved money");
        assert_balanced(&client).await;
    });
    assert!(!bank.log().contains("panicked"), "{}", bank.log());
}

#[test]
fn a_body_of_a_hundred_megabytes_is_refused_and_takes_no_memory() {
    let folder = Folder::new("body");
    let bank = Bank::start(&folder.data(), &["--branches", "1"]);
    let token = std::fs::read_to_string(bank.data.join("operator.token")).unwrap();
    let mut stream = TcpStream::connect(bank.server.trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let head = format!(
        "POST /v1/transfers HTTP/1.1\r\nhost: bank\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
         content-length: 104857600\r\n\r\n",
        token.trim()
    );
    stream.write_all(head.as_bytes()).unwrap();
    let block = vec![b' '; 1 << 16];
    for _ in 0..1600 {
        stream.write_all(&block).expect("the bank reads it away, so that who sends first hears the answer");
    }
    let mut text = String::new();
    let mut part = [0; 4096];
    while !text.contains("body_too_large") {
        let count = stream.read(&mut part).unwrap();
        assert!(count > 0, "closed after {text:?}");
        text.push_str(&String::from_utf8_lossy(&part[..count]));
    }
    assert!(text.starts_with("HTTP/1.1 413"), "{text}");
    let status = std::fs::read_to_string(format!("/proc/{}/status", bank.process())).unwrap();
    let peak: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok())
        .unwrap();
    assert!(peak < 900 * 1024, "the bank took {peak} kB");
}

/// What `/metrics` says under this name.
async fn figure(client: &skerry_client::Client, name: &str) -> u64 {
    let answer = client.call(Method::GET, "/metrics", None, bytes::Bytes::new(), &[]).await.unwrap();
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")).map(str::to_owned));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).trim().parse().unwrap()
}

/// As many idle connections as are asked for, or as the system's hard limit of open files allows, said aloud.
fn idle_connections(asked: u64) -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let maximum = limit.maximum.unwrap_or(u64::MAX);
    let current = Some(maximum.min(asked + 1_000).max(limit.current.unwrap_or(u64::MAX)));
    setrlimit(Resource::Nofile, Rlimit { current, maximum: limit.maximum }).unwrap();
    // The bank, another process under the same hard limit, needs some for its own files.
    let allowed = asked.min(maximum.saturating_sub(1_500));
    if allowed < asked {
        eprintln!("only {allowed} of {asked} idle connections: the hard limit of open files is {maximum}");
    }
    allowed
}

#[test]
fn ten_thousand_idle_connections_cost_a_stated_amount_and_do_not_keep_others_out() {
    let idle = idle_connections(10_000);
    let folder = Folder::new("idle");
    let bank = Bank::start(&folder.data(), &["--branches", "1"]);
    let memory = || -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", bank.process())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    };
    block_on(async {
        let client = bank.client();
        let (_, one) = open_account(&client, "Customer 1").await;
        let stated = figure(&client, "skerry_http_connection_bytes_max").await;
        let before = memory();
        let address = bank.server.trim_start_matches("http://").to_owned();
        let open: Vec<TcpStream> = (0..idle).map(|_| TcpStream::connect(&address).unwrap()).collect();
        let until = std::time::Instant::now() + Duration::from_secs(60);
        while figure(&client, "skerry_http_connections").await < idle {
            assert!(std::time::Instant::now() < until, "the bank holds not all of them");
        }
        let _paid: Value =
            client.post("/v1/transfers", &transfer(&uuid7(), "gl:1001", &one, "1.00")).await.unwrap();
        assert_eq!(balance(&client, &one).await, "1.00");
        let each = memory().saturating_sub(before) / idle;
        eprintln!("{idle} idle connections took {each} bytes each; {stated} are stated");
        assert!(each < stated, "{each} bytes an idle connection, {stated} stated");
        drop(open);
        while figure(&client, "skerry_http_connections").await >= idle {
            assert!(std::time::Instant::now() < until, "closed connections are still held");
        }
    });
    assert!(!bank.log().contains("could not accept"), "{}", bank.log());
}
