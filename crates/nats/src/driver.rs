//! The thread that speaks to NATS: it takes commands, and puts what arrives into the endpoint's inbox.

use std::collections::HashMap;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_nats::jetstream::message::{AckKind, Acker};
use async_nats::{Client, HeaderMap};
use bytes::Bytes;
use futures_core::Stream;
use skerry_bus::inbox::{Inbox, PushError};
use skerry_bus::{
    ConsumeOptions, Event, Message, Name, Order, Pattern, RequestFault, Share, StreamSpec, Subject,
    SubscriptionId, Takes, Ticket,
};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::options::NatsOptions;
use crate::streams::{Bury, Streams};
use crate::wire;

/// Requests and published messages that lie in the client at most, over and above the endpoint's own bound.
const CLIENT_CAPACITY: usize = 256;

/// What the endpoint asks of its thread.
#[expect(clippy::large_enum_variant, reason = "nearly all are the large ones")]
pub(crate) enum Command {
    Request { ticket: Ticket, message: Message, left: Duration, since: Instant },
    Publish { message: Message },
    Reply { to: String, headers: HeaderMap, payload: Bytes },
    Subscribe { id: SubscriptionId, lane: usize, pattern: Pattern, takes: Takes, queue: Queue },
    Consume { id: SubscriptionId, lane: usize, spec: StreamSpec, options: ConsumeOptions },
    Stop { id: SubscriptionId },
    Store { ticket: Ticket, message: Message },
    Settle { acker: Acker, kind: AckKind },
    Bury(Bury),
    Order { ticket: Ticket, order: Order },
    Close,
}

/// Who shares a NATS subscription.
#[derive(Clone, Copy)]
pub(crate) enum Queue {
    Servers,
    Share(Share),
}

/// What the thread puts into the inbox.
#[expect(clippy::large_enum_variant, reason = "nearly all are the large ones")]
pub(crate) enum Parcel {
    Reply { ticket: Ticket, headers: Option<HeaderMap>, payload: Bytes },
    NoServer { ticket: Ticket },
    Ask { subscription: SubscriptionId, message: Message, to: String, left_us: u64 },
    Heard { subscription: SubscriptionId, message: Message },
    Delivered { subscription: SubscriptionId, message: Message, attempt: u32, sequence: u64, acker: Acker },
    Told(Event),
}

/// The inbox's lane for replies, and the one for what the bus itself tells.
pub(crate) const REPLIES: usize = 0;
pub(crate) const TOLD: usize = 1;

/// What both sides see.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// Messages and bytes that wait to be sent.
    pub(crate) messages: AtomicUsize,
    pub(crate) bytes: AtomicUsize,
    pub(crate) missed: AtomicU64,
    pub(crate) dead: AtomicU64,
}

impl Shared {
    pub(crate) fn sent(&self, message: &Message) {
        self.messages.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(message.size(), Ordering::Relaxed);
    }
}

/// What every task of the thread knows.
pub(crate) struct Post {
    pub(crate) name: Name,
    pub(crate) prefix: Name,
    pub(crate) replicas: usize,
    pub(crate) inbox: Arc<Inbox<Parcel>>,
    pub(crate) shared: Arc<Shared>,
}

impl Post {
    pub(crate) fn tell(&self, event: Event) {
        // The lane has no bound of its own: what is told was asked for, or is one of few.
        let _shut = self.inbox.push(TOLD, 0, Parcel::Told(event));
    }
}

/// The next thing of a stream.
pub(crate) async fn next<S: Stream + Unpin>(stream: &mut S) -> Option<S::Item> {
    std::future::poll_fn(|context| Pin::new(&mut *stream).poll_next(context)).await
}

/// Connects and runs until told to close. `born` hears whether the first connection came about.
pub(crate) async fn run(
    options: NatsOptions,
    post: Post,
    nonce: String,
    mut commands: UnboundedReceiver<Command>,
    born: std::sync::mpsc::Sender<Result<(), async_nats::ConnectError>>,
) {
    let client = match connect(&options, &post).await {
        Ok(client) => client,
        Err(error) => return drop(born.send(Err(error))),
    };
    let post = Rc::new(post);
    let own = format!("{}.i.{}.{nonce}", post.prefix, post.name);
    let Ok(replies) = client.subscribe(format!("{own}.*")).await else { return };
    tokio::task::spawn_local(take_replies(Rc::clone(&post), replies));
    let _gone = born.send(Ok(()));
    let mut driver = Driver {
        streams: Streams::new(client.clone(), Rc::clone(&post), nonce),
        client: client.clone(),
        post,
        own,
        tasks: HashMap::new(),
    };
    while let Some(command) = commands.recv().await {
        if matches!(command, Command::Close) {
            break;
        }
        driver.obey(command).await;
    }
    // What was settled last should arrive; if the servers are away it will be delivered again.
    let _late = tokio::time::timeout(Duration::from_secs(1), client.flush()).await;
}

async fn connect(options: &NatsOptions, post: &Post) -> Result<Client, async_nats::ConnectError> {
    let (inbox, was_up) = (Arc::clone(&post.inbox), Arc::new(AtomicUsize::new(1)));
    let connect = options
        .knock(post.name.as_str())
        .client_capacity(CLIENT_CAPACITY)
        .subscription_capacity(65_536)
        .reconnect_delay_callback(|attempt| Duration::from_millis((20 * attempt as u64).min(500)))
        .event_callback(move |event| {
            let up = match event {
                async_nats::Event::Connected => Some(true),
                async_nats::Event::Disconnected => Some(false),
                _ => None,
            };
            if let Some(up) =
                up.filter(|up| was_up.swap(usize::from(*up), Ordering::SeqCst) != usize::from(*up))
            {
                let _shut = inbox.push(TOLD, 0, Parcel::Told(Event::Link { up }));
            }
            std::future::ready(())
        });
    connect.connect(options.servers.as_slice()).await
}

async fn take_replies(post: Rc<Post>, mut replies: async_nats::Subscriber) {
    while let Some(message) = next(&mut replies).await {
        let number = message.subject.rsplit('.').next().and_then(|text| text.parse().ok());
        let Some(ticket) = number.map(Ticket) else { continue };
        if message.status == Some(async_nats::StatusCode::NO_RESPONDERS) {
            let _shut = post.inbox.push(TOLD, 0, Parcel::NoServer { ticket });
            continue;
        }
        let (headers, bytes) = (message.headers, message.payload.len());
        let parcel = Parcel::Reply { ticket, headers, payload: message.payload };
        if let Err((PushError::Full, _)) = post.inbox.push(REPLIES, bytes, parcel) {
            let mut headers = HeaderMap::new();
            headers.insert("Skerry-Status", "dropped");
            let parcel = Parcel::Reply { ticket, headers: Some(headers), payload: Bytes::new() };
            let _shut = post.inbox.push(TOLD, 0, parcel);
        }
    }
}

struct Driver {
    client: Client,
    post: Rc<Post>,
    own: String,
    streams: Streams,
    tasks: HashMap<SubscriptionId, Vec<tokio::task::AbortHandle>>,
}

impl Driver {
    async fn obey(&mut self, command: Command) {
        match command {
            Command::Request { ticket, message, left, since } => {
                self.post.shared.sent(&message);
                // Nobody waits any more for what lay here until its deadline.
                if let Some(left) = left.checked_sub(since.elapsed()) {
                    self.request(ticket, &message, left).await;
                }
            }
            Command::Publish { message } => {
                self.post.shared.sent(&message);
                let headers = wire::headers(&message, self.post.name);
                let subject = wire::subject(self.post.prefix, 'p', &message);
                let _lost = self.client.publish_with_headers(subject, headers, message.payload).await;
            }
            Command::Reply { to, headers, payload } => {
                let _lost = self.client.publish_with_headers(to, headers, payload).await;
            }
            Command::Subscribe { id, lane, pattern, takes, queue } => {
                self.subscribe(id, lane, pattern, &takes, queue).await;
            }
            Command::Consume { id, lane, spec, options } => {
                let tasks = self.streams.consume(id, lane, spec, options);
                self.tasks.insert(id, tasks);
            }
            Command::Stop { id } => {
                self.tasks.remove(&id).into_iter().flatten().for_each(|task| task.abort());
            }
            Command::Store { ticket, message } => self.streams.store(ticket, message),
            Command::Settle { acker, kind } => drop(acker.ack_with(kind).await),
            Command::Bury(bury) => self.streams.bury(bury),
            Command::Order { ticket, order } => self.streams.order(ticket, order),
            Command::Close => (),
        }
    }

    async fn request(&self, ticket: Ticket, message: &Message, left: Duration) {
        let mut headers = wire::headers(message, self.post.name);
        headers.insert(wire::TIME_LEFT, left.as_micros().to_string().as_str());
        let (subject, reply) =
            (wire::subject(self.post.prefix, 'r', message), format!("{}.{}", self.own, ticket.0));
        let payload = message.payload.clone();
        let _lost = self.client.publish_with_reply_and_headers(subject, reply, headers, payload).await;
    }

    async fn subscribe(
        &mut self,
        id: SubscriptionId,
        lane: usize,
        pattern: Pattern,
        takes: &Takes,
        queue: Queue,
    ) {
        let mut tasks = Vec::new();
        for token in wire::tokens(takes) {
            let (kind, group) = match queue {
                Queue::Servers => ('r', Some("servers".to_owned())),
                Queue::Share(Share::Group(name)) => ('p', Some(name.to_string())),
                Queue::Share(Share::Every) => ('p', None),
            };
            let subject = wire::pattern(self.post.prefix, kind, &token, &pattern);
            let subscribed = match group {
                Some(group) => self.client.queue_subscribe(subject, group).await,
                None => self.client.subscribe(subject).await,
            };
            let Ok(subscriber) = subscribed else { continue };
            let arrivals =
                Arrivals { post: Rc::clone(&self.post), client: self.client.clone(), id, lane, queue };
            tasks.push(tokio::task::spawn_local(arrivals.take(subscriber)).abort_handle());
        }
        self.tasks.insert(id, tasks);
        let (client, post) = (self.client.clone(), Rc::clone(&self.post));
        tokio::task::spawn_local(async move {
            // The server answers in order: once this comes back it knows the subscription.
            let probe = format!("{}.i.{}.probe", post.prefix, post.name);
            loop {
                let Ok(mut back) = client.subscribe(format!("{probe}.{}", id.0)).await else { return };
                let _lost = client.publish(format!("{probe}.{}", id.0), Bytes::new()).await;
                if let Ok(Some(_)) = tokio::time::timeout(Duration::from_secs(1), next(&mut back)).await {
                    return post.tell(Event::Ready { subscription: id });
                }
            }
        });
    }
}

struct Arrivals {
    post: Rc<Post>,
    client: Client,
    id: SubscriptionId,
    lane: usize,
    queue: Queue,
}

impl Arrivals {
    async fn take(self, mut subscriber: async_nats::Subscriber) {
        while let Some(arrived) = next(&mut subscriber).await {
            let Some(subject) = wire::inner(&arrived.subject) else { continue };
            let message = wire::message(subject, arrived.headers.as_ref(), arrived.payload);
            match self.queue {
                Queue::Servers => self.asked(subject, message, arrived.reply, arrived.headers).await,
                Queue::Share(share) => self.heard(message, share),
            }
        }
    }

    fn heard(&self, message: Message, share: Share) {
        let ours = match (message.headers.group, share) {
            (None, _) => true,
            (Some(only), Share::Group(name)) => only == name,
            (Some(_), Share::Every) => false,
        };
        let bytes = message.size();
        let parcel = Parcel::Heard { subscription: self.id, message };
        if ours && self.post.inbox.push(self.lane, bytes, parcel).is_err() {
            self.post.shared.missed.fetch_add(1, Ordering::Relaxed);
        }
    }

    async fn asked(
        &self,
        _subject: Subject,
        message: Message,
        reply: Option<async_nats::Subject>,
        headers: Option<HeaderMap>,
    ) {
        let Some(to) = reply.map(|reply| reply.to_string()) else { return };
        let left = headers.as_ref().and_then(|headers| wire::value(headers, wire::TIME_LEFT));
        let left_us = left.and_then(|text| text.parse().ok()).unwrap_or(30_000_000);
        let bytes = message.size();
        let parcel = Parcel::Ask { subscription: self.id, message, to, left_us };
        if let Err((_, Parcel::Ask { to, .. })) = self.post.inbox.push(self.lane, bytes, parcel) {
            let mut headers = HeaderMap::new();
            wire::refuse(&mut headers, &RequestFault::Busy);
            let _lost = self.client.publish_with_headers(to, headers, Bytes::new()).await;
        }
    }
}
