//! Transfers by id, and their receipts.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use skerry_branch::history::{Entry, Found};
use skerry_ledger::{AccountRef, Moved, MovedKind, TransferId};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::json;
use crate::auth::{Caller, Operation};
use crate::catalogue;
use crate::detail::said;
use crate::gateway::Shared;
use crate::notes::{self, Texts};
use crate::problem::Problem;
use crate::text;
use crate::wire::reports::ReceiptView;
use crate::wire::scalars::{AccountText, Day, Id, Instant, Money, Party};
use crate::wire::transfers::{Ended, EndedAs, Status, TransferView};
use skerry_node::seat::Seat;

pub(crate) fn router() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(by_account)).routes(routes!(by_id)).routes(routes!(receipt))
}

/// The branch of the debit account of a path: an account number, or a head with its branch.
pub(crate) fn debit_branch(number: &str) -> Result<u16, Problem> {
    if !number.starts_with("gl:") {
        return super::account_number(number).map(|number| number.branch());
    }
    let party = serde_json::from_value::<Party>(serde_json::Value::from(number)).ok();
    party.and_then(Party::branch).ok_or_else(|| {
        Problem::numbered(catalogue::INVALID_FIELD)
            .field("number")
            .detail(said!("a head is gl:1001@0001", "科目写作 gl:1001@0001"))
    })
}

/// A transfer's id in a path.
pub(crate) fn transfer_id(text: &str) -> Result<u128, Problem> {
    text::parse_uuid(text).ok_or_else(|| {
        Problem::numbered(catalogue::INVALID_FIELD)
            .field("id")
            .detail(said!("not a UUID of 36 characters", "不是 36 个字符的 UUID"))
    })
}

/// Whether the path's account is the one debited.
fn is_debit(number: &str, debit: AccountRef) -> bool {
    let own = AccountText(debit).to_string();
    own == number
}

/// Look a transfer up
#[utoipa::path(
    get, path = "/v1/accounts/{number}/transfers/{id}", tag = "transfers",
    params(("number" = String, Path, description = "The debit account."), ("id" = Id, Path, description = "The transfer.")),
    responses(
        (status = 200, description = "The transfer", body = TransferView),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn by_account(
    State(gateway): State<Shared>,
    caller: Caller,
    Path((number, id)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let (branch, found, texts) = find(&gateway, &caller, &number, &id).await?;
    Ok(json(StatusCode::OK, &found_view(branch, &found, &texts)))
}

async fn find(
    gateway: &Shared,
    caller: &Caller,
    number: &str,
    id: &str,
) -> Result<(u16, Found, Texts), Problem> {
    caller.may(Operation::TransfersRead)?;
    let branch = debit_branch(number)?;
    caller.may_in(branch)?;
    let id = transfer_id(id)?;
    if caller.customer().is_some() {
        let number = super::account_number(number)?;
        let account = AccountRef::customer(number.branch(), number.serial());
        super::accounts::look_fixed(gateway, caller, account).await?;
    }
    let found = with_texts(gateway, caller, branch, id).await?;
    let found = found.filter(|(found, _)| is_debit(number, found.entry.moved.debit));
    let (found, texts) = found.ok_or_else(|| Problem::numbered(catalogue::NOT_FOUND).field("id"))?;
    Ok((branch, found, texts))
}

/// A transfer of `branch` with its texts, as the caller may read them.
async fn with_texts(
    gateway: &Shared,
    caller: &Caller,
    branch: u16,
    id: u128,
) -> Result<Option<(Found, Texts)>, Problem> {
    let may_read = caller.may_read_personal_data();
    let find = move |seat: &dyn Seat| {
        let Some(found) = seat.transfer(TransferId(id))? else { return Ok(None) };
        let texts = notes::texts(seat, found.entry.position, found.entry.moved.flags, may_read)?;
        Ok(Some((found, texts)))
    };
    gateway.bank.query(branch, find).await
}

/// Find a transfer anywhere
///
/// Asks every branch. For operators and auditors.
#[utoipa::path(
    get, path = "/v1/transfers/{id}", tag = "transfers",
    params(("id" = Id, Path, description = "The transfer.")),
    responses(
        (status = 200, description = "The transfer", body = TransferView),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn by_id(
    State(gateway): State<Shared>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    caller.may(Operation::ReportsRead)?;
    caller.may_beyond_one_customer()?;
    let id = transfer_id(&id)?;
    let mut trouble = None;
    for branch in gateway.bank.seats().keys().copied() {
        if caller.may_in(branch).is_err() {
            continue;
        }
        match with_texts(&gateway, &caller, branch, id).await {
            Ok(Some((found, texts))) => return Ok(json(StatusCode::OK, &found_view(branch, &found, &texts))),
            Ok(None) => {}
            Err(problem) => trouble = Some(problem),
        }
    }
    // Not found is only said when every branch has been heard.
    Err(trouble.unwrap_or_else(|| Problem::numbered(catalogue::NOT_FOUND).field("id")))
}

/// Prove a transfer
///
/// A receipt that `skerry verify` checks without the bank. It rests on a signed checkpoint; until one covers the record the
/// answer is `history_unavailable` with `Retry-After`.
#[utoipa::path(
    get, path = "/v1/accounts/{number}/transfers/{id}/receipt", tag = "transfers",
    params(("number" = String, Path, description = "The debit account."), ("id" = Id, Path, description = "The transfer.")),
    responses(
        (status = 200, description = "The receipt", body = ReceiptView),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn receipt(
    State(gateway): State<Shared>,
    caller: Caller,
    Path((number, id)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let (branch, found, texts) = find(&gateway, &caller, &number, &id).await?;
    let position = found.entry.position;
    let seat = gateway.bank.seat(branch)?;
    if !seat.is_covered(position) {
        // A receipt need not wait for the next checkpoint of its own accord.
        let body = skerry_branch::api::Body::Checkpoint;
        gateway.bank.ask_seat(&*seat, &caller, [0; 16], body).await?;
    }
    let bytes = gateway.bank.wait(Arc::clone(&seat), move |seat| seat.receipt(position)).await?;
    let keys = seat.signing_keys();
    let rotations = keys.iter().flat_map(|keys| keys.rotations());
    let view = ReceiptView {
        id: Id(found.entry.moved.id.0),
        branch,
        position,
        status: "signed, not anchored",
        receipt: text::hex(&bytes),
        note: texts.note(),
        note_status: texts.note_status(),
        public_key: keys.as_ref().map(|keys| keys.present().to_string()),
        rotations: rotations.map(|rotation| text::hex(&rotation.encode())).collect(),
    };
    Ok(json(StatusCode::OK, &view))
}

fn found_view(branch: u16, found: &Found, texts: &Texts) -> TransferView {
    view(branch, &found.entry, found.resolved_by.as_ref(), texts)
}

/// A transfer with what resolved it, if it is a hold.
pub(crate) fn view(branch: u16, entry: &Entry, resolved_by: Option<&Entry>, texts: &Texts) -> TransferView {
    let Entry { position, moved, .. } = entry;
    let status = match (moved.kind, resolved_by.map(|entry| entry.moved.kind)) {
        (MovedKind::Held, Some(resolved)) => super::transfers::status(resolved),
        (MovedKind::Held, None) => Status::Pending,
        // Whether it has arrived, only the payment tells.
        (_, Some(_)) if is_sent(branch, moved) => Status::Returned,
        (_, None) if is_sent(branch, moved) => Status::Sent,
        (kind, _) => super::transfers::status(kind),
    };
    let money = Money::minor(i128::from(moved.amount), moved.currency);
    TransferView {
        id: Id(moved.id.0),
        status,
        debit: AccountText(moved.debit),
        credit: AccountText(moved.credit),
        amount: money,
        code: moved.code,
        reference: texts.reference.clone().or_else(|| reference(moved)),
        note: texts.note(),
        note_status: texts.note_status(),
        related: (moved.related != TransferId::NONE).then_some(Id(moved.related.0)),
        ended: resolved_by.map(|by| ended(moved, by)),
        expires: (status == Status::Pending && moved.expires_s != 0)
            .then(|| Instant(u64::from(moved.expires_s) * 1_000_000)),
        booked_at: Instant(moved.time_us),
        business_date: Day(moved.business_date),
        value_date: Day(moved.value_date),
        imported_at: (moved.imported_us != 0).then_some(Instant(moved.imported_us)),
        branch,
        position: *position,
    }
}

/// What ended a transfer: a hold's posting, voiding or expiry, a payment's return, or a reversal.
fn ended(moved: &Moved, by: &Entry) -> Ended {
    let by_kind = match by.moved.kind {
        MovedKind::HoldVoided => EndedAs::Voided,
        MovedKind::HoldExpired => EndedAs::Expired,
        _ if moved.kind == MovedKind::Held => EndedAs::Posted,
        _ if moved.debit.branch() != moved.credit.branch() => EndedAs::Returned,
        _ => EndedAs::Reversed,
    };
    Ended {
        status: by_kind,
        id: (by.moved.id != TransferId::NONE).then_some(Id(by.moved.id.0)),
        amount: Money::minor(i128::from(by.moved.amount), by.moved.currency),
        at: Instant(by.moved.time_us),
    }
}

/// Whether it left `branch` for another one.
const fn is_sent(branch: u16, moved: &Moved) -> bool {
    moved.debit.branch() == branch && moved.credit.branch() != branch
}

/// The text of a reference that fits its record; of a longer one the record holds only a hash.
pub(crate) fn reference(moved: &Moved) -> Option<String> {
    let text = moved.reference.split(|byte| *byte == 0).next().unwrap_or_default();
    std::str::from_utf8(text).ok().filter(|text| !text.is_empty()).map(str::to_owned)
}
