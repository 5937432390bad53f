//! Branches as operators and auditors see and steer them: state, meters, days, policy.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use skerry_book::Command;
use skerry_book::policy::{Matter, Matters, Policy};
use skerry_branch::api::{Answer, Read};
use skerry_branch::meters::{Kind, Meter};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{command, created, json, json_keyed, replayed, surroundings};
use crate::auth::{Caller, Operation};
use crate::catalogue;
use crate::detail::said;
use crate::extract::{Maybe, Posted};
use crate::founding;
use crate::gateway::{Gateway, Shared};
use crate::problem::Problem;
use crate::usage;
use crate::wire::buses::BusView;
use crate::wire::directory::{FollowerView, NewBranchIn, PlacedBranch};
use crate::wire::reports::{
    BranchMeters, BranchView, BranchesView, DateIn, Done, FormatIn, MeterView, MetersTotals, MetersView,
    PolicyIn, StatusView,
};
use crate::wire::scalars::Day;
use skerry_node::seat::Seat;

pub(crate) fn router() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(branches, create))
        .routes(routes!(status))
        .routes(routes!(meters))
        .routes(routes!(reopen))
        .routes(routes!(confirm_clock))
        .routes(routes!(open_day))
        .routes(routes!(go_live))
        .routes(routes!(raise_format))
        .routes(routes!(policy, set_policy))
}

/// A branch's state, as shown.
pub(crate) fn branch_view(seat: &dyn Seat) -> BranchView {
    let health = seat.health();
    let room = if health.is_open() { health.room() } else { 0 };
    BranchView {
        branch: seat.number(),
        state: health.state,
        reason: health.reason,
        store: health.store,
        checkpoint_fault: health.checkpoint_fault,
        business_date: Day(health.business_date),
        position: health.position,
        start: health.start,
        customers: health.customers,
        room,
        accounts: health.accounts,
        holds: health.holds,
        queue: health.queue,
        followed_by: Vec::new(),
    }
}

fn views(gateway: &Gateway, caller: &Caller) -> Vec<BranchView> {
    let seats = gateway.bank.seats();
    let own = seats.values().filter(|seat| caller.may_in(seat.number()).is_ok());
    own.map(|seat| branch_view(&**seat)).collect()
}

pub(super) fn may_read(caller: &Caller) -> Result<(), Problem> {
    caller.may(Operation::ReportsRead)?;
    caller.may_beyond_one_customer()
}

/// The branch, if the caller may read its reports.
pub(super) fn readable(caller: &Caller, branch: &str) -> Result<u16, Problem> {
    may_read(caller)?;
    let branch = branch_number(branch)?;
    caller.may_in(branch)?;
    Ok(branch)
}

/// List branches
///
/// With their state, the reason if one is not open, and the nodes that follow them.
#[utoipa::path(
    get, path = "/v1/branches", tag = "branches",
    responses(
        (status = 200, description = "All branches", body = BranchesView),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn branches(State(gateway): State<Shared>, caller: Caller) -> Result<Response, Problem> {
    may_read(&caller)?;
    let mut branches = views(&gateway, &caller);
    if let Some(map) = surroundings::map(&gateway).await {
        branches.iter_mut().for_each(|view| view.followed_by = FollowerView::all(&map, view.branch));
    }
    Ok(json(StatusCode::OK, &BranchesView { branches }))
}

/// Add a branch
///
/// The next number, which whoever asks says: asked for again it makes no second branch, but goes on with the first where that was not
/// finished, and answers 200 with `Idempotent-Replayed: true` once it is there. The branch is founded in the caller's name; where nodes
/// host branches one of them opens it, and until one has the answer is `branch_unavailable`. All branches pay and are paid by it at
/// once, and newcomers come to it. For operators of the whole bank.
#[utoipa::path(
    post, path = "/v1/branches", tag = "branches", request_body = NewBranchIn,
    responses(
        (status = 201, description = "It is open", body = PlacedBranch),
        (status = 200, description = "It was there before", body = PlacedBranch),
        (status = "default", description = "Refused, or not finished", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn create(
    State(gateway): State<Shared>,
    caller: Caller,
    posted: Posted<NewBranchIn>,
) -> Result<Response, Problem> {
    caller.may(Operation::BranchesControl)?;
    caller.may_in_all()?;
    // Whoever asked may go away; what was begun is ended all the same.
    let bank = Shared::clone(&gateway);
    let adding = tokio::spawn(async move {
        let NewBranchIn { branch, store } = posted.body;
        founding::create(&bank, &caller, posted.digest, (branch, store.as_deref())).await
    });
    let Ok(added) = adding.await else { return Err(Problem::numbered(catalogue::INTERNAL)) };
    let (entry, was_there) = added?;
    let view = PlacedBranch::of(&surroundings::map(&gateway).await.unwrap_or_default(), &entry);
    Ok(replayed(created(StatusCode::CREATED, &view, "/v1/branches"), was_there))
}

/// Read the bank's status
///
/// What `skerry status` shows.
#[utoipa::path(
    get, path = "/v1/status", tag = "branches",
    responses(
        (status = 200, description = "The status", body = StatusView),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn status(State(gateway): State<Shared>, caller: Caller) -> Result<Response, Problem> {
    may_read(&caller)?;
    let branches = views(&gateway, &caller);
    let all_open = branches.iter().all(|branch| branch.state == "open");
    let buses = gateway.buses.get().map(BusView::all).unwrap_or_default();
    let well = all_open && buses.iter().all(|bus| !bus.chosen || bus.link == "up");
    let view = StatusView {
        status: if well { "ok" } else { "degraded" },
        healthy: well,
        machine: usage::machine(),
        process: std::process::id(),
        version: env!("CARGO_PKG_VERSION"),
        uptime_seconds: gateway.begun.elapsed().as_secs(),
        connections: gateway.meters.connections.get(),
        branches,
        buses,
    };
    Ok(json(StatusCode::OK, &view))
}

/// Read the cost meters
///
/// CPU, bytes and messages by kind of command and by principal: what `skerry cost` multiplies with prices.
#[utoipa::path(
    get, path = "/v1/meters", tag = "branches",
    responses(
        (status = 200, description = "The meters", body = MetersView),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn meters(State(gateway): State<Shared>, caller: Caller) -> Result<Response, Problem> {
    may_read(&caller)?;
    let seats = gateway.bank.seats();
    let own = seats.values().filter(|seat| caller.may_in(seat.number()).is_ok());
    let branches: Vec<BranchMeters> = own.map(|seat| branch_meters(&**seat)).collect();
    let accounts = branches.iter().map(|branch| branch.accounts).sum();
    let moving = branches.iter().flat_map(|branch| &branch.kinds);
    let moving = moving.filter(|kind| [Kind::Packed.name(), Kind::Transfers.name()].contains(&&*kind.name));
    let transfers = moving.map(|kind| kind.records).sum();
    let folder = gateway.tokens.folder().to_owned();
    let disk_bytes = tokio::task::spawn_blocking(move || usage::disk_bytes(&folder)).await.unwrap_or(0);
    let totals = MetersTotals {
        accounts,
        transfers,
        cpu_seconds: usage::cpu_seconds(),
        disk_bytes,
        memory_bytes: usage::memory_bytes(),
        sent_bytes: gateway.meters.bytes_sent.get(),
    };
    Ok(json(StatusCode::OK, &MetersView { branches, totals }))
}

fn branch_meters(seat: &dyn Seat) -> BranchMeters {
    let health = seat.health();
    let kinds = Kind::ALL.iter().map(|kind| meter(kind.name(), &health.meters.kind(*kind))).collect();
    let mut principals: Vec<MeterView> = health
        .meters
        .principals
        .iter()
        .map(|(principal, counted)| meter(principal.as_str(), counted))
        .collect();
    if health.meters.others.messages > 0 {
        principals.push(meter("(others)", &health.meters.others));
    }
    BranchMeters { branch: seat.number(), accounts: health.accounts, kinds, principals }
}

fn meter(name: &str, counted: &Meter) -> MeterView {
    MeterView {
        name: name.to_owned(),
        messages: counted.messages,
        records: counted.records,
        refusals: counted.refusals,
        bytes_in: counted.bytes_in,
        bytes_journal: counted.bytes_journal,
        cpu_ns: counted.cpu_ns,
    }
}

/// Sends a command about the branch itself.
pub(super) async fn steer<T: serde::de::DeserializeOwned>(
    gateway: &Gateway,
    caller: &Caller,
    branch: u16,
    posted: &Posted<T>,
    wish: Command,
) -> Result<Response, Problem> {
    let key = posted.key_or_new();
    let steered = command(gateway, caller, branch, posted.digest, Some(&key), wish).await?;
    Ok(json_keyed(StatusCode::OK, &Done { done: true }, &key, steered.repeated))
}

/// The branch, if the caller may give it orders that its book knows nothing of.
fn ordered(gateway: &Shared, caller: &Caller, branch: &str) -> Result<Arc<dyn Seat>, Problem> {
    caller.may(Operation::BranchesControl)?;
    let seat = gateway.bank.seat(branch_number(branch)?)?;
    caller.may_in(seat.number())?;
    Ok(seat)
}

/// Open a sick branch again
///
/// From its journal, once what made it sick is mended. For operators.
#[utoipa::path(
    post, path = "/v1/branches/{branch}/reopen", tag = "branches",
    params(("branch" = u16, Path, description = "The branch.")),
    responses(
        (status = 200, description = "Open", body = BranchView),
        (status = "default", description = "It did not open, and why", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn reopen(
    State(gateway): State<Shared>,
    caller: Caller,
    Path(branch): Path<String>,
    Maybe(_posted): Maybe<super::Empty>,
) -> Result<Response, Problem> {
    let seat = ordered(&gateway, &caller, &branch)?;
    let opening = Arc::clone(&seat);
    gateway.bank.known.forget(seat.number());
    match tokio::task::spawn_blocking(move || opening.reopen()).await {
        Ok(Ok(())) => Ok(json(StatusCode::OK, &branch_view(&*seat))),
        Ok(Err(reason)) => {
            Err(Problem::numbered(catalogue::BRANCH_UNAVAILABLE).detail(reason).retry_after_ms(5_000))
        }
        Err(_) => Err(Problem::numbered(catalogue::INTERNAL)),
    }
}

/// Confirm the clock
///
/// A branch whose machine's clock has jumped by more than five seconds stamps nothing until the clock is right again, or
/// somebody says that it is right as it is. Stamps never go back: after a jump back they stand until the clock has caught up.
/// Nothing happens where the clock has not jumped. For operators.
#[utoipa::path(
    post, path = "/v1/branches/{branch}/confirm-clock", tag = "branches",
    params(("branch" = u16, Path, description = "The branch.")),
    responses(
        (status = 200, description = "Taken", body = BranchView),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn confirm_clock(
    State(gateway): State<Shared>,
    caller: Caller,
    Path(branch): Path<String>,
    Maybe(_posted): Maybe<super::Empty>,
) -> Result<Response, Problem> {
    let seat = ordered(&gateway, &caller, &branch)?;
    seat.confirm_clock();
    tracing::warn!(branch = seat.number(), principal = caller.principal().as_str(), "the clock is confirmed");
    Ok(json(StatusCode::OK, &branch_view(&*seat)))
}

pub(super) fn branch_number(text: &str) -> Result<u16, Problem> {
    text.parse::<u16>().map_err(|_| {
        Problem::numbered(catalogue::INVALID_FIELD)
            .field("branch")
            .detail(said!("a number from 1 to 9999", "1 至 9999 的整数"))
    })
}

/// Open a business day
///
/// Closes the open one for ever. Days open by themselves at the cutoff; this is for catching up. For operators.
#[utoipa::path(
    post, path = "/v1/branches/{branch}/days", tag = "branches", request_body = DateIn,
    params(("branch" = u16, Path, description = "The branch."), ("Idempotency-Key" = Option<String>, Header)),
    responses(
        (status = 200, description = "Open", body = Done),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn open_day(
    State(gateway): State<Shared>,
    caller: Caller,
    Path(branch): Path<String>,
    posted: Posted<DateIn>,
) -> Result<Response, Problem> {
    caller.may(Operation::BranchesControl)?;
    let wish = Command::OpenDay(posted.body.date.0);
    steer(&gateway, &caller, branch_number(&branch)?, &posted, wish).await
}

/// End imports
///
/// From this day on nothing is imported. Said once. For operators; can be put under four eyes.
#[utoipa::path(
    post, path = "/v1/branches/{branch}/go-live", tag = "branches", request_body = DateIn,
    params(("branch" = u16, Path, description = "The branch."), ("Idempotency-Key" = Option<String>, Header)),
    responses(
        (status = 200, description = "Live", body = Done),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn go_live(
    State(gateway): State<Shared>,
    caller: Caller,
    Path(branch): Path<String>,
    posted: Posted<DateIn>,
) -> Result<Response, Problem> {
    caller.may(Operation::BranchesControl)?;
    let wish = Command::GoLive(posted.body.date.0);
    steer(&gateway, &caller, branch_number(&branch)?, &posted, wish).await
}

/// Raise a journal's format
///
/// After an upgrade: from then on the branch does what releases of before did not know, and they cannot open it any more. For operators.
#[utoipa::path(
    post, path = "/v1/branches/{branch}/format", tag = "branches", request_body = FormatIn,
    params(("branch" = u16, Path, description = "The branch."), ("Idempotency-Key" = Option<String>, Header)),
    responses(
        (status = 200, description = "Raised", body = Done),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn raise_format(
    State(gateway): State<Shared>,
    caller: Caller,
    Path(branch): Path<String>,
    posted: Posted<FormatIn>,
) -> Result<Response, Problem> {
    caller.may(Operation::BranchesControl)?;
    let wish = Command::RaiseFormat(posted.body.level.unwrap_or(skerry_book::FORMAT_LEVEL));
    steer(&gateway, &caller, branch_number(&branch)?, &posted, wish).await
}

/// Read a branch's policy
///
/// What needs a second principal, and how long the law keeps customers.
#[utoipa::path(
    get, path = "/v1/branches/{branch}/policy", tag = "approvals",
    params(("branch" = u16, Path, description = "The branch.")),
    responses(
        (status = 200, description = "The policy", body = PolicyIn),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn policy(
    State(gateway): State<Shared>,
    caller: Caller,
    Path(branch): Path<String>,
) -> Result<Response, Problem> {
    let branch = readable(&caller, &branch)?;
    let Some(Answer::Policy(policy)) = gateway.bank.look(branch, &caller, Read::Policy).await? else {
        return Err(Problem::numbered(catalogue::INTERNAL));
    };
    let four_eyes = policy.four_eyes.iter().map(|matter| matter.name().to_owned()).collect();
    Ok(json(StatusCode::OK, &PolicyIn { four_eyes, retention_days: policy.retention_days }))
}

/// Set a branch's policy
///
/// Under four eyes itself as soon as anything is. For operators.
#[utoipa::path(
    put, path = "/v1/branches/{branch}/policy", tag = "approvals", request_body = PolicyIn,
    params(("branch" = u16, Path, description = "The branch."), ("Idempotency-Key" = Option<String>, Header)),
    responses(
        (status = 200, description = "Set", body = Done),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn set_policy(
    State(gateway): State<Shared>,
    caller: Caller,
    Path(branch): Path<String>,
    posted: Posted<PolicyIn>,
) -> Result<Response, Problem> {
    caller.may(Operation::BranchesControl)?;
    let mut four_eyes = Matters::NONE;
    for (index, name) in posted.body.four_eyes.iter().enumerate() {
        four_eyes = four_eyes.with(
            super::approvals::matter(name).map_err(|problem| problem.field("").at("four_eyes", index))?,
        );
    }
    let wish = Command::SetPolicy(Policy { four_eyes, retention_days: posted.body.retention_days });
    steer(&gateway, &caller, branch_number(&branch)?, &posted, wish).await
}

/// All matters, for texts.
pub(crate) fn matters() -> String {
    let names: Vec<&str> = Matter::ALL.into_iter().map(Matter::name).collect();
    names.join(", ")
}
