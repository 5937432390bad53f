//! The bus inside one process, from the outside: what each of the three ways does, in a few lines.

use skerry_bus::{
    Answer, Bounds, Bus, Connect, ConsumeOptions, Event, Limits, LocalBus, LocalExchange, Message, Moment,
    Name, Order, Pattern, RequestFault, ServeOptions, Settlement, Share, StreamSpec, Subject,
    SubscribeOptions, Takes,
};

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

fn message(subject: &str, payload: &str) -> Message {
    Message::new(Subject::new(subject).expect("a subject"), payload.to_owned())
}

fn drain(bus: &mut LocalBus, now: u64) -> Vec<Event> {
    std::iter::from_fn(|| bus.poll(Moment(now))).collect()
}

#[test]
fn ask_and_answer() {
    let exchange = LocalExchange::default();
    let mut asker = exchange.connect(name("asker"), Limits::default()).unwrap();
    assert!(exchange.connect(name("asker"), Limits::default()).is_err());
    let ticket = asker.request(&message("branch.1", "?"), Moment(10)).unwrap();
    assert_eq!(drain(&mut asker, 1), [Event::Replied { ticket, outcome: Err(RequestFault::NoServer) }]);
    let mut server = exchange.connect(name("server"), Limits::default()).unwrap();
    let (pattern, queue) = (Pattern::new("branch.*").unwrap(), Bounds::new(10, 10_000));
    server.serve(ServeOptions { pattern, takes: Takes::Everything, queue }).unwrap();
    let ticket = asker.request(&message("branch.1", "?"), Moment(10)).unwrap();
    let events = drain(&mut server, 2);
    let [Event::Ready { .. }, Event::Asked { ask, message: asked, .. }] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!((&asked.payload[..], asked.headers.sender), (&b"?"[..], Some(name("asker"))));
    server.respond(*ask, Answer::reply("!")).unwrap();
    let events = drain(&mut asker, 3);
    let [Event::Replied { ticket: replied, outcome: Ok(reply) }] = &events[..] else { panic!("{events:?}") };
    assert_eq!((*replied, &reply.payload[..]), (ticket, &b"!"[..]));
}

#[test]
fn store_settle_and_bury() {
    let exchange = LocalExchange::default();
    let mut bus = exchange.connect(name("one"), Limits::default()).unwrap();
    let stream = name("events");
    bus.order(Order::Declare(StreamSpec {
        name: stream,
        subjects: vec![Pattern::new("events.>").unwrap()],
        labels: Vec::new(),
        bounds: Bounds::new(10, 1 << 20),
        dead: Bounds::new(10, 1 << 20),
    }))
    .unwrap();
    let share = Share::Group(name("hooks"));
    bus.consume(ConsumeOptions { attempts_max: 2, window: 1, ..ConsumeOptions::new(stream, share) }).unwrap();
    drain(&mut bus, 0);
    for text in ["a", "b"] {
        bus.store(&message("events.x", text)).unwrap();
    }
    let mut seen = Vec::new();
    for now in 1..20 {
        for event in drain(&mut bus, now) {
            if let Event::Delivered { delivery, attempt, message, .. } = event {
                let poisoned = &message.payload[..] == b"a";
                seen.push((message.payload, attempt));
                let settlement = if poisoned { Settlement::Retry { after_us: 3 } } else { Settlement::Done };
                bus.settle(delivery, settlement).unwrap();
            }
        }
    }
    let expected = [("a", 1), ("a", 2), ("b", 1)];
    assert!(
        seen.iter().map(|(text, attempt)| (&text[..], *attempt)).eq(expected.map(|(t, a)| (t.as_bytes(), a)))
    );
    assert_eq!(bus.stats().dead, 1);
}

#[test]
fn tell_groups_and_every_instance() {
    let exchange = LocalExchange::default();
    let mut buses: Vec<_> =
        ["a", "b", "c"].map(|text| exchange.connect(name(text), Limits::default()).unwrap()).into();
    let shares = [Share::Group(name("g")), Share::Group(name("g")), Share::Every];
    for (bus, share) in buses.iter_mut().zip(shares) {
        let (pattern, queue) = (Pattern::all(), Bounds::new(10, 10_000));
        bus.subscribe(SubscribeOptions { pattern, share, takes: Takes::Everything, queue }).unwrap();
        drain(bus, 0);
    }
    for _ in 0..4 {
        buses[0].publish(&message("news", "x")).unwrap();
    }
    let heard: Vec<_> = buses.iter_mut().map(|bus| drain(bus, 1).len()).collect();
    assert_eq!(heard, [2, 2, 4]);
}
