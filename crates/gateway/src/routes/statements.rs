//! Statements as ISO 20022: what was booked on an account on some business days, a page at a time.

use axum::extract::{Path, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use skerry_branch::history::{AsOf, Cursor, Entry, Order, Query, Range, Side};
use skerry_ledger::{AccountRef, Flags};
use skerry_money::Date;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::page_limit;
use crate::auth::{Caller, Operation};
use crate::catalogue;
use crate::detail::{Detail, said};
use crate::extract::Parameters;
use crate::gateway::Shared;
use crate::iso20022::statement::{Line, Statement};
use crate::iso20022::{MEDIA_TYPE, message};
use crate::notes;
use crate::problem::Problem;
use crate::text;
use crate::wire::scalars::{AccountText, CurrencyText, Day};
use skerry_node::seat::{Seat, Trouble};

pub(crate) fn router() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(statement))
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct StatementQuery {
    /// `camt.053` (default: closed days only, to which nothing is added any more) or `camt.052` (the open day too).
    message: Option<String>,
    /// The first business date; the last one if left out.
    from: Option<Day>,
    /// The last business date; the latest that the message allows if left out.
    to: Option<Day>,
    /// For general-ledger heads.
    currency: Option<CurrencyText>,
    /// Entries on a page, 1 to 1000; 1000 if left out.
    limit: Option<usize>,
    /// From the `Link` header of the page before.
    cursor: Option<String>,
}

/// Read a statement as ISO 20022
///
/// `camt.053.001.08` with opening and closing balance; or `camt.052.001.08`, in which the open business day is included and
/// balances are interim. A `Link` header with `rel="next"` leads to the next page.
#[utoipa::path(
    get, path = "/v1/accounts/{number}/statement", tag = "accounts",
    params(("number" = String, Path, description = "The account."), StatementQuery),
    responses(
        (status = 200, description = "A page of the statement", body = String, content_type = "application/xml"),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn statement(
    State(gateway): State<Shared>,
    caller: Caller,
    Path(number): Path<String>,
    Parameters(asked): Parameters<StatementQuery>,
) -> Result<Response, Problem> {
    caller.may(Operation::AccountsRead)?;
    let account = super::accounts::reference(&number, asked.currency.map(|currency| currency.0))?;
    let currency = super::accounts::look_fixed(&gateway, &caller, account).await?.currency;
    let open = super::open_day(&gateway, account.branch()).await?;
    let wanted = Wanted::of(&asked, open)?;
    let may_read = caller.may_read_personal_data();
    let (found, next) = {
        let wanted = wanted.clone();
        gateway.bank.query(account.branch(), move |seat| read(seat, account, &wanted, may_read)).await?
    };
    let link = next.map(|cursor| link(&number, &asked, &wanted, cursor));
    let page = Statement {
        account: AccountText(account).to_string(),
        currency,
        from: wanted.from,
        to: wanted.to,
        closed: wanted.to < open,
        page: wanted.page,
        is_last: link.is_none(),
        opening: found.opening,
        closing: found.closing,
        lines: found.lines,
        created_us: text::now_us(),
    };
    let mut response = xml(page.write());
    if let Some(link) = link.and_then(|link| HeaderValue::from_str(&link).ok()) {
        response.headers_mut().insert(header::LINK, link);
    }
    Ok(response)
}

/// An answer in XML.
pub(super) fn xml(text: String) -> Response {
    let mut response = text.into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    response
}

/// What is asked for, checked.
#[derive(Debug, Clone)]
struct Wanted {
    from: Date,
    to: Date,
    limit: usize,
    page: u32,
    cursor: Option<Cursor>,
}

impl Wanted {
    fn of(asked: &StatementQuery, open: Date) -> Result<Self, Problem> {
        let wrong = |field: &'static str, detail: Detail| {
            Problem::numbered(catalogue::INVALID_QUERY).field(field).detail(detail)
        };
        let closed_only = match asked.message.as_deref() {
            None | Some("camt.053" | message::STATEMENT) => true,
            Some("camt.052" | message::REPORT) => false,
            Some(_) => return Err(wrong("message", said!("camt.053 or camt.052", "camt.053 或 camt.052"))),
        };
        let latest = if closed_only { Date(open.0.saturating_sub(1)) } else { open };
        let to = asked.to.map_or(latest, |day| day.0);
        let from = asked.from.map_or(to, |day| day.0);
        if to > latest {
            let detail = match closed_only {
                true => said!(
                    "{open} is still open: camt.053 tells closed days, up to {latest}; camt.052 tells the open one",
                    "{open} 尚未日终：camt.053 仅含已日终的日期，至 {latest} 为止；camt.052 含当日"
                ),
                false => said!("the open business day is {open}", "当前营业日为 {open}"),
            };
            return Err(wrong("to", detail).figures(to.to_string(), latest.to_string()));
        }
        if from > to {
            return Err(wrong("from", said!("{from} is after {to}", "{from} 晚于 {to}")));
        }
        let (page, cursor) = match asked.cursor.as_deref() {
            None => (1, None),
            Some(text) => {
                cursor(text).ok_or_else(|| Problem::numbered(catalogue::CURSOR_INVALID).field("cursor"))?
            }
        };
        let limit = page_limit(asked.limit, Query::LIMIT_MAX, Query::LIMIT_MAX)?;
        Ok(Self { from, to, limit, page, cursor })
    }
}

/// The page's number, a point, and where history goes on.
fn cursor(text: &str) -> Option<(u32, Option<Cursor>)> {
    let (page, cursor) = text.split_once('.')?;
    let page = page.parse().ok().filter(|page| (2..=u32::MAX).contains(page))?;
    Some((page, Some(cursor.parse().ok()?)))
}

fn link(number: &str, asked: &StatementQuery, wanted: &Wanted, cursor: Cursor) -> String {
    let message = asked.message.as_deref().unwrap_or("camt.053");
    let currency = asked.currency.map(|currency| format!("&currency={currency}")).unwrap_or_default();
    let Wanted { from, to, limit, page, .. } = wanted;
    let page = page.saturating_add(1);
    format!(
        "</v1/accounts/{number}/statement?message={message}&from={from}&to={to}{currency}&limit={limit}&cursor={page}.{cursor}>; rel=\"next\""
    )
}

/// Lines of a page, and the balances around them.
struct Found {
    lines: Vec<Line>,
    opening: i128,
    closing: i128,
}

/// Reads on until the page is full: history answers short pages when much lies between.
fn read(
    seat: &dyn Seat,
    account: AccountRef,
    wanted: &Wanted,
    may_read: bool,
) -> Result<(Found, Option<Cursor>), Trouble> {
    let mut query = Query {
        account: Some(account),
        business_date: Range { from: Some(wanted.from), to: Some(wanted.to) },
        order: Order::OldestFirst,
        cursor: wanted.cursor,
        ..Query::default()
    };
    let mut entries: Vec<Entry> = Vec::new();
    let next = loop {
        query.limit = wanted.limit - entries.len();
        let page = seat.page(&query)?;
        entries.extend(page.entries);
        match page.next {
            Some(cursor) if entries.len() < wanted.limit => query.cursor = Some(cursor),
            next => break next,
        }
    };
    let (opening, closing) = match (entries.first(), entries.last()) {
        (Some(first), Some(last)) => (before(first), after(last)),
        _ => {
            let day = Date(wanted.from.0.saturating_sub(1));
            let day = if wanted.page == 1 { day } else { wanted.to };
            let balance =
                seat.totals(account, AsOf { business_date: Some(day), value_date: None })?.balance();
            (balance, balance)
        }
    };
    let lines = entries.iter().map(|entry| line(seat, account, entry, may_read)).collect::<Result<_, _>>()?;
    Ok((Found { lines, opening, closing }, next))
}

fn after(entry: &Entry) -> i128 {
    entry.totals.map_or(0, |totals| totals.balance())
}

fn before(entry: &Entry) -> i128 {
    let amount = i128::from(entry.moved.amount);
    let credited = if entry.side == Some(Side::Credit) { amount } else { amount.saturating_neg() };
    after(entry).saturating_sub(credited)
}

fn line(seat: &dyn Seat, account: AccountRef, entry: &Entry, may_read: bool) -> Result<Line, Trouble> {
    let moved = &entry.moved;
    let texts = notes::texts(seat, entry.position, moved.flags, may_read)?;
    let other = if account == moved.credit { moved.debit } else { moved.credit };
    Ok(Line {
        position: entry.position,
        id: moved.id.0,
        is_credit: entry.side == Some(Side::Credit),
        amount: moved.amount,
        is_reversal: moved.flags.has(Flags::REVERSAL),
        booked: moved.business_date,
        booked_us: moved.time_us,
        value: moved.value_date,
        code: moved.code,
        counterparty: AccountText(other).to_string(),
        reference: texts.reference.clone().or_else(|| super::lookups::reference(moved)),
        note: texts.note().flatten(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_a_page_and_a_place() {
        assert!(
            cursor("1.x").is_none()
                && cursor("2").is_none()
                && cursor("2.").is_none()
                && cursor("").is_none()
        );
    }

    #[test]
    fn closed_days_and_the_open_one_are_told_by_different_messages() {
        let open = Date::parse("2026-03-31").unwrap();
        let ask = |message: Option<&str>, to: Option<&str>| {
            let asked = StatementQuery {
                message: message.map(str::to_owned),
                from: None,
                to: to.map(|day| Day(Date::parse(day).unwrap())),
                currency: None,
                limit: None,
                cursor: None,
            };
            Wanted::of(&asked, open)
                .map(|wanted| (wanted.from.to_string(), wanted.to.to_string()))
                .map_err(|problem| problem.field_name().to_owned())
        };
        let day = |text: &str| Ok((text.to_owned(), text.to_owned()));
        assert_eq!(ask(None, None), day("2026-03-30"));
        assert_eq!(ask(Some("camt.052"), None), day("2026-03-31"));
        assert_eq!(ask(None, Some("2026-03-31")), Err("to".to_owned()));
        assert_eq!(ask(Some("camt.052"), Some("2026-04-01")), Err("to".to_owned()));
        assert_eq!(ask(Some("mt940"), None), Err("message".to_owned()));
    }
}
