//! Accounts: opening, looking, limits, freezing, closing.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use skerry_book::command::{ChangeLimits, Freeze, OpenAccount, Unfreeze};
use skerry_book::{Chart, Command, Done as BookDone};
use skerry_branch::api::{AccountView as BookAccount, Answer, Read};
use skerry_ledger::{Account, AccountKind, AccountRef, Sides, UNLIMITED};
use skerry_money::{AccountNumber, Balance, Currency, CustomerNumber};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{
    account_number, command, command_in, created, customer_number, json, json_keyed, keyed, page_limit,
    serial,
};
use crate::auth::{Caller, Operation};
use crate::catalogue;
use crate::detail::{Detail, said};
use crate::extract::{Maybe, Parameters, Posted};
use crate::gateway::{Gateway, Shared};
use crate::known::Fixed;
use crate::problem::Problem;
use crate::wire::accounts::{
    AccountIn, AccountView, AccountsPage, Balances, FreezeIn, Frozen, LimitsIn, LimitsView, SidesIn,
    UnfreezeIn,
};
use crate::wire::scalars::{AccountText, CurrencyText, Customer, Day, Money, Party, SignedMoneyIn};

pub(crate) fn router() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(open))
        .routes(routes!(list))
        .routes(routes!(get))
        .routes(routes!(limits))
        .routes(routes!(freeze))
        .routes(routes!(unfreeze))
        .routes(routes!(close))
        .routes(routes!(reopen))
}

/// Open an account
#[utoipa::path(
    post, path = "/v1/customers/{id}/accounts", tag = "accounts", request_body = AccountIn,
    params(("id" = String, Path, description = "The customer."), ("Idempotency-Key" = Option<String>, Header)),
    responses(
        (status = 201, description = "Opened", body = AccountView),
        (status = 200, description = "Opened before: the answer to a retry", body = AccountView),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn open(
    State(gateway): State<Shared>,
    caller: Caller,
    Path(id): Path<String>,
    posted: Posted<AccountIn>,
) -> Result<Response, Problem> {
    caller.may(Operation::AccountsWrite)?;
    let customer = customer_number(&id)?;
    caller.may_for(customer)?;
    let wish = &posted.body;
    let currency = wish.currency.0;
    let floor = wish.floor.map_or(Ok(0), |money| minor(money, currency, "floor"))?;
    let daily_limit = wish.daily.map_or(Ok(UNLIMITED), |money| daily(money, currency))?;
    let chart = chart(&gateway, &caller, customer.branch()).await?;
    let product = product(&chart, &wish.product)?;
    let asked =
        OpenAccount { customer: serial(customer)?, product, currency, opened: None, floor, daily_limit };
    let key = posted.key_or_new();
    let commanded =
        command(&gateway, &caller, customer.branch(), posted.digest, Some(&key), Command::OpenAccount(asked))
            .await?;
    let BookDone::Account(reference) = commanded.done else {
        return Err(Problem::numbered(catalogue::INTERNAL));
    };
    let view = look_reference(&gateway, &caller, reference).await?;
    let location = format!("/v1/accounts/{}", view.number);
    Ok(keyed(created(StatusCode::CREATED, &view, &location), &key, commanded.repeated))
}

/// A product's number by its name.
pub(crate) fn product(chart: &Chart, name: &str) -> Result<u16, Problem> {
    chart.product_by_key(name).map(|product| product.number).ok_or_else(|| {
        let known: Vec<&str> = chart.products.iter().map(|product| product.key.as_str()).take(20).collect();
        let known = known.join(", ");
        Problem::numbered(3030)
            .field("product")
            .detail(said!("the products are {known}", "可选的产品有 {known}"))
    })
}

/// The chart of a branch.
pub(crate) async fn chart(gateway: &Gateway, caller: &Caller, branch: u16) -> Result<Box<Chart>, Problem> {
    match gateway.bank.look(branch, caller, Read::Chart).await? {
        Some(Answer::Chart(chart)) => Ok(chart),
        _ => Err(Problem::numbered(catalogue::INTERNAL)),
    }
}

/// What is wrong with another currency.
pub(crate) fn is_in(currency: Currency) -> Detail {
    let currency = currency.alpha();
    said!("the account is in {currency}", "账户币种为 {currency}")
}

/// A limit in the account's currency, in minor units.
pub(crate) fn minor(money: SignedMoneyIn, currency: Currency, field: &'static str) -> Result<i64, Problem> {
    let wrong = |detail: Detail| Problem::numbered(catalogue::INVALID_FIELD).field(field).detail(detail);
    if money.0.currency() != currency {
        return Err(wrong(is_in(currency)));
    }
    i64::try_from(money.0.minor()).map_err(|_| wrong(said!("too large", "过大")))
}

fn daily(money: SignedMoneyIn, currency: Currency) -> Result<u64, Problem> {
    u64::try_from(minor(money, currency, "daily")?).map_err(|_| {
        Problem::numbered(catalogue::INVALID_FIELD).field("daily").detail(said!("negative", "为负数"))
    })
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct PageQuery {
    /// At most so many, 1 to 200; 50 if left out.
    limit: Option<usize>,
    /// `next` of the page before.
    cursor: Option<String>,
}

/// List a customer's accounts
#[utoipa::path(
    get, path = "/v1/customers/{id}/accounts", tag = "accounts",
    params(("id" = String, Path, description = "The customer."), PageQuery),
    responses(
        (status = 200, description = "A page", body = AccountsPage),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn list(
    State(gateway): State<Shared>,
    caller: Caller,
    Path(id): Path<String>,
    Parameters(query): Parameters<PageQuery>,
) -> Result<Response, Problem> {
    caller.may(Operation::AccountsRead)?;
    let customer = customer_number(&id)?;
    caller.may_for(customer)?;
    let limit = page_limit(query.limit, 50, 200)?;
    let from = match query.cursor.as_deref() {
        None => 0,
        Some(text) => {
            text.parse::<usize>().map_err(|_| Problem::numbered(catalogue::CURSOR_INVALID).field("cursor"))?
        }
    };
    let branch = customer.branch();
    let Some(Answer::Customer(found)) =
        gateway.bank.look(branch, &caller, Read::Customer(serial(customer)?)).await?
    else {
        return Err(Problem::numbered(3020));
    };
    let chart = chart_if(&gateway, &caller, branch).await?;
    let page = found.accounts.iter().skip(from).take(limit);
    let accounts =
        page.map(|(reference, account)| view(*reference, account, found.position, chart.as_deref()));
    let accounts: Vec<AccountView> = accounts.collect();
    let end = from.saturating_add(accounts.len());
    let next = (end < found.accounts.len()).then(|| end.to_string());
    Ok(json(StatusCode::OK, &AccountsPage { accounts, next }))
}

/// The chart, for those who may read it: a customer's view then goes without the product's name.
async fn chart_if(gateway: &Gateway, caller: &Caller, branch: u16) -> Result<Option<Box<Chart>>, Problem> {
    if caller.customer().is_some() {
        return Ok(None);
    }
    chart(gateway, caller, branch).await.map(Some)
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct HeadQuery {
    /// For a general-ledger head such as `gl:1001@0001`: the currency.
    currency: Option<CurrencyText>,
}

/// Look at an account
///
/// Balances, limits and status, as of the moment. Heads are looked at as `gl:1001@0001?currency=CNY`.
#[utoipa::path(
    get, path = "/v1/accounts/{number}", tag = "accounts",
    params(("number" = String, Path, description = "The account."), HeadQuery),
    responses(
        (status = 200, description = "The account", body = AccountView),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn get(
    State(gateway): State<Shared>,
    caller: Caller,
    Path(number): Path<String>,
    Parameters(query): Parameters<HeadQuery>,
) -> Result<Response, Problem> {
    caller.may(Operation::AccountsRead)?;
    let reference = reference(&number, query.currency.map(|currency| currency.0))?;
    caller.may_in(reference.branch())?;
    Ok(json(StatusCode::OK, &look_reference(&gateway, &caller, reference).await?))
}

/// The account of a path, heads included.
pub(crate) fn reference(text: &str, currency: Option<Currency>) -> Result<AccountRef, Problem> {
    if !text.starts_with("gl:") {
        let number = account_number(text)?;
        return Ok(AccountRef::customer(number.branch(), number.serial()));
    }
    let wrong = |field: &'static str, detail: Detail| {
        Problem::numbered(catalogue::INVALID_FIELD).field(field).detail(detail)
    };
    let party: Party = serde_json::from_value(serde_json::Value::from(text))
        .map_err(|_| wrong("number", said!("a head is gl:1001@0001", "科目写作 gl:1001@0001")))?;
    let branch = party.branch().ok_or_else(|| {
        wrong("number", said!("name the head's branch: gl:1001@0001", "须指明科目所属分行：gl:1001@0001"))
    })?;
    let currency = currency
        .ok_or_else(|| wrong("currency", said!("a head needs ?currency=CNY", "科目须带 ?currency=CNY")))?;
    party
        .reference(branch, Some(currency))
        .ok_or_else(|| wrong("number", said!("a head is gl:1001@0001", "科目写作 gl:1001@0001")))
}

/// The account, if it exists and the caller may see it.
pub(crate) async fn look(
    gateway: &Gateway,
    caller: &Caller,
    number: AccountNumber,
) -> Result<Box<BookAccount>, Problem> {
    look_book(gateway, caller, AccountRef::customer(number.branch(), number.serial())).await
}

/// The same by reference.
pub(crate) async fn look_book(
    gateway: &Gateway,
    caller: &Caller,
    reference: AccountRef,
) -> Result<Box<BookAccount>, Problem> {
    match gateway.bank.look(reference.branch(), caller, Read::Account(reference)).await? {
        Some(Answer::Account(found)) => {
            let fixed = Fixed { currency: found.account.currency, owner: found.account.owner };
            gateway.bank.known.keep(reference, fixed);
            Ok(found)
        }
        _ => Err(Problem::numbered(ACCOUNT_NOT_FOUND)
            .field("number")
            .detail(said!("there is no such account", "没有这个账户"))),
    }
}

/// What never changes about an account that exists and that the caller may see; asks the branch only the first time.
pub(crate) async fn look_fixed(
    gateway: &Gateway,
    caller: &Caller,
    reference: AccountRef,
) -> Result<Fixed, Problem> {
    caller.may_in(reference.branch())?;
    if let Some(fixed) = gateway.bank.known.get(reference) {
        caller.may_see_account_of(fixed.owner)?;
        return Ok(fixed);
    }
    let found = look_book(gateway, caller, reference).await?;
    Ok(Fixed { currency: found.account.currency, owner: found.account.owner })
}

/// The ledger's number for an account that is not there.
pub(crate) const ACCOUNT_NOT_FOUND: u16 = 2001;

async fn look_reference(
    gateway: &Gateway,
    caller: &Caller,
    reference: AccountRef,
) -> Result<AccountView, Problem> {
    let found = look_book(gateway, caller, reference).await?;
    let chart = chart_if(gateway, caller, reference.branch()).await?;
    Ok(view(reference, &found.account, found.position, chart.as_deref()))
}

fn view(reference: AccountRef, account: &Account, position: u64, chart: Option<&Chart>) -> AccountView {
    let currency = account.currency;
    let money = |minor: i128| Money::minor(minor, currency);
    let whole = |total: u128| money(i128::try_from(total).unwrap_or(i128::MAX));
    let frozen = (account.debit_freeze, account.credit_freeze);
    let product = chart.and_then(|chart| chart.product(account.product)).map(|product| product.key.clone());
    let customer = match reference.kind() {
        Some(AccountKind::Customer(_)) => {
            CustomerNumber::try_new(reference.branch(), u64::from(account.owner)).ok()
        }
        _ => None,
    };
    let limited = account.daily_limit != UNLIMITED;
    AccountView {
        number: AccountText(reference),
        customer: customer.map(Customer),
        branch: reference.branch(),
        product,
        currency: CurrencyText(currency),
        opened: Day(account.opened),
        status: status(account),
        frozen: (frozen != (0, 0)).then_some(Frozen { debit: frozen.0, credit: frozen.1 }),
        balances: Balances {
            posted: money(account.balance()),
            available: account.available().map(money),
            held: whole(account.debits_pending),
            expected: whole(account.credits_pending),
        },
        limits: LimitsView {
            floor: Money(Balance::new(i128::from(account.floor), currency)),
            daily: limited.then(|| money(i128::from(account.daily_limit))),
            daily_used: limited.then(|| money(i128::from(account.daily_used))),
        },
        position,
    }
}

fn status(account: &Account) -> &'static str {
    if account.is_closing() {
        "closing"
    } else if account.is_closed() {
        "closed"
    } else if account.debit_freeze != 0 || account.credit_freeze != 0 {
        "frozen"
    } else {
        "open"
    }
}

/// Change limits
///
/// The floor (an overdraft, if negative) and the daily limit. For operators; can be put under four eyes.
#[utoipa::path(
    patch, path = "/v1/accounts/{number}/limits", tag = "accounts", request_body = LimitsIn,
    params(("number" = String, Path, description = "The account."), ("Idempotency-Key" = Option<String>, Header)),
    responses(
        (status = 200, description = "The account as it is now", body = AccountView),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn limits(
    State(gateway): State<Shared>,
    caller: Caller,
    Path(number): Path<String>,
    posted: Posted<LimitsIn>,
) -> Result<Response, Problem> {
    caller.may(Operation::AccountsControl)?;
    let number = account_number(&number)?;
    caller.may_in(number.branch())?;
    let wish = &posted.body;
    let account = look(&gateway, &caller, number).await?;
    let currency = account.account.currency;
    if wish.unlimited && wish.daily.is_some() {
        let detail = said!("either a daily limit or none", "单日限额与不限额须二选一");
        return Err(Problem::numbered(catalogue::INVALID_FIELD).field("unlimited").detail(detail));
    }
    let daily_limit = match (wish.unlimited, wish.daily) {
        (true, _) => Some(UNLIMITED),
        (false, money) => money.map(|money| daily(money, currency)).transpose()?,
    };
    let floor = wish.floor.map(|money| minor(money, currency, "floor")).transpose()?;
    let asked = ChangeLimits { account: account.reference, floor, daily_limit };
    act(&gateway, &caller, number, &posted, Command::ChangeLimits(asked)).await
}

/// Does something to an account and answers what it is now.
async fn act<T>(
    gateway: &Gateway,
    caller: &Caller,
    number: AccountNumber,
    posted: &Posted<T>,
    wish: Command,
) -> Result<Response, Problem>
where
    T: serde::de::DeserializeOwned,
{
    let key = posted.key_or_new();
    let reference = AccountRef::customer(number.branch(), number.serial());
    let currency = look_fixed(gateway, caller, reference).await?.currency;
    let to = (number.branch(), Some(currency));
    let commanded = command_in(gateway, caller, to, posted.digest, Some(&key), wish).await?;
    let view = look_reference(gateway, caller, reference).await?;
    Ok(json_keyed(StatusCode::OK, &view, &key, commanded.repeated))
}

const fn sides(sides: SidesIn) -> Sides {
    match sides {
        SidesIn::Debit => Sides { debit: true, credit: false },
        SidesIn::Credit => Sides { debit: false, credit: true },
        SidesIn::Both => Sides { debit: true, credit: true },
    }
}

/// The account of a path that the caller may control.
fn controlled(caller: &Caller, number: &str) -> Result<(AccountNumber, AccountRef), Problem> {
    caller.may(Operation::AccountsControl)?;
    let number = account_number(number)?;
    Ok((number, AccountRef::customer(number.branch(), number.serial())))
}

/// Freeze an account
///
/// Debits, credits or both take no transfers any more. For operators; can be put under four eyes.
#[utoipa::path(
    post, path = "/v1/accounts/{number}/freeze", tag = "accounts", request_body = FreezeIn,
    params(("number" = String, Path, description = "The account."), ("Idempotency-Key" = Option<String>, Header)),
    responses(
        (status = 200, description = "The account as it is now", body = AccountView),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn freeze(
    State(gateway): State<Shared>,
    caller: Caller,
    Path(number): Path<String>,
    posted: Posted<FreezeIn>,
) -> Result<Response, Problem> {
    let (number, account) = controlled(&caller, &number)?;
    let FreezeIn { sides: which, reason } = posted.body;
    let wish = Command::Freeze(Freeze { account, sides: sides(which), reason });
    act(&gateway, &caller, number, &posted, wish).await
}

/// Thaw an account
///
/// For operators; can be put under four eyes.
#[utoipa::path(
    post, path = "/v1/accounts/{number}/unfreeze", tag = "accounts", request_body = UnfreezeIn,
    params(("number" = String, Path, description = "The account."), ("Idempotency-Key" = Option<String>, Header)),
    responses(
        (status = 200, description = "The account as it is now", body = AccountView),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn unfreeze(
    State(gateway): State<Shared>,
    caller: Caller,
    Path(number): Path<String>,
    posted: Posted<UnfreezeIn>,
) -> Result<Response, Problem> {
    let (number, account) = controlled(&caller, &number)?;
    let wish = Command::Unfreeze(Unfreeze { account, sides: sides(posted.body.sides) });
    act(&gateway, &caller, number, &posted, wish).await
}

/// Close an account
///
/// It must be empty and have no open holds. For operators.
#[utoipa::path(
    post, path = "/v1/accounts/{number}/close", tag = "accounts", request_body = Option<Nothing>,
    params(("number" = String, Path, description = "The account."), ("Idempotency-Key" = Option<String>, Header)),
    responses(
        (status = 200, description = "The account as it is now", body = AccountView),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn close(
    State(gateway): State<Shared>,
    caller: Caller,
    Path(number): Path<String>,
    Maybe(posted): Maybe<Nothing>,
) -> Result<Response, Problem> {
    let (number, account) = controlled(&caller, &number)?;
    let wish = Command::CloseAccount(account);
    act(&gateway, &caller, number, &posted, wish).await
}

/// Reopen a closed account
///
/// For operators.
#[utoipa::path(
    post, path = "/v1/accounts/{number}/reopen", tag = "accounts", request_body = Option<Nothing>,
    params(("number" = String, Path, description = "The account."), ("Idempotency-Key" = Option<String>, Header)),
    responses(
        (status = 200, description = "The account as it is now", body = AccountView),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn reopen(
    State(gateway): State<Shared>,
    caller: Caller,
    Path(number): Path<String>,
    Maybe(posted): Maybe<Nothing>,
) -> Result<Response, Problem> {
    let (number, account) = controlled(&caller, &number)?;
    let wish = Command::ReopenAccount(account);
    act(&gateway, &caller, number, &posted, wish).await
}

/// An empty body.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct Nothing {}
