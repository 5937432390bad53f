//! The calls, by what they are about. Each handler is described where it stands; what is routed is described.

pub mod accounts;
pub mod approvals;
pub mod archive;
pub mod audit;
pub mod branches;
pub mod buses;
pub mod channels;
pub mod customers;
pub mod deeds;
pub mod directory;
pub mod entries;
pub mod events;
pub mod imports;
pub mod initiations;
pub mod lookups;
pub mod machines;
mod packed;
pub mod payments;
pub mod payouts;
pub mod reports;
pub mod statements;
pub(crate) mod surroundings;
pub mod tokens;
pub mod transfers;
pub mod webhooks;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use skerry_book::Command;
use skerry_branch::api::{Answer, Body, Commanded, Read, Reply};
use skerry_money::{AccountNumber, Currency, CustomerNumber, Date};

use crate::auth::Caller;
use crate::bank::rejected;
use crate::catalogue;
use crate::detail::said;
use crate::extract::{IDEMPOTENCY_KEY, Key, REPLAYED};
use crate::gateway::Gateway;
use crate::problem::Problem;

/// A body without members.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Empty {}

/// A JSON answer.
pub(crate) fn json<T: Serialize>(status: StatusCode, value: &T) -> Response {
    let mut body = Vec::with_capacity(512);
    if let Err(error) = serde_json::to_writer(&mut body, value) {
        tracing::error!(%error, "an answer could not be written as JSON");
        return Problem::numbered(catalogue::INTERNAL).into_response();
    }
    let mut response = (status, body).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The same with the idempotency key it was done under, and whether that was earlier.
pub(crate) fn json_keyed<T: Serialize>(status: StatusCode, value: &T, key: &Key, repeated: bool) -> Response {
    keyed(json(status, value), key, repeated)
}

/// An answer with the idempotency key it was done under; a retry's says so, and created nothing.
pub(crate) fn keyed(mut response: Response, key: &Key, repeated: bool) -> Response {
    response.headers_mut().insert(IDEMPOTENCY_KEY, key.header());
    replayed(response, repeated)
}

/// Says of an answer whether it is a retry's: nothing was created this time.
pub(crate) fn replayed(mut response: Response, repeated: bool) -> Response {
    if repeated {
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
        if response.status() == StatusCode::CREATED {
            *response.status_mut() = StatusCode::OK;
        }
    }
    response
}

/// The same with a `Location`.
pub(crate) fn created<T: Serialize>(status: StatusCode, value: &T, location: &str) -> Response {
    let mut response = json(status, value);
    if let Ok(location) = HeaderValue::from_str(location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// An account number in a path.
pub(crate) fn account_number(text: &str) -> Result<AccountNumber, Problem> {
    AccountNumber::parse(text).map_err(|error| {
        Problem::numbered(catalogue::INVALID_FIELD)
            .field("number")
            .detail(said!("not an account number: {error}", "不是账号：{error}"))
    })
}

/// A customer number in a path.
pub(crate) fn customer_number(text: &str) -> Result<CustomerNumber, Problem> {
    CustomerNumber::parse(text).map_err(|error| {
        Problem::numbered(catalogue::INVALID_FIELD)
            .field("id")
            .detail(said!("not a customer number: {error}", "不是客户号：{error}"))
    })
}

/// The customer's serial as the book counts.
pub(crate) fn serial(number: CustomerNumber) -> Result<u32, Problem> {
    u32::try_from(number.serial()).map_err(|_| Problem::numbered(3020).field("id"))
}

/// Sends a command to a branch and waits for its word.
pub(crate) async fn command(
    gateway: &Gateway,
    caller: &Caller,
    branch: u16,
    digest: [u8; 16],
    key: Option<&Key>,
    command: Command,
) -> Result<Commanded, Problem> {
    command_in(gateway, caller, (branch, None), digest, key, command).await
}

/// The same about an account of this currency, in which a refusal gives its figures.
pub(crate) async fn command_in(
    gateway: &Gateway,
    caller: &Caller,
    (branch, currency): (u16, Option<Currency>),
    digest: [u8; 16],
    key: Option<&Key>,
    command: Command,
) -> Result<Commanded, Problem> {
    caller.may_in(branch)?;
    let body = Body::Command { command: Box::new(command), key: key.map(Key::boxed) };
    match gateway.bank.ask(branch, caller, digest, body).await? {
        Reply::Command(Ok(commanded)) => Ok(commanded),
        Reply::Command(Err(rejection)) => Err(rejected(rejection, currency, digest)),
        _ => Err(Problem::numbered(catalogue::INTERNAL)),
    }
}

/// The open business day of a branch.
pub(crate) async fn open_day(gateway: &Gateway, branch: u16) -> Result<Date, Problem> {
    let seat = gateway.bank.seat(branch)?;
    let health = seat.health();
    if health.is_open() {
        return Ok(health.business_date);
    }
    // One that moves says it where it arrives; one that is sick says why.
    match gateway.bank.survey(branch, Read::Status).await? {
        Some(Answer::Status(status)) => status.day.ok_or_else(|| crate::bank::unavailable(&*seat)),
        _ => Err(Problem::numbered(catalogue::INTERNAL)),
    }
}

/// A limit of a page: 1 to `most`, `usual` if left out.
pub(crate) fn page_limit(asked: Option<usize>, usual: usize, most: usize) -> Result<usize, Problem> {
    match asked {
        None => Ok(usual),
        Some(limit) if (1..=most).contains(&limit) => Ok(limit),
        Some(_) => Err(Problem::numbered(catalogue::INVALID_QUERY)
            .field("limit")
            .detail(said!("1 to {most}", "1 至 {most}"))),
    }
}
