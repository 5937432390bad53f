//! PostgreSQL servers for tests: real ones, on free ports, in temporary folders, ended with the test, also when it panics.
#![expect(dead_code, unreachable_pub, reason = "each test uses its part")]
#![expect(clippy::unwrap_used, reason = "a helper that fails, fails its test")]

pub mod cable;

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use skerry_journal::contract::{BRANCH, sample_batch};
use skerry_journal::{
    AppendFault, Appended, FaultStorage, Head, Journal, JournalReader, JournalStore, Opened, Position,
};
use skerry_postgres::{
    Durability, Pool, PostgresJournal, PostgresOptions, PostgresStore, Server, ServerOptions,
};

/// A store as the tests open it: mark and archive in memory that outlives it.
pub type Store = PostgresStore<FaultStorage>;
pub type OneJournal = PostgresJournal<FaultStorage>;

/// The user `nobody` of every Debian: a server refuses to run as root.
const NOBODY: u32 = 65_534;

/// The newest server that is installed, or the one that `SKERRY_POSTGRES_BIN` names.
fn binaries() -> PathBuf {
    if let Some(given) = std::env::var_os("SKERRY_POSTGRES_BIN") {
        return given.into();
    }
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<_> = versions.map(|version| version.path().join("bin")).collect();
    found.sort();
    found
        .pop()
        .expect("no PostgreSQL server: run 'scripts/postgres-server', or 'apt-get install -y postgresql'")
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

/// A command of PostgreSQL's as a user it takes.
fn command(name: &str) -> Command {
    let program = binaries().join(name);
    let mut command = if is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    command.current_dir("/").stdin(Stdio::null());
    command
}

fn run(command: &mut Command) -> String {
    let output = command.output().expect("the command starts");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {told}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A folder that goes with the test.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("skerry-postgres-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        if is_root() {
            std::os::unix::fs::chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _left = std::fs::remove_dir_all(&self.0);
    }
}

/// Gives a private file to the user that servers run as.
pub fn give(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    if is_root() {
        std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
}

/// One server.
pub struct Node {
    pub name: String,
    pub port: u16,
    data: PathBuf,
    child: Option<Child>,
}

/// Asks until there is an answer.
pub fn until_some<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "it never came about: {what}");
        std::thread::sleep(Duration::from_millis(5)); // between two looks, not to win a race
    }
}

/// Looks until it is so.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    until_some(what, || is_so().then_some(()));
}

impl Node {
    fn new(folder: &Path, name: &str) -> Self {
        Self { name: name.to_owned(), port: free_port(), data: folder.join(name), child: None }
    }

    /// Starts it and waits until it answers.
    pub fn start(&mut self) {
        let end = Instant::now() + Duration::from_secs(60);
        while !self.try_start(end) {
            // The processes of a killed server take a moment to see that it is gone.
            assert!(Instant::now() < end, "{} does not start: {}", self.name, self.log());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn try_start(&mut self, end: Instant) -> bool {
        let log = std::fs::File::create(self.data.with_extension("log")).unwrap();
        let again = log.try_clone().unwrap();
        let mut command = command("postgres");
        command.arg("-D").arg(&self.data).args(["-p", &self.port.to_string()]).stdout(log).stderr(again);
        let mut child = command.spawn().expect("the server starts");
        loop {
            if child.try_wait().unwrap().is_some() {
                return false;
            }
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() && self.ask("select 1").is_ok() {
                self.child = Some(child);
                return true;
            }
            assert!(Instant::now() < end, "{} does not answer: {}", self.name, self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.data.with_extension("log")).unwrap_or_default()
    }

    /// kill -9: its other processes see it and end too.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ended = child.kill();
            let _status = child.wait();
        }
    }

    /// Ends it in order, at once.
    pub fn stop(&mut self) {
        run(command("pg_ctl").arg("-D").arg(&self.data).args(["-m", "fast", "-w", "stop"]));
        self.kill();
    }

    /// Follows from now on the server at `port`.
    pub fn follow(&self, port: u16) {
        let line = format!(
            "primary_conninfo = 'host=127.0.0.1 port={port} user=skerry application_name={}'\n",
            self.name
        );
        self.configure(&line);
    }

    /// Adds to its configuration; what comes last counts.
    pub fn configure(&self, lines: &str) {
        use std::io::Write;
        let path = self.data.join("postgresql.auto.conf");
        let mut file = std::fs::OpenOptions::new().append(true).open(path).unwrap();
        file.write_all(lines.as_bytes()).unwrap();
        if self.child.is_some() {
            self.sql("select pg_reload_conf()");
        }
    }

    /// Makes a standby a server of its own.
    pub fn promote(&self) {
        run(command("pg_ctl").arg("-D").arg(&self.data).args(["-w", "promote"]));
    }

    fn ask(&self, sql: &str) -> Result<String, String> {
        let mut command = command("psql");
        command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", "skerry"]);
        command.args(["-p", &self.port.to_string(), "-d", "postgres", "-c", sql]);
        let output = command.output().expect("psql starts");
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
        }
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    pub fn sql(&self, sql: &str) -> String {
        self.ask(sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// Waits until `sql` answers `wanted`.
    pub fn until(&self, sql: &str, wanted: &str) {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let answer = self.ask(sql);
            if answer.as_deref() == Ok(wanted) {
                return;
            }
            assert!(Instant::now() < end, "{sql} answers {answer:?}, not {wanted}: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A primary, and the standbys that follow it.
pub struct Group {
    pub nodes: Vec<Node>,
    pub folder: Folder,
}

impl Group {
    /// One server, without standbys.
    pub fn single() -> Self {
        Self::with("")
    }

    /// One server with more configuration.
    pub fn with(lines: &str) -> Self {
        let folder = Folder::new();
        let mut node = Node::new(&folder.0, "n0");
        run(command("initdb").arg("-D").arg(&node.data).args([
            "-U",
            "skerry",
            "--auth=trust",
            "--no-locale",
            "-E",
            "UTF8",
            "--no-sync",
        ]));
        let conf = format!(
            "listen_addresses = '127.0.0.1'\nunix_socket_directories = ''\nshared_buffers = 32MB\n\
             max_connections = 50\nwal_keep_size = 256MB\nwal_receiver_timeout = 5s\nwal_sender_timeout = 5s\n\
             wal_retrieve_retry_interval = 100ms\n{lines}\n"
        );
        std::fs::write(node.data.join("postgresql.auto.conf"), conf).unwrap();
        node.start();
        Self { nodes: vec![node], folder }
    }

    /// A primary and two standbys, any one of which confirms.
    pub fn replicated() -> Self {
        let mut group = Self::single();
        for name in ["n1", "n2"] {
            let mut node = Node::new(&group.folder.0, name);
            let primary = group.primary();
            let from = format!("host=127.0.0.1 port={} user=skerry application_name={name}", primary.port);
            run(command("pg_basebackup").arg("-D").arg(&node.data).args([
                "-d",
                &from,
                "-R",
                "-X",
                "stream",
                "-c",
                "fast",
                "--no-sync",
            ]));
            node.start();
            group.nodes.push(node);
        }
        for node in &group.nodes {
            node.configure("synchronous_standby_names = 'ANY 1 (n0, n1, n2)'\n");
        }
        let all =
            "select count(*) from pg_stat_replication where sync_state = 'quorum' and state = 'streaming'";
        group.primary().until(all, "2");
        group
    }

    pub fn primary(&self) -> &Node {
        &self.nodes[0]
    }

    pub fn primary_mut(&mut self) -> &mut Node {
        &mut self.nodes[0]
    }

    /// The standby that has more, by number, and the other one.
    pub fn by_reach(&self) -> (usize, usize) {
        let reach = |node: usize| -> u64 {
            self.nodes[node].sql("select pg_last_wal_receive_lsn() - '0/0'").parse().unwrap()
        };
        if reach(1) >= reach(2) { (1, 2) } else { (2, 1) }
    }

    /// All its servers by their ports, the first that takes writes being meant.
    pub fn url(&self, database: &str) -> String {
        let hosts: Vec<_> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
        format!("postgres://skerry@{}/{database}", hosts.join(","))
    }

    pub fn options(&self, durability: Durability) -> ServerOptions {
        ServerOptions {
            durability,
            patience: Duration::from_secs(4),
            ..ServerOptions::new("main", &self.url("postgres"))
        }
    }

    /// A store of its own in a database that has just been made.
    pub fn fresh(&self, durability: Durability) -> Store {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("bank{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.primary().sql(&format!("create database {name}"));
        store(ServerOptions { url: self.url(&name), ..self.options(durability) })
    }
}

/// A store over `options`, with small spans.
pub fn store(options: ServerOptions) -> Store {
    let server = Server::new(options).expect("good options");
    let options =
        PostgresOptions { span_records: 200, mark_every: 4, ..PostgresOptions::new(BRANCH, "bank of tests") };
    PostgresStore::new(Pool::new(server, 4), options, Some(FaultStorage::new(1)), Some(FaultStorage::new(2)))
}

pub fn open(store: &Store) -> OneJournal {
    let Opened { journal, .. } = store.open().unwrap_or_else(|error| panic!("{}", chain(&error)));
    journal
}

/// Opens as soon as it can be done.
pub fn open_again(store: &Store) -> Opened<OneJournal> {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        match store.open() {
            Ok(opened) => return opened,
            Err(error @ skerry_journal::OpenError::Away { .. }) => {
                assert!(Instant::now() < end, "{}", chain(&error));
                std::thread::sleep(Duration::from_millis(100));
            }
            Err(error) => panic!("{}", chain(&error)),
        }
    }
}

pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Hands on one batch more, if there is room.
pub fn offer(journal: &mut OneJournal, records: u32) -> bool {
    let head = journal.taken();
    let batch = sample_batch(BRANCH, journal.epoch(), &head, records, head.batch);
    journal.append(batch).is_ok()
}

/// Lets time pass until the next thing is told.
pub fn next(journal: &mut OneJournal) -> Result<Appended, AppendFault> {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(news) = journal.poll() {
            return news;
        }
        assert!(Instant::now() < end, "nothing is told");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Appends one batch after another and keeps the journal full until a fault; `at` is called with the number told so far.
/// Returns the end of what was told and of what was taken.
pub fn load(journal: &mut OneJournal, mut at: impl FnMut(u64)) -> (Head, Head, AppendFault) {
    let (mut told, mut count) = (journal.head(), 0);
    loop {
        while offer(journal, 50) {}
        match next(journal) {
            Ok(appended) => {
                told = appended.head;
                count += 1;
                at(count);
            }
            Err(fault) => return (told, journal.taken(), fault),
        }
    }
}

/// All that was told is there, nothing is there that was not taken, and all of it verifies.
pub fn holds(opened: &Opened<OneJournal>, told: Head, taken: Head) {
    let head = opened.recovery.head;
    assert!(head.position >= told.position, "{head:?} is before {told:?}, which was told");
    assert!(head.position <= taken.position, "{head:?} is behind {taken:?}, which was taken");
    let verified = skerry_journal::verify(&opened.journal.reader(), &mut |_| {}).expect("it verifies");
    assert_eq!((verified.head, verified.start), (head, Position(0)), "each batch once, in order");
    if told.batch > 0 {
        let last = opened.journal.reader().read(Position(told.position.0 - 1), 1).expect("it is there");
        assert_eq!(last[0].hash(), told.hash, "what was told, not something else");
    }
}
