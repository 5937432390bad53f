//! What a check of the suite works with: endpoints that are turned together, and what they have told so far.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{OrderFault, RequestFault};
use crate::event::Event;
use crate::message::Message;
use crate::options::{
    Bounds, ConsumeOptions, Limits, Order, Outcome, ServeOptions, Share, StreamSpec, SubscribeOptions, Takes,
};
use crate::seam::{AskId, Bus, DeliveryId, Moment, SubscriptionId, Ticket, Wake};
use crate::text::{Name, Pattern, Subject};

/// A minute of the rig's time.
const PATIENCE_US: u64 = 60_000_000;

/// What gives the suite endpoints and time.
pub trait Rig {
    /// The implementation under test.
    type Bus: Bus;

    /// An endpoint.
    fn connect(&mut self, name: Name, limits: Limits) -> Self::Bus;

    /// The time now.
    fn now(&mut self) -> Moment;

    /// Nothing has happened: waits until woken or for a few milliseconds; or lets time go on, if the rig makes it.
    fn idle(&mut self);

    /// What endpoints call when they have something; none if nothing ever sleeps.
    fn wake(&self) -> Option<Wake>;
}

/// The endpoints of one check, with names and subjects that no other check uses.
pub struct Scene<'r, R: Rig> {
    rig: &'r mut R,
    tag: u64,
    actors: Vec<Actor<R::Bus>>,
}

struct Actor<B> {
    bus: B,
    events: Vec<Event>,
}

/// A delivery, as told.
#[derive(Debug, Clone)]
pub(super) struct Delivered {
    pub(super) delivery: DeliveryId,
    pub(super) attempt: u32,
    pub(super) message: Message,
}

impl Delivered {
    pub(super) fn text(&self) -> String {
        text(&self.message)
    }
}

/// A message's payload as text.
pub(super) fn text(message: &Message) -> String {
    String::from_utf8_lossy(&message.payload).into_owned()
}

pub(super) fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

/// Room for whatever a check sends.
pub(super) const ROOM: Bounds = Bounds::new(10_000, 64 << 20);

impl<'r, R: Rig> Scene<'r, R> {
    /// An empty one. Its tag is unlike that of any other run, so that servers that remember are no trouble.
    pub fn new(rig: &'r mut R) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let tag = NEXT.fetch_add(1, Ordering::Relaxed);
        Self { rig, tag, actors: Vec::new() }
    }

    /// The time.
    pub(super) fn now(&mut self) -> Moment {
        self.rig.now()
    }

    /// A name of this check alone.
    pub(super) fn name(&self, text: &str) -> Name {
        Name::new(&format!("t{}-{text}", self.tag)).expect("short and plain")
    }

    /// A subject of this check alone.
    pub(super) fn subject(&self, text: &str) -> Subject {
        Subject::new(&format!("t{}.{text}", self.tag)).expect("short and plain")
    }

    /// A pattern within this check's subjects.
    pub(super) fn pattern(&self, text: &str) -> Pattern {
        Pattern::new(&format!("t{}.{text}", self.tag)).expect("short and plain")
    }

    /// A message to one of this check's subjects.
    pub(super) fn message(&self, subject: &str, payload: &str) -> Message {
        Message::new(self.subject(subject), payload.to_owned())
    }

    /// Connects an endpoint; actors are numbered from 0.
    pub(super) fn join(&mut self, name: &str, limits: Limits) -> usize {
        let name = self.name(name);
        let mut bus = self.rig.connect(name, limits);
        assert_eq!(bus.name(), name);
        if let Some(wake) = self.rig.wake() {
            bus.on_event(wake);
        }
        self.actors.push(Actor { bus, events: Vec::new() });
        self.actors.len() - 1
    }

    /// Disconnects the last endpoint that joined.
    pub(super) fn part(&mut self) {
        self.actors.pop();
    }

    pub(super) fn bus(&mut self, actor: usize) -> &mut R::Bus {
        &mut self.actors[actor].bus
    }

    /// Polls everyone once around; `false` if nobody had anything.
    pub(super) fn turn(&mut self) -> bool {
        let now = self.rig.now();
        let mut something = false;
        for actor in &mut self.actors {
            while let Some(event) = actor.bus.poll(now) {
                actor.events.push(event);
                something = true;
            }
        }
        something
    }

    /// Turns everyone but lets `actor`'s queues fill.
    pub(super) fn turn_without(&mut self, actor: usize) {
        let now = self.rig.now();
        let mut something = false;
        for (_, other) in self.actors.iter_mut().enumerate().filter(|(index, _)| *index != actor) {
            while let Some(event) = other.bus.poll(now) {
                other.events.push(event);
                something = true;
            }
        }
        if !something {
            self.rig.idle();
        }
    }

    /// Turns everyone until `found` finds what must happen.
    ///
    /// # Panics
    ///
    /// After a minute.
    pub(super) fn until<T>(&mut self, what: &str, mut found: impl FnMut(&mut Self) -> Option<T>) -> T {
        let end = self.rig.now().after(PATIENCE_US);
        loop {
            let something = self.turn();
            if let Some(found) = found(self) {
                return found;
            }
            assert!(self.rig.now() < end, "{what}: did not happen within a minute");
            if !something {
                self.rig.idle();
            }
        }
    }

    /// Lets so much time go by.
    pub(super) fn pass(&mut self, us: u64) {
        let end = self.rig.now().after(us);
        self.until("time goes by", |scene| (scene.rig.now() >= end).then_some(()));
    }

    /// Takes the events of `actor` that `choose` wants; the others stay.
    pub(super) fn pick<T>(&mut self, actor: usize, mut choose: impl FnMut(&Event) -> Option<T>) -> Vec<T> {
        let mut picked = Vec::new();
        self.actors[actor].events.retain(|event| {
            let chosen = choose(event);
            let keep = chosen.is_none();
            picked.extend(chosen);
            keep
        });
        picked
    }

    fn ready(&mut self, actor: usize, id: SubscriptionId) {
        self.until("a subscription is ready", |scene| {
            let told = scene.pick(actor, |event| match event {
                Event::Ready { subscription } if *subscription == id => Some(Ok(())),
                Event::NotReady { subscription, fault } if *subscription == id => Some(Err(fault.clone())),
                _ => None,
            });
            told.into_iter().next()
        })
        .expect("the subscription is made");
    }

    pub(super) fn serve(
        &mut self,
        actor: usize,
        pattern: &str,
        takes: Takes,
        queue: Bounds,
    ) -> SubscriptionId {
        let options = ServeOptions { pattern: self.pattern(pattern), takes, queue };
        let id = self.bus(actor).serve(options).expect("there is room");
        self.ready(actor, id);
        id
    }

    pub(super) fn subscribe(
        &mut self,
        actor: usize,
        pattern: &str,
        share: Share,
        takes: Takes,
        queue: Bounds,
    ) -> SubscriptionId {
        let options = SubscribeOptions { pattern: self.pattern(pattern), share, takes, queue };
        let id = self.bus(actor).subscribe(options).expect("there is room");
        self.ready(actor, id);
        id
    }

    pub(super) fn consume(&mut self, actor: usize, options: ConsumeOptions) -> SubscriptionId {
        let id = self.bus(actor).consume(options).expect("the stream is declared");
        self.ready(actor, id);
        id
    }

    /// A stream over `NAME.>` with plenty of room.
    pub(super) fn spec(&self, name: &str) -> StreamSpec {
        StreamSpec {
            name: self.name(name),
            subjects: vec![self.pattern(&format!("{name}.>"))],
            labels: Vec::new(),
            bounds: ROOM,
            dead: ROOM,
        }
    }

    pub(super) fn order(&mut self, actor: usize, order: Order) -> Result<Outcome, OrderFault> {
        let wanted = self.bus(actor).order(order).expect("the order makes sense and there is room");
        self.until("an order is carried out", |scene| {
            let outcomes = scene.pick(actor, |event| match event {
                Event::Ordered { ticket, outcome } if *ticket == wanted => Some(outcome.clone()),
                _ => None,
            });
            outcomes.into_iter().next()
        })
    }

    pub(super) fn declare(&mut self, actor: usize, spec: StreamSpec) {
        assert_eq!(self.order(actor, Order::Declare(spec)), Ok(Outcome::Done));
    }

    /// Asks, and waits for what becomes of it while the others are turned.
    pub(super) fn ask(&mut self, actor: usize, message: &Message, us: u64) -> Ticket {
        let deadline = self.now().after(us);
        self.bus(actor).request(message, deadline).expect("there is room")
    }

    pub(super) fn outcome(&mut self, actor: usize, wanted: Ticket) -> Result<Message, RequestFault> {
        self.until("a request ends", |scene| {
            let outcomes = scene.pick(actor, |event| match event {
                Event::Replied { ticket, outcome } if *ticket == wanted => Some(outcome.clone()),
                _ => None,
            });
            outcomes.into_iter().next()
        })
    }

    /// Waits until `actor` has been asked `count` times more.
    pub(super) fn asked(&mut self, actor: usize, count: usize) -> Vec<(AskId, Message)> {
        let mut all = Vec::new();
        self.until("requests arrive", |scene| {
            all.extend(scene.asked_by_now(actor));
            (all.len() >= count).then_some(())
        });
        all
    }

    pub(super) fn asked_by_now(&mut self, actor: usize) -> Vec<(AskId, Message)> {
        self.pick(actor, |event| match event {
            Event::Asked { ask, message, .. } => Some((*ask, message.clone())),
            _ => None,
        })
    }

    pub(super) fn heard_by_now(&mut self, actor: usize) -> Vec<Message> {
        self.pick(actor, |event| match event {
            Event::Heard { message, .. } => Some(message.clone()),
            _ => None,
        })
    }

    /// Waits until `actor` has heard `count` messages more.
    pub(super) fn heard(&mut self, actor: usize, count: usize) -> Vec<Message> {
        let mut all = Vec::new();
        self.until("messages are heard", |scene| {
            all.extend(scene.heard_by_now(actor));
            (all.len() >= count).then_some(())
        });
        all
    }

    pub(super) fn delivered_by_now(&mut self, actor: usize) -> Vec<Delivered> {
        self.pick(actor, |event| match event {
            Event::Delivered { delivery, attempt, message, .. } => {
                Some(Delivered { delivery: *delivery, attempt: *attempt, message: message.clone() })
            }
            _ => None,
        })
    }

    /// Waits until `actor` has got `count` deliveries more.
    pub(super) fn delivered(&mut self, actor: usize, count: usize) -> Vec<Delivered> {
        let mut all = Vec::new();
        self.until("stored messages are delivered", |scene| {
            all.extend(scene.delivered_by_now(actor));
            (all.len() >= count).then_some(())
        });
        all
    }

    /// Stores messages and waits until they are told as stored.
    pub(super) fn store(&mut self, actor: usize, messages: &[Message]) {
        let tickets: Vec<_> =
            messages.iter().map(|message| self.bus(actor).store(message).expect("there is room")).collect();
        self.stored(actor, &tickets);
    }

    pub(super) fn stored(&mut self, actor: usize, tickets: &[Ticket]) {
        let mut told = Vec::new();
        self.until("messages are stored", |scene| {
            told.extend(scene.pick(actor, |event| match event {
                Event::Stored { ticket } => Some(*ticket),
                _ => None,
            }));
            tickets.iter().all(|ticket| told.contains(ticket)).then_some(())
        });
    }
}
