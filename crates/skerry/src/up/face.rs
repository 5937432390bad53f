//! What faces clients: HTTP with tokens, directory, events and webhooks, in front of branches wherever these are.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use skerry_book::Seed;
use skerry_branch::api::GatewayKey;
use skerry_directory::DirectoryHandle;
use skerry_gateway::bank::Bank as Seats;
use skerry_gateway::config::{GatewayConfig, Limits, TlsConfig};
use skerry_gateway::founding::Founder;
use skerry_gateway::gateway::{Gateway, Secrets, Shared};
use skerry_gateway::oidc::Oidc;
use skerry_gateway::residence;
use skerry_gateway::sealing::DocumentSecret;
use skerry_gateway::server::Listening;
use skerry_gateway::tokens::{NewToken, TokenStore};
use skerry_node::seat::Seat;
use skerry_post::Post;
use tokio::sync::oneshot;

use super::{Signals, descriptors, directory};
use crate::config::Config;
use crate::folder::{self, Folder};
use crate::traces::{self, Outlet};

/// Threads that wait for disks and stores in place of those that serve: work beyond that waits for its turn. Without a bound of ours a
/// rush of newcomers, whose names are sealed there, was seen to start 512.
const BLOCKING_THREADS: usize = 64;

/// What stands behind it.
pub(crate) struct Behind {
    /// The branches.
    pub(crate) seats: Vec<Arc<dyn Seat>>,
    /// Shown and switched by operators.
    pub(crate) post: Post,
    pub(crate) directory: DirectoryHandle,
    /// What the directory is told of stores.
    pub(crate) stores: Vec<residence::Store>,
    /// Makes new branches.
    pub(crate) founder: Arc<dyn Founder>,
}

/// A server at work.
pub(crate) struct Face {
    server: String,
    gateway: Shared,
    runtime: tokio::runtime::Runtime,
    signals: Signals,
    stop: oneshot::Sender<()>,
    served: tokio::task::JoinHandle<()>,
    traces: Option<Outlet>,
}

impl Face {
    /// Begins to serve.
    ///
    /// # Errors
    ///
    /// Tokens that cannot be read, an address that is taken: whatever keeps it from that.
    pub(crate) fn open(config: &Config, folder: &Folder, behind: Behind) -> anyhow::Result<Self> {
        descriptors::raise(config.server.connections_max);
        let tokens = Arc::new(tokens(config, folder)?);
        first_token(folder, &tokens)?;
        let limits = limits(config);
        let secrets = Secrets {
            document: DocumentSecret::new(folder.secrets.institution),
            seed: Seed::new(folder.secrets.institution),
        };
        let seats = Seats::new(behind.seats, GatewayKey::new(folder.secrets.gateway), limits.request);
        let gateway = Gateway::new(seats, behind.directory, tokens, secrets, limits);
        let watched = Arc::clone(&gateway.tokens);
        let traces = traces::open(config, &gateway.meters)?;
        let front = skerry_gateway::app::traced_front(&gateway, traces.as_ref().map(Outlet::sink));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(BLOCKING_THREADS)
            .thread_name("gateway")
            .enable_all()
            .build()
            .context("could not start the runtime")?;
        let signals = {
            let _within = runtime.enter();
            Signals::catch()?
        };
        directory::settle_in(&runtime, &gateway, behind.stores);
        let listening =
            runtime.block_on(Listening::bind(&gateway_config(config, config.server.listen, limits)))?;
        let server = server_of(config, &listening);
        runtime.spawn(watched.watch());
        {
            let _within = runtime.enter();
            gateway.begin_buses(behind.post);
            gateway.begin_founding(behind.founder);
            gateway.begin_webhooks(config.webhooks.settings(config.server.insecure))?;
            config.outlet.as_ref().map_or(Ok(()), |outlet| outlet.start(&gateway))?;
        }
        let (stop, stopped) = oneshot::channel();
        let served = runtime.spawn(listening.serve(front, async {
            // A dropped sender stops it too.
            let _told = stopped.await;
        }));
        Ok(Self { server, gateway, runtime, signals, stop, served, traces })
    }

    /// Its address.
    pub(crate) fn server(&self) -> &str {
        &self.server
    }

    /// What its handlers share.
    #[cfg(feature = "cluster")]
    pub(crate) fn gateway(&self) -> &Shared {
        &self.gateway
    }

    /// Where its tasks run.
    #[cfg(feature = "cluster")]
    pub(crate) fn runtime(&self) -> &tokio::runtime::Runtime {
        &self.runtime
    }

    /// Serves until the process is told to stop.
    pub(crate) fn wait_to_stop(&mut self) {
        self.runtime.block_on(self.signals.told_to_stop());
    }

    /// Takes nothing new and finishes what runs. The traces are to be closed last of all.
    ///
    /// # Errors
    ///
    /// If the server's task died.
    pub(crate) fn stop(self) -> anyhow::Result<Option<Outlet>> {
        // The receiver is gone only if the server has ended by itself.
        let _ended = self.stop.send(());
        self.runtime.block_on(self.served).context("the server died")?;
        self.runtime.block_on(self.gateway.end_events());
        self.runtime.shutdown_timeout(Duration::from_secs(5));
        Ok(self.traces)
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

/// Makes the first operator's token if there is none.
fn first_token(folder: &Folder, tokens: &TokenStore) -> anyhow::Result<()> {
    if !tokens.list().is_empty() {
        return Ok(());
    }
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .context("the clock is before 1970")?;
    let new =
        NewToken { principal: "operator".to_owned(), role: "operator".to_owned(), ..NewToken::default() };
    let (token, _) = tokens.create(&new, now.as_secs())?;
    folder.write_token(&token)
}

/// The address under which others find it.
pub(crate) fn server_of(config: &Config, listening: &Listening) -> String {
    let scheme = if config.server.tls_certificate.is_some() { "https" } else { "http" };
    format!("{scheme}://{}", listening.address())
}

pub(crate) fn limits(config: &Config) -> Limits {
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

/// How `[server]` says to listen, at `listen`.
pub(crate) fn gateway_config(config: &Config, listen: SocketAddr, limits: Limits) -> GatewayConfig {
    let pair: Option<(PathBuf, PathBuf)> =
        config.server.tls_certificate.clone().zip(config.server.tls_key.clone());
    GatewayConfig {
        listen,
        tls: pair.map(|(certificate, key)| TlsConfig {
            certificate,
            key,
            partners: config.server.tls_partners.clone(),
        }),
        insecure: config.server.insecure,
        limits,
    }
}
