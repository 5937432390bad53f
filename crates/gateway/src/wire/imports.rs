//! History taken over from an old core.
//!
//! Each item names its cause: the old core's own key for it. Keys and ids derive from causes, so a second import
//! of the same changes nothing and says so.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::scalars::{AccountText, CurrencyText, Customer, Day, Id, Instant, MoneyIn, Party, SignedMoneyIn};
use crate::sealing::Document;

/// The most items in one call.
pub const ITEMS_MAX: usize = 2_000;

/// Customers to take over.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CustomersIn {
    /// At most 2,000.
    pub customers: Vec<ImportCustomer>,
}

/// One customer of the old core.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportCustomer {
    /// The old core's key, such as `client/17`; at most 200 visible ASCII characters.
    pub cause: String,
    /// The name.
    pub name: String,
    /// What identifies them.
    pub document: Document,
    /// Telephone, address and the like.
    #[serde(default)]
    pub contacts: BTreeMap<String, String>,
    /// The business line.
    #[serde(default)]
    pub line: u8,
    /// The branch to live in; left out, the open one with the most room.
    #[serde(default)]
    pub branch: Option<u16>,
    /// Since when, in the old core.
    #[serde(default)]
    pub opened: Option<Day>,
}

/// Accounts to take over.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AccountsIn {
    /// At most 2,000.
    pub accounts: Vec<ImportAccount>,
}

/// One account of the old core.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportAccount {
    /// The old core's key, such as `account/1787`.
    pub cause: String,
    /// Whose.
    pub customer: Customer,
    /// The product by name.
    pub product: String,
    /// The currency.
    pub currency: CurrencyText,
    /// Since when, in the old core.
    #[serde(default)]
    pub opened: Option<Day>,
    /// The lowest balance that the old core allowed; negative is an overdraft.
    #[serde(default)]
    pub floor: Option<SignedMoneyIn>,
}

/// Transfers to take over, of one or more branches, in the order of time.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TransfersIn {
    /// At most 8,192.
    pub transfers: Vec<ImportTransfer>,
}

/// One transaction of the old core.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportTransfer {
    /// The old core's key, such as `trans/695247`; the transfer's id derives from it.
    pub cause: String,
    /// The account or head that paid.
    pub debit: Party,
    /// The account or head that received.
    pub credit: Party,
    /// How much.
    pub amount: MoneyIn,
    /// The bank's own classification.
    #[serde(default)]
    pub code: u16,
    /// Text, up to 140 bytes.
    #[serde(default)]
    pub reference: Option<String>,
    /// The old core's own time; must not run backwards on an account.
    pub time: Instant,
    /// The old core's accounting date.
    pub business_date: Day,
    /// The value date; left out, the accounting date.
    #[serde(default)]
    pub value_date: Option<Day>,
}

/// What became of an import, in order.
#[derive(Debug, Serialize, ToSchema)]
pub struct ImportDone {
    /// How many are new.
    pub new: u32,
    /// How many had been taken over before.
    pub repeated: u32,
    /// How many were refused.
    pub refused: u32,
    /// One per item.
    pub results: Vec<ImportResult>,
}

/// One item's result.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct ImportResult {
    /// The item's cause.
    pub cause: String,
    /// The customer, new or known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customer: Option<Customer>,
    /// The account, new or known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<AccountText>,
    /// The transfer's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transfer: Option<Id>,
    /// Whether it had been taken over before.
    pub repeated: bool,
    /// Why it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Object)]
    pub problem: Option<serde_json::Value>,
}
