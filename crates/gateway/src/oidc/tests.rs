//! Tests of an issuer's tokens: taken when all holds, refused with the reason when one thing does not.

use std::fs;

use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};
use skerry_book::actor::Principal;

use super::*;
use crate::auth::Operation;

const NOW: u64 = 1_800_000_000;

fn encoded(bytes: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let mut held = [0; 3];
        held[..chunk.len()].copy_from_slice(chunk);
        let value = u32::from_be_bytes([0, held[0], held[1], held[2]]);
        for digit in 0..=chunk.len() {
            out.push(char::from(DIGITS[(value >> (18 - 6 * digit) & 63) as usize]));
        }
    }
    out
}

type Sign = Box<dyn Fn(&[u8]) -> Vec<u8>>;

type Change = Box<dyn Fn(&mut Value)>;

/// A key that signs, and its public half as a JWK.
struct Issuer {
    jwk: Value,
    algorithm: &'static str,
    sign: Sign,
}

fn ed25519(id: &str) -> Issuer {
    let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap();
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "kid": id, "x": encoded(pair.public_key().as_ref())});
    Issuer { jwk, algorithm: "EdDSA", sign: Box::new(move |message| pair.sign(message).as_ref().to_vec()) }
}

fn p256(id: &str) -> Issuer {
    let random = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap();
    let point = pair.public_key().as_ref().to_vec();
    let (x, y) = (encoded(&point[1..33]), encoded(&point[33..]));
    let jwk = json!({"kty": "EC", "crv": "P-256", "kid": id, "use": "sig", "x": x, "y": y});
    let sign = move |message: &[u8]| pair.sign(&random, message).unwrap().as_ref().to_vec();
    Issuer { jwk, algorithm: "ES256", sign: Box::new(sign) }
}

impl Issuer {
    fn token(&self, id: &str, claims: &Value) -> String {
        self.with_header(&json!({"alg": self.algorithm, "kid": id, "typ": "JWT"}), claims)
    }

    fn with_header(&self, header: &Value, claims: &Value) -> String {
        let message =
            format!("{}.{}", encoded(header.to_string().as_bytes()), encoded(claims.to_string().as_bytes()));
        let signature = (self.sign)(message.as_bytes());
        format!("{message}.{}", encoded(&signature))
    }
}

fn claims() -> Value {
    json!({
        "iss": "https://login.example", "sub": "user-1", "aud": "bank", "exp": NOW + 300, "nbf": NOW - 5,
        "skerry_role": "service",
    })
}

fn changed(change: impl FnOnce(&mut Value)) -> Value {
    let mut claims = claims();
    change(&mut claims);
    claims
}

struct Trust {
    path: PathBuf,
    oidc: Oidc,
}

impl Trust {
    fn new(name: &str, keys: &[&Issuer]) -> Self {
        let folder = std::env::temp_dir().join(format!("skerry-oidc-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("jwks.json");
        fs::write(&path, set(keys)).unwrap();
        let settings = OidcSettings {
            issuer: "https://login.example".into(),
            audience: "bank".into(),
            jwks: path.clone(),
            algorithms: Algorithm::ALL.to_vec(),
            leeway_s: 10,
            roles: vec![Role::Service, Role::Auditor, Role::Customer],
            claims: ClaimNames::default(),
        };
        let oidc = Oidc::open(settings).unwrap();
        Self { path, oidc }
    }

    fn replace(&self, text: &str) {
        let next = self.path.with_extension("next");
        fs::write(&next, text).unwrap();
        fs::rename(&next, &self.path).unwrap();
    }

    fn check(&self, token: &str) -> Result<Grant, Refusal> {
        self.oidc.check(token, NOW).map(|(grant, _)| grant)
    }

    /// The grant itself, as a request gets it.
    fn present(&self, token: &str, now_s: u64) -> Result<Arc<Grant>, Refusal> {
        match self.oidc.present(token, now_s) {
            Presented::Granted(grant) => Ok(grant),
            Presented::Refused(refusal) => Err(refusal),
            other => panic!("{other:?}"),
        }
    }

    fn refusal(&self, token: &str) -> &'static str {
        let refusal = self.check(token).unwrap_err();
        let problem = refusal.problem();
        let document = problem.document(crate::problem::Language::English);
        assert!(matches!(document.status, 401 | 403), "{refusal:?}");
        problem.code()
    }
}

impl Drop for Trust {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.path.parent().unwrap());
    }
}

fn set(keys: &[&Issuer]) -> String {
    json!({"keys": keys.iter().map(|key| key.jwk.clone()).collect::<Vec<_>>()}).to_string()
}

#[test]
fn a_good_token_grants_what_its_claims_say_and_no_more() {
    let (one, other) = (ed25519("a"), p256("b"));
    let trust = Trust::new("good", &[&one, &other]);
    let wide = trust.check(&one.token("a", &claims())).unwrap();
    assert_eq!((wide.role, wide.customer, &wide.branches), (Role::Service, None, &None));
    assert_eq!((wide.operations, wide.expires_s, wide.certificate), (None, Some(NOW + 310), None));
    let narrow = changed(|claims| {
        claims["aud"] = json!(["other", "bank"]);
        claims["skerry_role"] = json!(["offline_access", "customer"]);
        claims["skerry_customer"] = json!(skerry_money::CustomerNumber::new(2, 7).to_string());
        claims["skerry_branches"] = json!([2]);
        claims["skerry_operations"] = json!("openid accounts:read accounts:read");
        claims["cnf"] = json!({"x5t#S256": encoded(&[9; 32])});
    });
    let narrow = trust.check(&other.token("b", &narrow)).unwrap();
    assert_eq!(
        (narrow.role, narrow.branches, narrow.certificate),
        (Role::Customer, Some(vec![2]), Some([9; 32]))
    );
    assert_eq!(narrow.operations, Some(vec![Operation::AccountsRead]));
    assert_eq!(narrow.customer, Some(skerry_money::CustomerNumber::new(2, 7)));
}

#[test]
fn an_rsa_key_signs_as_rs256() {
    // Made once for this test: ring makes no RSA keys. Claims and key name nobody.
    let token = include_str!("rsa_token.txt").trim();
    let trust = Trust::new("rsa", &[]);
    trust.replace(include_str!("rsa_jwks.json"));
    assert_eq!(trust.check(token).unwrap().role, Role::Service);
    let (message, signature) = token.rsplit_once('.').unwrap();
    let mut bytes = jwt::base64url(signature).unwrap();
    bytes[100] ^= 1;
    assert_eq!(trust.refusal(&format!("{message}.{}", encoded(&bytes))), "jwt_signature_wrong");
}

#[test]
fn each_claim_that_does_not_hold_is_named() {
    let key = ed25519("a");
    let trust = Trust::new("claims", &[&key]);
    let cases: Vec<(&str, Change)> = vec![
        ("jwt_issuer_wrong", Box::new(|claims| claims["iss"] = json!("https://login.example/"))),
        ("jwt_issuer_wrong", Box::new(|claims| claims["iss"] = json!(["https://login.example"]))),
        ("jwt_issuer_wrong", Box::new(|claims| claims["iss"] = Value::Null)),
        ("jwt_audience_wrong", Box::new(|claims| claims["aud"] = json!("Bank"))),
        ("jwt_audience_wrong", Box::new(|claims| claims["aud"] = json!([]))),
        ("token_expired", Box::new(|claims| claims["exp"] = json!(NOW - 10))),
        ("jwt_not_yet_valid", Box::new(|claims| claims["nbf"] = json!(NOW + 11))),
        ("jwt_claim_refused", Box::new(|claims| claims["nbf"] = json!("soon"))),
        ("jwt_claim_refused", Box::new(|claims| claims["exp"] = json!("never"))),
        ("jwt_claim_refused", Box::new(|claims| claims["exp"] = json!(-1))),
        ("jwt_claim_refused", Box::new(|claims| claims["sub"] = json!(""))),
        ("jwt_claim_refused", Box::new(|claims| claims["sub"] = json!(7))),
        ("jwt_claim_refused", Box::new(|claims| claims["skerry_role"] = Value::Null)),
        ("jwt_claim_refused", Box::new(|claims| claims["skerry_role"] = json!("Service"))),
        ("jwt_claim_refused", Box::new(|claims| claims["skerry_role"] = json!("bank"))),
        ("jwt_claim_refused", Box::new(|claims| claims["skerry_role"] = json!("operator"))),
        ("jwt_claim_refused", Box::new(|claims| claims["skerry_role"] = json!(["service", "auditor"]))),
        ("jwt_claim_refused", Box::new(|claims| claims["skerry_role"] = json!("customer"))),
        ("jwt_claim_refused", Box::new(|claims| claims["skerry_customer"] = json!("1"))),
        ("jwt_claim_refused", Box::new(|claims| claims["skerry_branches"] = json!([1, "2"]))),
        ("jwt_claim_refused", Box::new(|claims| claims["skerry_branches"] = Value::Null)),
        ("jwt_claim_refused", Box::new(|claims| claims["skerry_operations"] = json!({"a": 1}))),
        ("jwt_claim_refused", Box::new(|claims| claims["cnf"] = json!({"jkt": "x"}))),
    ];
    for (code, change) in cases {
        let claims = changed(change);
        assert_eq!(trust.refusal(&key.token("a", &claims)), code, "{claims}");
    }
    for missing in ["iss", "aud", "exp", "sub", "skerry_role"] {
        let claims = changed(|claims| drop(claims.as_object_mut().unwrap().remove(missing)));
        assert!(trust.check(&key.token("a", &claims)).is_err(), "{missing}");
    }
    let edge = changed(|claims| claims["exp"] = json!(NOW - 9));
    assert!(trust.check(&key.token("a", &edge)).is_ok(), "within the leeway");
    let only_foreign = changed(|claims| claims["skerry_operations"] = json!("openid profile"));
    assert_eq!(trust.check(&key.token("a", &only_foreign)).unwrap().operations, Some(vec![]));
}

#[test]
fn how_it_is_signed_is_not_the_token_s_to_choose() {
    let (key, other) = (ed25519("a"), ed25519("a"));
    let mut trust = Trust::new("signed", &[&key]);
    assert_eq!(trust.refusal(&other.token("a", &claims())), "jwt_signature_wrong");
    assert_eq!(trust.refusal(&key.token("b", &claims())), "jwt_key_unknown");
    let public = jwt::base64url(key.jwk["x"].as_str().unwrap()).unwrap();
    for secret in [public, key.jwk.to_string().into_bytes(), set(&[&key]).into_bytes()] {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, &secret);
        let sign = Box::new(move |message: &[u8]| hmac::sign(&secret, message).as_ref().to_vec());
        let forged = Issuer { jwk: Value::Null, algorithm: "HS256", sign };
        assert_eq!(trust.refusal(&forged.token("a", &claims())), "jwt_algorithm_refused");
        let relabelled = forged.with_header(&json!({"alg": "EdDSA", "kid": "a"}), &claims());
        assert_eq!(trust.refusal(&relabelled), "jwt_signature_wrong");
    }
    for none in ["none", "None", "NONE", ""] {
        let unsigned = Issuer { jwk: Value::Null, algorithm: none, sign: Box::new(|_| Vec::new()) };
        assert_eq!(trust.refusal(&unsigned.token("a", &claims())), "jwt_algorithm_refused");
    }
    let stripped = key.token("a", &claims());
    let stripped = format!("{}.", stripped.rsplit_once('.').unwrap().0);
    assert_eq!(trust.refusal(&stripped), "jwt_signature_wrong");
    // Another algorithm's name with this key's signature finds no key of that kind.
    let confused = key.with_header(&json!({"alg": "ES256", "kid": "a"}), &claims());
    assert_eq!(trust.refusal(&confused), "jwt_key_unknown");
    let embedded = other.with_header(&json!({"alg": "EdDSA", "kid": "a", "jwk": other.jwk}), &claims());
    assert_eq!(trust.refusal(&embedded), "jwt_signature_wrong");
    trust.oidc.settings.algorithms = vec![Algorithm::Es256];
    assert_eq!(trust.refusal(&key.token("a", &claims())), "jwt_algorithm_refused");
}

#[test]
fn what_breaks_the_form_is_malformed() {
    let key = ed25519("a");
    let trust = Trust::new("form", &[&key]);
    let good = key.token("a", &claims());
    let header = |header: Value| key.with_header(&header, &claims());
    for token in [
        "",
        "a.b",
        "a.b.c.d",
        "..",
        &good.replace('.', ". "),
        &format!("{good}="),
        &format!("{}.{good}", encoded(b"{}")),
        &"a".repeat(jwt::LENGTH_MAX + 1),
        &header(json!({"kid": "a"})),
        &header(json!([])),
        &header(json!({"alg": 7})),
        &header(json!({"alg": "EdDSA", "kid": 7})),
        &header(json!({"alg": "EdDSA", "kid": "a", "crit": ["b64"], "b64": false})),
        &header(json!({"alg": "EdDSA", "kid": "a", "typ": "logout+jwt"})),
        &key.with_header(&json!({"alg": "EdDSA", "kid": "a"}), &json!([1])),
    ] {
        assert_eq!(trust.refusal(token), "jwt_malformed", "{token}");
    }
    let doubled = format!("{{\"skerry_role\":\"auditor\",{}", &claims().to_string()[1..]);
    let message = format!("{}.{}", encoded(br#"{"alg":"EdDSA"}"#), encoded(doubled.as_bytes()));
    let doubled = format!("{message}.{}", encoded(&(key.sign)(message.as_bytes())));
    assert_eq!(trust.refusal(&doubled), "jwt_malformed", "which of two roles counts is not for us to choose");
}

#[test]
fn replacing_the_key_file_changes_who_is_trusted_and_a_broken_one_changes_nothing() {
    let (old, new) = (ed25519("old"), p256("new"));
    let trust = Trust::new("rotation", &[&old]);
    let (by_old, by_new) = (old.token("old", &claims()), new.token("new", &claims()));
    assert_eq!(trust.refusal(&by_new), "jwt_key_unknown");
    trust.replace(&set(&[&old, &new]));
    assert!(trust.check(&by_new).is_ok(), "an unknown key id reads the file again");
    trust.replace(&set(&[&new]));
    assert!(trust.oidc.refresh().unwrap());
    assert!(!trust.oidc.refresh().unwrap());
    assert_eq!(trust.refusal(&by_old), "jwt_key_unknown");
    for broken in ["{", "[]", &json!({"keys": [{"kty": "EC", "crv": "P-256", "x": "", "y": ""}]}).to_string()]
    {
        trust.replace(broken);
        assert!(trust.oidc.refresh().is_err());
        assert!(!trust.oidc.refresh().unwrap(), "it is said once");
        assert!(trust.check(&by_new).is_ok());
    }
    trust.replace(&format!("{}{}", set(&[&new]), " ".repeat(usize::try_from(keys::FILE_MAX).unwrap())));
    assert!(trust.oidc.refresh().unwrap_err().to_string().contains("bytes"));
    fs::remove_file(&trust.path).unwrap();
    assert!(trust.oidc.refresh().is_err() && trust.check(&by_new).is_ok());
    trust.replace(r#"{"keys": []}"#);
    assert!(trust.oidc.refresh().unwrap());
    assert_eq!(trust.refusal(&by_new), "jwt_key_unknown", "an empty set trusts nobody");
}

#[test]
fn a_token_is_verified_once_and_forgotten_with_its_time_or_its_key() {
    let (old, new) = (ed25519("old"), p256("new"));
    let trust = Trust::new("cache", &[&old, &new]);
    let (by_old, by_new) = (old.token("old", &claims()), new.token("new", &claims()));
    let first = trust.present(&by_old, NOW).unwrap();
    assert!(Arc::ptr_eq(&first, &trust.present(&by_old, NOW + 309).unwrap()), "remembered");
    assert_eq!(trust.present(&by_old, NOW + 310).unwrap_err(), Refusal::Expired);
    assert_eq!(trust.oidc.cache.len(), 0, "and forgotten");
    assert_eq!(trust.present(&by_old, NOW + 310).unwrap_err(), Refusal::Expired);

    let first = trust.present(&by_old, NOW).unwrap();
    assert_eq!(trust.present(&by_old, NOW - 60).unwrap_err(), Refusal::NotYetValid, "the clock went back");
    assert!(Arc::ptr_eq(&first, &trust.present(&by_old, NOW).unwrap()));
    trust.present(&by_new, NOW).unwrap();
    trust.replace(&set(&[&new]));
    assert!(trust.present(&by_old, NOW).is_ok(), "until the file is looked at again");
    assert!(trust.oidc.refresh().unwrap());
    assert_eq!(trust.present(&by_old, NOW).unwrap_err(), Refusal::UnknownKey);
    assert_eq!(trust.oidc.cache.len(), 0, "one key's end ends them all");
    let again = trust.present(&by_new, NOW).unwrap();
    assert!(Arc::ptr_eq(&again, &trust.present(&by_new, NOW).unwrap()));

    let other = if by_new.ends_with('A') { 'Q' } else { 'A' };
    let forged = format!("{}{other}", &by_new[..by_new.len() - 1]);
    for token in [forged.as_str(), &by_old, "rubbish"] {
        assert!(trust.present(token, NOW).is_err() && trust.present(token, NOW).is_err());
    }
    assert_eq!(trust.oidc.cache.len(), 1, "only what holds is remembered");
}

#[test]
fn no_more_tokens_are_remembered_than_stated_and_those_in_use_stay() {
    let key = ed25519("a");
    let trust = Trust::new("bound", &[&key]);
    let used = key.token("a", &claims());
    let grant = trust.present(&used, NOW).unwrap();
    let keys = trust.oidc.file.keys();
    for number in 0..3 * u32::try_from(cache::TOKENS_MAX).unwrap() {
        let mut hash = [0; 32];
        hash[..4].copy_from_slice(&number.to_le_bytes());
        trust.oidc.cache.keep(hash, &keys, &grant, NOW);
        assert!(trust.oidc.cache.len() <= cache::TOKENS_MAX);
        assert!(Arc::ptr_eq(&grant, &trust.present(&used, NOW).unwrap()), "after {number}");
    }
    let mut first = [0; 32];
    assert!(trust.oidc.cache.find(&first, &keys, NOW).unwrap().is_none(), "the first is long gone");
    first[0] = 1;
    trust.oidc.cache.keep(first, &Arc::new(Vec::new()), &grant, NOW);
    assert!(trust.oidc.cache.find(&first, &keys, NOW).unwrap().is_none(), "other keys' word does not count");
}

#[test]
fn keys_of_other_kinds_and_uses_are_passed_over_and_doubled_ids_refused() {
    let (one, same) = (ed25519("a"), ed25519("a"));
    let mut encryption = p256("enc");
    encryption.jwk["use"] = json!("enc");
    let mut signing = p256("ops");
    signing.jwk["key_ops"] = json!(["sign"]);
    let others = json!({"keys": [
        {"kty": "oct", "kid": "secret", "k": "c2VjcmV0"},
        {"kty": "EC", "crv": "P-521", "x": "", "y": ""},
        {"kty": "RSA", "alg": "RSA-OAEP", "n": "", "e": ""},
        encryption.jwk, signing.jwk, one.jwk,
    ]});
    let keys = keys::parse(others.to_string().as_bytes()).unwrap();
    assert_eq!(keys.iter().map(|key| key.id.as_deref()).collect::<Vec<_>>(), [Some("a")]);
    assert!(keys::parse(set(&[&one, &same]).as_bytes()).unwrap_err().contains("kid"));
    let short = json!({"keys": [{"kty": "RSA", "n": encoded(&[1; 128]), "e": "AQAB"}]});
    assert!(keys::parse(short.to_string().as_bytes()).unwrap_err().contains("2,048"));
    let many = json!({"keys": vec![json!({"kty": "oct"}); keys::KEYS_MAX + 1]});
    assert!(keys::parse(many.to_string().as_bytes()).is_err());
}

#[test]
fn without_an_id_the_only_key_for_the_algorithm_is_meant() {
    let (one, other, third) = (ed25519("a"), p256("b"), ed25519("c"));
    let trust = Trust::new("idless", &[&one, &other]);
    let idless = one.with_header(&json!({"alg": "EdDSA"}), &claims());
    assert!(trust.check(&idless).is_ok());
    trust.replace(&set(&[&one, &other, &third]));
    trust.oidc.refresh().unwrap();
    assert_eq!(trust.refusal(&idless), "jwt_key_unknown");
}

#[test]
fn a_principal_is_its_issuer_s_subject_and_nobody_else() {
    let name = |issuer: &str, subject: &str| claims::principal(issuer, subject);
    let one = name("https://login.example", "user-1");
    assert_eq!(one, name("https://login.example", "user-1"));
    assert_eq!((one.as_str().len(), &one.as_str()[..5]), (32, "oidc:"));
    let all = [
        one,
        name("https://login.example", "user-2"),
        name("https://other.example", "user-1"),
        name("a", "bc"),
    ];
    assert!(all.iter().all(|left| all.iter().filter(|right| left == *right).count() == 1));
    assert_ne!(name("ab", "c"), name("a", "bc"));
    assert_eq!(Principal::new(one.as_str()), Some(one));
}

#[test]
fn claims_may_lie_deeper_down() {
    let key = ed25519("a");
    let mut trust = Trust::new("deep", &[&key]);
    trust.oidc.settings.claims.role = "/realm_access/roles".to_owned();
    let deep = changed(|claims| claims["realm_access"] = json!({"roles": ["auditor", "user"]}));
    assert_eq!(trust.check(&key.token("a", &deep)).unwrap().role, Role::Auditor);
    assert_eq!(trust.refusal(&key.token("a", &claims())), "jwt_claim_refused");
}
