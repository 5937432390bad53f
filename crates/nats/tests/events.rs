//! The log of events on real servers: kept once, in order, through servers that are killed and writers that are cut off.

#[expect(dead_code, reason = "its rig is for the contract of the seam")]
mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::Servers;
use skerry_bus::Name;
use skerry_nats::{EventLog, EventLogOptions, Logged, NatsOptions};

fn log(servers: &Servers) -> EventLog {
    let nats = NatsOptions {
        servers: servers.all.iter().map(|server| format!("nats://127.0.0.1:{}", server.port)).collect(),
        prefix: Name::new("bank").expect("a name"),
        replicas: servers.all.len(),
        tls: None,
    };
    let options = EventLogOptions { nats, age_max: Duration::from_secs(3_600), bytes_max: 64 << 20 };
    EventLog::new(options).expect("a thread")
}

fn event(lane: u32, number: u32) -> Logged {
    Logged {
        lane: format!("{lane:04}"),
        kind: "transfer.posted".to_owned(),
        place: format!("{lane}.{number}"),
        body: Bytes::from(format!("{lane}-{number}")),
    }
}

/// Does it again until the log answers: a cluster elects, a server starts.
fn until<T>(what: &str, mut work: impl FnMut() -> Result<T, skerry_nats::EventLogError>) -> T {
    let end = Instant::now() + Duration::from_secs(90);
    loop {
        match work() {
            Ok(done) => return done,
            Err(error) => assert!(Instant::now() < end, "{what}: {error}"),
        }
    }
}

/// The next number of a lane, by the log's own word.
fn next(log: &EventLog, lane: u32) -> u32 {
    let last = until("where it ends", || log.last(&format!("{lane:04}")));
    last.map_or(0, |place| {
        place.split('.').nth(1).expect("lane.number").parse::<u32>().expect("a number") + 1
    })
}

/// Everything that it keeps, as text.
fn bodies(log: &EventLog) -> Vec<String> {
    let mut found = Vec::new();
    loop {
        let from = u64::try_from(found.len()).expect("few") + 1;
        let page = until("what it keeps", || log.read(from, 1_000));
        if page.is_empty() {
            return found;
        }
        found.extend(page.into_iter().map(|(_, _, body)| String::from_utf8(body.to_vec()).expect("text")));
    }
}

#[test]
fn what_is_put_in_is_kept_in_order_and_each_lane_says_where_it_ends() {
    let servers = Servers::new(1, "", None);
    let log = log(&servers);
    assert_eq!(until("nothing yet", || log.last("0001")), None);
    let events: Vec<Logged> = (0..500).map(|number| event(1 + number % 2, number)).collect();
    log.put(&events[..300]).expect("kept");
    log.put(&events[300..]).expect("kept");
    log.put(&[]).expect("nothing is kept too");
    assert_eq!(log.last("0001").expect("it answers").as_deref(), Some("1.498"));
    assert_eq!(log.last("0002").expect("it answers").as_deref(), Some("2.499"));
    assert_eq!(log.last("0003").expect("it answers"), None);
    let kept = log.read(1, 1_000).expect("read");
    assert_eq!(kept.len(), 500);
    for ((number, subject, body), event) in kept.iter().zip(&events) {
        assert_eq!(subject, &format!("bank.events.{}.transfer.posted", event.lane));
        assert_eq!(body, &event.body, "number {number}");
    }
    assert_eq!(log.read(400, 2).expect("read")[1].0, 401);
}

#[test]
fn two_writers_do_not_get_between_each_other() {
    let servers = Servers::new(1, "", None);
    let logs = [log(&servers), log(&servers)];
    until("it is declared", || logs[0].last("0001"));
    // Both put the same in, as an old owner and a new one might.
    std::thread::scope(|scope| {
        for log in &logs {
            scope.spawn(move || {
                let end = Instant::now() + Duration::from_secs(60);
                loop {
                    let from = next(log, 1);
                    if from >= 400 {
                        return;
                    }
                    assert!(Instant::now() < end, "at {from} still");
                    let events: Vec<Logged> =
                        (from..(from + 20).min(400)).map(|number| event(1, number)).collect();
                    // Whoever is too late is refused, and asks again.
                    let _in_part = log.put(&events);
                }
            });
        }
    });
    let expected: Vec<String> = (0..400).map(|number| format!("1-{number}")).collect();
    assert_eq!(bodies(&logs[0]), expected);
}

#[test]
fn servers_that_are_killed_lose_nothing_and_double_nothing() {
    let mut servers = Servers::new(3, "", None);
    let log = log(&servers);
    until("it is declared", || log.last("0001"));
    let stop = AtomicBool::new(false);
    let put = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut at = 0;
            while !stop.load(Ordering::Relaxed) {
                let events: Vec<Logged> = (at..at + 5).map(|number| event(1, number)).collect();
                at = match log.put(&events) {
                    Ok(()) => at + 5,
                    Err(_in_part) => next(&log, 1),
                };
            }
            at
        });
        for lost in 0..3 {
            let before = next(&self::log(&servers), 1);
            servers.all[lost].kill();
            let watcher = self::log(&servers);
            until_more(&watcher, before);
            servers.all[lost].start();
            until_more(&watcher, before + 100);
            servers.wait_until_healthy();
        }
        stop.store(true, Ordering::Relaxed);
        writer.join().expect("the writer does not panic")
    });
    let expected: Vec<String> = (0..put).map(|number| format!("1-{number}")).collect();
    assert_eq!(bodies(&log), expected);
}

/// Waits until more than `before` events are in.
fn until_more(log: &EventLog, before: u32) {
    let end = Instant::now() + Duration::from_secs(90);
    while next(log, 1) <= before {
        assert!(Instant::now() < end, "nothing more comes in");
    }
}
