//! NATS servers for tests: real ones, on free ports, in temporary folders, ended with the test, also when it panics.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use skerry_bus::contract::Rig;
use skerry_bus::{Connect, Limits, Moment, Name, ThreadWait, Wake};
use skerry_nats::{NatsBus, NatsConnector, NatsOptions, NatsTls};

/// The server: where `SKERRY_NATS_SERVER` says, where scripts/nats-server puts it, or where Debian does.
fn binary() -> PathBuf {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/bin/nats-server");
    let given = std::env::var_os("SKERRY_NATS_SERVER").map(PathBuf::from);
    let search = std::env::var_os("PATH").unwrap_or_default();
    let installed = std::env::split_paths(&search).map(|folder| folder.join("nats-server"));
    let debian = PathBuf::from("/usr/sbin/nats-server");
    let found = given.into_iter().chain([tools]).chain(installed).chain([debian]).find(|path| path.exists());
    found.expect("no nats-server: run 'scripts/nats-server', or 'apt-get install -y nats-server'")
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("it is bound").port()
}

/// One server of a cluster of one or more.
pub(crate) struct Server {
    config: PathBuf,
    pub(crate) port: u16,
    /// Where it says how it is.
    health: u16,
    child: Option<Child>,
}

impl Server {
    pub(crate) fn start(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(self.config.with_extension("log"));
        let mut command = Command::new(binary());
        command
            .arg("-c")
            .arg(&self.config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.expect("a log"));
        self.child = Some(command.spawn().expect("the server starts"));
        let end = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < end, "the server does not listen: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.config.with_extension("log")).unwrap_or_default()
    }

    /// Whether it has all that it must keep, by its own word: <https://docs.nats.io/running-a-nats-service/nats_admin/monitoring>.
    fn is_healthy(&self) -> bool {
        let mut said = String::new();
        let asked = TcpStream::connect(("127.0.0.1", self.health)).and_then(|mut stream| {
            stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n")?;
            stream.read_to_string(&mut said)
        });
        asked.is_ok() && said.starts_with("HTTP/1.0 200")
    }

    /// Ends it as a power cut would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ended = child.kill();
            let _status = child.wait();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Servers that know each other, and their folder.
pub(crate) struct Servers {
    pub(crate) all: Vec<Server>,
    pub(crate) folder: PathBuf,
    tls: Option<NatsTls>,
}

impl Servers {
    /// `count` servers; `extra` goes into each configuration.
    pub(crate) fn new(count: usize, extra: &str, tls: Option<NatsTls>) -> Self {
        Self::at("127.0.0.1", count, extra, tls)
    }

    /// The same, listening at `host`; `0.0.0.0` is every address of this machine.
    pub(crate) fn at(host: &str, count: usize, extra: &str, tls: Option<NatsTls>) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("skerry-nats-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a temporary folder");
        let routes: Vec<_> = (0..count).map(|_| free_port()).collect();
        let all = routes.iter().enumerate().map(|(index, route)| {
            let (port, health) = (free_port(), free_port());
            let store = folder.join(format!("store-{index}"));
            let mut config = format!(
                "listen: {host}:{port}\nhttp: 127.0.0.1:{health}\nserver_name: n{index}\n\
                 jetstream {{ store_dir: {store:?}, max_mem: 64M, max_file: 100G, sync_interval: always }}\n{extra}\n"
            );
            if count > 1 {
                let others: Vec<_> = routes.iter().map(|port| format!("nats://127.0.0.1:{port}")).collect();
                config += &format!(
                    "cluster {{ name: test, listen: 127.0.0.1:{route}, routes: [{}] }}\n",
                    others.join(", ")
                );
            }
            let path = folder.join(format!("n{index}.conf"));
            std::fs::write(&path, config).expect("a configuration");
            let mut server = Server { config: path, port, health, child: None };
            server.start();
            server
        });
        let servers = Self { all: all.collect(), folder, tls };
        servers.wait_until_healthy();
        servers
    }

    /// Waits until all are well again, as an operator does before the next one is stopped: a cluster of three stands the loss
    /// of one that has fallen behind no better than the loss of two.
    pub(crate) fn wait_until_healthy(&self) {
        let end = Instant::now() + Duration::from_secs(90);
        while let Some(sick) = self.all.iter().find(|server| !server.is_healthy()) {
            assert!(Instant::now() < end, "not healthy within 90 s: {}", sick.config.display());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn connector(&self) -> NatsConnector {
        let scheme = if self.tls.is_some() { "tls" } else { "nats" };
        NatsConnector::new(NatsOptions {
            servers: self.all.iter().map(|server| format!("{scheme}://127.0.0.1:{}", server.port)).collect(),
            prefix: Name::new("bank").expect("a name"),
            replicas: self.all.len(),
            tls: self.tls.clone(),
        })
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for server in &self.all {
                let log = server.log();
                let last: Vec<&str> = log.lines().rev().take(40).collect();
                eprintln!("the end of {}:", server.config.display());
                last.iter().rev().for_each(|line| eprintln!("  {line}"));
            }
        }
        self.all.clear();
        let _left = std::fs::remove_dir_all(&self.folder);
    }
}

/// Real time, and a sleep that endpoints end.
pub(crate) struct Real {
    pub(crate) servers: Servers,
    began: Instant,
    wait: ThreadWait,
}

impl Real {
    pub(crate) fn new(servers: Servers) -> Self {
        Self { servers, began: Instant::now(), wait: ThreadWait::default() }
    }
}

impl Rig for Real {
    type Bus = NatsBus;

    fn connect(&mut self, name: Name, limits: Limits) -> NatsBus {
        self.servers.connector().connect(name, limits).expect("the server lets us in")
    }

    fn now(&mut self) -> Moment {
        Moment(u64::try_from(self.began.elapsed().as_micros()).expect("a short test"))
    }

    fn idle(&mut self) {
        self.wait.sleep(Duration::from_millis(5));
    }

    fn wake(&self) -> Option<Wake> {
        Some(self.wait.wake())
    }
}
