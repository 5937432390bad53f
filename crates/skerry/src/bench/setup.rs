//! Before the load: customers with an account each, and money in all of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde::Deserialize;
use serde_json::{Value, json};
use skerry_client::packed::{MEDIA_TYPE, RESULT_BYTES, account_reference};

use super::bank::Bank;
use super::batch::{Field, fill_funding, put_uuid};
use super::lane::Lane;
use super::load::problem_text;
use super::picks::{Picks, Skew};
use super::random::{Random, now_millis};

/// A busy bank is asked again so often,
const AGAIN_MAX: u32 = 4_000;
/// and after so long.
const AGAIN_AFTER: Duration = Duration::from_millis(5);
/// Connections that open accounts side by side; the bank works on many items of each call at once.
const LANES: u64 = 8;
/// Accounts opened in one call.
const CHUNK: u32 = 500;
/// Fen in each account: more than any load can spend.
const FUNDS: u64 = 1_000_000_000_000;
/// The head *cash*.
const CASH: u64 = 1001;
/// The renminbi's ISO 4217 number.
const CNY: u64 = 156;
/// Transfers in a funding batch.
const FUNDING_BATCH: usize = 8_000;

/// What the accounts are for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) accounts: u32,
    /// Accounts of each customer; a day's idempotency keys are bounded, and each customer needs one of them.
    pub(super) accounts_per_customer: u32,
    pub(super) skew: Skew,
    /// Share of transfers that hold first.
    pub(super) pending: f64,
    /// Share of payments to another branch.
    pub(super) crossing: f64,
    /// Whether transfers have references and value dates.
    pub(super) dressed: bool,
    pub(super) seed: u64,
}

impl Wanted {
    /// As many customers, who all pay alike and within their branch.
    pub(super) const fn plain(accounts: u32, seed: u64) -> Self {
        let (skew, pending, crossing, dressed) = (Skew::Uniform, 0.0, 0.0, false);
        Self { accounts, accounts_per_customer: 1, skew, pending, crossing, dressed, seed }
    }
}

/// The answer to an import, as far as it is needed here.
#[derive(Debug, Deserialize)]
struct Imported {
    results: Vec<Item>,
}

#[derive(Debug, Deserialize)]
struct Item {
    #[serde(default)]
    customer: Option<String>,
    #[serde(default)]
    account: Option<String>,
    #[serde(default)]
    problem: Option<Value>,
}

/// Opens the accounts, in whatever branches the bank assigns, and funds them. One field a branch.
///
/// # Errors
///
/// The first call that the bank refused.
pub(super) async fn open_accounts(bank: &Bank, wanted: Wanted) -> anyhow::Result<Vec<Arc<Field>>> {
    let started = Instant::now();
    let run = Random::new(wanted.seed ^ now_millis()).next();
    let next = Arc::new(AtomicU32::new(0));
    let mut running = tokio::task::JoinSet::new();
    for number in 0..LANES {
        let opener = Opener {
            lane: Lane::open(&bank.authority).await?,
            authority: bank.authority.clone(),
            token: bank.token.clone(),
            run,
            random: Random::new(run ^ number),
            request: Vec::new(),
        };
        running.spawn(opener.run(Arc::clone(&next), wanted));
    }
    let mut numbers = Vec::with_capacity(wanted.accounts as usize);
    while let Some(done) = running.join_next().await {
        numbers.extend(done.context("a lane that opens accounts died")??);
    }
    let fields = fields(numbers, wanted)?;
    fund(bank, &fields, wanted.seed).await?;
    eprintln!("opened and funded {} accounts in {:.1} s", wanted.accounts, started.elapsed().as_secs_f64());
    Ok(fields)
}

fn fields(numbers: Vec<String>, wanted: Wanted) -> anyhow::Result<Vec<Arc<Field>>> {
    let mut branches: BTreeMap<u16, Vec<(u64, [u8; 16])>> = BTreeMap::new();
    for number in numbers {
        let reference = account_reference(&number);
        let reference = reference.with_context(|| format!("the bank's account number {number:?} is none"))?;
        let digits: [u8; 16] = number.as_bytes().try_into().context("an account number has 16 digits")?;
        branches.entry((reference >> 48) as u16).or_default().push((reference, digits));
    }
    ensure!(wanted.crossing == 0.0 || branches.len() > 1, "payments cross between two branches or more");
    branches.values_mut().for_each(|accounts| accounts.sort_unstable());
    let mut random = Random::new(wanted.seed);
    let mut fields = Vec::new();
    for (branch, accounts) in &branches {
        let others = branches.iter().filter(|(other, _)| wanted.crossing > 0.0 && *other != branch);
        let abroad: Vec<_> = others.flat_map(|(_, accounts)| accounts).copied().collect();
        let count = u32::try_from(accounts.len()).context("too many accounts")?;
        fields.push(Arc::new(Field {
            branch: *branch,
            picks: Picks::new(count, wanted.skew, &mut random)?,
            references: accounts.iter().map(|(reference, _)| *reference).collect(),
            numbers: accounts.iter().map(|(_, digits)| *digits).collect(),
            pending: (wanted.pending * 4_294_967_296.0) as u32,
            crossing: (wanted.crossing * 4_294_967_296.0) as u64,
            abroad: Arc::new(abroad),
            dressed: wanted.dressed,
        }));
    }
    Ok(fields)
}

/// Opens customers and their accounts over one connection.
struct Opener {
    lane: Lane,
    authority: String,
    token: String,
    /// Tells this run's customers from those of others.
    run: u64,
    random: Random,
    request: Vec<u8>,
}

impl Opener {
    async fn run(mut self, next: Arc<AtomicU32>, wanted: Wanted) -> anyhow::Result<Vec<String>> {
        let mut numbers = Vec::new();
        loop {
            let first = next.fetch_add(CHUNK, Ordering::Relaxed);
            if first >= wanted.accounts {
                return Ok(numbers);
            }
            let count = CHUNK.min(wanted.accounts - first);
            let customers = self.customers(first, count.div_ceil(wanted.accounts_per_customer)).await?;
            let owner = |number: u32| &customers[(number / wanted.accounts_per_customer) as usize];
            let accounts: Vec<Value> = (0..count)
                .map(|number| {
                    let cause = format!("bench/{:x}/account/{}", self.run, first + number);
                    json!({"cause": cause, "customer": owner(number), "product": "current", "currency": "CNY"})
                })
                .collect();
            let opened = self.import("accounts", accounts).await?;
            let opened =
                opened.into_iter().map(|item| item.account.context("an imported account has no number"));
            for number in opened {
                numbers.push(number?);
            }
        }
    }

    async fn customers(&mut self, first: u32, count: u32) -> anyhow::Result<Vec<String>> {
        let customers = (first..first + count).map(|number| {
            let name = format!("Customer {}", number + 1);
            let document = format!("{:x}{number:08}", self.run);
            let cause = format!("bench/{:x}/customer/{number}", self.run);
            json!({"cause": cause, "name": name, "document": {"kind": "bench", "number": document}})
        });
        let opened = self.import("customers", customers.collect()).await?;
        opened.into_iter().map(|item| item.customer.context("an imported customer has no number")).collect()
    }

    /// Imports `items`, all of which must be taken; what cannot be just now is sent again, under the same cause.
    async fn import(&mut self, what: &str, items: Vec<Value>) -> anyhow::Result<Vec<Item>> {
        let (path, body) = (format!("/v1/import/{what}"), json!({ what: items }).to_string());
        for _ in 0..AGAIN_MAX {
            let done: Imported = self.post(&path, &body).await?;
            let Some(problem) = done.results.iter().find_map(|item| item.problem.as_ref()) else {
                return Ok(done.results);
            };
            let later = [429, 503].iter().any(|status| problem["status"] == *status);
            ensure!(later, "the bank refused one of the {what}: {problem}");
            tokio::time::sleep(AGAIN_AFTER).await;
        }
        anyhow::bail!("the bank stayed busy at POST {path}")
    }

    async fn post<T: serde::de::DeserializeOwned>(&mut self, path: &str, body: &str) -> anyhow::Result<T> {
        let mut key = Vec::with_capacity(36);
        put_uuid(&mut key, self.random.uuid7(now_millis()));
        self.request.clear();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
             idempotency-key: {}\r\ncontent-length: {}\r\n\r\n",
            self.authority,
            self.token,
            String::from_utf8_lossy(&key),
            body.len()
        );
        self.request.extend_from_slice(head.as_bytes());
        for _ in 0..AGAIN_MAX {
            let answer = self.lane.exchange(&self.request, body.as_bytes()).await?;
            match answer.status {
                200 | 201 => {
                    return serde_json::from_slice(answer.body)
                        .with_context(|| format!("could not read the answer to POST {path}"));
                }
                429 | 503 => tokio::time::sleep(AGAIN_AFTER).await,
                _ => anyhow::bail!("the bank refused POST {path}: {}", problem_text(&answer)),
            }
        }
        anyhow::bail!("the bank stayed busy at POST {path}")
    }
}

/// Pays cash into every account.
async fn fund(bank: &Bank, fields: &[Arc<Field>], seed: u64) -> anyhow::Result<()> {
    let mut lane = Lane::open(&bank.authority).await?;
    let mut random = Random::new(seed ^ 0xf00d ^ now_millis());
    let mut body = Vec::new();
    for field in fields {
        let cash = u64::from(field.branch) << 48 | 1 << 40 | CASH << 16 | CNY;
        for credits in field.references.chunks(FUNDING_BATCH) {
            fill_funding(&mut random, cash, credits, FUNDS, &mut body);
            let head = format!(
                "POST /v1/transfers/batch HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\n\
                 content-type: {MEDIA_TYPE}\r\ncontent-length: {}\r\n\r\n",
                bank.authority,
                bank.token,
                body.len()
            );
            let answer = lane.exchange(head.as_bytes(), &body).await?;
            ensure!(answer.status == 200, "the bank refused the funding: {}", problem_text(&answer));
            let refused = answer.body.chunks(RESULT_BYTES).find(|result| result[..2] != [0, 0]);
            if let Some(result) = refused {
                let code = u16::from_le_bytes([result[0], result[1]]);
                anyhow::bail!("the bank refused to fund an account of branch {}: {code}", field.branch);
            }
        }
    }
    Ok(())
}

/// Checks that in every branch today's debits equal its credits and the closing balances sum to zero.
///
/// # Errors
///
/// The branch and currency that do not balance, or a trial balance that cannot be read.
pub(super) fn check_trial_balance(answer: &Value) -> anyhow::Result<()> {
    let totals = answer["totals"].as_array().context("the trial balance has no totals")?;
    ensure!(!totals.is_empty(), "the trial balance is empty after a load");
    for total in totals {
        let figure =
            |name: &str| total[name]["amount"].as_str().context("a total of the trial balance is no amount");
        let closing = figure("closing")?;
        let balanced =
            figure("debits")? == figure("credits")? && closing.chars().all(|c| matches!(c, '0' | '.' | '-'));
        ensure!(balanced, "branch {} does not balance in {}: {total}", total["branch"], total["currency"]);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_sorted_into_their_branches() {
        let number = |branch: u64, serial: u64| {
            let digits = branch * 10_000_000_000 + serial;
            format!("{digits:014}{:02}", 98 - digits * 100 % 97)
        };
        let numbers = vec![number(2, 1), number(1, 2), number(1, 1), number(2, 5)];
        let wanted = Wanted { pending: 0.5, crossing: 0.25, ..Wanted::plain(4, 1) };
        let fields = fields(numbers.clone(), wanted).unwrap();
        assert_eq!(fields.iter().map(|field| field.branch).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(fields[0].references, [1 << 48 | 1, 1 << 48 | 2]);
        assert_eq!(fields[1].numbers[1].as_slice(), numbers[3].as_bytes());
        assert_eq!(fields[0].pending, 1 << 31);
        assert_eq!((fields[0].crossing, fields[1].abroad[1].0), (1 << 30, 1 << 48 | 2));
        assert!(super::fields(vec!["12".to_owned()], wanted).is_err());
    }

    #[test]
    fn a_trial_balance_must_be_zero_everywhere() {
        let total = |debits: &str, credits: &str, closing: &str| {
            let money = |amount: &str| json!({"amount": amount, "currency": "CNY"});
            json!({"branch": 1, "currency": "CNY",
                   "debits": money(debits), "credits": money(credits), "closing": money(closing)})
        };
        check_trial_balance(&json!({"totals": [total("3.00", "3.00", "0.00")]})).unwrap();
        for wrong in [
            json!({"totals": []}),
            json!({}),
            json!({"totals": [total("3.00", "3.00", "0.00"), total("3.00", "3.01", "0.00")]}),
            json!({"totals": [total("3.00", "3.00", "0.01")]}),
        ] {
            assert!(check_trial_balance(&wrong).is_err(), "{wrong}");
        }
    }
}
