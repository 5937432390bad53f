//! Branches that are added: who may, which number, that a retry makes no second one, and that everybody learns of them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends where it is")]

mod common;
#[path = "common/receiver.rs"]
mod receiver;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::Request;
use common::{KEY, TestBank, opening, transfer, unfounded};
use http_body_util::BodyExt;
use receiver::{Answer as Status, Receiver, until};
use serde_json::{Value, json};
use skerry_book::command::OpenBranch;
use skerry_branch::BranchThread;
use skerry_branch::api::GatewayKey;
use skerry_directory::{Ask, BranchState, Map, Told};
use skerry_gateway::NewToken;
use skerry_gateway::events::outlet::{Begin, Outgoing, Outlet};
use skerry_gateway::founding::Founder;
use skerry_gateway::webhooks::Settings;
use skerry_node::{Hosted, Seat};
use skerry_post::Post;

/// A process that opens branches in the bank's folder, or leaves that to others.
struct Process {
    folder: PathBuf,
    post: Post,
    is_host: bool,
    /// It cannot remember any more of them.
    is_full: AtomicBool,
    open: Mutex<BTreeMap<u16, BranchThread>>,
    kept: Mutex<Vec<u16>>,
}

impl Process {
    fn behind(bank: &TestBank, is_host: bool) -> Arc<Self> {
        let process = Arc::new(Self {
            folder: bank.folder.clone(),
            post: bank.post_office(),
            is_host,
            is_full: AtomicBool::new(false),
            open: Mutex::default(),
            kept: Mutex::default(),
        });
        bank.gateway.begin_founding(Arc::clone(&process) as Arc<dyn Founder>);
        process
    }

    fn seat(&self, number: u16) -> Arc<dyn Seat> {
        let mut open = self.open.lock().unwrap();
        let key = GatewayKey::new(KEY);
        let thread = open.entry(number).or_insert_with(|| unfounded(&self.folder, number, &key));
        Arc::new(Hosted::new(thread.handle()))
    }

    fn connect(&self, number: u16) {
        self.post.host(&self.open.lock().unwrap()[&number].handle());
    }
}

impl Founder for Process {
    fn stores(&self) -> Vec<String> {
        vec!["local".to_owned()]
    }

    fn usual(&self, _: u16) -> String {
        "local".to_owned()
    }

    fn opening(&self) -> Result<OpenBranch, String> {
        Ok(opening())
    }

    fn open(&self, number: u16, _: &str) -> Result<Option<Arc<dyn Seat>>, String> {
        Ok(self.is_host.then(|| self.seat(number)))
    }

    fn keep(&self, number: u16) -> Result<(), String> {
        if self.is_full.load(Ordering::SeqCst) {
            return Err("the disk is full".to_owned());
        }
        self.kept.lock().unwrap().push(number);
        self.connect(number);
        Ok(())
    }
}

fn map(bank: &TestBank) -> Map {
    match bank.directory.handle().ask_and_wait(Ask::Map { since: 0 }).unwrap() {
        Told::Map(map) => *map,
        other => panic!("{other:?}"),
    }
}

async fn create(bank: &TestBank, wish: Value) -> common::Answer {
    bank.post("/v1/branches", wish).await
}

/// Waits for the end of what is under way.
async fn until_balance(bank: &TestBank, account: &str, wanted: &str) {
    let end = Instant::now() + Duration::from_secs(60);
    while bank.balance(account).await != wanted {
        assert!(Instant::now() < end, "{account} never has {wanted}");
        tokio::time::sleep(Duration::from_millis(5)).await; // between two looks
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_branch_that_was_added_pays_and_is_paid_and_newcomers_come_to_it() {
    let bank = TestBank::new(2);
    let process = Process::behind(&bank, true);
    let ana = bank.funded(1, "10.00").await;
    bank.customer(2).await;
    let made = create(&bank, json!({"branch": 3})).await;
    assert_eq!((made.status.as_u16(), made.headers["location"].to_str().unwrap()), (201, "/v1/branches"));
    let view = made.ok();
    assert_eq!(
        (&view["branch"], &view["state"], &view["store"]),
        (&json!(3), &json!("open"), &json!("local"))
    );
    assert_eq!(
        (&view["customers"], &view["capacity"]),
        (&json!(0), &json!(1_000)),
        "newcomers know of its room"
    );

    // Said again, it is the same one.
    for wish in [json!({"branch": 3}), json!({"branch": 3, "store": "local"}), json!({"branch": 1})] {
        let again = create(&bank, wish).await;
        assert_eq!(
            (again.status.as_u16(), &again.headers["idempotent-replayed"]),
            (200, &"true".parse().unwrap())
        );
    }
    assert_eq!((map(&bank).branches.len(), &*process.kept.lock().unwrap()), (3, &vec![3]));
    let listed = bank.get("/v1/branches").await.ok();
    assert_eq!(listed["branches"][2]["state"], "open");

    // It has the most room.
    let newcomer = json!({"name": "Newcomer", "document": {"kind": "passport", "number": "N1"}});
    let newcomer = bank.post("/v1/customers", newcomer).await.ok();
    assert!(newcomer["id"].as_str().unwrap().starts_with("c0003"), "{newcomer}");
    let wish = json!({"product": "current", "currency": "CNY"});
    let path = format!("/v1/customers/{}/accounts", newcomer["id"].as_str().unwrap());
    let bob = bank.post(&path, wish).await.ok()["number"].as_str().unwrap().to_owned();

    // Both ways, with branches that were there before.
    bank.pay(&ana, &bob, "4.00").await.ok();
    until_balance(&bank, &bob, "4.00").await;
    let back = transfer(&common::id(), &bob, &ana, "1.50");
    bank.post("/v1/transfers", back).await.ok();
    until_balance(&bank, &ana, "7.50").await;

    // Who did it is in the new branch's own audit.
    let audit = bank.get("/v1/audit?branch=3&act=branch.opened").await.ok();
    let act = &audit["acts"][0];
    assert_eq!(
        (&act["principal"], &act["role"], &act["cause"]),
        (&json!("chief"), &json!("operator"), &json!("founding")),
        "{audit}"
    );
    let view = bank.get("/v1/branches").await.ok();
    assert!(view["branches"][2]["business_date"].is_string(), "{view}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_and_what_is_no_next_number_is_refused() {
    let bank = TestBank::new(2);
    let nobody = create(&bank, json!({"branch": 3})).await;
    assert_eq!(nobody.problem(), "not_found", "a process that makes no branches");
    let process = Process::behind(&bank, true);
    for role in ["auditor", "service"] {
        let token = bank.role(role, role);
        let refused = bank.call_as(&token, "POST", "/v1/branches", &json!({"branch": 3})).await;
        assert_eq!(refused.problem(), "forbidden");
    }
    let of_all_that_there_are = bank.token(&NewToken {
        principal: "some".into(),
        role: "operator".into(),
        branches: Some(vec![1, 2]),
        ..NewToken::default()
    });
    let refused = bank.call_as(&of_all_that_there_are, "POST", "/v1/branches", &json!({"branch": 3})).await;
    assert_eq!(refused.problem(), "out_of_scope");
    for (wish, code, field, words) in [
        (json!({"branch": 0}), "invalid_field", "branch", "from 1 to 9999"),
        (json!({"branch": 4}), "invalid_field", "branch", "the next branch is 3"),
        (json!({"branch": 10_000}), "invalid_field", "branch", "9999 branches at most"),
        (json!({"branch": 65_536}), "invalid_field", "branch", ""),
        (json!({"branch": 3, "store": "main"}), "invalid_field", "store", "there are: local"),
        (json!({"branch": 1, "store": "main"}), "invalid_field", "store", "keeps its journal in local"),
        (json!({}), "missing_field", "branch", ""),
        (json!({"branch": 3, "newcomers": false}), "unknown_field", "newcomers", ""),
    ] {
        let refused = create(&bank, wish.clone()).await;
        let detail = refused.json()["detail"].as_str().unwrap_or("").to_owned();
        assert_eq!((refused.problem().as_str(), &refused.json()["field"]), (code, &json!(field)), "{wish}");
        assert!(detail.contains(words), "{wish}: {detail}");
    }
    assert_eq!((map(&bank).branches.len(), bank.gateway.bank.seats().len()), (2, 2));
    assert!(process.open.lock().unwrap().is_empty() && process.kept.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ended_half_way_is_nobodys_branch_and_goes_on_when_it_is_asked_for_again() {
    let bank = TestBank::new(1);
    let process = Process::behind(&bank, true);
    process.is_full.store(true, Ordering::SeqCst);
    for _ in 0..2 {
        let refused = create(&bank, json!({"branch": 2})).await;
        assert_eq!(refused.problem(), "branch_unavailable");
        assert_eq!(refused.json()["detail"], "the disk is full");
    }
    assert_eq!((map(&bank).branches.len(), bank.gateway.bank.seats().len()), (1, 1));
    process.is_full.store(false, Ordering::SeqCst);
    let (one, other) = tokio::join!(create(&bank, json!({"branch": 2})), create(&bank, json!({"branch": 2})));
    let mut told = [one.status.as_u16(), other.status.as_u16()];
    told.sort_unstable();
    assert_eq!(told, [200, 201], "two at once make one");
    assert_eq!(*process.kept.lock().unwrap(), [2]);
    let audit = bank.get("/v1/audit?branch=2&act=branch.opened").await.ok();
    assert_eq!(audit["acts"].as_array().unwrap().len(), 1, "founded once");
    bank.funded(2, "1.00").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_founding_that_broke_off_is_ended() {
    let bank = TestBank::new(1);
    let process = Process::behind(&bank, true);
    let half = common::branch(&bank.folder, 2, &GatewayKey::new(KEY));
    process.open.lock().unwrap().insert(2, half);
    create(&bank, json!({"branch": 2})).await.ok();
    let audit = bank.get("/v1/audit?branch=2&act=branch").await.ok();
    let acts: Vec<&Value> = audit["acts"].as_array().unwrap().iter().map(|act| &act["act"]).collect();
    let count = |name: &str| acts.iter().filter(|act| **act == name).count();
    assert_eq!((count("branch.opened"), count("branch.went_live")), (1, 1), "{audit}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nodes_host_it_is_open_to_newcomers_once_one_has_opened_it() {
    let bank = TestBank::new(1);
    let process = Process::behind(&bank, false);
    let node = async {
        let end = Instant::now() + Duration::from_secs(60);
        while map(&bank).branch(2).is_none() {
            assert!(Instant::now() < end, "it is entered");
            tokio::time::sleep(Duration::from_millis(5)).await; // between two looks
        }
        let state = map(&bank).branch(2).unwrap().row.state;
        // As a gateway follows the directory, and a node it.
        bank.gateway.bank.add(process.seat(2));
        process.connect(2);
        state
    };
    let (made, state) = tokio::join!(create(&bank, json!({"branch": 2})), node);
    assert_eq!(state, BranchState::Founding, "nobody is placed in it yet");
    assert_eq!((made.status.as_u16(), &made.ok()["state"]), (201, &json!("open")));
    assert_eq!(map(&bank).branch(2).unwrap().row.state, BranchState::Open);
    assert!(process.kept.lock().unwrap().is_empty(), "nothing of it is this process's");
    let (ana, bob) = (bank.funded(1, "3.00").await, bank.funded(2, "1.00").await);
    bank.pay(&ana, &bob, "2.00").await.ok();
    until_balance(&bank, &bob, "3.00").await;
}

/// A log outside of the bank: the types that were put into it, each with its branch.
#[derive(Default)]
struct Log(Mutex<Vec<(u16, String)>>);

impl Outlet for Log {
    fn last(&self, _: u16) -> Result<Option<String>, String> {
        Ok(None)
    }

    fn put(&self, events: Vec<Outgoing>) -> Result<(), String> {
        let told = events.into_iter().map(|event| (event.branch, event.kind));
        self.0.lock().unwrap().extend(told);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_the_events_of_all_branches_reads_those_of_a_new_one() {
    let bank = TestBank::new(1);
    let _process = Process::behind(&bank, true);
    let log = Arc::new(Log::default());
    bank.gateway.begin_outlet(Arc::clone(&log) as Arc<dyn Outlet>, Begin::Now).unwrap();
    bank.gateway.begin_webhooks(Settings::default()).unwrap();
    let (all, one) = (Receiver::new(|_| Status::Status(204)), Receiver::new(|_| Status::Status(204)));
    for (receiver, branches) in [(&all, Value::Null), (&one, json!([1]))] {
        let wish = json!({"url": receiver.url(), "after": "now", "types": ["skerry.branch", "skerry.customer"], "branches": branches});
        bank.post("/v1/webhooks", wish).await.ok();
    }
    let request = Request::get("/v1/events?after=now&type=skerry.branch.opened,skerry.customer.opened")
        .header("authorization", format!("Bearer {}", bank.operator))
        .header("accept", "text/event-stream");
    let response = bank.front.clone().answer(request.body(Body::empty()).unwrap()).await;
    let mut body = response.into_body();
    // All of them are at work with the branches that there were.
    bank.customer(1).await;
    until("the first events are told", || {
        all.count() > 0 && one.count() > 0 && !log.0.lock().unwrap().is_empty()
    })
    .await;

    create(&bank, json!({"branch": 2})).await.ok();
    bank.customer(2).await;
    let listening = async {
        let mut heard = String::new();
        while heard.matches("event: skerry.customer.opened").count() < 2 {
            let frame = body.frame().await.expect("the stream goes on").unwrap();
            heard.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
        }
        heard
    };
    let heard = tokio::time::timeout(Duration::from_secs(60), listening).await.expect("it is told");
    assert!(heard.contains("event: skerry.branch.opened"), "{heard}");
    let kinds = |receiver: &Receiver| {
        let kinds =
            receiver.calls().into_iter().map(|call| call.event()["type"].as_str().unwrap().to_owned());
        kinds.collect::<Vec<_>>()
    };
    until("the receiver of all is called", || {
        let kinds = kinds(&all);
        kinds.iter().any(|kind| kind == "skerry.branch.opened")
            && kinds.iter().filter(|kind| *kind == "skerry.customer.opened").count() == 2
    })
    .await;
    let is_of_two = |kind: &str| log.0.lock().unwrap().contains(&(2, kind.to_owned()));
    until("the log has them", || is_of_two("branch.opened") && is_of_two("customer.opened")).await;
    assert_eq!(
        kinds(&one).iter().filter(|kind| *kind == "skerry.branch.opened").count(),
        0,
        "it wanted branch 1"
    );
}
