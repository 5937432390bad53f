//! Asking: replies, deadlines, order, sharing, gray servers.

use super::Check;
use super::scene::{ROOM, Rig, Scene, numbers, text};
use crate::error::{RefusedKind, RequestFault};
use crate::event::Event;
use crate::message::Headers;
use crate::options::{Answer, Limits, Takes};
use crate::seam::Bus;
use crate::trace::TraceContext;

pub(super) fn checks<R: Rig>() -> Vec<(&'static str, Check<R>)> {
    vec![
        ("nobody serves", nobody_serves),
        ("a request is answered, with headers and trace", answered),
        ("a handler fails or is busy", failed_and_busy),
        ("a deadline ends a request once", deadline),
        ("requests of one sender arrive in order", in_order),
        ("servers share", shared),
        ("a service that is stopped gets nothing more", stopped),
        ("gray servers take their labels", gray),
        ("an endpoint may ask itself", itself),
    ]
}

const SECOND: u64 = 1_000_000;

fn nobody_serves<R: Rig>(scene: &mut Scene<'_, R>) {
    let asker = scene.join("asker", Limits::default());
    let message = scene.message("nobody", "?");
    let ticket = scene.ask(asker, &message, 30 * SECOND);
    assert_eq!(scene.outcome(asker, ticket), Err(RequestFault::NoServer));
}

fn answered<R: Rig>(scene: &mut Scene<'_, R>) {
    let asker = scene.join("asker", Limits::default());
    let server = scene.join("server", Limits::default());
    scene.serve(server, "branch.*", Takes::Everything, ROOM);
    let trace = TraceContext { trace: 7, span: 8, flags: 1 };
    let mut message = scene.message("branch.0007", "how much?").with_trace(trace).with_id(99);
    message.headers.extra.insert("content-type", "text/plain").expect("a plain header");
    message.headers.sender = Some(scene.name("somebody-else"));
    let ticket = scene.ask(asker, &message, 30 * SECOND);
    let (ask, got) = scene.asked(server, 1).remove(0);
    message.headers.sender = Some(scene.name("asker"));
    assert_eq!(got, message, "a request arrives as it was sent, and the sender's name is true");
    let mut headers = Headers::default();
    headers.extra.insert("kind", "balance").expect("a plain header");
    let payload = "12.34".into();
    scene.bus(server).respond(ask, Answer::Reply { headers, payload }).expect("in time");
    let reply = scene.outcome(asker, ticket).expect("it was answered");
    assert_eq!((text(&reply).as_str(), reply.subject), ("12.34", message.subject));
    assert_eq!(reply.headers.extra.get("kind"), Some("balance"));
    assert_eq!(reply.headers.trace, Some(trace), "a reply goes on with the request's trace");
    assert_eq!(reply.headers.sender, Some(scene.name("server")));
    assert_eq!(scene.bus(server).respond(ask, Answer::Busy), Err(RefusedKind::TooLate), "once");
    let empty = scene.message("branch.1", "");
    let ticket = scene.ask(asker, &empty, 30 * SECOND);
    let (ask, got) = scene.asked(server, 1).remove(0);
    assert!(got.payload.is_empty());
    scene.bus(server).respond(ask, Answer::reply("")).expect("in time");
    assert!(scene.outcome(asker, ticket).expect("it was answered").payload.is_empty());
}

fn failed_and_busy<R: Rig>(scene: &mut Scene<'_, R>) {
    let asker = scene.join("asker", Limits::default());
    let server = scene.join("server", Limits::default());
    scene.serve(server, "ask", Takes::Everything, ROOM);
    let message = scene.message("ask", "?");
    let answers = [
        (Answer::Failed("no such head".into()), RequestFault::Failed("no such head".into())),
        (Answer::Failed("\r\n".into()), RequestFault::Failed("no reason given".into())),
        (Answer::Busy, RequestFault::Busy),
    ];
    for (answer, fault) in answers {
        let ticket = scene.ask(asker, &message, 30 * SECOND);
        let (ask, _) = scene.asked(server, 1).remove(0);
        scene.bus(server).respond(ask, answer).expect("in time");
        assert_eq!(scene.outcome(asker, ticket), Err(fault));
    }
    assert_eq!(scene.bus(asker).stats().requests_failed, 3);
}

fn deadline<R: Rig>(scene: &mut Scene<'_, R>) {
    let asker = scene.join("asker", Limits::default());
    let server = scene.join("server", Limits::default());
    scene.serve(server, "slow", Takes::Everything, ROOM);
    let message = scene.message("slow", "?");
    let ticket = scene.ask(asker, &message, SECOND / 5);
    let deadline = scene.now().after(SECOND / 5);
    let (ask, _) = scene.asked(server, 1).remove(0);
    assert_eq!(scene.outcome(asker, ticket), Err(RequestFault::Deadline));
    scene.until("the server's own deadline", |scene| (scene.now() > deadline).then_some(()));
    scene.pass(SECOND / 10);
    assert_eq!(scene.bus(server).respond(ask, Answer::reply("late")), Err(RefusedKind::TooLate));
    // The way is open still, and nothing of the late answer comes through.
    let ticket = scene.ask(asker, &message, 30 * SECOND);
    let (ask, _) = scene.asked(server, 1).remove(0);
    scene.bus(server).respond(ask, Answer::reply("in time")).expect("in time");
    assert_eq!(scene.outcome(asker, ticket).map(|reply| text(&reply)), Ok("in time".to_owned()));
    let rest = scene.pick(asker, |event| matches!(event, Event::Replied { .. }).then_some(()));
    assert!(rest.is_empty(), "each request ends once");
}

fn in_order<R: Rig>(scene: &mut Scene<'_, R>) {
    let asker = scene.join("asker", Limits::default());
    let server = scene.join("server", Limits::default());
    scene.serve(server, "many", Takes::Everything, ROOM);
    let payloads = numbers(0..500);
    let mut tickets = Vec::new();
    for payload in &payloads {
        let message = scene.message("many", payload);
        tickets.push(scene.ask(asker, &message, 30 * SECOND));
    }
    let asked = scene.asked(server, 500);
    assert!(asked.iter().map(|(_, message)| text(message)).eq(payloads.iter().cloned()));
    for (ask, message) in asked {
        scene.bus(server).respond(ask, Answer::reply(message.payload)).expect("in time");
    }
    for (ticket, payload) in tickets.into_iter().zip(payloads) {
        assert_eq!(scene.outcome(asker, ticket).map(|reply| text(&reply)), Ok(payload));
    }
}

fn shared<R: Rig>(scene: &mut Scene<'_, R>) {
    let asker = scene.join("asker", Limits::default());
    let servers = [scene.join("one", Limits::default()), scene.join("two", Limits::default())];
    for server in servers {
        scene.serve(server, "work", Takes::Everything, ROOM);
    }
    let payloads = numbers(0..200);
    for payload in &payloads {
        let message = scene.message("work", payload);
        scene.ask(asker, &message, 30 * SECOND);
    }
    let mut got: [Vec<u32>; 2] = [Vec::new(), Vec::new()];
    let mut replied = 0;
    scene.until("all are answered", |scene| {
        for (server, got) in servers.into_iter().zip(&mut got) {
            for (ask, message) in scene.asked_by_now(server) {
                got.push(text(&message).parse().expect("a number"));
                scene.bus(server).respond(ask, Answer::reply("")).expect("in time");
            }
        }
        replied += scene.pick(asker, |event| matches!(event, Event::Replied { .. }).then_some(())).len();
        (replied >= 200).then_some(())
    });
    assert!(got.iter().all(|got| got.is_sorted()), "in order at each: {got:?}");
    assert!(got.iter().all(|got| !got.is_empty()), "both take a share");
    let mut all = got.concat();
    all.sort_unstable();
    assert!(all.into_iter().eq(0..200), "each once");
}

fn stopped<R: Rig>(scene: &mut Scene<'_, R>) {
    let asker = scene.join("asker", Limits::default());
    let server = scene.join("server", Limits::default());
    let service = scene.serve(server, "gone", Takes::Everything, ROOM);
    scene.bus(server).stop(service).expect("it is there");
    assert_eq!(scene.bus(server).stop(service), Err(RefusedKind::TooLate));
    let message = scene.message("gone", "?");
    scene.until("requests find nobody", |scene| {
        let ticket = scene.ask(asker, &message, SECOND / 2);
        (scene.outcome(asker, ticket) == Err(RequestFault::NoServer)).then_some(())
    });
    scene.asked_by_now(server);
    let ticket = scene.ask(asker, &message, 30 * SECOND);
    assert_eq!(scene.outcome(asker, ticket), Err(RequestFault::NoServer));
    assert!(scene.asked_by_now(server).is_empty());
}

fn gray<R: Rig>(scene: &mut Scene<'_, R>) {
    let asker = scene.join("asker", Limits::default());
    let plain = scene.join("plain", Limits::default());
    let new = scene.join("new", Limits::default());
    let (v2, v3) = (scene.name("v2"), scene.name("v3"));
    scene.serve(plain, "gray", Takes::unlabelled(), ROOM);
    scene.serve(new, "gray", Takes::labelled(&[v2]), ROOM);
    for number in 0..40 {
        let message = scene.message("gray", &number.to_string());
        let message = if number % 2 == 0 { message } else { message.with_label(v2) };
        scene.ask(asker, &message, 30 * SECOND);
    }
    let old_ones = scene.asked(plain, 20);
    assert!(old_ones.iter().all(|(_, message)| message.headers.label.is_none()), "{old_ones:?}");
    let new_ones = scene.asked(new, 20);
    assert!(new_ones.iter().all(|(_, message)| message.headers.label == Some(v2)), "{new_ones:?}");
    let unknown = scene.message("gray", "?").with_label(v3);
    let ticket = scene.ask(asker, &unknown, 30 * SECOND);
    assert_eq!(scene.outcome(asker, ticket), Err(RequestFault::NoServer));
}

fn itself<R: Rig>(scene: &mut Scene<'_, R>) {
    let one = scene.join("one", Limits::default());
    scene.serve(one, "self", Takes::Everything, ROOM);
    let message = scene.message("self", "?");
    let ticket = scene.ask(one, &message, 30 * SECOND);
    let (ask, _) = scene.asked(one, 1).remove(0);
    scene.bus(one).respond(ask, Answer::reply("!")).expect("in time");
    assert_eq!(scene.outcome(one, ticket).map(|reply| text(&reply)), Ok("!".to_owned()));
}
