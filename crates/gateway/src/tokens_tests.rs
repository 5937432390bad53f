//! Tests of tokens: kept hashed, scoped, expired, revoked.

use std::fs;

use super::*;

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("skerry-tokens-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn teller(lifetime_s: Option<u64>) -> NewToken {
    NewToken { principal: "till-1".into(), role: "service".into(), lifetime_s, ..NewToken::default() }
}

#[test]
fn a_token_works_until_it_ends_and_not_after() {
    let store = TokenStore::open(&folder("ends").join("tokens.json")).unwrap();
    let (token, _) = store.create(&teller(Some(60)), 1_000).unwrap();
    assert!(matches!(store.present(&token, 1_059), Presented::Granted(_)));
    assert!(matches!(store.present(&token, 1_060), Presented::Expired));
}

#[test]
fn a_wrong_secret_a_wrong_id_and_rubbish_are_unknown() {
    let store = TokenStore::open(&folder("wrong").join("tokens.json")).unwrap();
    let (token, _) = store.create(&teller(None), 1_000).unwrap();
    let last = if token.ends_with('0') { "1" } else { "0" };
    let wrong_secret = format!("{}{last}", &token[..token.len() - 1]);
    let (other, _) = store.create(&teller(None), 1_000).unwrap();
    let mixed = format!("{}{}", &token[..20], &other[20..]);
    for rubbish in [wrong_secret.as_str(), mixed.as_str(), "", "sk_", "sk__", "sk_zz_zz", "é", &token[1..]] {
        assert!(matches!(store.present(rubbish, 1_000), Presented::Unknown), "{rubbish}");
    }
}

#[test]
fn the_file_holds_no_token_is_private_and_survives_a_restart() {
    use std::os::unix::fs::PermissionsExt;
    let path = folder("file").join("tokens.json");
    let (token, record) = TokenStore::open(&path).unwrap().create(&teller(None), 1_000).unwrap();
    let secret = token.rsplit('_').next().unwrap();
    assert!(!fs::read_to_string(&path).unwrap().contains(secret));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(record.sha256.is_empty());
    let store = TokenStore::open(&path).unwrap();
    assert!(matches!(store.present(&token, 1_000), Presented::Granted(_)));
}

#[test]
fn a_revoked_token_stays_revoked_here_and_elsewhere() {
    let path = folder("revoked").join("tokens.json");
    let store = TokenStore::open(&path).unwrap();
    let (token, record) = store.create(&teller(None), 1_000).unwrap();
    let elsewhere = TokenStore::open(&path).unwrap();
    let back = store.revoke(&record.id, Some("chief"), 2_000).unwrap();
    assert_eq!(
        (back.revoked_by.as_deref(), back.revoked_at.as_deref()),
        (Some("chief"), Some("1970-01-01T00:33:20Z"))
    );
    // The first who took it back stays on record.
    assert_eq!(store.revoke(&record.id, None, 3_000).unwrap().revoked_by, back.revoked_by);
    assert!(matches!(store.present(&token, 1_000), Presented::Unknown));
    assert!(matches!(elsewhere.present(&token, 1_000), Presented::Granted(_)));
    elsewhere.refresh().unwrap();
    assert!(matches!(elsewhere.present(&token, 1_000), Presented::Unknown));
    assert!(matches!(store.revoke("0000000000000000", None, 0), Err(TokenError::Unknown(_))));
}

#[test]
fn fields_are_checked() {
    let store = TokenStore::open(&folder("fields").join("tokens.json")).unwrap();
    let wrong = [
        ("principal", NewToken { principal: String::new(), ..teller(None) }),
        ("principal", NewToken { principal: "bank".into(), ..teller(None) }),
        ("role", NewToken { role: "king".into(), ..teller(None) }),
        ("role", NewToken { role: "bank".into(), ..teller(None) }),
        ("customer", NewToken { role: "customer".into(), ..teller(None) }),
        ("customer", NewToken { customer: Some("c1".into()), ..teller(None) }),
        ("certificate", NewToken { certificate: Some("ab".into()), ..teller(None) }),
    ];
    for (name, new) in wrong {
        match store.create(&new, 1_000) {
            Err(TokenError::Field { field, .. }) => assert_eq!(field, name),
            other => panic!("{name}: {other:?}"),
        }
    }
    assert!(store.list().is_empty());
}

#[test]
fn a_broken_file_is_named() {
    let path = folder("broken").join("tokens.json");
    fs::write(&path, b"{\"version\":1,\"tokens\":[{\"id\":1}]}").unwrap();
    let error = TokenStore::open(&path).unwrap_err().to_string();
    assert!(error.contains("tokens.json"), "{error}");
    fs::write(&path, b"{\"version\":2,\"tokens\":[]}").unwrap();
    assert!(TokenStore::open(&path).is_err());
}
