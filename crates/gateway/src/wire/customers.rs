//! Customers as JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::scalars::{AccountText, Customer, Day};
use crate::catalogue;
use crate::detail::{Detail, said};
use crate::problem::Problem;
use crate::sealing::{Document, Personal};

/// A new customer.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CustomerIn {
    /// The name, 1 to 200 characters.
    #[schema(example = "Customer 1")]
    pub name: String,
    /// What identifies them: one customer per line and document.
    pub document: Document,
    /// Telephone, address and the like, at most 32.
    #[serde(default)]
    pub contacts: BTreeMap<String, String>,
    /// The business line; 0 is retail.
    #[serde(default)]
    pub line: u8,
    /// The branch to live in; left out, the open one with the most room. For operators.
    #[serde(default)]
    pub branch: Option<u16>,
}

/// What changes of a customer; what is left out stays.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CustomerChange {
    /// The new name.
    #[serde(default)]
    pub name: Option<String>,
    /// The new document.
    #[serde(default)]
    pub document: Option<Document>,
    /// The new contacts, all of them.
    #[serde(default)]
    pub contacts: Option<BTreeMap<String, String>>,
}

/// A customer who was just opened, or was before under the same key.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct CustomerDone {
    /// The customer's number.
    pub id: Customer,
    /// Where they live.
    pub branch: u16,
    /// Where they can be looked up.
    pub location: String,
}

/// A customer.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct CustomerView {
    /// The customer's number.
    pub id: Customer,
    /// Where they live.
    pub branch: u16,
    /// The business line.
    pub line: u8,
    /// `active`, or `erased`.
    pub status: &'static str,
    /// Since when.
    pub opened: Day,
    /// The name; not for auditors, and gone once erased.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The document, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub document: Option<Document>,
    /// The contacts, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contacts: Option<BTreeMap<String, String>>,
    /// Their accounts, the first thousand of them.
    pub accounts: Vec<AccountText>,
}

/// Checks lengths: the book sees only ciphertext and cannot.
///
/// # Errors
///
/// `invalid_field`.
pub fn check_personal(personal: &Personal) -> Result<(), Problem> {
    let wrong = |field: &'static str, detail: Detail| {
        Err(Problem::numbered(catalogue::INVALID_FIELD).field(field).detail(detail))
    };
    let within = |text: &str, most: usize| {
        !text.trim().is_empty() && text.chars().count() <= most && !text.chars().any(char::is_control)
    };
    if !within(&personal.name, 200) {
        return wrong(
            "name",
            said!("1 to 200 characters, none of them control characters", "1 至 200 个字符，不含控制字符"),
        );
    }
    if !within(&personal.document.kind, 40) {
        return wrong(
            "document.kind",
            said!("1 to 40 characters, none of them control characters", "1 至 40 个字符，不含控制字符"),
        );
    }
    if !within(&personal.document.number, 80) || !personal.document.number.chars().any(char::is_alphanumeric)
    {
        return wrong(
            "document.number",
            said!(
                "1 to 80 characters with a letter or digit, no control characters",
                "1 至 80 个字符，至少含一个字母或数字，不含控制字符"
            ),
        );
    }
    let fits = |(name, value): (&String, &String)| within(name, 40) && value.chars().count() <= 400;
    if personal.contacts.len() > 32 || !personal.contacts.iter().all(fits) {
        return wrong(
            "contacts",
            said!(
                "at most 32, names of 1 to 40 and values of at most 400 characters",
                "最多 32 项，名称 1 至 40 个字符，内容最多 400 个字符"
            ),
        );
    }
    Ok(())
}
