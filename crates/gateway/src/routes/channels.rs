//! Channels of a branch to the others, as operators and auditors see them.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use skerry_book::channel::{Sum, Totals};
use skerry_book::event::{ChannelStopped, StopReason};
use skerry_branch::api::{Answer, ChannelView, Read};
use skerry_money::Currency;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::branches::{branch_number, may_read};
use super::json;
use crate::auth::Caller;
use crate::catalogue;
use crate::gateway::Shared;
use crate::problem::Problem;
use crate::wire::channels::{ChannelOut, ChannelTotals, ChannelsView, StoppedOut, SumOut};
use crate::wire::scalars::{CurrencyText, Instant, Money};

pub(crate) fn router() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(channels))
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
    may_read(&caller)?;
    let branch = branch_number(&branch)?;
    caller.may_in(branch)?;
    let Some(Answer::Channels(found)) = gateway.bank.look(branch, &caller, Read::Channels).await? else {
        return Err(Problem::numbered(catalogue::INTERNAL));
    };
    let channels = found.iter().map(|(peer, channel)| shown(*peer, channel)).collect();
    Ok(json(StatusCode::OK, &ChannelsView { branch, channels }))
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
