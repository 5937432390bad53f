//! The plan, sent to a bank: heads, customers, accounts, transfers, each with the key that makes it happen once.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use hyper::Method;
use serde_json::{Value, json};
use skerry_client::Client;
use skerry_money::{Balance, Currency, Date};
use tokio::task::JoinSet;

use super::Progress;
use super::mapping::Mapping;
use super::plan::{Plan, Transfer};

/// What the bank made of one kind of thing.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    /// The bank's ids, in the plan's order.
    pub(crate) ids: Vec<String>,
    pub(crate) made: u64,
    pub(crate) there: u64,
}

/// Items in one request: few enough that each answer comes soon.
const BATCH: usize = 500;

/// Adopts the heads that the mapping names and a branch's chart lacks, in every branch. Their accounts in the
/// mapping's currency are opened with the first customer account in it.
///
/// # Errors
///
/// The bank refuses, or knows a head of the same code and another class.
pub(crate) async fn heads(client: &Client, mapping: &Mapping) -> anyhow::Result<()> {
    let branches: Value = client.get("/v1/branches").await.context("could not read the bank's branches")?;
    for branch in branches["branches"].as_array().context("the bank tells no branches")? {
        let path = format!("/v1/chart?branch={}", branch["branch"]);
        let mut chart: Value = client.get(&path).await.context("could not read the bank's chart")?;
        if !merge(&mut chart, mapping)? {
            continue;
        }
        client
            .send_json(Method::PUT, &path, &chart, &[])
            .await
            .context("could not adopt the mapping's heads")?;
    }
    Ok(())
}

/// Adds the mapping's heads to a chart; whether any was missing.
fn merge(chart: &mut Value, mapping: &Mapping) -> anyhow::Result<bool> {
    let version = chart["version"].as_u64().context("the bank's chart has no version")?;
    let heads = chart["heads"].as_array_mut().context("the bank's chart has no heads")?;
    let mut missing = false;
    for head in &mapping.heads {
        let class = head.class.replace('-', "_");
        match heads.iter().find(|known| known["code"] == head.code) {
            Some(known) if known["class"] == class => (),
            Some(known) => bail!(
                "the bank's head {} is of class {}, the mapping says {class}",
                head.code,
                known["class"]
            ),
            None => {
                heads.push(
                    json!({"code": head.code, "class": class, "name": head.name, "name_zh": head.name_zh}),
                );
                missing = true;
            }
        }
    }
    heads.sort_by_key(|head| head["code"].as_u64());
    if missing {
        chart["version"] = Value::from(version + 1);
    }
    Ok(missing)
}

/// Makes the customers known.
///
/// # Errors
///
/// The first that the bank refuses.
pub(crate) async fn customers(client: &Client, mapping: &Mapping, plan: &Plan) -> anyhow::Result<Sent> {
    let items = plan.customers.iter().map(|one| {
        let mut item = json!({
            "cause": format!("{}/customer/{}", mapping.source, one.key), "name": one.name,
            "document": {"kind": one.document_kind, "number": one.document_number},
        });
        if let Some(opened) = one.opened {
            item["opened"] = Value::from(opened.to_string());
        }
        item
    });
    all(client, "customers", "customer", items.collect()).await
}

/// Opens the accounts.
///
/// # Errors
///
/// The first that the bank refuses.
pub(crate) async fn accounts(
    client: &Client,
    mapping: &Mapping,
    plan: &Plan,
    customers: &Sent,
) -> anyhow::Result<Sent> {
    let mut items = Vec::new();
    for account in &plan.accounts {
        let customer = customers.ids.get(account.owner).context("every customer was sent")?;
        let mut item = json!({
            "cause": format!("{}/account/{}", mapping.source, account.key), "customer": customer,
            "product": mapping.accounts.product, "currency": plan.currency.alpha(),
            "opened": account.opened.to_string(),
        });
        if account.overdraft > 0 {
            item["floor"] = money(-i128::from(account.overdraft), plan.currency);
        }
        items.push(item);
    }
    all(client, "accounts", "account", items).await
}

/// An amount with its sign, as it travels.
fn money(minor: i128, currency: Currency) -> Value {
    json!({"amount": decimal(minor, currency), "currency": currency.alpha()})
}

/// Minor units as a decimal number without the currency.
fn decimal(minor: i128, currency: Currency) -> String {
    let text = Balance::new(minor, currency).to_string();
    text.split(' ').find(|part| part.ends_with(|c: char| c.is_ascii_digit())).unwrap_or_default().to_owned()
}

/// Sends all items of a kind in order and collects what the bank calls each.
async fn all(client: &Client, kind: &'static str, id: &str, items: Vec<Value>) -> anyhow::Result<Sent> {
    let progress = Progress::new(kind, items.len());
    let mut sent = Sent::default();
    for batch in items.chunks(BATCH) {
        let results = send(client, kind, batch).await?;
        for result in &results {
            let text =
                result[id].as_str().with_context(|| format!("no {id} in the bank's answer {result}"))?;
            sent.ids.push(text.to_owned());
        }
        sent.count(&results);
        progress.add(batch.len());
    }
    Ok(sent)
}

/// One call: the results in order, or the first refusal with its cause.
async fn send(client: &Client, kind: &str, batch: &[Value]) -> anyhow::Result<Vec<Value>> {
    let answer: Value = client
        .post(&format!("/v1/import/{kind}"), &json!({kind: batch}))
        .await
        .with_context(|| format!("the bank refused a batch of {kind}"))?;
    let results =
        answer["results"].as_array().with_context(|| format!("no results in the bank's answer {answer}"))?;
    ensure!(results.len() == batch.len(), "{} results for {} {kind}", results.len(), batch.len());
    for result in results {
        if let Some(problem) = result.get("problem").filter(|problem| !problem.is_null()) {
            bail!("the bank refused {}: {problem}", result["cause"]);
        }
    }
    Ok(results.clone())
}

impl Sent {
    fn count(&mut self, results: &[Value]) {
        for result in results {
            if result["repeated"].as_bool() == Some(true) { self.there += 1 } else { self.made += 1 }
        }
    }
}

/// Sends the transfers: one stream a branch, because an account's own order must hold.
///
/// # Errors
///
/// The first that the bank refuses, with the old core's id.
pub(crate) async fn transfers(
    client: &Client,
    mapping: &Mapping,
    plan: &Plan,
    accounts: &Sent,
) -> anyhow::Result<Sent> {
    let mut by_branch: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for (number, transfers) in accounts.ids.iter().zip(&plan.transfers) {
        let branch = number.get(..4).context("an account number has sixteen digits")?.to_owned();
        let list = by_branch.entry(branch).or_default();
        list.extend(transfers.iter().map(|transfer| body(transfer, number, mapping, plan.currency)));
    }
    let progress = Arc::new(Progress::new("transfers", plan.transfers.iter().map(Vec::len).sum()));
    let mut running: JoinSet<anyhow::Result<Sent>> = JoinSet::new();
    for (_, list) in by_branch {
        let (client, progress) = (client.clone(), Arc::clone(&progress));
        running.spawn(async move {
            let mut sent = Sent::default();
            for batch in list.chunks(BATCH) {
                sent.count(&send(&client, "transfers", batch).await?);
                progress.add(batch.len());
            }
            Ok(sent)
        });
    }
    let mut sent = Sent::default();
    while let Some(done) = running.join_next().await {
        let one = done.context("a task of the import died")??;
        sent.made += one.made;
        sent.there += one.there;
    }
    Ok(sent)
}

fn body(transfer: &Transfer, number: &str, mapping: &Mapping, currency: Currency) -> Value {
    let head = format!("gl:{}", transfer.head);
    let (debit, credit) = if transfer.credit { (head.as_str(), number) } else { (number, head.as_str()) };
    let mut body = json!({
        "cause": format!("{}/transaction/{}", mapping.source, transfer.key),
        "debit": debit, "credit": credit, "code": transfer.code,
        "amount": money(i128::from(transfer.amount), currency),
        "time": instant(transfer.time_us), "business_date": transfer.date.to_string(),
    });
    if !transfer.reference.is_empty() {
        body["reference"] = Value::from(transfer.reference.as_str());
    }
    body
}

/// Microseconds since 1970 as RFC 3339 in UTC.
fn instant(time_us: u64) -> String {
    let (seconds, micros) = (time_us / 1_000_000, time_us % 1_000_000);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z", Date::at(time_us, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_written_as_rfc_3339() {
        assert_eq!(instant(86_400_000_000 + 3_661_000_007), "1970-01-02T01:01:01.000007Z");
    }

    #[test]
    fn money_carries_its_sign() {
        let czk = Currency::from_alpha("CZK").unwrap();
        assert_eq!(money(-1_205, czk), json!({"amount": "-12.05", "currency": "CZK"}));
    }
}
