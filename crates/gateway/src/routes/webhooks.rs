//! Webhooks: made, listed, tested, steered and deleted by operators.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde::Serialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::json;
use crate::auth::{Caller, Operation};
use crate::catalogue;
use crate::detail::said;
use crate::events::cursor::Cursor;
use crate::events::reader::{Filter, Reader, cursor, types};
use crate::extract::{Maybe, Posted};
use crate::gateway::Shared;
use crate::problem::Problem;
use crate::text;
use crate::webhooks::store::{Disabled, OPERATOR};
use crate::webhooks::{Delivered, Refusal, Shown, Webhooks, Wish};
use crate::wire::scalars::Instant;
use crate::wire::webhooks::{
    FailingOut, ReplayIn, TestOut, WebhookDone, WebhookIn, WebhookOut, WebhooksView,
};

pub(crate) fn router() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(show, delete))
        .routes(routes!(enable))
        .routes(routes!(disable))
        .routes(routes!(rotate))
        .routes(routes!(replay))
        .routes(routes!(test))
}

fn refused(refusal: Refusal) -> Problem {
    match refusal {
        Refusal::Unknown => Problem::numbered(catalogue::NOT_FOUND).field("id"),
        Refusal::Full => Problem::numbered(catalogue::WEBHOOKS_FULL),
        Refusal::Field(field, why) => Problem::numbered(catalogue::WEBHOOK_INVALID).field(field).detail(why),
        Refusal::Store(error) => {
            tracing::error!(%error, "the webhooks' file failed");
            Problem::numbered(catalogue::WEBHOOKS_UNAVAILABLE).retry_after_ms(5_000)
        }
    }
}

/// The webhooks, for who may `control` them or look at them.
fn within(gateway: &Shared, caller: &Caller, control: bool) -> Result<Arc<Webhooks>, Problem> {
    caller.may(if control { Operation::WebhooksControl } else { Operation::WebhooksRead })?;
    caller.may_beyond_one_customer()?;
    gateway.webhooks.get().cloned().ok_or_else(|| Problem::numbered(catalogue::WEBHOOKS_UNAVAILABLE))
}

/// The webhook `id` among them, if all of its branches are the caller's.
fn own(
    gateway: &Shared,
    caller: &Caller,
    id: &str,
    control: bool,
) -> Result<(Arc<Webhooks>, Shown), Problem> {
    let webhooks = within(gateway, caller, control)?;
    let shown = webhooks.get(id).ok_or_else(|| refused(Refusal::Unknown))?;
    may_watch(caller, shown.record.branches.as_deref())?;
    Ok((webhooks, shown))
}

fn may_watch(caller: &Caller, branches: Option<&[u16]>) -> Result<(), Problem> {
    if caller.sees_branches(branches) {
        return Ok(());
    }
    let detail =
        said!("the token does not cover all branches of the webhook", "令牌不包含该网络钩子的全部分行");
    Err(Problem::numbered(catalogue::OUT_OF_SCOPE).field("branches").detail(detail))
}

fn shown(gateway: &Shared, one: &Shown) -> WebhookOut {
    let record = &one.record;
    let trouble = one.live.trouble.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
    let Delivered { delivered, failures } = one.live.counts();
    WebhookOut {
        id: record.id.clone(),
        url: record.url.clone(),
        types: record.types.clone(),
        branches: record.branches.clone(),
        created: record.created.clone(),
        created_by: record.created_by.clone(),
        enabled: record.disabled.is_none(),
        disabled: record.disabled.clone(),
        cursor: one.progress.cursor.clone(),
        lag_records: one.lag(gateway),
        lag_seconds: one.late_s(),
        delivered,
        failures,
        failing: one.progress.failing.as_ref().map(|failing| FailingOut {
            since: Instant(failing.since_s.saturating_mul(1_000_000)),
            attempts: failing.attempts,
            next: Instant(failing.next_ms.saturating_mul(1_000)),
            detail: failing.detail.clone(),
        }),
        trouble: (!trouble.is_empty()).then_some(trouble),
    }
}

/// An answer with a secret in it.
fn secret<T: Serialize>(status: StatusCode, value: &T) -> Response {
    let mut response = json(status, value);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The cursor that `after` names, for a reader of these branches.
async fn begin(gateway: &Shared, branches: Option<&[u16]>, after: &str) -> Result<Cursor, Problem> {
    let all = || gateway.bank.seats().keys().copied().collect();
    let branches = branches.map_or_else(all, <[u16]>::to_vec);
    if after != "now" {
        let cursor = cursor(gateway, after)?;
        Reader::new(branches, Filter::default(), cursor.clone()).check(gateway).await?;
        return Ok(cursor);
    }
    let mut reader = Reader::new(branches, Filter::default(), Cursor::default());
    reader.skip_to_end(gateway).await?;
    Ok(reader.cursor)
}

/// Make a webhook
///
/// The secret is shown this once. Events are posted from now on, or from `after`. For operators.
#[utoipa::path(
    post, path = "/v1/webhooks", tag = "webhooks", request_body = WebhookIn,
    responses(
        (status = 201, description = "Made", body = WebhookDone),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn create(
    State(gateway): State<Shared>,
    caller: Caller,
    posted: Posted<WebhookIn>,
) -> Result<Response, Problem> {
    let webhooks = within(&gateway, &caller, true)?;
    let wish = posted.body;
    may_watch(&caller, wish.branches.as_deref())?;
    if wish.branches.as_ref().is_some_and(Vec::is_empty) || wish.types.len() > 64 {
        let field = if wish.types.len() > 64 { "types" } else { "branches" };
        return Err(refused(Refusal::Field(
            field,
            "an empty list of branches, or more than 64 types".to_owned(),
        )));
    }
    for branch in wish.branches.iter().flatten() {
        gateway.bank.seat(*branch)?;
    }
    let named: Vec<&str> = wish.types.iter().map(String::as_str).collect();
    let wish = Wish {
        cursor: begin(&gateway, wish.branches.as_deref(), wish.after.as_deref().unwrap_or("now")).await?,
        types: types(&named)?,
        url: wish.url,
        branches: wish.branches,
        by: caller.principal().to_string(),
    };
    let (made, text) = webhooks.create(&gateway, wish).await.map_err(refused)?;
    tracing::info!(by = caller.principal().as_str(), webhook = made.record.id, "webhook made");
    let done = WebhookDone { secret: text, webhook: shown(&gateway, &made) };
    let mut response = secret(StatusCode::CREATED, &done);
    if let Ok(location) = HeaderValue::from_str(&format!("/v1/webhooks/{}", done.webhook.id)) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// List webhooks
///
/// Without their secrets: where each goes, how far it is, and why it is not called if it is not. For operators and auditors.
#[utoipa::path(
    get, path = "/v1/webhooks", tag = "webhooks",
    responses(
        (status = 200, description = "All webhooks", body = WebhooksView),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn list(State(gateway): State<Shared>, caller: Caller) -> Result<Response, Problem> {
    let webhooks = within(&gateway, &caller, false)?;
    let all = webhooks.list();
    let seen = all.iter().filter(|one| may_watch(&caller, one.record.branches.as_deref()).is_ok());
    let webhooks = seen.map(|one| shown(&gateway, one)).collect();
    Ok(json(StatusCode::OK, &WebhooksView { webhooks }))
}

/// Show a webhook
#[utoipa::path(
    get, path = "/v1/webhooks/{id}", tag = "webhooks", params(("id" = String, Path, description = "Its id.")),
    responses(
        (status = 200, description = "The webhook", body = WebhookOut),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn show(
    State(gateway): State<Shared>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let (_, one) = own(&gateway, &caller, &id, false)?;
    Ok(json(StatusCode::OK, &shown(&gateway, &one)))
}

/// Delete a webhook
///
/// It is called no more, and its secret is forgotten. For operators.
#[utoipa::path(
    delete, path = "/v1/webhooks/{id}", tag = "webhooks", params(("id" = String, Path, description = "Its id.")),
    responses(
        (status = 200, description = "Deleted; as it was", body = WebhookOut),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn delete(
    State(gateway): State<Shared>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let (webhooks, _) = own(&gateway, &caller, &id, true)?;
    let gone = webhooks.delete(&id).await.map_err(refused)?;
    tracing::info!(by = caller.principal().as_str(), webhook = id, "webhook deleted");
    Ok(json(StatusCode::OK, &shown(&gateway, &gone)))
}

/// Enable a webhook
///
/// It goes on where it was; nothing that happened meanwhile is left out. One that is failing is tried at once. For operators.
#[utoipa::path(
    post, path = "/v1/webhooks/{id}/enable", tag = "webhooks", params(("id" = String, Path, description = "Its id.")),
    responses(
        (status = 200, description = "Enabled", body = WebhookOut),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn enable(
    State(gateway): State<Shared>,
    caller: Caller,
    Path(id): Path<String>,
    _: Maybe<super::Empty>,
) -> Result<Response, Problem> {
    let (webhooks, _) = own(&gateway, &caller, &id, true)?;
    let changed = webhooks.change(&gateway, &id, |record, progress| {
        record.disabled = None;
        progress.failing = None;
    });
    Ok(json(StatusCode::OK, &shown(&gateway, &changed.await.map_err(refused)?)))
}

/// Disable a webhook
///
/// It is not called until it is enabled again, and then with everything that happened meanwhile. For operators.
#[utoipa::path(
    post, path = "/v1/webhooks/{id}/disable", tag = "webhooks", params(("id" = String, Path, description = "Its id.")),
    responses(
        (status = 200, description = "Disabled", body = WebhookOut),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn disable(
    State(gateway): State<Shared>,
    caller: Caller,
    Path(id): Path<String>,
    _: Maybe<super::Empty>,
) -> Result<Response, Problem> {
    let (webhooks, _) = own(&gateway, &caller, &id, true)?;
    let detail = format!("by {}", caller.principal());
    let changed = webhooks.change(&gateway, &id, |record, _| {
        let at = text::time(text::now_us());
        record.disabled.get_or_insert(Disabled { reason: OPERATOR.to_owned(), detail, at });
    });
    Ok(json(StatusCode::OK, &shown(&gateway, &changed.await.map_err(refused)?)))
}

/// Give a webhook a new secret
///
/// The secret is shown this once. For a day messages are signed with the one before too. For operators.
#[utoipa::path(
    post, path = "/v1/webhooks/{id}/rotate", tag = "webhooks", params(("id" = String, Path, description = "Its id.")),
    responses(
        (status = 200, description = "The new secret", body = WebhookDone),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn rotate(
    State(gateway): State<Shared>,
    caller: Caller,
    Path(id): Path<String>,
    _: Maybe<super::Empty>,
) -> Result<Response, Problem> {
    let (webhooks, _) = own(&gateway, &caller, &id, true)?;
    let (changed, text) = webhooks.rotate(&gateway, &id).await.map_err(refused)?;
    tracing::info!(by = caller.principal().as_str(), webhook = id, "webhook secret rotated");
    Ok(secret(StatusCode::OK, &WebhookDone { secret: text, webhook: shown(&gateway, &changed) }))
}

/// Replay events to a webhook
///
/// It is called again with everything after a cursor, under the same ids. For operators.
#[utoipa::path(
    post, path = "/v1/webhooks/{id}/replay", tag = "webhooks", params(("id" = String, Path, description = "Its id.")),
    request_body = ReplayIn,
    responses(
        (status = 200, description = "It begins there", body = WebhookOut),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn replay(
    State(gateway): State<Shared>,
    caller: Caller,
    Path(id): Path<String>,
    posted: Posted<ReplayIn>,
) -> Result<Response, Problem> {
    let (webhooks, one) = own(&gateway, &caller, &id, true)?;
    let cursor = begin(&gateway, one.record.branches.as_deref(), &posted.body.after).await?;
    let changed = webhooks.change(&gateway, &id, |_, progress| {
        progress.cursor = cursor.to_string();
        progress.failing = None;
    });
    Ok(json(StatusCode::OK, &shown(&gateway, &changed.await.map_err(refused)?)))
}

/// Test a webhook
///
/// Posts one `skerry.webhook.test`, once, also if it is disabled, and tells what came of it. For operators.
#[utoipa::path(
    post, path = "/v1/webhooks/{id}/test", tag = "webhooks", params(("id" = String, Path, description = "Its id.")),
    responses(
        (status = 200, description = "What came of it", body = TestOut),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn test(
    State(gateway): State<Shared>,
    caller: Caller,
    Path(id): Path<String>,
    _: Maybe<super::Empty>,
) -> Result<Response, Problem> {
    let (webhooks, _) = own(&gateway, &caller, &id, true)?;
    let (delivered, detail, took) = webhooks.test(&id).await.map_err(refused)?;
    let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    Ok(json(StatusCode::OK, &TestOut { delivered, detail, took_ms }))
}
