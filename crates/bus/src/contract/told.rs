//! Telling: groups, every instance, one group alone, gray subscribers, bounds.

use super::Check;
use super::scene::{ROOM, Rig, Scene, numbers, text};
use crate::options::{Bounds, Limits, Share, Takes};
use crate::seam::Bus;

pub(super) fn checks<R: Rig>() -> Vec<(&'static str, Check<R>)> {
    vec![
        ("one per group, and every instance", groups),
        ("one group alone", one_group),
        ("gray subscribers", gray),
        ("who is full misses it, and nobody else", slow),
        ("patterns", patterns),
    ]
}

fn groups<R: Rig>(scene: &mut Scene<'_, R>) {
    let sender = scene.join("sender", Limits::default());
    let (g, h) = (scene.name("g"), scene.name("h"));
    let shares = [Share::Group(g), Share::Group(g), Share::Group(h), Share::Every, Share::Every];
    let mut actors = Vec::new();
    for (index, share) in shares.into_iter().enumerate() {
        let actor = scene.join(&format!("a{index}"), Limits::default());
        scene.subscribe(actor, "news", share, Takes::Everything, ROOM);
        actors.push(actor);
    }
    let payloads = numbers(0..300);
    for payload in &payloads {
        let message = scene.message("news", payload);
        scene.bus(sender).publish(&message).expect("there is room");
    }
    for actor in &actors[2..] {
        let heard: Vec<_> = scene.heard(*actor, 300).iter().map(text).collect();
        assert_eq!(heard, payloads, "one each, in order");
    }
    let mut shared: [Vec<u32>; 2] = [Vec::new(), Vec::new()];
    scene.until("the group has heard it", |scene| {
        for (actor, heard) in actors.iter().zip(&mut shared) {
            heard
                .extend(scene.heard_by_now(*actor).iter().map(|m| text(m).parse::<u32>().expect("a number")));
        }
        (shared[0].len() + shared[1].len() >= 300).then_some(())
    });
    assert!(shared.iter().all(|heard| heard.is_sorted() && !heard.is_empty()), "{shared:?}");
    let mut all = shared.concat();
    all.sort_unstable();
    assert!(all.into_iter().eq(0..300), "one of the group each");
    assert_eq!(scene.bus(sender).stats().published, 300);
}

fn one_group<R: Rig>(scene: &mut Scene<'_, R>) {
    let sender = scene.join("sender", Limits::default());
    let (g, h) = (scene.name("g"), scene.name("h"));
    let actors = [Share::Group(g), Share::Group(h), Share::Every].map(|share| {
        let actor = scene
            .join(&format!("{share:?}").replace(|c: char| !c.is_ascii_alphanumeric(), ""), Limits::default());
        scene.subscribe(actor, "unicast", share, Takes::Everything, ROOM);
        actor
    });
    let message = scene.message("unicast", "for h").to_group(h);
    scene.bus(sender).publish(&message).expect("there is room");
    let last = scene.message("unicast", "for all");
    scene.bus(sender).publish(&last).expect("there is room");
    for (actor, expected) in actors.into_iter().zip([&["for all"][..], &["for h", "for all"], &["for all"]]) {
        let heard: Vec<_> = scene.heard(actor, expected.len()).iter().map(text).collect();
        assert_eq!(heard, expected);
    }
}

fn gray<R: Rig>(scene: &mut Scene<'_, R>) {
    let sender = scene.join("sender", Limits::default());
    let (g, v2) = (scene.name("g"), scene.name("v2"));
    let plain = scene.join("plain", Limits::default());
    let new = scene.join("new", Limits::default());
    let all = scene.join("all", Limits::default());
    scene.subscribe(plain, "gray", Share::Group(g), Takes::unlabelled(), ROOM);
    scene.subscribe(new, "gray", Share::Group(g), Takes::labelled(&[v2]), ROOM);
    scene.subscribe(all, "gray", Share::Every, Takes::Everything, ROOM);
    for payload in numbers(0..20) {
        for message in [scene.message("gray", &payload), scene.message("gray", &payload).with_label(v2)] {
            scene.bus(sender).publish(&message).expect("there is room");
        }
    }
    let label = |message: &crate::Message| message.headers.label;
    assert!(scene.heard(plain, 20).iter().all(|message| label(message).is_none()));
    assert!(scene.heard(new, 20).iter().all(|message| label(message) == Some(v2)));
    assert_eq!(scene.heard(all, 40).len(), 40);
}

fn slow<R: Rig>(scene: &mut Scene<'_, R>) {
    let sender = scene.join("sender", Limits::default());
    let slow = scene.join("slow", Limits::default());
    let quick = scene.join("quick", Limits::default());
    scene.subscribe(slow, "flood", Share::Every, Takes::Everything, Bounds::new(5, 1 << 20));
    scene.subscribe(quick, "flood", Share::Every, Takes::Everything, ROOM);
    for payload in numbers(0..100) {
        let message = scene.message("flood", &payload);
        scene.bus(sender).publish(&message).expect("there is room");
    }
    let end = scene.now().after(60_000_000);
    let mut heard = 0;
    while heard < 100 {
        scene.turn_without(slow);
        heard += scene.heard_by_now(quick).len();
        assert!(scene.now() < end, "the quick one heard only {heard}");
    }
    scene.pass(100_000);
    let some: Vec<_> = scene.heard_by_now(slow).iter().map(|message| text(message).parse::<u32>()).collect();
    let some: Vec<_> = some.into_iter().map(|number| number.expect("a number")).collect();
    assert!(some.len() >= 5 && some.len() < 100, "{} got through a bound of 5", some.len());
    assert!(some.is_sorted());
}

fn patterns<R: Rig>(scene: &mut Scene<'_, R>) {
    let sender = scene.join("sender", Limits::default());
    let actor = scene.join("actor", Limits::default());
    scene.subscribe(actor, "*.posted", Share::Every, Takes::Everything, ROOM);
    scene.subscribe(actor, "deep.>", Share::Every, Takes::Everything, ROOM);
    for (subject, payload) in [
        ("a.posted", "1"),
        ("a.settled", "-"),
        ("deep", "-"),
        ("deep.posted", "2"),
        ("deep.a.b", "3"),
        ("b.posted", "4"),
    ] {
        let message = scene.message(subject, payload);
        scene.bus(sender).publish(&message).expect("there is room");
    }
    // "deep.posted" is heard by both subscriptions.
    let mut heard: Vec<_> = scene.heard(actor, 5).iter().map(text).collect();
    heard.sort();
    assert_eq!(heard, ["1", "2", "2", "3", "4"]);
}
