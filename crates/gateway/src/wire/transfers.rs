//! Transfers as JSON, and what they come to.

use serde::{Deserialize, Serialize};
use skerry_branch::api::Asked;
use skerry_ledger::{AccountRef, Flags, Transfer, TransferId};
use skerry_money::Currency;
use utoipa::ToSchema;

use super::scalars::{AccountText, Day, Id, Instant, Money, MoneyIn, Party};
use crate::catalogue;
use crate::detail::said;
use crate::notes::{self, Unshown};
use crate::problem::{Problem, ProblemDocument};

/// The longest reference, in bytes of UTF-8.
pub const REFERENCE_BYTES_MAX: usize = 140;

/// A side of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The account that pays.
    Debit,
    /// The account that receives.
    Credit,
}

/// One transfer. Say `debit`, `credit` and `amount`; or one of `post`, `void`, `reverse` with `debit`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TransferIn {
    /// A UUIDv7 of your choice: sending the same again is safe. Without it an `Idempotency-Key` is needed.
    #[serde(default)]
    pub id: Option<Id>,
    /// The account that pays.
    #[serde(default)]
    pub debit: Option<Party>,
    /// The account that receives.
    #[serde(default)]
    pub credit: Option<Party>,
    /// How much. For `balancing` the most to move; for `post` how much of the hold, all if left out.
    #[serde(default)]
    pub amount: Option<MoneyIn>,
    /// Your own classification.
    #[serde(default)]
    pub code: u16,
    /// Your own text, up to 140 bytes; found by it again.
    #[serde(default)]
    #[schema(max_length = 140)]
    pub reference: Option<String>,
    /// Free text for those who may read the account, up to 140 characters. It is sealed under the paying customer's key (the
    /// paid one's, if a head pays) and is unreadable once that customer is erased.
    #[serde(default)]
    #[schema(max_length = 140)]
    pub note: Option<String>,
    /// The value date, within 400 days of the business date.
    #[serde(default)]
    pub value_date: Option<Day>,
    /// Hold the amount instead of posting it.
    #[serde(default)]
    pub pending: bool,
    /// Seconds until a pending transfer expires; left out, it does not.
    #[serde(default)]
    pub timeout: u32,
    /// In a batch: succeeds or fails together with the next.
    #[serde(default)]
    pub linked: bool,
    /// Move as much as this side's limit allows, at most `amount`.
    #[serde(default)]
    pub balancing: Option<Side>,
    /// Close this side's account with this pending transfer.
    #[serde(default)]
    pub closing: Option<Side>,
    /// Post the pending transfer with this id.
    #[serde(default)]
    pub post: Option<Id>,
    /// Void the pending transfer with this id.
    #[serde(default)]
    pub void: Option<Id>,
    /// Reverse the posted transfer with this id, wholly.
    #[serde(default)]
    pub reverse: Option<Id>,
}

/// What is needed to answer a transfer besides the branch's word.
#[derive(Debug, Clone, Copy)]
pub struct Echo {
    /// The transfer's id.
    pub id: u128,
    /// As asked; unset for a resolving transfer without it.
    pub debit: AccountRef,
    /// As asked.
    pub credit: AccountRef,
    /// As asked.
    pub flags: Flags,
}

impl TransferIn {
    /// The branch that is to decide: that of the debit account, else of the credit account.
    ///
    /// # Errors
    ///
    /// `missing_field` or `invalid_field` when no branch can be told.
    pub fn branch(&self) -> Result<u16, Problem> {
        let debit = self.debit.ok_or_else(|| missing("debit"))?;
        debit.branch().or_else(|| self.credit.and_then(Party::branch)).ok_or_else(|| {
            Problem::numbered(catalogue::INVALID_FIELD).field("debit").detail(said!(
                "between two heads, name the branch: gl:1001@0001",
                "两个科目之间须指明分行：gl:1001@0001"
            ))
        })
    }

    /// The transfer for `branch`, with `id` if it has none of its own.
    ///
    /// # Errors
    ///
    /// A problem that names the field.
    pub fn asked(&self, branch: u16, id: Option<u128>) -> Result<(Asked, Echo), Problem> {
        let id = self
            .id
            .map(|id| id.0)
            .or(id)
            .ok_or_else(|| Problem::numbered(catalogue::ID_NEEDED).field("id"))?;
        let (flags, related) = self.flags()?;
        let amount = self.amount.map(|money| money.0);
        let resolving = related != 0;
        if !resolving && amount.is_none() {
            return Err(missing("amount"));
        }
        if !resolving && self.credit.is_none() {
            return Err(missing("credit"));
        }
        let currency = amount.map(|amount| amount.currency());
        let transfer = Transfer {
            id: TransferId(id),
            debit: side(self.debit, branch, currency, resolving),
            credit: side(self.credit, branch, currency, resolving),
            amount: amount.map_or(0, |amount| amount.minor()),
            currency,
            code: self.code,
            flags,
            reference: [0; 16],
            related: TransferId(related),
            timeout_seconds: self.timeout,
            value_date: self.value_date.map(|day| day.0),
            imported: None,
            digest: 0,
        };
        let mut asked = Asked { transfer, ..Asked::default() };
        set_reference(&mut asked, self.reference.as_deref().unwrap_or(""))?;
        if let Some(note) = &self.note {
            notes::check(note, flags)?;
        }
        let echo = Echo { id, debit: transfer.debit, credit: transfer.credit, flags };
        Ok((asked, echo))
    }

    fn flags(&self) -> Result<(Flags, u128), Problem> {
        let mut flags = Flags(0);
        let mut set = |on: bool, flag: Flags| {
            if on {
                flags = flags.with(flag);
            }
        };
        set(self.linked, Flags::LINKED);
        set(self.pending, Flags::PENDING);
        set(self.balancing == Some(Side::Debit), Flags::BALANCING_DEBIT);
        set(self.balancing == Some(Side::Credit), Flags::BALANCING_CREDIT);
        set(self.closing == Some(Side::Debit), Flags::CLOSING_DEBIT);
        set(self.closing == Some(Side::Credit), Flags::CLOSING_CREDIT);
        set(self.post.is_some(), Flags::POST);
        set(self.void.is_some(), Flags::VOID);
        set(self.reverse.is_some(), Flags::REVERSAL);
        let named = [self.post, self.void, self.reverse];
        if named.iter().flatten().count() > 1 {
            return Err(Problem::numbered(catalogue::INVALID_FIELD).field("post").detail(said!(
                "only one of post, void and reverse can be done at a time",
                "入账、撤销、冲正每次只能选一项"
            )));
        }
        match named.into_iter().flatten().next() {
            Some(Id(0)) => Err(Problem::numbered(catalogue::INVALID_FIELD)
                .field("post")
                .detail(said!("the id is zero", "编号为零"))),
            Some(Id(related)) => Ok((flags, related)),
            None => Ok((flags, 0)),
        }
    }
}

fn missing(field: &'static str) -> Problem {
    Problem::numbered(catalogue::MISSING_FIELD)
        .field(field)
        .detail(said!("missing field `{field}`", "缺少字段 `{field}`"))
}

/// A head without a currency can only be that of the hold or original: the ledger takes both from there.
fn side(party: Option<Party>, branch: u16, currency: Option<Currency>, resolving: bool) -> AccountRef {
    let reference = party.and_then(|party| party.reference(branch, currency));
    assert!(resolving || reference.is_some(), "a transfer with an amount has a currency");
    reference.unwrap_or_default()
}

/// Puts a reference where it fits: 16 bytes in the record, the rest in the tail.
///
/// # Errors
///
/// `invalid_field` if it is too long or has a NUL.
pub fn set_reference(asked: &mut Asked, reference: &str) -> Result<(), Problem> {
    if reference.len() > REFERENCE_BYTES_MAX || reference.contains('\0') {
        return Err(Problem::numbered(catalogue::INVALID_FIELD).field("reference").detail(said!(
            "at most {REFERENCE_BYTES_MAX} bytes of text",
            "最多 {REFERENCE_BYTES_MAX} 字节的文本"
        )));
    }
    match asked.transfer.reference.get_mut(..reference.len()) {
        Some(room) => room.copy_from_slice(reference.as_bytes()),
        None => asked.reference = reference.into(),
    }
    Ok(())
}

/// A batch of transfers.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchIn {
    /// In order; linked ones next to each other.
    pub transfers: Vec<TransferIn>,
}

/// Resolves or undoes the transfer of the path.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResolveIn {
    /// A UUIDv7 for the resolving transfer itself. Without it an `Idempotency-Key` is needed. A reversal needs
    /// neither: its id follows from the original.
    #[serde(default)]
    pub id: Option<Id>,
    /// For `post`: how much of the hold; all if left out.
    #[serde(default)]
    pub amount: Option<MoneyIn>,
    /// Your own classification.
    #[serde(default)]
    pub code: u16,
    /// Your own text, up to 140 bytes.
    #[serde(default)]
    pub reference: Option<String>,
    /// The value date.
    #[serde(default)]
    pub value_date: Option<Day>,
}

/// What became of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Money moved.
    Posted,
    /// The amount is held.
    Pending,
    /// A hold was released.
    Voided,
    /// A hold ran out.
    Expired,
    /// Debited and on its way to another branch.
    Sent,
    /// The payee in another branch has it.
    Settled,
    /// Refused in the payee's branch and given back.
    Returned,
    /// Its id was used up by a refusal.
    Refused,
}

/// A transfer that was accepted.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct TransferDone {
    /// Its id.
    pub id: Id,
    /// What became of it.
    pub status: Status,
    /// What was moved, held or released.
    pub amount: Money,
    /// Booking time, given by the branch.
    pub booked_at: Instant,
    /// The accounting date.
    pub business_date: Day,
    /// Position of its record in the branch's journal.
    pub position: u64,
    /// Where it can be looked up.
    pub location: String,
    /// Whether this is the answer to a retry.
    pub repeated: bool,
}

/// Results of a JSON batch, in order: each is a transfer or a problem.
#[derive(Debug, Serialize, ToSchema)]
pub struct BatchDone {
    /// How many were accepted.
    pub accepted: u32,
    /// One per transfer.
    pub results: Vec<BatchResult>,
}

/// One line of a batch's answer.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum BatchResult {
    /// Accepted.
    Done(TransferDone),
    /// Refused.
    Problem(RefusedLine),
}

/// A problem document as a line of an answer, in the client's language already.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct RefusedLine(pub serde_json::Value);

impl utoipa::PartialSchema for RefusedLine {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        ProblemDocument::<'static>::schema()
    }
}

impl ToSchema for RefusedLine {
    fn name() -> std::borrow::Cow<'static, str> {
        "ProblemDocument".into()
    }
}

/// How a transfer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EndedAs {
    /// A hold was posted, for `amount`; the rest of it was released.
    Posted,
    /// A hold was released.
    Voided,
    /// A hold ran out.
    Expired,
    /// A payment was refused in the payee's branch and given back.
    Returned,
    /// It was reversed.
    Reversed,
}

/// What ended a transfer.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Ended {
    /// How.
    pub status: EndedAs,
    /// The transfer that did it; absent where the bank itself did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Id>,
    /// What was posted, released or given back.
    pub amount: Money,
    /// When.
    pub at: Instant,
}

/// A transfer as it is in the books.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct TransferView {
    /// Its id.
    pub id: Id,
    /// What became of it; of a hold, what became of the hold.
    pub status: Status,
    /// The account that pays.
    pub debit: AccountText,
    /// The account that receives.
    pub credit: AccountText,
    /// What was moved or held.
    pub amount: Money,
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
    /// What ended it: the posting, voiding or expiry of a hold, the return of a payment, or a reversal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ended>,
    /// For a hold: when it expires.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<Instant>,
    /// Booking time.
    pub booked_at: Instant,
    /// The accounting date.
    pub business_date: Day,
    /// The value date.
    pub value_date: Day,
    /// For an import: the old core's own time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub imported_at: Option<Instant>,
    /// The branch in whose journal it is.
    pub branch: u16,
    /// Position of its record there.
    pub position: u64,
}

/// A page of transfers.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct TransfersPage {
    /// In the order asked for. Of a hold the status is that of its own record: look it up for what became of it.
    pub transfers: Vec<TransferView>,
    /// Pass as `cursor` to go on; absent at the end. A page may be short and still go on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// Pass as `cursor` with the other `order` for what lies before this page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous: Option<String>,
    /// The answer holds for the branch's journal up to this position.
    pub as_of: u64,
}

#[cfg(test)]
#[path = "transfers_tests.rs"]
mod tests;
