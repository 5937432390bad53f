//! Branches as operators and auditors see and steer them: state, meters, chart, trial balance, days, policy.

use std::collections::BTreeMap;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use skerry_book::policy::{Matter, Matters, Policy};
use skerry_book::{Chart, Class, Command, Head, Product, TrialLine as BookLine};
use skerry_branch::api::{Answer, Read};
use skerry_branch::meters::{Kind, Meter};
use skerry_money::{Currency, Date};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{command, json, json_keyed};
use crate::auth::{Caller, Operation};
use crate::catalogue;
use crate::extract::{Maybe, Parameters, Posted};
use crate::gateway::{Gateway, Shared};
use crate::problem::Problem;
use crate::seat::Seat;
use crate::usage;
use crate::wire::reports::{
    BranchMeters, BranchView, BranchesView, ChartView, DateIn, Done, HeadView, MeterView, MetersTotals,
    MetersView, PolicyIn, ProductView, StatusView, TrialLine, TrialTotal, TrialView,
};
use crate::wire::scalars::{CurrencyText, Day, Money};

pub(crate) fn router() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(branches))
        .routes(routes!(status))
        .routes(routes!(meters))
        .routes(routes!(chart, adopt))
        .routes(routes!(trial_balance))
        .routes(routes!(reopen))
        .routes(routes!(open_day))
        .routes(routes!(go_live))
        .routes(routes!(policy, set_policy))
}

/// A branch's state, as shown.
pub(crate) fn branch_view(seat: &dyn Seat) -> BranchView {
    let health = seat.health();
    let room = if health.is_open() { health.room() } else { 0 };
    BranchView {
        branch: seat.number(),
        state: health.state,
        reason: health.reason,
        business_date: Day(health.business_date),
        position: health.position,
        customers: health.customers,
        room,
        accounts: health.accounts,
        holds: health.holds,
        queue: health.queue,
    }
}

fn views(gateway: &Gateway, caller: &Caller) -> Vec<BranchView> {
    let seats = gateway.bank.seats();
    let own = seats.values().filter(|seat| caller.may_in(seat.number()).is_ok());
    own.map(|seat| branch_view(&**seat)).collect()
}

fn may_read(caller: &Caller) -> Result<(), Problem> {
    caller.may(Operation::ReportsRead)?;
    caller.may_beyond_one_customer()
}

/// List branches
///
/// With their state, and the reason if one is not open.
#[utoipa::path(
    get, path = "/v1/branches", tag = "branches",
    responses(
        (status = 200, description = "All branches", body = BranchesView),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn branches(State(gateway): State<Shared>, caller: Caller) -> Result<Response, Problem> {
    may_read(&caller)?;
    Ok(json(StatusCode::OK, &BranchesView { branches: views(&gateway, &caller) }))
}

/// Read the bank's status
///
/// What `skerry status` shows.
#[utoipa::path(
    get, path = "/v1/status", tag = "branches",
    responses(
        (status = 200, description = "The status", body = StatusView),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn status(State(gateway): State<Shared>, caller: Caller) -> Result<Response, Problem> {
    may_read(&caller)?;
    let branches = views(&gateway, &caller);
    let all_open = branches.iter().all(|branch| branch.state == "open");
    let view = StatusView {
        status: if all_open { "ok" } else { "degraded" },
        healthy: all_open,
        machine: usage::machine(),
        process: std::process::id(),
        version: env!("CARGO_PKG_VERSION"),
        uptime_seconds: gateway.begun.elapsed().as_secs(),
        connections: gateway.meters.connections.get(),
        branches,
    };
    Ok(json(StatusCode::OK, &view))
}

/// Read the cost meters
///
/// CPU, bytes and messages by kind of command and by principal: what `skerry cost` multiplies with prices.
#[utoipa::path(
    get, path = "/v1/meters", tag = "branches",
    responses(
        (status = 200, description = "The meters", body = MetersView),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn meters(State(gateway): State<Shared>, caller: Caller) -> Result<Response, Problem> {
    may_read(&caller)?;
    let seats = gateway.bank.seats();
    let own = seats.values().filter(|seat| caller.may_in(seat.number()).is_ok());
    let branches: Vec<BranchMeters> = own.map(|seat| branch_meters(&**seat)).collect();
    let accounts = branches.iter().map(|branch| branch.accounts).sum();
    let moving = branches.iter().flat_map(|branch| &branch.kinds);
    let moving = moving.filter(|kind| [Kind::Packed.name(), Kind::Transfers.name()].contains(&&*kind.name));
    let transfers = moving.map(|kind| kind.records).sum();
    let folder = gateway.tokens.folder().to_owned();
    let disk_bytes = tokio::task::spawn_blocking(move || usage::disk_bytes(&folder)).await.unwrap_or(0);
    let totals = MetersTotals {
        accounts,
        transfers,
        cpu_seconds: usage::cpu_seconds(),
        disk_bytes,
        memory_bytes: usage::memory_bytes(),
        sent_bytes: gateway.meters.bytes_sent.get(),
    };
    Ok(json(StatusCode::OK, &MetersView { branches, totals }))
}

fn branch_meters(seat: &dyn Seat) -> BranchMeters {
    let health = seat.health();
    let kinds = Kind::ALL.iter().map(|kind| meter(kind.name(), &health.meters.kind(*kind))).collect();
    let mut principals: Vec<MeterView> = health
        .meters
        .principals
        .iter()
        .map(|(principal, counted)| meter(principal.as_str(), counted))
        .collect();
    if health.meters.others.messages > 0 {
        principals.push(meter("(others)", &health.meters.others));
    }
    BranchMeters { branch: seat.number(), accounts: health.accounts, kinds, principals }
}

fn meter(name: &str, counted: &Meter) -> MeterView {
    MeterView {
        name: name.to_owned(),
        messages: counted.messages,
        records: counted.records,
        refusals: counted.refusals,
        bytes_in: counted.bytes_in,
        bytes_journal: counted.bytes_journal,
        cpu_ns: counted.cpu_ns,
    }
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
struct BranchQuery {
    /// The branch; left out, the first one.
    branch: Option<u16>,
}

fn one_branch(gateway: &Gateway, caller: &Caller, asked: Option<u16>) -> Result<u16, Problem> {
    let seats = gateway.bank.seats();
    let branch = match asked {
        Some(branch) => Some(branch),
        None => seats.keys().copied().find(|branch| caller.may_in(*branch).is_ok()),
    };
    let branch = branch.ok_or_else(|| Problem::numbered(catalogue::BRANCH_NOT_FOUND))?;
    caller.may_in(branch)?;
    Ok(branch)
}

/// Read the chart of accounts
///
/// General-ledger heads and products, with their names in English and Chinese.
#[utoipa::path(
    get, path = "/v1/chart", tag = "reports", params(BranchQuery),
    responses(
        (status = 200, description = "The chart", body = ChartView),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn chart(
    State(gateway): State<Shared>,
    caller: Caller,
    Parameters(asked): Parameters<BranchQuery>,
) -> Result<Response, Problem> {
    may_read(&caller)?;
    let branch = one_branch(&gateway, &caller, asked.branch)?;
    let chart = super::accounts::chart(&gateway, &caller, branch).await?;
    Ok(json(StatusCode::OK, &chart_view(&chart)))
}

fn chart_view(chart: &Chart) -> ChartView {
    let head = |head: &Head| HeadView {
        code: head.code,
        class: head.class.name().to_owned(),
        name: head.name.clone(),
        name_zh: head.name_zh.clone(),
    };
    let product = |product: &Product| ProductView {
        number: product.number,
        key: product.key.clone(),
        head: product.head,
        name: product.name.clone(),
        name_zh: product.name_zh.clone(),
    };
    ChartView {
        version: chart.version,
        heads: chart.heads.iter().map(head).collect(),
        products: chart.products.iter().map(product).collect(),
    }
}

/// Adopt a chart of accounts
///
/// In one branch. Heads and products are added or renamed, never removed. For operators.
#[utoipa::path(
    put, path = "/v1/chart", tag = "reports", request_body = ChartView, params(BranchQuery),
    responses(
        (status = 200, description = "Adopted", body = Done),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn adopt(
    State(gateway): State<Shared>,
    caller: Caller,
    Parameters(asked): Parameters<BranchQuery>,
    posted: Posted<ChartView>,
) -> Result<Response, Problem> {
    caller.may(Operation::BranchesControl)?;
    let branch = one_branch(&gateway, &caller, asked.branch)?;
    let mut chart = Chart { version: posted.body.version, heads: Vec::new(), products: Vec::new() };
    for (index, head) in posted.body.heads.iter().enumerate() {
        let class = Class::from_name(&head.class).ok_or_else(|| {
            let detail = "asset, liability, equity, income, expense or off_balance";
            Problem::numbered(catalogue::INVALID_FIELD).field("class").detail(detail).at("heads", index)
        })?;
        let (name, name_zh) = (head.name.clone(), head.name_zh.clone());
        chart.heads.push(Head { code: head.code, class, name, name_zh });
    }
    chart.products = posted
        .body
        .products
        .iter()
        .map(|product| Product {
            number: product.number,
            key: product.key.clone(),
            head: product.head,
            name: product.name.clone(),
            name_zh: product.name_zh.clone(),
        })
        .collect();
    steer(&gateway, &caller, branch, &posted, Command::AdoptChart(Box::new(chart))).await
}

/// Sends a command about the branch itself.
async fn steer<T: serde::de::DeserializeOwned>(
    gateway: &Gateway,
    caller: &Caller,
    branch: u16,
    posted: &Posted<T>,
    wish: Command,
) -> Result<Response, Problem> {
    let key = posted.key_or_new();
    command(gateway, caller, branch, posted.digest, Some(&key), wish).await?;
    Ok(json_keyed(StatusCode::OK, &Done { done: true }, &key))
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
struct TrialQuery {
    /// The day; left out, the open one.
    date: Option<Day>,
    /// `booked` (default) or `value`.
    by: Option<String>,
    /// One branch; left out, all.
    branch: Option<u16>,
    /// One currency; left out, all.
    currency: Option<CurrencyText>,
}

/// Read the trial balance
///
/// By branch, head and currency, as booked or as of value. Each branch and currency sums to zero.
#[utoipa::path(
    get, path = "/v1/trial-balance", tag = "reports", params(TrialQuery),
    responses(
        (status = 200, description = "The trial balance", body = TrialView),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn trial_balance(
    State(gateway): State<Shared>,
    caller: Caller,
    Parameters(asked): Parameters<TrialQuery>,
) -> Result<Response, Problem> {
    may_read(&caller)?;
    let by_value = match asked.by.as_deref() {
        None | Some("booked") => false,
        Some("value") => true,
        Some(_) => {
            return Err(Problem::numbered(catalogue::INVALID_QUERY).field("by").detail("booked or value"));
        }
    };
    let branches: Vec<u16> = match asked.branch {
        Some(branch) => vec![branch],
        None => {
            gateway.bank.seats().keys().copied().filter(|branch| caller.may_in(*branch).is_ok()).collect()
        }
    };
    let mut trial =
        Trial { asked: asked.date.map(|day| day.0), shown: None, rows: Vec::new(), totals: BTreeMap::new() };
    for branch in branches {
        caller.may_in(branch)?;
        trial.add(&gateway, &caller, branch, by_value, asked.currency).await?;
    }
    let by = if by_value { "value" } else { "booked" };
    Ok(json(StatusCode::OK, &trial.view(by)))
}

struct Trial {
    asked: Option<Date>,
    shown: Option<Date>,
    rows: Vec<TrialLine>,
    totals: BTreeMap<(u16, u16), (Currency, u128, u128, i128)>,
}

impl Trial {
    async fn add(
        &mut self,
        gateway: &Gateway,
        caller: &Caller,
        branch: u16,
        by_value: bool,
        currency: Option<CurrencyText>,
    ) -> Result<(), Problem> {
        let chart = super::accounts::chart(gateway, caller, branch).await?;
        // All branches show the day of the first, also if one has just opened the next.
        let date = self.asked.or(self.shown);
        let read = Read::TrialBalance { date, by_value };
        let Some(Answer::TrialBalance { date, lines }) = gateway.bank.look(branch, caller, read).await?
        else {
            return Ok(());
        };
        self.shown = Some(date);
        for line in lines.iter().filter(|line| currency.is_none_or(|only| only.0 == line.currency)) {
            let total =
                self.totals.entry((branch, line.currency.number())).or_insert((line.currency, 0, 0, 0));
            total.1 = total.1.saturating_add(line.debits);
            total.2 = total.2.saturating_add(line.credits);
            total.3 = total.3.saturating_add(line.closing);
            self.rows.push(row(branch, line, &chart));
        }
        Ok(())
    }

    fn view(self, by: &'static str) -> TrialView {
        let total = |((branch, _), (currency, debits, credits, closing)): ((u16, u16), _)| TrialTotal {
            branch,
            currency: CurrencyText(currency),
            debits: whole(debits, currency),
            credits: whole(credits, currency),
            closing: Money::minor(closing, currency),
        };
        let date = Day(self.shown.or(self.asked).unwrap_or_default());
        TrialView { date, by, rows: self.rows, totals: self.totals.into_iter().map(total).collect() }
    }
}

fn whole(total: u128, currency: Currency) -> Money {
    Money::minor(i128::try_from(total).unwrap_or(i128::MAX), currency)
}

fn row(branch: u16, line: &BookLine, chart: &Chart) -> TrialLine {
    let before = |total: u128| i128::try_from(total).unwrap_or(i128::MAX);
    TrialLine {
        branch,
        head: line.code,
        name: chart.head(line.code).map(|head| head.name.clone()).unwrap_or_default(),
        class: line.class.name().to_owned(),
        opening: Money::minor(
            before(line.credits_before).saturating_sub(before(line.debits_before)),
            line.currency,
        ),
        debits: whole(line.debits, line.currency),
        credits: whole(line.credits, line.currency),
        closing: Money::minor(line.closing, line.currency),
    }
}

/// An empty body.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct Empty {}

/// Open a sick branch again
///
/// From its journal, once what made it sick is mended. For operators.
#[utoipa::path(
    post, path = "/v1/branches/{branch}/reopen", tag = "branches",
    params(("branch" = u16, Path, description = "The branch.")),
    responses(
        (status = 200, description = "Open", body = BranchView),
        (status = "default", description = "It did not open, and why", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn reopen(
    State(gateway): State<Shared>,
    caller: Caller,
    Path(branch): Path<String>,
    Maybe(_posted): Maybe<Empty>,
) -> Result<Response, Problem> {
    caller.may(Operation::BranchesControl)?;
    let seat = gateway.bank.seat(branch_number(&branch)?)?;
    caller.may_in(seat.number())?;
    let opening = std::sync::Arc::clone(&seat);
    match tokio::task::spawn_blocking(move || opening.reopen()).await {
        Ok(Ok(())) => Ok(json(StatusCode::OK, &branch_view(&*seat))),
        Ok(Err(reason)) => {
            Err(Problem::numbered(catalogue::BRANCH_UNAVAILABLE).detail(reason).retry_after_ms(5_000))
        }
        Err(_) => Err(Problem::numbered(catalogue::INTERNAL)),
    }
}

fn branch_number(text: &str) -> Result<u16, Problem> {
    text.parse::<u16>().map_err(|_| {
        Problem::numbered(catalogue::INVALID_FIELD).field("branch").detail("a number from 1 to 9999")
    })
}

/// Open a business day
///
/// Closes the open one for ever. Days open by themselves at the cutoff; this is for catching up. For operators.
#[utoipa::path(
    post, path = "/v1/branches/{branch}/days", tag = "branches", request_body = DateIn,
    params(("branch" = u16, Path, description = "The branch."), ("Idempotency-Key" = Option<String>, Header)),
    responses(
        (status = 200, description = "Open", body = Done),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn open_day(
    State(gateway): State<Shared>,
    caller: Caller,
    Path(branch): Path<String>,
    posted: Posted<DateIn>,
) -> Result<Response, Problem> {
    caller.may(Operation::BranchesControl)?;
    let wish = Command::OpenDay(posted.body.date.0);
    steer(&gateway, &caller, branch_number(&branch)?, &posted, wish).await
}

/// End imports
///
/// From this day on nothing is imported. Said once. For operators; can be put under four eyes.
#[utoipa::path(
    post, path = "/v1/branches/{branch}/go-live", tag = "branches", request_body = DateIn,
    params(("branch" = u16, Path, description = "The branch."), ("Idempotency-Key" = Option<String>, Header)),
    responses(
        (status = 200, description = "Live", body = Done),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn go_live(
    State(gateway): State<Shared>,
    caller: Caller,
    Path(branch): Path<String>,
    posted: Posted<DateIn>,
) -> Result<Response, Problem> {
    caller.may(Operation::BranchesControl)?;
    let wish = Command::GoLive(posted.body.date.0);
    steer(&gateway, &caller, branch_number(&branch)?, &posted, wish).await
}

/// Read a branch's policy
///
/// What needs a second principal, and how long the law keeps customers.
#[utoipa::path(
    get, path = "/v1/branches/{branch}/policy", tag = "approvals",
    params(("branch" = u16, Path, description = "The branch.")),
    responses(
        (status = 200, description = "The policy", body = PolicyIn),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn policy(
    State(gateway): State<Shared>,
    caller: Caller,
    Path(branch): Path<String>,
) -> Result<Response, Problem> {
    may_read(&caller)?;
    let branch = branch_number(&branch)?;
    caller.may_in(branch)?;
    let Some(Answer::Policy(policy)) = gateway.bank.look(branch, &caller, Read::Policy).await? else {
        return Err(Problem::numbered(catalogue::INTERNAL));
    };
    let four_eyes = policy.four_eyes.iter().map(|matter| matter.name().to_owned()).collect();
    Ok(json(StatusCode::OK, &PolicyIn { four_eyes, retention_days: policy.retention_days }))
}

/// Set a branch's policy
///
/// Under four eyes itself as soon as anything is. For operators.
#[utoipa::path(
    put, path = "/v1/branches/{branch}/policy", tag = "approvals", request_body = PolicyIn,
    params(("branch" = u16, Path, description = "The branch."), ("Idempotency-Key" = Option<String>, Header)),
    responses(
        (status = 200, description = "Set", body = Done),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn set_policy(
    State(gateway): State<Shared>,
    caller: Caller,
    Path(branch): Path<String>,
    posted: Posted<PolicyIn>,
) -> Result<Response, Problem> {
    caller.may(Operation::BranchesControl)?;
    let mut four_eyes = Matters::NONE;
    for (index, name) in posted.body.four_eyes.iter().enumerate() {
        four_eyes =
            four_eyes.with(super::approvals::matter(name).map_err(|problem| problem.at("four_eyes", index))?);
    }
    let wish = Command::SetPolicy(Policy { four_eyes, retention_days: posted.body.retention_days });
    steer(&gateway, &caller, branch_number(&branch)?, &posted, wish).await
}

/// All matters, for texts.
pub(crate) fn matters() -> String {
    let names: Vec<&str> = Matter::ALL.into_iter().map(Matter::name).collect();
    names.join(", ")
}
