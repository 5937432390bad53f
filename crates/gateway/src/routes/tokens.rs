//! Tokens: made, listed and taken back by operators.

use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::json;
use crate::auth::{Caller, Operation};
use crate::catalogue;
use crate::detail::{Detail, said};
use crate::extract::Posted;
use crate::gateway::Shared;
use crate::problem::Problem;
use crate::text;
use crate::tokens::{NewToken, TokenError, TokenRecord};
use crate::wire::reports::{TokenDone, TokenIn, TokensView};

pub(crate) fn router() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(revoke))
}

fn refused(error: TokenError) -> Problem {
    match error {
        TokenError::Field { field, reason } => {
            Problem::numbered(catalogue::TOKEN_INVALID).field(field).detail(reason.to_owned())
        }
        TokenError::Unknown(id) => Problem::numbered(catalogue::NOT_FOUND)
            .field("id")
            .detail(said!("there is no token {id}", "没有令牌 {id}")),
        error => {
            tracing::error!(%error, "the token file failed");
            Problem::numbered(catalogue::INTERNAL)
        }
    }
}

fn may_control(caller: &Caller) -> Result<(), Problem> {
    caller.may(Operation::TokensControl)?;
    caller.may_beyond_one_customer()
}

/// A token that could never be used is a mistake of whoever asks for it.
fn check(gateway: &Shared, wish: &TokenIn) -> Result<(), Problem> {
    let wrong = |field: &'static str, detail: Detail| {
        Err(Problem::numbered(catalogue::TOKEN_INVALID).field(field).detail(detail))
    };
    if wish.lifetime_seconds == Some(0) {
        return wrong("lifetime_seconds", said!("at least one second", "至少一秒"));
    }
    let seats = gateway.bank.seats();
    match &wish.branches {
        Some(branches) if branches.is_empty() => wrong("branches", said!("none is named", "未指明任何分行")),
        Some(branches) => match branches.iter().find(|branch| !seats.contains_key(branch)) {
            Some(unknown) => {
                wrong("branches", said!("this bank has no branch {unknown}", "本行没有分行 {unknown}"))
            }
            None => Ok(()),
        },
        None => Ok(()),
    }
}

/// Make a token
///
/// The token is shown this once; only its hash is kept. A maker whose own token is narrowed cannot make a wider one. For
/// operators.
#[utoipa::path(
    post, path = "/v1/tokens", tag = "tokens", request_body = TokenIn,
    responses(
        (status = 201, description = "Made", body = TokenDone),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn create(
    State(gateway): State<Shared>,
    caller: Caller,
    posted: Posted<TokenIn>,
) -> Result<Response, Problem> {
    may_control(&caller)?;
    let wish = posted.body;
    caller.may_grant(wish.branches.as_deref(), wish.operations.as_deref())?;
    check(&gateway, &wish)?;
    let new = NewToken {
        principal: wish.principal,
        role: wish.role,
        branches: wish.branches,
        customer: wish.customer,
        operations: wish.operations,
        certificate: wish.certificate,
        lifetime_s: wish.lifetime_seconds,
        made_by: Some(caller.principal().as_str().to_owned()),
    };
    let made =
        blocking(&gateway, move |gateway| gateway.tokens.create(&new, text::now_us() / 1_000_000)).await?;
    let (token, record) = made;
    tracing::info!(by = caller.principal().as_str(), token = record.id, role = record.role, "token made");
    let mut response = json(StatusCode::CREATED, &TokenDone::of(token, record));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

async fn blocking<T: Send + 'static>(
    gateway: &Shared,
    work: impl FnOnce(&Shared) -> Result<T, TokenError> + Send + 'static,
) -> Result<T, Problem> {
    let gateway = Shared::clone(gateway);
    match tokio::task::spawn_blocking(move || work(&gateway)).await {
        Ok(result) => result.map_err(refused),
        Err(_) => Err(Problem::numbered(catalogue::INTERNAL)),
    }
}

/// List tokens
///
/// Without their secrets. For operators.
#[utoipa::path(
    get, path = "/v1/tokens", tag = "tokens",
    responses(
        (status = 200, description = "All tokens", body = TokensView),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn list(State(gateway): State<Shared>, caller: Caller) -> Result<Response, Problem> {
    may_control(&caller)?;
    Ok(json(StatusCode::OK, &TokensView { tokens: gateway.tokens.list() }))
}

/// Take a token back
///
/// At once and for ever. For operators.
#[utoipa::path(
    delete, path = "/v1/tokens/{id}", tag = "tokens",
    params(("id" = String, Path, description = "The token's public half.")),
    responses(
        (status = 200, description = "Taken back", body = TokenRecord),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn revoke(
    State(gateway): State<Shared>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    may_control(&caller)?;
    let by = caller.principal();
    let revoking =
        move |gateway: &Shared| gateway.tokens.revoke(&id, Some(by.as_str()), text::now_us() / 1_000_000);
    let record = blocking(&gateway, revoking).await?;
    tracing::info!(by = caller.principal().as_str(), token = record.id, "token revoked");
    Ok(json(StatusCode::OK, &record))
}
