//! Messages a second between two threads of one process, by each of the three ways. Run with `--release`, on a quiet
//! machine: `cargo run --release --package skerry-bus --example bus_throughput -- 5000000`.

use std::time::Instant;

use skerry_bus::{
    Answer, Bounds, Bus, Connect, ConsumeOptions, Event, Limits, LocalBus, LocalExchange, Message, Moment,
    Name, Order, Pattern, ServeOptions, Settlement, Share, StreamSpec, Subject, SubscribeOptions, Takes,
};

const ROOM: Bounds = Bounds::new(65_536, 256 << 20);

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

fn endpoints() -> (LocalBus, LocalBus) {
    let exchange = LocalExchange::default();
    let connect = |text| exchange.connect(name(text), Limits::default()).expect("names differ");
    (connect("sender"), connect("receiver"))
}

fn report(way: &str, count: u64, began: Instant) {
    let seconds = began.elapsed().as_secs_f64();
    println!("{{\"way\": \"{way}\", \"messages\": {count}, \"per_second\": {:.0}}}", count as f64 / seconds);
}

fn ask(count: u64, message: &Message) {
    let (mut sender, mut receiver) = endpoints();
    let options = ServeOptions { pattern: Pattern::all(), takes: Takes::Everything, queue: ROOM };
    receiver.serve(options).expect("there is room");
    let began = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut left = count;
            while left > 0 {
                if let Some(Event::Asked { ask, message, .. }) = receiver.poll(Moment(0)) {
                    receiver.respond(ask, Answer::reply(message.payload)).expect("in time");
                    left -= 1;
                }
            }
        });
        let (mut sent, mut replied) = (0, 0);
        while replied < count {
            if sent < count && sender.request(message, Moment(u64::MAX)).is_ok() {
                sent += 1;
                if sent % 64 != 0 {
                    continue;
                }
            }
            while let Some(event) = sender.poll(Moment(0)) {
                replied += u64::from(matches!(event, Event::Replied { .. }));
            }
        }
    });
    report("ask", count, began);
}

/// Pushes as fast as there is room; the receiver's queue is the bound, so what it misses is counted, not waited for.
fn tell(count: u64, message: &Message) {
    let (mut sender, mut receiver) = endpoints();
    let queue = Bounds::new(usize::MAX, usize::MAX);
    let options =
        SubscribeOptions { pattern: Pattern::all(), share: Share::Every, takes: Takes::Everything, queue };
    receiver.subscribe(options).expect("there is room");
    let began = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut left = count;
            while left > 0 {
                left -= u64::from(matches!(receiver.poll(Moment(0)), Some(Event::Heard { .. })));
            }
        });
        for _ in 0..count {
            sender.publish(message).expect("there is room");
        }
    });
    report("tell", count, began);
}

fn store(count: u64, message: &Message) {
    let (mut sender, mut receiver) = endpoints();
    let spec = StreamSpec {
        name: name("log"),
        subjects: vec![Pattern::all()],
        labels: Vec::new(),
        bounds: ROOM,
        dead: ROOM,
    };
    receiver.order(Order::Declare(spec)).expect("there is room");
    let options = ConsumeOptions::new(name("log"), Share::Group(name("g")));
    receiver.consume(ConsumeOptions { window: 4096, ..options }).expect("it is declared");
    let began = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut left = count;
            while left > 0 {
                if let Some(Event::Delivered { delivery, .. }) = receiver.poll(Moment(0)) {
                    receiver.settle(delivery, Settlement::Done).expect("it is in hand");
                    left -= 1;
                }
            }
            while receiver.poll(Moment(0)).is_some() {}
        });
        let mut sent = 0;
        while sent < count {
            sent += u64::from(sender.store(message).is_ok());
            while sender.poll(Moment(0)).is_some() {}
        }
    });
    report("store", count, began);
}

fn main() {
    let count = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(2_000_000);
    let message = Message::new(Subject::new("branch.0007.ask").expect("a subject"), vec![7; 64]);
    ask(count, &message);
    tell(count, &message);
    store(count, &message);
}
