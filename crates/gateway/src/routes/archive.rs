//! Old segments to cold storage.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use skerry_book::event::ArchiveBefore;
use skerry_book::{Command, Rejection};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::branches::branch_number;
use super::{command, json};
use crate::auth::{Caller, Operation};
use crate::catalogue;
use crate::detail::said;
use crate::extract::Posted;
use crate::gateway::Shared;
use crate::problem::Problem;
use crate::wire::reports::{ArchiveIn, ArchivedView};
use skerry_node::seat::Before;

pub(crate) fn router() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(archive))
}

/// Journals who ordered it, before anything is moved.
async fn put_on_record(
    gateway: &Shared,
    caller: &Caller,
    branch: u16,
    posted: &Posted<ArchiveIn>,
    before: Before,
) -> Result<(), Problem> {
    let order = Command::OrderArchive(match before {
        Before::Position(position) => ArchiveBefore::Position(position),
        Before::Day(day) => ArchiveBefore::Day(day),
    });
    let too_old = Rejection::FormatLevel { level: 0, known: 0 }.code();
    match command(gateway, caller, branch, posted.digest, posted.key.as_ref(), order).await {
        Ok(_) => Ok(()),
        // A journal of before this kind of record: the log alone tells, until its format is raised.
        Err(problem) if problem.number() == too_old => Ok(()),
        Err(problem) => Err(problem),
    }
}

/// What a branch says to a second archiving while the first runs.
const UNDER_WAY: &str = "under way";

/// Archive old segments
///
/// Moves whole segments of a branch's journal to the cold folder while the branch serves, as far as no snapshot needs them.
/// What is archived stays readable as long as the cold folder is there. Answers when it is done, or `done: false` when it
/// takes longer than a request may: send it again to wait on, with the same `Idempotency-Key` if the audit is to show one order. For
/// operators.
#[utoipa::path(
    post, path = "/v1/branches/{branch}/archive", tag = "branches", request_body = ArchiveIn,
    params(("branch" = u16, Path, description = "The branch.")),
    responses(
        (status = 200, description = "As far as it goes", body = ArchivedView),
        (status = 202, description = "Still under way", body = ArchivedView),
        (status = "default", description = "It went no further, and why", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn archive(
    State(gateway): State<Shared>,
    caller: Caller,
    Path(branch): Path<String>,
    posted: Posted<ArchiveIn>,
) -> Result<Response, Problem> {
    caller.may(Operation::BranchesControl)?;
    let seat = gateway.bank.seat(branch_number(&branch)?)?;
    caller.may_in(seat.number())?;
    let before = match (posted.body.position, posted.body.date) {
        (Some(position), None) => Before::Position(position),
        (None, Some(day)) => Before::Day(day.0),
        _ => {
            let detail = said!("either a position or a date", "位置与日期须二选一");
            return Err(Problem::numbered(catalogue::INVALID_FIELD).field("position").detail(detail));
        }
    };
    let branch = seat.number();
    tracing::info!(branch, actor = %caller.principal(), ?before, "archiving is ordered");
    put_on_record(&gateway, &caller, branch, &posted, before).await?;
    let working = Arc::clone(&seat);
    let work = tokio::task::spawn_blocking(move || working.archive(before));
    match tokio::time::timeout(gateway.limits.request, work).await {
        Ok(Ok(Ok(start))) => Ok(json(StatusCode::OK, &ArchivedView { branch, start, done: true })),
        Ok(Ok(Err(why))) if !why.contains(UNDER_WAY) => {
            Err(Problem::numbered(catalogue::NOT_ARCHIVED).detail(why))
        }
        Ok(Err(_)) => Err(Problem::numbered(catalogue::INTERNAL)),
        // It goes on without us.
        Ok(Ok(Err(_))) | Err(_) => {
            let start = seat.health().start;
            Ok(json(StatusCode::ACCEPTED, &ArchivedView { branch, start, done: false }))
        }
    }
}
