//! Accounts, their entries and balances as JSON.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::scalars::{AccountText, CurrencyText, Customer, Day, Id, Instant, Money, SignedMoneyIn};
use super::transfers::{Side, Status};
use crate::notes::Unshown;

/// A new account.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AccountIn {
    /// The product by name, such as `current`; see `GET /v1/chart`.
    #[schema(example = "current")]
    pub product: String,
    /// Its only currency.
    pub currency: CurrencyText,
    /// The lowest balance allowed; negative is an overdraft, which only operators grant.
    #[serde(default)]
    pub floor: Option<SignedMoneyIn>,
    /// The most that may be debited in a business day; left out or `null`, no limit.
    #[serde(default)]
    pub daily: Option<SignedMoneyIn>,
}

/// New limits; what is left out stays.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitsIn {
    /// The lowest balance allowed; negative is an overdraft.
    #[serde(default)]
    pub floor: Option<SignedMoneyIn>,
    /// The most that may be debited in a business day.
    #[serde(default)]
    pub daily: Option<SignedMoneyIn>,
    /// Lift the daily limit.
    #[serde(default)]
    pub unlimited: bool,
}

/// Which sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SidesIn {
    /// Money leaving.
    Debit,
    /// Money coming in.
    Credit,
    /// Both.
    Both,
}

/// A freeze.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FreezeIn {
    /// Which sides.
    pub sides: SidesIn,
    /// Why: the bank's own code, 1 to 255.
    pub reason: u8,
}

/// A thaw.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UnfreezeIn {
    /// Which sides.
    pub sides: SidesIn,
}

/// An account.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct AccountView {
    /// Its number, or its head.
    pub number: AccountText,
    /// Whose it is; heads have no customer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customer: Option<Customer>,
    /// The branch it is in.
    pub branch: u16,
    /// The product by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub product: Option<String>,
    /// Its only currency.
    pub currency: CurrencyText,
    /// Since when.
    pub opened: Day,
    /// `open`, `frozen`, `closing` or `closed`.
    pub status: &'static str,
    /// Which sides are frozen and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frozen: Option<Frozen>,
    /// What is in it.
    pub balances: Balances,
    /// What it is allowed.
    pub limits: LimitsView,
    /// The answer holds for the branch's journal up to this position.
    pub position: u64,
}

/// Reasons of a freeze; 0 is not frozen.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub struct Frozen {
    /// Why debits are frozen.
    pub debit: u8,
    /// Why credits are frozen.
    pub credit: u8,
}

/// Balances. A deposit's is credits less debits; so is a loan's, whose balance is below zero while it is owed.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub struct Balances {
    /// Posted credits less posted debits.
    pub posted: Money,
    /// What may still be moved in the limited direction: for a deposit be debited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub available: Option<Money>,
    /// Open holds that would debit it.
    pub held: Money,
    /// Open holds that would credit it.
    pub expected: Money,
}

/// Limits.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub struct LimitsView {
    /// The lowest balance allowed.
    pub floor: Money,
    /// The most that may be debited in a business day; absent is no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub daily: Option<Money>,
    /// What was debited of it on `daily_day`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub daily_used: Option<Money>,
}

/// A customer's accounts.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct AccountsPage {
    /// In the order in which they were opened.
    pub accounts: Vec<AccountView>,
    /// Pass as `cursor` for the next page; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A line of a statement.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Entry {
    /// The transfer's id.
    pub id: Id,
    /// The side that the account is on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub side: Option<Side>,
    /// What moved or was held.
    pub amount: Money,
    /// The account's balance right after.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub balance: Option<Money>,
    /// What it is.
    pub status: Status,
    /// The other account.
    pub counterparty: AccountText,
    /// The client's classification.
    pub code: u16,
    /// The client's text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// The note; absent if there is none, `null` if `note_status` says why it is not shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub note: Option<Option<String>>,
    /// Why a note that is there is not shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note_status: Option<Unshown>,
    /// The hold resolved or the transfer reversed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub related: Option<Id>,
    /// Booking time.
    pub booked_at: Instant,
    /// The accounting date.
    pub business_date: Day,
    /// The value date.
    pub value_date: Day,
    /// For an import: the old core's own time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub imported_at: Option<Instant>,
    /// Position of its record in the branch's journal.
    pub position: u64,
}

/// A page of entries.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct EntriesPage {
    /// In the order asked for.
    pub entries: Vec<Entry>,
    /// Pass as `cursor` to go on; absent at the end. A page may be short and still go on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// Pass as `cursor` with the other `order` for what lies before this page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous: Option<String>,
    /// The answer holds for the branch's journal up to this position.
    pub as_of: u64,
}

/// A balance as of a date.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct BalanceView {
    /// Which account.
    pub number: AccountText,
    /// As of the end of this booking date, if asked so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub booked: Option<Day>,
    /// As of the end of this value date, if asked so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Day>,
    /// Credits less debits.
    pub balance: Money,
    /// All debits.
    pub debits: Money,
    /// All credits.
    pub credits: Money,
}

/// A day on which an account moved.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct DayBalance {
    /// The day.
    pub date: Day,
    /// Debits of the day.
    pub debits: Money,
    /// Credits of the day.
    pub credits: Money,
    /// The balance at its end.
    pub closing: Money,
}

/// Closing balances by day.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct DaysView {
    /// Which account.
    pub number: AccountText,
    /// Days with movement only, oldest first.
    pub days: Vec<DayBalance>,
    /// Ask again with `from` set to this for more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<Day>,
}
