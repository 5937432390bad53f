//! Statement lines and balances over time: queries over history, beside the branch's writer.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use skerry_book::Purpose;
use skerry_branch::history::{
    AsOf, Cursor, Day as MovedDay, DayBy, Entry as Found, Kinds, Order, Page, Query, Range,
    Side as FoundSide, Totals,
};
use skerry_ledger::{AccountRef, TransferId};
use skerry_money::{Amount, Currency, Date};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{json, page_limit};
use crate::auth::{Caller, Operation};
use crate::catalogue;
use crate::detail::{Detail, said};
use crate::extract::Parameters;
use crate::gateway::{Gateway, Shared};
use crate::notes::{self, Texts};
use crate::problem::Problem;
use crate::wire::accounts::{BalanceView, DayBalance, DaysView, EntriesPage, Entry};
use crate::wire::scalars::{AccountText, CurrencyText, Day, Id, Instant, Money};
use crate::wire::transfers::{Side, TransfersPage};
use skerry_node::seat::{Seat, Trouble};

pub(crate) fn router() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(entries))
        .routes(routes!(balance))
        .routes(routes!(days))
        .routes(routes!(search))
}

/// Days in one answer.
const DAYS_MAX: usize = 1_000;

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct EntriesQuery {
    /// Booked at or after.
    from: Option<Instant>,
    /// Booked at or before.
    to: Option<Instant>,
    /// Business date from.
    business_from: Option<Day>,
    /// Business date to.
    business_to: Option<Day>,
    /// Value date from.
    value_from: Option<Day>,
    /// Value date to.
    value_to: Option<Day>,
    /// The client's classification.
    code: Option<u16>,
    /// The client's text, whole.
    reference: Option<String>,
    /// The smallest amount, a decimal in the account's currency.
    min: Option<String>,
    /// The largest amount, likewise.
    max: Option<String>,
    /// The account's currency: needed for general-ledger heads.
    currency: Option<CurrencyText>,
    /// `debit` or `credit`.
    side: Option<Side>,
    /// `posted` (default: what moved a balance), `holds`, or `all`.
    kind: Option<String>,
    /// `desc` (default: newest first) or `asc`.
    order: Option<String>,
    /// At most so many, 1 to 1000; 100 if left out.
    limit: Option<usize>,
    /// `next` or `previous` of another page.
    cursor: Option<String>,
}

/// Read a statement
///
/// Lines with running balances. Filters hold together; `order` turns the direction and `cursor` goes on.
#[utoipa::path(
    get, path = "/v1/accounts/{number}/entries", tag = "accounts",
    params(("number" = String, Path, description = "The account."), EntriesQuery),
    responses(
        (status = 200, description = "A page", body = EntriesPage),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn entries(
    State(gateway): State<Shared>,
    caller: Caller,
    Path(number): Path<String>,
    Parameters(asked): Parameters<EntriesQuery>,
) -> Result<Response, Problem> {
    caller.may(Operation::AccountsRead)?;
    let currency = asked.currency.map(|currency| currency.0);
    let account = super::accounts::reference(&number, currency)?;
    // Nothing found may mean no such account, or another customer's: beside the writer nobody else checks.
    let own = super::accounts::look_fixed(&gateway, &caller, account).await?.currency;
    if currency.is_some_and(|currency| currency != own) {
        return Err(Problem::numbered(catalogue::INVALID_QUERY)
            .field("currency")
            .detail(super::accounts::is_in(own)));
    }
    let query = query(&gateway, &asked, Some((account, own)))?;
    let (page, texts) = page(&gateway, &caller, account.branch(), query).await?;
    Ok(json(StatusCode::OK, &page_view(&page, &texts, account)))
}

/// A page and the texts of its transfers, as the caller may read them.
async fn page(
    gateway: &Shared,
    caller: &Caller,
    branch: u16,
    query: Query,
) -> Result<(Page, Vec<Texts>), Problem> {
    let may_read = caller.may_read_personal_data();
    let read = move |seat: &dyn Seat| {
        let page = seat.page(&query)?;
        let texts =
            page.entries.iter().map(|entry| notes::texts(seat, entry.position, entry.moved.flags, may_read));
        let texts = texts.collect::<Result<Vec<_>, _>>()?;
        Ok((page, texts))
    };
    gateway.bank.query(branch, read).await
}

fn query(
    gateway: &Gateway,
    asked: &EntriesQuery,
    account: Option<(AccountRef, Currency)>,
) -> Result<Query, Problem> {
    let wrong = |field: &'static str, detail: Detail| {
        Problem::numbered(catalogue::INVALID_QUERY).field(field).detail(detail)
    };
    let kinds = match asked.kind.as_deref() {
        None | Some("posted") => Kinds::Posted,
        Some("holds") => Kinds::Holds,
        Some("all") => Kinds::All,
        Some(_) => return Err(wrong("kind", said!("posted, holds or all", "posted、holds 或 all"))),
    };
    let order = match asked.order.as_deref() {
        None | Some("desc") => Order::NewestFirst,
        Some("asc") => Order::OldestFirst,
        Some(_) => return Err(wrong("order", said!("asc or desc", "asc 或 desc"))),
    };
    let currency = account.map(|(_, currency)| currency);
    let bound = |text: &Option<String>, field: &'static str| match (text, currency) {
        (None, _) => Ok(None),
        (Some(_), None) => {
            Err(wrong("currency", said!("min and max need a currency", "min 和 max 须指明币种")))
        }
        (Some(text), Some(currency)) => match Amount::parse(text, currency) {
            Ok(amount) => Ok(Some(amount.minor())),
            Err(_) => Err(wrong(field, said!("a decimal such as 12.34", "小数，例如 12.34"))),
        },
    };
    let cursor = match asked.cursor.as_deref().map(str::parse::<Cursor>) {
        None => None,
        Some(Ok(cursor)) => Some(cursor),
        Some(Err(error)) => {
            return Err(Problem::numbered(catalogue::CURSOR_INVALID)
                .field("cursor")
                .detail(error.to_string()));
        }
    };
    Ok(Query {
        account: account.map(|(account, _)| account),
        side: asked.side.map(|side| match side {
            Side::Debit => FoundSide::Debit,
            Side::Credit => FoundSide::Credit,
        }),
        kinds,
        code: asked.code,
        reference: asked.reference.as_deref().map(|text| reference_key(gateway, text)),
        amount: Range { from: bound(&asked.min, "min")?, to: bound(&asked.max, "max")? },
        time_us: Range { from: asked.from.map(|time| time.0), to: asked.to.map(|time| time.0) },
        business_date: Range {
            from: asked.business_from.map(|day| day.0),
            to: asked.business_to.map(|day| day.0),
        },
        value_date: Range { from: asked.value_from.map(|day| day.0), to: asked.value_to.map(|day| day.0) },
        order,
        limit: page_limit(asked.limit, 100, Query::LIMIT_MAX)?,
        cursor,
        at_least: 0,
    })
}

/// A reference as records carry it: its bytes, or the book's keyed hash of a longer one.
fn reference_key(gateway: &Gateway, text: &str) -> [u8; 16] {
    let mut key = [0; 16];
    match key.get_mut(..text.len()) {
        Some(room) => room.copy_from_slice(text.as_bytes()),
        None => {
            key = gateway.secrets.seed.wide(Purpose::Reference, text.as_bytes()).to_le_bytes();
            key[0] = 0xff;
        }
    }
    key
}

/// What resolved, returned or reversed a transfer.
fn end(seat: &dyn Seat, id: TransferId) -> Result<Option<Found>, Trouble> {
    match id {
        TransferId::NONE => Ok(None),
        id => Ok(seat.transfer(id)?.and_then(|found| found.resolved_by)),
    }
}

fn page_view(page: &Page, texts: &[Texts], account: AccountRef) -> EntriesPage {
    let entries = page.entries.iter().zip(texts);
    EntriesPage {
        entries: entries.map(|(entry, texts)| entry_view(entry, texts, account)).collect(),
        next: page.next.map(|cursor| cursor.to_string()),
        previous: page.previous.map(|cursor| cursor.to_string()),
        as_of: page.as_of,
    }
}

fn entry_view(entry: &Found, texts: &Texts, account: AccountRef) -> Entry {
    let moved = &entry.moved;
    let other = if account == moved.credit { moved.debit } else { moved.credit };
    Entry {
        id: Id(moved.id.0),
        side: entry.side.map(|side| match side {
            FoundSide::Debit => Side::Debit,
            FoundSide::Credit => Side::Credit,
        }),
        amount: Money::minor(i128::from(moved.amount), moved.currency),
        balance: entry.totals.map(|totals| Money::minor(totals.balance(), moved.currency)),
        status: super::transfers::status(moved.kind),
        counterparty: AccountText(other),
        code: moved.code,
        reference: texts.reference.clone().or_else(|| super::lookups::reference(moved)),
        note: texts.note(),
        note_status: texts.note_status(),
        related: (moved.related != TransferId::NONE).then_some(Id(moved.related.0)),
        booked_at: Instant(moved.time_us),
        business_date: Day(moved.business_date),
        value_date: Day(moved.value_date),
        imported_at: (moved.imported_us != 0).then_some(Instant(moved.imported_us)),
        position: entry.position,
    }
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct BalanceQuery {
    /// Count what was booked up to the end of this business date.
    booked: Option<Day>,
    /// Count what has this value date or an earlier one.
    value: Option<Day>,
    /// For general-ledger heads.
    currency: Option<CurrencyText>,
}

/// Read a balance as of a date
///
/// As booked, as of value, or both together.
#[utoipa::path(
    get, path = "/v1/accounts/{number}/balance", tag = "accounts",
    params(("number" = String, Path, description = "The account."), BalanceQuery),
    responses(
        (status = 200, description = "The balance", body = BalanceView),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn balance(
    State(gateway): State<Shared>,
    caller: Caller,
    Path(number): Path<String>,
    Parameters(asked): Parameters<BalanceQuery>,
) -> Result<Response, Problem> {
    let (account, currency) = known(&gateway, &caller, &number, asked.currency).await?;
    let as_of =
        AsOf { business_date: asked.booked.map(|day| day.0), value_date: asked.value.map(|day| day.0) };
    let totals = gateway.bank.query(account.branch(), move |seat| seat.totals(account, as_of)).await?;
    let (debits, credits) = sides(&totals, currency);
    let view = BalanceView {
        number: AccountText(account),
        booked: asked.booked,
        value: asked.value,
        balance: Money::minor(totals.balance(), currency),
        debits,
        credits,
    };
    Ok(json(StatusCode::OK, &view))
}

/// The account of a path and its currency.
async fn known(
    gateway: &Gateway,
    caller: &Caller,
    number: &str,
    currency: Option<CurrencyText>,
) -> Result<(AccountRef, Currency), Problem> {
    caller.may(Operation::AccountsRead)?;
    let account = super::accounts::reference(number, currency.map(|currency| currency.0))?;
    let fixed = super::accounts::look_fixed(gateway, caller, account).await?;
    Ok((account, fixed.currency))
}

fn sides(totals: &Totals, currency: Currency) -> (Money, Money) {
    let money = |total: u128| Money::minor(i128::try_from(total).unwrap_or(i128::MAX), currency);
    (money(totals.debits), money(totals.credits))
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct DaysQuery {
    /// The first day.
    from: Option<Day>,
    /// The last day.
    to: Option<Day>,
    /// `booked` (default) or `value`.
    by: Option<String>,
    /// For general-ledger heads.
    currency: Option<CurrencyText>,
}

/// Read closing balances by day
///
/// Days on which the account moved, oldest first, at most 1,000.
#[utoipa::path(
    get, path = "/v1/accounts/{number}/balances", tag = "accounts",
    params(("number" = String, Path, description = "The account."), DaysQuery),
    responses(
        (status = 200, description = "The days", body = DaysView),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn days(
    State(gateway): State<Shared>,
    caller: Caller,
    Path(number): Path<String>,
    Parameters(asked): Parameters<DaysQuery>,
) -> Result<Response, Problem> {
    let by = day_by(asked.by.as_deref())?;
    let (account, currency) = known(&gateway, &caller, &number, asked.currency).await?;
    let from = asked.from.map_or(Date(i32::MIN), |day| day.0);
    let to = asked.to.map_or(Date(i32::MAX), |day| day.0);
    let found = gateway.bank.query(account.branch(), move |seat| seat.days(account, by, from, to)).await?;
    let next = found.get(DAYS_MAX).map(|day| Day(day.date));
    let line = |day: &MovedDay| {
        let (debits, credits) = sides(&day.moved, currency);
        DayBalance {
            date: Day(day.date),
            debits,
            credits,
            closing: Money::minor(day.closing.balance(), currency),
        }
    };
    let days = found.iter().take(DAYS_MAX).map(line).collect();
    Ok(json(StatusCode::OK, &DaysView { number: AccountText(account), days, next }))
}

fn day_by(text: Option<&str>) -> Result<DayBy, Problem> {
    match text {
        None | Some("booked") => Ok(DayBy::Business),
        Some("value") => Ok(DayBy::Value),
        Some(_) => Err(Problem::numbered(catalogue::INVALID_QUERY)
            .field("by")
            .detail(said!("booked or value", "booked 或 value"))),
    }
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct SearchQuery {
    /// The branch to search.
    branch: u16,
    /// The client's text, whole.
    reference: Option<String>,
    /// The client's classification.
    code: Option<u16>,
    /// Booked at or after.
    from: Option<Instant>,
    /// Booked at or before.
    to: Option<Instant>,
    /// Business date from.
    business_from: Option<Day>,
    /// Business date to.
    business_to: Option<Day>,
    /// Value date from.
    value_from: Option<Day>,
    /// Value date to.
    value_to: Option<Day>,
    /// `desc` (default: newest first) or `asc`.
    order: Option<String>,
    /// At most so many, 1 to 1000; 100 if left out.
    limit: Option<usize>,
    /// `next` or `previous` of another page.
    cursor: Option<String>,
}

/// Search transfers by reference or code
///
/// Across the accounts of a branch. For operators and auditors.
#[utoipa::path(
    get, path = "/v1/transfers", tag = "transfers", params(SearchQuery),
    responses(
        (status = 200, description = "A page", body = TransfersPage),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn search(
    State(gateway): State<Shared>,
    caller: Caller,
    Parameters(asked): Parameters<SearchQuery>,
) -> Result<Response, Problem> {
    caller.may(Operation::ReportsRead)?;
    caller.may_in(asked.branch)?;
    caller.may_beyond_one_customer()?;
    if asked.reference.is_none() && asked.code.is_none() {
        return Err(Problem::numbered(catalogue::INVALID_QUERY)
            .field("reference")
            .detail(said!("say reference or code", "须给出 reference 或 code")));
    }
    let filters = EntriesQuery {
        reference: asked.reference,
        code: asked.code,
        from: asked.from,
        to: asked.to,
        business_from: asked.business_from,
        business_to: asked.business_to,
        value_from: asked.value_from,
        value_to: asked.value_to,
        order: asked.order,
        limit: asked.limit,
        cursor: asked.cursor,
        kind: Some("all".to_owned()),
        ..EntriesQuery::default()
    };
    let query = query(&gateway, &filters, None)?;
    let (page, texts) = page(&gateway, &caller, asked.branch, query).await?;
    let ids: Vec<TransferId> = page.entries.iter().map(|entry| entry.moved.id).collect();
    let ends =
        gateway.bank.query(asked.branch, move |seat| ids.into_iter().map(|id| end(seat, id)).collect());
    let ends: Vec<Option<Found>> = ends.await?;
    let found = page.entries.iter().zip(&ends).zip(&texts);
    let view = TransfersPage {
        transfers: found
            .map(|((entry, end), texts)| super::lookups::view(asked.branch, entry, end.as_ref(), texts))
            .collect(),
        next: page.next.map(|cursor| cursor.to_string()),
        previous: page.previous.map(|cursor| cursor.to_string()),
        as_of: page.as_of,
    };
    Ok(json(StatusCode::OK, &view))
}
