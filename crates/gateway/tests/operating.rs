//! What operators and auditors do: imports, audit, events, four eyes, tokens, reports, machines.
#![expect(clippy::unwrap_used, reason = "a test that fails may panic where it stands")]

mod common;

use common::{Answer, TestBank, id, transfer};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn an_import_happens_once_and_says_so() {
    let bank = TestBank::new(2);
    let customers = json!({"customers": (1..=6).map(|n| json!({
        "cause": format!("client/{n}"),
        "name": format!("Customer {n}"),
        "document": {"kind": "client", "number": n.to_string()},
        "opened": "1993-01-01",
    })).collect::<Vec<_>>()});
    let first = bank.post("/v1/import/customers", customers.clone()).await.ok();
    assert_eq!((first["new"].clone(), first["refused"].clone()), (json!(6), json!(0)), "{first}");
    let second = bank.post("/v1/import/customers", customers).await.ok();
    assert_eq!((second["new"].clone(), second["repeated"].clone()), (json!(0), json!(6)), "{second}");
    let ids: Vec<&str> =
        first["results"].as_array().unwrap().iter().map(|one| one["customer"].as_str().unwrap()).collect();
    let again: Vec<&str> =
        second["results"].as_array().unwrap().iter().map(|one| one["customer"].as_str().unwrap()).collect();
    assert_eq!(ids, again);

    let accounts = json!({"accounts": ids.iter().enumerate().map(|(n, id)| json!({
        "cause": format!("client/{n}"), "customer": id, "product": "current", "currency": "CNY",
        "opened": "1993-02-01", "floor": {"amount": "-500.00", "currency": "CNY"},
    })).collect::<Vec<_>>()});
    let first = bank.post("/v1/import/accounts", accounts.clone()).await.ok();
    assert_eq!((first["new"].clone(), first["refused"].clone()), (json!(6), json!(0)), "{first}");
    let second = bank.post("/v1/import/accounts", accounts.clone()).await.ok();
    assert_eq!(second["repeated"], 6, "{second}");
    let other = bank.role("till-2", "operator");
    let third = bank.call_as(&other, "POST", "/v1/import/accounts", &accounts).await.ok();
    assert_eq!(third["repeated"], 6, "whoever imports again: {third}");
    let item = &accounts["accounts"][0];
    let own = json!({"product": "current", "currency": "CNY"});
    let claim = [("idempotency-key", "import:account:client/0")];
    let path = format!("/v1/customers/{}/accounts", item["customer"].as_str().unwrap());
    let opened = bank.call("POST", &path, &own, &claim).await;
    assert_eq!(opened.status, 201, "a client's key of that name is another: {}", opened.json());
    let numbers: Vec<&str> =
        first["results"].as_array().unwrap().iter().map(|one| one["account"].as_str().unwrap()).collect();
    assert_eq!(numbers.iter().map(|number| &number[..4]).collect::<std::collections::BTreeSet<_>>().len(), 2);

    let line = |n: usize, cause: &str, day: &str, debit: &str, credit: &str| {
        json!({
            "cause": cause, "debit": debit, "credit": credit, "amount": {"amount": format!("{n}.50"), "currency": "CNY"},
            "time": format!("{day}T10:00:00Z"), "business_date": day, "code": 3, "reference": "salary",
        })
    };
    let transfers = json!({"transfers": [
        line(10, "trans/1", "1993-03-01", "gl:1001", numbers[0]),
        line(20, "trans/2", "1993-03-01", "gl:1001", numbers[1]),
        line(5, "trans/3", "1993-03-05", numbers[0], "gl:1001"),
        line(7, "trans/4", "1993-03-02", numbers[0], "gl:1001"),
    ]});
    let first = bank.post("/v1/import/transfers", transfers.clone()).await.ok();
    assert_eq!((first["new"].clone(), first["refused"].clone()), (json!(3), json!(1)), "{first}");
    assert_eq!(first["results"][3]["problem"]["code"], "import_debit_backwards");
    let second = bank.post("/v1/import/transfers", transfers).await.ok();
    assert_eq!(second["repeated"], 3, "{second}");
    let entries = bank.get(&format!("/v1/accounts/{}/entries?order=asc", numbers[0])).await.ok();
    assert_eq!(entries["entries"][1]["balance"]["amount"], "5.00");
    assert_eq!(entries["entries"][0]["imported_at"], "1993-03-01T10:00:00Z");
    let then = bank.get(&format!("/v1/accounts/{}/balance?booked=1993-03-04", numbers[0])).await.ok();
    assert_eq!(then["balance"]["amount"], "10.50");
    let trial = bank.get("/v1/trial-balance?date=1993-03-01").await.ok();
    assert_eq!(trial["totals"][0]["closing"]["amount"], "0.00");

    let service = bank.role("app", "service");
    let answer = bank.call_as(&service, "POST", "/v1/import/customers", &json!({"customers": []})).await;
    assert_eq!(answer.problem(), "forbidden");
    let bad =
        json!({"customers": [{"cause": "has space", "name": "X", "document": {"kind": "a", "number": "1"}}]});
    assert_eq!(bank.post("/v1/import/customers", bad).await.json()["field"], "customers[0].cause");
}

/// Also when nothing comes of it: these branches have no cold folder.
#[tokio::test(flavor = "multi_thread")]
async fn the_audit_says_who_ordered_an_archiving() {
    let bank = TestBank::new(2);
    let keeper = bank.role("keeper-3", "operator");
    let path = "/v1/branches/2/archive";
    for wish in [json!({"position": 7}), json!({"date": "2026-01-01"})] {
        assert_eq!(bank.call_as(&keeper, "POST", path, &wish).await.problem(), "not_archived");
    }
    let both = json!({"position": 7, "date": "2026-01-01"});
    assert_eq!(bank.call_as(&keeper, "POST", path, &both).await.problem(), "invalid_field");
    let till = bank.role("till-1", "service");
    assert_eq!(bank.call_as(&till, "POST", path, &json!({"position": 8})).await.problem(), "forbidden");
    for _ in 0..2 {
        let key = [("idempotency-key", "new-year")];
        assert_eq!(bank.call("POST", path, &json!({"position": 9}), &key).await.problem(), "not_archived");
    }
    let found = bank.get("/v1/audit?act=branch.archive_ordered").await.ok();
    let acts = found["acts"].as_array().unwrap();
    let told: Vec<_> = acts.iter().map(|act| (act["branch"].clone(), act["principal"].clone())).collect();
    assert_eq!(told[..2], [(json!(2), json!("keeper-3")), (json!(2), json!("keeper-3"))], "{found}");
    assert_eq!(told.len(), 3, "under one key once: {found}");
    let events = bank.get("/v1/events?branch=2&type=skerry.branch.archive_ordered").await.ok();
    let data: Vec<_> =
        events["events"].as_array().unwrap().iter().map(|event| event["data"].clone()).collect();
    assert_eq!((&data[0]["before"], &data[2]["before"]), (&json!(7), &json!(9)));
    assert_eq!(data[1]["before_date"], "2026-01-01");
    assert_eq!(data.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_says_who_did_what() {
    let bank = TestBank::new(2);
    let ana = bank.funded(1, "10.00").await;
    let far = bank.funded(2, "10.00").await;
    let teller = bank.role("teller-7", "service");
    let ben = bank.funded(1, "0.01").await;
    bank.call_as(&teller, "POST", "/v1/transfers", &transfer(&id(), &ana, &ben, "1.00")).await.ok();
    bank.post(&format!("/v1/accounts/{ana}/freeze"), json!({"sides": "both", "reason": 3})).await.ok();
    let acts = async |query: &str| -> Vec<Value> {
        bank.get(&format!("/v1/audit?{query}")).await.ok()["acts"].as_array().unwrap().clone()
    };
    let own = acts("actor=teller-7").await;
    assert_eq!(own.len(), 1);
    assert_eq!((own[0]["act"].as_str(), own[0]["role"].as_str()), (Some("transfer.posted"), Some("service")));
    assert_eq!(own[0]["accounts"], json!([ana, ben]));
    let of_account: Vec<String> = acts(&format!("account={ana}"))
        .await
        .iter()
        .map(|act| act["act"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(of_account, ["account.opened", "transfer.posted", "transfer.posted", "account.frozen"]);
    assert_eq!(acts(&format!("account={far}&act=transfer")).await.len(), 1);
    assert_eq!(acts("act=branch.opened").await.len(), 2, "all branches are looked through");
    // Page by page gives what one page gives.
    let whole = acts("limit=1000").await;
    let mut paged = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = bank.get(&format!("/v1/audit?limit=7{cursor}")).await.ok();
        paged.extend(page["acts"].as_array().unwrap().clone());
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(paged, whole);
    let late = whole.last().unwrap()["time"].as_str().unwrap();
    assert!(acts(&format!("branch=1&from={late}")).await.len() < whole.len());
    let auditor = bank.role("auditor", "auditor");
    assert!(bank.call_as(&auditor, "GET", "/v1/audit", &Value::Null).await.status.is_success());
    assert_eq!(bank.call_as(&teller, "GET", "/v1/audit", &Value::Null).await.problem(), "forbidden");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_come_once_in_order_and_go_on_from_a_cursor() {
    let bank = TestBank::new(2);
    let ana = bank.funded(1, "10.00").await;
    bank.funded(2, "20.00").await;
    let mut seen = Vec::new();
    let mut after = String::new();
    loop {
        let page = bank.get(&format!("/v1/events?limit=5&after={after}")).await.ok();
        let events = page["events"].as_array().unwrap();
        page["next"].as_str().unwrap().clone_into(&mut after);
        if events.is_empty() {
            break;
        }
        seen.extend(events.clone());
    }
    let ids: std::collections::BTreeSet<&str> =
        seen.iter().map(|event| event["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), seen.len());
    let paid: Vec<&Value> = seen.iter().filter(|event| event["type"] == "skerry.transfer.posted").collect();
    assert_eq!(paid.len(), 2);
    assert_eq!(paid[0]["specversion"], "1.0");
    assert_eq!(paid[0]["data"]["credit"], ana.as_str());
    assert!(!serde_json::to_string(&seen).unwrap().contains("Customer "), "no personal data");

    let now = bank.get("/v1/events?after=now&branch=1").await.ok();
    let ben = bank.funded(1, "1.00").await;
    let next = bank
        .get(&format!("/v1/events?branch=1&type=skerry.transfer&after={}", now["next"].as_str().unwrap()))
        .await
        .ok();
    assert_eq!(next["events"].as_array().unwrap().len(), 1);
    assert_eq!(next["events"][0]["data"]["credit"], ben.as_str());
    assert_eq!(bank.get("/v1/events?after=zz").await.problem(), "cursor_invalid");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_under_four_eyes_takes_two() {
    let bank = TestBank::new(1);
    let ana = bank.funded(1, "10.00").await;
    let policy = json!({"four_eyes": ["limits"], "retention_days": 3653});
    bank.call("PUT", "/v1/branches/1/policy", &policy, &[]).await.ok();
    assert_eq!(bank.get("/v1/branches/1/policy").await.ok()["four_eyes"], json!(["limits"]));
    let second = bank.role("second", "operator");
    let path = format!("/v1/accounts/{ana}/limits");
    let wish = json!({"floor": {"amount": "-100.00", "currency": "CNY"}});
    let refused = bank.call("PATCH", &path, &wish, &[]).await;
    assert_eq!(refused.problem(), "needs_approval");
    let request = refused.json()["request"].as_str().unwrap().to_owned();
    let proposal = json!({"branch": 1, "request": request, "matter": "limits"});
    bank.post("/v1/approvals", proposal).await.ok();
    let approve = format!("/v1/approvals/1/{request}/approve");
    assert_eq!(bank.post(&approve, Value::Null).await.problem(), "own_proposal");
    let listed = bank.call_as(&second, "GET", "/v1/approvals", &Value::Null).await.ok();
    assert_eq!(
        (&listed["approvals"][0]["request"], &listed["approvals"][0]["proposer"]),
        (&json!(request), &json!("chief"))
    );
    bank.call_as(&second, "POST", &approve, &Value::Null).await.ok();
    let other = json!({"floor": {"amount": "-200.00", "currency": "CNY"}});
    assert_eq!(
        bank.call("PATCH", &path, &other, &[]).await.problem(),
        "needs_approval",
        "another request is not approved"
    );
    assert_eq!(
        bank.call_as(&second, "PATCH", &path, &wish).await.problem(),
        "needs_approval",
        "whoever approved does not do it as well"
    );
    bank.call("PATCH", &path, &wish, &[]).await.ok();
    assert_eq!(
        bank.call("PATCH", &path, &wish, &[]).await.problem(),
        "needs_approval",
        "an approval is used up"
    );
    let acts = bank.get(&format!("/v1/audit?account={ana}&act=account.limits_changed")).await.ok();
    assert_eq!(
        (acts["acts"][0]["principal"].as_str(), acts["acts"][0]["approver"].as_str()),
        (Some("chief"), Some("second"))
    );
    assert_eq!(
        bank.post(&format!("/v1/approvals/1/{}/approve", "0".repeat(32)), Value::Null).await.problem(),
        "proposal_not_found"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_made_listed_and_taken_back() {
    let bank = TestBank::new(2);
    let wish =
        json!({"principal": "app", "role": "service", "branches": [1], "operations": ["accounts:read"]});
    let made = bank.post("/v1/tokens", wish).await;
    assert_eq!(made.headers["cache-control"], "no-store");
    let token = made.ok()["token"].as_str().unwrap().to_owned();
    let (_, account) = bank.customer(1).await;
    let (_, far) = bank.customer(2).await;
    let get = async |path: String| bank.call_as(&token, "GET", &path, &Value::Null).await;
    assert!(get(format!("/v1/accounts/{account}")).await.status.is_success());
    assert_eq!(get(format!("/v1/accounts/{far}")).await.problem(), "out_of_scope");
    let pay = bank.call_as(&token, "POST", "/v1/transfers", &transfer(&id(), &account, &far, "1.00")).await;
    assert_eq!(pay.problem(), "out_of_scope");
    let listed = bank.get("/v1/tokens").await;
    assert!(!String::from_utf8_lossy(&listed.bytes).contains("sha256"));
    let id = made.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(
        bank.call("DELETE", &format!("/v1/tokens/{id}"), &Value::Null, &[]).await.ok()["revoked"],
        true
    );
    assert_eq!(get(format!("/v1/accounts/{account}")).await.problem(), "unauthenticated");
    // A narrow operator cannot make a wide one.
    let narrow = json!({"principal": "half", "role": "operator", "branches": [1]});
    let narrow = bank.post("/v1/tokens", narrow).await.ok()["token"].as_str().unwrap().to_owned();
    let wide =
        bank.call_as(&narrow, "POST", "/v1/tokens", &json!({"principal": "x", "role": "operator"})).await;
    assert_eq!(wide.problem(), "out_of_scope");
    assert_eq!(
        bank.post("/v1/tokens", json!({"principal": "x", "role": "king"})).await.json()["field"],
        "role"
    );
    for header in ["", "Bearer", "Bearer sk_x", "Basic abc", "Bearer sk_0000000000000000_00"] {
        let answer = bank.call("GET", "/v1/branches", &Value::Null, &[("authorization", header)]).await;
        assert_eq!(answer.problem(), "unauthenticated");
        assert!(answer.headers.contains_key("www-authenticate"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_and_machines_tell_how_it_is() {
    let bank = TestBank::new(2);
    let ana = bank.funded(1, "10.00").await;
    let status = bank.get("/v1/status").await.ok();
    assert_eq!(
        (&status["status"], &status["healthy"], status["branches"].as_array().unwrap().len()),
        (&json!("ok"), &json!(true), 2)
    );
    let chart = bank.get("/v1/chart").await.ok();
    let mut next = chart.clone();
    next["version"] = (chart["version"].as_u64().unwrap() + 1).into();
    next["heads"]
        .as_array_mut()
        .unwrap()
        .push(json!({"code": 9990, "class": "off_balance", "name": "X", "name_zh": "某"}));
    bank.call("PUT", "/v1/chart?branch=2", &next, &[]).await.ok();
    assert_eq!(bank.get("/v1/chart?branch=2").await.ok()["version"], next["version"]);
    assert_eq!(bank.call("PUT", "/v1/chart?branch=2", &next, &[]).await.problem(), "chart_not_newer");
    let meters = bank.get("/v1/meters").await.ok();
    assert!(meters["totals"]["memory_bytes"].as_u64().unwrap() > 0);
    assert!(meters["totals"]["disk_bytes"].as_u64().unwrap() > 0);
    let metrics = bank.call("GET", "/metrics", &Value::Null, &[("authorization", "")]).await;
    let text = String::from_utf8(metrics.bytes).unwrap();
    for name in [
        "skerry_branch_open{branch=\"2\"} 1",
        "skerry_branch_durable_seconds_bucket",
        "skerry_branch_queue_requests{branch=\"1\"}",
        "skerry_http_connection_bytes_max",
        "skerry_branch_payments_in_transit{branch=\"2\"} 0\n",
        "skerry_branch_queue_requests_max{branch=\"1\"} 65536\n",
        "skerry_branch_busy_full_total{branch=\"1\"} 0\n",
        "skerry_disk_free_bytes ",
        "process_resident_memory_bytes ",
        "skerry_directory_answers 1\n",
        "skerry_directory_rebuilding 0\n",
        "skerry_directory_branches_for_newcomers 2\n",
        "skerry_http_seconds_count{kind=\"write\"}",
    ] {
        assert!(text.contains(name), "{name} in {text}");
    }
    well_formed(&text);
    for (path, kind) in [
        ("/healthz", "text/plain"),
        ("/readyz", "text/plain"),
        ("/docs", "text/html"),
        ("/openapi.json", "application/json"),
    ] {
        let answer = bank.call("GET", path, &Value::Null, &[("authorization", "")]).await;
        assert!(
            answer.status.is_success() && answer.headers["content-type"].to_str().unwrap().starts_with(kind),
            "{path}"
        );
    }
    assert_eq!(bank.post("/v1/branches/1/reopen", Value::Null).await.ok()["state"], "open");
    assert_eq!(bank.balance(&ana).await, "10.00", "a branch opened again remembers");
    assert_eq!(bank.post("/v1/branches/9/reopen", Value::Null).await.problem(), "branch_not_found");
    assert_eq!(bank.post("/v1/branches/1/confirm-clock", Value::Null).await.ok()["state"], "open");
    assert_eq!(bank.post("/v1/branches/9/confirm-clock", Value::Null).await.problem(), "branch_not_found");
    let auditor = bank.role("auditor-1", "auditor");
    for (path, wish) in [("confirm-clock", Value::Null), ("format", json!({}))] {
        let refused = bank.call_as(&auditor, "POST", &format!("/v1/branches/1/{path}"), &wish).await;
        assert_eq!(refused.problem(), "forbidden");
    }
    for level in [json!({}), json!({"level": 1}), json!({"level": 9999})] {
        assert_eq!(bank.post("/v1/branches/1/format", level).await.problem(), "format_level");
    }
    assert_eq!(bank.get("/v1/nowhere").await.problem(), "not_found");
    assert_eq!(bank.call("DELETE", "/v1/branches", &Value::Null, &[]).await.problem(), "method_not_allowed");
}

/// Every line is a comment or `name{labels} number`, and every metric is announced once.
fn well_formed(text: &str) {
    let mut announced = std::collections::BTreeSet::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            assert!(announced.insert(rest.split(' ').next().unwrap().to_owned()), "{line} twice");
        } else if !line.starts_with('#') {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().is_ok(), "{line}");
            let name = name.split('{').next().unwrap();
            let base =
                ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
            assert!(announced.contains(name) || announced.contains(base), "{line}");
        }
    }
}

#[test]
fn every_route_is_described_with_summary_tag_and_answers() {
    let openapi = serde_json::to_value(skerry_gateway::app::openapi()).unwrap();
    let mut operations = 0;
    for (path, methods) in openapi["paths"].as_object().unwrap() {
        for (method, described) in methods.as_object().unwrap() {
            let name = format!("{method} {path}");
            assert!(
                described["summary"].as_str().is_some_and(|text| !text.is_empty()),
                "{name} has no summary"
            );
            assert_eq!(described["tags"].as_array().map(Vec::len), Some(1), "{name} has no tag");
            let answers = described["responses"].as_object().unwrap();
            assert!(answers.keys().any(|status| status.starts_with('2')), "{name}");
            assert!(
                path.starts_with("/v1/") == answers.contains_key("default"),
                "{name} says what can go wrong"
            );
            for parameter in path.split('/').filter_map(|part| part.strip_prefix('{')) {
                let parameter = parameter.trim_end_matches('}');
                let listed = described["parameters"].as_array().unwrap();
                assert!(
                    listed.iter().any(|one| one["name"] == parameter && one["in"] == "path"),
                    "{name} {parameter}"
                );
            }
            operations += 1;
        }
    }
    assert!(operations > 45, "{operations}");
    dangling(&openapi, &openapi);
}

/// Every `$ref` leads somewhere.
fn dangling(whole: &Value, part: &Value) {
    match part {
        Value::Object(fields) => {
            if let Some(reference) = fields.get("$ref").and_then(Value::as_str) {
                assert!(whole.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
            }
            fields.values().for_each(|field| dangling(whole, field));
        }
        Value::Array(list) => list.iter().for_each(|one| dangling(whole, one)),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retried_command_says_that_nothing_was_done_this_time() {
    let bank = TestBank::new(2);
    let replayed = |answer: &Answer| answer.headers.get("idempotent-replayed").is_some();
    let keyed = [("idempotency-key", "newcomer-1")];
    let newcomer = json!({"name": "Customer 1", "document": {"kind": "id_card", "number": "retry-1"}});
    let first = bank.call("POST", "/v1/customers", &newcomer, &keyed).await;
    let again = bank.call("POST", "/v1/customers", &newcomer, &keyed).await;
    assert_eq!((first.status.as_u16(), replayed(&first)), (201, false));
    assert_eq!((again.status.as_u16(), replayed(&again)), (200, true));
    assert_eq!(first.ok()["id"], again.ok()["id"]);

    let path = format!("/v1/customers/{}/accounts", first.ok()["id"].as_str().unwrap());
    let wish = json!({"product": "current", "currency": "CNY"});
    let first = bank.call("POST", &path, &wish, &keyed).await;
    assert_eq!(first.problem(), "key_reused", "one key, two requests");
    let keyed = [("idempotency-key", "account-1")];
    let first = bank.call("POST", &path, &wish, &keyed).await;
    let again = bank.call("POST", &path, &wish, &keyed).await;
    let other = bank.call("POST", &path, &wish, &[("idempotency-key", "account-2")]).await;
    assert_eq!((first.status.as_u16(), replayed(&first)), (201, false));
    assert_eq!((again.status.as_u16(), replayed(&again)), (200, true));
    assert_eq!((other.status.as_u16(), replayed(&other)), (201, false), "another key is another account");
    assert_eq!(first.ok()["number"], again.ok()["number"]);
    assert_ne!(first.ok()["number"], other.ok()["number"]);

    let freeze = format!("/v1/accounts/{}/freeze", first.ok()["number"].as_str().unwrap());
    let why = json!({"sides": "debit", "reason": 3});
    let keyed = [("idempotency-key", "freeze-1")];
    let first = bank.call("POST", &freeze, &why, &keyed).await;
    let again = bank.call("POST", &freeze, &why, &keyed).await;
    assert_eq!((first.status.as_u16(), replayed(&first)), (200, false));
    assert_eq!((again.status.as_u16(), replayed(&again)), (200, true));

    let paid = transfer(&id(), "gl:1001", &bank.customer(1).await.1, "1.00");
    let (first, again) =
        (bank.post("/v1/transfers", paid.clone()).await, bank.post("/v1/transfers", paid).await);
    assert_eq!((replayed(&first), replayed(&again)), (false, true), "transfers say it the same way");
}
