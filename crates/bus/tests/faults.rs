//! Under any weather, from any seed: what was told as stored is handled by each group in the end, each request ends
//! once, and the same seed gives the same run.

use std::collections::BTreeMap;

use skerry_bus::{
    Answer, Bounds, Bus, Connect, ConsumeOptions, Event, FaultRates, FaultyBus, Limits, LocalBus,
    LocalExchange, Message, Moment, Name, Order, Pattern, ServeOptions, Settlement, Share, StreamSpec,
    Subject, Takes, Ticket, Weather,
};

type Faulty = FaultyBus<LocalBus>;

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

#[derive(Default, Debug, PartialEq)]
struct Seen {
    stored: Vec<String>,
    handled: BTreeMap<String, Vec<String>>,
    ends: BTreeMap<u64, u32>,
    replies: usize,
    log: Vec<String>,
}

fn connect(exchange: &LocalExchange, weather: &Weather, seed: u64) -> Vec<Faulty> {
    let names = ["sender", "worker-a", "worker-b", "other"];
    let endpoint = |(index, text): (usize, &str)| {
        let bus = exchange.connect(name(text), Limits::default()).expect("names differ");
        FaultyBus::new(bus, weather.clone(), seed ^ (index as u64) << 40)
    };
    names.into_iter().enumerate().map(endpoint).collect()
}

/// Lets everyone handle what arrives; workers fail at every seventh message once.
fn turn(buses: &mut [Faulty], now: u64, seen: &mut Seen) {
    for bus in buses {
        let me = bus.name().to_string();
        while let Some(event) = bus.poll(Moment(now)) {
            seen.log.push(format!("{now} {me} {event:?}"));
            match event {
                Event::Asked { ask, message, .. } => drop(bus.respond(ask, Answer::reply(message.payload))),
                Event::Replied { ticket, outcome } => {
                    *seen.ends.entry(ticket.0).or_default() += 1;
                    seen.replies += usize::from(outcome.is_ok());
                }
                Event::Delivered { delivery, attempt, message, .. } => {
                    let text = String::from_utf8_lossy(&message.payload).into_owned();
                    let fails = attempt == 1 && text.len().is_multiple_of(3);
                    if !fails {
                        let group = me.split('-').next().unwrap_or_default().to_owned();
                        seen.handled.entry(group).or_default().push(text);
                    }
                    let settlement =
                        if fails { Settlement::Retry { after_us: 500 } } else { Settlement::Done };
                    let _late = bus.settle(delivery, settlement);
                }
                _ => (),
            }
        }
    }
}

fn prepare(buses: &mut [Faulty]) {
    let stream = name("log");
    let spec = StreamSpec {
        name: stream,
        subjects: vec![Pattern::new("log.>").expect("a pattern")],
        labels: Vec::new(),
        bounds: Bounds::new(1000, 1 << 20),
        dead: Bounds::new(1000, 1 << 20),
    };
    buses[0].order(Order::Declare(spec)).expect("there is room");
    for (bus, group) in buses[1..].iter_mut().zip(["workers", "workers", "others"]) {
        let options = ConsumeOptions::new(stream, Share::Group(name(group)));
        let options = ConsumeOptions { ack_wait_us: 5000, attempts_max: u32::MAX, window: 8, ..options };
        bus.consume(options).expect("the stream is declared");
        let (pattern, queue) = (Pattern::new("ask").expect("a pattern"), Bounds::new(100, 1 << 20));
        bus.serve(ServeOptions { pattern, takes: Takes::Everything, queue }).expect("there is room");
    }
}

fn live(seed: u64) -> Seen {
    let (exchange, weather, mut seen) = (LocalExchange::default(), Weather::default(), Seen::default());
    let mut buses = connect(&exchange, &weather, seed);
    prepare(&mut buses);
    weather.set(FaultRates { loss: 150, doubling: 100, delay: 300, delay_us: 3000 });
    let mut asked: Vec<Ticket> = Vec::new();
    for step in 0..300_u64 {
        let text = format!("{seed}-{step}");
        let message = |subject| Message::new(Subject::new(subject).expect("a subject"), text.clone());
        match (seed.wrapping_add(step)) % 50 {
            10 => weather.cut(name("sender"), name("worker-a")),
            20 => weather.isolate(name("other")),
            30 => weather.heal(),
            _ => (),
        }
        if buses[0].store(&message("log.a")).is_ok() {
            seen.stored.push(text.clone());
        }
        asked.extend(buses[0].request(&message("ask"), Moment(step * 100 + 8000)));
        turn(&mut buses, step * 100, &mut seen);
    }
    weather.heal();
    weather.set(FaultRates::default());
    for step in 300..2000 {
        turn(&mut buses, step * 100, &mut seen);
    }
    assert!(
        asked.iter().all(|ticket| seen.ends.get(&ticket.0) == Some(&1)),
        "seed {seed}: each request ends once"
    );
    assert_eq!(seen.ends.len(), asked.len(), "seed {seed}: nothing else ends");
    assert!(seen.replies > 20 && seen.replies < asked.len(), "seed {seed}: {} replies", seen.replies);
    seen
}

#[test]
fn what_was_stored_is_handled_by_each_group() {
    let (mut doubled, mut lost) = (0, 0);
    for seed in 0..60 {
        let seen = live(seed);
        for (group, handled) in &seen.handled {
            let mut once = handled.clone();
            once.sort();
            once.dedup();
            let mut stored = seen.stored.clone();
            stored.sort();
            assert_eq!(once, stored, "seed {seed}: {group}");
            doubled += handled.len() - once.len();
        }
        assert_eq!(seen.handled.len(), 2, "both groups");
        lost += seen.ends.len() - seen.replies;
    }
    assert!(
        doubled > 100 && lost > 100,
        "the weather was bad: {doubled} came twice, {lost} requests were lost"
    );
}

#[test]
fn one_seed_is_one_run() {
    assert_eq!(live(7), live(7));
    assert_ne!(live(7).log, live(8).log);
}
