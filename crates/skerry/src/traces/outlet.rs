//! Between requests and the collector: a bounded queue, and one thread that empties it in batches.
//!
//! A request only puts what there is to tell into the queue, or drops and counts it when that is full. Ids, words and bytes
//! are made on the thread, which alone waits for the collector. A batch that is not taken is dropped and counted: traces
//! tell of the bank, they are no part of it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use anyhow::Context;
use skerry_bus::TraceContext;
use skerry_gateway::meters::Meters;
use skerry_gateway::traces::{Traced, Traces, Verdict};
use tokio::runtime::Runtime;

use super::collector::Collector;
use super::{Endpoint, spans};
use crate::config::Config;

/// Requests told in one batch.
const BATCH_MAX: usize = 256;

/// How long the first of a batch waits for others.
const LINGER: Duration = Duration::from_secs(1);

/// How long the collector is left alone after it did not take a batch.
const PAUSE: Duration = Duration::from_secs(1);

/// How long the bank's end waits for what is left to be told.
const FLUSH: Duration = Duration::from_secs(3);

/// The way out for traces, until [`close`](Self::close).
pub(crate) struct Outlet {
    queue: Arc<Queue>,
    /// Dropped to say that the end has come.
    ending: Sender<()>,
    /// Closed by the thread when it is done.
    done: Receiver<()>,
}

impl Outlet {
    /// Starts the thread. The collector need not be there.
    ///
    /// # Errors
    ///
    /// The files that the section names; a thread that cannot be started.
    pub(super) fn open(config: &Config, endpoint: Endpoint, meters: Arc<Meters>) -> anyhow::Result<Self> {
        let section = &config.traces;
        let server = endpoint.address.authority.clone();
        let collector = Collector::new(section, endpoint)?;
        let (sender, receiver) = sync_channel(usize::try_from(section.queue_max).unwrap_or(usize::MAX));
        let (ending, ended) = channel();
        let (finished, done) = channel();
        let mut seed = [0; 8];
        getrandom::fill(&mut seed)
            .map_err(|error| anyhow::anyhow!("the system gives no random bytes: {error}"))?;
        let queue = Arc::new(Queue {
            sender: RwLock::new(Some(sender)),
            seen: AtomicU64::new(u64::from_le_bytes(seed)),
            below: u64::from(section.sample.millionths),
            meters: Arc::clone(&meters),
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("no runtime for traces")?;
        let institution = config.bank.institution.clone();
        let teller = Teller { collector, runtime, receiver, ended, institution, meters, away: false };
        std::thread::Builder::new()
            .name("traces".to_owned())
            .spawn(move || {
                // Held until the thread ends, in whatever way.
                let _finished = finished;
                teller.run();
            })
            .context("could not start the thread for traces")?;
        tracing::info!(server, sample = f64::from(section.sample), "traces go to a collector");
        Ok(Self { queue, ending, done })
    }

    /// Where the gateway tells of requests.
    pub(crate) fn sink(&self) -> Arc<dyn Traces> {
        Arc::clone(&self.queue) as Arc<dyn Traces>
    }

    /// Takes nothing more, and waits a bounded time for what is left to be told.
    pub(crate) fn close(self) {
        drop(self.queue.sender.write().unwrap_or_else(PoisonError::into_inner).take());
        drop(self.ending);
        if self.done.recv_timeout(FLUSH) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("the collector of traces is too slow: the last spans are lost");
        }
    }
}

/// What requests see of it.
struct Queue {
    sender: RwLock<Option<SyncSender<Traced>>>,
    /// Counts the requests that came without a parent; begins anywhere.
    seen: AtomicU64,
    /// Millionths that are recorded of them.
    below: u64,
    meters: Arc<Meters>,
}

impl Traces for Queue {
    fn admit(&self, traceparent: Option<&str>) -> Verdict {
        match traceparent.and_then(TraceContext::parse) {
            Some(parent) if parent.flags & 1 == 1 => {
                Verdict::Under { trace: parent.trace, span: parent.span }
            }
            Some(_) => Verdict::Pass,
            None => {
                let number = self.seen.fetch_add(1, Ordering::Relaxed);
                if mixed(number) % 1_000_000 < self.below { Verdict::Root } else { Verdict::Pass }
            }
        }
    }

    fn tell(&self, request: Traced) {
        let sender = self.sender.read().unwrap_or_else(PoisonError::into_inner);
        let spans = spans_of(&request);
        if sender.as_ref().is_none_or(|sender| sender.try_send(request).is_err()) {
            self.meters.traces_dropped.add(spans);
        }
    }
}

/// Spreads neighbouring numbers (the finaliser of SplitMix64, Steele, Lea and Flood 2014).
fn mixed(number: u64) -> u64 {
    let word = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

fn spans_of(request: &Traced) -> u64 {
    u64::try_from(request.steps.len()).unwrap_or(u64::MAX).saturating_add(1)
}

/// The thread's side.
struct Teller {
    collector: Collector,
    runtime: Runtime,
    receiver: Receiver<Traced>,
    ended: Receiver<()>,
    institution: String,
    meters: Arc<Meters>,
    /// The last batch was not taken.
    away: bool,
}

impl Teller {
    /// Tells until the queue is closed and empty; after the close, no longer than the flush may take.
    fn run(mut self) {
        let mut last = None;
        while let Ok(first) = self.receiver.recv() {
            let batch = self.gather(first);
            let ending = self.is_ending();
            if ending && last.get_or_insert_with(Instant::now).elapsed() >= FLUSH {
                self.drop_all(batch);
                return;
            }
            self.tell(&batch);
            if self.away && !ending {
                // Ends early when the bank does.
                let _ending = self.ended.recv_timeout(PAUSE);
            } else if self.away {
                // Who does not take this will not take the rest in time.
                self.drop_all(Vec::new());
                return;
            }
        }
    }

    fn is_ending(&self) -> bool {
        self.ended.try_recv() == Err(std::sync::mpsc::TryRecvError::Disconnected)
    }

    fn gather(&self, first: Traced) -> Vec<Traced> {
        let until = Instant::now() + LINGER;
        let mut batch = vec![first];
        while batch.len() < BATCH_MAX {
            let left = until.saturating_duration_since(Instant::now());
            match self.receiver.recv_timeout(left) {
                Ok(request) => batch.push(request),
                Err(_) => break,
            }
        }
        batch
    }

    fn tell(&mut self, batch: &[Traced]) {
        let mut random = || {
            let mut bytes = [0; 8];
            // Without random bytes ids repeat and traces mix, which is no reason to end a bank.
            let _poor = getrandom::fill(&mut bytes);
            u64::from_le_bytes(bytes)
        };
        let spans: Vec<_> = batch.iter().flat_map(|request| spans::of(request, &mut random)).collect();
        let count = u64::try_from(spans.len()).unwrap_or(u64::MAX);
        let message = spans::batch(&self.institution, spans);
        // The connection's own task runs only while this waits; that is enough, for nothing else uses it.
        match self.runtime.block_on(self.collector.send(&message)) {
            Ok(refused) => {
                let refused = refused.min(count);
                self.meters.traces_sent.add(count - refused);
                self.meters.traces_dropped.add(refused);
                if std::mem::take(&mut self.away) {
                    tracing::info!("the collector of traces is back");
                }
            }
            Err(error) => {
                self.meters.traces_dropped.add(count);
                if !std::mem::replace(&mut self.away, true) {
                    tracing::warn!(
                        error = format!("{error:#}"),
                        "the collector of traces is away: spans are dropped and counted"
                    );
                }
            }
        }
    }

    fn drop_all(&self, batch: Vec<Traced>) {
        let spans = batch.iter().chain(&self.receiver.try_iter().collect::<Vec<_>>()).map(spans_of).sum();
        self.meters.traces_dropped.add(spans);
    }
}

#[cfg(test)]
#[path = "outlet_tests.rs"]
mod tests;
