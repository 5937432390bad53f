//! A branch behind a real NATS server: asked, moved, and the server gone for a while.
#![expect(clippy::unwrap_used, reason = "a helper that fails, fails its test")]

mod common;

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{BRANCH, Folder, Payers, ask, booked, bus, key, moved, name, open, transfer, wait_until};
use skerry_branch::api::{Asked, Body, Reply};
use skerry_nats::{NatsConnector, NatsOptions};
use skerry_node::remote::{Holder, HolderOptions, RemoteOptions, RemoteSeats};
use skerry_node::{Hosted, Seat as _};

/// The server: where `SKERRY_NATS_SERVER` says, where scripts/nats-server puts it, or where Debian does.
fn binary() -> PathBuf {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/bin/nats-server");
    let given = std::env::var_os("SKERRY_NATS_SERVER").map(PathBuf::from);
    let debian = PathBuf::from("/usr/sbin/nats-server");
    let found = given.into_iter().chain([tools, debian]).find(|path| path.exists());
    found.expect("no nats-server: run 'scripts/nats-server', or 'apt-get install -y nats-server'")
}

struct Server {
    config: PathBuf,
    port: u16,
    child: Child,
}

impl Server {
    /// With room for the largest request, as docs/configuration.md says.
    fn start(folder: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let config = folder.join("nats.conf");
        std::fs::write(&config, format!("listen: 127.0.0.1:{port}\nmax_payload: 8MB\n")).unwrap();
        let child = spawn(&config, port);
        Self { config, port, child }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn again(&mut self) {
        self.child = spawn(&self.config, self.port);
    }

    fn connector(&self) -> NatsConnector {
        NatsConnector::new(NatsOptions {
            servers: vec![format!("nats://127.0.0.1:{}", self.port)],
            prefix: name("bank"),
            replicas: 1,
            tls: None,
        })
    }
}

fn spawn(config: &Path, port: u16) -> Child {
    let mut command = Command::new(binary());
    command.arg("-c").arg(config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn().expect("the server starts");
    let end = Instant::now() + Duration::from_secs(30);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < end, "the server does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
    child
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

#[test]
fn payments_go_on_while_the_branch_moves_and_the_server_is_lost() {
    let folder = Folder::new();
    let mut server = Server::start(&folder.0);
    let connector = server.connector();
    let seats = RemoteSeats::start(bus(&connector, "gateway"), RemoteOptions::new(key())).unwrap();
    let holders =
        ["one", "two"].map(|node| Holder::start(bus(&connector, node), HolderOptions::new(key())).unwrap());
    let branch = open(&folder.0);
    holders[0].add(Arc::new(Hosted::new(branch.handle())));
    let seat = seats.seat(BRANCH);
    wait_until("it is heard of", || seat.health().is_open());

    let payers = Payers::begin(&seats, 3);
    let branch = moved(&folder.0, branch, &holders, &seat, 2);
    server.kill();
    wait_until("silence is noticed", || seat.health().state == "away");
    server.again();
    wait_until("it is heard of again", || seat.health().is_open());
    let before = seat.durable();
    wait_until("payments go on", || seat.durable() > before + 50);
    let mut paid = payers.end();

    // As many transfers as a batch holds, with the longest references: beyond NATS' usual message of 1 MiB.
    let long = || Asked { transfer: transfer(), reference: "x".repeat(140).into(), ..Asked::default() };
    let list: Vec<Asked> = (0..8_000).map(|_| long()).collect();
    let Some(Reply::Transfers(outcomes)) = ask(&seat, Body::Transfers(list)) else {
        panic!("it is answered")
    };
    paid += outcomes.iter().map(|outcome| u128::from(outcome.is_ok())).sum::<u128>();
    assert_eq!(outcomes.len(), 8_000);
    assert_eq!(booked(&seat), paid);
    branch.close();
}
