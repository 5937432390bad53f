//! A server, or several that stand in for each other, and how to reach it: options, runtime, connecting.

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use tokio::runtime::{Handle, Runtime};
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Config};

use crate::error::LinkError;
use crate::link::{self, Link};
use crate::settings::{NAMES, Settings};
use crate::tls::{Tls, tls};

/// What an acknowledged commit survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// The loss of the server: any one of at least two standbys has it on its disk.
    #[default]
    Replicated,
    /// The power cut of the server, not its loss. To be said aloud.
    Single,
}

/// PEM files for TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The roots that the server's certificate must lead to.
    pub ca: PathBuf,
    /// Our own certificate and its key, where the server wants one.
    pub own: Option<(PathBuf, PathBuf)>,
}

/// How a server is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerOptions {
    /// What it is called in the configuration and in messages.
    pub name: String,
    /// `postgres://user@host:port,host:port/database`, without a password. The first host that takes writes is used.
    pub url: String,
    /// A file whose first line is the password.
    pub password_file: Option<PathBuf>,
    /// Needed beyond the loopback, unless `insecure`.
    pub tls: Option<TlsFiles>,
    /// Plain connections beyond the loopback. To be said aloud.
    pub insecure: bool,
    /// What an acknowledged commit survives.
    pub durability: Durability,
    /// How long a commit may take before nobody knows what became of it.
    pub patience: Duration,
    /// By how much the server's clock may differ from ours.
    pub clock_offset_max: Duration,
}

impl ServerOptions {
    /// The usual ones: replicated, plain on the loopback, five seconds for a commit.
    #[must_use]
    pub fn new(name: &str, url: &str) -> Self {
        Self {
            name: name.to_owned(),
            url: url.to_owned(),
            password_file: None,
            tls: None,
            insecure: false,
            durability: Durability::Replicated,
            patience: Duration::from_secs(5),
            clock_offset_max: Duration::from_millis(500),
        }
    }
}

/// A server to connect to. Clones share its threads; nothing is connected before somebody asks.
#[derive(Clone)]
pub struct Server {
    inner: Arc<Inner>,
}

struct Inner {
    options: ServerOptions,
    place: String,
    /// All but the host.
    config: Config,
    hosts: Vec<(Host, u16)>,
    /// The host that is asked first: the last one that was good.
    first: AtomicUsize,
    tls: Tls,
    runtime: Option<Runtime>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The last owner may be a thread that must not wait.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Server").field(&self.inner.options).finish()
    }
}

/// From asking a host to its taking the connection.
const CONNECT: Duration = Duration::from_secs(2);
/// The same with handshakes and checks.
const CONNECT_ALL: Duration = Duration::from_secs(4);

/// So long a server waits for the next statement of a transaction before it ends it. Shorter than a lease lasts beyond its renewal: the
/// directory's lock may be had by a process that sleeps, and the others must renew theirs.
const IDLE_IN_TRANSACTION: Duration = Duration::from_secs(1);

impl Server {
    /// Reads `options`; starts the threads that will speak to the server.
    ///
    /// # Errors
    ///
    /// [`LinkError::Configuration`]: an address that cannot be read, a password in it, a file that is of no use, a plain
    /// connection beyond the loopback that nobody has said aloud.
    pub fn new(options: ServerOptions) -> Result<Self, LinkError> {
        let place = format!("store {:?}", options.name);
        let wrong = |what: String| LinkError::Configuration { place: place.clone(), what };
        let (mut config, hosts) = read_url(&options).map_err(&wrong)?;
        // Who waits for a row that another owner's statement holds must not wait for ever; and a process that was stopped, or cut off,
        // in the middle of a transaction must not keep its rows from all others.
        let given = config.get_options().map(|given| format!("{given} ")).unwrap_or_default();
        let (lock, idle) = (options.patience.as_millis(), IDLE_IN_TRANSACTION.as_millis());
        config
            .options(format!("{given}-c lock_timeout={lock} -c idle_in_transaction_session_timeout={idle}"))
            .ssl_mode(if options.tls.is_some() { SslMode::Require } else { SslMode::Disable })
            .target_session_attrs(TargetSessionAttrs::ReadWrite)
            .application_name(format!("skerry {}", options.name))
            .connect_timeout(CONNECT)
            .tcp_user_timeout(options.patience)
            .keepalives_idle(Duration::from_secs(5))
            .keepalives_interval(Duration::from_secs(2))
            .keepalives_retries(3);
        let tls = tls(options.tls.as_ref()).map_err(&wrong)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("postgres")
            .enable_all()
            .build()
            .map_err(|error| wrong(format!("no threads to speak to it: {error}")))?;
        let (first, runtime) = (AtomicUsize::new(0), Some(runtime));
        Ok(Self { inner: Arc::new(Inner { options, place, config, hosts, first, tls, runtime }) })
    }

    /// What it is called in messages.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.inner.place
    }

    /// How it is reached.
    #[must_use]
    pub fn options(&self) -> &ServerOptions {
        &self.inner.options
    }

    pub(crate) fn handle(&self) -> Handle {
        self.inner.runtime.as_ref().expect("the runtime lives as long as the server").handle().clone()
    }

    pub(crate) fn tls(&self) -> Tls {
        self.inner.tls.clone()
    }

    /// Connects to the first host that takes writes, beginning with the one that was good last, and checks that it keeps what it
    /// acknowledges and agrees about the time. Waits on the caller's thread, for some seconds a host at most.
    ///
    /// # Errors
    ///
    /// [`LinkError`], with all that is wrong with the settings in one text; of several hosts, what the one said that came furthest.
    pub fn connect(&self) -> Result<Link, LinkError> {
        let first = self.first();
        let mut worst = None;
        for turn in 0..self.inner.hosts.len() {
            let host = (first + turn) % self.inner.hosts.len();
            match self.connect_to(host) {
                Ok(link) => {
                    self.inner.first.store(host, Ordering::Relaxed);
                    return Ok(link);
                }
                Err(error) if worst.is_none() || matches!(error, LinkError::Unsafe { .. }) => {
                    worst = Some(error)
                }
                Err(_) => (),
            }
        }
        Err(worst.expect("an address names a host"))
    }

    /// The host that is asked first.
    pub(crate) fn first(&self) -> usize {
        self.inner.first.load(Ordering::Relaxed)
    }

    /// `host` let us in and then was of no use: the next one is asked first. One that was a primary before another was promoted takes
    /// connections too, but none of its commits ever end.
    pub(crate) fn pass_over(&self, host: usize) {
        let next = (host + 1) % self.inner.hosts.len();
        // If somebody has found a better one meanwhile, that stands.
        let _changed = self.inner.first.compare_exchange(host, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn connect_to(&self, host: usize) -> Result<Link, LinkError> {
        let mut config = self.inner.config.clone();
        let (name, port) = &self.inner.hosts[host];
        match name {
            Host::Tcp(name) => config.host(name),
            Host::Unix(path) => config.host_path(path),
        };
        config.port(*port);
        if let Some(file) = &self.inner.options.password_file {
            config.password(self.password(file)?);
        }
        let (tls, place) = (self.tls(), self.place().to_owned());
        let connecting = async move {
            match tokio::time::timeout(CONNECT_ALL, config.connect(tls)).await {
                Ok(connected) => connected.map_err(|source| LinkError::Connect { place, source }),
                Err(_) => Err(LinkError::Late { action: "take a connection", place, patience: CONNECT_ALL }),
            }
        };
        let (client, connection) = link::wait(&self.handle(), connecting)?;
        let mut link = Link::new(self, client, connection, host);
        let settings = self.check(&link)?;
        link.found(settings);
        Ok(link)
    }

    fn password(&self, file: &PathBuf) -> Result<String, LinkError> {
        let text = std::fs::read_to_string(file).map_err(|error| LinkError::Configuration {
            place: self.place().to_owned(),
            what: format!("could not read the password file {}: {error}", file.display()),
        })?;
        Ok(text.lines().next().unwrap_or_default().to_owned())
    }

    fn check(&self, link: &Link) -> Result<Settings, LinkError> {
        let began = SystemTime::now();
        let (settings, theirs_us) = link.run("tell its settings", CONNECT_ALL, read_settings)?;
        let unsafe_for = |what| LinkError::Unsafe { place: self.place().to_owned(), what };
        settings.judge(self.inner.options.durability).map_err(unsafe_for)?;
        let took = began.elapsed().unwrap_or_default();
        let ours = began + took / 2;
        let ours_us = ours.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_micros();
        let apart_us = i128::from(theirs_us).abs_diff(i128::try_from(ours_us).unwrap_or(i128::MAX));
        let may_us = (self.inner.options.clock_offset_max + took / 2).as_micros();
        if apart_us > may_us {
            let (apart_ms, may_ms) = (apart_us / 1000, may_us / 1000);
            return Err(unsafe_for(format!(
                "its clock and ours are {apart_ms} ms apart, may be {may_ms} ms"
            )));
        }
        Ok(settings)
    }
}

async fn read_settings(client: Arc<Client>) -> Result<(Settings, i64), tokio_postgres::Error> {
    // The clock first: it is held against the time that this round takes.
    let now = "select pg_is_in_recovery(), (extract(epoch from clock_timestamp()) * 1000000)::bigint";
    let row = client.query_typed_one(now, &[]).await?;
    let (in_recovery, theirs_us) = (row.try_get(0)?, row.try_get(1)?);
    let mut settings = Settings { in_recovery, ..Settings::default() };
    let all = "select name, setting from pg_settings where name = any($1)";
    for row in client.query_typed(all, &[(&&NAMES[..], Type::TEXT_ARRAY)]).await? {
        let value: String = row.try_get(1)?;
        match row.try_get(0)? {
            "fsync" => settings.fsync = value,
            "full_page_writes" => settings.full_page_writes = value,
            "synchronous_commit" => settings.synchronous_commit = value,
            _ => settings.synchronous_standby_names = value,
        }
    }
    Ok((settings, theirs_us))
}

/// The address without its hosts, and these; without what must not be in it.
fn read_url(options: &ServerOptions) -> Result<(Config, Vec<(Host, u16)>), String> {
    let given = Config::from_str(&options.url).map_err(|error| crate::error::words(&error))?;
    if given.get_password().is_some() {
        return Err(
            "the address holds a password: put it into a file and name that (password_file)".to_owned()
        );
    }
    if given.get_ssl_mode() != SslMode::Prefer {
        return Err(
            "the address names an sslmode: with a root (ca) TLS is always verified in full".to_owned()
        );
    }
    if given.get_hosts().is_empty() || !given.get_hostaddrs().is_empty() {
        return Err(
            "the address names no host by name (or hosts by hostaddr, which is not supported)".to_owned()
        );
    }
    let Some(user) = given.get_user() else { return Err("the address names no user".to_owned()) };
    if options.tls.is_none() && !options.insecure {
        let far = |host: &&Host| matches!(host, Host::Tcp(name) if !is_loopback(name));
        if let Some(Host::Tcp(host)) = given.get_hosts().iter().find(far) {
            return Err(format!(
                "{host} is not on the loopback: name a root (ca) for TLS, or say insecure = true"
            ));
        }
    }
    let ports = given.get_ports();
    let port = |index: usize| ports.get(index).or(ports.first()).copied().unwrap_or(5432);
    let hosts =
        given.get_hosts().iter().enumerate().map(|(index, host)| (host.clone(), port(index))).collect();
    let mut config = Config::new();
    config.user(user);
    if let Some(database) = given.get_dbname() {
        config.dbname(database);
    }
    if let Some(more) = given.get_options() {
        config.options(more);
    }
    Ok((config, hosts))
}

fn is_loopback(name: &str) -> bool {
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(url: &str) -> String {
        match Server::new(ServerOptions::new("main", url)) {
            Err(error) => error.to_string(),
            Ok(_) => String::new(),
        }
    }

    #[test]
    fn what_must_not_be_in_an_address_is_refused_by_name() {
        for (url, part) in [
            ("postgres://u:secret@127.0.0.1/bank", "password_file"),
            ("postgres://u@10.0.0.1/bank", "10.0.0.1 is not on the loopback"),
            ("postgres://u@127.0.0.1,db.example/bank", "db.example is not on the loopback"),
            ("postgres://u@127.0.0.1/bank?sslmode=disable", "sslmode"),
            ("postgres://127.0.0.1/bank", "no user"),
            ("host", "store \"main\""),
        ] {
            let text = refused(url);
            assert!(text.contains(part) && !text.contains("secret"), "{url}: {text}");
        }
        assert_eq!(refused("postgres://u@127.0.0.1:5432,localhost:5433/bank"), "");
        assert_eq!(refused("host=/run/postgresql user=u dbname=bank"), "");
    }

    #[test]
    fn a_root_that_is_not_there_is_named() {
        let tls = Some(TlsFiles { ca: "/nowhere/ca.pem".into(), own: None });
        let options = ServerOptions { tls, ..ServerOptions::new("main", "postgres://u@db.example/bank") };
        let Err(error) = Server::new(options) else { panic!("it is not there") };
        assert!(error.to_string().contains("/nowhere/ca.pem"), "{error}");
    }
}
