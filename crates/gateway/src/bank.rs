//! The branches behind the gateway: asking one, asking all, and what their words become.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use skerry_book::Rejection;
use skerry_branch::api::{
    Actor, Answer, Body, BusyReason, Cause, Denied, GatewayKey, Malformed, Read, Reply, Request, Scope,
};
use skerry_money::{Currency, Date};
use tokio::sync::{Semaphore, oneshot};

use crate::auth::Caller;
use crate::catalogue;
use crate::detail::{Detail, said};
use crate::events::News;
use crate::known::Known;
use crate::problem::Problem;
use crate::text;
use crate::traces::{self, Kind};
use crate::wire::scalars::decimal;
use skerry_node::seat::{Seat, Trouble};

/// Queries over history that run at once: each may hold a page and wait for the disk.
const QUERIES_MAX: usize = 32;

/// Longer than the branch's deadline, so that its own word comes first.
const GRACE: Duration = Duration::from_secs(5);

/// The branches, by number.
pub struct Bank {
    seats: RwLock<Arc<BTreeMap<u16, Arc<dyn Seat>>>>,
    key: GatewayKey,
    within: Duration,
    queries: Semaphore,
    in_place: AtomicUsize,
    /// That more has become durable somewhere.
    pub(crate) news: Arc<News>,
    /// What never changes about accounts, as the branches said it.
    pub(crate) known: Known,
}

impl std::fmt::Debug for Bank {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Bank").field("branches", &self.seats().len()).finish_non_exhaustive()
    }
}

impl Bank {
    /// A bank of these branches, asked under `key`, each request answered `within`.
    #[must_use]
    pub fn new(seats: Vec<Arc<dyn Seat>>, key: GatewayKey, within: Duration) -> Self {
        let seats: BTreeMap<_, _> = seats.into_iter().map(|seat| (seat.number(), seat)).collect();
        let news = Arc::new(News::default());
        seats.values().for_each(|seat| seat.watch(news.watcher()));
        Self {
            seats: RwLock::new(Arc::new(seats)),
            key,
            within,
            queries: Semaphore::new(QUERIES_MAX),
            in_place: AtomicUsize::new(0),
            news,
            known: Known::default(),
        }
    }

    /// Adds a branch, or replaces the one with its number.
    pub fn add(&self, seat: Arc<dyn Seat>) {
        let mut seats = self.seats.write().unwrap_or_else(PoisonError::into_inner);
        let mut next = BTreeMap::clone(&seats);
        let branch = seat.number();
        seat.watch(self.news.watcher());
        next.insert(branch, seat);
        *seats = Arc::new(next);
        self.known.forget(branch);
    }

    /// All branches.
    #[must_use]
    pub fn seats(&self) -> Arc<BTreeMap<u16, Arc<dyn Seat>>> {
        Arc::clone(&self.seats.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The branch with this number.
    ///
    /// # Errors
    ///
    /// `branch_not_found`.
    pub fn seat(&self, branch: u16) -> Result<Arc<dyn Seat>, Problem> {
        let seats = self.seats.read().unwrap_or_else(PoisonError::into_inner);
        seats.get(&branch).cloned().ok_or_else(|| {
            let detail = said!("this bank has no branch {branch}", "本行没有分行 {branch}");
            Problem::numbered(catalogue::BRANCH_NOT_FOUND).field("branch").detail(detail)
        })
    }

    /// Asks `branch` and waits for its word.
    ///
    /// # Errors
    ///
    /// Whatever kept the branch from deciding. A rejection is in the reply.
    pub async fn ask(
        &self,
        branch: u16,
        caller: &Caller,
        request: [u8; 16],
        body: Body,
    ) -> Result<Reply, Problem> {
        let seat = self.seat(branch)?;
        self.ask_seat(&*seat, caller, request, body).await
    }

    /// The same of a branch at hand.
    ///
    /// # Errors
    ///
    /// As [`ask`](Self::ask).
    pub async fn ask_seat(
        &self,
        seat: &dyn Seat,
        caller: &Caller,
        request: [u8; 16],
        body: Body,
    ) -> Result<Reply, Problem> {
        self.put(seat, (caller, request), body, self.within).await
    }

    /// The same, which the branch begins `within` this time or not at all.
    ///
    /// # Errors
    ///
    /// As [`ask`](Self::ask).
    pub(crate) async fn ask_within(
        &self,
        branch: u16,
        (caller, request): (&Caller, [u8; 16]),
        body: Body,
        within: Duration,
    ) -> Result<Reply, Problem> {
        let seat = self.seat(branch)?;
        self.put(&*seat, (caller, request), body, within.min(self.within)).await
    }

    /// A caller's request, with its step in the trace.
    async fn put(
        &self,
        seat: &dyn Seat,
        (caller, request): (&Caller, [u8; 16]),
        body: Body,
        within: Duration,
    ) -> Result<Reply, Problem> {
        let step = traces::step(Kind::Decision, seat.number());
        step.end(self.send(seat, (caller.actor(request), caller.scope()), body, within).await)
    }

    async fn send(
        &self,
        seat: &dyn Seat,
        (actor, scope): (Actor, Scope),
        body: Body,
        within: Duration,
    ) -> Result<Reply, Problem> {
        let (send, receive) = oneshot::channel();
        let within_us = u64::try_from(within.as_micros()).unwrap_or(u64::MAX);
        let deadline_us = text::now_us().saturating_add(within_us);
        let mac = self.key.authenticate(&actor, scope, deadline_us);
        // Nobody waiting any more is no concern of the branch's.
        let reply = Box::new(move |reply| drop(send.send(reply)));
        seat.submit(Request { actor, scope, deadline_us, mac, body, reply }).map_err(|busy| {
            let problem = match busy.reason {
                BusyReason::Queue => Problem::numbered(catalogue::BUSY),
                BusyReason::InFlight | BusyReason::Rate => Problem::numbered(catalogue::QUOTA_EXCEEDED),
                BusyReason::Closed => unavailable(seat),
            };
            problem.retry_after_ms(busy.retry_after_ms)
        })?;
        match tokio::time::timeout(within + GRACE, receive).await {
            Ok(Ok(reply)) => settled(reply),
            Ok(Err(_)) | Err(_) => Err(outcome_unknown()),
        }
    }

    /// Looks at something in `branch`.
    ///
    /// # Errors
    ///
    /// As [`ask`](Self::ask); `None` is not found.
    pub async fn look(&self, branch: u16, caller: &Caller, read: Read) -> Result<Option<Answer>, Problem> {
        match self.ask(branch, caller, [0; 16], Body::Read(read)).await? {
            Reply::Answer(Answer::NotFound) => Ok(None),
            Reply::Answer(answer) => Ok(Some(answer)),
            _ => Err(Problem::numbered(catalogue::INTERNAL)),
        }
    }

    /// Looks at something in `branch` for the bank itself.
    ///
    /// # Errors
    ///
    /// As [`look`](Self::look).
    pub(crate) async fn survey(&self, branch: u16, read: Read) -> Result<Option<Answer>, Problem> {
        let seat = self.seat(branch)?;
        let own = (Actor::bank(Cause::Founding), Scope::default());
        match self.send(&*seat, own, Body::Read(read), self.within).await? {
            Reply::Answer(Answer::NotFound) => Ok(None),
            Reply::Answer(answer) => Ok(Some(answer)),
            _ => Err(Problem::numbered(catalogue::INTERNAL)),
        }
    }

    /// Runs a query over history: where it stands, while the branch's history is at hand and few do so, for on a full
    /// machine each change of threads may cost milliseconds; else as [`wait`](Self::wait) does.
    ///
    /// # Errors
    ///
    /// `history_unavailable`; `not_found` when the query says so.
    pub async fn query<T: Send + 'static>(
        &self,
        branch: u16,
        query: impl FnOnce(&dyn Seat) -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T, Problem> {
        let seat = self.seat(branch)?;
        match InPlace::take(&self.in_place).filter(|_| seat.is_at_hand()) {
            Some(_place) => {
                let step = traces::step(Kind::Query, branch);
                step.end(concluded(catch_unwind(AssertUnwindSafe(|| query(&*seat))).ok()))
            }
            None => self.wait(seat, query).await,
        }
    }

    /// Runs what may wait for the disk or for others on a thread that may.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    pub async fn wait<T: Send + 'static>(
        &self,
        seat: Arc<dyn Seat>,
        query: impl FnOnce(&dyn Seat) -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T, Problem> {
        let step = traces::step(Kind::Query, seat.number());
        step.end(self.work(seat, query).await)
    }

    async fn work<T: Send + 'static>(
        &self,
        seat: Arc<dyn Seat>,
        query: impl FnOnce(&dyn Seat) -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T, Problem> {
        let _turn = self.queries.acquire().await.map_err(|_| Problem::numbered(catalogue::SHUTTING_DOWN))?;
        concluded(tokio::task::spawn_blocking(move || query(&*seat)).await.ok())
    }
}

/// A query that runs on one of the runtime's own threads.
struct InPlace<'a>(&'a AtomicUsize);

impl<'a> InPlace<'a> {
    /// Half of the threads go on with everything else whatever the disk does.
    fn take(running: &'a AtomicUsize) -> Option<Self> {
        let most = tokio::runtime::Handle::current().metrics().num_workers() / 2;
        let place = Self(running);
        (running.fetch_add(1, Ordering::Relaxed) < most).then_some(place)
    }
}

impl Drop for InPlace<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a query found; none if it panicked, of which the panic hook has told.
fn concluded<T>(found: Option<Result<T, Trouble>>) -> Result<T, Problem> {
    match found {
        Some(found) => found.map_err(|trouble| troubled(&trouble)),
        None => Err(Problem::numbered(catalogue::INTERNAL)),
    }
}

pub(crate) fn unavailable(seat: &dyn Seat) -> Problem {
    let problem = Problem::numbered(catalogue::BRANCH_UNAVAILABLE);
    let health = seat.health();
    let reason = health.reason.as_deref().unwrap_or("");
    let colon = if reason.is_empty() { "" } else { ": " };
    let (number, state) = (seat.number(), health.state);
    problem.detail(said!(
        "branch {number} is {state}{colon}{reason}",
        "分行 {number} 状态为 {state}{colon}{reason}"
    ))
}

/// The request may have been done; the same one again tells.
pub(crate) fn outcome_unknown() -> Problem {
    Problem::numbered(catalogue::OUTCOME_UNKNOWN)
        .detail(said!("retry with the same id", "请用相同的编号重试"))
        .retry_after_ms(200)
}

fn troubled(trouble: &Trouble) -> Problem {
    match trouble {
        Trouble::NotFound => Problem::numbered(catalogue::NOT_FOUND),
        Trouble::NotYet(what) => {
            Problem::numbered(catalogue::HISTORY_UNAVAILABLE).detail(what.clone()).retry_after_ms(500)
        }
        Trouble::Archived(what) => archived(what.clone()),
        Trouble::Ahead(what) => {
            Problem::numbered(catalogue::CURSOR_AHEAD).field("after").detail(what.clone())
        }
        Trouble::Failed(what) => {
            tracing::warn!(what, "a query over history failed");
            Problem::numbered(catalogue::HISTORY_UNAVAILABLE)
                .detail(said!("the files could not be read", "文件无法读取"))
                .retry_after_ms(5_000)
        }
    }
}

/// It lies in the archive, which is away.
fn archived(what: String) -> Problem {
    Problem::numbered(catalogue::ARCHIVED).detail(what).retry_after_ms(60_000)
}

/// Replies that answer nothing become problems; the others pass.
fn settled(reply: Reply) -> Result<Reply, Problem> {
    match reply {
        Reply::Unknown => Err(outcome_unknown()),
        Reply::Expired => Err(Problem::numbered(catalogue::DEADLINE_PASSED).retry_after_ms(500)),
        Reply::Malformed(malformed) => Err(malformed_packed(malformed)),
        Reply::Denied(denied) => Err(denied_problem(denied)),
        Reply::Archived(what) => Err(archived(what)),
        Reply::Busy(busy) => {
            let number = match busy.reason {
                BusyReason::Queue => catalogue::BUSY,
                BusyReason::InFlight | BusyReason::Rate => catalogue::QUOTA_EXCEEDED,
                BusyReason::Closed => catalogue::BRANCH_UNAVAILABLE,
            };
            Err(Problem::numbered(number).retry_after_ms(busy.retry_after_ms))
        }
        answer => Ok(answer),
    }
}

fn denied_problem(denied: Denied) -> Problem {
    match denied {
        Denied::Scope => Problem::numbered(catalogue::OUT_OF_SCOPE).detail(denied.to_string()),
        Denied::Role => Problem::numbered(catalogue::FORBIDDEN).detail(denied.to_string()),
        Denied::Authentication => {
            tracing::error!("a branch does not accept this gateway's key");
            Problem::numbered(catalogue::INTERNAL)
        }
    }
}

fn malformed_packed(malformed: Malformed) -> Problem {
    let number = match malformed {
        Malformed::TooMany { .. } => catalogue::BATCH_TOO_LARGE,
        _ => catalogue::PACKED_MALFORMED,
    };
    let problem = Problem::numbered(number).detail(malformed.to_string());
    match malformed {
        Malformed::Transfer { index, field } => {
            problem.field(field).at("transfers", usize::try_from(index).unwrap_or(usize::MAX))
        }
        _ => problem,
    }
}

/// The problem that a rejection is, with figures in `currency` where it compares money.
#[must_use]
pub fn rejected(rejection: Rejection, currency: Option<Currency>, request: [u8; 16]) -> Problem {
    let entry = catalogue::find(rejection.code()).unwrap_or_else(|| catalogue::entry(ID_REUSED));
    let number = rejection.code();
    let mut problem = Problem::of(entry).field(field(rejection.field()));
    let mut detail = None;
    if let Some((have, need)) = rejection.figures().filter(|_| compares_figures(number)) {
        let need = i128::try_from(need).unwrap_or(i128::MAX);
        let shown = |figure| shown(figure, number, currency);
        let (have, need) = (shown(have), shown(need));
        detail = currency.and_then(|_| in_money(number, &have, &need));
        problem = problem.figures(have, need);
    }
    problem = problem.detail(detail.unwrap_or_else(|| match rejection.figures() {
        // The rule's words name no figures: they say what the title says.
        None => Detail::beside(rejection.to_string(), entry.title_zh),
        Some(_) => rejection.to_string().into(),
    }));
    if rejection == Rejection::NeedsApproval {
        problem = problem.request(text::hex(&request));
    }
    problem
}

const ID_REUSED: u16 = 1014;

/// A field as requests call it.
fn field(name: &'static str) -> &'static str {
    if name == "idempotency_key" { "Idempotency-Key" } else { name }
}

/// Whether a rule compares two figures. Some of the others name one thing, of which the detail tells.
const fn compares_figures(number: u16) -> bool {
    !matches!(number, 3021 | 3026 | 3040..=3045 | 4005..=4008 | 4010..=4013)
}

/// Whether a rule's figures are amounts.
const fn is_money(number: u16) -> bool {
    matches!(number, 1059 | 1060 | 1072 | 1111 | 1112 | 1113 | 2005)
}

/// Whether a rule's figures are days since 1970.
const fn is_dates(number: u16) -> bool {
    number == 3024
}

/// What the ledger says in minor units, said in those of the request.
fn in_money(number: u16, have: &str, need: &str) -> Option<Detail> {
    Some(match number {
        1059 => said!("{need} is more than the {have} held", "{need} 超过冻结的 {have}"),
        1060 => {
            said!("a void releases the {have} held, not {need}", "撤销释放全部冻结金额 {have}，而非 {need}")
        }
        1072 => said!("a reversal moves the whole {have}, not {need}", "冲正须为全额 {have}，而非 {need}"),
        1111 => said!("{have} available, {need} needed", "可用 {have}，需要 {need}"),
        1112 => said!("the account takes {have} more, not {need}", "账户还可入账 {have}，而非 {need}"),
        1113 => said!("{have} left of the daily limit, {need} needed", "单日限额剩余 {have}，需要 {need}"),
        2005 => said!("the account has a balance of {have}", "账户余额为 {have}"),
        _ => return None,
    })
}

fn shown(value: i128, number: u16, currency: Option<Currency>) -> String {
    if is_dates(number) {
        return i32::try_from(value).map_or_else(|_| value.to_string(), |days| Date(days).to_string());
    }
    figure(value, currency.filter(|_| is_money(number)))
}

fn figure(value: i128, currency: Option<Currency>) -> String {
    let mut out = String::new();
    match currency {
        Some(currency) => {
            // Writing to a string cannot fail.
            let _ = decimal(&mut out, value, currency);
        }
        None => out = value.to_string(),
    }
    out
}
