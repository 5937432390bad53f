//! One debit for many payees: wages, a supply chain's split.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use skerry_book::{Purpose, Rejection};
use skerry_branch::api::{Accepted, Asked, Body, Reply};
use skerry_ledger::Rejection as LedgerRejection;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::transfers::done;
use super::{json, replayed};
use crate::auth::{Caller, Operation};
use crate::bank::rejected;
use crate::catalogue;
use crate::derived;
use crate::derived::uuid_v7;
use crate::detail::said;
use crate::extract::Posted;
use crate::gateway::{Gateway, Shared};
use crate::problem::Problem;
use crate::wire::payments::{PayeeIn, PayoutIn, PayoutOut};
use crate::wire::scalars::{AccountText, Money};
use crate::wire::transfers::{Echo, Status, TransferIn};

pub(crate) fn router() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(pay))
}

/// Pay many at once
///
/// One debit of the whole, or none: a payee that is refused at the payer's branch refuses all. Payees in other branches are
/// paid each by itself: what one of them cannot take comes back alone. The answer is 202 while some are under way.
#[utoipa::path(
    post, path = "/v1/payments", tag = "transfers", request_body = PayoutIn,
    params(("Idempotency-Key" = Option<String>, Header, description = "Instead of an `id`.")),
    responses(
        (status = 201, description = "All have it", body = PayoutOut),
        (status = 202, description = "Debited; some are on their way to other branches", body = PayoutOut),
        (status = 200, description = "Paid before: the answer to a retry", body = PayoutOut),
        (status = "default", description = "Nothing was debited", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn pay(
    State(gateway): State<Shared>,
    caller: Caller,
    posted: Posted<PayoutIn>,
) -> Result<Response, Problem> {
    caller.may(Operation::TransfersWrite)?;
    let wish = &posted.body;
    check_count(&gateway, wish)?;
    let mut all = Vec::with_capacity(wish.payees.len());
    let mut branch = None;
    for (index, payee) in wish.payees.iter().enumerate() {
        let transfer = one_of(wish, payee);
        let home = transfer.branch().map_err(|problem| problem.at("payees", index))?;
        if branch.is_none() {
            caller.may_in(home)?;
        }
        let home = *branch.get_or_insert(home);
        let id = match (&wish.id, &posted.key) {
            (Some(id), _) => Some(payee_id(&gateway, id.0, index)),
            (None, Some(key)) => Some(derived::by_key(&gateway, &caller, home, key, index).await?),
            (None, None) => None,
        };
        all.push(transfer.asked(home, id).map_err(|problem| problem.at("payees", index))?);
    }
    let branch = branch.unwrap_or_default();
    let (asked, echoes): (Vec<Asked>, Vec<Echo>) = all.into_iter().unzip();
    let Reply::Transfers(outcomes) =
        gateway.bank.ask(branch, &caller, posted.digest, Body::Payout(asked)).await?
    else {
        return Err(Problem::numbered(catalogue::INTERNAL));
    };
    let refused = outcomes.iter().enumerate().filter_map(|(index, outcome)| Some((index, outcome.err()?)));
    // Those who were refused for another's sake say less than that other.
    let others = Rejection::from(LedgerRejection::LinkedTransferFailed);
    if let Some((index, rejection)) = refused.min_by_key(|(_, rejection)| *rejection == others) {
        let currency = wish.payees.get(index).map(|payee| payee.amount.0.currency());
        return Err(rejected(rejection, currency, posted.digest).at("payees", index));
    }
    let accepted: Vec<Accepted> = outcomes.into_iter().filter_map(Result::ok).collect();
    answer(branch, &echoes, &accepted)
}

fn check_count(gateway: &Gateway, wish: &PayoutIn) -> Result<(), Problem> {
    let most = gateway.limits.batch_transfers;
    if (1..=most).contains(&wish.payees.len()) {
        return Ok(());
    }
    let detail = said!("from 1 to {most} payees", "收款方须为 1 至 {most} 个");
    Err(Problem::numbered(catalogue::INVALID_FIELD).field("payees").detail(detail))
}

fn one_of(wish: &PayoutIn, payee: &PayeeIn) -> TransferIn {
    TransferIn {
        id: None,
        debit: Some(wish.debit),
        credit: Some(payee.credit),
        amount: Some(payee.amount),
        code: payee.code,
        reference: payee.reference.clone(),
        note: None,
        value_date: wish.value_date,
        pending: false,
        timeout: 0,
        linked: false,
        balancing: None,
        closing: None,
        post: None,
        void: None,
        reverse: None,
    }
}

/// The id of one payee's transfer: of the time of the whole's.
fn payee_id(gateway: &Gateway, whole: u128, index: usize) -> u128 {
    let mut cause = Vec::with_capacity(40);
    cause.extend_from_slice(b"payee ");
    cause.extend_from_slice(&whole.to_le_bytes());
    cause.extend_from_slice(&(index as u64).to_le_bytes());
    let millis = u64::try_from(whole >> 80).unwrap_or(u64::MAX);
    uuid_v7(millis, gateway.secrets.seed.wide(Purpose::TransferId, &cause))
}

fn answer(branch: u16, echoes: &[Echo], accepted: &[Accepted]) -> Result<Response, Problem> {
    let first = accepted.first().ok_or_else(|| Problem::numbered(catalogue::INTERNAL))?;
    let total: i128 = accepted.iter().map(|one| i128::from(one.amount)).sum();
    let repeated = accepted.iter().all(|one| one.repeated);
    let payees: Vec<_> = echoes.iter().zip(accepted).map(|(echo, one)| done(echo, branch, one)).collect();
    let status = match (repeated, payees.iter().any(|payee| payee.status == Status::Sent)) {
        (true, _) => StatusCode::OK,
        (false, true) => StatusCode::ACCEPTED,
        (false, false) => StatusCode::CREATED,
    };
    let out = PayoutOut {
        debit: AccountText(first.debit),
        amount: Money::minor(total, first.currency),
        payees,
        repeated,
    };
    Ok(replayed(json(status, &out), repeated))
}
