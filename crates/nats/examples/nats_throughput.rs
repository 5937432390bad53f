//! Messages a second over a NATS server that is there already, asked and stored. Run with `--release`, on a quiet machine:
//! `cargo run --release --package skerry-nats --example nats_throughput -- nats://127.0.0.1:4222 100000`.

use std::time::{Duration, Instant};

use skerry_bus::{
    Answer, Bounds, Bus, Connect, Event, Limits, Message, Moment, Name, Order, Pattern, ServeOptions,
    StreamSpec, Subject, Takes, ThreadWait,
};
use skerry_nats::{NatsBus, NatsConnector, NatsOptions};

const ROOM: Bounds = Bounds::new(65_536, 256 << 20);

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

fn report(way: &str, count: u64, began: Instant) {
    let seconds = began.elapsed().as_secs_f64();
    println!("{{\"way\": \"{way}\", \"messages\": {count}, \"per_second\": {:.0}}}", count as f64 / seconds);
}

/// Polls both until `done` says so; the second answers what it is asked.
fn turn(
    pair: &mut [NatsBus; 2],
    wait: &ThreadWait,
    mut done: impl FnMut(&mut NatsBus, Option<Event>) -> bool,
) {
    loop {
        let mut idle = true;
        while let Some(event) = pair[1].poll(Moment(0)) {
            idle = false;
            if let Event::Asked { ask, message, .. } = event {
                pair[1].respond(ask, Answer::reply(message.payload)).expect("in time");
            }
        }
        loop {
            let event = pair[0].poll(Moment(0));
            idle &= event.is_none();
            let last = event.is_none();
            if done(&mut pair[0], event) {
                return;
            }
            if last {
                break;
            }
        }
        if idle {
            wait.sleep(Duration::from_millis(10));
        }
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let server = arguments.next().unwrap_or_else(|| "nats://127.0.0.1:4222".to_owned());
    let count = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(100_000_u64);
    let options = NatsOptions { servers: vec![server], prefix: name("bench"), replicas: 1, tls: None };
    let (connector, wait) = (NatsConnector::new(options), ThreadWait::default());
    let mut pair = ["one", "two"].map(|text| {
        let mut bus = connector.connect(name(text), Limits::default()).expect("the server is there");
        bus.on_event(wait.wake());
        bus
    });
    let pattern = Pattern::new("bench.ask").expect("a pattern");
    pair[0].serve(ServeOptions { pattern, takes: Takes::Everything, queue: ROOM }).expect("there is room");
    turn(&mut pair, &wait, |_, event| matches!(event, Some(Event::Ready { .. })));
    pair.swap(0, 1);

    let message = Message::new(Subject::new("bench.ask").expect("a subject"), vec![7; 64]);
    let (mut sent, mut replied, began) = (0, 0, Instant::now());
    turn(&mut pair, &wait, |bus, event| {
        replied += u64::from(matches!(event, Some(Event::Replied { .. })));
        while sent < count && sent - replied < 1024 && bus.request(&message, Moment(u64::MAX)).is_ok() {
            sent += 1;
        }
        replied == count
    });
    report("ask", count, began);

    let subjects = vec![Pattern::new("bench.log.*").expect("a pattern")];
    let spec = StreamSpec { name: name("log"), subjects, labels: Vec::new(), bounds: ROOM, dead: ROOM };
    pair[0].order(Order::Declare(spec)).expect("there is room");
    turn(&mut pair, &wait, |_, event| matches!(event, Some(Event::Ordered { .. })));
    let message = |number: u64| {
        let subject = Subject::new(&format!("bench.log.{}", number % 64)).expect("a subject");
        Message::new(subject, vec![7; 64])
    };
    let (mut sent, mut stored, began) = (0, 0, Instant::now());
    turn(&mut pair, &wait, |bus, event| {
        stored += u64::from(matches!(event, Some(Event::Stored { .. })));
        while sent < count && sent - stored < 1024 && bus.store(&message(sent)).is_ok() {
            sent += 1;
        }
        stored == count
    });
    report("store, 64 subjects", count, began);
}
