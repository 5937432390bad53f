//! What happened, as CloudEvents: page by page from a cursor, waiting for the next if asked to, or as a stream.

use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use serde::Deserialize;
use tokio::time::Instant;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{json, page_limit};
use crate::auth::{Caller, Operation};
use crate::events::cursor::Cursor;
use crate::events::reader::{Page, Reader, cursor};
use crate::events::stream::{self, Slot};
use crate::extract::{Parameters, Standing};
use crate::gateway::Shared;
use crate::problem::Problem;
use crate::wire::events::{EventsPage, Unavailable};

pub(crate) fn router() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(events))
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct EventsQuery {
    /// `next` of the page before, or the id of the last event of a stream; left out, from the beginning. `now` begins at
    /// the end.
    after: Option<String>,
    /// One branch; left out, that of `account`, else all.
    branch: Option<u16>,
    /// Only these types, with commas between; the beginning of a type, such as `skerry.transfer`, stands for all that begin so.
    r#type: Option<String>,
    /// Only what touches this account: a number, or a head such as `gl:1001`.
    account: Option<String>,
    /// At most so many, 1 to 1000; 100 if left out.
    limit: Option<usize>,
}

/// Read events
///
/// CloudEvents in the order of each branch's journal. With `Prefer: wait=20` an answer without events waits up to 30 seconds for
/// one. With `Accept: text/event-stream` the answer is a stream that goes on; its event ids are cursors, and `Last-Event-ID` goes on
/// where it broke. A customer's token sees what touches the customer and their accounts.
#[utoipa::path(
    get, path = "/v1/events", tag = "events", params(EventsQuery),
    responses(
        (status = 200, description = "A page, or a stream", content(
            (EventsPage = "application/json"), (String = "text/event-stream"),
        )),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn events(
    State(gateway): State<Shared>,
    caller: Caller,
    standing: Standing,
    headers: HeaderMap,
    Parameters(asked): Parameters<EventsQuery>,
) -> Result<Response, Problem> {
    caller.may(Operation::EventsRead)?;
    let last = headers.get("last-event-id").and_then(|value| value.to_str().ok());
    let after = last.or(asked.after.as_deref()).unwrap_or("");
    let cursor = if after == "now" { Cursor::default() } else { cursor(&gateway, after)? };
    let limit = page_limit(asked.limit, 100, 1_000)?;
    let (kinds, account) = (asked.r#type.as_deref(), asked.account.as_deref());
    let mut reader = Reader::for_caller(&gateway, &caller, asked.branch, kinds, account, cursor).await?;
    if after == "now" {
        reader.skip_to_end(&gateway).await?;
    }
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("");
    if accept.contains("text/event-stream") {
        let slot = Slot::take(&gateway, caller.principal())?;
        if reader.is_of_one() {
            reader.check(&gateway).await?;
        }
        return Ok(stream::answer(slot, standing, reader));
    }
    let wait = super::payments::wait(&headers);
    let page = page(&gateway, &caller, &mut reader, limit, wait).await?;
    let mut response = json(StatusCode::OK, &shown(page, &reader.cursor));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(applied) = HeaderValue::from_str(&format!("wait={}", wait.as_secs()))
        && !wait.is_zero()
    {
        response.headers_mut().insert("preference-applied", applied);
    }
    Ok(response)
}

/// A page; if there is nothing to tell, the first that has something, within `wait`.
async fn page(
    gateway: &Shared,
    caller: &Caller,
    reader: &mut Reader,
    limit: usize,
    wait: Duration,
) -> Result<Page, Problem> {
    let until = Instant::now() + wait;
    let first = reader.page(gateway, limit).await?;
    if !first.is_idle() || wait.is_zero() {
        return Ok(first);
    }
    let _slot = Slot::take(gateway, caller.principal())?;
    let mut listener = gateway.bank.news.listen();
    loop {
        let page = reader.page(gateway, limit).await?;
        if !page.is_idle() || gateway.stopping.load(Ordering::Relaxed) {
            return Ok(page);
        }
        tokio::select! {
            () = listener.heard() => {}
            () = tokio::time::sleep_until(until) => return Ok(page),
        }
    }
}

fn shown(page: Page, cursor: &Cursor) -> EventsPage {
    let unavailable = page.troubles.iter();
    let unavailable =
        unavailable.map(|(branch, problem)| Unavailable { branch: *branch, code: problem.code() }).collect();
    EventsPage {
        events: page.told.into_iter().map(|told| told.event).collect(),
        next: cursor.to_string(),
        more: page.more,
        unavailable,
    }
}
