//! What happened, as CloudEvents: page by page from a cursor, or as a stream of server-sent events.
//!
//! The source is the journal, so nothing is missed, nothing comes twice under one id, and a cursor is good for
//! ever. No broker is needed.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hyper::body::Frame;
use serde::Deserialize;
use tokio::sync::mpsc;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{json, page_limit};
use crate::auth::{Caller, Operation};
use crate::catalogue;
use crate::events_view::cloud_event;
use crate::extract::Parameters;
use crate::gateway::Shared;
use crate::problem::Problem;
use crate::wire::reports::{CloudEvent, EventsPage};

pub(crate) fn router() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(events))
}

/// Events that a stream sends at once.
const STREAM_PAGE: usize = 500;
/// How often a stream looks for more.
const STREAM_PAUSE: Duration = Duration::from_millis(100);
/// After how many empty looks a comment shows that the stream lives.
const STREAM_SIGN: u32 = 150;

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct EventsQuery {
    /// `next` of the page before, or the id of the last event of a stream; left out, from the beginning. `now` begins at
    /// the end.
    after: Option<String>,
    /// One branch; left out, all.
    branch: Option<u16>,
    /// Only types that begin so, such as `skerry.transfer`.
    r#type: Option<String>,
    /// At most so many, 1 to 1000; 100 if left out.
    limit: Option<usize>,
}

/// Read events
///
/// CloudEvents in journal order per branch. With `Accept: text/event-stream` the answer is a stream that goes on; its event ids
/// are cursors, and `Last-Event-ID` goes on where it broke.
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
    headers: HeaderMap,
    Parameters(asked): Parameters<EventsQuery>,
) -> Result<Response, Problem> {
    caller.may(Operation::EventsRead)?;
    caller.may_beyond_one_customer()?;
    let mut branches: Vec<u16> =
        gateway.bank.seats().keys().copied().filter(|branch| caller.may_in(*branch).is_ok()).collect();
    if let Some(branch) = asked.branch {
        caller.may_in(branch)?;
        gateway.bank.seat(branch)?;
        branches = vec![branch];
    }
    let last = headers.get("last-event-id").and_then(|value| value.to_str().ok());
    let mut cursor = match last.or(asked.after.as_deref()) {
        None => EventCursor::default(),
        Some("now") => EventCursor::now(&gateway, &branches),
        Some(text) => EventCursor::parse(text)?,
    };
    let prefix = asked.r#type.unwrap_or_default();
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("");
    if accept.contains("text/event-stream") {
        return stream(gateway, branches, cursor, prefix);
    }
    let limit = page_limit(asked.limit, 100, 1_000)?;
    let events = page(&gateway, &branches, &mut cursor, &prefix, limit).await?;
    let events = events.into_iter().map(|(event, _)| event).collect();
    Ok(json(StatusCode::OK, &EventsPage { events, next: cursor.to_string() }))
}

/// The next position by branch: `1.100~2.50`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct EventCursor(BTreeMap<u16, u64>);

impl EventCursor {
    fn parse(text: &str) -> Result<Self, Problem> {
        let wrong = || Problem::numbered(catalogue::CURSOR_INVALID).field("after");
        let mut cursor = Self::default();
        for part in text.split('~').filter(|part| !part.is_empty()).take(10_000) {
            let (branch, next) = part.split_once('.').ok_or_else(wrong)?;
            cursor.0.insert(branch.parse().map_err(|_| wrong())?, next.parse().map_err(|_| wrong())?);
        }
        Ok(cursor)
    }

    fn now(gateway: &Shared, branches: &[u16]) -> Self {
        let seats = gateway.bank.seats();
        Self(branches.iter().filter_map(|branch| Some((*branch, seats.get(branch)?.durable()))).collect())
    }

    fn next(&self, branch: u16) -> u64 {
        self.0.get(&branch).copied().unwrap_or(0)
    }
}

impl std::fmt::Display for EventCursor {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (nth, (branch, next)) in self.0.iter().enumerate() {
            let between = if nth == 0 { "" } else { "~" };
            write!(formatter, "{between}{branch}.{next}")?;
        }
        Ok(())
    }
}

/// Events after `cursor`, each with the cursor after it; moves the cursor past what was looked at.
async fn page(
    gateway: &Shared,
    branches: &[u16],
    cursor: &mut EventCursor,
    prefix: &str,
    limit: usize,
) -> Result<Vec<(CloudEvent, String)>, Problem> {
    let mut events: Vec<(CloudEvent, String)> = Vec::new();
    for branch in branches.iter().copied() {
        let room = limit.saturating_sub(events.len());
        let from = cursor.next(branch);
        if room == 0 || gateway.bank.seat(branch)?.durable() <= from {
            continue;
        }
        let records = gateway.bank.query(branch, move |seat| seat.records(from, room)).await?;
        for recorded in &records {
            cursor.0.insert(branch, recorded.position + 1);
            // Keys are the book's own bookkeeping: they stand beside the event they belong to.
            if matches!(recorded.event, skerry_book::Event::KeyUsed(_)) {
                continue;
            }
            let event = cloud_event(branch, recorded);
            if event.kind.starts_with(prefix) {
                events.push((event, cursor.to_string()));
            }
        }
    }
    Ok(events)
}

fn stream(
    gateway: Shared,
    branches: Vec<u16>,
    mut cursor: EventCursor,
    prefix: String,
) -> Result<Response, Problem> {
    let limit = u64::try_from(gateway.limits.event_streams).unwrap_or(u64::MAX);
    if gateway.meters.streams.get() >= limit {
        return Err(Problem::numbered(catalogue::TOO_MANY_STREAMS).retry_after_ms(10_000));
    }
    gateway.meters.streams.add(1);
    // A slow reader holds one page here and no more.
    let (send, receive) = mpsc::channel::<Bytes>(1);
    tokio::spawn(async move {
        let mut silent = 0;
        while !gateway.stopping.load(Ordering::Relaxed) {
            let found = page(&gateway, &branches, &mut cursor, &prefix, STREAM_PAGE).await;
            let text = match found {
                Ok(events) if events.is_empty() => {
                    silent += 1;
                    if silent < STREAM_SIGN { String::new() } else { ": still here\n\n".to_owned() }
                }
                Ok(events) => events.iter().map(|(event, after)| frame(event, after)).collect(),
                // A branch that is opening again is no end of the stream.
                Err(_) => ": a branch is not available\n\n".to_owned(),
            };
            if !text.is_empty() {
                silent = 0;
                if send.send(text.into()).await.is_err() {
                    break;
                }
            }
            tokio::select! {
                () = send.closed() => break,
                () = tokio::time::sleep(STREAM_PAUSE) => {}
            }
        }
        gateway.meters.streams.subtract(1);
    });
    let mut response = Body::new(Streamed(receive)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn frame(event: &CloudEvent, after: &str) -> String {
    let data = serde_json::to_string(event).unwrap_or_default();
    format!("id: {after}\nevent: {}\ndata: {data}\n\n", event.kind)
}

/// A body of what a channel brings.
struct Streamed(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Streamed {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(context).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_read_back_and_rubbish_does_not() {
        let cursor = EventCursor(BTreeMap::from([(1, 100), (2, 5)]));
        assert_eq!(cursor.to_string(), "1.100~2.5");
        assert_eq!(EventCursor::parse("1.100~2.5").unwrap(), cursor);
        assert_eq!(EventCursor::parse("").unwrap(), EventCursor::default());
        for wrong in ["x", "1", "1.", ".1", "1.-1", "99999.1", "1.99999999999999999999"] {
            assert!(EventCursor::parse(wrong).is_err(), "{wrong}");
        }
    }
}
