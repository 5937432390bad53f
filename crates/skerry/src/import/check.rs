//! The check: every account-day of the old core against the new one.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use serde_json::Value;
use skerry_client::Client;
use skerry_money::{Balance, Date};
use tokio::task::JoinSet;

use super::Progress;
use super::mapping::Mapping;
use super::plan::Plan;
use super::send::Sent;

/// What the comparison found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) checked: usize,
    pub(crate) exact: usize,
    pub(crate) within: usize,
    pub(crate) off: usize,
    /// The first few that are off, as sentences.
    pub(crate) examples: Vec<String>,
}

/// Closing balances by day, oldest first.
type Closings = Vec<(Date, i128)>;

/// How many account-days that are off are listed.
const EXAMPLES: usize = 10;
/// Accounts asked for at once.
const AT_ONCE: usize = 16;

impl Found {
    /// Counts one account-day: `balance` against any of the `printed` ones.
    fn count(&mut self, balance: i128, printed: &[i128], tolerance: i128, place: impl FnOnce() -> String) {
        self.checked += 1;
        let nearest = printed.iter().map(|one| (one - balance).abs()).min().unwrap_or(i128::MAX);
        match nearest {
            0 => self.exact += 1,
            distance if distance <= tolerance => self.within += 1,
            _ => {
                self.off += 1;
                if self.examples.len() < EXAMPLES {
                    self.examples.push(place());
                }
            }
        }
    }

    /// The line that `--check` prints.
    pub(crate) fn line(&self, tolerance: &str) -> String {
        format!(
            "account-days checked: {}, exact: {}, within {tolerance}: {}, off: {}",
            self.checked, self.exact, self.within, self.off
        )
    }

    /// The same as data.
    pub(crate) fn counts(&self) -> [(&'static str, usize); 4] {
        [
            ("account_days_checked", self.checked),
            ("exact", self.exact),
            ("within_tolerance", self.within),
            ("off", self.off),
        ]
    }
}

/// Asks the bank for the daily balances of every account that the old core printed balances for.
///
/// # Errors
///
/// The bank refuses or its answer cannot be read.
pub(crate) async fn compare(
    client: &Client,
    mapping: &Mapping,
    plan: &Plan,
    accounts: &Sent,
) -> anyhow::Result<Found> {
    let tolerance = skerry_money::Amount::parse(&mapping.check.tolerance, plan.currency)
        .map_err(|error| anyhow!("check.tolerance {:?}: {error}", mapping.check.tolerance))?
        .minor();
    let mut by_account: BTreeMap<usize, Vec<(Date, &Vec<i128>)>> = BTreeMap::new();
    for ((account, date), printed) in &plan.expected {
        by_account.entry(*account).or_default().push((*date, printed));
    }
    let progress = Arc::new(Progress::new("accounts checked", by_account.len()));
    let mut waiting: Vec<(usize, Date, Date)> = by_account
        .iter()
        .filter_map(|(account, days)| Some((*account, days.first()?.0, days.last()?.0)))
        .collect();
    let mut running: JoinSet<anyhow::Result<(usize, Closings)>> = JoinSet::new();
    let mut found = Found::default();
    while !waiting.is_empty() || !running.is_empty() {
        while running.len() < AT_ONCE
            && let Some((account, from, to)) = waiting.pop()
        {
            let client = client.clone();
            let number = accounts.ids.get(account).context("every account was sent")?.clone();
            running.spawn(async move { Ok((account, daily(&client, &number, from, to).await?)) });
        }
        let Some(done) = running.join_next().await else { break };
        let (account, closings) = done.context("a task of the check died")??;
        let key = &plan.accounts.get(account).context("the account is in the plan")?.key;
        for (date, printed) in by_account.get(&account).into_iter().flatten() {
            let balance = at(&closings, *date);
            found.count(balance, printed, i128::from(tolerance), || {
                format!(
                    "account {key} on {date}: here {}, there {}",
                    Balance::new(balance, plan.currency),
                    printed
                        .iter()
                        .map(|one| Balance::new(*one, plan.currency).to_string())
                        .collect::<Vec<_>>()
                        .join(" or ")
                )
            });
        }
        progress.add(1);
    }
    found.examples.sort();
    Ok(found)
}

/// The closing balance of each day in the span on which the account moved, oldest first, plus what stood before.
async fn daily(client: &Client, number: &str, from: Date, to: Date) -> anyhow::Result<Closings> {
    let mut closings = Vec::new();
    let mut from = from.to_string();
    loop {
        let path = format!("/v1/accounts/{number}/balances?from={from}&to={to}");
        let page: Value = client.get(&path).await?;
        let days = page["days"].as_array().with_context(|| format!("no days in the answer to {path}"))?;
        for day in days {
            closings.push(
                closing(day).with_context(|| format!("could not read a day of account {number}: {day}"))?,
            );
        }
        match page["next"].as_str() {
            Some(next) => next.clone_into(&mut from),
            None => return Ok(closings),
        }
    }
}

fn closing(day: &Value) -> Option<(Date, i128)> {
    let date = Date::parse(day["date"].as_str()?).ok()?;
    let currency = skerry_money::Currency::from_alpha(day["closing"]["currency"].as_str()?)?;
    let balance = Balance::parse(day["closing"]["amount"].as_str()?, currency).ok()?;
    Some((date, balance.minor()))
}

/// The balance at the end of `date`: the last closing on or before it.
fn at(closings: &[(Date, i128)], date: Date) -> i128 {
    let after = closings.partition_point(|(day, _)| *day <= date);
    after.checked_sub(1).and_then(|last| closings.get(last)).map_or(0, |(_, balance)| *balance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_without_movement_has_the_balance_of_the_last_one() {
        let closings = [(Date(10), 5), (Date(12), 7)];
        assert_eq!((at(&closings, Date(9)), at(&closings, Date(11)), at(&closings, Date(12))), (0, 5, 7));
    }

    #[test]
    fn any_printed_balance_will_do_and_the_nearest_counts() {
        let mut found = Found::default();
        found.count(100, &[90, 100], 5, String::new);
        found.count(100, &[97, 200], 5, String::new);
        found.count(100, &[90], 5, || "off".to_owned());
        assert_eq!((found.checked, found.exact, found.within, found.off), (3, 1, 1, 1));
        assert_eq!(found.line("1.00"), "account-days checked: 3, exact: 1, within 1.00: 1, off: 1");
        assert_eq!(found.examples, ["off"]);
    }
}
