//! What the books say as a whole: the chart of accounts and the trial balance.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use skerry_book::channel::channel_head;
use skerry_book::{Chart, Class, Command, Head, Product, TrialLine as BookLine};
use skerry_branch::api::{Answer, Read};
use skerry_money::{Currency, Date};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::branches::{may_read, steer};
use super::json;
use crate::auth::{Caller, Operation};
use crate::catalogue;
use crate::detail::said;
use crate::extract::{Parameters, Posted};
use crate::gateway::{Gateway, Shared};
use crate::problem::Problem;
use crate::wire::reports::{ChartView, Done, HeadView, ProductView, TrialLine, TrialTotal, TrialView};
use crate::wire::scalars::{CurrencyText, Day, Money};

pub(crate) fn router() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(chart, adopt)).routes(routes!(trial_balance))
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
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
            let detail = said!(
                "asset, liability, equity, income, expense or off_balance",
                "asset、liability、equity、income、expense 或 off_balance"
            );
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
    // Order says nothing; what is there twice stays twice.
    chart.heads.sort_by_key(|head| head.code);
    chart.products.sort_by_key(|product| product.number);
    steer(&gateway, &caller, branch, &posted, Command::AdoptChart(Box::new(chart))).await
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
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
            return Err(Problem::numbered(catalogue::INVALID_QUERY)
                .field("by")
                .detail(said!("booked or value", "booked 或 value")));
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

/// A head's name: the chart's, or that of a channel with the branch at its other end.
fn name_of(chart: &Chart, code: u32) -> String {
    let named = chart.head(code).map(|head| head.name.clone());
    let own = || channel_head(code).map(|(name, _, peer)| format!("{name} {peer:04}"));
    named.or_else(own).unwrap_or_default()
}

fn name_zh_of(chart: &Chart, code: u32) -> String {
    let named = chart.head(code).map(|head| head.name_zh.clone());
    let own = || channel_head(code).map(|(_, name, peer)| format!("{name} {peer:04}"));
    named.or_else(own).unwrap_or_default()
}

fn row(branch: u16, line: &BookLine, chart: &Chart) -> TrialLine {
    let before = |total: u128| i128::try_from(total).unwrap_or(i128::MAX);
    TrialLine {
        branch,
        head: line.code,
        name: name_of(chart, line.code),
        name_zh: name_zh_of(chart, line.code),
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
