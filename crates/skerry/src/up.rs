//! `skerry up`: opens the data folder and its branches, founds what is new, serves HTTP until told to stop, drains.

pub(crate) mod branches;
mod descriptors;
mod detach;
mod directory;
mod notify;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use skerry_book::Seed;
use skerry_branch::api::GatewayKey;
use skerry_branch::{BranchThread, Condition};
use skerry_directory::DirectoryThread;
use skerry_gateway::bank::Bank as Seats;
use skerry_gateway::config::{GatewayConfig, Limits, TlsConfig};
use skerry_gateway::gateway::{Gateway, Secrets, Shared};
use skerry_gateway::oidc::Oidc;
use skerry_gateway::sealing::DocumentSecret;
use skerry_gateway::server::Listening;
use skerry_gateway::tokens::{NewToken, TokenStore};
use skerry_node::hosted::Hosted;
use skerry_node::seat::Seat;
use skerry_post::PostThread;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use self::branches::{found_if_new, open_branch};
use crate::buses;
use crate::cli::{Local, UpArgs};
use crate::config::{Config, Overrides};
use crate::folder::{self, Folder};
use crate::stores::{self, Stores};
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
    /// Carries messages between them.
    post: PostThread,
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
        let post = buses::start(&config, &key)?;
        for branch in &branches {
            found_if_new(&config, &folder, &branch.handle(), &key)?;
            post.post().host(&branch.handle());
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
            None => directory::open(&folder)?,
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
        directory::settle_in(&runtime, &gateway, stores::shown(&config, &folder));
        let listening = runtime.block_on(Listening::bind(&gateway_config(&config, limits)))?;
        let scheme = if config.server.tls_certificate.is_some() { "https" } else { "http" };
        let server = format!("{scheme}://{}", listening.address());
        runtime.spawn(watched.watch());
        {
            let _within = runtime.enter();
            gateway.begin_buses(post.post());
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
            post,
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
        drop(self.post);
        drop(self.directory);
        // Last, when all is durable and nobody waits for it.
        if let Some(traces) = self.traces {
            traces.close();
        }
        self.folder.retract();
        Ok(())
    }
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
