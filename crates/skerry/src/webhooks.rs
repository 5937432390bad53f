//! `[webhooks]` of the configuration: how receivers of events are called.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use skerry_gateway::webhooks::{Retries, Settings};

use crate::config::range;

/// See docs/events.md.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Webhooks {
    /// Webhooks, at most.
    pub(crate) endpoints_max: u32,
    /// Deliveries at once, of all webhooks.
    pub(crate) flights_max: u32,
    /// The same of one webhook.
    pub(crate) endpoint_flights: u32,
    /// From the look-up of the host to the end of the answer.
    pub(crate) timeout_ms: u64,
    /// Before the second attempt; then twice as long each time.
    pub(crate) retry_first_ms: u64,
    /// The longest wait between two attempts.
    pub(crate) retry_most_seconds: u64,
    /// After so long without success the webhook is disabled.
    pub(crate) give_up_seconds: u64,
    /// PEM file of the roots that receivers' certificates are signed by; left out, the system's.
    pub(crate) trusted: Option<PathBuf>,
    /// Whether receivers may lie in private networks.
    pub(crate) private_addresses: bool,
}

impl Default for Webhooks {
    fn default() -> Self {
        Self {
            endpoints_max: 100,
            flights_max: 64,
            endpoint_flights: 4,
            timeout_ms: 15_000,
            retry_first_ms: 1_000,
            retry_most_seconds: 4 * 3_600,
            give_up_seconds: 72 * 3_600,
            trusted: None,
            private_addresses: false,
        }
    }
}

impl Webhooks {
    /// Checks what types cannot.
    ///
    /// # Errors
    ///
    /// The first key that is out of range, with its range.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        range("webhooks.endpoints_max", u64::from(self.endpoints_max), 0, 1_000)?;
        range("webhooks.flights_max", u64::from(self.flights_max), 1, 1_024)?;
        range("webhooks.endpoint_flights", u64::from(self.endpoint_flights), 1, 32)?;
        range("webhooks.timeout_ms", self.timeout_ms, 100, 60_000)?;
        range("webhooks.retry_first_ms", self.retry_first_ms, 1, 3_600_000)?;
        range("webhooks.retry_most_seconds", self.retry_most_seconds, 1, 86_400)?;
        range("webhooks.give_up_seconds", self.give_up_seconds, 1, 30 * 86_400)
    }

    /// As the gateway takes them.
    pub(crate) fn settings(&self, insecure: bool) -> Settings {
        let whole = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
        Settings {
            endpoints_max: whole(self.endpoints_max),
            flights_max: whole(self.flights_max),
            endpoint_flights: whole(self.endpoint_flights),
            timeout: Duration::from_millis(self.timeout_ms),
            retries: Retries {
                first: Duration::from_millis(self.retry_first_ms),
                most: Duration::from_secs(self.retry_most_seconds),
                give_up: Duration::from_secs(self.give_up_seconds),
            },
            trusted: self.trusted.clone(),
            insecure,
            private_addresses: self.private_addresses,
        }
    }
}
