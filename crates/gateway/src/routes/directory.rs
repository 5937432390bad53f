//! The directory as operators and auditors see and steer it: branches, weights, stores, nodes, and taking everybody in again.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use skerry_directory::{Ask, Setting};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::branches::{branch_number, may_read};
use super::json;
use crate::auth::{Caller, Operation};
use crate::catalogue;
use crate::extract::{Maybe, Posted};
use crate::gateway::Shared;
use crate::problem::Problem;
use crate::residence;
use crate::wire::directory::{DirectoryView, PlacedBranch, RebuiltView, SteerIn};

pub(crate) fn router() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(show)).routes(routes!(rebuild)).routes(routes!(steer))
}

/// Read the directory
///
/// Branches with their weight, node and room as the directory knows them, stores and nodes. Aliases of customers are not in
/// it.
#[utoipa::path(
    get, path = "/v1/directory", tag = "branches",
    responses(
        (status = 200, description = "The directory", body = DirectoryView),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn show(State(gateway): State<Shared>, caller: Caller) -> Result<Response, Problem> {
    may_read(&caller)?;
    gateway.residence.report(&gateway.bank);
    let mut view = DirectoryView::of(&gateway.residence.map().await?);
    view.branches.retain(|branch| caller.may_in(branch.branch).is_ok());
    Ok(json(StatusCode::OK, &view))
}

/// Rebuild the directory
///
/// Takes the customers of all branches in again, and answers when that is done. Until then no customer can be opened; everything else goes
/// on. For operators of the whole bank.
#[utoipa::path(
    post, path = "/v1/directory/rebuild", tag = "branches",
    responses(
        (status = 200, description = "Rebuilt", body = RebuiltView),
        (status = "default", description = "It was not, and why", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn rebuild(
    State(gateway): State<Shared>,
    caller: Caller,
    Maybe(_posted): Maybe<super::Empty>,
) -> Result<Response, Problem> {
    caller.may(Operation::BranchesControl)?;
    for branch in gateway.bank.seats().keys() {
        caller.may_in(*branch)?;
    }
    // Whoever asked may go away; what was begun is ended all the same.
    let rebuilding = tokio::spawn(async move { residence::rebuild(&gateway).await });
    match rebuilding.await {
        Ok(rebuilt) => {
            let rebuilt = rebuilt?;
            let view = RebuiltView { customers: rebuilt.customers, elsewhere: rebuilt.elsewhere };
            Ok(json(StatusCode::OK, &view))
        }
        Err(_) => Err(Problem::numbered(catalogue::INTERNAL)),
    }
}

/// Steer a branch
///
/// How many newcomers it draws, whether it takes any, whether it gets a new release first, how it is hosted. What is left out stays.
/// Saying the same again changes nothing. For operators.
#[utoipa::path(
    patch, path = "/v1/branches/{branch}", tag = "branches", request_body = SteerIn,
    params(("branch" = u16, Path, description = "The branch.")),
    responses(
        (status = 200, description = "Steered", body = PlacedBranch),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn steer(
    State(gateway): State<Shared>,
    caller: Caller,
    Path(branch): Path<String>,
    posted: Posted<SteerIn>,
) -> Result<Response, Problem> {
    caller.may(Operation::BranchesControl)?;
    let branch = branch_number(&branch)?;
    caller.may_in(branch)?;
    let SteerIn { weight, newcomers, gray, mode } = posted.body;
    let settings = [
        weight.map(Setting::Weight),
        newcomers.map(Setting::Newcomers),
        gray.map(Setting::Gray),
        mode.map(|mode| Setting::Mode(mode.into())),
    ];
    for setting in settings.into_iter().flatten() {
        gateway.residence.order(Ask::Steer { branch, setting }).await?;
    }
    let map = gateway.residence.map().await?;
    let entry = map.branch(branch).ok_or_else(|| Problem::numbered(catalogue::BRANCH_NOT_FOUND))?;
    Ok(json(StatusCode::OK, &PlacedBranch::of(entry)))
}
