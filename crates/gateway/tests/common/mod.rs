//! A bank of a few branches in one process, asked through the gateway's outermost layer.
#![allow(
    dead_code,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "each test file uses its part"
)]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use skerry_book::command::OpenBranch;
use skerry_book::event::Terms;
use skerry_book::{Actor, Cause, Command, Seed};
use skerry_branch::api::{Body as Ask, GatewayKey, Reply, Request as Wish, Scope};
use skerry_branch::keys::{Keys, SlotKeys};
use skerry_branch::{BranchThread, Options, Parts};
use skerry_bus::{Connect as _, Limits as BusLimits, LocalExchange};
use skerry_directory::{
    Ask as Question, BranchRow, DirectoryThread, Embedded, EmbeddedOptions, Name, Rebuild, StoreRow, Told,
    Where,
};
use skerry_gateway::oidc::Oidc;
use skerry_gateway::sealing::DocumentSecret;
use skerry_gateway::service::Front;
use skerry_gateway::{Bank, Gateway, Limits, NewToken, Secrets, Shared, TokenStore, app};
use skerry_journal::{LocalOptions, LocalStore, RealStorage, Storage};
use skerry_money::{Currency, Date};
use skerry_node::remote::{Holder, HolderOptions, RemoteOptions, RemoteSeats};
use skerry_node::{Hosted, Seat};
use skerry_post::{Post, PostOptions, PostThread};
use skerry_proof::Ed25519Signer;

/// Of the gateway.
pub(crate) const KEY: [u8; 32] = [8; 32];

static COUNT: AtomicU64 = AtomicU64::new(0);

pub(crate) struct TestBank {
    pub(crate) gateway: Shared,
    pub(crate) front: Front,
    pub(crate) operator: String,
    pub(crate) folder: PathBuf,
    branches: Vec<BranchThread>,
    post: PostThread,
    pub(crate) directory: DirectoryThread,
    /// Where the branches are reached over a bus: both ends of it.
    over_the_bus: Option<(RemoteSeats, Holder)>,
}

/// Whether every branch is behind a bus, as if it were open in another process: so it is where `over_the_bus.rs` runs the
/// other files' tests.
fn is_remote() -> bool {
    module_path!().starts_with("over_the_bus")
}

/// The seats of `threads`, over a bus of this process; once all of them have been heard of.
fn remote(threads: &[BranchThread], key: &GatewayKey) -> (Vec<Arc<dyn Seat>>, (RemoteSeats, Holder)) {
    let exchange = LocalExchange::default();
    let limits = BusLimits { message_bytes: 8_000_000, ..BusLimits::default() };
    let bus = |name| exchange.connect(skerry_bus::Name::new(name).unwrap(), limits).unwrap();
    let seats = RemoteSeats::start(bus("gateway"), RemoteOptions::new(key.clone())).unwrap();
    let holder = Holder::start(bus("holder"), HolderOptions::new(key.clone())).unwrap();
    let give = |thread: &BranchThread| {
        holder.add(Arc::new(Hosted::new(thread.handle())));
        let seat = seats.seat(thread.handle().number());
        let until = Instant::now() + Duration::from_secs(10);
        while seat.room().is_none_or(|(_, capacity)| capacity == 0) || seat.health().figures.is_empty() {
            assert!(Instant::now() < until, "the branch is heard of: {:?}", seat.health());
            std::thread::yield_now();
        }
        Arc::new(seat) as Arc<dyn Seat>
    };
    (threads.iter().map(give).collect(), (seats, holder))
}

/// An answer, read whole.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes)
            .unwrap_or_else(|_| panic!("not JSON: {} {}", self.status, String::from_utf8_lossy(&self.bytes)))
    }

    /// The JSON of an answer that had to succeed.
    pub(crate) fn ok(&self) -> Value {
        assert!(self.status.is_success(), "{} {}", self.status, String::from_utf8_lossy(&self.bytes));
        self.json()
    }

    /// The code of a problem that had to come.
    pub(crate) fn problem(&self) -> String {
        assert!(!self.status.is_success(), "{} {}", self.status, String::from_utf8_lossy(&self.bytes));
        assert_eq!(self.headers["content-type"], "application/problem+json");
        let body = self.json();
        assert_eq!(body["status"], self.status.as_u16());
        assert_eq!(body["type"], format!("/docs/errors/{}", body["number"]));
        body["code"].as_str().unwrap().to_owned()
    }
}

impl TestBank {
    pub(crate) fn new(branches: u16) -> Self {
        Self::with_limits(branches, Limits { request: Duration::from_secs(30), ..Limits::default() })
    }

    pub(crate) fn with_limits(branches: u16, limits: Limits) -> Self {
        Self::built(branches, limits, |_| None)
    }

    /// With an issuer, whose settings may name files in the bank's folder.
    pub(crate) fn with_oidc(branches: u16, oidc: impl FnOnce(&std::path::Path) -> Oidc) -> Self {
        let limits = Limits { request: Duration::from_secs(30), ..Limits::default() };
        Self::built(branches, limits, |folder| Some(oidc(folder)))
    }

    fn built(branches: u16, limits: Limits, oidc: impl FnOnce(&std::path::Path) -> Option<Oidc>) -> Self {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        // Under `over_the_bus.rs` this module is there once for each of its files.
        let place = module_path!().replace("::", "-");
        let folder = std::env::temp_dir().join(format!("skerry-{place}-{}-{count}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let key = GatewayKey::new(KEY);
        let threads: Vec<BranchThread> = (1..=branches).map(|number| branch(&folder, number, &key)).collect();
        let post = PostThread::start(PostOptions::local(key.clone())).unwrap();
        threads.iter().for_each(|thread| post.post().host(&thread.handle()));
        let hosted = |thread: &BranchThread| Arc::new(Hosted::new(thread.handle())) as Arc<dyn Seat>;
        let (seats, over_the_bus) = if is_remote() {
            let (seats, ends) = remote(&threads, &key);
            (seats, Some(ends))
        } else {
            (threads.iter().map(hosted).collect(), None)
        };
        let tokens = TokenStore::open(&folder.join("tokens.json")).unwrap();
        let tokens = Arc::new(match oidc(&folder) {
            Some(oidc) => tokens.with_oidc(oidc),
            None => tokens,
        });
        let new = NewToken { principal: "chief".into(), role: "operator".into(), ..NewToken::default() };
        let (operator, _) = tokens.create(&new, 1_000).unwrap();
        let secrets = Secrets { document: DocumentSecret::new([6; 32]), seed: Seed::new([9; 32]) };
        let directory = directory(&folder, branches);
        let bank = Bank::new(seats, key, limits.request);
        let gateway = Gateway::new(bank, directory.handle(), tokens, secrets, limits);
        // Whoever is in a runtime sees buses too.
        if tokio::runtime::Handle::try_current().is_ok() {
            gateway.begin_buses(post.post());
        }
        let front = app::front(&gateway);
        Self { gateway, front, operator, folder, branches: threads, post, directory, over_the_bus }
    }

    /// The branches' other end, where they are behind a bus.
    pub(crate) fn holder(&self) -> Option<&Holder> {
        self.over_the_bus.as_ref().map(|(_, holder)| holder)
    }

    /// A branch, where it works.
    pub(crate) fn hosted(&self, branch: u16) -> Arc<Hosted> {
        Arc::new(Hosted::new(self.branches[usize::from(branch) - 1].handle()))
    }

    /// What carries messages between the branches.
    pub(crate) fn post_office(&self) -> Post {
        self.post.post()
    }

    pub(crate) fn token(&self, new: &NewToken) -> String {
        self.gateway.tokens.create(new, 1_000).unwrap().0
    }

    pub(crate) fn role(&self, principal: &str, role: &str) -> String {
        self.token(&NewToken { principal: principal.into(), role: role.into(), ..NewToken::default() })
    }

    /// An operator who may see to one branch alone.
    pub(crate) fn operator_of(&self, branch: u16) -> String {
        let (principal, role) = ("one".into(), "operator".into());
        self.token(&NewToken { principal, role, branches: Some(vec![branch]), ..NewToken::default() })
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.front.clone().answer(request).await;
        let (head, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes().to_vec();
        Answer { status: head.status, headers: head.headers, bytes }
    }

    pub(crate) async fn call(
        &self,
        method: &str,
        path: &str,
        body: &Value,
        headers: &[(&str, &str)],
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        if !headers.iter().any(|(name, _)| *name == "authorization") {
            request = request.header("authorization", format!("Bearer {}", self.operator));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        self.send(request.body(body).unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, &Value::Null, &[]).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.call("POST", path, &body, &[]).await
    }

    /// As somebody else.
    pub(crate) async fn call_as(&self, token: &str, method: &str, path: &str, body: &Value) -> Answer {
        self.call(method, path, body, &[("authorization", &format!("Bearer {token}"))]).await
    }

    /// A customer in `branch` with an account in CNY: their numbers.
    pub(crate) async fn customer(&self, branch: u16) -> (String, String) {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let body = json!({
            "name": format!("Customer {number}"),
            "document": {"kind": "id_card", "number": format!("{number}")},
            "branch": branch,
        });
        let customer = self.post("/v1/customers", body).await.ok()["id"].as_str().unwrap().to_owned();
        let wish = json!({"product": "current", "currency": "CNY"});
        let account = self.post(&format!("/v1/customers/{customer}/accounts"), wish).await.ok();
        (customer, account["number"].as_str().unwrap().to_owned())
    }

    /// An account with money in it.
    pub(crate) async fn funded(&self, branch: u16, amount: &str) -> String {
        let (_, account) = self.customer(branch).await;
        self.pay("gl:1001", &account, amount).await.ok();
        account
    }

    pub(crate) async fn pay(&self, debit: &str, credit: &str, amount: &str) -> Answer {
        self.post("/v1/transfers", transfer(&id(), debit, credit, amount)).await
    }

    pub(crate) async fn balance(&self, account: &str) -> String {
        let view = self.get(&format!("/v1/accounts/{account}")).await.ok();
        view["balances"]["posted"]["amount"].as_str().unwrap().to_owned()
    }
}

impl Drop for TestBank {
    fn drop(&mut self) {
        for branch in self.branches.drain(..) {
            branch.close();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A fresh UUIDv7 of now.
pub(crate) fn id() -> String {
    let millis = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    let unique = u128::from(COUNT.fetch_add(1, Ordering::Relaxed));
    skerry_gateway::text::uuid((millis << 80) | (7 << 76) | (2 << 62) | unique)
}

pub(crate) fn transfer(id: &str, debit: &str, credit: &str, amount: &str) -> Value {
    json!({"id": id, "debit": debit, "credit": credit, "amount": {"amount": amount, "currency": "CNY"}})
}

/// A directory of branches that have no customers yet.
fn directory(folder: &std::path::Path, branches: u16) -> DirectoryThread {
    let storage = RealStorage::open(folder.join("directory")).unwrap();
    let embedded = Embedded::open(&storage, EmbeddedOptions::default()).unwrap();
    let directory = DirectoryThread::spawn(embedded).unwrap();
    let ask = |ask| directory.handle().ask_and_wait(ask).unwrap();
    let name = Name::new("local").unwrap();
    let place = Where::new("here").unwrap();
    ask(Question::PutStore(StoreRow { name: name.clone(), kind: name.clone(), place }));
    for number in 1..=branches {
        ask(Question::AddBranch(BranchRow::new(number, name.clone())));
    }
    let Told::Rebuilding { number, .. } = ask(Question::Rebuild(Rebuild::Begin)) else { panic!("it begins") };
    assert_eq!(ask(Question::Rebuild(Rebuild::End { number })), Told::Done);
    directory
}

/// A branch whose book nobody has opened yet.
pub(crate) fn unfounded(folder: &std::path::Path, number: u16, key: &GatewayKey) -> BranchThread {
    let storage = RealStorage::open(folder.join(format!("{number:04}"))).unwrap();
    let entropy = skerry_branch::keys::contract::numbers(77);
    let keys: Arc<dyn Keys> =
        Arc::new(SlotKeys::open(&storage.folder("keys").unwrap(), [5; 32], entropy).unwrap());
    let begun = Instant::now();
    let options = LocalOptions { segment_bytes: 4 << 20, ..LocalOptions::new(number) };
    let parts = Parts {
        store: LocalStore { storage: storage.folder("journal").unwrap(), options, cold: None },
        storage: storage.folder("derived").unwrap(),
        options: Options::new(number, "test bank", Seed::new([9; 32]), key.clone()),
        signer: Arc::new(Ed25519Signer::from_seed(&[4; 32])),
        keys,
        ticks: Box::new(move || u64::try_from(begun.elapsed().as_nanos()).unwrap()),
    };
    BranchThread::spawn_local(parts, Box::new(|bytes| bytes.fill(1))).unwrap()
}

/// How it is opened today.
pub(crate) fn opening() -> OpenBranch {
    let terms = Terms {
        institution: [1; 16],
        currencies: vec![Currency::CNY],
        offset_minutes: 0,
        cutoff_minutes: 0,
        capacity: 1_000,
    };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros();
    OpenBranch { terms, date: Date::business_day(u64::try_from(now).unwrap(), 0, 0) }
}

/// One whose book is open, which has not gone live.
pub(crate) fn branch(folder: &std::path::Path, number: u16, key: &GatewayKey) -> BranchThread {
    let thread = unfounded(folder, number, key);
    let (send, receive) = std::sync::mpsc::channel();
    let actor = Actor::bank(Cause::Founding);
    let wish = Wish {
        actor,
        scope: Scope::default(),
        deadline_us: 0,
        mac: key.authenticate(&actor, Scope::default(), 0),
        body: Ask::Command { command: Box::new(Command::OpenBranch(opening())), key: None },
        reply: Box::new(move |reply| drop(send.send(reply))),
    };
    thread.handle().submit(wish).unwrap();
    assert!(matches!(receive.recv().unwrap(), Reply::Command(Ok(_))));
    // Figures are renewed a few times a second; placing customers needs the capacity in them.
    let until = Instant::now() + Duration::from_secs(10);
    while thread.handle().figures().status.as_ref().is_none_or(|status| status.capacity == 0) {
        assert!(Instant::now() < until, "the branch tells its capacity");
        std::thread::yield_now();
    }
    thread
}
