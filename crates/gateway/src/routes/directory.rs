//! The directory as operators and auditors see and steer it: branches, weights, stores, nodes, and taking everybody in again.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use skerry_directory::{Ask, Name, Refusal, Setting, Who};
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
use crate::wire::directory::{DirectoryView, DrainIn, NodeView, PlacedBranch, RebuiltView, SteerIn};

pub(crate) fn router() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(show))
        .routes(routes!(rebuild))
        .routes(routes!(steer))
        .routes(routes!(drain))
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
    view.nodes.iter_mut().for_each(|node| node.retain(|branch| caller.may_in(branch).is_ok()));
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
/// How many newcomers it draws, whether it takes any, whether it gets a new release first, how and on which node it is hosted, how many
/// other nodes follow it. What is left out stays. A branch goes to the node that was named as soon as that can take it, and stays there
/// while it can; one that wants followers goes once that node has read its journal.
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
    let SteerIn { weight, newcomers, gray, mode, followers, node } = posted.body;
    let node = node.map(|node| node.as_deref().map(node_name).transpose()).transpose()?;
    let settings = [
        // First, for only these can be refused.
        node.map(Setting::Placement),
        weight.map(Setting::Weight),
        newcomers.map(Setting::Newcomers),
        gray.map(Setting::Gray),
        mode.map(|mode| Setting::Mode(mode.into())),
        followers.map(Setting::Followers),
    ];
    for setting in settings.into_iter().flatten() {
        gateway.residence.order(Ask::Steer { branch, setting: setting.clone() }).await?;
        let principal = caller.principal();
        tracing::info!(branch, ?setting, principal = principal.as_str(), "an operator steered the branch");
    }
    let map = gateway.residence.map().await?;
    let entry = map.branch(branch).ok_or_else(|| Problem::numbered(catalogue::BRANCH_NOT_FOUND))?;
    Ok(json(StatusCode::OK, &PlacedBranch::of(&map, entry)))
}

/// Drain a node, or let it have branches again
///
/// A drained node gives its branches away, one at a time as long as other nodes take them, and takes none; the answer says which ones
/// stay because nobody else takes them now. The word is kept in the directory: it holds over restarts of the node until it is taken
/// back. Saying the same again changes nothing. For operators of the whole bank.
#[utoipa::path(
    put, path = "/v1/nodes/{node}/draining", tag = "branches", request_body = DrainIn,
    params(("node" = String, Path, description = "The node's name.")),
    responses(
        (status = 200, description = "It is so", body = NodeView),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn drain(
    State(gateway): State<Shared>,
    caller: Caller,
    Path(node): Path<String>,
    posted: Posted<DrainIn>,
) -> Result<Response, Problem> {
    caller.may(Operation::BranchesControl)?;
    for branch in gateway.bank.seats().keys() {
        caller.may_in(*branch)?;
    }
    let node = node_name(&node)?;
    let (principal, draining) = (caller.principal(), posted.body.draining);
    let who = Who::new(principal.as_str()).map_err(|_| Problem::numbered(catalogue::INTERNAL))?;
    let by = draining.then_some(who);
    gateway.residence.order(Ask::Drain { node: node.clone(), by }).await?;
    tracing::info!(%node, draining, principal = principal.as_str(), "an operator steered the node");
    let map = gateway.residence.map().await?;
    let entry = map.node(&node).ok_or_else(|| residence::refused(&Refusal::NoNode(node)))?;
    Ok(json(StatusCode::OK, &NodeView::of(&map, entry)))
}

/// What cannot be a node's name is the name of none.
fn node_name(text: &str) -> Result<Name, Problem> {
    let unknown = |error: skerry_directory::TextError| {
        Problem::numbered(catalogue::NODE_NOT_FOUND).field("node").detail(error.to_string())
    };
    Name::new(text).map_err(unknown)
}
