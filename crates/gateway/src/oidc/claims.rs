//! What a token's claims grant: the same [`Grant`] as an opaque token's, or a refusal that names the claim.
//!
//! A claim that narrows (branches, operations, customer) may be left out; one that is there and cannot be read is refused,
//! because a limit that is ignored is no limit.

use serde::Deserialize;
use serde::de::value::{Error as Unread, StrDeserializer};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use skerry_book::actor::{Principal, Role};
use skerry_money::CustomerNumber;

use super::jwt::{Unique, base64url};
use super::{OidcSettings, Refusal};
use crate::auth::Operation;
use crate::tokens::{Grant, role_named};

/// The longest subject.
const SUBJECT_MAX: usize = 255;

/// Branches that a token may name.
const BRANCHES_MAX: usize = 1_024;

/// Reads the claims of a token whose signature is good, as they stand at `now_s`.
///
/// # Errors
///
/// [`Refusal`]: another issuer or audience, its time, or a claim that is missing or cannot be read.
pub fn read(bytes: &[u8], settings: &OidcSettings, now_s: u64) -> Result<Grant, Refusal> {
    let Unique(claims) = serde_json::from_slice(bytes)
        .map_err(|_| Refusal::Malformed("its claims are not a JSON object with each member once"))?;
    if claims.get("iss").and_then(Value::as_str) != Some(settings.issuer.as_str()) {
        return Err(Refusal::Issuer);
    }
    if !is_for(claims.get("aud"), &settings.audience) {
        return Err(Refusal::Audience);
    }
    let expires_s = in_time(&claims, settings.leeway_s, now_s)?;
    let subject =
        claims.get("sub").and_then(Value::as_str).filter(|sub| (1..=SUBJECT_MAX).contains(&sub.len()));
    let subject = subject.ok_or_else(|| wrong("sub", "is not a text of 1 to 255 bytes"))?;
    let principal = principal(&settings.issuer, subject);
    let certificate = certificate(&claims)?;
    let claims = Value::Object(claims);
    let find = |name: &str| if name.starts_with('/') { claims.pointer(name) } else { claims.get(name) };
    let names = &settings.claims;
    let role = role(find(&names.role), &names.role, &settings.roles)?;
    let customer = customer(find(&names.customer), &names.customer)?;
    if role == Role::Customer && customer.is_none() {
        return Err(wrong(&names.customer, "is needed for the role customer"));
    }
    Ok(Grant {
        principal,
        role,
        branches: branches(find(&names.branches), &names.branches)?,
        customer,
        operations: operations(find(&names.operations), &names.operations)?,
        expires_s: Some(expires_s),
        certificate,
    })
}

fn wrong(claim: &str, reason: &'static str) -> Refusal {
    Refusal::Claim { claim: claim.to_owned(), reason }
}

/// `aud` is one audience or several (RFC 7519, 4.1.3).
fn is_for(audience: Option<&Value>, own: &str) -> bool {
    match audience {
        Some(Value::String(one)) => one == own,
        Some(Value::Array(several)) => several.iter().any(|one| one.as_str() == Some(own)),
        _ => false,
    }
}

/// Checks `exp`, which must be there, and `nbf`; the second after which the token is refused.
fn in_time(claims: &Map<String, Value>, leeway_s: u64, now_s: u64) -> Result<u64, Refusal> {
    let expires_s = claims.get("exp").and_then(seconds).ok_or_else(|| wrong("exp", "is not a time"))?;
    let expires_s = expires_s.saturating_add(leeway_s);
    if now_s >= expires_s {
        return Err(Refusal::Expired);
    }
    if let Some(begins) = claims.get("nbf") {
        let begins_s = seconds(begins).ok_or_else(|| wrong("nbf", "is not a time"))?;
        if begins_s > now_s.saturating_add(leeway_s) {
            return Err(Refusal::NotYetValid);
        }
    }
    Ok(expires_s)
}

/// A `NumericDate` (RFC 7519, 2): seconds, perhaps with a fraction, which does not count.
fn seconds(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| {
        let seconds = value.as_f64().filter(|seconds| (0.0..1e12).contains(seconds))?;
        format!("{seconds:.0}").parse().ok()
    })
}

/// The name under which the holder acts: `oidc:` and 135 bits of a hash of issuer and subject, so that two issuers' subjects
/// never meet and the name fits a record.
pub fn principal(issuer: &str, subject: &str) -> Principal {
    let mut hasher = Sha256::new();
    hasher.update(b"skerry principal v1\0");
    hasher.update(u64::try_from(issuer.len()).unwrap_or(u64::MAX).to_le_bytes());
    hasher.update(issuer.as_bytes());
    hasher.update(subject.as_bytes());
    let hash = hasher.finalize();
    let mut name = String::from(super::PRINCIPAL_PREFIX);
    let (mut held, mut bits) = (0_u32, 0_u32);
    for byte in hash.iter().take(17) {
        held = held << 8 | u32::from(*byte);
        bits += 8;
        while bits >= 5 && name.len() < Principal::LENGTH_MAX {
            bits -= 5;
            let digit = usize::try_from(held >> bits & 31).unwrap_or(0);
            name.push(char::from(b"abcdefghijklmnopqrstuvwxyz234567"[digit]));
        }
        held &= (1 << bits) - 1;
    }
    Principal::new(&name).expect("32 visible characters name a principal")
}

fn role(found: Option<&Value>, claim: &str, allowed: &[Role]) -> Result<Role, Refusal> {
    let role = match found {
        None => return Err(wrong(claim, "is missing")),
        Some(Value::String(name)) => role_named(name),
        Some(Value::Array(names)) => {
            // A list may hold an issuer's other roles too; two of ours would leave open which holds.
            let mut ours = names.iter().filter_map(Value::as_str).filter_map(role_named);
            match (ours.next(), ours.next()) {
                (Some(_), Some(_)) => return Err(wrong(claim, "names more than one role of the bank")),
                (role, _) => role,
            }
        }
        Some(_) => None,
    };
    let role = role.ok_or_else(|| wrong(claim, "names no role of the bank"))?;
    if allowed.contains(&role) {
        Ok(role)
    } else {
        Err(wrong(claim, "names a role that this issuer may not give"))
    }
}

fn customer(found: Option<&Value>, claim: &str) -> Result<Option<CustomerNumber>, Refusal> {
    let Some(value) = found else { return Ok(None) };
    let number = value.as_str().and_then(|text| CustomerNumber::parse(text).ok());
    number.map(Some).ok_or_else(|| wrong(claim, "is not a customer number"))
}

fn branches(found: Option<&Value>, claim: &str) -> Result<Option<Vec<u16>>, Refusal> {
    let Some(value) = found else { return Ok(None) };
    let number = |value: &Value| value.as_u64().and_then(|number| u16::try_from(number).ok());
    let list = match value {
        Value::Array(list) if list.len() <= BRANCHES_MAX => {
            list.iter().map(number).collect::<Option<Vec<_>>>()
        }
        one => number(one).map(|one| vec![one]),
    };
    list.map(Some).ok_or_else(|| wrong(claim, "is not a list of branch numbers"))
}

/// A list, or words with blanks between as in OAuth's `scope`. Words that are no operation of ours allow nothing.
fn operations(found: Option<&Value>, claim: &str) -> Result<Option<Vec<Operation>>, Refusal> {
    let words: Vec<&str> = match found {
        None => return Ok(None),
        Some(Value::String(words)) => words.split(' ').collect(),
        Some(Value::Array(words)) if words.iter().all(Value::is_string) => {
            words.iter().filter_map(Value::as_str).collect()
        }
        Some(_) => return Err(wrong(claim, "is neither a list of words nor words with blanks between")),
    };
    let mut operations: Vec<Operation> = Vec::new();
    for word in words {
        let read = Operation::deserialize(StrDeserializer::<Unread>::new(word));
        operations.extend(read.ok().filter(|operation| !operations.contains(operation)));
    }
    Ok(Some(operations))
}

/// The client certificate that a token is bound to (RFC 8705, 3.1). Another binding is refused: we could not check it.
fn certificate(claims: &Map<String, Value>) -> Result<Option<[u8; 32]>, Refusal> {
    let Some(confirmation) = claims.get("cnf") else { return Ok(None) };
    let members = confirmation.as_object().filter(|members| members.len() == 1);
    let thumbprint = members.and_then(|members| members.get("x5t#S256")).and_then(Value::as_str);
    let thumbprint = thumbprint.and_then(base64url).and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    thumbprint.map(Some).ok_or_else(|| wrong("cnf", "binds the token to something else than a certificate"))
}
