//! Personal data on its way in and out: sealed before a branch sees it, opened only for who may read it.
//!
//! A document is found by its HMAC under the institution's secret and by nothing else.

use std::collections::BTreeMap;

use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use skerry_branch::keys::KeyError;
use skerry_node::hosted::log_keys_failed;
use utoipa::ToSchema;
use zeroize::Zeroizing;

use crate::catalogue;
use crate::digests::Digests;
use crate::problem::Problem;

/// What identifies a person or company.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// `id_card`, `passport`, `business_licence`, or the bank's own word.
    #[schema(example = "id_card")]
    pub kind: String,
    /// Its number; spaces and hyphens do not count, letters in either case are the same.
    #[schema(example = "110101199003070011")]
    pub number: String,
}

/// What is sealed: everything that names a customer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Personal {
    /// The name.
    pub name: String,
    /// The document.
    pub document: Document,
    /// Telephone, address and the like.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub contacts: BTreeMap<String, String>,
}

impl Personal {
    /// The bytes to be sealed: a version, then JSON.
    #[must_use]
    pub fn to_plain(&self) -> Zeroizing<Vec<u8>> {
        let mut plain = vec![VERSION];
        // Strings in maps cannot fail to be JSON.
        let _ = serde_json::to_writer(&mut plain, self);
        Zeroizing::new(plain)
    }

    /// Reads what [`to_plain`](Self::to_plain) wrote.
    #[must_use]
    pub fn from_plain(plain: &[u8]) -> Option<Self> {
        let (&VERSION, json) = plain.split_first()? else { return None };
        serde_json::from_slice(json).ok()
    }
}

const VERSION: u8 = 1;

/// What a client is told when the keys of customers cannot be used.
pub(crate) fn keyless(error: &KeyError) -> Problem {
    if matches!(error, KeyError::Erased) {
        return Problem::numbered(CUSTOMER_ERASED);
    }
    log_keys_failed(error);
    Problem::numbered(catalogue::PERSONAL_DATA_UNAVAILABLE).retry_after_ms(5_000)
}

/// The book's number for a customer who was erased.
pub(crate) const CUSTOMER_ERASED: u16 = 3022;

/// The institution's secret for documents.
#[derive(Clone)]
pub struct DocumentSecret(Zeroizing<[u8; 32]>);

impl std::fmt::Debug for DocumentSecret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("DocumentSecret(..)")
    }
}

impl DocumentSecret {
    /// From 32 secret bytes, drawn once per institution.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Keys for digests of requests and notes, derived from the same secret.
    #[must_use]
    pub fn digests(&self) -> Digests {
        Digests::new(&self.0)
    }

    /// The key under which webhooks' secrets are sealed, derived from the same secret.
    pub(crate) fn webhooks_key(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(blake3::derive_key("skerry 2026-11 webhook secrets", &*self.0))
    }

    /// HMAC-SHA-256 of kind and number, each in a form that does not depend on how it was typed.
    ///
    /// # Panics
    ///
    /// Never: HMAC takes keys of any length.
    #[must_use]
    pub fn hmac(&self, document: &Document) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&*self.0).expect("HMAC takes keys of any length");
        mac.update(b"skerry document v1\0");
        mac.update(document.kind.trim().to_lowercase().as_bytes());
        mac.update(b"\0");
        let plain = document.number.chars().filter(|c| !c.is_whitespace() && *c != '-');
        mac.update(plain.flat_map(char::to_uppercase).collect::<String>().as_bytes());
        mac.finalize().into_bytes().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(kind: &str, number: &str) -> Document {
        Document { kind: kind.to_owned(), number: number.to_owned() }
    }

    #[test]
    fn a_document_is_the_same_however_it_is_typed() {
        let secret = DocumentSecret::new([7; 32]);
        let one = secret.hmac(&document("id_card", "11010119900307001x"));
        assert_eq!(one, secret.hmac(&document(" ID_CARD", "110101-19900307-001X ")));
        assert_ne!(one, secret.hmac(&document("passport", "11010119900307001X")));
        assert_ne!(one, secret.hmac(&document("id_card", "110101199003070011")));
        assert_ne!(one, DocumentSecret::new([8; 32]).hmac(&document("id_card", "11010119900307001x")));
    }

    #[test]
    fn kind_and_number_do_not_run_together() {
        let secret = DocumentSecret::new([7; 32]);
        assert_ne!(secret.hmac(&document("a", "bc")), secret.hmac(&document("ab", "c")));
    }

    #[test]
    fn what_was_sealed_reads_back() {
        let personal = Personal {
            name: "Customer 1".to_owned(),
            document: document("id_card", "1"),
            contacts: BTreeMap::from([("telephone".to_owned(), "1".to_owned())]),
        };
        assert_eq!(Personal::from_plain(&personal.to_plain()), Some(personal));
        assert_eq!(Personal::from_plain(b""), None);
        assert_eq!(Personal::from_plain(b"\x02{}"), None);
    }
}
