//! The buses between branches: looked at by operators and auditors, switched by operators.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::branches::may_read;
use super::json;
use crate::auth::{Caller, Operation};
use crate::buses;
use crate::extract::Posted;
use crate::gateway::Shared;
use crate::problem::Problem;
use crate::wire::buses::{BusIn, BusesView};

/// Whoever looks at buses does not wait for a directory that is away.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(1);

pub(crate) fn router() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(switch))
}

/// List the buses
///
/// What carries messages between branches: which is chosen, by whom, and how each is doing as the answering process sees it.
#[utoipa::path(
    get, path = "/v1/buses", tag = "branches",
    responses(
        (status = 200, description = "The buses", body = BusesView),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn list(State(gateway): State<Shared>, caller: Caller) -> Result<Response, Problem> {
    may_read(&caller)?;
    view(&gateway).await
}

/// Switch to another bus
///
/// Messages between branches go over it from now on: at once in the process that answers, within a second in every other, and after
/// restarts too. Payments go on meanwhile; none is lost or made twice. Choosing the chosen one changes nothing. For operators
/// of the whole bank.
#[utoipa::path(
    put, path = "/v1/buses/chosen", tag = "branches", request_body = BusIn,
    responses(
        (status = 200, description = "It is chosen", body = BusesView),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn switch(
    State(gateway): State<Shared>,
    caller: Caller,
    posted: Posted<BusIn>,
) -> Result<Response, Problem> {
    caller.may(Operation::BranchesControl)?;
    for branch in gateway.bank.seats().keys() {
        caller.may_in(*branch)?;
    }
    buses::switch(&gateway, &caller, &posted.body.bus).await?;
    view(&gateway).await
}

async fn view(gateway: &Shared) -> Result<Response, Problem> {
    let post = buses::post(gateway)?;
    // Who has chosen is in the directory; how the buses are is known without it.
    let asked = tokio::time::timeout(PATIENCE, gateway.residence.map_since(0)).await;
    let row = asked.ok().flatten().and_then(|map| map.bus);
    Ok(json(StatusCode::OK, &BusesView::of(post, row.as_ref())))
}
