//! What is answered is what is described, and what is refused is refused in the words of the request.
#![expect(clippy::unwrap_used, reason = "a test that fails may panic where it stands")]

mod common;

use common::{TestBank, id, transfer};
use serde_json::{Value, json};

/// Where `$ref` leads, if there is one.
fn followed<'a>(openapi: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(to) => followed(openapi, &openapi["components"]["schemas"][to.rsplit('/').next().unwrap()]),
        None => schema,
    }
}

#[test]
fn parameters_are_described_where_they_are_sent() {
    let openapi = serde_json::to_value(skerry_gateway::app::openapi()).unwrap();
    for (path, calls) in openapi["paths"].as_object().unwrap() {
        let named: Vec<&str> = path.split('{').skip(1).filter_map(|part| part.split('}').next()).collect();
        for (method, call) in calls.as_object().unwrap() {
            let none = Vec::new();
            let described = call["parameters"].as_array().unwrap_or(&none);
            let in_path: Vec<&str> = described
                .iter()
                .filter(|parameter| parameter["in"] == "path")
                .map(|parameter| parameter["name"].as_str().unwrap())
                .collect();
            assert_eq!(in_path, named, "{method} {path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_have_the_members_that_are_described() {
    let openapi = serde_json::to_value(skerry_gateway::app::openapi()).unwrap();
    let bank = TestBank::new(2);
    let (ana, ben) = (bank.funded(1, "10.00").await, bank.funded(1, "1.00").await);
    let paid = id();
    let batch =
        json!({"transfers": [transfer(&paid, &ana, &ben, "1.00"), transfer(&id(), &ana, &ben, "99.00")]});
    let token = json!({"principal": "till", "role": "service"});
    let calls = [
        ("/v1/transfers/batch", bank.post("/v1/transfers/batch", batch).await, "post", "200"),
        ("/v1/tokens", bank.post("/v1/tokens", token).await, "post", "201"),
        ("/v1/tokens", bank.get("/v1/tokens").await, "get", "200"),
        ("/v1/trial-balance", bank.get("/v1/trial-balance").await, "get", "200"),
        ("/v1/branches", bank.get("/v1/branches").await, "get", "200"),
        ("/v1/accounts/{number}", bank.get(&format!("/v1/accounts/{ana}")).await, "get", "200"),
        (
            "/v1/accounts/{number}/transfers/{id}",
            bank.get(&format!("/v1/accounts/{ana}/transfers/{paid}")).await,
            "get",
            "200",
        ),
        (
            "/v1/accounts/{number}/entries",
            bank.get(&format!("/v1/accounts/{ana}/entries")).await,
            "get",
            "200",
        ),
    ];
    for (path, answer, method, status) in calls {
        let content = &openapi["paths"][path][method]["responses"][status]["content"];
        compare(&openapi, &content["application/json"]["schema"], &answer.ok(), path);
    }
}

/// Every member of `value` is described, and every one that is said to be there is there.
fn compare(openapi: &Value, schema: &Value, value: &Value, at: &str) {
    let schema = followed(openapi, schema);
    if let Some(choices) = schema["oneOf"].as_array() {
        let fits: Vec<&Value> =
            choices.iter().filter(|choice| fits(followed(openapi, choice), value)).collect();
        assert_eq!(fits.len(), 1, "{at}: {value} is one of {choices:?}");
        return compare(openapi, fits[0], value, at);
    }
    assert!(schema["allOf"].is_null(), "{at}: a part that allows no more forbids the other parts");
    if let (Some(list), false) = (value.as_array(), schema["items"].is_null()) {
        list.iter().for_each(|item| compare(openapi, &schema["items"], item, &format!("{at}[]")));
    }
    let (Some(object), Some(described)) = (value.as_object(), schema["properties"].as_object()) else {
        return;
    };
    for (name, member) in object {
        let described = described.get(name).unwrap_or_else(|| panic!("{at}.{name} is not described"));
        compare(openapi, described, member, &format!("{at}.{name}"));
    }
    for name in schema["required"].as_array().into_iter().flatten() {
        assert!(object.contains_key(name.as_str().unwrap()), "{at}.{name} is missing");
    }
}

fn fits(schema: &Value, value: &Value) -> bool {
    if schema["type"] == "null" || value.is_null() {
        return schema["type"] == "null" && value.is_null();
    }
    let required = schema["required"].as_array().into_iter().flatten();
    required.into_iter().all(|name| value.get(name.as_str().unwrap()).is_some())
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_speak_of_money_and_dates_as_requests_do() {
    let bank = TestBank::new(1);
    let (customer, ana) = bank.customer(1).await;
    bank.pay("gl:1001", &ana, "5.00").await.ok();
    let ben = bank.funded(1, "1.00").await;
    let poor = bank.pay(&ana, &ben, "7.25").await.json();
    assert_eq!(poor["detail"], "5.00 available, 7.25 needed");
    assert_eq!(poor["figures"], json!({"have": "5.00", "need": "7.25"}));
    let full = bank.post(&format!("/v1/accounts/{ana}/close"), Value::Null).await.json();
    assert_eq!(
        (&full["code"], &full["detail"]),
        (&json!("account_has_balance"), &json!("the account has a balance of 5.00"))
    );
    assert_eq!(full["figures"], json!({"have": "5.00", "need": "0.00"}));
    // The other side's code, the date and the document have no two figures that could be compared.
    bank.pay(&ana, &ben, "5.00").await.ok();
    bank.post(&format!("/v1/accounts/{ana}/close"), Value::Null).await.ok();
    let kept = bank.call("DELETE", &format!("/v1/customers/{customer}"), &Value::Null, &[]).await.json();
    assert_eq!(kept["code"], "retention_not_over");
    let is_date =
        |text: &Value| text.as_str().is_some_and(|text| text.len() == 10 && text.as_bytes()[4] == b'-');
    assert!(is_date(&kept["figures"]["have"]) && is_date(&kept["figures"]["need"]), "{kept}");
    assert!(kept["detail"].as_str().unwrap().contains(kept["figures"]["need"].as_str().unwrap()), "{kept}");
    let today = bank.get("/v1/branches").await.ok()["branches"][0]["business_date"].clone();
    let again = bank.post("/v1/branches/1/days", json!({"date": today})).await.json();
    assert!(again["detail"].as_str().unwrap().ends_with(today.as_str().unwrap()), "{again}");
    assert!(again["figures"].is_null(), "{again}");
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_name_members_of_the_request() {
    let bank = TestBank::new(1);
    let (ana, ben) = (bank.funded(1, "5.00").await, bank.funded(1, "1.00").await);
    let with = |name: &str, value: Value| {
        let mut body = transfer(&id(), &ana, &ben, "1.00");
        body[name] = value;
        body
    };
    for (body, code, field) in [
        (with("linked", json!(true)), "linked_chain_open", "linked"),
        (with("closing", json!("debit")), "closing_not_pending", "closing"),
        (json!({"id": id(), "debit": ana, "post": id(), "pending": true}), "flags_exclusive", "post"),
        (with("code", json!(70_000)), "invalid_field", "code"),
    ] {
        let refused = bank.post("/v1/transfers", body).await;
        assert_eq!((refused.problem().as_str(), &refused.json()["field"]), (code, &json!(field)));
        let detail = refused.json()["detail"].as_str().unwrap().to_owned();
        assert!(!detail.contains("u16"), "{detail}");
    }
    let policy = json!({"four_eyes": ["limits", "everything"], "retention_days": 1});
    let refused = bank.call("PUT", "/v1/branches/1/policy", &policy, &[]).await;
    assert_eq!(refused.json()["field"], "four_eyes[1]");
    let mut chart = bank.get("/v1/chart").await.ok();
    chart["version"] = json!(2);
    chart["heads"][0]["name_zh"] = json!("");
    let refused = bank.call("PUT", "/v1/chart", &chart, &[]).await;
    assert_eq!(refused.problem(), "chart_invalid");
    assert!(refused.json()["detail"].as_str().unwrap().contains("no name"), "{:?}", refused.json());
    chart["heads"][0] = json!({"code": 1999, "class": "asset", "name": "New", "name_zh": "新"});
    let refused = bank.call("PUT", "/v1/chart", &chart, &[]).await;
    assert_eq!(refused.problem(), "head_removed", "order alone is nobody's mistake");
    for token in [json!({"branches": []}), json!({"branches": [7]}), json!({"lifetime_seconds": 0})] {
        let mut wish = json!({"principal": "till", "role": "service"});
        wish.as_object_mut().unwrap().extend(token.as_object().unwrap().clone());
        assert_eq!(bank.post("/v1/tokens", wish).await.problem(), "token_invalid");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_cannot_be_read_is_a_problem_document() {
    let bank = TestBank::new(1);
    assert_eq!(bank.get("/v1/accounts/%F0%28%8C%BC").await.problem(), "invalid_field");
    let approve = format!("/v1/approvals/one/{}/approve", "0".repeat(32));
    assert_eq!(bank.post(&approve, Value::Null).await.problem(), "invalid_field");
    assert_eq!(bank.get("/v1/nowhere").await.json()["detail"], "nothing lies at this path");
    assert_eq!(bank.get("/docs/").await.headers["location"], "/docs");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_s_bounds_are_in_its_own_currency() {
    let bank = TestBank::new(1);
    let ana = bank.funded(1, "5.00").await;
    let entries = |query: &str| format!("/v1/accounts/{ana}/entries?{query}");
    assert_eq!(bank.get(&entries("min=5.00&max=5")).await.ok()["entries"].as_array().unwrap().len(), 1);
    assert_eq!(bank.get(&entries("min=5.01")).await.ok()["entries"], json!([]));
    let refused = bank.get(&entries("min=500&currency=JPY")).await;
    assert_eq!((refused.problem().as_str(), &refused.json()["field"]), ("invalid_query", &json!("currency")));
}
