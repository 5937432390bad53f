//! The load itself: lanes that each hold one connection and keep one request in flight.
//!
//! Without a rate a lane sends its next request when the last is answered. With one, requests are due at fixed
//! times and a latency counts from then, so that a stall is felt by all that waited (no coordinated omission).

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde::Deserialize;
use skerry_client::packed::{MEDIA_TYPE, RESULT_BYTES, TRANSFER_BYTES};

use super::bank::Bank;
use super::batch::{Field, Generator};
use super::lane::{Answer, Lane};
use super::random::now_millis;
use super::stats::Latencies;

/// How long a lane goes on asking a bank that says it is busy.
const BUSY_MAX: Duration = Duration::from_secs(60);
/// The pause before asking again when the bank names none.
const BUSY_PAUSE_MS: u64 = 5;
/// The result of a payment that was debited and is on its way to another branch.
const SENT: u16 = 1;
/// The result of one that found too many others on their way: it is asked again.
const CHANNEL_BUSY: u16 = 4012;

/// How transfers travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Mode {
    /// Batches of fixed-size records
    Packed,
    /// One JSON request a transfer
    Single,
}

impl Mode {
    /// Its name in options and results.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Packed => "packed",
            Self::Single => "single",
        }
    }
}

/// What to send, where and how.
#[derive(Debug)]
pub(super) struct Plan {
    /// `host:port`.
    pub(super) authority: String,
    pub(super) token: String,
    pub(super) mode: Mode,
    pub(super) batch: usize,
    pub(super) connections: usize,
    pub(super) transfers: u64,
    /// Requests a second over all lanes.
    pub(super) rate: Option<f64>,
    pub(super) seed: u64,
    pub(super) fields: Vec<Arc<Field>>,
    /// Set by another thread to end a load before its last transfer.
    pub(super) halt: Option<Arc<AtomicBool>>,
}

/// Transfers in a packed batch, unless somebody says otherwise: as many as TigerBeetle takes at once.
const BATCH: usize = 8_189;

impl Plan {
    /// Packed batches over four connections to `bank`, as fast as it takes them and without an end. The same `seed` chooses others the
    /// next time.
    pub(super) fn of(bank: &Bank, fields: Vec<Arc<Field>>, seed: u64) -> Self {
        Self {
            authority: bank.authority.clone(),
            token: bank.token.clone(),
            mode: Mode::Packed,
            batch: BATCH,
            connections: 4,
            transfers: u64::MAX / 2,
            rate: None,
            seed: seed ^ now_millis() << 16,
            fields,
            halt: None,
        }
    }
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) asked: u64,
    pub(super) accepted: u64,
    pub(super) requests: u64,
    /// Answers that asked to try again.
    pub(super) busy: u64,
    /// Refusals by number.
    pub(super) refused: BTreeMap<u16, u64>,
    pub(super) elapsed: Duration,
    pub(super) latencies: Latencies,
    /// References of some of the transfers, if they have any.
    pub(super) remembered: Vec<String>,
}

impl Loaded {
    /// # Errors
    ///
    /// A transfer was refused: how many, and by which numbers.
    pub(super) fn check_all_accepted(&self) -> anyhow::Result<()> {
        let Self { accepted, asked, refused, .. } = self;
        ensure!(accepted == asked, "the bank accepted {accepted} of {asked} transfers: {refused:?}");
        Ok(())
    }
}

/// A load on a thread of its own, so that making it does not delay what is measured beside it.
#[derive(Debug)]
pub(super) struct Background {
    halt: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<anyhow::Result<Loaded>>,
}

impl Background {
    /// Begins with `plan`, which ends when it is told to.
    pub(super) fn start(plan: Plan) -> Self {
        let halt = Arc::new(AtomicBool::new(false));
        let plan = Plan { halt: Some(Arc::clone(&halt)), ..plan };
        Self { halt, thread: std::thread::spawn(move || super::runtime()?.block_on(load(plan))) }
    }

    /// Ends it.
    ///
    /// # Errors
    ///
    /// As [`load`].
    pub(super) fn finish(self) -> anyhow::Result<Loaded> {
        self.halt.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow::anyhow!("the load panicked"))?
    }
}

/// Where all lanes take their next request.
#[derive(Debug)]
struct Shared {
    plan: Plan,
    taken: AtomicU64,
    started: Instant,
}

impl Shared {
    fn is_halted(&self) -> bool {
        self.plan.halt.as_ref().is_some_and(|halt| halt.load(Ordering::Relaxed))
    }
}

/// Sends the whole plan.
///
/// # Errors
///
/// The first lane that broke: a connection torn, an answer that is none, a bank that stayed busy.
pub(super) async fn load(plan: Plan) -> anyhow::Result<Loaded> {
    let connections = plan.connections;
    let mut lanes = Vec::with_capacity(connections);
    for _ in 0..connections {
        lanes.push(Lane::open(&plan.authority).await?);
    }
    let shared = Arc::new(Shared { plan, taken: AtomicU64::new(0), started: Instant::now() });
    let mut running = tokio::task::JoinSet::new();
    for (number, lane) in lanes.into_iter().enumerate() {
        running.spawn(Driver::new(Arc::clone(&shared), lane, number).run());
    }
    let talk = tokio::spawn(talk(Arc::clone(&shared)));
    let mut all = Loaded::nothing();
    while let Some(done) = running.join_next().await {
        all.add(&done.context("a lane of the load died")??);
    }
    all.elapsed = shared.started.elapsed();
    talk.abort();
    Ok(all)
}

/// Says how far the load is, on stderr, if somebody is there to see it.
async fn talk(shared: Arc<Shared>) {
    use std::io::IsTerminal;
    let mut stderr = std::io::stderr();
    if !stderr.is_terminal() || shared.plan.halt.is_some() {
        return;
    }
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let taken = shared.taken.load(Ordering::Relaxed).min(shared.plan.transfers);
        // Talk that nobody can hear is no fault.
        let _heard = write!(stderr, "\r{taken} of {} transfers \r", shared.plan.transfers);
    }
}

impl Loaded {
    fn nothing() -> Self {
        Self {
            asked: 0,
            accepted: 0,
            requests: 0,
            busy: 0,
            refused: BTreeMap::new(),
            elapsed: Duration::ZERO,
            latencies: Latencies::new(),
            remembered: Vec::new(),
        }
    }

    fn add(&mut self, other: &Self) {
        self.asked += other.asked;
        self.accepted += other.accepted;
        self.requests += other.requests;
        self.busy += other.busy;
        for (code, count) in &other.refused {
            *self.refused.entry(*code).or_default() += count;
        }
        self.latencies.add(&other.latencies);
        self.remembered.extend_from_slice(&other.remembered);
    }

    fn count(&mut self, code: u16) {
        if code == 0 || code == SENT {
            self.accepted += 1;
        } else {
            *self.refused.entry(code).or_default() += 1;
        }
    }
}

/// One lane at work.
struct Driver {
    shared: Arc<Shared>,
    lane: Lane,
    generator: Generator,
    head: Vec<u8>,
    head_for: usize,
    body: Vec<u8>,
    loaded: Loaded,
}

impl Driver {
    fn new(shared: Arc<Shared>, lane: Lane, number: usize) -> Self {
        let field = Arc::clone(&shared.plan.fields[number % shared.plan.fields.len()]);
        let generator = Generator::new(field, shared.plan.seed ^ ((number as u64 + 1) << 32));
        let loaded = Loaded::nothing();
        Self { shared, lane, generator, head: Vec::new(), head_for: usize::MAX, body: Vec::new(), loaded }
    }

    async fn run(mut self) -> anyhow::Result<Loaded> {
        let most = if self.shared.plan.mode == Mode::Packed { self.shared.plan.batch as u64 } else { 1 };
        loop {
            let from = self.shared.taken.fetch_add(most, Ordering::Relaxed);
            let left = self.shared.plan.transfers.saturating_sub(from);
            if left == 0 || self.shared.is_halted() {
                self.loaded.remembered = self.generator.remembered;
                return Ok(self.loaded);
            }
            let due = self.due(from / most).await;
            let count = usize::try_from(left.min(most)).unwrap_or(usize::MAX);
            self.fill(count);
            self.ask(count, due.unwrap_or_else(Instant::now)).await?;
        }
    }

    /// Waits until request `index` is due; `None` if requests follow each other without pause.
    async fn due(&self, index: u64) -> Option<Instant> {
        let rate = self.shared.plan.rate?;
        let due = self.shared.started + Duration::from_secs_f64(index as f64 / rate);
        tokio::time::sleep_until(due.into()).await;
        Some(due)
    }

    fn fill(&mut self, count: usize) {
        let plan = &self.shared.plan;
        let (path, media) = match plan.mode {
            Mode::Packed => {
                self.generator.fill_packed(count, now_millis(), &mut self.body);
                ("/v1/transfers/batch", MEDIA_TYPE)
            }
            Mode::Single => {
                self.generator.fill_json(now_millis(), &mut self.body);
                ("/v1/transfers", "application/json")
            }
        };
        if self.head_for != self.body.len() {
            self.head_for = self.body.len();
            put_head(&mut self.head, path, plan, media, self.body.len());
        }
    }

    async fn ask(&mut self, mut count: usize, since: Instant) -> anyhow::Result<()> {
        let last = loop {
            let answer = self.lane.exchange(&self.head, &self.body).await?;
            if !matches!(answer.status, 429 | 503) {
                self.loaded.latencies.record(since.elapsed());
                self.loaded.requests += 1;
                let busy = match self.shared.plan.mode {
                    Mode::Packed => count_packed(&mut self.loaded, &answer, count)?,
                    Mode::Single => count_single(&mut self.loaded, &answer)?,
                };
                self.loaded.asked += (count - busy.len()) as u64;
                if busy.is_empty() {
                    return Ok(());
                }
                self.loaded.busy += 1;
                count = busy.len();
                self.keep(&busy);
                ensure!(since.elapsed() < BUSY_MAX, "a channel stayed full for {} s", BUSY_MAX.as_secs());
                tokio::time::sleep(Duration::from_millis(BUSY_PAUSE_MS)).await;
                continue;
            }
            self.loaded.busy += 1;
            let problem: Option<Problem> = serde_json::from_slice(answer.body).ok();
            let pause =
                problem.and_then(|problem| problem.retry_after_ms).unwrap_or(BUSY_PAUSE_MS).clamp(1, 1_000);
            if since.elapsed() > BUSY_MAX {
                break String::from_utf8_lossy(answer.body).into_owned();
            }
            tokio::time::sleep(Duration::from_millis(pause)).await;
        };
        anyhow::bail!("branch {} stayed busy for {} s: {last}", self.generator.branch(), BUSY_MAX.as_secs())
    }
}

impl Driver {
    /// Leaves of the body only the transfers of these indexes, to be sent again under the same ids.
    fn keep(&mut self, indexes: &[usize]) {
        if self.shared.plan.mode == Mode::Single {
            return;
        }
        for (to, from) in indexes.iter().enumerate() {
            self.body.copy_within(from * TRANSFER_BYTES..(from + 1) * TRANSFER_BYTES, to * TRANSFER_BYTES);
        }
        self.body.truncate(indexes.len() * TRANSFER_BYTES);
        self.head_for = self.body.len();
        put_head(&mut self.head, "/v1/transfers/batch", &self.shared.plan, MEDIA_TYPE, self.body.len());
    }
}

/// Lays the head of a `POST`.
pub(super) fn put_head(out: &mut Vec<u8>, path: &str, plan: &Plan, media: &str, length: usize) {
    out.clear();
    write!(
        out,
        "POST {path} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\ncontent-type: {media}\r\n\
         content-length: {length}\r\n\r\n",
        plan.authority, plan.token
    )
    .expect("memory can be written to");
}

/// Counts the results. Returns the indexes of those to be asked again.
fn count_packed(loaded: &mut Loaded, answer: &Answer<'_>, count: usize) -> anyhow::Result<Vec<usize>> {
    ensure!(answer.status == 200, "the bank refused a packed batch: {}", problem_text(answer));
    let (results, rest) = answer.body.as_chunks::<RESULT_BYTES>();
    ensure!(
        rest.is_empty() && results.len() == count,
        "the bank answered {} of {count} transfers",
        results.len()
    );
    let mut busy = Vec::new();
    for (index, result) in results.iter().enumerate() {
        match u16::from_le_bytes([result[0], result[1]]) {
            CHANNEL_BUSY => busy.push(index),
            code => loaded.count(code),
        }
    }
    Ok(busy)
}

/// What the load needs of a problem document.
#[derive(Deserialize)]
struct Problem {
    number: u16,
    #[serde(default)]
    retry_after_ms: Option<u64>,
}

fn count_single(loaded: &mut Loaded, answer: &Answer<'_>) -> anyhow::Result<Vec<usize>> {
    if matches!(answer.status, 200..=202) {
        loaded.count(0);
        return Ok(Vec::new());
    }
    let problem: Problem = serde_json::from_slice(answer.body)
        .with_context(|| format!("the bank answered a transfer with {}", problem_text(answer)))?;
    if problem.number == CHANNEL_BUSY {
        return Ok(vec![0]);
    }
    loaded.count(problem.number);
    Ok(Vec::new())
}

/// Status and the beginning of the body, for an error.
pub(super) fn problem_text(answer: &Answer<'_>) -> String {
    let body: String = String::from_utf8_lossy(answer.body).chars().take(400).collect();
    format!("{} {body}", answer.status)
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
