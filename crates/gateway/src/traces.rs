//! What is told of requests that are traced: when, which route, who in kind, what came of it, and what was waited for.
//!
//! ```text
//! Front ── asks Traces: admit? ──► no: nothing is noted, nothing is allocated
//!   └────── yes: Recording, in the task's own store ◄── route, kind of principal, steps of Bank
//!                  └── at the end, or when the client has gone ──► Traces::tell
//! ```
//!
//! It knows nothing of OpenTelemetry: an exporter implements [`Traces`]. What may be told is the fields of [`Traced`] and
//! no others: no path, no header, no name and no amount has a place in it, so none can get out by mistake.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;

use crate::problem::Problem;

/// Steps kept of one request; a look-up may ask thousands of branches.
pub const STEPS_MAX: usize = 64;

/// Where traced requests are told of. Neither call may block or fail: payments wait for them.
pub trait Traces: Send + Sync {
    /// Whether to record a request that came with these words in its one `traceparent`, if it had one.
    fn admit(&self, traceparent: Option<&str>) -> Verdict;

    /// A recorded request has ended.
    fn tell(&self, request: Traced);
}

/// Whether a request is recorded, and as whose part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is not.
    Pass,
    /// As the first of a trace of its own.
    Root,
    /// As a part of the client's trace.
    Under {
        /// The client's trace.
        trace: u128,
        /// The client's span.
        span: u64,
    },
}

/// A request that has ended.
#[derive(Debug, Clone)]
pub struct Traced {
    /// Trace and span of the client's; none if it sent none.
    pub parent: Option<(u128, u64)>,
    /// When its head was there.
    pub begun: SystemTime,
    /// From then to the answer.
    pub took: Duration,
    /// How it was called.
    pub method: Method,
    /// The route's template, such as `/v1/accounts/{number}`; none if no route matched.
    pub route: Option<MatchedPath>,
    /// The role of a caller whose token was good.
    pub principal: Option<&'static str>,
    /// The answer's status; none if the client went away before.
    pub status: Option<StatusCode>,
    /// Number and name of the problem that was the answer.
    pub problem: Option<(u16, &'static str)>,
    /// What it waited for, in the order of their ends.
    pub steps: Vec<Step>,
    /// Steps beyond [`STEPS_MAX`].
    pub left_out: u32,
}

/// What a step waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A branch's word: queued, decided and durable.
    Decision,
    /// A query of history, or other work that may wait for a disk.
    Query,
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// With an answer, which may be a refusal by the book.
    Answered,
    /// With the problem of this number.
    Problem(u16),
    /// Nobody waited for its end.
    Abandoned,
}

/// One thing that a request waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// What for.
    pub kind: Kind,
    /// Of which branch.
    pub branch: u16,
    /// From the request's begin to its own.
    pub after: Duration,
    /// From then to its end.
    pub took: Duration,
    /// How it ended.
    pub outcome: Outcome,
}

tokio::task_local! {
    /// The request that this task answers, if it is recorded.
    pub(crate) static RECORDING: Arc<Recording>;
}

/// What is noted while a recorded request runs.
#[derive(Debug)]
pub(crate) struct Recording {
    begun: Instant,
    noted: Mutex<Noted>,
}

#[derive(Debug, Default)]
struct Noted {
    route: Option<MatchedPath>,
    principal: Option<&'static str>,
    steps: Vec<Step>,
    left_out: u32,
}

impl Recording {
    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A recorded request. When it is dropped before its [`end`](Self::end), its client has gone, and that is told.
pub(crate) struct Watch {
    traces: Arc<dyn Traces>,
    pub(crate) recording: Arc<Recording>,
    parent: Option<(u128, u64)>,
    begun: SystemTime,
    method: Method,
    status: Option<StatusCode>,
    problem: Option<(u16, &'static str)>,
}

impl Watch {
    /// Begins to record if there are traces and they want this request.
    pub(crate) fn begin(
        traces: Option<&Arc<dyn Traces>>,
        method: &Method,
        headers: &HeaderMap,
    ) -> Option<Self> {
        let traces = traces?;
        let parent = match traces.admit(traceparent(headers)) {
            Verdict::Pass => return None,
            Verdict::Root => None,
            Verdict::Under { trace, span } => Some((trace, span)),
        };
        Some(Self {
            traces: Arc::clone(traces),
            recording: Arc::new(Recording { begun: Instant::now(), noted: Mutex::default() }),
            parent,
            begun: SystemTime::now(),
            method: method.clone(),
            status: None,
            problem: None,
        })
    }

    /// Notes the problem that is about to be answered.
    pub(crate) fn problem(&mut self, problem: &Problem) {
        self.problem = Some((problem.number(), problem.code()));
    }

    /// Tells of the answer.
    pub(crate) fn end(mut self, status: StatusCode) {
        self.status = Some(status);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let noted = std::mem::take(&mut *self.recording.noted());
        self.traces.tell(Traced {
            parent: self.parent,
            begun: self.begun,
            took: self.recording.begun.elapsed(),
            method: self.method.clone(),
            route: noted.route,
            principal: noted.principal,
            status: self.status,
            problem: self.problem,
            steps: noted.steps,
            left_out: noted.left_out,
        });
    }
}

/// The one `traceparent`. The standard wants more than one to be taken for none.
fn traceparent(headers: &HeaderMap) -> Option<&str> {
    let mut all = headers.get_all("traceparent").iter();
    all.next().filter(|_| all.next().is_none())?.to_str().ok()
}

/// Notes the route that matched; a layer of the router, there only if there are traces.
pub(crate) async fn note_route(request: Request, next: Next) -> Response {
    let _unrecorded = RECORDING.try_with(|recording| {
        recording.noted().route = request.extensions().get::<MatchedPath>().cloned();
    });
    next.run(request).await
}

/// Notes the role of a caller whose token is good.
pub(crate) fn note_principal(role: &'static str) {
    let _unrecorded = RECORDING.try_with(|recording| recording.noted().principal = Some(role));
}

/// Begins a step; it costs a look at the task's own store if the request is not recorded.
pub(crate) fn step(kind: Kind, branch: u16) -> Waiting {
    let of = RECORDING.try_with(|recording| (Arc::clone(recording), Instant::now())).ok();
    Waiting { of, kind, branch, outcome: Outcome::Abandoned }
}

/// A step that has begun; ends when dropped.
pub(crate) struct Waiting {
    of: Option<(Arc<Recording>, Instant)>,
    kind: Kind,
    branch: u16,
    outcome: Outcome,
}

impl Waiting {
    /// Ends it with what came of it, and hands that on.
    pub(crate) fn end<T>(mut self, result: Result<T, Problem>) -> Result<T, Problem> {
        self.outcome = match &result {
            Ok(_) => Outcome::Answered,
            Err(problem) => Outcome::Problem(problem.number()),
        };
        result
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let Some((recording, began)) = self.of.take() else { return };
        let (kind, branch, outcome) = (self.kind, self.branch, self.outcome);
        let after = began.saturating_duration_since(recording.begun);
        let mut noted = recording.noted();
        if noted.steps.len() < STEPS_MAX {
            noted.steps.push(Step { kind, branch, after, took: began.elapsed(), outcome });
        } else {
            noted.left_out = noted.left_out.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn two_parents_are_none() {
        let mut headers = HeaderMap::new();
        assert_eq!(traceparent(&headers), None);
        headers.append("traceparent", HeaderValue::from_static("one"));
        assert_eq!(traceparent(&headers), Some("one"));
        headers.append("traceparent", HeaderValue::from_static("two"));
        assert_eq!(traceparent(&headers), None);
    }

    #[tokio::test]
    async fn steps_are_bounded_and_noted_only_while_recording() {
        step(Kind::Query, 1).end(Ok(())).unwrap();
        let recording = Arc::new(Recording { begun: Instant::now(), noted: Mutex::default() });
        RECORDING
            .scope(Arc::clone(&recording), async {
                for branch in 0..70 {
                    drop(step(Kind::Decision, branch));
                }
            })
            .await;
        let noted = recording.noted();
        assert_eq!((noted.steps.len(), noted.left_out), (STEPS_MAX, 6));
        assert_eq!((noted.steps[3].branch, noted.steps[3].outcome), (3, Outcome::Abandoned));
    }
}
