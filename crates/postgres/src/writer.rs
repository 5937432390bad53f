//! The writer: a task that sends each batch as one statement, the next while the last is still being committed.
//!
//! On one connection the server takes statements in turn, and each compares the head with what the one before it leaves: if
//! one comes to nothing, so do all behind it. So what is found later is a prefix of what was sent.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::task::Poll;
use std::time::Duration;

use skerry_journal::{
    AppendFault, AppendFaultKind, Appended, Head, Lane, SealedBatch, Storage, StorageError, StorageErrorKind,
};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Statement};

use crate::check::column;
use crate::error::LinkError;
use crate::journal::Checks;
use crate::link::Link;
use crate::open::{HeadRow, read_head};
use crate::schema;
use crate::server::Durability;
use crate::shared::Shared;

type Sent = Result<u64, tokio_postgres::Error>;

/// A batch on its way.
struct Flight {
    working: Pin<Box<dyn Future<Output = (SealedBatch, Sent)> + Send>>,
    done: Option<(SealedBatch, Sent)>,
    batch: u64,
    since: Instant,
}

/// The statement for the span that is being written.
struct Span {
    number: u64,
    append: Statement,
}

/// The settings under which a commit waits for a standby, as every append compares them.
#[derive(Clone)]
struct Guard {
    names: String,
    commit: String,
}

/// A check on its way.
struct Check {
    number: u64,
    working: Pin<Box<dyn Future<Output = Sent> + Send>>,
    since: Instant,
}

/// What is late when it is no batch.
const CHECK: u64 = u64::MAX;

/// Writes for one owner; after a fault it ends.
pub(crate) struct Writer<S: Storage> {
    shared: Arc<Shared<S>>,
    lane: Arc<Lane>,
    work: Arc<Notify>,
    link: Link,
    patience: Duration,
    guard: Option<Guard>,
    span: Option<Span>,
    flights: VecDeque<Flight>,
    checks: Arc<Checks>,
    /// The check that is on its way.
    check: Option<Check>,
    /// A batch of the next span, until all before it are told.
    waiting: Option<SealedBatch>,
    mark_every: u64,
    since_mark: u64,
    /// When the last batch was told: the next one's time runs from there.
    told_at: Instant,
}

/// Tells the owner if the writer ends without a word: by a panic, or with its threads.
struct Unforeseen(Option<Arc<Lane>>);

impl Unforeseen {
    fn passed(mut self) {
        self.0 = None;
    }
}

impl Drop for Unforeseen {
    fn drop(&mut self) {
        if let Some(lane) = self.0.take() {
            lane.finish(Err(AppendFault { kind: AppendFaultKind::Uncertain, batch: u64::MAX, source: None }));
        }
    }
}

/// What the writer woke up for.
#[expect(clippy::large_enum_variant, reason = "nearly all are the large one")]
enum News {
    Told(SealedBatch, Sent, Instant),
    /// The check of this number came back.
    Checked(u64, Sent),
    Late(u64),
    Gone,
    Work,
    Idle,
}

/// After so long without a batch the durable mark is written.
const MARK_IDLE: Duration = Duration::from_millis(250);

impl<S: Storage> Writer<S> {
    pub(crate) fn new(
        shared: Arc<Shared<S>>,
        lane: Arc<Lane>,
        work: Arc<Notify>,
        (link, checks): (Link, Arc<Checks>),
        mark_every: u64,
    ) -> Self {
        let options = shared.pool.server().options();
        let (patience, guarded) = (options.patience, options.durability == Durability::Replicated);
        let settings = link.settings();
        let guard = guarded.then(|| Guard {
            names: settings.synchronous_standby_names.clone(),
            commit: settings.synchronous_commit.clone(),
        });
        Self {
            shared,
            lane,
            work,
            link,
            patience,
            guard,
            span: None,
            flights: VecDeque::new(),
            checks,
            check: None,
            waiting: None,
            mark_every,
            since_mark: 0,
            told_at: Instant::now(),
        }
    }

    /// Writes until told to stop or a fault. `_ended` goes when it does.
    pub(crate) async fn run(mut self, _ended: mpsc::Sender<()>) {
        let unforeseen = Unforeseen(Some(Arc::clone(&self.lane)));
        let outcome = self.write_all().await;
        self.mark().await;
        if let Err(fault) = outcome {
            if !self.flights.is_empty() || self.check.is_some() {
                // What is on its way may still hold the branch's row there.
                let (cancel, tls) = (self.link.client().cancel_token(), self.shared.pool.server().tls());
                let _asked = tokio::time::timeout(CANCEL, cancel.cancel_query(tls)).await;
            }
            self.lane.finish(Err(fault));
        }
        unforeseen.passed();
    }

    async fn write_all(&mut self) -> Result<(), AppendFault> {
        loop {
            self.send_what_waits().await?;
            self.begin_check();
            if self.flights.is_empty() && self.waiting.is_none() && self.lane.is_stopping() {
                return Ok(());
            }
            match self.news().await {
                News::Work => (),
                News::Idle => self.mark().await,
                News::Checked(number, sent) => self.checked(number, sent).await?,
                News::Told(batch, sent, since) => self.told(batch, sent, since).await?,
                News::Gone => {
                    let gone = LinkError::Gone { place: self.shared.place.clone() };
                    let next = self.shared.durable().batch;
                    return Err(self.fault(AppendFaultKind::Uncertain, next, gone));
                }
                News::Late(batch) => {
                    let late = self.late(if batch == CHECK { "confirm its owner" } else { "commit a batch" });
                    let batch = batch.min(self.shared.durable().batch);
                    return Err(self.fault(AppendFaultKind::Uncertain, batch, late));
                }
            }
        }
    }

    /// Waits for the next thing to do.
    async fn news(&mut self) -> News {
        let work = Arc::clone(&self.work);
        let waits = self.flights.front().map(|first| (first.batch, first.since));
        let waits = waits.or_else(|| self.check.as_ref().map(|check| (CHECK, check.since)));
        let Some((batch, since)) = waits else {
            let gone = self.link.gone();
            let rest = if self.since_mark == 0 { Duration::MAX } else { MARK_IDLE };
            return tokio::select! {
                biased;
                () = work.notified() => News::Work,
                () = gone.notified() => News::Gone,
                () = tokio::time::sleep(rest) => News::Idle,
            };
        };
        let end = since.max(self.told_at) + self.patience;
        let (flights, check) = (&mut self.flights, &mut self.check);
        tokio::select! {
            biased;
            (batch, sent, since) = first_told(flights) => News::Told(batch, sent, since),
            (number, sent) = check_told(check) => News::Checked(number, sent),
            () = work.notified() => News::Work,
            () = tokio::time::sleep_until(end) => News::Late(batch),
        }
    }

    async fn send_what_waits(&mut self) -> Result<(), AppendFault> {
        while let Some(batch) = self.waiting.take().or_else(|| self.lane.take()) {
            let number = self.shared.tables.span_of(skerry_journal::Position(batch.header().first_position));
            if self.span.as_ref().is_none_or(|span| span.number != number) {
                if !self.flights.is_empty() {
                    self.waiting = Some(batch);
                    return Ok(());
                }
                let begun = tokio::time::timeout(self.patience, self.begin_span(number)).await;
                let failed = match begun {
                    Ok(Ok(span)) => {
                        self.span = Some(span);
                        None
                    }
                    Ok(Err(source)) => Some(self.refused("begin a span", source)),
                    Err(_) => Some(self.late("begin a span")),
                };
                if let Some(error) = failed {
                    return Err(self.fault(AppendFaultKind::Uncertain, batch.header().batch, error));
                }
            }
            self.send(batch);
        }
        Ok(())
    }

    fn refused(&self, action: &'static str, source: tokio_postgres::Error) -> LinkError {
        LinkError::Statement { action, place: self.shared.place.clone(), source }
    }

    fn late(&self, action: &'static str) -> LinkError {
        LinkError::Late { action, place: self.shared.place.clone(), patience: self.patience }
    }

    /// The statement for a span, whose table is made if it is not there.
    async fn begin_span(&mut self, number: u64) -> Result<Span, tokio_postgres::Error> {
        let (client, tables, guarded) = (self.link.client(), self.shared.tables, self.guard.is_some());
        let text = tables.append(number, guarded);
        let append = match client.prepare(&text).await {
            Ok(append) => append,
            Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => {
                for statement in tables.make_leaf(number) {
                    client.batch_execute(&statement).await?;
                }
                client.prepare(&text).await?
            }
            Err(error) => return Err(error),
        };
        Ok(Span { number, append })
    }

    fn send(&mut self, batch: SealedBatch) {
        let span = self.span.as_ref().expect("begun for this batch");
        let number = batch.header().batch;
        let sending = send(
            self.link.client(),
            span.append.clone(),
            self.guard.clone(),
            (self.shared.tables.branch, self.shared.epoch),
            batch,
        );
        let flight = Flight { working: Box::pin(sending), done: None, batch: number, since: Instant::now() };
        self.flights.push_back(flight);
    }

    /// A statement came back: the batch is durable, or nobody may say so.
    async fn told(&mut self, batch: SealedBatch, sent: Sent, since: Instant) -> Result<(), AppendFault> {
        let number = batch.header().batch;
        if let Some(warning) = self.link.warned().take() {
            let warned = LinkError::Warned { place: self.shared.place.clone(), warning };
            return Err(self.fault(AppendFaultKind::Uncertain, number, warned));
        }
        match sent {
            Ok(1) => (),
            Ok(_) => {
                let row = self.look_again().await;
                return Err(self.explain(number, row));
            }
            Err(source) => {
                let error = self.refused("append a batch", source);
                let full = error.code() == Some(&SqlState::DISK_FULL);
                let kind = if full { AppendFaultKind::Full } else { AppendFaultKind::Uncertain };
                return Err(self.fault(kind, number, error));
            }
        }
        let head = Head::after(&batch);
        self.told_at = Instant::now();
        let took = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.shared.advance(head, batch.bytes().len() as u64, took);
        self.lane.finish(Ok(Appended { head, batch }));
        self.since_mark += 1;
        if self.since_mark >= self.mark_every {
            self.mark().await;
        }
        Ok(())
    }

    /// Sends the check that was asked for last, unless one is on its way: its answer stands for all before it.
    fn begin_check(&mut self) {
        let asked = self.checks.asked.load(Ordering::Acquire);
        if self.check.is_some() || asked == self.checks.confirmed.load(Ordering::Acquire) {
            return;
        }
        let of = (self.shared.tables.branch, self.shared.epoch);
        let working = check(self.link.client(), self.guard.clone(), of);
        self.check = Some(Check { number: asked, working: Box::pin(working), since: Instant::now() });
    }

    /// A check came back: the owner is who it was, or its journal ends.
    async fn checked(&mut self, number: u64, sent: Sent) -> Result<(), AppendFault> {
        self.check = None;
        let next = self.shared.durable().batch;
        if let Some(warning) = self.link.warned().take() {
            let warned = LinkError::Warned { place: self.shared.place.clone(), warning };
            return Err(self.fault(AppendFaultKind::Uncertain, next, warned));
        }
        match sent {
            Ok(1) => {
                self.checks.confirmed.store(number, Ordering::Release);
                self.lane.wake();
                Ok(())
            }
            Ok(_) => {
                let row = self.look_again().await;
                Err(self.explain(next, row))
            }
            Err(source) => {
                let error = self.refused("confirm its owner", source);
                Err(self.fault(AppendFaultKind::Uncertain, next, error))
            }
        }
    }

    /// The branch's row as it is now, if it can be had in time.
    fn look_again(&self) -> impl Future<Output = Result<Option<HeadRow>, tokio_postgres::Error>> + use<S> {
        let looking = read_head(self.link.client(), self.shared.tables.branch);
        let patience = self.patience;
        async move { tokio::time::timeout(patience, looking).await.unwrap_or(Ok(None)) }
    }

    /// No row matched: somebody raised the epoch, or the server is not what it was.
    fn explain(&self, number: u64, row: Result<Option<HeadRow>, tokio_postgres::Error>) -> AppendFault {
        match row {
            Ok(Some(row)) if row.epoch != self.shared.epoch => {
                AppendFault { kind: AppendFaultKind::Fenced, batch: number, source: None }
            }
            Err(source) => {
                let error = self.refused("read the head of a journal", source);
                self.fault(AppendFaultKind::Uncertain, number, error)
            }
            Ok(_) => {
                let what = "the head of the journal, or the settings that make commits wait for a standby, have changed";
                let error = LinkError::Unsafe { place: self.shared.place.clone(), what: what.to_owned() };
                self.fault(AppendFaultKind::Uncertain, number, error)
            }
        }
    }

    fn fault(&self, kind: AppendFaultKind, batch: u64, error: LinkError) -> AppendFault {
        let source = StorageError {
            kind: StorageErrorKind::Io,
            action: "append to",
            file: self.shared.place.clone(),
            offset: None,
            source: io::Error::other(error),
        };
        AppendFault { kind, batch, source: Some(Arc::new(source)) }
    }

    /// Time for the mark. One that could not be written covers less than it might; the next one covers all.
    async fn mark(&mut self) {
        if self.since_mark == 0 {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let marked = tokio::task::spawn_blocking(move || shared.write_mark()).await;
        if matches!(marked, Ok(Ok(()))) {
            self.since_mark = 0;
        }
    }
}

/// How long a request to cancel may take.
const CANCEL: Duration = Duration::from_secs(1);

/// Lets all flights go on; ready with the first one, and never with a later one before it.
async fn first_told(flights: &mut VecDeque<Flight>) -> (SealedBatch, Sent, Instant) {
    poll_fn(|context| {
        for flight in flights.iter_mut().filter(|flight| flight.done.is_none()) {
            if let Poll::Ready(done) = flight.working.as_mut().poll(context) {
                flight.done = Some(done);
            }
        }
        let is_done = flights.front().is_some_and(|first| first.done.is_some());
        match if is_done { flights.pop_front() } else { None } {
            Some(Flight { done: Some((batch, sent)), since, .. }) => Poll::Ready((batch, sent, since)),
            _ => Poll::Pending,
        }
    })
    .await
}

/// Lets the check that is on its way go on; never ready if there is none.
async fn check_told(check: &mut Option<Check>) -> (u64, Sent) {
    match check {
        Some(check) => (check.number, check.working.as_mut().await),
        None => std::future::pending().await,
    }
}

/// One check: how many rows were those of this owner.
async fn check(client: Arc<Client>, guard: Option<Guard>, (branch, epoch): (u16, u64)) -> Sent {
    let (branch, epoch) = (i32::from(branch), column(epoch));
    let mut values: Vec<(&(dyn ToSql + Sync), Type)> = vec![(&branch, Type::INT4), (&epoch, Type::INT8)];
    if let Some(guard) = &guard {
        values.push((&guard.names, Type::TEXT));
        values.push((&guard.commit, Type::TEXT));
    }
    client.execute_typed(&schema::check(guard.is_some()), &values).await
}

/// One append: see [`Tables::append`](crate::schema::Tables::append) for the order of the values.
async fn send(
    client: Arc<Client>,
    statement: Statement,
    guard: Option<Guard>,
    (branch, epoch): (u16, u64),
    batch: SealedBatch,
) -> (SealedBatch, Sent) {
    let header = *batch.header();
    let (branch, epoch, number) = (i32::from(branch), column(epoch), column(header.batch));
    let (position, end) = (column(header.first_position), column(header.end_position()));
    let records = i32::try_from(header.record_count).unwrap_or(i32::MAX);
    let (previous, hash) = (&header.previous[..], &batch.hash()[..]);
    let body = batch.bytes();
    let mut values: Vec<&(dyn ToSql + Sync)> =
        vec![&branch, &epoch, &position, &previous, &end, &number, &hash, &records, &body];
    if let Some(guard) = &guard {
        values.push(&guard.names);
        values.push(&guard.commit);
    }
    let sent = client.execute(&statement, &values).await;
    (batch, sent)
}
