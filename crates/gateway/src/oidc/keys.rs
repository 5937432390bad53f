//! The issuer's public keys: read from a JWK set (RFC 7517) in a file, read again when the file changes.
//!
//! The kind of a key decides its algorithm, so a token cannot choose how it is checked. There is no secret among them:
//! symmetric keys are passed over like every other kind that is not ours.
//!
//! # Invariants
//!
//! - A file that cannot be read changes nothing: the keys read last stay. A set without keys is read, and refuses all.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde::Deserialize;

use super::jwt::base64url;
use super::{Algorithm, OidcError};
use crate::stamp::Stamp;

/// The largest key file.
pub const FILE_MAX: u64 = 256 * 1024;

/// Keys in one set.
pub const KEYS_MAX: usize = 64;

/// A key of the issuer's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// `kid`.
    pub id: Option<String>,
    material: Material,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Material {
    /// Modulus and exponent, big-endian without leading zeros.
    Rsa { n: Vec<u8>, e: Vec<u8> },
    /// An uncompressed point of P-256.
    P256(Vec<u8>),
    /// A point of edwards25519.
    Ed25519(Vec<u8>),
}

impl Key {
    /// The only algorithm that it checks.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        match self.material {
            Material::Rsa { .. } => Algorithm::Rs256,
            Material::P256(_) => Algorithm::Es256,
            Material::Ed25519(_) => Algorithm::EdDsa,
        }
    }

    /// Whether `signature` over `message` is this key's.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let checked = match &self.material {
            Material::Rsa { n, e } => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
            }
            Material::P256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature)
            }
            Material::Ed25519(point) => UnparsedPublicKey::new(&ED25519, point).verify(message, signature),
        };
        checked.is_ok()
    }
}

#[derive(Deserialize)]
struct JwkSet {
    keys: Vec<serde_json::Value>,
}

/// The members of a key that we read (RFC 7518, 6; RFC 8037, 2); others are passed over.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    used_for: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// Reads a JWK set. Keys of other kinds, curves, algorithms and uses are passed over, as RFC 7517, 5 asks.
///
/// # Errors
///
/// What is wrong: not a set, too many keys, one of our kinds with broken parts, two keys under one id.
pub fn parse(bytes: &[u8]) -> Result<Vec<Key>, String> {
    let set: JwkSet = serde_json::from_slice(bytes).map_err(|error| format!("not a JWK set: {error}"))?;
    if set.keys.len() > KEYS_MAX {
        return Err(format!("{} keys are more than {KEYS_MAX}", set.keys.len()));
    }
    let mut keys: Vec<Key> = Vec::new();
    for (index, value) in set.keys.into_iter().enumerate() {
        let jwk: Jwk = serde_json::from_value(value).map_err(|error| format!("key {index}: {error}"))?;
        let Some(material) = material(&jwk).map_err(|reason| format!("key {index}: {reason}"))? else {
            continue;
        };
        let key = Key { id: jwk.kid, material };
        if keys.iter().any(|other| other.id == key.id && other.algorithm() == key.algorithm()) {
            return Err(format!("key {index}: an earlier key has the same `kid` and kind"));
        }
        keys.push(key);
    }
    Ok(keys)
}

/// The key itself; `None` if it is not one of ours.
fn material(jwk: &Jwk) -> Result<Option<Material>, &'static str> {
    let signs = jwk.used_for.as_deref().is_none_or(|used_for| used_for == "sig")
        && jwk
            .key_ops
            .as_ref()
            .is_none_or(|operations| operations.iter().any(|operation| operation == "verify"));
    let is_for = |name: &str| jwk.alg.as_deref().is_none_or(|algorithm| algorithm == name);
    let part = |part: &Option<String>| {
        part.as_deref().and_then(base64url).ok_or("a part is missing or not base64url")
    };
    let number = |text: &Option<String>| {
        let bytes = part(text)?;
        Ok::<_, &'static str>(
            bytes.iter().position(|byte| *byte != 0).map_or_else(Vec::new, |at| bytes[at..].to_vec()),
        )
    };
    let sized = |bytes: Vec<u8>, length: usize| {
        if bytes.len() == length { Ok(bytes) } else { Err("a coordinate has the wrong length") }
    };
    match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("RSA", _) if signs && is_for("RS256") => {
            let (n, e) = (number(&jwk.n)?, number(&jwk.e)?);
            if !(256..=1_024).contains(&n.len()) || !(1..=5).contains(&e.len()) {
                return Err("an RSA key has 2,048 to 8,192 bits");
            }
            Ok(Some(Material::Rsa { n, e }))
        }
        ("EC", Some("P-256")) if signs && is_for("ES256") => {
            let mut point = vec![4];
            point.extend(sized(part(&jwk.x)?, 32)?);
            point.extend(sized(part(&jwk.y)?, 32)?);
            Ok(Some(Material::P256(point)))
        }
        ("OKP", Some("Ed25519")) if signs && is_for("EdDSA") => {
            Ok(Some(Material::Ed25519(sized(part(&jwk.x)?, 32)?)))
        }
        _ => Ok(None),
    }
}

/// A file of keys and what was read of it last.
#[derive(Debug)]
pub(super) struct KeyFile {
    path: PathBuf,
    keys: RwLock<Arc<Vec<Key>>>,
    seen: Mutex<Option<Stamp>>,
}

impl KeyFile {
    /// Reads `path`.
    ///
    /// # Errors
    ///
    /// [`OidcError::Keys`].
    pub(super) fn open(path: &Path) -> Result<Self, OidcError> {
        let (stamp, keys) = read(path)?;
        Ok(Self { path: path.to_owned(), keys: RwLock::new(Arc::new(keys)), seen: Mutex::new(Some(stamp)) })
    }

    /// The keys read last.
    pub(super) fn keys(&self) -> Arc<Vec<Key>> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the file again if it is another one now; whether it was.
    ///
    /// # Errors
    ///
    /// [`OidcError::Keys`], once for each state of the file; the keys stay as they were.
    pub(super) fn refresh(&self) -> Result<bool, OidcError> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Stamp::at(&self.path);
        if now == *seen {
            return Ok(false);
        }
        *seen = now;
        let (stamp, keys) = read(&self.path)?;
        *seen = Some(stamp);
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
        Ok(true)
    }
}

fn read(path: &Path) -> Result<(Stamp, Vec<Key>), OidcError> {
    let useless = |reason: String| OidcError::Keys { path: path.to_owned(), reason };
    let failed = |error: std::io::Error| useless(error.to_string());
    let file = File::open(path).map_err(failed)?;
    let stamp = Stamp::of(&file.metadata().map_err(failed)?);
    let mut bytes = Vec::new();
    file.take(FILE_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(useless(format!("it has more than {FILE_MAX} bytes")));
    }
    Ok((stamp, parse(&bytes).map_err(useless)?))
}
