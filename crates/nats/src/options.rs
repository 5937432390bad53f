//! Where NATS is, and how an endpoint gets in.

use std::path::PathBuf;
use std::time::Duration;

use skerry_bus::{Connect, ConnectError, Limits, Name};

use crate::endpoint::NatsBus;

/// Files for mutual TLS, in PEM.
#[derive(Debug, Clone)]
pub struct NatsTls {
    /// The authority that signed the servers' certificates.
    pub authority: PathBuf,
    /// This process's certificate; the servers' configuration says what it may do.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// How to reach the servers.
#[derive(Debug, Clone)]
pub struct NatsOptions {
    /// Addresses, such as `nats://host:4222`; any one that answers serves.
    pub servers: Vec<String>,
    /// The first token of every subject: one bank, one prefix.
    pub prefix: Name,
    /// Servers that keep a copy of each stored message: 1, or 3 in a cluster.
    pub replicas: usize,
    /// Mutual TLS; none only on the loopback.
    pub tls: Option<NatsTls>,
}

impl NatsOptions {
    /// How every connection gets in: `name` says who, and replies come to an inbox of that name.
    pub(crate) fn knock(&self, name: &str) -> async_nats::ConnectOptions {
        let knock = async_nats::ConnectOptions::new()
            .name(name)
            .custom_inbox_prefix(format!("{}.i.{name}", self.prefix))
            .connection_timeout(Duration::from_secs(2))
            .ping_interval(Duration::from_secs(2));
        match &self.tls {
            None => knock,
            Some(tls) => knock
                .require_tls(true)
                .add_root_certificates(tls.authority.clone())
                .add_client_certificate(tls.certificate.clone(), tls.key.clone()),
        }
    }
}

/// Gives endpoints over NATS.
#[derive(Debug, Clone)]
pub struct NatsConnector {
    options: NatsOptions,
}

impl NatsConnector {
    /// A connector; nothing is connected yet.
    #[must_use]
    pub fn new(options: NatsOptions) -> Self {
        Self { options }
    }
}

impl Connect for NatsConnector {
    type Bus = NatsBus;

    /// Endpoints in other processes are not seen: that names differ is up to whoever names them.
    fn connect(&self, name: Name, limits: Limits) -> Result<NatsBus, ConnectError> {
        NatsBus::connect(self.options.clone(), name, limits)
    }
}
