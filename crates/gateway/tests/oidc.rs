//! An identity provider's tokens through the whole API: the same roles, scopes and names in the audit as any other.
#![expect(clippy::unwrap_used, reason = "a test that fails may panic where it stands")]

mod common;

use std::time::{SystemTime, UNIX_EPOCH};

use common::{TestBank, id, transfer};
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};
use skerry_book::actor::Role;
use skerry_gateway::oidc::{Algorithm, ClaimNames, Oidc, OidcSettings};

const ISSUER: &str = "https://login.example";

fn base64url(bytes: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let bits = bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| usize::from(byte >> bit & 1)));
    let bits: Vec<usize> = bits.collect();
    let digit = |six: &[usize]| six.iter().fold(0, |value, bit| value << 1 | bit) << (6 - six.len());
    bits.chunks(6).map(|six| char::from(DIGITS[digit(six)])).collect()
}

struct Issuer(Ed25519KeyPair);

impl Issuer {
    fn new() -> Self {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self(Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap())
    }

    fn jwks(&self) -> String {
        let x = base64url(self.0.public_key().as_ref());
        json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "1", "x": x}]}).to_string()
    }

    fn bank(&self, branches: u16) -> TestBank {
        TestBank::with_oidc(branches, |folder| {
            let jwks = folder.join("jwks.json");
            std::fs::write(&jwks, self.jwks()).unwrap();
            let settings = OidcSettings {
                issuer: ISSUER.into(),
                audience: "bank".into(),
                jwks,
                algorithms: vec![Algorithm::EdDsa],
                leeway_s: 0,
                roles: vec![Role::Service, Role::Auditor, Role::Customer],
                claims: ClaimNames::default(),
            };
            Oidc::open(settings).unwrap()
        })
    }

    /// A token for `sub`, good for five minutes, with `more` claims in place of the usual ones.
    fn token(&self, sub: &str, more: &Value) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let mut claims = json!({"iss": ISSUER, "sub": sub, "aud": "bank", "exp": now + 300});
        for (name, value) in more.as_object().unwrap() {
            claims[name] = value.clone();
        }
        let part = |value: &Value| base64url(value.to_string().as_bytes());
        let message =
            format!("{}.{}", part(&json!({"alg": "EdDSA", "kid": "1", "typ": "at+jwt"})), part(&claims));
        let signature = base64url(self.0.sign(message.as_bytes()).as_ref());
        format!("{message}.{signature}")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_s_token_reaches_their_own_and_nothing_else() {
    let issuer = Issuer::new();
    let bank = issuer.bank(2);
    let (customer, own) = bank.customer(1).await;
    bank.pay("gl:1001", &own, "10.00").await.ok();
    let (other, elsewhere) = (bank.funded(1, "5.00").await, bank.funded(2, "5.00").await);
    let token = issuer.token("user-1", &json!({"skerry_role": "customer", "skerry_customer": customer}));
    let get = async |path: String| bank.call_as(&token, "GET", &path, &Value::Null).await;
    assert_eq!(get(format!("/v1/accounts/{own}")).await.ok()["balances"]["posted"]["amount"], "10.00");
    for theirs in [&other, &elsewhere] {
        assert_eq!(get(format!("/v1/accounts/{theirs}")).await.problem(), "out_of_scope");
    }
    assert_eq!(get("/v1/trial-balance".into()).await.problem(), "forbidden");
    let pay = async |debit: &str, credit: &str| {
        bank.call_as(&token, "POST", "/v1/transfers", &transfer(&id(), debit, credit, "1.00")).await
    };
    pay(&own, &other).await.ok();
    assert_eq!(pay(&other, &own).await.problem(), "out_of_scope");
    let reading = json!({
        "skerry_role": "customer", "skerry_customer": customer, "skerry_operations": ["accounts:read"],
    });
    let reading = issuer.token("user-1", &reading);
    bank.call_as(&reading, "GET", &format!("/v1/accounts/{own}"), &Value::Null).await.ok();
    let answer =
        bank.call_as(&reading, "POST", "/v1/transfers", &transfer(&id(), &own, &other, "1.00")).await;
    assert_eq!(answer.problem(), "out_of_scope");
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_branches_and_names_hold_as_for_the_bank_s_own_tokens() {
    let issuer = Issuer::new();
    let bank = issuer.bank(2);
    let (first, second) = (bank.funded(1, "5.00").await, bank.funded(2, "5.00").await);
    let service = issuer.token("till", &json!({"skerry_role": ["service"], "skerry_branches": [1]}));
    let pay = async |token: &str, debit: &str, credit: &str| {
        bank.call_as(token, "POST", "/v1/transfers", &transfer(&id(), debit, credit, "1.00")).await
    };
    let (_, payee) = bank.customer(1).await;
    pay(&service, &first, &payee).await.ok();
    assert_eq!(pay(&service, &second, &payee).await.problem(), "out_of_scope");
    let auditor = issuer.token("auditor", &json!({"skerry_role": "auditor"}));
    assert_eq!(pay(&auditor, &first, &payee).await.problem(), "forbidden");
    let name = skerry_gateway::oidc::claims::principal(ISSUER, "till");
    let path = format!("/v1/audit?actor={}", name.as_str());
    let audit = bank.call_as(&auditor, "GET", &path, &Value::Null).await.ok();
    let acts: Vec<&Value> = audit["acts"].as_array().unwrap().iter().map(|act| &act["act"]).collect();
    assert_eq!(acts, [&json!("transfer.posted")], "{audit}");
    let wish = json!({"principal": name.as_str(), "role": "service"});
    let answer = bank.post("/v1/tokens", wish).await;
    assert_eq!(answer.problem(), "token_invalid", "nobody makes a token in the name of an issuer's subject");
    assert_eq!(answer.json()["field"], "principal");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_a_problem_in_the_client_s_language_without_the_token() {
    let issuer = Issuer::new();
    let bank = issuer.bank(1);
    let stranger = Issuer::new();
    let good = json!({"skerry_role": "service"});
    let cases = [
        (stranger.token("user-1", &good), 401, "jwt_signature_wrong"),
        (issuer.token("user-1", &json!({"skerry_role": "service", "exp": 1})), 401, "token_expired"),
        (
            issuer.token("user-1", &json!({"skerry_role": "service", "aud": "shop"})),
            401,
            "jwt_audience_wrong",
        ),
        (issuer.token("user-1", &json!({})), 403, "jwt_claim_refused"),
        (issuer.token("user-1", &json!({"skerry_role": "operator"})), 403, "jwt_claim_refused"),
        ("rubbish".to_owned(), 401, "jwt_malformed"),
        ("sk_0000000000000000_00".to_owned(), 401, "unauthenticated"),
    ];
    for (token, status, code) in cases {
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str()), ("accept-language", "zh-CN")];
        let answer = bank.call("GET", "/v1/branches", &Value::Null, &headers).await;
        assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (status, code));
        assert_eq!(answer.headers.contains_key("www-authenticate"), status == 401);
        let text = String::from_utf8(answer.bytes.clone()).unwrap();
        assert!(!text.contains(&token) && !text.contains("user-1"), "{text}");
        assert!(!answer.json()["title"].as_str().unwrap().is_ascii(), "{text}");
    }
    let untrusting = TestBank::new(1);
    let answer =
        untrusting.call_as(&issuer.token("user-1", &good), "GET", "/v1/branches", &Value::Null).await;
    assert_eq!(answer.problem(), "unauthenticated", "a bank without an issuer takes no JWT");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_bank_follows_its_files() {
    let issuer = Issuer::new();
    let bank = issuer.bank(1);
    let watching = tokio::spawn(std::sync::Arc::clone(&bank.gateway.tokens).watch());
    let token = issuer.token("user-1", &json!({"skerry_role": "auditor"}));
    bank.call_as(&token, "GET", "/v1/branches", &Value::Null).await.ok();
    let (_, record) = bank
        .gateway
        .tokens
        .create(
            &skerry_gateway::NewToken {
                principal: "thief".into(),
                role: "auditor".into(),
                ..skerry_gateway::NewToken::default()
            },
            1_000,
        )
        .unwrap();
    // Another process revokes the token and takes the issuer's key away.
    let elsewhere = skerry_gateway::TokenStore::open(&bank.folder.join("tokens.json")).unwrap();
    elsewhere.revoke(&record.id, None, 0).unwrap();
    std::fs::write(bank.folder.join("jwks.next"), r#"{"keys": []}"#).unwrap();
    std::fs::rename(bank.folder.join("jwks.next"), bank.folder.join("jwks.json")).unwrap();
    let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        let refused = bank.call_as(&token, "GET", "/v1/branches", &Value::Null).await.status == 401;
        let revoked = bank.gateway.tokens.list().iter().any(|other| other.id == record.id && other.revoked);
        if refused && revoked {
            break;
        }
        assert!(std::time::Instant::now() < until, "refused: {refused}, revoked: {revoked}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await; // between two looks
    }
    watching.abort();
}
