//! Tokens of an identity provider: signed JWTs (RFC 7519) beside the bank's own opaque ones.
//!
//! ```text
//! bearer ──► jwt: shape ──► keys: algorithm, key id, signature ──► claims: issuer, audience, time ──► Grant
//!            bounded        from a file, as it changes             role, customer, branches, operations
//! ```
//!
//! Each step refuses before the next looks, and nothing in a token is believed before its signature holds. The bank fetches
//! nothing over the network: whoever runs it keeps the issuer's key set in a file. What a token grants is remembered for as
//! long as it is good and the keys are the same ([`cache`]).
//!
//! # Invariants
//!
//! - The key decides the algorithm, the configuration which algorithms are taken. `none` and every HMAC have no code here.
//! - A role is always named by a claim: absent or unknown is refused, never a default.

mod cache;
pub mod claims;
pub mod jwt;
pub mod keys;

use std::path::PathBuf;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use skerry_book::actor::Role;

use crate::catalogue;
use crate::detail::said;
use crate::problem::Problem;
use crate::tokens::{Grant, Presented};

/// How the names of principals that come from an issuer begin; no opaque token may have such a name.
pub const PRINCIPAL_PREFIX: &str = "oidc:";

/// How a token may be signed (RFC 7518, 3.1; RFC 8037, 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Rs256, Self::Es256, Self::EdDsa];

    /// Its name in a token's header.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }

    /// The algorithm with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }
}

/// Which claims say what a token's holder may do: a member's name, or a JSON pointer (RFC 6901) to one deeper down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimNames {
    /// The role: a name, or a list with one of ours in it.
    pub role: String,
    /// The only customer.
    pub customer: String,
    /// The branches.
    pub branches: String,
    /// The operations.
    pub operations: String,
}

impl Default for ClaimNames {
    fn default() -> Self {
        Self {
            role: "skerry_role".to_owned(),
            customer: "skerry_customer".to_owned(),
            branches: "skerry_branches".to_owned(),
            operations: "skerry_operations".to_owned(),
        }
    }
}

/// Whose tokens are taken, and how.
#[derive(Debug, Clone)]
pub struct OidcSettings {
    /// `iss`, to the letter.
    pub issuer: String,
    /// What `aud` must name.
    pub audience: String,
    /// The file with the issuer's JWK set.
    pub jwks: PathBuf,
    /// Algorithms that are taken.
    pub algorithms: Vec<Algorithm>,
    /// Seconds by which the two clocks may differ.
    pub leeway_s: u64,
    /// Roles that the issuer may give.
    pub roles: Vec<Role>,
    /// Which claims say what.
    pub claims: ClaimNames,
}

/// Why the issuer's tokens cannot be taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OidcError {
    /// The file of keys is of no use.
    #[error("could not read the issuer's keys in {path:?}: {reason}")]
    Keys {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// Why a token is refused. Nothing of the token itself is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It is not a JWT that we read.
    Malformed(&'static str),
    /// It is signed in a way that is not taken.
    Algorithm,
    /// No key of the issuer's has its id.
    UnknownKey,
    /// The signature does not hold.
    Signature,
    /// Another issuer made it.
    Issuer,
    /// It was made for another audience.
    Audience,
    /// Its time is over.
    Expired,
    /// Its time has not begun.
    NotYetValid,
    /// It is good, and a claim is missing, cannot be read or grants what may not be granted.
    Claim {
        /// Which.
        claim: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl Refusal {
    /// What its holder is told.
    #[must_use]
    pub fn problem(&self) -> Problem {
        let problem = |number| Problem::numbered(number);
        match self {
            Self::Malformed(reason) => problem(catalogue::JWT_MALFORMED).detail((*reason).to_owned()),
            Self::Algorithm => problem(catalogue::JWT_ALGORITHM_REFUSED),
            Self::UnknownKey => problem(catalogue::JWT_KEY_UNKNOWN),
            Self::Signature => problem(catalogue::JWT_SIGNATURE_WRONG),
            Self::Issuer => problem(catalogue::JWT_ISSUER_WRONG),
            Self::Audience => problem(catalogue::JWT_AUDIENCE_WRONG),
            Self::Expired => problem(catalogue::TOKEN_EXPIRED),
            Self::NotYetValid => problem(catalogue::JWT_NOT_YET_VALID),
            Self::Claim { claim, reason } => problem(catalogue::JWT_CLAIM_REFUSED)
                .detail(said!("the claim `{claim}` {reason}", "令牌声明 `{claim}` 有误：{reason}")),
        }
    }
}

/// Checks the tokens of one issuer.
#[derive(Debug)]
pub struct Oidc {
    settings: OidcSettings,
    file: keys::KeyFile,
    cache: cache::Cache,
}

impl Oidc {
    /// Reads the issuer's keys.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or is no JWK set.
    pub fn open(settings: OidcSettings) -> Result<Self, OidcError> {
        let file = keys::KeyFile::open(&settings.jwks)?;
        Ok(Self { settings, file, cache: cache::Cache::default() })
    }

    /// Takes the keys over if the file was replaced. Cheap when it was not.
    ///
    /// # Errors
    ///
    /// If the file is there and of no use; the keys read before stay, and it is said once for each state of the file.
    pub fn refresh(&self) -> Result<bool, OidcError> {
        self.file.refresh()
    }

    /// Checks `token` as it stands at `now_s`.
    #[must_use]
    pub fn present(&self, token: &str, now_s: u64) -> Presented {
        match self.remember(token, now_s) {
            Ok(grant) => Presented::Granted(grant),
            Err(refusal) => Presented::Refused(refusal),
        }
    }

    /// What `token` grants, from memory if it was verified before.
    fn remember(&self, token: &str, now_s: u64) -> Result<Arc<Grant>, Refusal> {
        // A longer one is refused unread.
        let hash = (token.len() <= jwt::LENGTH_MAX).then(|| Sha256::digest(token.as_bytes()).into());
        if let Some(hash) = &hash
            && let Some(grant) = self.cache.find(hash, &self.file.keys(), now_s)?
        {
            return Ok(grant);
        }
        let (grant, keys) = self.check(token, now_s)?;
        let grant = Arc::new(grant);
        if let Some(hash) = hash {
            self.cache.keep(hash, &keys, &grant, now_s);
        }
        Ok(grant)
    }

    /// Verifies `token`; what it grants, and the keys that were asked.
    fn check(&self, token: &str, now_s: u64) -> Result<(Grant, Arc<Vec<keys::Key>>), Refusal> {
        let token = jwt::Token::parse(token)?;
        let algorithm = Algorithm::named(&token.algorithm)
            .filter(|algorithm| self.settings.algorithms.contains(algorithm))
            .ok_or(Refusal::Algorithm)?;
        let key_id = token.key_id.as_deref();
        let mut keys = self.file.keys();
        let key = match find(&keys, algorithm, key_id) {
            Some(key) => key,
            None => {
                // The issuer may have begun to sign with a key that was just put into the file.
                if let Err(error) = self.refresh() {
                    tracing::error!(%error, "the keys read before stay");
                }
                keys = self.file.keys();
                find(&keys, algorithm, key_id).ok_or(Refusal::UnknownKey)?
            }
        };
        if !key.verifies(token.message, &token.signature) {
            return Err(Refusal::Signature);
        }
        Ok((claims::read(&token.claims, &self.settings, now_s)?, keys))
    }
}

/// The key for `algorithm` with this id. Without an id it is the only one for that algorithm.
fn find(keys: &[keys::Key], algorithm: Algorithm, id: Option<&str>) -> Option<keys::Key> {
    let mut fitting =
        keys.iter().filter(|key| key.algorithm() == algorithm && (id.is_none() || key.id.as_deref() == id));
    let found = fitting.next()?;
    fitting.next().is_none().then(|| found.clone())
}

#[cfg(test)]
mod tests;
