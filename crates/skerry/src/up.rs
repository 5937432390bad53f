//! `skerry up`: opens the data folder and its branches, founds what is new, serves HTTP until told to stop, drains.

mod descriptors;
mod detach;
mod notify;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use skerry_book::command::{Command, OpenBranch};
use skerry_book::event::Terms;
use skerry_book::{Actor, Cause, Seed};
use skerry_branch::api::{Body, GatewayKey, Reply, Request, Scope};
use skerry_branch::channels::exchange::Exchange;
use skerry_branch::keys::{Keys, SlotKeys};
use skerry_branch::{BranchHandle, BranchThread, Condition, Found, Options, Parts};
use skerry_directory::{DirectoryThread, Embedded, EmbeddedOptions, Recovery};
use skerry_gateway::bank::Bank as Seats;
use skerry_gateway::config::{GatewayConfig, Limits, TlsConfig};
use skerry_gateway::gateway::{Gateway, Secrets, Shared};
use skerry_gateway::hosted::Hosted;
use skerry_gateway::oidc::Oidc;
use skerry_gateway::residence;
use skerry_gateway::sealing::DocumentSecret;
use skerry_gateway::seat::{Before, Seat};
use skerry_gateway::server::Listening;
use skerry_gateway::tokens::{NewToken, TokenStore};
use skerry_journal::{JournalStore, RealStorage};
use skerry_money::{Currency, Date};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::cli::{Local, UpArgs};
use crate::config::{Config, Overrides};
use crate::erasures::Listed;
use crate::folder::{self, Folder};
use crate::stores::{self, Journal, Stores};
use crate::traces::{self, Outlet};

/// `skerry up`
///
/// # Errors
///
/// The folder, a branch's files, the address: whatever keeps the bank from serving. A sick branch does not.
pub(crate) fn run(args: &UpArgs) -> anyhow::Result<()> {
    if args.detach {
        return detach::run(args);
    }
    let config = Config::of(&args.settings)?;
    log(&config)?;
    let mut bank = Bank::start(config)?;
    if args.sample > 0 && bank.fresh {
        detach::sample(bank.server(), &bank.folder.root().join(folder::TOKEN_FILE), args.sample)?;
    }
    tracing::info!(server = bank.server(), "the bank is open");
    notify::ready(bank.server());
    bank.runtime.block_on(bank.signals.told_to_stop());
    tracing::info!("stopping: what runs is finished, what waits is made durable");
    notify::stopping();
    bank.stop()
}

/// `skerry down`
///
/// # Errors
///
/// If there is no bank to stop, or it does not end.
pub(crate) fn stop(local: &Local) -> anyhow::Result<()> {
    let overrides = Overrides { data: local.data.clone(), ..Overrides::default() };
    let config = Config::load(local.config.as_deref(), overrides)?;
    detach::stop(&config.storage.data)
}

/// Orders to stop. They are caught before the bank says that it is there: whoever has found it may stop it at once.
struct Signals {
    terminated: Signal,
    interrupted: Signal,
}

impl Signals {
    fn catch() -> anyhow::Result<Self> {
        let terminated = signal(SignalKind::terminate()).context("could not wait for SIGTERM")?;
        let interrupted = signal(SignalKind::interrupt()).context("could not wait for SIGINT")?;
        Ok(Self { terminated, interrupted })
    }

    async fn told_to_stop(&mut self) {
        tokio::select! {
            _ = self.terminated.recv() => (),
            _ = self.interrupted.recv() => (),
        }
    }
}

fn log(config: &Config) -> anyhow::Result<()> {
    let filter = config.log_filter()?;
    // In a file colours are noise.
    let colours = std::io::stderr().is_terminal();
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr);
    let done = if config.log.format == "json" {
        builder.json().try_init()
    } else {
        builder.with_target(false).try_init()
    };
    done.map_err(|error| anyhow::anyhow!("could not begin to log: {error}"))
}

/// A bank at work in this process.
pub(crate) struct Bank {
    folder: Folder,
    server: String,
    /// Whether this start founded it.
    pub(crate) fresh: bool,
    branches: Vec<BranchThread>,
    /// Hands messages between them.
    _exchange: Exchange,
    /// Who lives where.
    directory: DirectoryThread,
    gateway: Shared,
    runtime: tokio::runtime::Runtime,
    signals: Signals,
    stop: oneshot::Sender<()>,
    served: tokio::task::JoinHandle<()>,
    traces: Option<Outlet>,
}

impl Bank {
    /// Opens the bank that `config` names and begins to serve.
    ///
    /// # Errors
    ///
    /// As [`run`].
    pub(crate) fn start(config: Config) -> anyhow::Result<Self> {
        let folder = Folder::open(&config)?;
        descriptors::raise(config.server.connections_max);
        let key = GatewayKey::new(folder.secrets.gateway);
        let mut branches = Vec::new();
        let mut seats: Vec<Arc<dyn Seat>> = Vec::new();
        let stores = Stores::new(&config, &folder)?;
        for number in 1..=folder.identity.branches {
            let started = open_branch(&config, &folder, &stores, number, &key);
            let (branch, store) = started.with_context(|| format!("could not start branch {number}"))?;
            let seat = Hosted::new(branch.handle()).signed_with(Arc::clone(&folder.signing.history));
            seats.push(Arc::new(seat.kept_in(store)));
            branches.push(branch);
        }
        let exchange = Exchange::default();
        for branch in &branches {
            found_if_new(&config, &folder, &branch.handle(), &key)?;
            exchange.add(&branch.handle());
        }
        let tokens = Arc::new(tokens(&config, &folder)?);
        let fresh = first_token(&folder, &tokens)?;
        let limits = limits(&config);
        let secrets = Secrets {
            document: DocumentSecret::new(folder.secrets.institution),
            seed: Seed::new(folder.secrets.institution),
        };
        let directory = match stores.directory(folder.fresh)? {
            Some(directory) => directory,
            None => directory_in(&folder)?,
        };
        let seats = Seats::new(seats, key, limits.request);
        let gateway = Gateway::new(seats, directory.handle(), tokens, secrets, limits);
        let watched = Arc::clone(&gateway.tokens);
        let traces = traces::open(&config, &gateway.meters)?;
        let front = skerry_gateway::app::traced_front(&gateway, traces.as_ref().map(Outlet::sink));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("gateway")
            .enable_all()
            .build()
            .context("could not start the runtime")?;
        let signals = {
            let _within = runtime.enter();
            Signals::catch()?
        };
        settle_in(&runtime, &gateway, stores::shown(&config, &folder));
        let listening = runtime.block_on(Listening::bind(&gateway_config(&config, limits)))?;
        let scheme = if config.server.tls_certificate.is_some() { "https" } else { "http" };
        let server = format!("{scheme}://{}", listening.address());
        runtime.spawn(watched.watch());
        {
            let _within = runtime.enter();
            gateway.begin_webhooks(config.webhooks.settings(config.server.insecure))?;
            config.outlet.as_ref().map_or(Ok(()), |outlet| outlet.start(&gateway))?;
        }
        let (stop, stopped) = oneshot::channel();
        let served = runtime.spawn(listening.serve(front, async {
            // A dropped sender stops the bank too.
            let _told = stopped.await;
        }));
        folder.announce(&server)?;
        Ok(Self {
            folder,
            server,
            fresh,
            branches,
            _exchange: exchange,
            directory,
            gateway,
            runtime,
            signals,
            stop,
            served,
            traces,
        })
    }

    /// Its address.
    pub(crate) fn server(&self) -> &str {
        &self.server
    }

    /// The branches that do not serve, each with its cause.
    pub(crate) fn sick(&self) -> Vec<String> {
        let told = self.branches.iter().filter_map(|branch| match branch.handle().condition() {
            Condition::Open => None,
            other => Some(format!("branch {}: {other:?}", branch.handle().number())),
        });
        told.collect()
    }

    /// Takes nothing new, finishes what runs, makes it durable and closes.
    ///
    /// # Errors
    ///
    /// If the server's task died.
    pub(crate) fn stop(self) -> anyhow::Result<()> {
        // The receiver is gone only if the server has ended by itself.
        let _ended = self.stop.send(());
        self.runtime.block_on(self.served).context("the server died")?;
        self.runtime.block_on(self.gateway.end_events());
        self.runtime.shutdown_timeout(Duration::from_secs(5));
        for branch in self.branches {
            branch.close();
        }
        drop(self.directory);
        // Last, when all is durable and nobody waits for it.
        if let Some(traces) = self.traces {
            traces.close();
        }
        self.folder.retract();
        Ok(())
    }
}

/// The directory in the data folder, on a thread of its own.
fn directory_in(folder: &Folder) -> anyhow::Result<DirectoryThread> {
    let storage = RealStorage::open(folder.root().join(folder::DIRECTORY))?;
    let embedded = Embedded::open(&storage, EmbeddedOptions::default())?;
    match embedded.recovery() {
        Recovery::Whole => {}
        Recovery::Fresh => tracing::info!("the directory is new: it takes its customers from the branches"),
        Recovery::ThrownAway(why) => tracing::warn!(why, "the directory was damaged and is made again"),
    }
    DirectoryThread::spawn(embedded).context("could not start the directory's thread")
}

/// How long to wait before a rebuild that failed is tried again.
const REBUILD_AGAIN: Duration = Duration::from_secs(2);
/// How long the start waits for the directory.
const USUALLY: Duration = Duration::from_secs(2);

/// Brings the directory in line with the branches. Waits a moment for that, as it is usually at hand; a branch that is sick, or
/// claims that must run out first, are waited for in the background.
fn settle_in(runtime: &tokio::runtime::Runtime, gateway: &Shared, stores: Vec<residence::Store>) {
    let gateway = Arc::clone(gateway);
    let settling = runtime.spawn(async move {
        while !gateway.stopping.load(Ordering::Relaxed) && !is_settled(&gateway, &stores).await {
            tokio::time::sleep(REBUILD_AGAIN).await;
        }
    });
    // Newcomers are told that it is not ready yet.
    let _not_yet = runtime.block_on(async { tokio::time::timeout(USUALLY, settling).await });
}

async fn is_settled(gateway: &Shared, stores: &[residence::Store]) -> bool {
    match residence::prepare(gateway, stores).await {
        Ok(Some(rebuilt)) => {
            tracing::info!(customers = rebuilt.customers, "the directory took its customers in");
            true
        }
        Ok(None) => true,
        Err(problem) => {
            let cause = problem.code();
            tracing::warn!(cause, "no customers can be opened until the directory has heard every branch");
            false
        }
    }
}

/// What a branch of this folder is made of, with its journal in `store`.
fn parts<J>(
    config: &Config,
    folder: &Folder,
    number: u16,
    key: &GatewayKey,
    store: J,
) -> anyhow::Result<Parts<J, RealStorage>> {
    let derived = RealStorage::open(folder.branch(number).join("derived"))?;
    let keys = RealStorage::open(folder.root().join("keys").join(format!("{number:04}")))?;
    let keys = SlotKeys::open(&keys, folder.secrets.master, Box::new(fill))?;
    let keys: Arc<dyn Keys> = match &config.storage.erasures {
        Some(list) => {
            let bank = crate::erasures::bank_name(&folder.signing.history);
            Arc::new(Listed::new(keys, list, &bank, number)?)
        }
        None => Arc::new(keys),
    };
    let options = branch_options(config, folder, number, key)?;
    let began = Instant::now();
    Ok(Parts {
        store,
        storage: derived,
        options,
        signer: Arc::clone(&folder.signing.signer),
        keys,
        ticks: Box::new(move || u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX)),
    })
}

fn branch_options(
    config: &Config,
    folder: &Folder,
    number: u16,
    key: &GatewayKey,
) -> anyhow::Result<Options> {
    let mut options = Options::new(
        number,
        &folder.identity.institution,
        Seed::new(folder.secrets.institution),
        key.clone(),
    );
    options.limits.requests = usize::try_from(config.branch.queue_max).unwrap_or(usize::MAX);
    options.limits.in_flight = usize::try_from(config.quota.in_flight).unwrap_or(usize::MAX);
    options.limits.records_per_second = u64::from(config.quota.per_second);
    options.checkpoint_us = u64::from(config.branch.checkpoint_seconds) * 1_000_000;
    options.snapshot_records = config.branch.snapshot_records;
    options.evidence = folder.identity.evidence()?;
    Ok(options)
}

/// Random bytes of the operating system. Without them no key is safe, so their absence ends the process.
fn fill(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the operating system gives random bytes");
}

/// A journal somewhere, with the branch's threads on it; and the store's name, if it is not in local files.
fn open_branch(
    config: &Config,
    folder: &Folder,
    stores: &Stores,
    number: u16,
    key: &GatewayKey,
) -> anyhow::Result<(BranchThread, Option<String>)> {
    let store = stores.of(folder, number)?;
    // Founding waits for nobody: a branch that has never been open must open now.
    let never_open = store.is_some() && !folder.branch(number).join("mark/MARK").exists();
    let branch = match stores.journal(config, folder, number, store.as_deref())? {
        Journal::Local(journal) => spawn(parts(config, folder, number, key, journal)?)?,
        #[cfg(feature = "cluster")]
        Journal::Postgres(journal) => spawn(parts(config, folder, number, key, journal)?)?,
    };
    if let Condition::Sick(cause) = branch.handle().condition() {
        // The other branches go on; this one says why it is sick, and can be opened again.
        tracing::error!(branch = number, cause, "the branch did not open");
        if never_open {
            bail!("the new branch {number} cannot be founded: {cause}");
        }
    }
    Ok((branch, store))
}

fn spawn<J: JournalStore + 'static>(parts: Parts<J, RealStorage>) -> anyhow::Result<BranchThread> {
    Ok(BranchThread::spawn(parts, Box::new(|bytes: &mut [u8; 32]| fill(bytes)))?)
}

fn found_if_new(
    config: &Config,
    folder: &Folder,
    handle: &BranchHandle,
    key: &GatewayKey,
) -> anyhow::Result<()> {
    let is_new = handle.figures().status.as_ref().is_some_and(|status| status.first_day.is_none());
    if is_new && handle.condition() == Condition::Open { found(config, folder, handle, key) } else { Ok(()) }
}

/// Opens a new branch's book: terms, chart, heads, first business day.
fn found(config: &Config, folder: &Folder, handle: &BranchHandle, key: &GatewayKey) -> anyhow::Result<()> {
    let identity = &folder.identity;
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .context("the clock is before 1970")?;
    let now_us = u64::try_from(now.as_micros()).context("the clock is beyond its range")?;
    let currencies: Vec<Currency> =
        identity.currencies.iter().filter_map(|alpha| Currency::from_alpha(alpha)).collect();
    let terms = Terms {
        institution: folder.institution(),
        currencies,
        offset_minutes: identity.offset_minutes,
        cutoff_minutes: identity.cutoff_minutes,
        capacity: config.branch.customers_max,
    };
    let date = Date::business_day(now_us, i32::from(identity.offset_minutes), identity.cutoff_minutes);
    let live = date;
    for command in [Command::OpenBranch(OpenBranch { terms, date }), Command::GoLive(live)] {
        let name = command.name();
        match ask(handle, key, command)? {
            Reply::Command(Ok(_)) => (),
            other => bail!("could not {name} in branch {}: {other:?}", handle.number()),
        }
    }
    // Newcomers are placed by the branch's figures, so these must know of the room before anybody comes.
    let began = Instant::now();
    while handle.figures().status.as_ref().is_none_or(|status| status.first_day.is_none()) {
        if began.elapsed() > Duration::from_secs(10) {
            bail!("branch {} does not tell its figures", handle.number());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// One command of the bank's own, waited for.
fn ask(handle: &BranchHandle, key: &GatewayKey, command: Command) -> anyhow::Result<Reply> {
    let (sender, receiver) = std::sync::mpsc::channel();
    let actor = Actor::bank(Cause::Founding);
    let scope = Scope::default();
    let request = Request {
        actor,
        scope,
        deadline_us: 0,
        mac: key.authenticate(&actor, scope, 0),
        body: Body::Command { command: Box::new(command), key: None },
        reply: Box::new(move |reply| drop(sender.send(reply))),
    };
    handle.submit(request)?;
    receiver.recv_timeout(Duration::from_secs(60)).context("the branch did not answer")
}

/// The bank's own tokens, and an issuer's if one is configured.
fn tokens(config: &Config, folder: &Folder) -> anyhow::Result<TokenStore> {
    let tokens = TokenStore::open(&folder.root().join(folder::TOKENS_FILE))?;
    match &config.oidc {
        None => Ok(tokens),
        Some(oidc) => Ok(tokens.with_oidc(Oidc::open(oidc.settings()?)?)),
    }
}

/// Makes the first operator's token if there is none; whether this is the bank's first start.
fn first_token(folder: &Folder, tokens: &TokenStore) -> anyhow::Result<bool> {
    if !tokens.list().is_empty() {
        return Ok(folder.fresh);
    }
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .context("the clock is before 1970")?;
    let new =
        NewToken { principal: "operator".to_owned(), role: "operator".to_owned(), ..NewToken::default() };
    let (token, _) = tokens.create(&new, now.as_secs())?;
    folder.write_token(&token)?;
    Ok(folder.fresh)
}

fn limits(config: &Config) -> Limits {
    let server = &config.server;
    Limits {
        connections: usize::try_from(server.connections_max).unwrap_or(usize::MAX),
        json_bytes: usize::try_from(server.body_bytes_max).unwrap_or(usize::MAX),
        idle: Duration::from_millis(server.idle_timeout_ms),
        body: Duration::from_millis(server.body_timeout_ms),
        request: Duration::from_millis(server.request_timeout_ms),
        ..Limits::default()
    }
}

fn gateway_config(config: &Config, limits: Limits) -> GatewayConfig {
    let pair: Option<(PathBuf, PathBuf)> =
        config.server.tls_certificate.clone().zip(config.server.tls_key.clone());
    GatewayConfig {
        listen: config.server.listen,
        tls: pair.map(|(certificate, key)| TlsConfig {
            certificate,
            key,
            partners: config.server.tls_partners.clone(),
        }),
        insecure: config.server.insecure,
        limits,
    }
}

/// Opens a branch whose journal was rewound, without what is lost, and closes it again.
///
/// # Errors
///
/// If it opens as it is, if its own error names another position, or if it does not open even so.
pub(crate) fn declare_loss(
    config: &Config,
    folder: &Folder,
    number: u16,
    position: u64,
) -> anyhow::Result<Found> {
    let key = GatewayKey::new(folder.secrets.gateway);
    let stores = Stores::new(config, folder)?;
    let store = stores.of(folder, number)?;
    match stores.journal(config, folder, number, store.as_deref())? {
        Journal::Local(journal) => {
            let mut accepting = journal.clone();
            accepting.options.accept_loss = true;
            declare(parts(config, folder, number, &key, journal)?, accepting, position)
        }
        #[cfg(feature = "cluster")]
        Journal::Postgres(journal) => {
            let accepting = journal.clone().accepting_loss();
            declare(parts(config, folder, number, &key, journal)?, accepting, position)
        }
    }
}

fn declare<J: JournalStore + 'static>(
    parts: Parts<J, RealStorage>,
    accepting: J,
    position: u64,
) -> anyhow::Result<Found> {
    let branch = spawn(parts)?;
    let handle = branch.handle();
    let number = handle.number();
    let Condition::Sick(cause) = handle.condition() else {
        bail!("branch {number} opens as it is: there is no loss to declare");
    };
    if !names_position(&cause, position) {
        bail!("position {position} is not in the branch's own words, which are: {cause}");
    }
    let found = handle.declare_loss(accepting).map_err(anyhow::Error::msg)?;
    branch.close();
    Ok(found)
}

/// Whether a branch's own words name this position. Other numbers in them, such as a branch's, do not count.
fn names_position(words: &str, position: u64) -> bool {
    let digits =
        |rest: &str| rest.split(|c: char| !c.is_ascii_digit()).next().map(str::parse) == Some(Ok(position));
    words.split("position ").skip(1).any(digits)
}

/// The storage of a branch's journal, for commands that need no running bank.
pub(crate) fn journal_storage(data: &Path, branch: u16) -> anyhow::Result<RealStorage> {
    let path = folder::branch_folder(data, branch).join("journal");
    RealStorage::existing(&path)
        .with_context(|| format!("there is no journal of branch {branch} at {}", path.display()))
}

/// The cold folder of a branch, which need not be there now.
pub(crate) fn cold_storage(config: &Config, branch: u16) -> Option<RealStorage> {
    config.storage.cold.as_ref().map(|cold| RealStorage::at(cold.join(format!("{branch:04}"))))
}

/// Opens one branch of a resting bank, archives, and closes it again. Returns the first position that is not archived.
///
/// # Errors
///
/// If it does not open, or why it went no further.
pub(crate) fn archive(config: &Config, folder: &Folder, number: u16, before: Before) -> anyhow::Result<u64> {
    let key = GatewayKey::new(folder.secrets.gateway);
    let (branch, _) = open_branch(config, folder, &Stores::new(config, folder)?, number, &key)?;
    let done = Hosted::new(branch.handle()).archive(before);
    branch.close();
    done.map_err(anyhow::Error::msg)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_position_proves_that_the_words_were_read() {
        let words = "journal_rewound: branch 2 has payments of this branch up to 3 that the journal, which ends at position 57 and \
                     has them up to 1, does not have";
        assert!(names_position(words, 57));
        for other in [1, 2, 3, 5, 7, 570] {
            assert!(!names_position(words, other), "{other}");
        }
    }
}
