//! A log of events outside of the bank, in JetStream: what is put in is kept once, in order, for whoever follows it.
//!
//! ```text
//! put ─► PREFIX.events.LANE.KIND    stream PREFIX-events: kept by age and size, the oldest go first
//! ```
//!
//! Many are sent at once. The first names the number that the stream must end at, each other one the event that must be the
//! last: whatever the server does not take, nothing after it is taken either, whoever else puts something in. Where a lane
//! ends, its last event says ([`EventLog::last`]); so who was cut off, or does not know what became of what it put in, asks
//! and goes on, and nothing is there twice.
//!
//! **Invariant:** tokio never leaves this module; calls wait, and belong on a thread that may.

use std::future::IntoFuture;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::context::{ContextBuilder, GetStreamError, GetStreamErrorKind, PublishAckFuture};
use async_nats::jetstream::stream::{
    Config, DiscardPolicy, LastRawMessageErrorKind, RetentionPolicy, Stream,
};
use async_nats::jetstream::{Context, ErrorCode};
use bytes::Bytes;
use tokio::runtime::Runtime;

use crate::options::NatsOptions;

/// Where an event stands in its lane, in the words of whoever put it in.
const PLACE: &str = "Skerry-Place";
/// How long the server may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the log is.
#[derive(Debug, Clone)]
pub struct EventLogOptions {
    /// Where NATS is.
    pub nats: NatsOptions,
    /// Events are kept for so long.
    pub age_max: Duration,
    /// And as long as all of them have no more bytes than this.
    pub bytes_max: u64,
}

/// An event to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    /// What is in order, a token of the subject: a branch.
    pub lane: String,
    /// The rest of the subject: the kind of event.
    pub kind: String,
    /// Where it stands in its lane.
    pub place: String,
    /// A CloudEvent as JSON.
    pub body: Bytes,
}

/// The log did not do it. What was to be put in may be in, from the first on.
#[derive(Debug, Clone, thiserror::Error)]
#[error("could not {action} the event log: {reason}")]
pub struct EventLogError {
    action: &'static str,
    reason: String,
}

fn failed<E: std::fmt::Display>(action: &'static str) -> impl FnOnce(E) -> EventLogError {
    move |error| EventLogError { action, reason: error.to_string() }
}

/// The connection, and where the stream ends as far as we know.
struct Hub {
    context: Context,
    stream: Stream,
    end: u64,
}

/// See the module.
pub struct EventLog {
    options: EventLogOptions,
    runtime: Option<Runtime>,
    hub: Mutex<Option<Hub>>,
}

impl std::fmt::Debug for EventLog {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("EventLog")
            .field("servers", &self.options.nats.servers)
            .finish_non_exhaustive()
    }
}

impl EventLog {
    /// A log; it connects when it is first asked.
    ///
    /// # Errors
    ///
    /// If the machine gives no thread.
    pub fn new(options: EventLogOptions) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("event-log")
            .enable_all()
            .build()?;
        Ok(Self { options, runtime: Some(runtime), hub: Mutex::default() })
    }

    /// Where the last event of `lane` stands; `None` if the log has none.
    ///
    /// # Errors
    ///
    /// [`EventLogError`].
    pub fn last(&self, lane: &str) -> Result<Option<String>, EventLogError> {
        let subject = format!("{}.events.{lane}.>", self.options.nats.prefix);
        // Of the stream's leader: a follower may not have heard of the last ones yet.
        self.with_hub(async |hub| match hub.stream.get_last_raw_message_by_subject(&subject).await {
            Ok(message) => Ok(message.headers.get(PLACE).map(|place| place.as_str().to_owned())),
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(failed("ask")(error)),
        })
    }

    /// Puts events in, in this order. When this returns all are kept, on as many servers as the options say.
    ///
    /// # Errors
    ///
    /// [`EventLogError`]; then some may be in, the first ones: [`last`](Self::last) tells which.
    pub fn put(&self, events: &[Logged]) -> Result<(), EventLogError> {
        let prefix = self.options.nats.prefix.to_string();
        self.with_hub(async |hub| {
            let mut acks: Vec<PublishAckFuture> = Vec::with_capacity(events.len());
            let mut sent = Ok(());
            let mut before: Option<String> = None;
            for event in events {
                let id = format!("{}-{}", event.lane, event.place);
                let mut headers = HeaderMap::new();
                match before.replace(id.clone()) {
                    // A number alone would fit again as soon as somebody else has put as many in.
                    Some(before) => headers.insert("Nats-Expected-Last-Msg-Id", before),
                    None => headers.insert("Nats-Expected-Last-Sequence", hub.end.to_string()),
                }
                headers.insert("Nats-Msg-Id", id);
                headers.insert("Content-Type", "application/cloudevents+json");
                headers.insert(PLACE, event.place.as_str());
                let subject = format!("{prefix}.events.{}.{}", event.lane, event.kind);
                match hub.context.publish_with_headers(subject, headers, event.body.clone()).await {
                    Ok(ack) => acks.push(ack),
                    Err(error) => {
                        sent = Err(failed("put into")(error));
                        break;
                    }
                }
            }
            // One patience for all of them. What comes in later than that finds another end than it names.
            let until = tokio::time::Instant::now() + PATIENCE;
            for ack in acks {
                let answered = tokio::time::timeout_at(until, ack.into_future()).await;
                hub.end = answered.map_err(failed("put into"))?.map_err(failed("put into"))?.sequence;
            }
            sent
        })
    }

    /// What the log keeps from number `from` on, at most `most`, each with its number and subject: for those who check it.
    ///
    /// # Errors
    ///
    /// [`EventLogError`].
    pub fn read(&self, from: u64, most: usize) -> Result<Vec<(u64, String, Bytes)>, EventLogError> {
        self.with_hub(async |hub| {
            let info = hub.stream.get_info().await.map_err(failed("ask"))?;
            let first = from.max(info.state.first_sequence);
            let mut found = Vec::new();
            for number in (first..=info.state.last_sequence).take(most) {
                let message = hub.stream.get_raw_message(number).await.map_err(failed("read"))?;
                found.push((number, message.subject.to_string(), message.payload));
            }
            Ok(found)
        })
    }

    /// Lets `work` speak to the server; after an error everything begins anew.
    fn with_hub<T>(
        &self,
        work: impl AsyncFnOnce(&mut Hub) -> Result<T, EventLogError>,
    ) -> Result<T, EventLogError> {
        let runtime = self.runtime.as_ref().expect("only dropping takes it");
        let mut kept = self.hub();
        runtime.block_on(async {
            let mut hub = match kept.take() {
                Some(hub) => hub,
                None => self.connect().await?,
            };
            let done =
                tokio::time::timeout(2 * PATIENCE, work(&mut hub)).await.map_err(failed("wait for"))??;
            *kept = Some(hub);
            Ok(done)
        })
    }

    fn hub(&self) -> MutexGuard<'_, Option<Hub>> {
        self.hub.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn connect(&self) -> Result<Hub, EventLogError> {
        let nats = &self.options.nats;
        let connecting =
            tokio::time::timeout(PATIENCE, nats.knock("event-log").connect(nats.servers.as_slice()));
        let client = connecting.await.map_err(failed("reach"))?.map_err(failed("reach"))?;
        let context = ContextBuilder::new().timeout(PATIENCE).ack_timeout(PATIENCE).build(client);
        let config = Config {
            name: format!("{}-events", nats.prefix),
            subjects: vec![format!("{}.events.>", nats.prefix)],
            retention: RetentionPolicy::Limits,
            discard: DiscardPolicy::Old,
            max_age: self.options.age_max,
            max_bytes: i64::try_from(self.options.bytes_max).unwrap_or(i64::MAX),
            num_replicas: nats.replicas,
            ..Config::default()
        };
        let stream = declare(&context, config).await?;
        let end = stream.cached_info().state.last_sequence;
        Ok(Hub { context, stream, end })
    }
}

/// The stream, as the options want it. A change goes through the leader of all servers, so none is asked for without need:
/// a log that is there goes on as soon as its own leader is elected.
async fn declare(context: &Context, wanted: Config) -> Result<Stream, EventLogError> {
    let name = wanted.name.clone();
    match context.get_stream(&name).await {
        Ok(stream) if is_as(&stream.cached_info().config, &wanted) => return Ok(stream),
        Ok(_) => drop(context.update_stream(wanted).await.map_err(failed("declare"))?),
        Err(error) if is_missing(&error) => {
            context.create_stream(wanted).await.map_err(failed("declare"))?;
        }
        Err(error) => return Err(failed("ask")(error)),
    }
    context.get_stream(name).await.map_err(failed("ask"))
}

/// Whether a stream has what the options decide.
fn is_as(found: &Config, wanted: &Config) -> bool {
    (&found.subjects, found.max_age, found.max_bytes, found.num_replicas)
        == (&wanted.subjects, wanted.max_age, wanted.max_bytes, wanted.num_replicas)
}

fn is_missing(error: &GetStreamError) -> bool {
    let GetStreamErrorKind::JetStream(error) = error.kind() else { return false };
    error.error_code() == ErrorCode::STREAM_NOT_FOUND
}

impl Drop for EventLog {
    fn drop(&mut self) {
        self.hub().take();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
