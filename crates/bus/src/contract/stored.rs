//! Storing: order, acknowledgement, redelivery, groups, bounds, labels.

use super::Check;
use super::scene::{ROOM, Rig, Scene, numbers, text};
use crate::error::{OrderFault, RefusedKind};
use crate::options::{Bounds, ConsumeOptions, Limits, Order, Share, StreamSpec, Takes};
use crate::text::{Name, Pattern};
use crate::trace::TraceContext;
use crate::{Bus, Message, Settlement};

pub(super) fn checks<R: Rig>() -> Vec<(&'static str, Check<R>)> {
    vec![
        ("stored messages come in order, to each group", in_order),
        ("a group's position is kept while nobody is there", position),
        ("what is not settled comes again", redelivered),
        ("a window of one keeps strict order", strict),
        ("instances share, and inherit", shared),
        ("what an instance that stops had in hand goes to others", given_back),
        ("a message to one group reaches no other", one_group),
        ("a full stream is busy and loses nothing it took", full),
        ("labels are orders of their own", labels),
        ("streams are declared and groups forgotten", declared),
    ]
}

const SECOND: u64 = 1_000_000;

/// One endpoint with a stream `log`, and the options of a group of it.
pub(super) fn log<R: Rig>(scene: &mut Scene<'_, R>) -> (usize, StreamSpec, ConsumeOptions) {
    let one = scene.join("one", Limits::default());
    let spec = scene.spec("log");
    scene.declare(one, spec.clone());
    let options = ConsumeOptions::new(spec.name, Share::Group(scene.name("g")));
    (one, spec, options)
}

fn messages<R: Rig>(scene: &Scene<'_, R>, payloads: &[String]) -> Vec<Message> {
    payloads.iter().map(|payload| scene.message("log.a", payload)).collect()
}

/// Takes and settles until `count` messages are done.
fn work<R: Rig>(scene: &mut Scene<'_, R>, actor: usize, count: usize) -> Vec<String> {
    let mut done = Vec::new();
    scene.until("stored messages are worked off", |scene| {
        for delivered in scene.delivered_by_now(actor) {
            // What was not looked at in time comes again.
            match scene.bus(actor).settle(delivered.delivery, Settlement::Done) {
                Ok(()) => done.push(delivered.text()),
                Err(refused) => assert_eq!(refused, RefusedKind::TooLate),
            }
        }
        (done.len() >= count).then_some(())
    });
    done
}

fn in_order<R: Rig>(scene: &mut Scene<'_, R>) {
    let (one, spec, options) = log(scene);
    let mut takers = Vec::new();
    for (name, share) in [("two", options.share), ("three", Share::Every), ("four", Share::Every)] {
        let taker = scene.join(name, Limits::default());
        scene.declare(taker, spec.clone());
        scene.consume(taker, ConsumeOptions { share, ..options.clone() });
        takers.push(taker);
    }
    let (payloads, trace) = (numbers(0..200), TraceContext { trace: 5, span: 6, flags: 0 });
    let mut all = messages(scene, &payloads);
    all[0] = all[0].clone().with_trace(trace).with_id(77);
    all[0].headers.extra.insert("kind", "posted").expect("a plain header");
    scene.store(one, &all);
    let first = scene.delivered(takers[1], 1).remove(0);
    let mut expected = all[0].clone();
    expected.headers.sender = Some(scene.name("one"));
    assert_eq!((first.message, first.attempt), (expected, 1), "it arrives as it was sent");
    scene.bus(takers[1]).settle(first.delivery, Settlement::Done).expect("it is in hand");
    assert_eq!(scene.bus(takers[1]).settle(first.delivery, Settlement::Done), Err(RefusedKind::TooLate));
    for taker in [takers[0], takers[2]] {
        assert_eq!(work(scene, taker, 200), payloads);
    }
    assert_eq!(scene.bus(one).stats().stored, 200);
}

fn position<R: Rig>(scene: &mut Scene<'_, R>) {
    let (one, spec, options) = log(scene);
    scene.store(one, &messages(scene, &numbers(0..3)));
    let group = scene.consume(one, options.clone());
    scene.store(one, &messages(scene, &numbers(3..6)));
    assert_eq!(work(scene, one, 3), numbers(3..6), "from the group's first moment on");
    scene.turn();
    scene.bus(one).stop(group).expect("it is there");
    scene.store(one, &messages(scene, &numbers(6..9)));
    let two = scene.join("two", Limits::default());
    scene.declare(two, spec);
    scene.consume(two, options);
    assert_eq!(work(scene, two, 3), numbers(6..9));
}

fn redelivered<R: Rig>(scene: &mut Scene<'_, R>) {
    let (one, _, options) = log(scene);
    scene.consume(one, ConsumeOptions { ack_wait_us: SECOND, ..options });
    scene.store(one, &messages(scene, &numbers(0..2)));
    let first = scene.delivered(one, 2);
    let settle = Settlement::Retry { after_us: SECOND / 5 };
    scene.bus(one).settle(first[1].delivery, settle).expect("it is in hand");
    // The second is asked for sooner than the wait for the first ends.
    let again = scene.delivered(one, 2);
    let seen: Vec<_> = again.iter().map(|delivered| (delivered.text(), delivered.attempt)).collect();
    assert_eq!(seen, [("1".to_owned(), 2), ("0".to_owned(), 2)]);
    for delivered in again {
        scene.bus(one).settle(delivered.delivery, Settlement::Done).expect("it is in hand");
    }
    scene.pass(2 * SECOND);
    assert!(scene.delivered_by_now(one).is_empty(), "what is done does not come again");
    assert_eq!(scene.bus(one).stats().redelivered, 2);
}

fn strict<R: Rig>(scene: &mut Scene<'_, R>) {
    let (one, spec, options) = log(scene);
    let options = ConsumeOptions { window: 1, attempts_max: 100, ..options };
    let two = scene.join("two", Limits::default());
    scene.declare(two, spec);
    for actor in [one, two] {
        scene.consume(actor, options.clone());
    }
    scene.store(one, &messages(scene, &numbers(0..12)));
    let mut done = Vec::new();
    scene.until("all are done, with failures on the way", |scene| {
        for actor in [one, two] {
            for delivered in scene.delivered_by_now(actor) {
                let fails = delivered.attempt == 1 && "0369".contains(&delivered.text());
                let settlement =
                    if fails { Settlement::Retry { after_us: 20_000 } } else { Settlement::Done };
                scene.bus(actor).settle(delivered.delivery, settlement).expect("it is in hand");
                if !fails {
                    done.push(delivered.text());
                }
            }
        }
        (done.len() >= 12).then_some(())
    });
    assert_eq!(done, numbers(0..12));
}

fn shared<R: Rig>(scene: &mut Scene<'_, R>) {
    let (one, spec, options) = log(scene);
    let options = ConsumeOptions { ack_wait_us: 2 * SECOND, window: 8, ..options };
    scene.consume(one, options.clone());
    let two = scene.join("two", Limits::default());
    scene.declare(two, spec);
    scene.consume(two, options);
    scene.store(one, &messages(scene, &numbers(0..30)));
    // The second takes what it gets and goes without a word.
    let end = scene.now().after(60 * SECOND);
    while scene.delivered_by_now(two).is_empty() {
        scene.turn_without(one);
        assert!(scene.now() < end, "the second gets nothing");
    }
    scene.part();
    let mut done: Vec<u32> =
        work(scene, one, 30).iter().map(|text| text.parse().expect("a number")).collect();
    done.sort_unstable();
    assert!(done.into_iter().eq(0..30));
}

fn given_back<R: Rig>(scene: &mut Scene<'_, R>) {
    let (one, spec, options) = log(scene);
    // Nobody would live to see this wait end.
    let options = ConsumeOptions { ack_wait_us: 600 * SECOND, window: 1, ..options };
    let group = scene.consume(one, options.clone());
    scene.store(one, &messages(scene, &numbers(0..1)));
    let held = scene.delivered(one, 1).remove(0);
    scene.bus(one).stop(group).expect("it is there");
    assert_eq!(scene.bus(one).settle(held.delivery, Settlement::Done), Err(RefusedKind::TooLate));
    let two = scene.join("two", Limits::default());
    scene.declare(two, spec);
    scene.consume(two, options);
    assert_eq!(scene.delivered(two, 1).remove(0).attempt, 2);
}

fn one_group<R: Rig>(scene: &mut Scene<'_, R>) {
    let (one, spec, options) = log(scene);
    let h = scene.name("h");
    let mut takers = Vec::new();
    for (name, share) in [("g", options.share), ("h", Share::Group(h)), ("every", Share::Every)] {
        let taker = scene.join(name, Limits::default());
        scene.declare(taker, spec.clone());
        scene.consume(taker, ConsumeOptions { share, ..options.clone() });
        takers.push(taker);
    }
    let to_one = scene.message("log.a", "for h").to_group(h);
    scene.store(one, &[to_one, scene.message("log.a", "for all")]);
    for (taker, expected) in takers.into_iter().zip([&["for all"][..], &["for h", "for all"], &["for all"]]) {
        assert_eq!(work(scene, taker, expected.len()), expected);
    }
}

fn full<R: Rig>(scene: &mut Scene<'_, R>) {
    let limits = Limits { outgoing: Bounds::new(8, 1 << 20), ..Limits::default() };
    let one = scene.join("one", limits);
    let two = scene.join("two", Limits::default());
    let spec = StreamSpec { bounds: Bounds::new(5, 1 << 20), ..scene.spec("log") };
    scene.declare(one, spec.clone());
    scene.declare(two, spec.clone());
    let share = Share::Group(scene.name("g"));
    let group = scene.consume(two, ConsumeOptions::new(spec.name, share));
    scene.bus(two).stop(group).expect("it is there");
    let mut taken = Vec::new();
    let end = scene.now().after(60 * SECOND);
    loop {
        let message = scene.message("log.a", &taken.len().to_string());
        match scene.bus(one).store(&message) {
            Ok(ticket) => taken.push(ticket),
            Err(RefusedKind::Busy(_)) => break,
            Err(other) => panic!("refused: {other}"),
        }
        scene.turn();
        assert!(scene.now() < end && taken.len() < 1000, "it never becomes busy");
    }
    assert!(taken.len() >= 5, "only {} fit", taken.len());
    scene.consume(two, ConsumeOptions::new(spec.name, share));
    let count = u32::try_from(taken.len()).expect("few");
    assert_eq!(work(scene, two, taken.len()), numbers(0..count));
    scene.stored(one, &taken);
    scene.store(one, &[scene.message("log.a", "room again")]);
    assert_eq!(work(scene, two, 1), ["room again"]);
}

fn labels<R: Rig>(scene: &mut Scene<'_, R>) {
    let plain = scene.join("plain", Limits::default());
    let new = scene.join("new", Limits::default());
    let (v2, v3) = (scene.name("v2"), scene.name("v3"));
    let spec = StreamSpec { labels: vec![v2], ..scene.spec("log") };
    let options = ConsumeOptions::new(spec.name, Share::Group(scene.name("g")));
    for (actor, takes) in [(plain, Takes::unlabelled()), (new, Takes::labelled(&[v2]))] {
        scene.declare(actor, spec.clone());
        scene.consume(actor, ConsumeOptions { takes, ..options.clone() });
    }
    let unknown = scene.message("log.a", "?").with_label(v3);
    assert_eq!(scene.bus(plain).store(&unknown), Err(RefusedKind::UnknownLabel(v3)));
    let mut all = Vec::new();
    for payload in numbers(0..10) {
        all.push(scene.message("log.a", &format!("old {payload}")));
        all.push(scene.message("log.a", &format!("new {payload}")).with_label(v2));
    }
    scene.store(plain, &all);
    let expect =
        |kind: &str| -> Vec<String> { numbers(0..10).iter().map(|n| format!("{kind} {n}")).collect() };
    assert_eq!(work(scene, plain, 10), expect("old"));
    assert_eq!(work(scene, new, 10), expect("new"));
    // A label that comes later is kept for groups that are there.
    let more = StreamSpec { labels: vec![v2, v3], ..spec.clone() };
    scene.declare(plain, more);
    scene.store(plain, &[unknown]);
    let takes = Takes::labelled(&[v3]);
    scene.consume(plain, ConsumeOptions { takes, ..options });
    assert_eq!(work(scene, plain, 1), ["?"]);
    let less = StreamSpec { labels: vec![v3], ..spec };
    assert_eq!(scene.order(plain, Order::Declare(less)), Err(OrderFault::LabelInUse(v2)));
}

fn declared<R: Rig>(scene: &mut Scene<'_, R>) {
    let (one, spec, options) = log(scene);
    let nowhere = scene.message("nowhere", "?");
    assert_eq!(scene.bus(one).store(&nowhere), Err(RefusedKind::NoStream));
    let missing = scene.name("missing");
    let wrong = ConsumeOptions { stream: missing, ..options.clone() };
    assert_eq!(scene.bus(one).consume(wrong), Err(RefusedKind::NoStream));
    let other = StreamSpec { name: scene.name("other"), ..spec.clone() };
    assert_eq!(scene.order(one, Order::Declare(other)), Err(OrderFault::Conflict(spec.name)));
    let wider: Vec<Pattern> = vec![spec.subjects[0], scene.pattern("more.*")];
    scene.declare(one, StreamSpec { subjects: wider, bounds: ROOM, ..spec.clone() });
    let filter = scene.pattern("more.*");
    scene.consume(one, ConsumeOptions { filter, ..options });
    scene.store(one, &[scene.message("log.a", "unwanted"), scene.message("more.a", "wanted")]);
    assert_eq!(work(scene, one, 1), ["wanted"]);
    let forget = |stream: Name, group: Name| Order::Forget { stream, group, every: false };
    let group = scene.name("g");
    assert!(scene.order(one, forget(spec.name, group)).is_ok());
    assert_eq!(scene.order(one, forget(spec.name, group)), Err(OrderFault::NotFound));
    assert_eq!(scene.order(one, forget(missing, group)), Err(OrderFault::NoStream));
    scene.store(one, &[scene.message("more.a", "for nobody")]);
    scene.pass(SECOND / 5);
    let rest: Vec<_> = scene.delivered_by_now(one).iter().map(|delivered| text(&delivered.message)).collect();
    assert!(rest.is_empty(), "{rest:?}");
}
