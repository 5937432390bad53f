//! Four eyes: what waits for a second principal, and the second principal's word.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use skerry_book::Command;
use skerry_book::command::Propose;
use skerry_book::policy::Matter;
use skerry_branch::api::{Answer, Read};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{command, json, json_keyed};
use crate::auth::{Caller, Operation};
use crate::catalogue;
use crate::detail::said;
use crate::extract::{Maybe, Posted};
use crate::gateway::Shared;
use crate::problem::Problem;
use crate::text;
use crate::wire::reports::{Done, ProposalIn, ProposalView, ProposalsView};
use crate::wire::scalars::Instant;

pub(crate) fn router() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(list, propose)).routes(routes!(approve)).routes(routes!(end))
}

/// The matter with this name.
pub(crate) fn matter(name: &str) -> Result<Matter, Problem> {
    Matter::from_name(name).ok_or_else(|| {
        let matters = super::branches::matters();
        let detail = said!("one of {matters}", "须为以下之一：{matters}");
        Problem::numbered(catalogue::INVALID_FIELD).field("matter").detail(detail)
    })
}

fn request_digest(text: &str) -> Result<[u8; 16], Problem> {
    text::unhex(text).ok_or_else(|| {
        let detail = said!(
            "32 hexadecimal digits, as the problem `needs_approval` gave them",
            "32 位十六进制数字，见问题 `needs_approval`"
        );
        Problem::numbered(catalogue::INVALID_FIELD).field("request").detail(detail)
    })
}

/// List what waits for approval
#[utoipa::path(
    get, path = "/v1/approvals", tag = "approvals",
    responses(
        (status = 200, description = "All proposals that stand", body = ProposalsView),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn list(State(gateway): State<Shared>, caller: Caller) -> Result<Response, Problem> {
    caller.may(Operation::AuditRead)?;
    caller.may_beyond_one_customer()?;
    let mut approvals = Vec::new();
    for branch in gateway.bank.seats().keys().copied() {
        if caller.may_in(branch).is_err() {
            continue;
        }
        let Some(Answer::Proposals(found)) = gateway.bank.look(branch, &caller, Read::Proposals).await?
        else {
            continue;
        };
        approvals.extend(found.iter().map(|proposal| ProposalView {
            branch,
            request: text::hex(&proposal.request),
            matter: proposal.matter.name(),
            proposer: proposal.proposer.to_string(),
            approver: proposal.approver.map(|approver| approver.to_string()),
            proposed: Instant(proposal.time_us),
        }));
    }
    Ok(json(StatusCode::OK, &ProposalsView { approvals }))
}

/// Propose a request
///
/// What was refused with `needs_approval`, by the digest in that problem. It stands for a day.
#[utoipa::path(
    post, path = "/v1/approvals", tag = "approvals", request_body = ProposalIn,
    params(("Idempotency-Key" = Option<String>, Header)),
    responses(
        (status = 201, description = "Proposed", body = Done),
        (status = 200, description = "Proposed before: the answer to a retry", body = Done),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn propose(
    State(gateway): State<Shared>,
    caller: Caller,
    posted: Posted<ProposalIn>,
) -> Result<Response, Problem> {
    caller.may(Operation::Approve)?;
    let wish =
        Propose { request: request_digest(&posted.body.request)?, matter: matter(&posted.body.matter)? };
    let key = posted.key_or_new();
    let branch = posted.body.branch;
    let proposed =
        command(&gateway, &caller, branch, posted.digest, Some(&key), Command::Propose(wish)).await?;
    Ok(json_keyed(StatusCode::CREATED, &Done { done: true }, &key, proposed.repeated))
}

/// Approve a request
///
/// As another principal than the proposer. The proposer then sends the very same request again.
#[utoipa::path(
    post, path = "/v1/approvals/{branch}/{request}/approve", tag = "approvals",
    params(("branch" = u16, Path), ("request" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses(
        (status = 200, description = "Approved", body = Done),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn approve(
    State(gateway): State<Shared>,
    caller: Caller,
    Path((branch, request)): Path<(u16, String)>,
    Maybe(posted): Maybe<super::Empty>,
) -> Result<Response, Problem> {
    decide(&gateway, &caller, branch, &posted, Command::Approve(request_digest(&request)?)).await
}

/// Decline or withdraw a request
#[utoipa::path(
    delete, path = "/v1/approvals/{branch}/{request}", tag = "approvals",
    params(("branch" = u16, Path), ("request" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses(
        (status = 200, description = "Ended", body = Done),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn end(
    State(gateway): State<Shared>,
    caller: Caller,
    Path((branch, request)): Path<(u16, String)>,
    Maybe(posted): Maybe<super::Empty>,
) -> Result<Response, Problem> {
    decide(&gateway, &caller, branch, &posted, Command::EndProposal(request_digest(&request)?)).await
}

async fn decide(
    gateway: &Shared,
    caller: &Caller,
    branch: u16,
    posted: &Posted<super::Empty>,
    wish: Command,
) -> Result<Response, Problem> {
    caller.may(Operation::Approve)?;
    let key = posted.key_or_new();
    let decided = command(gateway, caller, branch, posted.digest, Some(&key), wish).await?;
    Ok(json_keyed(StatusCode::OK, &Done { done: true }, &key, decided.repeated))
}
