//! What is done to an earlier transfer: a hold is posted or voided, a posted one reversed.

use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use skerry_book::actor::Role;
use skerry_book::derive_id;
use skerry_ledger::AccountRef;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::transfers::{may_resolve, one};
use crate::auth::{Caller, Operation};
use crate::catalogue;
use crate::derived;
use crate::detail::said;
use crate::extract::{Maybe, Posted};
use crate::gateway::{Gateway, Shared};
use crate::problem::Problem;
use crate::wire::scalars::{Id, Party};
use crate::wire::transfers::{ResolveIn, TransferDone, TransferIn};

pub(crate) fn router() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(post)).routes(routes!(void)).routes(routes!(reverse))
}

/// What is done to an earlier transfer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Deed {
    Post,
    Void,
    Reverse,
}

/// Post a pending transfer
///
/// In full, or the part that `amount` says; the rest is released.
#[utoipa::path(
    post, path = "/v1/accounts/{number}/transfers/{id}/post", tag = "transfers", request_body = Option<ResolveIn>,
    params(
        ("number" = String, Path, description = "The debit account."),
        ("id" = Id, Path, description = "The pending transfer."),
        ("Idempotency-Key" = Option<String>, Header, description = "Instead of an `id` in the body."),
    ),
    responses(
        (status = 201, description = "Posted", body = TransferDone),
        (status = 200, description = "Posted before, under the same id", body = TransferDone),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn post(
    State(gateway): State<Shared>,
    caller: Caller,
    Path(path): Path<(String, String)>,
    Maybe(posted): Maybe<ResolveIn>,
) -> Result<Response, Problem> {
    deed(&gateway, &caller, path, posted, Deed::Post).await
}

/// Void a pending transfer
///
/// Releases what is held.
#[utoipa::path(
    post, path = "/v1/accounts/{number}/transfers/{id}/void", tag = "transfers", request_body = Option<ResolveIn>,
    params(
        ("number" = String, Path, description = "The debit account."),
        ("id" = Id, Path, description = "The pending transfer."),
        ("Idempotency-Key" = Option<String>, Header, description = "Instead of an `id` in the body."),
    ),
    responses(
        (status = 201, description = "Voided", body = TransferDone),
        (status = 200, description = "Voided before, under the same id", body = TransferDone),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn void(
    State(gateway): State<Shared>,
    caller: Caller,
    Path(path): Path<(String, String)>,
    Maybe(posted): Maybe<ResolveIn>,
) -> Result<Response, Problem> {
    deed(&gateway, &caller, path, posted, Deed::Void).await
}

/// Reverse a posted transfer
///
/// Moves the whole amount back. The reversal's id follows from the original, so it happens once. A payment to another branch
/// is reversed by a payment of that branch: the answer is 202 while it is under way. For operators.
#[utoipa::path(
    post, path = "/v1/accounts/{number}/transfers/{id}/reverse", tag = "transfers", request_body = Option<ResolveIn>,
    params(
        ("number" = String, Path, description = "The account that the original debited."),
        ("id" = Id, Path, description = "The original."),
    ),
    responses(
        (status = 201, description = "Reversed", body = TransferDone),
        (status = 202, description = "Debited in the payee's branch, and on its way back", body = crate::wire::payments::PaymentOut),
        (status = 200, description = "Reversed before", body = TransferDone),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn reverse(
    State(gateway): State<Shared>,
    caller: Caller,
    Path(path): Path<(String, String)>,
    Maybe(posted): Maybe<ResolveIn>,
) -> Result<Response, Problem> {
    caller.may(Operation::TransfersReverse)?;
    deed(&gateway, &caller, path, posted, Deed::Reverse).await
}

/// Where the original of a reversal was paid from and to, if it went to another branch: that branch decides, by a
/// payment back.
async fn paid_away(
    gateway: &Shared,
    caller: &Caller,
    (branch, number): (u16, &str),
    original: u128,
    deed: Deed,
) -> Result<Option<(u16, Party)>, Problem> {
    if deed != Deed::Reverse {
        return Ok(None);
    }
    let Ok(payer) = super::account_number(number) else { return Ok(None) };
    let found = super::payments::look(gateway, caller, branch, original).await?;
    let Some(moved) = found.map(|view| view.moved) else { return Ok(None) };
    if moved.debit != AccountRef::customer(payer.branch(), payer.serial()) {
        return Err(Problem::numbered(catalogue::NOT_FOUND).field("id"));
    }
    caller.may_in(moved.credit.branch())?;
    Ok(Some((moved.credit.branch(), Party::Account(payer))))
}

async fn deed(
    gateway: &Shared,
    caller: &Caller,
    (number, id): (String, String),
    posted: Posted<ResolveIn>,
    deed: Deed,
) -> Result<Response, Problem> {
    caller.may(Operation::TransfersWrite)?;
    let branch = super::lookups::debit_branch(&number)?;
    caller.may_in(branch)?;
    let related = super::lookups::transfer_id(&id)?;
    if caller.role() == Role::Customer {
        // The hold's account is not in the request, so the branch cannot tell whose it is: the path must.
        own_account(gateway, caller, &number).await?;
        may_resolve(gateway, caller, branch, (deed != Deed::Reverse).then_some(Id(related))).await?;
    }
    let wish = &posted.body;
    if deed != Deed::Post && wish.amount.is_some() {
        return Err(Problem::numbered(catalogue::INVALID_FIELD).field("amount").detail(said!(
            "only post takes an amount; void and reverse are whole",
            "仅入账可带金额；撤销和冲正须为全额"
        )));
    }
    let back = paid_away(gateway, caller, (branch, &number), related, deed).await?;
    let branch = back.map_or(branch, |(elsewhere, _)| elsewhere);
    let derived = match (wish.id, &posted.key) {
        (Some(_), _) => None,
        (None, _) if deed == Deed::Reverse => Some(reversal_id(gateway, branch, related)),
        (None, Some(key)) => Some(derived::by_key(gateway, caller, branch, key, 0).await?),
        (None, None) => None,
    };
    let debit = party(&number, deed);
    let transfer = TransferIn {
        id: wish.id,
        debit,
        credit: back.map(|(_, payer)| payer),
        amount: wish.amount,
        code: wish.code,
        reference: wish.reference.clone(),
        note: None,
        value_date: wish.value_date,
        pending: false,
        timeout: 0,
        linked: false,
        balancing: None,
        closing: None,
        post: (deed == Deed::Post).then_some(Id(related)),
        void: (deed == Deed::Void).then_some(Id(related)),
        reverse: (deed == Deed::Reverse).then_some(Id(related)),
    };
    let (asked, echo) = transfer.asked(branch, derived)?;
    one(gateway, caller, branch, (posted.digest, &HeaderMap::new()), asked, echo).await
}

/// The path's account as the request's debit, where it is one: a reversal debits what the original credited.
fn party(number: &str, deed: Deed) -> Option<Party> {
    match deed {
        Deed::Reverse => None,
        Deed::Post | Deed::Void => super::account_number(number).ok().map(Party::Account),
    }
}

async fn own_account(gateway: &Shared, caller: &Caller, number: &str) -> Result<(), Problem> {
    let number = super::account_number(number)?;
    super::accounts::look(gateway, caller, number).await.map(|_| ())
}

/// The id of the reversal of a transfer.
fn reversal_id(gateway: &Gateway, branch: u16, original: u128) -> u128 {
    let mut cause = Vec::with_capacity(32);
    cause.extend_from_slice(b"reversal ");
    cause.extend_from_slice(&branch.to_le_bytes());
    cause.extend_from_slice(&original.to_le_bytes());
    derive_id(&gateway.secrets.seed, &cause).0
}
