//! Opaque tokens: who may call, as what, on what, until when.
//!
//! A token is `sk_<id>_<secret>`. The file `tokens.json` holds the id in the clear and the SHA-256 of
//! the whole token; the text itself is shown once, when it is made. The id finds the record, the hash is
//! compared in constant time. The file is replaced by rename, under a lock that all who change it take, and is readable
//! by its owner only; what another process wrote to it is taken over within [`WATCH`].
//!
//! A bearer token that is not one of these is shown to [`oidc`](crate::oidc), if the bank trusts an issuer.
//!
//! It refuses to know HTTP; what a grant allows is decided in [`auth`](crate::auth).

mod file;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use skerry_book::actor::{Principal, Role};
use skerry_money::CustomerNumber;
use subtle::ConstantTimeEq;

use crate::auth::Operation;
use crate::oidc::{Oidc, PRINCIPAL_PREFIX, Refusal};
use crate::random;
use crate::stamp::Stamp;
use crate::text;

pub use file::replace_private;
use file::{alone, read, write};

/// What a token allows.
#[derive(Debug, Clone)]
pub struct Grant {
    /// The name under which its holder acts.
    pub principal: Principal,
    /// As what.
    pub role: Role,
    /// The branches it may act on; `None` is all.
    pub branches: Option<Vec<u16>>,
    /// The only customer it may act for; always set for [`Role::Customer`].
    pub customer: Option<CustomerNumber>,
    /// What it may do; `None` is all that its role allows.
    pub operations: Option<Vec<Operation>>,
    /// Unix seconds after which it is refused; `None` never.
    pub expires_s: Option<u64>,
    /// SHA-256 of the only client certificate it may come with.
    pub certificate: Option<[u8; 32]>,
}

/// A token as it is kept: everything but its text.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenRecord {
    /// Its public half, 16 hexadecimal digits.
    pub id: String,
    /// The name under which its holder acts, at most 32 bytes.
    pub principal: String,
    /// `operator`, `service`, `auditor` or `customer`.
    pub role: String,
    /// The branches it may act on; absent is all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branches: Option<Vec<u16>>,
    /// The only customer it may act for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer: Option<String>,
    /// What it may do; absent is all that its role allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operations: Option<Vec<Operation>>,
    /// SHA-256 of the client certificate it is bound to, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// When it was made (RFC 3339).
    pub created: String,
    /// When it ends (RFC 3339); absent is never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// Who made it; absent if it was made in the data folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_by: Option<String>,
    /// Whether it was taken back.
    #[serde(default)]
    pub revoked: bool,
    /// Who took it back; absent if it was done in the data folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_by: Option<String>,
    /// When it was taken back (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<String>,
    /// SHA-256 of the token, in hexadecimal.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sha256: String,
}

/// What a new token shall allow.
#[derive(Debug, Clone, Default)]
pub struct NewToken {
    /// The name under which its holder acts.
    pub principal: String,
    /// `operator`, `service`, `auditor` or `customer`.
    pub role: String,
    /// The branches it may act on; `None` is all.
    pub branches: Option<Vec<u16>>,
    /// The only customer it may act for.
    pub customer: Option<String>,
    /// What it may do; `None` is all that its role allows.
    pub operations: Option<Vec<Operation>>,
    /// SHA-256 of a client certificate, in hexadecimal.
    pub certificate: Option<String>,
    /// Seconds from now until it ends; `None` never.
    pub lifetime_s: Option<u64>,
    /// Who makes it; `None` if it is made in the data folder.
    pub made_by: Option<String>,
}

/// Why a token could not be made, read or taken back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The file could not be read or written.
    #[error("could not {action} {path:?}")]
    File {
        /// What was attempted.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file is not what we wrote.
    #[error("could not read tokens in {path:?}: {reason}")]
    Format {
        /// Which file.
        path: PathBuf,
        /// What is wrong in it.
        reason: String,
    },
    /// A field of a new token is wrong.
    #[error("token field {field}: {reason}")]
    Field {
        /// Which.
        field: &'static str,
        /// Why.
        reason: &'static str,
    },
    /// No token has this id.
    #[error("there is no token {0}")]
    Unknown(String),
}

/// What presenting a token came to.
#[derive(Debug, Clone)]
pub enum Presented {
    /// It is good.
    Granted(Arc<Grant>),
    /// Its time is over.
    Expired,
    /// Not one of ours, or taken back.
    Unknown,
    /// An identity provider's, and not good enough.
    Refused(Refusal),
}

#[derive(Debug)]
struct Known {
    sha256: [u8; 32],
    grant: Arc<Grant>,
}

/// How all of the bank's own tokens begin.
const PREFIX: &str = "sk_";

/// How often a running bank looks whether its token file, or its issuer's keys, were replaced.
pub const WATCH: Duration = Duration::from_millis(500);

/// The tokens of a bank, in memory and in their file.
#[derive(Debug)]
pub struct TokenStore {
    path: PathBuf,
    known: RwLock<Arc<HashMap<[u8; 8], Known>>>,
    file: Mutex<Stored>,
    oidc: Option<Oidc>,
}

#[derive(Debug)]
struct Stored {
    records: Vec<TokenRecord>,
    /// The state of the file that was last looked at, be it that it could not be read.
    seen: Option<Stamp>,
}

impl TokenStore {
    /// Opens `path`; a file that is not there is an empty store and is written by the first token.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or is not a token file.
    pub fn open(path: &Path) -> Result<Self, TokenError> {
        let (records, seen) = read(path)?;
        let known = index(path, &records)?;
        Ok(Self {
            path: path.to_owned(),
            known: RwLock::new(Arc::new(known)),
            file: Mutex::new(Stored { records, seen }),
            oidc: None,
        })
    }

    /// The same, which takes an issuer's tokens too.
    #[must_use]
    pub fn with_oidc(mut self, oidc: Oidc) -> Self {
        self.oidc = Some(oidc);
        self
    }

    /// Takes over what another process wrote to the file since; whether there was anything. Cheap when there was not.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, once for each state of it; the tokens known so far stay.
    pub fn refresh(&self) -> Result<bool, TokenError> {
        let mut stored = self.lock();
        let now = Stamp::at(&self.path);
        if now == stored.seen {
            return Ok(false);
        }
        stored.seen = now;
        self.reload(&mut stored).map(|()| true)
    }

    /// Takes over what others change in the token file and in the issuer's key file, for as long as it is polled.
    pub async fn watch(self: Arc<Self>) {
        let mut look = tokio::time::interval(WATCH);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            let store = Arc::clone(&self);
            if tokio::task::spawn_blocking(move || store.look()).await.is_err() {
                return; // the runtime ends
            }
        }
    }

    fn look(&self) {
        match self.refresh() {
            Ok(false) => {}
            Ok(true) => tracing::info!("the token file was changed by another process and read again"),
            Err(error) => tracing::error!(%error, "the tokens known before stay"),
        }
        match self.oidc.as_ref().map(Oidc::refresh) {
            None | Some(Ok(false)) => {}
            Some(Ok(true)) => tracing::info!("the issuer's keys were replaced and read again"),
            Some(Err(error)) => tracing::error!(%error, "the keys read before stay"),
        }
    }

    /// Makes a token and stores its hash. The text is returned once and never again.
    ///
    /// # Errors
    ///
    /// If a field is wrong or the file cannot be written.
    pub fn create(&self, new: &NewToken, now_s: u64) -> Result<(String, TokenRecord), TokenError> {
        let id: [u8; 8] = random::bytes();
        let secret: [u8; 32] = random::bytes();
        let token = format!("{PREFIX}{}_{}", text::hex(&id), text::hex(&secret));
        let record = TokenRecord {
            id: text::hex(&id),
            principal: new.principal.clone(),
            role: new.role.clone(),
            branches: new.branches.clone(),
            customer: new.customer.clone(),
            operations: new.operations.clone(),
            certificate: new.certificate.clone(),
            created: text::time(now_s.saturating_mul(1_000_000)),
            expires: new
                .lifetime_s
                .map(|seconds| text::time(now_s.saturating_add(seconds).saturating_mul(1_000_000))),
            made_by: new.made_by.clone(),
            revoked: false,
            revoked_by: None,
            revoked_at: None,
            sha256: text::hex(&hash(&token)),
        };
        grant(&record)?;
        self.change(|records| {
            records.push(record.clone());
            Ok(())
        })?;
        Ok((token, TokenRecord { sha256: String::new(), ..record }))
    }

    /// The folder in which the file lies: the bank's data folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("."))
    }

    /// All tokens, without their hashes.
    #[must_use]
    pub fn list(&self) -> Vec<TokenRecord> {
        let stored = self.lock();
        stored.records.iter().map(|record| TokenRecord { sha256: String::new(), ..record.clone() }).collect()
    }

    /// Takes a token back, at once and for ever. Doing it twice is the same as once.
    ///
    /// # Errors
    ///
    /// If no token has this id or the file cannot be written.
    pub fn revoke(&self, id: &str, by: Option<&str>, now_s: u64) -> Result<TokenRecord, TokenError> {
        let mut revoked = None;
        self.change(|records| {
            let record = records
                .iter_mut()
                .find(|record| record.id == id)
                .ok_or_else(|| TokenError::Unknown(id.chars().take(32).collect()))?;
            if !record.revoked {
                record.revoked = true;
                record.revoked_by = by.map(str::to_owned);
                record.revoked_at = Some(text::time(now_s.saturating_mul(1_000_000)));
            }
            revoked = Some(TokenRecord { sha256: String::new(), ..record.clone() });
            Ok(())
        })?;
        revoked.ok_or_else(|| TokenError::Unknown(id.to_owned()))
    }

    /// Looks `token` up. The time it takes does not depend on how much of a secret is right.
    #[must_use]
    pub fn present(&self, token: &str, now_s: u64) -> Presented {
        if let Some(oidc) = &self.oidc
            && !token.starts_with(PREFIX)
        {
            return oidc.present(token, now_s);
        }
        let Some(id) = id_of(token) else { return Presented::Unknown };
        let known = Arc::clone(&self.known.read().unwrap_or_else(std::sync::PoisonError::into_inner));
        let presented = hash(token);
        let Some(candidate) = known.get(&id) else { return Presented::Unknown };
        if !bool::from(candidate.sha256.ct_eq(&presented)) {
            return Presented::Unknown;
        }
        match candidate.grant.expires_s {
            Some(expires_s) if now_s >= expires_s => Presented::Expired,
            _ => Presented::Granted(Arc::clone(&candidate.grant)),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Stored> {
        self.file.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn reload(&self, stored: &mut Stored) -> Result<(), TokenError> {
        let (records, seen) = read(&self.path)?;
        let known = index(&self.path, &records)?;
        *self.known.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Arc::new(known);
        *stored = Stored { records, seen };
        Ok(())
    }

    /// Changes the file first and memory after, so that memory never knows what a restart would forget.
    fn change(
        &self,
        edit: impl FnOnce(&mut Vec<TokenRecord>) -> Result<(), TokenError>,
    ) -> Result<(), TokenError> {
        let mut stored = self.lock();
        let _alone = alone(&self.path)?;
        let (mut records, _) = read(&self.path)?;
        edit(&mut records)?;
        write(&self.path, records)?;
        self.reload(&mut stored)
    }
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// The id inside a token's text; `None` if it does not have our shape.
fn id_of(token: &str) -> Option<[u8; 8]> {
    let rest = token.strip_prefix(PREFIX)?;
    let (id, secret) = rest.split_once('_')?;
    if secret.len() != 64 {
        return None;
    }
    text::unhex(id)
}

fn index(path: &Path, records: &[TokenRecord]) -> Result<HashMap<[u8; 8], Known>, TokenError> {
    let broken = |reason: String| TokenError::Format { path: path.to_owned(), reason };
    let mut known = HashMap::with_capacity(records.len());
    for record in records.iter().filter(|record| !record.revoked) {
        let id = text::unhex(&record.id)
            .ok_or_else(|| broken(format!("id {:?} is not hexadecimal", record.id)))?;
        let sha256 = text::unhex(&record.sha256)
            .ok_or_else(|| broken(format!("token {} has no sha256", record.id)))?;
        let grant = grant(record).map_err(|error| broken(format!("token {}: {error}", record.id)))?;
        known.insert(id, Known { sha256, grant: Arc::new(grant) });
    }
    Ok(known)
}

/// What a record grants, checked.
fn grant(record: &TokenRecord) -> Result<Grant, TokenError> {
    let field = |field, reason| TokenError::Field { field, reason };
    let is_free = |principal: &Principal| {
        *principal != Principal::BANK && !principal.as_str().starts_with(PRINCIPAL_PREFIX)
    };
    let principal = Principal::new(&record.principal).filter(is_free).ok_or_else(|| {
        field(
            "principal",
            "must have 1 to 32 bytes, no control characters, not be bank and not begin with oidc:",
        )
    })?;
    let role = role_named(&record.role)
        .ok_or_else(|| field("role", "must be operator, service, auditor or customer"))?;
    let customer = match record.customer.as_deref().map(CustomerNumber::parse) {
        Some(Err(_)) => return Err(field("customer", "is not a customer number")),
        Some(Ok(number)) => Some(number),
        None => None,
    };
    if role == Role::Customer && customer.is_none() {
        return Err(field("customer", "is needed for the role customer"));
    }
    let certificate = match record.certificate.as_deref().map(text::unhex) {
        Some(None) => return Err(field("certificate", "must be a SHA-256 in hexadecimal")),
        Some(found) => found,
        None => None,
    };
    let expires_s = match record.expires.as_deref().map(text::parse_time) {
        Some(None) => return Err(field("expires", "must be an RFC 3339 time")),
        Some(Some(time_us)) => Some(time_us / 1_000_000),
        None => None,
    };
    Ok(Grant {
        principal,
        role,
        branches: record.branches.clone(),
        customer,
        operations: record.operations.clone(),
        expires_s,
        certificate,
    })
}

pub(crate) fn role_named(name: &str) -> Option<Role> {
    [Role::Operator, Role::Service, Role::Auditor, Role::Customer]
        .into_iter()
        .find(|role| role.name() == name)
}

#[cfg(test)]
#[path = "tokens_tests.rs"]
mod tests;
