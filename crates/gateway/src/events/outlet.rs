//! All events to a log outside of the bank, in order, each once: whoever may read that log needs no token of ours.
//!
//! ```text
//! Reader ── pages ──► Outlet::put ──► the log
//!   from the later of: where the log ends in each branch, and the cursor in outlet.json (written once a second)
//! ```
//!
//! The log says where it ends, so after a crash of either side nothing is missing and nothing is there twice. The file is
//! for a log that has let old events go: it must not begin at the beginning again.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use super::cursor::Cursor;
use super::domain::{PREFIX, Told};
use super::reader::{Filter, Page, Reader};
use crate::gateway::Shared;
use crate::tokens::replace_private;

/// Events put in at once.
const TOGETHER: usize = 256;
/// After a failure it is tried again after this, then twice as long each time.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// A branch that cannot be read is looked at again after this.
const TROUBLE: Duration = Duration::from_secs(1);
/// How far it is, is written at most so often.
const SAVE: Duration = Duration::from_secs(1);
const FILE: &str = "outlet.json";
const VERSION: u32 = 1;

/// An event on its way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// The branch whose journal says so.
    pub branch: u16,
    /// Its type without the leading `skerry.`.
    pub kind: String,
    /// Where the branch is to be read on after it: opaque, to be given back by [`Outlet::last`].
    pub place: String,
    /// The CloudEvent as JSON.
    pub body: Bytes,
}

/// A log outside of the bank. Calls may wait: they come from a thread that may.
pub trait Outlet: Send + Sync {
    /// The `place` of the last event of `branch` that it keeps; `None` if it keeps none.
    ///
    /// # Errors
    ///
    /// Why it cannot tell, in words for an operator.
    fn last(&self, branch: u16) -> Result<Option<String>, String>;

    /// Puts events in, in this order: all are kept when it returns, or the first ones if it fails.
    ///
    /// # Errors
    ///
    /// Why not, in words for an operator.
    fn put(&self, events: Vec<Outgoing>) -> Result<(), String>;
}

/// Where to begin with a log that has nothing, and no file says more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// The first record of each branch.
    Beginning,
    /// What is durable when the bank starts.
    Now,
}

/// What is seen of it from outside.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    /// Events put in since the bank was started.
    pub(crate) put: AtomicU64,
    /// Attempts that failed.
    pub(crate) failures: AtomicU64,
    /// Whether the last attempt failed.
    pub(crate) failing: AtomicBool,
    /// How far it is.
    cursor: Mutex<Cursor>,
}

impl Flow {
    /// Records of the branches that were not looked at yet.
    pub(crate) fn lag(&self, gateway: &Shared) -> u64 {
        let cursor = self.cursor.lock().unwrap_or_else(PoisonError::into_inner);
        let left = |(branch, seat): (&u16, &Arc<dyn skerry_node::seat::Seat>)| {
            seat.durable().saturating_sub(cursor.place(*branch).next)
        };
        gateway.bank.seats().iter().map(left).sum()
    }
}

/// The file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    version: u32,
    cursor: String,
}

/// The outlet of a bank, at work.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) flow: Arc<Flow>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Running {
    /// Begins. Needs a runtime.
    ///
    /// # Errors
    ///
    /// A file that is there and is not ours.
    pub(crate) fn begin(gateway: &Shared, outlet: Arc<dyn Outlet>, begin: Begin) -> std::io::Result<Self> {
        let path = gateway.tokens.folder().join(FILE);
        let kept = read(&path)?;
        let flow = Arc::new(Flow::default());
        let worker = Worker {
            gateway: Shared::clone(gateway),
            outlet,
            begin,
            path,
            flow: Arc::clone(&flow),
            saved: kept.clone().unwrap_or_default(),
            kept,
        };
        Ok(Self { flow, task: Mutex::new(Some(tokio::spawn(worker.run()))) })
    }

    /// Waits until it has written how far it is; the gateway is stopping.
    pub(crate) async fn end(&self) {
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            // A worker that panicked has nothing left to write.
            let _ended = task.await;
        }
    }
}

fn read(path: &std::path::Path) -> std::io::Result<Option<Cursor>> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let wrong = |why: &str| std::io::Error::other(format!("{}: {why}", path.display()));
    let kept: Kept = serde_json::from_slice(&bytes).map_err(|error| wrong(&error.to_string()))?;
    if kept.version != VERSION {
        return Err(wrong(&format!("version {} is not {VERSION}", kept.version)));
    }
    Cursor::parse(&kept.cursor).map(Some).ok_or_else(|| wrong("the cursor is none of ours"))
}

struct Worker {
    gateway: Shared,
    outlet: Arc<dyn Outlet>,
    begin: Begin,
    path: PathBuf,
    flow: Arc<Flow>,
    /// What the file said when the bank began.
    kept: Option<Cursor>,
    saved: Cursor,
}

impl Worker {
    async fn run(mut self) {
        let mut wait = FIRST_WAIT;
        while !self.is_stopping() {
            let before = self.flow.put.load(Ordering::Relaxed);
            if let Err(why) = self.work().await {
                self.flow.failures.fetch_add(1, Ordering::Relaxed);
                if !self.flow.failing.swap(true, Ordering::Relaxed) {
                    tracing::warn!("events wait until the log outside takes them: {why}");
                }
                wait = if self.flow.put.load(Ordering::Relaxed) > before { FIRST_WAIT } else { wait };
                self.rest(wait).await;
                wait = (wait * 2).min(LONGEST_WAIT);
            }
        }
        self.save().await;
    }

    fn is_stopping(&self) -> bool {
        self.gateway.stopping.load(Ordering::Relaxed)
    }

    /// Waits, but not beyond the bank's end.
    async fn rest(&self, wait: Duration) {
        let until = tokio::time::Instant::now() + wait;
        while !self.is_stopping() && tokio::time::Instant::now() < until {
            tokio::time::sleep(wait.min(FIRST_WAIT)).await;
        }
    }

    /// From where the log ends, until it fails or the bank stops.
    async fn work(&mut self) -> Result<(), String> {
        let mut listener = self.gateway.bank.news.listen();
        let mut reader = self.reader().await?;
        let mut save_at = tokio::time::Instant::now() + SAVE;
        loop {
            if self.is_stopping() {
                return Ok(());
            }
            reader.widen(&self.gateway, |_| true);
            let page = match reader.page(&self.gateway, TOGETHER).await {
                Ok(page) => page,
                Err(problem) => Page { troubles: reader.trouble(problem), ..Page::default() },
            };
            let count = page.told.len();
            if count > 0 {
                let events = page.told.into_iter().map(outgoing).collect::<Result<Vec<_>, _>>()?;
                self.out(move |outlet| outlet.put(events)).await?;
                self.flow.put.fetch_add(count as u64, Ordering::Relaxed);
            }
            self.is_up(&reader);
            if tokio::time::Instant::now() >= save_at {
                self.save().await;
                save_at = tokio::time::Instant::now() + SAVE;
            }
            if !page.troubles.is_empty() && !page.more {
                self.rest(TROUBLE).await;
            } else if count == 0 && !page.more {
                listener.heard().await;
            }
        }
    }

    fn is_up(&mut self, reader: &Reader) {
        *self.flow.cursor.lock().unwrap_or_else(PoisonError::into_inner) = reader.cursor.clone();
        self.kept = Some(reader.cursor.clone());
        if self.flow.failing.swap(false, Ordering::Relaxed) {
            tracing::info!("the log outside takes events again");
        }
    }

    /// A reader from the later of where the log ends and where we know that we were; if neither is known, from where a log
    /// begins.
    async fn reader(&mut self) -> Result<Reader, String> {
        let branches: Vec<u16> = self.gateway.bank.seats().keys().copied().collect();
        let mut reader = Reader::new(branches.clone(), Filter::default(), Cursor::default()).of_all(true);
        if self.begin == Begin::Now && self.kept.is_none() {
            reader.skip_to_end(&self.gateway).await.map_err(|problem| problem.told())?;
        }
        for branch in branches {
            let last = self.out(move |outlet| outlet.last(branch)).await?;
            let read =
                |last: &String| Cursor::parse(last).ok_or_else(|| format!("{last:?} is no place of ours"));
            let theirs = last.as_ref().map(read).transpose()?.map(|cursor| cursor.place(branch));
            let ours = self.kept.as_ref().map(|kept| kept.place(branch));
            let later = theirs.into_iter().chain(ours).max_by_key(|place| (place.incarnation, place.next));
            if let Some(later) = later {
                reader.cursor.put(branch, later);
            }
        }
        Ok(reader)
    }

    /// Runs what may wait where it may.
    async fn out<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Outlet) -> Result<T, String> + Send + 'static,
    ) -> Result<T, String> {
        let outlet = Arc::clone(&self.outlet);
        let done = tokio::task::spawn_blocking(move || work(&*outlet)).await;
        done.unwrap_or_else(|_| Err("the log outside panicked".to_owned()))
    }

    /// Writes how far it is, if that is news.
    async fn save(&mut self) {
        let cursor = self.flow.cursor.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if cursor == self.saved || cursor == Cursor::default() {
            return;
        }
        let path = self.path.clone();
        let kept = Kept { version: VERSION, cursor: cursor.to_string() };
        let written =
            tokio::task::spawn_blocking(move || replace_private(&path, &serde_json::to_vec_pretty(&kept)?));
        match written.await {
            Ok(Ok(())) => self.saved = cursor,
            Ok(Err(error)) => tracing::warn!(%error, "could not write {FILE}"),
            Err(_) => {}
        }
    }
}

/// An event as it goes out.
fn outgoing(told: Told) -> Result<Outgoing, String> {
    let mut place = Cursor::default();
    place.put(told.branch, told.place);
    let kind = told.event.kind.strip_prefix(PREFIX).unwrap_or(&told.event.kind).to_owned();
    let body =
        serde_json::to_vec(&told.event).map_err(|error| format!("event {}: {error}", told.event.id))?;
    Ok(Outgoing { branch: told.branch, kind, place: place.to_string(), body: body.into() })
}
