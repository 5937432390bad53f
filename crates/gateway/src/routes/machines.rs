//! What machines read: health, readiness, metrics, the description of the API, and the pages that explain it.

use std::sync::atomic::Ordering;
use std::time::Instant;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use skerry_directory::Map;
use skerry_post::{Figures, Post};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::surroundings;
use crate::catalogue;
use crate::config::SMALL_BODY;
use crate::events::outlet::Flow;
use crate::gateway::{Gateway, Shared};
use crate::known::ACCOUNTS_MAX;
use crate::meters::{Exposition, seconds};
use crate::problem::Problem;
use crate::webhooks::Shown;
use crate::webhooks::store::Disabled;
use skerry_node::seat::Health;

pub(crate) fn router() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(healthz)).routes(routes!(readyz)).routes(routes!(metrics))
}

/// The pages, and the description itself, which cannot be part of what it describes.
pub(crate) fn pages(openapi: Bytes) -> Router<Shared> {
    Router::new()
        .route("/openapi.json", get(move || async move { typed("application/json", openapi) }))
        .route("/docs", get(|| async { page(include_str!("../docs.html")) }))
        .route("/docs/errors", get(error_index))
        .route("/docs/errors/{number}", get(error_page))
        .route("/", get(to_docs))
        .route("/docs/", get(to_docs))
}

async fn to_docs() -> Response {
    (StatusCode::SEE_OTHER, [(header::LOCATION, "/docs")]).into_response()
}

fn typed(kind: &'static str, body: impl Into<axum::body::Body>) -> Response {
    let mut response = body.into().into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// A page of our own making; nothing from elsewhere may run in it.
fn page(html: impl Into<axum::body::Body>) -> Response {
    let mut response = typed("text/html; charset=utf-8", html);
    let policy = "default-src 'none'; connect-src 'self'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                  base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    response
}

/// Whether the process lives
#[utoipa::path(get, path = "/healthz", tag = "machines", security(()), responses((status = 200, description = "It lives", body = String)))]
async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether the bank takes requests
///
/// 503 while a branch is not open; the body names each with its state. The reason is in `/v1/branches`.
#[utoipa::path(get, path = "/readyz", tag = "machines", security(()), responses(
    (status = 200, description = "Some branch serves; the body says which", body = String),
    (status = 503, description = "None does", body = String),
))]
async fn readyz(State(gateway): State<Shared>) -> Response {
    // One sick branch must not take the others out of service.
    let mut ready = false;
    let mut text = String::new();
    for seat in gateway.bank.seats().values() {
        let health = seat.health();
        ready |= health.is_open();
        // The reason may name files: it is for those with a token, in /v1/branches.
        text.push_str(&format!("branch {} {}\n", seat.number(), health.state));
    }
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, text).into_response()
}

/// Metrics
///
/// For Prometheus, in its text format.
#[utoipa::path(get, path = "/metrics", tag = "machines", security(()), responses(
    (status = 200, description = "All metrics", body = String, content_type = "text/plain"),
))]
async fn metrics(State(gateway): State<Shared>) -> Response {
    let map = surroundings::map(&gateway).await;
    exposed(exposition(&gateway, map.as_ref()))
}

/// Figures as an answer.
pub(crate) fn exposed(out: Exposition) -> Response {
    typed("text/plain; version=0.0.4; charset=utf-8", out.finish())
}

/// What every process begins with.
pub(crate) fn begin(begun: Instant, out: &mut Exposition) {
    out.metric("skerry_build_info", "gauge", "The release.");
    out.line(format_args!("skerry_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION")));
    let seconds = begun.elapsed().as_secs();
    out.single("skerry_uptime_seconds", "gauge", "Seconds since the process began to serve.", seconds);
}

fn exposition(gateway: &Shared, map: Option<&Map>) -> Exposition {
    let mut out = Exposition::default();
    begin(gateway.begun, &mut out);
    gateway.meters.write(&mut out);
    write_bounds(gateway, &mut out);
    surroundings::write(gateway, map, &mut out);
    let seats = gateway.bank.seats();
    let health: Vec<(u16, Health)> = seats.iter().map(|(number, seat)| (*number, seat.health())).collect();
    write_branches(&health, &mut out);
    write_costs(&health, &mut out);
    write_webhooks(gateway, &mut out);
    gateway.buses.get().into_iter().for_each(|post| write_buses(post, &mut out));
    write_outlet(gateway, &mut out);
    out
}

/// The bounds, as they are configured, beside what is taken of them.
fn write_bounds(gateway: &Gateway, out: &mut Exposition) {
    let limits = &gateway.limits;
    let bounds = [
        ("skerry_http_connections_max", "Connections at once.", limits.connections),
        ("skerry_http_connection_bytes_max", "The most memory of one connection.", limits.connection_bytes()),
        (
            "skerry_http2_connection_bytes_max",
            "The most memory of one HTTP/2 connection with all its streams at work.",
            limits.http2_connection_bytes(),
        ),
        ("skerry_http_body_small_bytes", "Bodies above this many bytes take of the common room.", SMALL_BODY),
        ("skerry_http_bodies_bytes_max", "The common room of large bodies.", limits.bodies_bytes),
        ("skerry_http_bodies_bytes", "What large bodies take of it now.", gateway.room.taken()),
        ("skerry_http_json_bytes_max", "The largest JSON body.", limits.json_bytes),
        ("skerry_http_packed_bytes_max", "The largest packed body.", limits.packed_bytes),
        ("skerry_http_accounts_known_max", "Accounts whose currency and owner are kept.", ACCOUNTS_MAX),
        ("skerry_http_accounts_known", "What is kept of them now.", gateway.bank.known.count()),
        ("skerry_http_event_streams_max", "Event streams at once.", limits.event_streams),
        ("skerry_http_event_streams_each_max", "The same of one principal.", limits.event_streams_each),
    ];
    for (name, help, value) in bounds {
        out.single(name, "gauge", help, u64::try_from(value).unwrap_or(u64::MAX));
    }
}

/// Reads a figure off something.
type Figure<T> = fn(&T) -> u64;

fn write_branches(health: &[(u16, Health)], out: &mut Exposition) {
    let plain: [(&str, &str, Figure<Health>); 6] = [
        ("skerry_branch_open", "1 if the branch is open.", |health| u64::from(health.is_open())),
        ("skerry_branch_position", "Durable records.", |health| health.position),
        ("skerry_branch_customers", "Customers.", |health| health.customers),
        ("skerry_branch_customers_max", "Customers it takes.", |health| health.capacity),
        ("skerry_branch_accounts", "Accounts.", |health| health.accounts),
        ("skerry_branch_holds", "Open holds.", |health| health.holds),
    ];
    for (name, help, read) in plain {
        out.metric(name, "gauge", help);
        for (branch, health) in health {
            out.line(format_args!("{name}{{branch=\"{branch}\"}} {}", read(health)));
        }
    }
    let Some((_, first)) = health.first() else { return };
    // Branches of other processes may be of another release, which tells other figures.
    for (name, kind, help, _) in &first.figures {
        out.metric(&format!("skerry_branch_{name}"), kind, help);
        for (branch, health) in health {
            if let Some((_, _, _, value)) = health.figures.iter().find(|figure| figure.0 == *name) {
                out.line(format_args!("skerry_branch_{name}{{branch=\"{branch}\"}} {value}"));
            }
        }
    }
    for (name, help, _, _) in &first.histograms {
        out.metric(&format!("skerry_branch_{name}"), "histogram", help);
        for (branch, health) in health {
            let found = health.histograms.iter().find(|histogram| histogram.0 == *name);
            if let Some((_, _, values, per_second)) = found {
                write_histogram(out, &format!("skerry_branch_{name}"), *branch, values, *per_second);
            }
        }
    }
}

/// Powers of two; beyond 2^24 everything is one bucket.
const BUCKETS: usize = 25;

fn write_histogram(
    out: &mut Exposition,
    name: &str,
    branch: u16,
    values: &skerry_branch::meters::Histogram,
    per_second: u64,
) {
    let number = |value: u64| if per_second == 0 { value.to_string() } else { seconds(value) };
    let mut count = 0;
    for (bits, bucket) in values.buckets.iter().enumerate().take(BUCKETS) {
        count += bucket;
        // A bucket holds whole numbers below its power of two: up to and including one less.
        let bound = number((1_u64 << bits) - 1);
        out.line(format_args!("{name}_bucket{{branch=\"{branch}\",le=\"{bound}\"}} {count}"));
    }
    out.line(format_args!("{name}_bucket{{branch=\"{branch}\",le=\"+Inf\"}} {}", values.count));
    out.line(format_args!("{name}_sum{{branch=\"{branch}\"}} {}", number(values.sum)));
    out.line(format_args!("{name}_count{{branch=\"{branch}\"}} {}", values.count));
}

fn write_costs(health: &[(u16, Health)], out: &mut Exposition) {
    use skerry_branch::meters::{Kind, Meter};
    let parts: [(&str, &str, Figure<Meter>); 6] = [
        ("messages", "Requests served, by kind.", |meter| meter.messages),
        ("kind_records", "Records written, by kind.", |meter| meter.records),
        ("kind_refusals", "Refusals journaled, by kind.", |meter| meter.refusals),
        ("bytes_in", "Bytes that came in, by kind.", |meter| meter.bytes_in),
        ("bytes_journal", "Bytes journaled, by kind.", |meter| meter.bytes_journal),
        ("cpu_ns", "Nanoseconds of the branch's thread, by kind.", |meter| meter.cpu_ns),
    ];
    for (name, help, read) in parts {
        out.metric(&format!("skerry_branch_{name}_total"), "counter", help);
        for (branch, health) in health {
            for kind in Kind::ALL {
                let value = read(&health.meters.kind(kind));
                let kind = kind.name();
                out.line(format_args!(
                    "skerry_branch_{name}_total{{branch=\"{branch}\",kind=\"{kind}\"}} {value}"
                ));
            }
        }
    }
}

fn write_webhooks(gateway: &Shared, out: &mut Exposition) {
    let Some(webhooks) = gateway.webhooks.get() else { return };
    let all = webhooks.list();
    type Read = fn(&Shown, &Shared) -> u64;
    let figures: [(&str, &str, &str, Read); 8] = [
        ("enabled", "gauge", "1 if it is called.", |one, _| u64::from(one.record.disabled.is_none())),
        ("gave_up", "gauge", "1 if it is called no more, and not because an operator said so.", |one, _| {
            u64::from(one.record.disabled.as_ref().is_some_and(Disabled::is_the_receivers))
        }),
        ("failing", "gauge", "1 if a delivery fails and is tried again.", |one, _| {
            u64::from(one.progress.failing.is_some())
        }),
        ("lag_records", "gauge", "Records between its cursor and the ends of its branches.", Shown::lag),
        ("lag_seconds", "gauge", "Age of the oldest event that is read and not delivered.", |one, _| {
            one.late_s()
        }),
        ("in_flight", "gauge", "Deliveries under way.", |one, _| one.live.flying.load(Ordering::Relaxed)),
        ("deliveries_total", "counter", "Events delivered.", |one, _| one.live.counts().delivered),
        ("failures_total", "counter", "Attempts that failed.", |one, _| one.live.counts().failures),
    ];
    for (name, kind, help, read) in figures {
        out.metric(&format!("skerry_webhook_{name}"), kind, help);
        for one in &all {
            let id = &one.record.id;
            out.line(format_args!("skerry_webhook_{name}{{webhook=\"{id}\"}} {}", read(one, gateway)));
        }
    }
}

/// What the post of this process counts.
pub(crate) fn write_buses(post: &Post, out: &mut Exposition) {
    let all = post.figures();
    let figures: [(&str, &str, &str, Figure<Figures>); 8] = [
        ("chosen", "gauge", "1 if messages between branches are sent over it.", |bus| u64::from(bus.chosen)),
        ("link_up", "gauge", "1 if it can be reached.", |bus| u64::from(bus.up)),
        ("links_lost_total", "counter", "Times it could not be reached any more.", |bus| bus.links_lost),
        ("sent_total", "counter", "Messages handed to it.", |bus| bus.sent),
        ("heard_total", "counter", "Messages that came over it.", |bus| bus.heard),
        ("dropped_busy_total", "counter", "Messages dropped at a full queue; they are said again.", |bus| {
            bus.dropped_busy
        }),
        ("dropped_away_total", "counter", "Messages dropped without a link; they are said again.", |bus| {
            bus.dropped_away
        }),
        ("refused_total", "counter", "Messages that no branch of this institution has said.", |bus| {
            bus.refused
        }),
    ];
    for (name, kind, help, read) in figures {
        out.metric(&format!("skerry_bus_{name}"), kind, help);
        for bus in &all {
            out.line(format_args!("skerry_bus_{name}{{bus=\"{}\"}} {}", bus.name, read(bus)));
        }
    }
}

fn write_outlet(gateway: &Shared, out: &mut Exposition) {
    // Without one there is nothing to tell, and rules about it find zeros.
    let outlet = gateway.outlet.get();
    let none = Flow::default();
    let flow = outlet.map_or(&none, |outlet| &outlet.flow);
    let figures = [
        ("events_total", "counter", "Events put into the log outside.", flow.put.load(Ordering::Relaxed)),
        ("failures_total", "counter", "Attempts that failed.", flow.failures.load(Ordering::Relaxed)),
        (
            "failing",
            "gauge",
            "1 if the last attempt failed.",
            u64::from(flow.failing.load(Ordering::Relaxed)),
        ),
        (
            "lag_records",
            "gauge",
            "Records between how far it is and the ends of the branches.",
            outlet.map_or(0, |outlet| outlet.flow.lag(gateway)),
        ),
    ];
    for (name, kind, help, value) in figures {
        out.metric(&format!("skerry_outlet_{name}"), kind, help);
        out.line(format_args!("skerry_outlet_{name} {value}"));
    }
}

const STYLE: &str = "<style>body{font:16px/1.5 system-ui,sans-serif;max-width:46em;margin:2em auto;padding:0 1em;\
color-scheme:light dark}code{font-family:ui-monospace,monospace}table{border-collapse:collapse}\
td,th{text-align:left;padding:.2em .8em .2em 0}</style>";

async fn error_index() -> Response {
    let mut html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Problems</title>{STYLE}<h1>Problems</h1><table>"
    );
    for entry in catalogue::all() {
        let (number, code, title, zh) = (entry.number, entry.code, entry.title_en, entry.title_zh);
        html.push_str(&format!(
            "<tr><td><a href=\"/docs/errors/{number}\">{number}</a><td><code>{code}</code><td>{}<td lang=\"zh-CN\">{zh}",
            escaped(title)
        ));
    }
    html.push_str("</table></html>");
    page(html)
}

async fn error_page(Path(number): Path<String>) -> Result<Response, Problem> {
    let number = number.trim_end_matches(".md").parse::<u16>().ok();
    let entry = number.and_then(catalogue::find).ok_or_else(|| Problem::numbered(catalogue::NOT_FOUND))?;
    let (number, code, title, zh) = (entry.number, entry.code, escaped(entry.title_en), entry.title_zh);
    Ok(page(format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{number} {code}</title>{STYLE}\
         <p><a href=\"/docs/errors\">All problems</a><h1>{number} <code>{code}</code></h1>\
         <p>{title} · <span lang=\"zh-CN\">{zh}</span><p>HTTP status {}.\
         <h2>Cause</h2><p>{}<h2>Effect</h2><p>{}<h2>What to do</h2><p>{}</html>",
        entry.status().as_u16(),
        escaped(entry.cause),
        escaped(entry.effect.text()),
        escaped(entry.remedy)
    )))
}

/// Text for HTML, with `code` in backticks as code.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 32);
    let mut code = false;
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '`' => {
                out.push_str(if code { "</code>" } else { "<code>" });
                code = !code;
            }
            other => out.push(other),
        }
    }
    out
}
