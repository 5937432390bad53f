//! What operators and auditors read and steer: branches, chart, trial balance, audit, events, approvals, tokens.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::buses::BusView;
use super::directory::FollowerView;
use super::scalars::{AccountText, CurrencyText, Customer, Day, Id, Instant, Money};
use crate::auth::Operation;
use crate::notes::Unshown;
use crate::tokens::TokenRecord;

/// All branches.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct BranchesView {
    /// By number.
    pub branches: Vec<BranchView>,
}

/// A branch.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct BranchView {
    /// Its number.
    pub branch: u16,
    /// `open`, `opening`, `sick` or `closed`; `away` if no process that has it is heard of.
    pub state: std::borrow::Cow<'static, str>,
    /// Why it is not open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The store that its journal is kept in; absent for local files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,
    /// Why its checkpoints are late: the signer's own words. Payments go on, receipts wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint_fault: Option<String>,
    /// The open business day.
    pub business_date: Day,
    /// Records in its journal, archived ones among them.
    pub position: u64,
    /// The first position that is not archived.
    pub start: u64,
    /// Customers it holds.
    pub customers: u64,
    /// Customers it can still take.
    pub room: u64,
    /// Accounts it holds.
    pub accounts: u64,
    /// Open holds.
    pub holds: u64,
    /// Requests waiting.
    pub queue: u64,
    /// In the list: the nodes that follow it, as far as the directory answers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub followed_by: Vec<FollowerView>,
}

/// How the bank is doing.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct StatusView {
    /// `ok`, or `degraded` when a branch is not open or the chosen bus cannot be reached.
    pub status: &'static str,
    /// Whether every branch is open and the chosen bus can be reached.
    pub healthy: bool,
    /// The machine's name.
    pub machine: String,
    /// The process.
    pub process: u32,
    /// This release.
    pub version: &'static str,
    /// Seconds since the gateway began.
    pub uptime_seconds: u64,
    /// Connections open now.
    pub connections: u64,
    /// By number.
    pub branches: Vec<BranchView>,
    /// What carries messages between branches, as this process sees it.
    pub buses: Vec<BusView>,
}

/// What a branch has counted for someone or something.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct MeterView {
    /// A kind of command, or a principal.
    pub name: String,
    /// Requests served.
    pub messages: u64,
    /// Journal records written for them.
    pub records: u64,
    /// Records among them that journal a refusal.
    pub refusals: u64,
    /// Bytes that came in.
    pub bytes_in: u64,
    /// Bytes written to the journal.
    pub bytes_journal: u64,
    /// Nanoseconds of the branch's thread.
    pub cpu_ns: u64,
}

/// The meters of a branch, since it was opened.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct BranchMeters {
    /// Its number.
    pub branch: u16,
    /// Accounts it holds.
    pub accounts: u64,
    /// By kind of command.
    pub kinds: Vec<MeterView>,
    /// By principal.
    pub principals: Vec<MeterView>,
}

/// All meters: what `skerry cost` multiplies with prices.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct MetersView {
    /// By branch.
    pub branches: Vec<BranchMeters>,
    /// The whole process.
    pub totals: MetersTotals,
}

/// What the whole process has used since it began, and holds now.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct MetersTotals {
    /// Customer accounts.
    pub accounts: u64,
    /// Transfers decided since the process began.
    pub transfers: u64,
    /// Processor time of all its threads, in seconds.
    pub cpu_seconds: f64,
    /// Bytes of the data folder.
    pub disk_bytes: u64,
    /// Resident memory.
    pub memory_bytes: u64,
    /// Bytes of answers.
    pub sent_bytes: u64,
}

/// The chart of accounts.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChartView {
    /// Grows with each adoption.
    pub version: u32,
    /// The general-ledger heads, by code.
    pub heads: Vec<HeadView>,
    /// The products, by number.
    pub products: Vec<ProductView>,
}

/// A general-ledger head.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HeadView {
    /// Its code; as an account `gl:<code>`.
    pub code: u32,
    /// `asset`, `liability`, `equity`, `income`, `expense` or `off_balance`.
    pub class: String,
    /// In English.
    pub name: String,
    /// In Chinese.
    pub name_zh: String,
}

/// A product.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProductView {
    /// Its number in records.
    pub number: u16,
    /// Its name in requests.
    pub key: String,
    /// The head its accounts post to.
    pub head: u32,
    /// In English.
    pub name: String,
    /// In Chinese.
    pub name_zh: String,
}

/// A trial balance of one day.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct TrialView {
    /// The day.
    pub date: Day,
    /// `booked` or `value`.
    pub by: &'static str,
    /// By branch, head and currency.
    pub rows: Vec<TrialLine>,
    /// Per branch and currency; debits equal credits.
    pub totals: Vec<TrialTotal>,
}

/// A head in a trial balance.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct TrialLine {
    /// The branch.
    pub branch: u16,
    /// The head.
    pub head: u32,
    /// Its name in English.
    pub name: String,
    /// Its name in Chinese.
    pub name_zh: String,
    /// What it counts.
    pub class: String,
    /// Credits less debits before the day.
    pub opening: Money,
    /// Debits of the day.
    pub debits: Money,
    /// Credits of the day.
    pub credits: Money,
    /// Credits less debits at its end.
    pub closing: Money,
}

/// What a trial balance sums to.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct TrialTotal {
    /// The branch.
    pub branch: u16,
    /// The currency.
    pub currency: CurrencyText,
    /// All debits of the day.
    pub debits: Money,
    /// All credits of the day.
    pub credits: Money,
    /// The sum of the closing balances: zero.
    pub closing: Money,
}

/// Who did what.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Act {
    /// The branch.
    pub branch: u16,
    /// Position in its journal.
    pub position: u64,
    /// When.
    pub time: Instant,
    /// The accounting date.
    pub business_date: Day,
    /// Who.
    pub principal: String,
    /// As what.
    pub role: &'static str,
    /// The second principal, where two were needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approver: Option<String>,
    /// Why.
    pub cause: &'static str,
    /// Digest of the request.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub request: String,
    /// What happened, by name.
    pub act: &'static str,
    /// The accounts it touched.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub accounts: Vec<AccountText>,
    /// The customer it touched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customer: Option<Customer>,
    /// The transfer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transfer: Option<Id>,
    /// The amount.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub amount: Option<Money>,
}

/// A page of the audit.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct AuditPage {
    /// In journal order.
    pub acts: Vec<Act>,
    /// Pass as `cursor` to go on. A page may be short, even empty, and still go on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A proposal.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProposalIn {
    /// The branch that asked for approval.
    pub branch: u16,
    /// The digest in the `request` of the problem `needs_approval`.
    pub request: String,
    /// `reversals`, `limits`, `freezes`, `heads`, `imports`, `declared_loss`, `erasure` or `policy`.
    pub matter: String,
}

/// A proposal that stands.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ProposalView {
    /// The branch.
    pub branch: u16,
    /// The digest of the request.
    pub request: String,
    /// What it is about.
    pub matter: &'static str,
    /// Who proposed.
    pub proposer: String,
    /// Who approved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approver: Option<String>,
    /// When it was proposed; it stands for a day.
    pub proposed: Instant,
}

/// All that stand.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ProposalsView {
    /// Oldest first, by branch.
    pub approvals: Vec<ProposalView>,
}

/// What is under four eyes.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyIn {
    /// `reversals`, `limits`, `freezes`, `heads`, `imports`, `declared_loss`, `erasure`, `policy`.
    pub four_eyes: Vec<String>,
    /// Days after the end of the relationship before a customer may be erased.
    pub retention_days: u32,
}

/// A date.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DateIn {
    /// The day.
    pub date: Day,
}

/// A level of the journal's format.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FormatIn {
    /// By default the highest that this release knows.
    pub level: Option<u16>,
}

/// Done.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub struct Done {
    /// Always true.
    pub done: bool,
}

/// A new token.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenIn {
    /// The name under which its holder acts, at most 32 bytes.
    pub principal: String,
    /// `operator`, `service`, `auditor` or `customer`.
    pub role: String,
    /// The branches it may act on; left out, all.
    #[serde(default)]
    pub branches: Option<Vec<u16>>,
    /// The only customer it may act for; needed for the role customer.
    #[serde(default)]
    pub customer: Option<String>,
    /// What it may do; left out, all that its role allows.
    #[serde(default)]
    pub operations: Option<Vec<Operation>>,
    /// SHA-256 of the client certificate it is bound to, in hexadecimal.
    #[serde(default)]
    pub certificate: Option<String>,
    /// Seconds until it ends; left out, it does not.
    #[serde(default)]
    pub lifetime_seconds: Option<u64>,
}

/// A token that was just made.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct TokenDone {
    /// The token itself, shown this once.
    pub token: String,
    /// Its public half, by which it is listed and revoked.
    pub id: String,
    /// The name under which its holder acts.
    pub principal: String,
    /// `operator`, `service`, `auditor` or `customer`.
    pub role: String,
    /// The branches it may act on; absent is all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub branches: Option<Vec<u16>>,
    /// The only customer it may act for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customer: Option<String>,
    /// What it may do; absent is all that its role allows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operations: Option<Vec<Operation>>,
    /// SHA-256 of the client certificate it is bound to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// When it was made (RFC 3339).
    pub created: String,
    /// When it ends (RFC 3339); absent is never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// Who made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub made_by: Option<String>,
    /// Whether it was taken back: not yet.
    pub revoked: bool,
}

impl TokenDone {
    /// A token with what is kept of it.
    #[must_use]
    pub fn of(token: String, record: TokenRecord) -> Self {
        Self {
            token,
            id: record.id,
            principal: record.principal,
            role: record.role,
            branches: record.branches,
            customer: record.customer,
            operations: record.operations,
            certificate: record.certificate,
            created: record.created,
            expires: record.expires,
            made_by: record.made_by,
            revoked: record.revoked,
        }
    }
}

/// All tokens.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct TokensView {
    /// In the order in which they were made; without their secrets.
    pub tokens: Vec<TokenRecord>,
}

/// A receipt: the proof that a record is in a branch's journal.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ReceiptView {
    /// The transfer's id.
    pub id: Id,
    /// The branch.
    pub branch: u16,
    /// Position of the record.
    pub position: u64,
    /// What it rests on: `signed, not anchored`.
    pub status: &'static str,
    /// The receipt in hexadecimal, for `skerry verify`.
    pub receipt: String,
    /// The transfer's note, which the receipt holds sealed; absent if there is none, `null` if `note_status` says why it is not
    /// shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub note: Option<Option<String>>,
    /// Why a note that is there is not shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note_status: Option<Unshown>,
    /// The key that signs for the bank: an Ed25519 key in hexadecimal, or `sm2:` and an SM2 key. Compare it with the one the
    /// bank publishes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
    /// How the bank's first key led to that one: a signed statement for each rotation, in hexadecimal.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rotations: Vec<String>,
}

/// Up to where to archive: one of the two.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ArchiveIn {
    /// Segments that end at or before this position.
    #[serde(default)]
    pub position: Option<u64>,
    /// Segments that hold nothing of this business day or a later one.
    #[serde(default)]
    pub date: Option<Day>,
}

/// How far an archiving has come.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub struct ArchivedView {
    /// The branch.
    pub branch: u16,
    /// The first position that is not archived.
    pub start: u64,
    /// Whether it is over; else ask again.
    pub done: bool,
}
