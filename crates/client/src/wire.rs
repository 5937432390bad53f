//! The wire as a client sees it: what to send and what comes back, for those who want types instead of JSON.
//!
//! Answers are read leniently: a field that a later release adds is passed over. The types are the client's own; a test of
//! the gateway holds them against what it sends.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Money: `{"amount": "12.34", "currency": "CNY"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Money {
    /// A decimal string.
    pub amount: String,
    /// ISO 4217 letters.
    pub currency: String,
}

impl Money {
    /// An amount of a currency.
    #[must_use]
    pub fn new(amount: &str, currency: &str) -> Self {
        Self { amount: amount.to_owned(), currency: currency.to_owned() }
    }
}

/// What identifies a person or company.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// `id_card`, `passport`, …
    pub kind: String,
    /// Its number.
    pub number: String,
}

/// A new customer.
#[derive(Debug, Clone, Serialize)]
pub struct NewCustomer {
    /// The name.
    pub name: String,
    /// The document.
    pub document: Document,
    /// Telephone, address and the like.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub contacts: BTreeMap<String, String>,
    /// The branch to live in; `None` is the open one with the most room.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub branch: Option<u16>,
}

/// A customer who was just opened.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct CustomerDone {
    /// The customer's number.
    pub id: String,
    /// Where they live.
    pub branch: u16,
}

/// A customer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Customer {
    /// The customer's number.
    pub id: String,
    /// Where they live.
    pub branch: u16,
    /// `active` or `erased`.
    pub status: String,
    /// Since when.
    pub opened: String,
    /// The name, for who may see it.
    pub name: Option<String>,
    /// The document, likewise.
    pub document: Option<Document>,
    /// Their accounts.
    pub accounts: Vec<String>,
}

/// A new account.
#[derive(Debug, Clone, Serialize)]
pub struct NewAccount {
    /// The product by name.
    pub product: String,
    /// The currency.
    pub currency: String,
    /// The lowest balance allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub floor: Option<Money>,
}

/// An account.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Account {
    /// Its number.
    pub number: String,
    /// Whose it is.
    pub customer: Option<String>,
    /// The product by name.
    pub product: Option<String>,
    /// The currency.
    pub currency: String,
    /// `open`, `frozen`, `closing` or `closed`.
    pub status: String,
    /// What is in it.
    pub balances: Balances,
    /// The answer holds for the branch's journal up to this position.
    pub position: u64,
}

/// Balances of an account.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Balances {
    /// Credits less debits.
    pub posted: Money,
    /// What may still be moved.
    pub available: Option<Money>,
    /// What is held.
    pub held: Money,
}

/// A transfer to be made.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Transfer {
    /// A UUIDv7; [`uuid_v7`](crate::uuid_v7) makes one.
    pub id: String,
    /// The account that pays, or a head.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub debit: Option<String>,
    /// The account that receives, or a head.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credit: Option<String>,
    /// How much.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub amount: Option<Money>,
    /// Your own classification.
    #[serde(skip_serializing_if = "is_zero_u16")]
    pub code: u16,
    /// Your own text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Free text for those who may read the account, sealed; up to 140 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The value date.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_date: Option<String>,
    /// Hold instead of post.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub pending: bool,
    /// Seconds until a pending transfer expires.
    #[serde(skip_serializing_if = "is_zero_u32")]
    pub timeout: u32,
    /// Succeeds or fails with the next of its batch.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub linked: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_zero_u16(value: &u16) -> bool {
    *value == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_zero_u32(value: &u32) -> bool {
    *value == 0
}

/// A transfer that was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct TransferDone {
    /// Its id.
    pub id: String,
    /// `posted`, `pending`, `voided`; to another branch `sent`, `settled`, `returned`.
    pub status: String,
    /// What moved.
    pub amount: Money,
    /// Booking time.
    pub booked_at: String,
    /// The accounting date.
    pub business_date: String,
    /// Position in the branch's journal.
    pub position: u64,
    /// Where it can be looked up.
    pub location: String,
    /// Whether this is the answer to a retry.
    pub repeated: bool,
}

/// A payment to an account of another branch: where the money is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Payment {
    /// The id of its transfer.
    pub id: String,
    /// `sent`, `settled` or `returned`.
    pub status: String,
    /// The account that pays.
    pub debit: String,
    /// The account that receives.
    pub credit: String,
    /// How much.
    pub amount: Money,
    /// The payer's branch.
    pub from: u16,
    /// The payee's branch.
    pub to: u16,
    /// Its number on the channel between them.
    pub number: u64,
    /// Why it came back and to whom, if it did.
    pub returned: Option<Returned>,
}

/// Why a payment came back.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Returned {
    /// The code of the problem in the payee's branch.
    pub code: String,
    /// Who has the money again.
    pub to: String,
}

/// A line of a statement.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Entry {
    /// The transfer's id.
    pub id: String,
    /// `debit` or `credit`.
    pub side: Option<String>,
    /// What moved.
    pub amount: Money,
    /// The balance right after.
    pub balance: Option<Money>,
    /// `posted`, `pending`, …
    pub status: String,
    /// The other account.
    pub counterparty: String,
    /// The client's text.
    pub reference: Option<String>,
    /// Booking time.
    pub booked_at: String,
    /// The accounting date.
    pub business_date: String,
    /// The value date.
    pub value_date: String,
}

/// A page of entries.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Entries {
    /// In the order asked for.
    pub entries: Vec<Entry>,
    /// Pass as cursor to go on.
    pub next: Option<String>,
    /// Pass as cursor with the other order.
    pub previous: Option<String>,
    /// The answer holds up to this position.
    pub as_of: u64,
}

/// The proof that a record is in a branch's journal.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Receipt {
    /// The transfer's id.
    pub id: String,
    /// The branch.
    pub branch: u16,
    /// The record's position.
    pub position: u64,
    /// What it rests on.
    pub status: String,
    /// Hexadecimal, for `skerry verify`.
    pub receipt: String,
}

/// A branch.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Branch {
    /// Its number.
    pub branch: u16,
    /// `open`, `sick`, `closed`.
    pub state: String,
    /// Why it is not open.
    pub reason: Option<String>,
    /// The open business day.
    pub business_date: String,
    /// Records in its journal.
    pub position: u64,
    /// Customers it holds.
    pub customers: u64,
    /// Customers it can still take.
    pub room: u64,
    /// Accounts it holds.
    pub accounts: u64,
}

/// All branches.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Branches {
    /// By number.
    pub branches: Vec<Branch>,
}

/// An event as CloudEvents 1.0 has it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Event {
    /// Unique within its source.
    pub id: String,
    /// `/branches/0001`.
    pub source: String,
    /// `skerry.transfer.posted` and so on.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it is about.
    pub subject: Option<String>,
    /// When.
    pub time: String,
    /// What happened.
    pub data: serde_json::Value,
}

/// A page of events.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Events {
    /// Per branch in journal order.
    pub events: Vec<Event>,
    /// Pass as `after` for what comes next.
    pub next: String,
    /// Whether there is more to look at now.
    pub more: bool,
}
