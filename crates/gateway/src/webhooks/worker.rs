//! One webhook at work: reads on, sends what may be sent, and after a failure waits and tries that one event alone until it is
//! taken, so that a receiver in trouble is not pressed and nothing overtakes what failed.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::JoinSet;

use super::send::{Connection, Outcome};
use super::store::{Failing, Record};
use super::target::Target;
use super::window::Window;
use super::{LANDING, Live, Webhooks};
use crate::catalogue;
use crate::events::Told;
use crate::events::reader::{Filter, Reader};
use crate::gateway::Shared;
use crate::{random, text};

/// Events of one webhook that are read ahead.
const WINDOW: usize = 64;

/// What a delivery came to: the number of its event, its end, and its connection.
type Landed = (u64, Outcome, Option<Connection>);

struct Worker {
    webhooks: Arc<Webhooks>,
    gateway: Shared,
    record: Record,
    target: Arc<Target>,
    live: Arc<Live>,
    reader: Reader,
    window: Window,
    /// The event that fails; while there is one, it alone is tried.
    failing: Option<(u64, Failing)>,
    flights: JoinSet<Landed>,
    kept: Vec<Connection>,
    is_end: bool,
}

/// Why a worker ends.
enum End {
    Stopping,
    Disable(&'static str, String),
}

/// Delivers for the webhook `id` until the bank stops, it is dismissed, or there is no more sense in it.
pub(super) async fn run(webhooks: Arc<Webhooks>, gateway: Shared, id: String) {
    let Some(shown) = webhooks.get(&id) else { return };
    let target = match Target::parse(&shown.record.url, webhooks.settings.allowed()) {
        Ok(target) => Arc::new(target),
        Err(why) => return webhooks.disable(&id, "address", why.to_owned()).await,
    };
    let all = gateway.bank.seats().keys().copied().collect();
    let branches = shown.record.branches.clone().unwrap_or(all);
    let filter = Filter::of_types(shown.record.types.clone());
    let cursor = shown.cursor();
    let mut worker = Worker {
        reader: Reader::new(branches, filter, cursor.clone()).of_all(shown.record.branches.is_none()),
        window: Window::new(cursor),
        failing: shown.progress.failing.map(|failing| (0, failing)),
        target,
        live: shown.live,
        record: shown.record,
        flights: JoinSet::new(),
        kept: Vec::new(),
        is_end: false,
        webhooks: Arc::clone(&webhooks),
        gateway,
    };
    if let End::Disable(reason, detail) = worker.work().await {
        webhooks.note(&id, worker.window.cursor(), None);
        webhooks.disable(&id, reason, detail).await;
    }
}

impl Worker {
    async fn work(&mut self) -> End {
        let mut listener = self.gateway.bank.news.listen();
        loop {
            if self.gateway.stopping.load(Ordering::Relaxed) {
                return self.land().await;
            }
            if let Err(end) = self.fill().await {
                return end;
            }
            self.launch();
            self.tell();
            let rest = self.rest();
            let has_room = self.window.len() < WINDOW;
            tokio::select! {
                Some(landed) = self.flights.join_next(), if !self.flights.is_empty() => {
                    let landed = match landed {
                        Ok(landed) => self.landed(landed),
                        Err(_) => Err(End::Disable("internal", "a delivery panicked".to_owned())),
                    };
                    if let Err(end) = landed {
                        return end;
                    }
                }
                () = listener.heard(), if has_room || self.flights.is_empty() => {}
                () = tokio::time::sleep(rest.unwrap_or_default()), if rest.is_some() => {}
            }
        }
    }

    /// Waits a little for what is on its way, and says how far that was.
    async fn land(&mut self) -> End {
        let until = tokio::time::Instant::now() + LANDING;
        while let Ok(Some(landed)) = tokio::time::timeout_at(until, self.flights.join_next()).await {
            if let Ok(Err(end)) = landed.map(|landed| self.landed(landed)) {
                return end;
            }
        }
        self.tell();
        End::Stopping
    }

    /// Reads on while there is room.
    async fn fill(&mut self) -> Result<(), End> {
        // While one fails nothing else is sent, so nothing else need be read.
        let is_held = self.failing.is_some() && self.window.len() > 0;
        if is_held || self.window.len() > WINDOW / 2 {
            return Ok(());
        }
        self.reader.widen(&self.gateway, |_| true);
        let page = match self.reader.page(&self.gateway, WINDOW - self.window.len()).await {
            Ok(page) => page,
            Err(problem) => crate::events::reader::Page {
                troubles: self.reader.trouble(problem),
                ..crate::events::reader::Page::default()
            },
        };
        let mut trouble = String::new();
        for (_, problem) in &page.troubles {
            if problem.number() == catalogue::CURSOR_AHEAD {
                return Err(End::Disable(problem.code(), problem.told()));
            }
            trouble = format!("{}: {}", problem.code(), problem.told());
        }
        *self.live.trouble.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = trouble;
        page.told.into_iter().for_each(|told| self.window.push(told));
        self.window.looked_at(&self.reader.cursor);
        self.is_end = !page.more;
        // What failed before the bank was stopped is the first that is not delivered; if that is gone, so is the failure.
        if let (Some((number, _)), Some(first)) = (&mut self.failing, self.window.first()) {
            *number = (*number).max(first);
        } else if self.is_end {
            self.failing = None;
        }
        Ok(())
    }

    /// Sends what may be sent.
    fn launch(&mut self) {
        let now_ms = text::now_us() / 1_000;
        if let Some((number, failing)) = &self.failing {
            if self.flights.is_empty()
                && now_ms >= failing.next_ms
                && let Some((number, told)) = self.window.take_this(*number)
            {
                let told = told.clone();
                self.send(number, &told);
            }
            return;
        }
        while self.flights.len() < self.webhooks.settings.endpoint_flights {
            let Some((number, told)) = self.window.take() else { return };
            let told = told.clone();
            self.send(number, &told);
        }
    }

    fn send(&mut self, number: u64, told: &Told) {
        let body = serde_json::to_vec(&told.event).unwrap_or_default();
        let (webhooks, record, live) =
            (Arc::clone(&self.webhooks), self.record.clone(), Arc::clone(&self.live));
        let (target, id, kept) = (Arc::clone(&self.target), told.event.id.clone(), self.kept.pop());
        self.flights.spawn(async move {
            // It is never closed.
            let _turn = webhooks.flights.acquire().await;
            let _flying = Flying::begin(&live);
            // Signed when it goes: the receiver looks at the time.
            let message = webhooks.message(&record, &id, body.into());
            let (outcome, connection) = webhooks.sender.deliver(&target, &message, kept).await;
            (number, outcome, connection)
        });
    }

    fn landed(&mut self, (number, outcome, connection): Landed) -> Result<(), End> {
        self.kept.extend(connection);
        match outcome {
            Outcome::Delivered(_) => {
                self.live.delivered.fetch_add(1, Ordering::Relaxed);
                self.window.delivered(number);
                if self.failing.as_ref().is_some_and(|(failed, _)| *failed == number) {
                    self.failing = None;
                }
                Ok(())
            }
            Outcome::Gone => {
                self.live.failures.fetch_add(1, Ordering::Relaxed);
                Err(End::Disable("gone", "the receiver answered 410".to_owned()))
            }
            Outcome::Failed(detail, asked) => {
                self.live.failures.fetch_add(1, Ordering::Relaxed);
                self.window.failed(number);
                self.failed(number, detail, asked)
            }
        }
    }

    /// Notes a failure: of the event that is tried, or the first of some that were on their way together.
    fn failed(&mut self, number: u64, detail: String, asked: Option<Duration>) -> Result<(), End> {
        let now_ms = text::now_us() / 1_000;
        let retries = &self.webhooks.settings.retries;
        let before = match self.failing.take() {
            Some((other, failing)) if other != number => {
                self.failing = Some((other.min(number), failing));
                return Ok(());
            }
            before => before.map(|(_, failing)| failing),
        };
        let attempts = before.as_ref().map_or(0, |failing| failing.attempts).saturating_add(1);
        let since_s = before.map_or(now_ms / 1_000, |failing| failing.since_s);
        let failed_s = (now_ms / 1_000).saturating_sub(since_s);
        if failed_s >= retries.give_up.as_secs() {
            let detail = format!("it failed for {failed_s} seconds, at last: {detail}");
            return Err(End::Disable("gave_up", detail));
        }
        let wait = retries.wait(attempts, asked, u16::from_le_bytes(random::bytes()));
        let next_ms = now_ms.saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        self.failing = Some((number, Failing { since_s, attempts, next_ms, detail }));
        Ok(())
    }

    /// Says how far we are.
    fn tell(&self) {
        let failing = self.failing.as_ref().map(|(_, failing)| failing);
        self.webhooks.note(&self.record.id, self.window.cursor(), failing);
        let oldest_us = self.window.oldest().map_or(0, |told| told.event.time.0);
        self.live.oldest_us.store(oldest_us, Ordering::Relaxed);
    }

    /// How long there is nothing to do unless something happens; nothing if only something can.
    fn rest(&self) -> Option<Duration> {
        match &self.failing {
            Some((_, failing)) if self.flights.is_empty() && self.window.len() > 0 => {
                let now_ms = text::now_us() / 1_000;
                Some(Duration::from_millis(failing.next_ms.saturating_sub(now_ms).max(1)))
            }
            // There is more to read, and room for it.
            None if !self.is_end && self.window.len() <= WINDOW / 2 => Some(Duration::ZERO),
            _ => None,
        }
    }
}

/// Counts a delivery as under way until dropped.
struct Flying<'a>(&'a Live);

impl<'a> Flying<'a> {
    fn begin(live: &'a Live) -> Self {
        live.flying.fetch_add(1, Ordering::Relaxed);
        Self(live)
    }
}

impl Drop for Flying<'_> {
    fn drop(&mut self) {
        self.0.flying.fetch_sub(1, Ordering::Relaxed);
    }
}
