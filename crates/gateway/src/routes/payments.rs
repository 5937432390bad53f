//! Payments to other branches: what is said of them at once, what a caller may wait for, and where the money is.

use std::time::{Duration, Instant};

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use skerry_branch::api::{Answer, PaymentState, PaymentView, Read};
use skerry_ledger::TransferId;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{created, json};
use crate::auth::{Caller, Operation};
use crate::bank::outcome_unknown;
use crate::catalogue;
use crate::gateway::{Gateway, Shared};
use crate::problem::Problem;
use crate::wire::payments::{PaymentOut, ReturnedOut};
use crate::wire::scalars::{AccountText, Day, Id, Instant as Time, Money};
use crate::wire::transfers::Status;

/// The longest that a caller may wait for the end of a payment.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// How often the branch is asked meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(10);

pub(crate) fn router() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(payment))
}

/// Where the money is
///
/// Of a payment to an account of another branch: sent, settled, or returned and why. Asks every branch that the token may
/// see.
#[utoipa::path(
    get, path = "/v1/payments/{id}", tag = "transfers",
    params(("id" = Id, Path, description = "The payment: the id of its transfer.")),
    responses(
        (status = 200, description = "The payment", body = PaymentOut),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn payment(
    State(gateway): State<Shared>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    caller.may(Operation::TransfersRead)?;
    let id = super::lookups::transfer_id(&id)?;
    let mut trouble = None;
    for branch in gateway.bank.seats().keys().copied() {
        if caller.may_in(branch).is_err() {
            continue;
        }
        match look(&gateway, &caller, branch, id).await {
            Ok(Some(view)) => return Ok(json(StatusCode::OK, &shown(&view))),
            Ok(None) => {}
            Err(problem) => trouble = Some(problem),
        }
    }
    // Not found is only said when every branch has been heard.
    Err(trouble.unwrap_or_else(|| Problem::numbered(catalogue::NOT_FOUND).field("id")))
}

pub(super) async fn look(
    gateway: &Gateway,
    caller: &Caller,
    branch: u16,
    id: u128,
) -> Result<Option<PaymentView>, Problem> {
    match gateway.bank.look(branch, caller, Read::Payment(TransferId(id))).await {
        Ok(Some(Answer::Payment(view))) => Ok(Some(*view)),
        Ok(_) => Ok(None),
        // Somebody else's, or not there: the same to who may not know.
        Err(problem) if problem.code() == "out_of_scope" => Ok(None),
        Err(problem) => Err(problem),
    }
}

/// The answer to a payment that `branch` has just sent under `id`: at once, or when it has ended if the caller prefers to
/// wait and it ends in time.
pub(super) async fn answer(
    gateway: &Gateway,
    caller: &Caller,
    branch: u16,
    (id, repeated): (u128, bool),
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let until = Instant::now() + wait(headers);
    loop {
        // It was debited: whatever keeps the branch from telling more must not be taken for a refusal.
        let view = look(gateway, caller, branch, id).await.ok().flatten().ok_or_else(outcome_unknown)?;
        let out = PaymentOut { repeated: Some(repeated), ..shown(&view) };
        if out.status != Status::Sent {
            let status = if repeated { StatusCode::OK } else { StatusCode::CREATED };
            return Ok(created(status, &out, &out.location));
        }
        if Instant::now() + LOOK_EVERY > until {
            return Ok(created(StatusCode::ACCEPTED, &out, &out.location));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// How long the caller prefers to wait (RFC 7240, 4.3): not at all unless it says so.
pub(super) fn wait(headers: &HeaderMap) -> Duration {
    let preferences = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    let seconds = preferences
        .flat_map(|value| value.split(','))
        .find_map(|preference| preference.trim().strip_prefix("wait=")?.trim().parse::<u64>().ok());
    seconds.map_or(Duration::ZERO, Duration::from_secs).min(WAIT_MAX)
}

pub(super) fn location(id: u128) -> String {
    format!("/v1/payments/{}", Id(id))
}

fn shown(view: &PaymentView) -> PaymentOut {
    let moved = &view.moved;
    let (status, returned) = match view.state {
        PaymentState::Sent => (Status::Sent, None),
        PaymentState::Settled => (Status::Settled, None),
        PaymentState::Returned { outcome, to, time_us, position } => {
            let code = catalogue::find(outcome).map_or("", |entry| entry.code);
            let to = AccountText(to);
            (Status::Returned, Some(ReturnedOut { code, number: outcome, to, at: Time(time_us), position }))
        }
    };
    PaymentOut {
        id: Id(moved.id.0),
        status,
        debit: AccountText(moved.debit),
        credit: AccountText(moved.credit),
        amount: Money::minor(i128::from(moved.amount), moved.currency),
        from: moved.debit.branch(),
        to: moved.credit.branch(),
        number: view.n,
        booked_at: Time(moved.time_us),
        business_date: Day(moved.business_date),
        position: view.position,
        returned,
        location: location(moved.id.0),
        repeated: None,
    }
}
