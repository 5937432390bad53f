//! Webhooks by Standard Webhooks: receivers that are called with every event they want, at least once, until they have it.
//!
//! ```text
//! Reader ──► Window ──► Sender ──► receiver        one worker, a task, per webhook
//!   from the   order,     signed,
//!   cursor     4 at once  no redirects
//!     └──────────────── progress: durable once a second, and when the bank stops
//! ```
//!
//! Start with [`worker`]. What is delivered is read from the journal, so a receiver that was away for days finds nothing
//! missing; after a crash of the bank at most a second of deliveries come again, under the same ids.
//!
//! # Invariants
//!
//! - **H1, at least once**: the cursor that is kept never passes an event that the receiver has not taken.
//! - **H2, shown once**: a secret leaves the bank in the answer that made it, and is kept sealed.
//! - **H3, bounded**: webhooks, deliveries at once, a delivery's time, what is read of an answer, and failing are bounded.

mod backoff;
mod live;
mod send;
mod sign;
pub(crate) mod store;
mod target;
mod window;
mod worker;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use self::send::{Message, Outcome, Sender};
use self::sign::Secret;
use self::store::{Disabled, Failing, Files, Progress, Record, Sealer};
use self::target::{Allowed, Target};
use crate::events::cursor::Cursor;
use crate::gateway::Shared;
use crate::{random, text};

pub use self::backoff::Retries;
pub(crate) use self::live::{Delivered, Live, Shown};
pub use self::store::StoreError;

/// How webhooks are bounded.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Webhooks, at most.
    pub endpoints_max: usize,
    /// Deliveries at once, of all webhooks.
    pub flights_max: usize,
    /// The same of one webhook.
    pub endpoint_flights: usize,
    /// From the look-up of the host to the end of the answer.
    pub timeout: Duration,
    /// How failures are met.
    pub retries: Retries,
    /// PEM file of the roots to trust; left out, the system's.
    pub trusted: Option<PathBuf>,
    /// Whether plain HTTP beyond the loopback was allowed aloud.
    pub insecure: bool,
    /// Whether receivers may lie in private networks.
    pub private_addresses: bool,
}

impl Settings {
    fn allowed(&self) -> Allowed {
        Allowed { insecure: self.insecure, private: self.private_addresses }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            endpoints_max: 100,
            flights_max: 64,
            endpoint_flights: 4,
            timeout: Duration::from_secs(15),
            retries: Retries::default(),
            trusted: None,
            insecure: false,
            private_addresses: false,
        }
    }
}

/// How long a secret that was replaced goes on signing beside the new one.
pub(crate) const OVERLAP_S: u64 = 24 * 3_600;

/// Progress is written at most so often.
const SAVE: Duration = Duration::from_secs(1);

/// How long a stop waits for what is under way.
const LANDING: Duration = Duration::from_secs(2);

/// Why the webhooks could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Their files.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The trusted roots.
    #[error("{0}")]
    Trust(String),
    /// A secret cannot be opened: the file is damaged or another bank's.
    #[error("could not open the secret of webhook {0}: is it this bank's file?")]
    Secret(String),
}

/// Why something could not be done with a webhook.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// No webhook has this id.
    Unknown,
    /// As many as there may be.
    Full,
    /// A field is wrong, and why.
    Field(&'static str, String),
    /// The file could not be written.
    Store(StoreError),
}

/// A webhook to be made.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    pub(crate) url: String,
    pub(crate) types: Vec<String>,
    pub(crate) branches: Option<Vec<u16>>,
    pub(crate) cursor: Cursor,
    pub(crate) by: String,
}

#[derive(Debug)]
struct Hook {
    record: Record,
    progress: Progress,
    live: Arc<Live>,
    worker: Option<JoinHandle<()>>,
}

/// All webhooks of a bank.
#[derive(Debug)]
pub struct Webhooks {
    settings: Settings,
    sender: Sender,
    sealer: Sealer,
    files: Files,
    hooks: Mutex<BTreeMap<String, Hook>>,
    /// Held while something is changed, so that the file is written in the order of the changes.
    changing: tokio::sync::Mutex<()>,
    unsaved: AtomicBool,
    saving: Mutex<()>,
    flights: Arc<Semaphore>,
}

impl Webhooks {
    /// Those of the bank in `folder`; nothing is delivered before [`start`](Self::start).
    ///
    /// # Errors
    ///
    /// [`OpenError`]: better no bank than one that silently calls nobody.
    pub fn open(folder: &Path, gateway: &Shared, settings: Settings) -> Result<Self, OpenError> {
        let files = Files::within(folder);
        let sealer = Sealer::new(gateway.secrets.document.webhooks_key());
        let (records, mut progress) = files.read()?;
        let mut hooks = BTreeMap::new();
        for record in records {
            if record.secrets.iter().any(|sealed| sealer.open(&record.id, sealed).is_none()) {
                return Err(OpenError::Secret(record.id));
            }
            let progress = progress.remove(&record.id).unwrap_or_default();
            let hook = Hook { progress, live: Arc::default(), worker: None, record: record.clone() };
            hooks.insert(record.id, hook);
        }
        Ok(Self {
            sender: Sender::new(settings.trusted.as_deref(), settings.timeout).map_err(OpenError::Trust)?,
            flights: Arc::new(Semaphore::new(settings.flights_max)),
            settings,
            sealer,
            files,
            hooks: Mutex::new(hooks),
            changing: tokio::sync::Mutex::default(),
            unsaved: AtomicBool::new(false),
            saving: Mutex::default(),
        })
    }

    /// Begins to deliver. Needs a runtime.
    pub fn start(self: &Arc<Self>, gateway: &Shared) {
        let ids: Vec<String> = self.hooks().keys().cloned().collect();
        ids.iter().for_each(|id| self.employ(gateway, id));
        let webhooks = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(SAVE).await;
                let Some(webhooks) = webhooks.upgrade() else { return };
                if tokio::task::spawn_blocking(move || webhooks.save()).await.is_err() {
                    return; // the runtime ends
                }
            }
        });
    }

    /// Lets the workers finish what is under way, and writes how far each webhook is: the last word before the bank ends. To be
    /// called when the gateway is stopping.
    pub async fn end(self: &Arc<Self>, gateway: &Shared) {
        gateway.bank.news.watcher()();
        let workers: Vec<JoinHandle<()>> =
            self.hooks().values_mut().filter_map(|hook| hook.worker.take()).collect();
        let ended = async {
            for worker in workers {
                let _panicked = worker.await;
            }
        };
        if tokio::time::timeout(LANDING + SAVE * 2, ended).await.is_err() {
            tracing::warn!(
                "webhooks still ran when the bank stopped: what they had under way may come again"
            );
        }
        let webhooks = Arc::clone(self);
        let _saved = tokio::task::spawn_blocking(move || webhooks.save()).await;
    }

    /// Writes how far each webhook is, if that has changed.
    fn save(&self) {
        let _one = self.saving.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = self.save_alone() {
            tracing::error!(%error, "how far webhooks are could not be kept: what is delivered now may come again");
        }
    }

    fn save_alone(&self) -> Result<(), StoreError> {
        if !self.unsaved.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let all = self.hooks().iter().map(|(id, hook)| (id.clone(), hook.progress.clone())).collect();
        self.files.write_progress(all).inspect_err(|_| self.unsaved.store(true, Ordering::Release))
    }

    /// Writes both files. How far a webhook is comes first: one without that would begin at the beginning.
    fn save_both(&self) -> Result<(), StoreError> {
        let _one = self.saving.lock().unwrap_or_else(PoisonError::into_inner);
        self.unsaved.store(true, Ordering::Release);
        self.save_alone()?;
        let records = self.hooks().values().map(|hook| hook.record.clone()).collect();
        self.files.write_records(records)
    }

    fn hooks(&self) -> MutexGuard<'_, BTreeMap<String, Hook>> {
        self.hooks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets a worker to the webhook, if it is enabled and has none.
    fn employ(self: &Arc<Self>, gateway: &Shared, id: &str) {
        let mut hooks = self.hooks();
        let Some(hook) = hooks.get_mut(id) else { return };
        if hook.record.disabled.is_none() && hook.worker.is_none() {
            let work = worker::run(Arc::clone(self), Shared::clone(gateway), id.to_owned());
            hook.worker = Some(tokio::spawn(work));
        }
    }

    /// Ends its worker; after this nothing more is told of it.
    async fn dismiss(&self, id: &str) {
        let worker = self.hooks().get_mut(id).and_then(|hook| hook.worker.take());
        if let Some(worker) = worker {
            worker.abort();
            let _ended = worker.await;
        }
    }

    /// One webhook.
    pub(crate) fn get(&self, id: &str) -> Option<Shown> {
        self.hooks().get(id).map(shown)
    }

    /// All of them, oldest first.
    pub(crate) fn list(&self) -> Vec<Shown> {
        let mut all: Vec<Shown> = self.hooks().values().map(shown).collect();
        all.sort_by(|one, other| one.record.created.cmp(&other.record.created));
        all
    }

    /// Makes one. The secret is returned once and never again.
    pub(crate) async fn create(
        self: &Arc<Self>,
        gateway: &Shared,
        wish: Wish,
    ) -> Result<(Shown, String), Refusal> {
        Target::parse(&wish.url, self.settings.allowed())
            .map_err(|why| Refusal::Field("url", why.to_owned()))?;
        let _alone = self.changing.lock().await;
        if self.hooks().len() >= self.settings.endpoints_max {
            return Err(Refusal::Full);
        }
        let id = format!("wh_{}", text::hex(&random::bytes::<8>()));
        let secret = Secret::made();
        let record = Record {
            id: id.clone(),
            url: wish.url,
            types: wish.types,
            branches: wish.branches,
            created: text::time(text::now_us()),
            created_by: wish.by,
            secrets: vec![self.sealer.seal(&id, &secret)],
            disabled: None,
        };
        let progress = Progress { cursor: wish.cursor.to_string(), failing: None };
        let hook = Hook { record, progress, live: Arc::default(), worker: None };
        self.hooks().insert(id.clone(), hook);
        if let Err(refusal) = self.write_both().await {
            self.hooks().remove(&id);
            return Err(refusal);
        }
        self.employ(gateway, &id);
        let made = self.get(&id).ok_or(Refusal::Unknown)?;
        Ok((made, secret.text()))
    }

    /// Takes one away, with its worker.
    pub(crate) async fn delete(self: &Arc<Self>, id: &str) -> Result<Shown, Refusal> {
        let _alone = self.changing.lock().await;
        let gone = self.get(id).ok_or(Refusal::Unknown)?;
        self.dismiss(id).await;
        let hook = self.hooks().remove(id);
        if let Err(refusal) = self.write_both().await {
            self.hooks().extend(hook.map(|hook| (id.to_owned(), hook)));
            return Err(refusal);
        }
        Ok(gone)
    }

    /// Changes one while its worker rests.
    pub(crate) async fn change(
        self: &Arc<Self>,
        gateway: &Shared,
        id: &str,
        edit: impl FnOnce(&mut Record, &mut Progress),
    ) -> Result<Shown, Refusal> {
        let _alone = self.changing.lock().await;
        self.get(id).ok_or(Refusal::Unknown)?;
        self.dismiss(id).await;
        let before = self.get(id).ok_or(Refusal::Unknown)?;
        if let Some(hook) = self.hooks().get_mut(id) {
            edit(&mut hook.record, &mut hook.progress);
        }
        let written = self.write_both().await;
        if written.is_err()
            && let Some(hook) = self.hooks().get_mut(id)
        {
            (hook.record, hook.progress) = (before.record, before.progress);
        }
        self.employ(gateway, id);
        written?;
        self.get(id).ok_or(Refusal::Unknown)
    }

    /// Gives it a new secret, shown once; the one before signs too for a day.
    pub(crate) async fn rotate(
        self: &Arc<Self>,
        gateway: &Shared,
        id: &str,
    ) -> Result<(Shown, String), Refusal> {
        let secret = Secret::made();
        let sealed = self.sealer.seal(id, &secret);
        let until_s = text::now_us() / 1_000_000 + OVERLAP_S;
        let shown = self.change(gateway, id, |record, _| record.rotate(sealed, until_s)).await?;
        Ok((shown, secret.text()))
    }

    async fn write_both(self: &Arc<Self>) -> Result<(), Refusal> {
        let webhooks = Arc::clone(self);
        match tokio::task::spawn_blocking(move || webhooks.save_both()).await {
            Ok(written) => written.map_err(Refusal::Store),
            Err(_) => Err(Refusal::Unknown),
        }
    }

    /// What a worker has got done.
    fn note(&self, id: &str, cursor: &Cursor, failing: Option<&Failing>) {
        if let Some(hook) = self.hooks().get_mut(id) {
            let progress = Progress { cursor: cursor.to_string(), failing: failing.cloned() };
            if hook.progress != progress {
                hook.progress = progress;
                self.unsaved.store(true, Ordering::Release);
            }
        }
    }

    /// Its worker has no more to do: it is disabled, with the reason shown.
    async fn disable(self: &Arc<Self>, id: &str, reason: &str, detail: String) {
        tracing::warn!(webhook = id, reason, detail, "webhook disabled");
        let at = text::time(text::now_us());
        if let Some(hook) = self.hooks().get_mut(id) {
            hook.record.disabled = Some(Disabled { reason: reason.to_owned(), detail, at });
            hook.worker = None;
        }
        if let Err(Refusal::Store(error)) = self.write_both().await {
            tracing::error!(%error, webhook = id, "that the webhook is disabled could not be kept");
        }
    }

    /// The message of `body`, signed with every secret that holds.
    fn message(&self, record: &Record, id: &str, body: bytes::Bytes) -> Message {
        let time_s = text::now_us() / 1_000_000;
        let signatures: Vec<String> = record
            .holding(time_s)
            .filter_map(|sealed| self.sealer.open(&record.id, sealed))
            .map(|secret| secret.sign(id, time_s, &body))
            .collect();
        Message { id: id.to_owned(), time_s, signature: signatures.join(" "), body }
    }

    /// Delivers one event that means nothing, now and once, whether or not the webhook is enabled.
    pub(crate) async fn test(&self, id: &str) -> Result<(bool, String, Duration), Refusal> {
        let record = self.get(id).ok_or(Refusal::Unknown)?.record;
        let target = Target::parse(&record.url, self.settings.allowed())
            .map_err(|why| Refusal::Field("url", why.to_owned()))?;
        let event =
            crate::events::test_event(format!("test-{}", text::hex(&random::bytes::<8>())), text::now_us());
        let body = serde_json::to_vec(&event).unwrap_or_default();
        let message = self.message(&record, &event.id, body.into());
        let begun = std::time::Instant::now();
        let (outcome, _) = self.sender.deliver(&target, &message, None).await;
        let (delivered, detail) = match outcome {
            Outcome::Delivered(status) => (true, format!("the receiver answered {status}")),
            Outcome::Gone => (false, "the receiver answered 410".to_owned()),
            Outcome::Failed(detail, _) => (false, detail),
        };
        Ok((delivered, detail, begun.elapsed()))
    }
}

fn shown(hook: &Hook) -> Shown {
    Shown { record: hook.record.clone(), progress: hook.progress.clone(), live: Arc::clone(&hook.live) }
}
