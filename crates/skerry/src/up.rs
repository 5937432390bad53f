//! `skerry up`: opens the data folder and its branches, founds what is new, serves HTTP until told to stop, drains.

pub(crate) mod branches;
mod descriptors;
mod detach;
mod directory;
pub(crate) mod face;
mod founder;
pub(crate) mod notify;

use std::io::IsTerminal;
use std::sync::Arc;

use anyhow::Context;
use skerry_branch::api::GatewayKey;
use skerry_directory::DirectoryThread;
use skerry_post::PostThread;
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::face::{Behind, Face};
use self::founder::Branches;
use crate::buses;
use crate::cli::{Local, UpArgs};
use crate::config::{Config, Overrides};
use crate::folder::{self, Folder};
use crate::stores::{self, Stores};

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
    bank.face.wait_to_stop();
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
pub(crate) struct Signals {
    terminated: Signal,
    interrupted: Signal,
}

impl Signals {
    /// Catches them from now on. Needs a runtime.
    ///
    /// # Errors
    ///
    /// As the system says.
    pub(crate) fn catch() -> anyhow::Result<Self> {
        let terminated = signal(SignalKind::terminate()).context("could not wait for SIGTERM")?;
        let interrupted = signal(SignalKind::interrupt()).context("could not wait for SIGINT")?;
        Ok(Self { terminated, interrupted })
    }

    /// Waits for one.
    pub(crate) async fn told_to_stop(&mut self) {
        tokio::select! {
            _ = self.terminated.recv() => (),
            _ = self.interrupted.recv() => (),
        }
    }
}

/// Begins to log as `config` says.
///
/// # Errors
///
/// A filter that makes no sense.
pub(crate) fn log(config: &Config) -> anyhow::Result<()> {
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
    folder: Arc<Folder>,
    /// Whether this start founded it.
    pub(crate) fresh: bool,
    branches: Arc<Branches>,
    /// Carries messages between them.
    post: PostThread,
    /// Who lives where.
    directory: DirectoryThread,
    face: Face,
}

impl Bank {
    /// Opens the bank that `config` names and begins to serve.
    ///
    /// # Errors
    ///
    /// As [`run`].
    pub(crate) fn start(config: Config) -> anyhow::Result<Self> {
        let folder = Arc::new(Folder::open(&config)?);
        let key = GatewayKey::new(folder.secrets.gateway);
        let post = buses::start(&config, &key)?;
        let stores = Stores::new(&config, &folder)?;
        let held = Arc::clone(&folder);
        let branches = Arc::new(Branches::open(config.clone(), held, stores, (key, post.post()))?);
        let directory = match branches.kept_in().directory(folder.fresh)? {
            Some(directory) => directory,
            None => directory::open(&folder)?,
        };
        let founder = Arc::clone(&branches);
        let behind = Behind {
            seats: branches.seats(),
            post: post.post(),
            directory: directory.handle(),
            stores: stores::shown(&config, &folder),
            founder,
        };
        let face = Face::open(&config, &folder, behind)?;
        folder.announce(face.server())?;
        Ok(Self { fresh: folder.fresh, folder, branches, post, directory, face })
    }

    /// Its address.
    pub(crate) fn server(&self) -> &str {
        self.face.server()
    }

    /// The branches that do not serve, each with its cause.
    pub(crate) fn sick(&self) -> Vec<String> {
        self.branches.sick()
    }

    /// Takes nothing new, finishes what runs, makes it durable and closes.
    ///
    /// # Errors
    ///
    /// If the server's task died.
    pub(crate) fn stop(self) -> anyhow::Result<()> {
        let traces = self.face.stop()?;
        self.branches.close();
        drop(self.post);
        drop(self.directory);
        // Last, when all is durable and nobody waits for it.
        if let Some(traces) = traces {
            traces.close();
        }
        self.folder.retract();
        Ok(())
    }
}
