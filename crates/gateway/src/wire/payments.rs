//! Payments to other branches: where the money is.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::scalars::{AccountText, Day, Id, Instant, Money, MoneyIn, Party};
use super::transfers::Status;

/// One debit for many payees.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PayoutIn {
    /// A UUIDv7 for the whole; the payees' ids follow from it. Without it an `Idempotency-Key` is needed.
    #[serde(default)]
    pub id: Option<Id>,
    /// Who pays: an account number, or a head such as `gl:1001@0001`.
    #[schema(value_type = String)]
    pub debit: Party,
    /// Who is paid, wherever they live.
    pub payees: Vec<PayeeIn>,
    /// The value date of all.
    #[serde(default)]
    pub value_date: Option<Day>,
}

/// One payee of many.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PayeeIn {
    /// The account.
    #[schema(value_type = String)]
    pub credit: Party,
    /// How much.
    pub amount: MoneyIn,
    /// Your own classification.
    #[serde(default)]
    pub code: u16,
    /// Your own text, up to 140 bytes.
    #[serde(default)]
    pub reference: Option<String>,
}

/// One debit for many payees: what each came to.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct PayoutOut {
    /// Who paid.
    pub debit: AccountText,
    /// All of it.
    pub amount: Money,
    /// In order; those in other branches settle or return each by itself.
    pub payees: Vec<super::transfers::TransferDone>,
    /// Whether this is the answer to a retry.
    pub repeated: bool,
}

/// A payment to an account of another branch.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct PaymentOut {
    /// Its id.
    pub id: Id,
    /// `sent`: debited and under way. `settled`: the payee has it. `returned`: it came back.
    pub status: Status,
    /// The account that pays.
    pub debit: AccountText,
    /// The account that receives, in another branch.
    pub credit: AccountText,
    /// How much.
    pub amount: Money,
    /// The payer's branch.
    pub from: u16,
    /// The payee's branch.
    pub to: u16,
    /// Its number on the channel between them.
    pub number: u64,
    /// When the payer was debited.
    pub booked_at: Instant,
    /// The accounting date on which the payer was debited.
    pub business_date: Day,
    /// Position of its record in the journal of the payer's branch.
    pub position: u64,
    /// Why it came back, and to whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub returned: Option<ReturnedOut>,
    /// Where this can be asked again.
    pub location: String,
    /// In the answer to a transfer: whether this is the answer to a retry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeated: Option<bool>,
}

/// A payment that came back.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ReturnedOut {
    /// The code of the problem in the payee's branch.
    pub code: &'static str,
    /// Its number; `/docs/errors/{number}` tells more.
    pub number: u16,
    /// Who got the money back: the payer, or the head *returns unapplied* if the payer's account takes nothing.
    pub to: AccountText,
    /// When.
    pub at: Instant,
    /// Position of the record of the return.
    pub position: u64,
}
