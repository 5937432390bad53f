//! Channels of a branch to the others, as operators and auditors see them.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use skerry_book::Command;
use skerry_book::channel::{Sum, Totals};
use skerry_book::event::{ChannelStopped, Incarnated, StopReason};
use skerry_branch::api::{Answer, ChannelView, Read};
use skerry_money::Currency;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::branches::{branch_number, readable, steer};
use super::json;
use crate::auth::{Caller, Operation};
use crate::catalogue;
use crate::extract::Posted;
use crate::gateway::Shared;
use crate::problem::Problem;
use crate::wire::channels::{
    BreaksView, ChannelOut, ChannelTotals, ChannelsView, LossOut, StoppedOut, SumOut,
};
use crate::wire::reports::Done;
use crate::wire::scalars::{CurrencyText, Instant, Money};

/// Where what could be booked to nobody waits.
const RETURNS_UNAPPLIED: u32 = 2902;

pub(crate) fn router() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(channels)).routes(routes!(resume)).routes(routes!(breaks))
}

/// List a branch's channels
///
/// Its payments to and from each other branch: numbers, what is under way, sums by currency, and why a channel has stopped.
#[utoipa::path(
    get, path = "/v1/branches/{branch}/channels", tag = "branches",
    params(("branch" = u16, Path, description = "The branch.")),
    responses(
        (status = 200, description = "The channels", body = ChannelsView),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn channels(
    State(gateway): State<Shared>,
    caller: Caller,
    Path(branch): Path<String>,
) -> Result<Response, Problem> {
    let branch = readable(&caller, &branch)?;
    let Some(Answer::Channels(found)) = gateway.bank.look(branch, &caller, Read::Channels).await? else {
        return Err(Problem::numbered(catalogue::INTERNAL));
    };
    let channels = found.iter().map(|(peer, channel)| shown(*peer, channel)).collect();
    Ok(json(StatusCode::OK, &ChannelsView { branch, channels }))
}

/// Let a channel that has stopped go on
///
/// Both branches tell each other where they stand; what one of them has lost and the other holds is taken back first, whatever
/// limits and freezes say. It goes on once both know the same; `resuming` in the list says that this is under way. After a
/// declared loss it is ordered by itself. For operators; under four eyes with `declared_loss`.
#[utoipa::path(
    post, path = "/v1/branches/{branch}/channels/{peer}/resume", tag = "branches",
    params(
        ("branch" = u16, Path, description = "The branch."), ("peer" = u16, Path, description = "The other branch."),
        ("Idempotency-Key" = Option<String>, Header)
    ),
    responses(
        (status = 200, description = "Ordered", body = Done),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn resume(
    State(gateway): State<Shared>,
    caller: Caller,
    Path((branch, peer)): Path<(String, String)>,
    posted: Posted<super::Empty>,
) -> Result<Response, Problem> {
    caller.may(Operation::BranchesControl)?;
    let (branch, peer) = (branch_number(&branch)?, branch_number(&peer)?);
    steer(&gateway, &caller, branch, &posted, Command::ResumeChannel(peer)).await
}

/// List a branch's breaks
///
/// Where its record and another one differ: parts of its journal that were declared lost, channels that have stopped, and
/// money on the head *returns unapplied*, which could be booked to nobody.
#[utoipa::path(
    get, path = "/v1/branches/{branch}/breaks", tag = "branches",
    params(("branch" = u16, Path, description = "The branch.")),
    responses(
        (status = 200, description = "The breaks", body = BreaksView),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn breaks(
    State(gateway): State<Shared>,
    caller: Caller,
    Path(branch): Path<String>,
) -> Result<Response, Problem> {
    let branch = readable(&caller, &branch)?;
    let internal = || Problem::numbered(catalogue::INTERNAL);
    let Some(Answer::Losses(losses)) = gateway.bank.look(branch, &caller, Read::Losses).await? else {
        return Err(internal());
    };
    let Some(Answer::Channels(channels)) = gateway.bank.look(branch, &caller, Read::Channels).await? else {
        return Err(internal());
    };
    let trial = Read::TrialBalance { date: None, by_value: false };
    let lines = match gateway.bank.look(branch, &caller, trial).await? {
        Some(Answer::TrialBalance { lines, .. }) => lines,
        _ => return Err(internal()),
    };
    let unapplied = lines.iter().filter(|line| line.code == RETURNS_UNAPPLIED && line.closing != 0);
    let stopped = channels
        .iter()
        .filter(|(_, channel)| channel.outgoing_stopped.is_some() || channel.incoming_stopped.is_some());
    let view = BreaksView {
        branch,
        losses: losses.iter().map(loss).collect(),
        stopped: stopped.map(|(peer, channel)| shown(*peer, channel)).collect(),
        unapplied: unapplied.map(|line| Money::minor(line.closing, line.currency)).collect(),
    };
    Ok(json(StatusCode::OK, &view))
}

fn loss(lost: &Incarnated) -> LossOut {
    LossOut {
        incarnation: lost.incarnation,
        lost_from: lost.lost_from,
        lost_to: lost.lost_to,
        at: Instant(lost.at.time_us),
    }
}

fn shown(peer: u16, channel: &ChannelView) -> ChannelOut {
    let rows = channel.totals.iter();
    ChannelOut {
        peer,
        incarnation: channel.incarnation,
        sent: channel.sent,
        done: channel.done,
        open: channel.sent.saturating_sub(channel.done),
        received: channel.received,
        resuming: channel.resuming,
        outgoing_stopped: channel.outgoing_stopped.as_ref().map(stopped),
        incoming_stopped: channel.incoming_stopped.as_ref().map(stopped),
        totals: rows.filter_map(|(number, row)| Some(totals(Currency::from_number(*number)?, row))).collect(),
    }
}

fn totals(currency: Currency, totals: &Totals) -> ChannelTotals {
    let sum = |sum: Sum| {
        let amount = i128::try_from(sum.amount).unwrap_or(i128::MAX);
        SumOut { count: sum.count, amount: Money::minor(amount, currency) }
    };
    ChannelTotals {
        currency: CurrencyText(currency),
        sent: sum(totals.sent),
        settled: sum(totals.settled),
        returned: sum(totals.returned),
        received: sum(totals.received),
        refused: sum(totals.refused),
    }
}

fn stopped(stop: &ChannelStopped) -> StoppedOut {
    let text = |figure: u128| match stop.reason {
        StopReason::HashDiffers => format!("{figure:032x}"),
        _ => figure.to_string(),
    };
    StoppedOut {
        reason: stop.reason.name(),
        number: stop.n,
        expected: text(stop.expected),
        found: text(stop.found),
        at: Instant(stop.at.time_us),
    }
}
