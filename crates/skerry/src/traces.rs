//! `[traces]` of skerry.toml: where spans go, over OTLP/HTTP, and what share of the requests is told.
//!
//! The section is read by every build; what it asks for is in builds with the feature `otel`, and the others refuse it
//! rather than keep silent.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use skerry_client::connection::Address;
use skerry_gateway::meters::Meters;

use crate::config::{Config, range};

#[cfg(feature = "otel")]
mod collector;
#[cfg(feature = "otel")]
mod outlet;
#[cfg(feature = "otel")]
mod spans;

#[cfg(feature = "otel")]
pub(crate) use outlet::Outlet;

/// The section. Without an endpoint there are no traces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Traces {
    /// The collector's whole address: `http://127.0.0.1:4318/v1/traces`.
    pub(crate) endpoint: Option<String>,
    /// The share of requests without a `traceparent` that is told, 0 to 1.
    pub(crate) sample: Share,
    /// A file of mode 0600 with a header a line, `Name: value`, for collectors that want credentials.
    pub(crate) headers_file: Option<PathBuf>,
    /// The PEM file of the roots that the collector is trusted by; an endpoint of https needs it.
    pub(crate) certificate: Option<PathBuf>,
    /// Requests that wait to be told; beyond that they are dropped and counted.
    pub(crate) queue_max: u32,
    /// From connecting to the collector to its answer.
    pub(crate) timeout_ms: u64,
}

impl Default for Traces {
    fn default() -> Self {
        Self {
            endpoint: None,
            sample: Share { millionths: 10_000 },
            headers_file: None,
            certificate: None,
            queue_max: 4_096,
            timeout_ms: 5_000,
        }
    }
}

/// A share between nothing and all, to the millionth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub(crate) struct Share {
    pub(crate) millionths: u32,
}

impl TryFrom<f64> for Share {
    type Error = String;

    fn try_from(share: f64) -> Result<Self, String> {
        if !(0.0..=1.0).contains(&share) {
            return Err(format!("traces.sample must lie between 0 and 1, not {share}"));
        }
        // At most a million, and not negative: the cast is exact.
        Ok(Self { millionths: (share * 1e6).round() as u32 })
    }
}

impl From<Share> for f64 {
    fn from(share: Share) -> Self {
        Self::from(share.millionths) / 1e6
    }
}

/// An endpoint, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) address: Address,
    pub(crate) path: String,
}

impl Traces {
    /// Checks what types cannot.
    ///
    /// # Errors
    ///
    /// The first key that is wrong, or that this build does without traces.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        range("traces.queue_max", u64::from(self.queue_max), 16, 1 << 20)?;
        range("traces.timeout_ms", self.timeout_ms, 100, 60_000)?;
        let Some(endpoint) = self.endpoint()? else {
            ensure!(self.headers_file.is_none(), "traces.headers_file is of no use without traces.endpoint");
            return Ok(());
        };
        ensure!(
            endpoint.address.tls == self.certificate.is_some(),
            "traces.certificate, the PEM file of the roots to trust, and an https traces.endpoint go together"
        );
        ensure!(
            self.headers_file.is_none() || endpoint.address.tls || is_loopback(&endpoint.address),
            "traces.headers_file holds credentials: they are sent only over https or to the loopback"
        );
        ensure!(
            cfg!(feature = "otel"),
            "traces.endpoint is set, but this skerry was built without traces: build it with \
             'cargo build --release --package skerry --features otel', or take traces.endpoint out"
        );
        Ok(())
    }

    /// Where spans go, if they go anywhere.
    ///
    /// # Errors
    ///
    /// If it is no address, or holds what belongs into a file.
    pub(crate) fn endpoint(&self) -> anyhow::Result<Option<Endpoint>> {
        let Some(text) = self.endpoint.as_deref() else { return Ok(None) };
        ensure!(
            !text.contains(['@', '?', '#']),
            "traces.endpoint must be a plain address; credentials belong into traces.headers_file"
        );
        let wrong =
            || format!("traces.endpoint must look like \"http://127.0.0.1:4318/v1/traces\", not {text:?}");
        let authority = text.find("://").with_context(wrong)? + 3;
        let slash = text[authority..].find('/').with_context(wrong)? + authority;
        let (server, path) = text.split_at(slash);
        ensure!(path.len() > 1 && path.bytes().all(|byte| byte.is_ascii_graphic()), wrong());
        let address = Address::parse(server).map_err(|_| anyhow::anyhow!(wrong()))?;
        Ok(Some(Endpoint { address, path: path.to_owned() }))
    }
}

fn is_loopback(address: &Address) -> bool {
    let host = address.authority.rsplit_once(':').map_or("", |(host, _)| host);
    host == "localhost"
        || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Begins to export, if the configuration names an endpoint. Figures go to `meters`.
///
/// # Errors
///
/// The files that the section names.
pub(crate) fn open(config: &Config, meters: &Arc<Meters>) -> anyhow::Result<Option<Outlet>> {
    match config.traces.endpoint()? {
        None => Ok(None),
        Some(endpoint) => Outlet::open(config, endpoint, Arc::clone(meters)).map(Some),
    }
}

/// In a build without traces there is none.
#[cfg(not(feature = "otel"))]
pub(crate) enum Outlet {}

#[cfg(not(feature = "otel"))]
impl Outlet {
    fn open(_: &Config, _: Endpoint, _: Arc<Meters>) -> anyhow::Result<Self> {
        anyhow::bail!("this skerry was built without traces")
    }

    pub(crate) fn sink(&self) -> Arc<dyn skerry_gateway::traces::Traces> {
        match *self {}
    }

    pub(crate) fn close(self) {
        match self {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> String {
        let traces: Traces = match toml::from_str(text) {
            Ok(traces) => traces,
            Err(error) => return error.to_string(),
        };
        traces.check().map_or_else(|error| error.to_string(), |()| "good".to_owned())
    }

    #[test]
    fn what_the_section_says_is_checked() {
        for (text, said) in [
            ("", "good"),
            ("sample = 1", "good"),
            ("sample = 1.5", "traces.sample must lie between 0 and 1, not 1.5"),
            ("sample = nan", "between 0 and 1"),
            ("sampel = 0.1", "sampel"),
            ("queue_max = 1", "traces.queue_max"),
            ("headers_file = \"h\"", "without traces.endpoint"),
            ("endpoint = \"127.0.0.1:4318\"", "must look like"),
            ("endpoint = \"http://127.0.0.1:4318\"", "must look like"),
            ("endpoint = \"http://127.0.0.1/v1/traces\"", "must look like"),
            ("endpoint = \"ftp://127.0.0.1:1/v1/traces\"", "must look like"),
            ("endpoint = \"http://me:secret@127.0.0.1:4318/v1/traces\"", "traces.headers_file"),
            ("endpoint = \"http://127.0.0.1:4318/v1/traces?key=1\"", "traces.headers_file"),
            ("endpoint = \"https://otel.example:4318/v1/traces\"", "traces.certificate"),
            ("endpoint = \"http://otel.example:4318/v1/traces\"\nheaders_file = \"h\"", "only over https"),
        ] {
            let answer = check(text);
            assert!(answer.contains(said), "{text}: {answer}");
            assert!(!answer.contains("secret"), "{answer}");
        }
        let answer = check("endpoint = \"http://[::1]:4318/v1/traces\"\nheaders_file = \"h\"");
        let expected = if cfg!(feature = "otel") { "good" } else { "--features otel" };
        assert!(answer.contains(expected), "{answer}");
    }

    #[test]
    fn shares_print_as_they_are_read() {
        let traces: Traces = toml::from_str("sample = 0.015").unwrap();
        assert_eq!(traces.sample.millionths, 15_000);
        assert_eq!(toml::from_str::<Traces>(&toml::to_string(&traces).unwrap()).unwrap(), traces);
    }
}
