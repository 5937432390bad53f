//! The asking side of an endpoint: which requests are in flight, until when, and which subjects are left alone.
//!
//! It knows no transport: an implementation opens a ticket, sends the request, and closes the ticket with what came back.
//! Both implementations use it, so windows, deadlines and breakers are the same on every bus.

use std::collections::{HashMap, VecDeque};

use crate::breaker::{Breaker, BreakerState, Ending};
use crate::due::Due;
use crate::error::{Full, RefusedKind, RequestFault};
use crate::event::Event;
use crate::message::Message;
use crate::options::Limits;
use crate::seam::{Moment, Ticket};
use crate::slab::Slab;
use crate::text::Subject;

/// Subjects that one endpoint's requests may be in flight to, or be kept from, at a time.
const SUBJECTS_MAX: usize = 65_536;

#[derive(Debug)]
struct Flight {
    place: u64,
    bytes: usize,
    probe: bool,
}

#[derive(Debug)]
struct Place {
    subject: Subject,
    in_flight: usize,
    breaker: Breaker,
}

/// The requests of one endpoint.
#[derive(Debug)]
pub struct Desk {
    limits: Limits,
    flights: Slab<Flight>,
    bytes: usize,
    due: Due,
    places: Slab<Place>,
    by_subject: HashMap<Subject, u64>,
    events: VecDeque<Event>,
    now: Moment,
    failed: u64,
}

impl Desk {
    /// A desk with nothing in flight.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            flights: Slab::default(),
            bytes: 0,
            due: Due::default(),
            places: Slab::default(),
            by_subject: HashMap::new(),
            events: VecDeque::new(),
            now: Moment::default(),
            failed: 0,
        }
    }

    /// Takes a request, if there is room and its subject's breaker lets it through.
    ///
    /// # Errors
    ///
    /// Busy, too large, or the breaker is open.
    pub fn open(&mut self, message: &Message, deadline: Moment) -> Result<Ticket, RefusedKind> {
        message.check_size(self.limits.message_bytes)?;
        let bytes = message.size();
        // What has ended and was not polled yet counts too: else requests that end at once would pile up.
        if !self.limits.requests.fit(self.flights.len() + self.events.len(), self.bytes, bytes) {
            return Err(RefusedKind::Busy(Full::Requests));
        }
        let number = self.place(message.subject)?;
        let place = self.places.get_mut(number).expect("it was just found");
        if place.in_flight >= self.limits.requests_per_subject {
            return Err(RefusedKind::Busy(Full::Subject));
        }
        let before = place.breaker.state();
        let probe = place.breaker.admit(self.now).map_err(|until| RefusedKind::BreakerOpen { until })?;
        place.in_flight += 1;
        let after = place.breaker.state();
        self.tell(message.subject, before, after);
        self.bytes += bytes;
        let ticket = self.flights.insert(Flight { place: number, bytes, probe });
        let flights = &self.flights;
        self.due.push(deadline, ticket, flights.len(), |number| flights.get(number).is_some());
        Ok(Ticket(ticket))
    }

    /// Ends a request with what came back, and tells it at the next [`Desk::event`]. `false` if it has ended already.
    pub fn close(&mut self, ticket: Ticket, outcome: Result<Message, RequestFault>) -> bool {
        let Some(flight) = self.flights.remove(ticket.0) else { return false };
        self.bytes -= flight.bytes;
        let ending = match &outcome {
            Ok(_) | Err(RequestFault::ReplyDropped) => Ending::Good,
            Err(RequestFault::Busy) => Ending::Neither,
            Err(_) => Ending::Bad,
        };
        self.failed += u64::from(outcome.is_err());
        self.events.push_back(Event::Replied { ticket, outcome });
        let place = self.places.get_mut(flight.place).expect("a subject stays while requests are in flight");
        place.in_flight -= 1;
        let before = place.breaker.state();
        place.breaker.ended(flight.probe, ending, self.now, &self.limits.breaker);
        let (subject, after) = (place.subject, place.breaker.state());
        self.tell(subject, before, after);
        true
    }

    /// The subject of a request in flight.
    #[must_use]
    pub fn subject(&self, ticket: Ticket) -> Option<Subject> {
        let flight = self.flights.get(ticket.0)?;
        self.places.get(flight.place).map(|place| place.subject)
    }

    /// Time goes on: what is due ends with [`RequestFault::Deadline`].
    pub fn turn(&mut self, now: Moment) {
        self.now = self.now.max(now);
        while let Some(number) = self.due.pop(self.now) {
            self.close(Ticket(number), Err(RequestFault::Deadline));
        }
    }

    /// The next event, in the order in which they came to pass.
    pub fn event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When `turn` may have something to do.
    #[must_use]
    pub fn next_due(&self) -> Option<Moment> {
        self.due.soonest()
    }

    /// A subject's breaker.
    #[must_use]
    pub fn breaker(&self, subject: &Subject) -> BreakerState {
        let place = self.by_subject.get(subject).and_then(|number| self.places.get(*number));
        place.map_or(BreakerState::Closed, |place| place.breaker.state())
    }

    /// How many requests have ended without a reply.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failed
    }

    /// Time as last told.
    #[must_use]
    pub fn now(&self) -> Moment {
        self.now
    }

    fn tell(&mut self, subject: Subject, before: BreakerState, state: BreakerState) {
        if before != state {
            self.events.push_back(Event::Breaker { subject, state });
        }
    }

    fn place(&mut self, subject: Subject) -> Result<u64, RefusedKind> {
        if let Some(number) = self.by_subject.get(&subject) {
            return Ok(*number);
        }
        if self.places.len() >= SUBJECTS_MAX {
            self.forget_idle();
        }
        if self.places.len() >= SUBJECTS_MAX {
            return Err(RefusedKind::Busy(Full::Table));
        }
        let number = self.places.insert(Place { subject, in_flight: 0, breaker: Breaker::default() });
        self.by_subject.insert(subject, number);
        Ok(number)
    }

    /// Forgets the subjects that nothing is in flight to and whose breaker is closed.
    fn forget_idle(&mut self) {
        let places = &mut self.places;
        self.by_subject.retain(|_, number| {
            let place = places.get(*number).expect("both tables hold the same");
            let busy = place.in_flight > 0 || place.breaker.state() != BreakerState::Closed;
            if !busy {
                places.remove(*number);
            }
            busy
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::breaker::BreakerOptions;
    use crate::options::Bounds;

    fn message(subject: &str) -> Message {
        Message::new(Subject::new(subject).unwrap(), vec![0; 10])
    }

    fn limits() -> Limits {
        Limits {
            requests: Bounds::new(3, 1 << 20),
            requests_per_subject: 2,
            breaker: BreakerOptions { failures: 2, open_us: 100, probes: 1 },
            ..Limits::default()
        }
    }

    #[test]
    fn windows_are_bounded_in_all_and_per_subject() {
        let mut desk = Desk::new(limits());
        let first = desk.open(&message("a"), Moment(10)).unwrap();
        desk.open(&message("a"), Moment(20)).unwrap();
        assert_eq!(desk.open(&message("a"), Moment(20)), Err(RefusedKind::Busy(Full::Subject)));
        desk.open(&message("b"), Moment(20)).unwrap();
        assert_eq!(desk.open(&message("c"), Moment(20)), Err(RefusedKind::Busy(Full::Requests)));
        assert_eq!(desk.subject(first), Some(Subject::new("a").unwrap()));
        assert!(desk.close(first, Ok(message("a"))));
        assert_eq!(desk.open(&message("a"), Moment(20)), Err(RefusedKind::Busy(Full::Requests)), "unpolled");
        assert!(matches!(desk.event(), Some(Event::Replied { .. })));
        assert!(!desk.close(first, Ok(message("a"))), "once");
        assert!(desk.open(&message("a"), Moment(30)).is_ok());
        let mut bytes = Desk::new(Limits { requests: Bounds::new(9, 300), ..limits() });
        assert!(bytes.open(&message("a"), Moment(1)).is_ok());
        assert_eq!(bytes.open(&message("b"), Moment(1)), Err(RefusedKind::Busy(Full::Requests)));
    }

    #[test]
    fn deadlines_open_the_breaker_and_a_probe_closes_it() {
        let mut desk = Desk::new(limits());
        let subject = Subject::new("a").unwrap();
        for _ in 0..2 {
            desk.open(&message("a"), Moment(10)).unwrap();
        }
        desk.turn(Moment(9));
        assert_eq!(desk.event(), None);
        assert_eq!(desk.next_due(), Some(Moment(10)));
        desk.turn(Moment(10));
        let events: Vec<_> = std::iter::from_fn(|| desk.event()).collect();
        let open = BreakerState::Open { until: Moment(110) };
        assert_eq!(events.len(), 3);
        assert_eq!(events[2], Event::Breaker { subject, state: open });
        let refused = RefusedKind::BreakerOpen { until: Moment(110) };
        assert_eq!(desk.open(&message("a"), Moment(500)), Err(refused));
        assert!(desk.open(&message("b"), Moment(500)).is_ok(), "another subject is free");
        desk.turn(Moment(110));
        let probe = desk.open(&message("a"), Moment(500)).unwrap();
        assert_eq!(desk.breaker(&subject), BreakerState::HalfOpen);
        desk.close(probe, Ok(message("a")));
        assert_eq!(desk.breaker(&subject), BreakerState::Closed);
        assert_eq!(desk.failed(), 2);
    }

    #[test]
    fn idle_subjects_are_forgotten_when_there_are_too_many() {
        let mut desk = Desk::new(Limits { requests: Bounds::new(1 << 20, 1 << 30), ..limits() });
        let kept = desk.open(&message("kept"), Moment(10)).unwrap();
        for number in 0..SUBJECTS_MAX + 10 {
            let ticket = desk.open(&message(&format!("s.{number}")), Moment(10)).unwrap();
            desk.close(ticket, Ok(message("a")));
            desk.event();
        }
        assert!(desk.places.len() <= SUBJECTS_MAX && desk.by_subject.len() == desk.places.len());
        assert_eq!(desk.subject(kept), Some(Subject::new("kept").unwrap()));
    }
}
