//! The sample bank: seeded, customers named by number, each with one account and some cash in it.
//!
//! Every call carries a key derived from seed and number, so a second run changes nothing.

use anyhow::Context;
use serde_json::{Value, json};
use skerry_client::Client;
use tokio::task::JoinSet;

use crate::cli::Remote;
use crate::output::print;
use crate::remote::{connect, runtime};

/// What a sample customer got.
#[derive(Debug, Clone)]
pub(crate) struct Opened {
    pub(crate) customer: u32,
    pub(crate) branch: u64,
    pub(crate) number: String,
}

/// Customers opened side by side.
const AT_ONCE: usize = 32;

/// `skerry sample`
pub(crate) fn run(remote: &Remote, customers: u32, seed: u64, json: bool) -> anyhow::Result<()> {
    let client = connect(remote)?;
    let opened = runtime()?.block_on(open(&client, customers, seed))?;
    let list: Vec<Value> = opened
        .iter()
        .map(|one| json!({"customer": one.customer, "branch": one.branch, "number": one.number}))
        .collect();
    print(&Value::Array(list), json)
}

/// Opens customers 1 to `customers`, an account each, and pays cash in. In order of their numbers.
///
/// # Errors
///
/// The first refusal, with the number of its customer.
pub(crate) async fn open(client: &Client, customers: u32, seed: u64) -> anyhow::Result<Vec<Opened>> {
    let mut running = JoinSet::new();
    let mut opened = Vec::new();
    let mut next = 1;
    while next <= customers || !running.is_empty() {
        while next <= customers && running.len() < AT_ONCE {
            let client = client.clone();
            let customer = next;
            running.spawn(async move {
                one(&client, customer, seed)
                    .await
                    .with_context(|| format!("could not open sample customer {customer}"))
            });
            next += 1;
        }
        if let Some(done) = running.join_next().await {
            opened.push(done.context("a task of the sample died")??);
        }
    }
    opened.sort_by_key(|one| one.customer);
    Ok(opened)
}

async fn one(client: &Client, customer: u32, seed: u64) -> anyhow::Result<Opened> {
    let key = format!("sample-{seed}-{customer}");
    let body = json!({
        "name": format!("Customer {customer}"),
        "document": {"kind": "sample", "number": format!("{seed}-{customer}")},
    });
    let made: Value = client.post_keyed("/v1/customers", &key, &body).await?;
    let id = made["id"].as_str().context("the bank gave the customer no id")?;
    let branch = made["branch"].as_u64().context("the bank gave the customer no branch")?;
    let account: Value = client
        .post_keyed(
            &format!("/v1/customers/{id}/accounts"),
            &format!("{key}-account"),
            &json!({"product": "current", "currency": "CNY"}),
        )
        .await?;
    let number = account["number"].as_str().context("the bank gave the account no number")?.to_owned();
    let cash = json!({
        "debit": "gl:1001", "credit": number, "reference": "opening cash",
        "amount": {"amount": amount(customer, seed), "currency": "CNY"},
    });
    let _posted: Value = client.post_keyed("/v1/transfers", &format!("{key}-cash"), &cash).await?;
    Ok(Opened { customer, branch, number })
}

/// Between 1,000.00 and 9,999.99, by seed and number (a step of splitmix64, Steele and others 2014).
fn amount(customer: u32, seed: u64) -> String {
    let mut z = seed.wrapping_add(u64::from(customer).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let fen = 100_000 + (z ^ (z >> 31)) % 900_000;
    format!("{}.{:02}", fen / 100, fen % 100)
}

/// Two sample accounts of one branch: a payment between them needs no other branch.
pub(crate) fn neighbours(opened: &[Opened]) -> Option<(&Opened, &Opened)> {
    let first = opened.first()?;
    let second = opened.iter().skip(1).find(|other| other.branch == first.branch)?;
    Some((first, second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_depend_on_seed_and_number_only() {
        assert_eq!(amount(1, 1), amount(1, 1));
        assert_ne!(amount(1, 1), amount(2, 1));
        assert_ne!(amount(1, 1), amount(1, 2));
    }
}
