//! Bounds and breakers on the asking side.

use super::Check;
use super::scene::{ROOM, Rig, Scene, text};
use crate::breaker::{BreakerOptions, BreakerState};
use crate::error::{Full, RefusedKind, RequestFault};
use crate::event::Event;
use crate::options::{Answer, Bounds, Limits, Takes};
use crate::seam::Bus;

pub(super) fn checks<R: Rig>() -> Vec<(&'static str, Check<R>)> {
    vec![
        ("a full server says busy and loses nothing it took", full_server),
        ("windows of requests are bounded", windows),
        ("messages are bounded", too_large),
        ("a breaker opens, probes and closes", breaker),
    ]
}

const SECOND: u64 = 1_000_000;

fn full_server<R: Rig>(scene: &mut Scene<'_, R>) {
    let asker = scene.join("asker", Limits::default());
    let server = scene.join("server", Limits::default());
    scene.serve(server, "full", Takes::Everything, Bounds::new(4, 1 << 20));
    let message = scene.message("full", "?");
    for _ in 0..50 {
        scene.ask(asker, &message, 30 * SECOND);
    }
    let mut busy = 0;
    // The server does not look: what it cannot queue is refused, and nothing else.
    let end = scene.now().after(60 * SECOND);
    while busy < 46 {
        scene.turn_without(server);
        busy += scene
            .pick(asker, |event| {
                let Event::Replied { outcome, .. } = event else { return None };
                assert_eq!(*outcome, Err(RequestFault::Busy));
                Some(())
            })
            .len();
        assert!(scene.now() < end, "only {busy} of 46 were told busy");
    }
    let asked = scene.asked(server, 4);
    assert_eq!(asked.len(), 4);
    for (ask, _) in asked {
        scene.bus(server).respond(ask, Answer::reply("!")).expect("in time");
    }
    let mut good = 0;
    scene.until("the four are answered", |scene| {
        good += scene
            .pick(asker, |event| match event {
                Event::Replied { outcome: Ok(reply), .. } => Some(text(reply)),
                _ => None,
            })
            .len();
        (good == 4).then_some(())
    });
}

fn windows<R: Rig>(scene: &mut Scene<'_, R>) {
    let limits = Limits { requests: Bounds::new(3, 1 << 20), requests_per_subject: 2, ..Limits::default() };
    let asker = scene.join("asker", limits);
    let server = scene.join("server", Limits::default());
    scene.serve(server, "window.*", Takes::Everything, ROOM);
    let (a, b) = (scene.message("window.a", "?"), scene.message("window.b", "?"));
    scene.ask(asker, &a, 30 * SECOND);
    let second = scene.ask(asker, &a, 30 * SECOND);
    let deadline = scene.now().after(30 * SECOND);
    assert_eq!(scene.bus(asker).request(&a, deadline), Err(RefusedKind::Busy(Full::Subject)));
    scene.ask(asker, &b, 30 * SECOND);
    assert_eq!(scene.bus(asker).request(&b, deadline), Err(RefusedKind::Busy(Full::Requests)));
    assert_eq!(scene.bus(asker).stats().busy, 2);
    for (ask, _) in scene.asked(server, 3) {
        scene.bus(server).respond(ask, Answer::reply("!")).expect("in time");
    }
    scene.outcome(asker, second).expect("it was answered");
    scene.ask(asker, &a, 30 * SECOND);
}

fn too_large<R: Rig>(scene: &mut Scene<'_, R>) {
    let limits = Limits { message_bytes: 1000, ..Limits::default() };
    let one = scene.join("one", limits);
    scene.serve(one, "large", Takes::Everything, ROOM);
    let (large, fits) =
        (scene.message("large", &"x".repeat(1001)), scene.message("large", &"x".repeat(1000)));
    let deadline = scene.now().after(30 * SECOND);
    let refused = RefusedKind::TooLarge { bytes: 1001, bytes_max: 1000 };
    assert_eq!(scene.bus(one).request(&large, deadline), Err(refused.clone()));
    assert_eq!(scene.bus(one).publish(&large), Err(refused.clone()));
    assert_eq!(scene.bus(one).store(&large), Err(refused.clone()));
    let ticket = scene.ask(one, &fits, 30 * SECOND);
    let (ask, _) = scene.asked(one, 1).remove(0);
    let answer = |payload: &bytes::Bytes| Answer::reply(payload.clone());
    assert_eq!(scene.bus(one).respond(ask, answer(&large.payload)), Err(refused));
    scene.bus(one).respond(ask, answer(&fits.payload)).expect("it can still be answered");
    assert_eq!(scene.outcome(one, ticket).expect("it was answered").payload, fits.payload);
}

fn breaker<R: Rig>(scene: &mut Scene<'_, R>) {
    let options = BreakerOptions { failures: 3, open_us: SECOND / 2, probes: 2 };
    let asker = scene.join("asker", Limits { breaker: options, ..Limits::default() });
    let server = scene.join("server", Limits::default());
    scene.serve(server, "sick", Takes::Everything, ROOM);
    scene.serve(server, "sound", Takes::Everything, ROOM);
    let (sick, sound) = (scene.message("sick", "?"), scene.message("sound", "?"));
    let ask = |scene: &mut Scene<'_, R>, message: &crate::Message, answer: Answer| {
        let ticket = scene.ask(asker, message, 30 * SECOND);
        let (ask, _) = scene.asked(server, 1).remove(0);
        scene.bus(server).respond(ask, answer).expect("in time");
        scene.outcome(asker, ticket)
    };
    for _ in 0..3 {
        let failed = ask(scene, &sick, Answer::Failed("sick".into()));
        assert_eq!(failed, Err(RequestFault::Failed("sick".into())));
    }
    let deadline = scene.now().after(30 * SECOND);
    let refused = scene.bus(asker).request(&sick, deadline);
    let Err(RefusedKind::BreakerOpen { until }) = refused else { panic!("it stayed closed: {refused:?}") };
    assert_eq!(scene.bus(asker).breaker(&sick.subject), BreakerState::Open { until });
    ask(scene, &sound, Answer::reply("!")).expect("another subject is not concerned");
    scene.until("the breaker's time is up", |scene| (scene.now() > until).then_some(()));
    scene.turn();
    ask(scene, &sick, Answer::Failed("still sick".into())).expect_err("a bad probe");
    let open = scene.bus(asker).breaker(&sick.subject);
    let BreakerState::Open { until } = open else { panic!("a bad probe opens it again: {open:?}") };
    scene.until("its time is up again", |scene| (scene.now() > until).then_some(()));
    scene.turn();
    for _ in 0..2 {
        ask(scene, &sick, Answer::reply("well again")).expect("a good probe");
    }
    assert_eq!(scene.bus(asker).breaker(&sick.subject), BreakerState::Closed);
    let told = scene.pick(asker, |event| match event {
        Event::Breaker { subject, state } if *subject == sick.subject => Some(*state),
        _ => None,
    });
    let kinds: Vec<_> = told
        .iter()
        .map(|state| match state {
            BreakerState::Closed => 'c',
            BreakerState::Open { .. } => 'o',
            BreakerState::HalfOpen => 'h',
        })
        .collect();
    assert_eq!(kinds, ['o', 'h', 'o', 'h', 'c']);
}
