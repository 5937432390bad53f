//! Bodies: bounded in bytes, in time and all together, then parsed once.
//!
//! A body that arrived with its head is taken without a copy; a longer one is gathered in one buffer of
//! its announced length. Whatever is wrong is a [`Problem`] that names the field.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Body as _;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::catalogue;
use crate::detail::{Detail, said};
use crate::problem::Problem;

/// Room for large bodies, shared by all connections.
#[derive(Debug)]
pub struct Room {
    most: usize,
    taken: AtomicUsize,
}

impl Room {
    /// Room for `most` bytes.
    #[must_use]
    pub const fn new(most: usize) -> Self {
        Self { most, taken: AtomicUsize::new(0) }
    }

    /// Bytes taken now.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    fn take(self: &Arc<Self>, bytes: usize) -> Option<Taken> {
        let fits = |taken: usize| taken.checked_add(bytes).filter(|sum| *sum <= self.most);
        self.taken.fetch_update(Ordering::AcqRel, Ordering::Relaxed, fits).ok()?;
        Some(Taken { room: Arc::clone(self), bytes })
    }
}

/// A part of the [`Room`], given back when dropped.
#[derive(Debug)]
pub struct Taken {
    room: Arc<Room>,
    bytes: usize,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.room.taken.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

/// A body read whole, and the room it holds until the answer is sent.
#[derive(Debug)]
pub struct Whole {
    /// The bytes.
    pub bytes: Bytes,
    _taken: Option<Taken>,
}

/// Reads a body of at most `most` bytes within `within`. Its first `free` bytes belong to its connection; more, and it
/// takes room.
///
/// # Errors
///
/// `body_too_large`, `busy` when there is no room for it, `request_timeout`, `body_cut_short`.
pub async fn read(
    body: &mut Body,
    most: usize,
    free: usize,
    within: Duration,
    room: &Arc<Room>,
) -> Result<Whole, Problem> {
    if body.size_hint().lower() > u64::try_from(most).unwrap_or(u64::MAX) {
        return Err(too_large(most));
    }
    match tokio::time::timeout(within, gather(body, most, free, room)).await {
        Ok(result) => result,
        Err(_) => Err(Problem::numbered(catalogue::REQUEST_TIMEOUT).detail(late(within))),
    }
}

fn late(within: Duration) -> Detail {
    let seconds = within.as_secs();
    said!("the body did not arrive within {seconds} s", "请求体未在 {seconds} 秒内到齐")
}

fn too_large(most: usize) -> Problem {
    Problem::numbered(catalogue::BODY_TOO_LARGE)
        .detail(said!("at most {most} bytes are taken here", "此处最多接受 {most} 字节"))
}

/// The most that is read only to be thrown away; who sends more is cut off.
const DISCARDED_MAX: u64 = 256 << 20;

/// Reads the rest of a refused body away, a frame at a time, unless it is said to be too much or takes longer than
/// `within`. Most clients look for an answer only once they have sent everything: cut off before, they never see it.
pub async fn discard(mut body: Body, within: Duration) {
    if body.size_hint().lower() > DISCARDED_MAX {
        return;
    }
    let reading = async {
        let mut left = DISCARDED_MAX;
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.data_ref().map_or(0, |data| u64::try_from(data.len()).unwrap_or(u64::MAX));
            let Some(rest) = left.checked_sub(length) else { return };
            left = rest;
        }
    };
    // Whoever is too slow for it is cut off.
    let _ended = tokio::time::timeout(within, reading).await;
}

async fn gather(body: &mut Body, most: usize, free: usize, room: &Arc<Room>) -> Result<Whole, Problem> {
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(most).min(most);
    let mut taken: Option<Taken> = None;
    let mut held = free;
    let mut first = Bytes::new();
    let mut rest: Option<BytesMut> = None;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Problem::numbered(catalogue::BODY_CUT_SHORT))?;
        let Ok(data) = frame.into_data() else { continue };
        let so_far = rest.as_ref().map_or(first.len(), BytesMut::len);
        let length = so_far + data.len();
        if length > most {
            return Err(too_large(most));
        }
        if length > held {
            held = length.max(announced).saturating_mul(2).min(most);
            // What is held is given back first: together they could be more than there is.
            drop(taken.take());
            taken = Some(room.take(held).ok_or_else(|| {
                Problem::numbered(catalogue::BUSY)
                    .detail(said!("no room for another large body", "暂无空间接收另一个大请求体"))
                    .retry_after_ms(200)
            })?);
        }
        if so_far == 0 && rest.is_none() {
            first = data;
            continue;
        }
        let buffer = rest.get_or_insert_with(|| {
            let mut buffer = BytesMut::with_capacity(announced.max(length));
            buffer.extend_from_slice(&first);
            buffer
        });
        buffer.extend_from_slice(&data);
    }
    Ok(Whole { bytes: rest.map_or(first, BytesMut::freeze), _taken: taken })
}

/// Parses JSON. The fast way first; only what fails is read again, slowly, to name the field.
///
/// # Errors
///
/// `malformed_json`, `unknown_field`, `missing_field` or `invalid_field`, with the path of the field.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    // serde reads a struct from a list too, by position; here a request is an object and nothing else.
    if !starts_object(bytes) {
        return Err(no_object(bytes));
    }
    serde_json::from_slice(bytes).map_err(|_| explain::<T>(bytes))
}

fn starts_object(bytes: &[u8]) -> bool {
    bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{')
}

#[cold]
fn no_object(bytes: &[u8]) -> Problem {
    if bytes.is_empty() {
        return Problem::numbered(catalogue::MALFORMED_JSON).detail(said!("the body is empty", "请求体为空"));
    }
    match serde_json::from_slice::<IgnoredAny>(bytes) {
        Ok(_) => Problem::numbered(catalogue::INVALID_FIELD)
            .detail(said!("the body is JSON, but not an object", "请求体是 JSON，但不是对象")),
        Err(error) => Problem::numbered(catalogue::MALFORMED_JSON).detail(error.to_string()),
    }
}

/// The problem with a body that is not a `T`.
#[cold]
pub fn explain<T: DeserializeOwned>(bytes: &[u8]) -> Problem {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let (path, error) = match serde_path_to_error::deserialize::<_, T>(&mut reader) {
        Err(error) => (error.path().to_string(), error.into_inner()),
        Ok(_) => match reader.end() {
            Err(error) => (String::from("."), error),
            Ok(()) => return Problem::numbered(catalogue::MALFORMED_JSON),
        },
    };
    let text: String = error.to_string().chars().take(300).collect();
    if !error.is_data() {
        return Problem::numbered(catalogue::MALFORMED_JSON).detail(text);
    }
    let message = in_words(text.split(" at line ").next().unwrap_or(&text));
    let named = message.split('`').nth(1).unwrap_or("").to_owned();
    let (number, field) = if message.starts_with("unknown field") {
        (catalogue::UNKNOWN_FIELD, joined(&path, &named))
    } else if message.starts_with("missing field") {
        (catalogue::MISSING_FIELD, joined(&path, &named))
    } else {
        (catalogue::INVALID_FIELD, joined(&path, ""))
    };
    Problem::numbered(number).detail(message).field(field)
}

/// The message without the names of our types.
fn in_words(message: &str) -> String {
    let Some((before, kind)) = message.rsplit_once("expected ") else { return message.to_owned() };
    let words = match kind {
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" => "a whole number from 0 to 18446744073709551615",
        kind if kind.starts_with("struct ") || kind == "a map" => "an object",
        kind => kind,
    };
    format!("{before}expected {words}")
}

fn joined(path: &str, name: &str) -> String {
    let path = if path == "." || path == "?" { "" } else { path };
    let path: String = path.chars().take(120).collect();
    let name: String = name.chars().take(60).collect();
    match (path.is_empty(), name.is_empty()) {
        (_, true) => path,
        (true, false) => name,
        // The path ends with the unknown field itself, or with the object that lacks one.
        (false, false) if path == name || path.ends_with(&format!(".{name}")) => path,
        (false, false) => format!("{path}.{name}"),
    }
}

/// Runs a handler so that its panic is a problem document and not a torn connection.
pub struct Caught<F>(pub F);

impl<F: Future + Unpin> Future for Caught<F> {
    type Output = Result<F::Output, ()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let inner = &mut self.0;
        let polled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| Pin::new(inner).poll(context)));
        match polled {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Err(_) => Poll::Ready(Err(())),
        }
    }
}

#[cfg(test)]
#[path = "body_tests.rs"]
mod tests;
