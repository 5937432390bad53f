//! Dead letters: kept with their reason, replayed to their group alone, discarded; never dropped for want of room.

use super::Check;
use super::scene::{Rig, Scene, text};
use super::stored::log;
use crate::error::OrderFault;
use crate::options::{Bounds, ConsumeOptions, DeadLetter, Limits, Order, Outcome, Share, StreamSpec};
use crate::text::Name;
use crate::trace::TraceContext;
use crate::{Bus, Settlement};

pub(super) fn checks<R: Rig>() -> Vec<(&'static str, Check<R>)> {
    vec![
        ("dead letters are kept and replayed", kept_and_replayed),
        ("what is never settled dies too", never_settled),
        ("full dead letters lose nothing", full),
    ]
}

const SECOND: u64 = 1_000_000;

fn list<R: Rig>(
    scene: &mut Scene<'_, R>,
    actor: usize,
    stream: Name,
    after: u64,
    limit: usize,
) -> Vec<DeadLetter> {
    match scene.order(actor, Order::DeadLetters { stream, after, limit }) {
        Ok(Outcome::DeadLetters(letters)) => letters,
        other => panic!("no list of dead letters: {other:?}"),
    }
}

/// Waits until there are `count` dead letters.
fn dead<R: Rig>(scene: &mut Scene<'_, R>, actor: usize, stream: Name, count: usize) -> Vec<DeadLetter> {
    let end = scene.now().after(60 * SECOND);
    loop {
        let letters = list(scene, actor, stream, 0, 100);
        if letters.len() >= count {
            return letters;
        }
        assert!(scene.now() < end, "only {} of {count} dead letters", letters.len());
        scene.pass(20_000);
    }
}

fn fail<R: Rig>(scene: &mut Scene<'_, R>, actor: usize, times: u32) {
    for attempt in 1..=times {
        let delivered = scene.delivered(actor, 1).remove(0);
        assert_eq!(delivered.attempt, attempt);
        let settlement = Settlement::Retry { after_us: 10_000 };
        scene.bus(actor).settle(delivered.delivery, settlement).expect("it is in hand");
    }
}

fn kept_and_replayed<R: Rig>(scene: &mut Scene<'_, R>) {
    let (one, spec, options) = log(scene);
    let two = scene.join("two", Limits::default());
    scene.declare(two, spec.clone());
    scene.consume(two, ConsumeOptions { share: Share::Group(scene.name("h")), ..options.clone() });
    scene.consume(one, ConsumeOptions { attempts_max: 3, ..options });
    let trace = TraceContext { trace: 1, span: 2, flags: 1 };
    scene.store(one, &[scene.message("log.a", "poison").with_trace(trace)]);
    fail(scene, one, 3);
    scene.store(one, &[scene.message("log.a", "hopeless")]);
    let hopeless = scene.delivered(one, 1).remove(0);
    scene.bus(one).settle(hopeless.delivery, Settlement::Dead("no such branch".into())).expect("in hand");
    let letters = dead(scene, one, spec.name, 2);
    let facts: Vec<_> =
        letters.iter().map(|letter| (text(&letter.message), letter.attempts, &*letter.reason)).collect();
    assert_eq!(
        facts,
        [("poison".to_owned(), 3, "failed 3 times"), ("hopeless".to_owned(), 1, "no such branch")]
    );
    let poison = &letters[0];
    assert_eq!((poison.group, poison.message.headers.trace), (scene.name("g"), Some(trace)));
    assert_eq!(poison.message.subject, scene.subject("log.a"));
    assert_eq!(list(scene, one, spec.name, 0, 1), letters[..1]);
    assert_eq!(list(scene, one, spec.name, poison.number, 9), letters[1..]);
    for delivered in scene.delivered(two, 2) {
        scene.bus(two).settle(delivered.delivery, Settlement::Done).expect("it is in hand");
    }
    let (stream, number) = (spec.name, poison.number);
    assert_eq!(scene.order(two, Order::Replay { stream, number }), Ok(Outcome::Done));
    let again = scene.delivered(one, 1).remove(0);
    assert_eq!((again.text().as_str(), again.attempt), ("poison", 1), "with fresh attempts");
    assert_eq!(again.message.headers.trace, Some(trace));
    scene.bus(one).settle(again.delivery, Settlement::Done).expect("it is in hand");
    assert_eq!(scene.order(one, Order::Replay { stream, number }), Err(OrderFault::NotFound));
    let number = letters[1].number;
    assert_eq!(scene.order(one, Order::Discard { stream, number }), Ok(Outcome::Done));
    assert_eq!(scene.order(one, Order::Discard { stream, number }), Err(OrderFault::NotFound));
    assert!(list(scene, one, spec.name, 0, 100).is_empty());
    scene.store(one, &[scene.message("log.a", "last")]);
    let heard: Vec<_> = scene.delivered(two, 1).iter().map(|delivered| delivered.text()).collect();
    assert_eq!(heard, ["last"], "a replay is for its own group");
}

fn never_settled<R: Rig>(scene: &mut Scene<'_, R>) {
    let (one, spec, options) = log(scene);
    scene.consume(one, ConsumeOptions { attempts_max: 2, ack_wait_us: SECOND / 2, ..options });
    scene.store(one, &[scene.message("log.a", "forgotten")]);
    assert_eq!(scene.delivered(one, 2).len(), 2);
    let letters = dead(scene, one, spec.name, 1);
    assert_eq!((letters[0].attempts, &*letters[0].reason), (2, "not settled after 2 deliveries"));
    assert!(scene.delivered_by_now(one).is_empty());
}

fn full<R: Rig>(scene: &mut Scene<'_, R>) {
    let one = scene.join("one", Limits::default());
    let spec = StreamSpec { dead: Bounds::new(1, 1 << 20), ..scene.spec("log") };
    scene.declare(one, spec.clone());
    let share = Share::Group(scene.name("g"));
    let options =
        ConsumeOptions { attempts_max: 1, ack_wait_us: SECOND / 2, ..ConsumeOptions::new(spec.name, share) };
    scene.consume(one, options);
    scene.store(one, &[scene.message("log.a", "first"), scene.message("log.a", "second")]);
    for delivered in scene.delivered(one, 2) {
        scene.bus(one).settle(delivered.delivery, Settlement::Dead("bad".into())).expect("in hand");
    }
    let first = dead(scene, one, spec.name, 1).remove(0);
    scene.pass(2 * SECOND);
    assert_eq!(list(scene, one, spec.name, 0, 9), std::slice::from_ref(&first));
    let order = Order::Discard { stream: spec.name, number: first.number };
    assert_eq!(scene.order(one, order), Ok(Outcome::Done));
    let next = dead(scene, one, spec.name, 1).remove(0);
    let mut both = [text(&first.message), text(&next.message)];
    both.sort();
    assert_eq!(both, ["first", "second"]);
}
