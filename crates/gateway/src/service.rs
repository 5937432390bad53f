//! The outermost layer: from hyper's request to the answer, whatever happens in between.
//!
//! Here problems become documents in the client's language, panics become problems, and requests are counted.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;

use crate::auth::ClientCertificate;
use crate::body::Caught;
use crate::catalogue;
use crate::detail::said;
use crate::meters::Meters;
use crate::problem::{Language, Problem};
use crate::traces::{RECORDING, Traces, Watch};

/// The router behind its outermost layer. Cheap to clone.
#[derive(Clone)]
pub struct Front {
    router: TowerToHyperService<Router>,
    meters: Arc<Meters>,
    certificate: Option<ClientCertificate>,
    stopping: Arc<AtomicBool>,
    traces: Option<Arc<dyn Traces>>,
}

impl Front {
    /// Puts the layer around `router`; `stopping` is set when the gateway begins to drain.
    #[must_use]
    pub fn new(router: Router, meters: Arc<Meters>, stopping: Arc<AtomicBool>) -> Self {
        Self { router: TowerToHyperService::new(router), meters, certificate: None, stopping, traces: None }
    }

    /// Says that the gateway drains: streams end.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// The same, telling `traces` of requests. The router must note its routes then: see [`crate::app::traced_front`].
    #[must_use]
    pub(crate) fn with_traces(mut self, traces: Option<Arc<dyn Traces>>) -> Self {
        self.traces = traces;
        self
    }

    /// The same for a connection whose client showed a certificate.
    #[must_use]
    pub fn with_certificate(mut self, certificate: Option<ClientCertificate>) -> Self {
        self.certificate = certificate;
        self
    }

    /// What is counted here.
    #[must_use]
    pub fn meters(&self) -> &Meters {
        &self.meters
    }

    /// Answers one request, in tests too.
    pub async fn answer(self, mut request: Request<Body>) -> Response<Body> {
        let begun = Instant::now();
        let accept = request.headers().get(header::ACCEPT_LANGUAGE);
        let language = accept.and_then(|value| value.to_str().ok()).map_or(Language::English, Language::of);
        let writes = !matches!(*request.method(), Method::GET | Method::HEAD);
        if let Some(certificate) = self.certificate {
            request.extensions_mut().insert(certificate);
        }
        let running = Running::begin(&self.meters);
        let mut watch = Watch::begin(self.traces.as_ref(), request.method(), request.headers());
        let call = Caught(Box::pin(self.router.call(request)));
        let answered = match &watch {
            None => call.await,
            Some(watch) => RECORDING.scope(Arc::clone(&watch.recording), call).await,
        };
        let mut response = match answered {
            Ok(Ok(response)) => response,
            Ok(Err(never)) => match never {},
            Err(()) => {
                self.meters.panics.add(1);
                tracing::error!("a handler panicked");
                let problem = Problem::numbered(catalogue::INTERNAL);
                note(&mut watch, &problem);
                problem.render(language)
            }
        };
        if is_unread_path(&response) {
            let problem = Problem::numbered(catalogue::INVALID_FIELD)
                .detail(said!("the path cannot be read", "路径无法解析"));
            response.extensions_mut().insert(problem);
        }
        if let Some(problem) = response.extensions_mut().remove::<Problem>() {
            if response.status().is_server_error() {
                tracing::debug!(code = problem.code(), "answered with a problem");
            }
            note(&mut watch, &problem);
            let mut rendered = problem.render(language);
            // What a handler had set already, such as the key it made, goes along.
            for (name, value) in response.headers() {
                if !rendered.headers().contains_key(name) && name != header::CONTENT_LENGTH {
                    rendered.headers_mut().insert(name.clone(), value.clone());
                }
            }
            response = rendered;
        }
        drop(running);
        if let Some(watch) = watch {
            watch.end(response.status());
        }
        let class = usize::from(response.status().as_u16() / 100);
        if let Some(count) = self.meters.answers.get(class) {
            count.add(1);
        }
        self.meters.bytes_sent.add(hyper::body::Body::size_hint(response.body()).exact().unwrap_or(0));
        let latency = if writes { &self.meters.writes } else { &self.meters.reads };
        latency.record(begun.elapsed());
        response
    }
}

/// Whether the router itself refused: a part of the path is no UTF-8, or not the number it stands for.
fn is_unread_path(response: &Response<Body>) -> bool {
    let is_text = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"text/"));
    response.status() == StatusCode::BAD_REQUEST && is_text
}

fn note(watch: &mut Option<Watch>, problem: &Problem) {
    if let Some(watch) = watch {
        watch.problem(problem);
    }
}

/// Counts a request as running until dropped, also when its connection goes away.
struct Running<'a>(&'a Meters);

impl<'a> Running<'a> {
    fn begin(meters: &'a Meters) -> Self {
        meters.in_flight.add(1);
        Self(meters)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.in_flight.subtract(1);
    }
}

impl Service<Request<Incoming>> for Front {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let front = self.clone();
        Box::pin(async move { Ok(front.answer(request.map(Body::new)).await) })
    }
}
