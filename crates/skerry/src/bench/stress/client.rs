//! One client: asks, and asks again under the same id as long as it is told to, and remembers what it was told.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use skerry_client::wire::{Document, Money, NewAccount, NewCustomer, Transfer};
use skerry_client::{EntryFilter, Error, uuid_text};

use super::super::random::{Random, now_millis};
use super::{FUNDS, Field, Kind, Known};

/// How long a client goes on trying.
const PATIENCE: Duration = Duration::from_secs(120);
/// Its pauses: the first, and the longest.
const PAUSES_MS: (u64, u64) = (10, 500);
/// Lines of a statement that it looks at.
const LINES: usize = 20;
/// One payment in so many asks for more than anybody has.
const GREEDY: u32 = 100;

/// A payment whose fate the client knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Paid {
    /// What the statements know it by.
    pub(super) reference: String,
    pub(super) debit: String,
    pub(super) credit: String,
    /// In fen.
    pub(super) amount: u64,
    /// Or refused by a rule of the ledger.
    pub(super) accepted: bool,
}

/// A client at work.
pub(super) struct Worker {
    field: Arc<Field>,
    number: u64,
    random: Random,
    sent: u64,
    paid: Vec<Paid>,
}

/// Fen as the wire has them.
pub(super) fn yuan(fen: u64) -> Money {
    Money::new(&format!("{}.{:02}", fen / 100, fen % 100), "CNY")
}

/// Fen of the wire's amount.
pub(super) fn fen(money: &Money) -> anyhow::Result<i128> {
    let digits: String = money.amount.chars().filter(|letter| *letter != '.').collect();
    digits.parse().with_context(|| format!("{:?} is no amount in fen", money.amount))
}

impl Worker {
    pub(super) fn all(field: &Arc<Field>, count: u16, seed: u64) -> Vec<Self> {
        let worker = |number: u16| Self {
            field: Arc::clone(field),
            number: u64::from(number),
            random: Random::new(field.run ^ seed ^ (u64::from(number) << 40)),
            sent: 0,
            paid: Vec::new(),
        };
        (0..count).map(worker).collect()
    }

    /// Works until the time is over. What it was told.
    ///
    /// # Errors
    ///
    /// An answer that a client who follows the rules must never see.
    pub(super) async fn run(mut self) -> anyhow::Result<Vec<Paid>> {
        while !self.field.is_over() {
            let kind = match self.random.below(100) {
                0..80 => Kind::Payment,
                80..95 => Kind::Statement,
                _ => Kind::Opening,
            };
            let began = Instant::now();
            match kind {
                Kind::Payment => self.pay().await?,
                Kind::Statement => self.look().await?,
                Kind::Opening => self.open().await?,
            }
            self.field.done(kind, began);
        }
        Ok(self.paid)
    }

    /// An account that is `wanted`, if there is one.
    fn pick(&mut self, wanted: impl Fn(&Known) -> bool) -> Option<Known> {
        let accounts = self.field.accounts.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let count = u32::try_from(accounts.len()).ok()?;
        let from = self.random.below(count) as usize;
        accounts[from..].iter().chain(&accounts[..from]).find(|known| wanted(known)).cloned()
    }

    async fn pay(&mut self) -> anyhow::Result<()> {
        let payer = self.pick(|_| true).context("there is no account")?;
        let crosses = (self.random.next() & 0xffff_ffff) < self.field.crossing;
        let payee =
            self.pick(|known| known.number != payer.number && (known.branch != payer.branch) == crosses);
        let Some(payee) = payee.or_else(|| self.pick(|known| known.number != payer.number)) else {
            return Ok(());
        };
        let greedy = self.random.below(GREEDY) == 0;
        let amount = if greedy { FUNDS * 100_000 } else { 1 + u64::from(self.random.below(500)) };
        let accepted = self.move_money(Kind::Payment, &payer.number, &payee.number, amount).await?;
        self.field.told_by(payer.branch);
        ensure!(
            accepted != greedy,
            "{amount} fen were to be {}",
            if greedy { "refused" } else { "accepted" }
        );
        Ok(())
    }

    /// Moves `amount` fen; whether it was accepted.
    async fn move_money(
        &mut self,
        kind: Kind,
        debit: &str,
        credit: &str,
        amount: u64,
    ) -> anyhow::Result<bool> {
        let reference = format!("{:04x}{:012x}", self.number, self.sent);
        self.sent += 1;
        let transfer = Transfer {
            id: uuid_text(self.random.uuid7(now_millis())),
            debit: Some(debit.to_owned()),
            credit: Some(credit.to_owned()),
            amount: Some(yuan(amount)),
            reference: Some(reference.clone()),
            ..Transfer::default()
        };
        let client = self.field.client.clone();
        let told = self.insist(kind, async || client.transfer(&transfer).await).await?;
        let accepted = match told {
            Ok(_) => true,
            Err(code) if code == "insufficient_funds" => false,
            Err(code) => bail!("the bank refused payment {}: {code}", transfer.id),
        };
        let (debit, credit) = (debit.to_owned(), credit.to_owned());
        self.paid.push(Paid { reference, debit, credit, amount, accepted });
        Ok(accepted)
    }

    /// Reads the newest lines of a statement, which must add up.
    async fn look(&mut self) -> anyhow::Result<()> {
        let known = self.pick(|_| true).context("there is no account")?;
        let filter = EntryFilter { limit: Some(LINES), ..EntryFilter::default() };
        let client = self.field.client.clone();
        let page =
            self.insist(Kind::Statement, async || client.entries(&known.number, &filter).await).await?;
        let page = page.map_err(|code| anyhow::anyhow!("no statement of {}: {code}", known.number))?;
        for two in page.entries.windows(2) {
            let [later, earlier] = two else { continue };
            let (Some(after), Some(before)) = (&later.balance, &earlier.balance) else { continue };
            let moved = fen(&later.amount)?;
            let moved = if later.side.as_deref() == Some("debit") { -moved } else { moved };
            ensure!(
                fen(after)? == fen(before)? + moved,
                "the statement of {} does not add up at {}: {after:?} after {before:?}",
                known.number,
                later.id
            );
        }
        Ok(())
    }

    /// Opens a customer with an account and money in it.
    async fn open(&mut self) -> anyhow::Result<()> {
        let serial = self.sent;
        // Of a fixed width: separators do not tell two documents apart.
        let document = format!("{:016x}{:04x}{serial:012x}", self.field.run, self.number);
        let new = NewCustomer {
            name: format!("Customer {}-{serial}", self.number),
            document: Document { kind: "bench".to_owned(), number: document.clone() },
            contacts: std::collections::BTreeMap::new(),
            branch: None,
        };
        let client = self.field.client.clone();
        let customer =
            self.insist(Kind::Opening, async || client.create_customer(&new, &document).await).await?;
        let customer = customer.map_err(|code| anyhow::anyhow!("no customer was opened: {code}"))?;
        let account = NewAccount { product: "current".to_owned(), currency: "CNY".to_owned(), floor: None };
        let key = format!("{document}-account");
        let opened = self
            .insist(Kind::Opening, async || client.open_account(&customer.id, &account, &key).await)
            .await?;
        let opened = opened.map_err(|code| anyhow::anyhow!("no account was opened: {code}"))?;
        ensure!(
            self.move_money(Kind::Opening, "gl:1001", &opened.number, FUNDS * 100).await?,
            "cash has no end"
        );
        let known = Known { number: opened.number, branch: customer.branch };
        self.field.accounts.write().unwrap_or_else(std::sync::PoisonError::into_inner).push(known);
        Ok(())
    }

    /// Asks until there is an answer: the bank's yes, or the code of its no.
    async fn insist<T>(
        &mut self,
        kind: Kind,
        ask: impl AsyncFn() -> Result<T, Error>,
    ) -> anyhow::Result<Result<T, String>> {
        let (began, mut pause) = (Instant::now(), PAUSES_MS.0);
        loop {
            let error = match ask().await {
                Ok(answer) => return Ok(Ok(answer)),
                Err(error) => error,
            };
            match error {
                again if again.may_retry() => {
                    self.field.tries_again(kind, &again);
                    ensure!(began.elapsed() < PATIENCE, "told to try again for {PATIENCE:?}, last: {again}");
                }
                Error::Problem(problem) => return Ok(Err(problem.code)),
                other => return Err(other).context("not an answer that a client should see"),
            }
            tokio::time::sleep(Duration::from_millis(pause + u64::from(self.random.below(10)))).await;
            pause = (pause * 2).min(PAUSES_MS.1);
        }
    }
}

/// Opens `count` customers or a few more, before anything is measured, and gives the clients back.
///
/// # Errors
///
/// As any client's.
pub(super) async fn open_all(workers: Vec<Worker>, count: u32) -> anyhow::Result<Vec<Worker>> {
    let each = (count as usize).div_ceil(workers.len().max(1));
    let mut opening = tokio::task::JoinSet::new();
    for mut worker in workers {
        opening.spawn_local(async move {
            for _ in 0..each {
                worker.open().await?;
            }
            anyhow::Ok(worker)
        });
    }
    let mut ready = Vec::new();
    while let Some(opened) = opening.join_next().await {
        ready.push(opened.context("a client died")??);
    }
    Ok(ready)
}
