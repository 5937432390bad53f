//! The runbook of lost PostgreSQL servers, its commands typed as they stand at three real ones.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends where it is")]

mod common;
mod place;
#[path = "../../postgres/tests/common/mod.rs"]
mod postgres;

use std::time::{Duration, Instant};

use common::{assert_balanced, balance, block_on, open_account, problem, transfer, uuid7};
use place::{Page, Place, shows};
use postgres::Group;
use serde_json::Value;

fn stored(group: &Group) -> Place {
    let store = format!(
        "[stores.main]\npostgres = {:?}\ncommit_timeout_ms = 4000\n[storage]\njournals = [\"main\"]\n",
        group.url("postgres")
    );
    let mut place = Place::new("standbys", 1, "");
    let config = place.path("/etc/skerry/skerry.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let text = text.replace("[storage]\n", &store);
    std::fs::write(config, text).unwrap();
    for (number, node) in (1..).zip(&group.nodes) {
        let host = format!("host=db{number} port=5432");
        place.instead.push((host, format!("host=127.0.0.1 port={}", node.port)));
        place.instead.push((format!("NAME=db{number}"), format!("NAME={}", node.name)));
    }
    place.instead.push(("PGDATABASE=bank".to_owned(), "PGDATABASE=postgres".to_owned()));
    place
}

#[test]
fn lost_standby_and_lost_primary() {
    let mut group = Group::replicated();
    let place = stored(&group);
    let mut page = Page::open("lost-standby");
    place.up();
    let client = place.client();
    let (_, account) = block_on(open_account(&client, "Customer 1"));
    let pay = || {
        block_on(client.post::<_, Value>("/v1/transfers", &transfer(&uuid7(), "gl:1001", &account, "1.00")))
    };
    let paid = |times: usize| {
        for _ in 0..times {
            pay().unwrap();
        }
    };
    paid(3);
    // Where the servers are is said once, for the whole page.
    let told = page.next();
    let step = |page: &mut Page| place.shell(&format!("{told}\n{}", page.next()));

    // One standby is lost: nobody notices. Both: what is under way is unknown.
    group.nodes[2].kill();
    paid(3);
    group.nodes[1].kill();
    assert!(problem(pay()).status >= 500);
    let seen = step(&mut page);
    assert!(!seen.contains("quorum"), "{seen}");
    group.nodes[1].start();
    group.nodes[2].start();
    let seen = step(&mut page);
    assert!(seen.contains("streaming") && shows(&seen, "healthy true"), "{seen}");
    let unknown = block_on(balance(&client, &account));
    assert!(["6.00", "7.00"].contains(&unknown.as_str()), "what was acknowledged is there: {unknown}");
    let both = "select count(*) from pg_stat_replication where sync_state = 'quorum' and state = 'streaming'";
    group.primary().until(both, "2");

    let before: f64 = unknown.parse().unwrap();
    paid(3);
    group.primary_mut().kill();
    let began = Instant::now();
    while pay().is_ok() {
        assert!(began.elapsed() < Duration::from_secs(60), "it pays without a server");
    }
    let seen = step(&mut page);
    assert!(shows(&seen, "healthy true"), "{seen}");
    page.end();
    let after: f64 = block_on(balance(&client, &account)).parse().unwrap();
    assert!(after >= before + 3.0, "{after} after the promotion, {before} and 3 were acknowledged");
    pay().unwrap();
    block_on(assert_balanced(&client));
}
