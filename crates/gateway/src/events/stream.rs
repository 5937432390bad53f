//! Server-sent events (HTML, 9.2): one task a stream, one page in it at a time.
//!
//! A reader who does not take what is offered is dropped after [`stall`](crate::config::Limits::event_stall) and loses
//! nothing: the id of each event is the cursor after it, and `Last-Event-ID` goes on from there. A token that ends or is
//! taken back ends its streams.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hyper::body::Frame;
use skerry_book::actor::Principal;
use tokio::sync::mpsc;

use super::cursor::Cursor;
use super::domain::Told;
use super::reader::{Page, Reader};
use crate::catalogue;
use crate::detail::{Detail, said};
use crate::extract::Standing;
use crate::gateway::Shared;
use crate::problem::Problem;

/// Events that a stream holds at once: a few hundred KiB.
const PAGE: usize = 256;

/// After so long without an event a sign shows that the stream lives.
const SIGN: Duration = Duration::from_secs(15);

/// The token is looked at again at most so often.
const LOOK: Duration = Duration::from_secs(1);

/// How many streams and waiting requests each principal has open.
#[derive(Debug, Default)]
pub(crate) struct Open(Mutex<HashMap<Principal, usize>>);

/// One of them; it is given back when dropped.
pub(crate) struct Slot {
    gateway: Shared,
    principal: Principal,
}

impl Slot {
    /// Takes one for `principal`.
    ///
    /// # Errors
    ///
    /// `too_many_streams`, of all or of this principal's.
    pub(crate) fn take(gateway: &Shared, principal: Principal) -> Result<Self, Problem> {
        let limits = &gateway.limits;
        let mut open = gateway.open_streams.0.lock().unwrap_or_else(PoisonError::into_inner);
        let full =
            |what: Detail| Problem::numbered(catalogue::TOO_MANY_STREAMS).detail(what).retry_after_ms(10_000);
        if open.values().sum::<usize>() >= limits.event_streams {
            return Err(full(said!("the bank has as many open as it may", "本行打开的事件流已达上限")));
        }
        let own = open.entry(principal).or_default();
        if *own >= limits.event_streams_each {
            return Err(full(said!(
                "this principal has as many open as one may",
                "该主体打开的事件流已达上限"
            )));
        }
        *own += 1;
        gateway.meters.streams.add(1);
        drop(open);
        Ok(Self { gateway: Shared::clone(gateway), principal })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut open = self.gateway.open_streams.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = open.get_mut(&self.principal) {
            *own -= 1;
            if *own == 0 {
                open.remove(&self.principal);
            }
        }
        self.gateway.meters.streams.subtract(1);
    }
}

/// Answers with a stream of what `reader` reads.
pub(crate) fn answer(slot: Slot, standing: Standing, reader: Reader) -> Response {
    // One page waits here, one is being made.
    let (send, receive) = mpsc::channel::<Bytes>(1);
    tokio::spawn(run(slot, standing, reader, send));
    let mut response = Body::new(Streamed(receive)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn run(slot: Slot, standing: Standing, mut reader: Reader, send: mpsc::Sender<Bytes>) {
    let gateway = Shared::clone(&slot.gateway);
    let mut listener = gateway.bank.news.listen();
    let (mut spoke, mut looked) = (Instant::now(), Instant::now());
    let mut troubled = Vec::new();
    let mut text = "retry: 2000\n\n".to_owned();
    while !gateway.stopping.load(Ordering::Relaxed) {
        if looked.elapsed() >= LOOK {
            looked = Instant::now();
            let Ok(caller) = standing.caller(&gateway) else {
                text.push_str(": the token is not good any more\n\n");
                let _ended = send.try_send(text.into());
                return;
            };
            reader.widen(&gateway, |branch| caller.may_in(branch).is_ok());
        }
        let from = reader.cursor.clone();
        let page = match reader.page(&gateway, PAGE).await {
            Ok(page) => page,
            // A branch that opens again, or an archive that is away, is no end of the stream.
            Err(problem) => Page { troubles: reader.trouble(problem), ..Page::default() },
        };
        frames(&mut text, from, &page.told);
        let troubles: Vec<_> =
            page.troubles.iter().map(|(branch, problem)| (*branch, problem.code())).collect();
        let is_news = troubles != troubled;
        if is_news || text.is_empty() && spoke.elapsed() >= SIGN {
            sign(&mut text, &reader.cursor, &troubles);
            troubled = troubles;
        }
        if !text.is_empty() {
            let sent = tokio::time::timeout(gateway.limits.event_stall, send.send(text.into())).await;
            if !matches!(sent, Ok(Ok(()))) {
                gateway.meters.streams_dropped.add(u64::from(sent.is_err()));
                return;
            }
            text = String::new();
            spoke = Instant::now();
        }
        if page.more {
            continue;
        }
        tokio::select! {
            () = send.closed() => return,
            () = listener.heard() => {}
        }
    }
}

/// One frame an event, its id the cursor after it.
fn frames(text: &mut String, mut cursor: Cursor, told: &[Told]) {
    for one in told {
        cursor.put(one.branch, one.place);
        let data = serde_json::to_string(&one.event).unwrap_or_default();
        text.push_str(&format!("id: {cursor}\nevent: {}\ndata: {data}\n\n", one.event.kind));
    }
}

/// A sign of life: a comment with what cannot be read, and an id without an event, from which a reader with a narrow filter goes on.
fn sign(text: &mut String, cursor: &Cursor, troubles: &[(u16, &str)]) {
    text.push_str(": still here");
    for (branch, code) in troubles {
        text.push_str(&format!("; branch {branch} {code}"));
    }
    text.push_str(&format!("\nid: {cursor}\n\n"));
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
