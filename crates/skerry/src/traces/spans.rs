//! A traced request in OpenTelemetry's words: one span of kind SERVER, and one within it for each thing it waited for.
//!
//! Names of attributes are those of the semantic conventions (HTTP, stable) where they have one, else `skerry.…`.

use std::time::{Duration, SystemTime};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use skerry_gateway::traces::{Kind, Outcome, Step, Traced};

/// The trace is recorded, by W3C Trace Context.
const SAMPLED: u32 = 1;
/// Whether the parent is in another process is known.
const PARENT_KNOWN: u32 = 0x100;
/// It is.
const PARENT_REMOTE: u32 = 0x200;

/// The spans of one request; `random` gives ids.
pub(super) fn of(request: &Traced, random: &mut impl FnMut() -> u64) -> Vec<Span> {
    let trace = match request.parent {
        Some((trace, _)) => trace,
        None => (u128::from(id(random)) << 64) | u128::from(random()),
    };
    let server = server(request, trace, id(random));
    let steps = request.steps.iter().map(|step| within(&server, request, step, id(random)));
    let steps: Vec<Span> = steps.collect();
    std::iter::once(server).chain(steps).collect()
}

/// An id that is not 0, which would mean none.
fn id(random: &mut impl FnMut() -> u64) -> u64 {
    random().max(1)
}

fn server(request: &Traced, trace: u128, span: u64) -> Span {
    let method = request.method.as_str();
    // Any word may stand for a method; only those of the standard are told.
    let known = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "CONNECT"];
    let known = known.contains(&method);
    let route = request.route.as_ref().map(|route| route.as_str());
    let verb = if known { method } else { "HTTP" };
    let mut attributes = vec![text("http.request.method", if known { method } else { "_OTHER" })];
    attributes.extend(route.map(|route| text("http.route", route)));
    attributes.extend(request.status.map(|status| int("http.response.status_code", status.as_u16())));
    attributes.extend(request.principal.map(|role| text("skerry.principal.kind", role)));
    if let Some((number, code)) = request.problem {
        attributes.push(int("skerry.problem.number", number));
        attributes.push(text("skerry.problem.code", code));
    }
    if request.left_out > 0 {
        attributes.push(int("skerry.steps_left_out", request.left_out));
    }
    let broken = match request.status {
        None => Some("cancelled".to_owned()),
        Some(status) => status.is_server_error().then(|| status.as_str().to_owned()),
    };
    attributes.extend(broken.as_deref().map(|kind| text("error.type", kind)));
    let (parent_span_id, remote) = match request.parent {
        Some((_, parent)) => (parent.to_be_bytes().to_vec(), PARENT_REMOTE),
        None => (Vec::new(), 0),
    };
    Span {
        trace_id: trace.to_be_bytes().to_vec(),
        span_id: span.to_be_bytes().to_vec(),
        parent_span_id,
        flags: SAMPLED | PARENT_KNOWN | remote,
        name: route.map_or_else(|| verb.to_owned(), |route| format!("{verb} {route}")),
        kind: SpanKind::Server.into(),
        start_time_unix_nano: nanos(request.begun),
        end_time_unix_nano: nanos(request.begun + request.took),
        attributes,
        status: broken.map(|_| failed()),
        ..Span::default()
    }
}

fn within(server: &Span, request: &Traced, step: &Step, span: u64) -> Span {
    let begun = request.begun + step.after;
    let mut attributes = vec![int("skerry.branch", step.branch)];
    let failure = match step.outcome {
        Outcome::Answered => None,
        Outcome::Problem(number) => {
            attributes.push(int("skerry.problem.number", number));
            Some(number.to_string())
        }
        Outcome::Abandoned => Some("cancelled".to_owned()),
    };
    attributes.extend(failure.as_deref().map(|kind| text("error.type", kind)));
    let name = match step.kind {
        Kind::Decision => "branch decision",
        Kind::Query => "history query",
    };
    Span {
        trace_id: server.trace_id.clone(),
        span_id: span.to_be_bytes().to_vec(),
        parent_span_id: server.span_id.clone(),
        flags: SAMPLED | PARENT_KNOWN,
        name: name.to_owned(),
        kind: SpanKind::Internal.into(),
        start_time_unix_nano: nanos(begun),
        end_time_unix_nano: nanos(begun + step.took),
        attributes,
        status: failure.map(|_| failed()),
        ..Span::default()
    }
}

/// A batch of spans from the bank of `institution`.
pub(super) fn batch(institution: &str, spans: Vec<Span>) -> ExportTraceServiceRequest {
    let version = env!("CARGO_PKG_VERSION");
    let attributes = vec![
        text("service.name", "skerry"),
        text("service.version", version),
        text("service.namespace", institution),
    ];
    let scope = InstrumentationScope {
        name: "skerry-gateway".to_owned(),
        version: version.to_owned(),
        ..InstrumentationScope::default()
    };
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() }];
    let resource = Some(Resource { attributes, ..Resource::default() });
    let spans = ResourceSpans { resource, scope_spans, ..ResourceSpans::default() };
    ExportTraceServiceRequest { resource_spans: vec![spans] }
}

fn failed() -> Status {
    Status { code: StatusCode::Error.into(), message: String::new() }
}

fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.to_owned()))
}

fn int(key: &str, value: impl Into<i64>) -> KeyValue {
    attribute(key, Value::IntValue(value.into()))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
