//! `[bus]` and `[buses.…]` of the configuration: what carries messages between branches. NATS is behind the feature `cluster`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{bail, ensure};
use serde::{Deserialize, Serialize};
use skerry_branch::api::GatewayKey;
use skerry_post::{LOCAL, PostOptions, PostThread, Route};

use crate::config::Config;
use crate::nats::{self, Place};

/// Which bus messages go over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Choice {
    /// `local`, or the name of one of `[buses]`; an operator's `skerry bus switch` goes before it.
    #[serde(rename = "use")]
    pub(crate) usual: String,
    /// Branches of one process hand each other their messages, whatever bus is chosen.
    pub(crate) straight: bool,
}

impl Default for Choice {
    fn default() -> Self {
        Self { usual: LOCAL.to_owned(), straight: true }
    }
}

/// A bus.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Bus {
    /// Addresses of the servers, any of which serves: `nats://host:4222`.
    pub(crate) nats: Vec<String>,
    /// The first word of every subject: one bank, one prefix.
    #[serde(default = "nats::prefix")]
    pub(crate) prefix: String,
    /// PEM files for mutual TLS; needed beyond the loopback.
    pub(crate) ca: Option<PathBuf>,
    pub(crate) certificate: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
}

impl Bus {
    fn place(&self) -> Place<'_> {
        let files = nats::files(&self.ca, &self.certificate, &self.key);
        Place { servers: &self.nats, prefix: &self.prefix, files }
    }

    /// The files that it names, by their keys.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let named = nats::FILES.into_iter().zip(self.place().files);
        named.filter_map(|(key, path)| Some((key, path?)))
    }
}

/// Checks the buses of a configuration, as far as that needs no server.
///
/// # Errors
///
/// The first key that is wrong.
pub(crate) fn check(config: &Config) -> anyhow::Result<()> {
    for (name, bus) in &config.buses {
        let named = (1..=32).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !name.starts_with('-');
        ensure!(named, "buses: a name has 1 to 32 small letters, digits or hyphens, {name:?} is none");
        ensure!(name != LOCAL, "buses.{name}: local is the name of the way inside a process");
        bus.place().check(&format!("buses.{name}"))?;
    }
    let usual = &config.bus.usual;
    if usual != LOCAL && !config.buses.contains_key(usual) {
        bail!("bus.use names {usual:?}, but there is no [buses.{usual}]");
    }
    Ok(())
}

/// The post of a bank in one process; its buses are reached in the background.
///
/// # Errors
///
/// The machine gives no thread.
pub(crate) fn start(config: &Config, key: &GatewayKey) -> anyhow::Result<PostThread> {
    Ok(PostThread::start(configured(config, key)?)?)
}

fn configured(config: &Config, key: &GatewayKey) -> anyhow::Result<PostOptions> {
    Ok(PostOptions {
        straight: config.bus.straight,
        usual: config.bus.usual.clone(),
        routes: routes(&config.buses)?,
        ..PostOptions::local(key.clone())
    })
}

/// What a seat asks and answers may have so many bytes; the servers' `max_payload` must allow it.
#[cfg(feature = "cluster")]
const MESSAGE_BYTES: usize = 8_000_000;

/// The post of one process among several, as this endpoint.
///
/// # Errors
///
/// As [`start`].
#[cfg(feature = "cluster")]
pub(crate) fn start_among(
    config: &Config,
    key: &GatewayKey,
    endpoint: skerry_bus::Name,
) -> anyhow::Result<PostThread> {
    Ok(PostThread::start(PostOptions { endpoint, among: true, ..configured(config, key)? })?)
}

/// An endpoint on the bus that `bus.use` names; waits until the bus is there.
///
/// # Errors
///
/// No bus is named, or one that is not configured.
#[cfg(feature = "cluster")]
pub(crate) fn endpoint(config: &Config, name: skerry_bus::Name) -> anyhow::Result<skerry_nats::NatsBus> {
    use skerry_bus::{Connect, Limits};

    let usual = &config.bus.usual;
    let Some(bus) = config.buses.get(usual) else {
        bail!("bus.use must name one of [buses.…]: processes of several machines reach each other over it");
    };
    let connector = skerry_nats::NatsConnector::new(bus.place().options(1)?);
    let mut told = false;
    loop {
        match connector.connect(name, Limits { message_bytes: MESSAGE_BYTES, ..Limits::default() }) {
            Ok(bus) => return Ok(bus),
            Err(error) if !told => {
                told = true;
                let error = anyhow::Error::new(error);
                tracing::warn!(
                    bus = usual,
                    error = format!("{error:#}"),
                    "the bus cannot be reached; it is tried until it can"
                );
            }
            Err(_) => {}
        }
        std::thread::sleep(std::time::Duration::from_millis(500));
    }
}

#[cfg(feature = "cluster")]
fn routes(buses: &BTreeMap<String, Bus>) -> anyhow::Result<Vec<Route>> {
    let route = |(name, bus): (&String, &Bus)| {
        // Nothing is stored for branches, so how many servers would keep it does not matter.
        let connector = skerry_nats::NatsConnector::new(bus.place().options(1)?);
        Ok(Route::over(name, connector))
    };
    buses.iter().map(route).collect()
}

#[cfg(not(feature = "cluster"))]
fn routes(buses: &BTreeMap<String, Bus>) -> anyhow::Result<Vec<Route>> {
    ensure!(buses.is_empty(), "buses are NATS servers: {}", crate::stores::LEAN);
    Ok(Vec::new())
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    fn checked(text: &str) -> Result<(), String> {
        let config: Config = toml::from_str(text).map_err(|error| error.to_string())?;
        config.check().map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_wrong_with_a_bus_names_its_key() {
        let here = "nats = [\"nats://127.0.0.1:4222\"]\n";
        for (text, part) in [
            ("[bus]\nuse = \"main\"".to_owned(), "there is no [buses.main]"),
            ("[bus]\nwith = \"main\"".to_owned(), "with"),
            (format!("[buses.local]\n{here}"), "buses.local"),
            (format!("[buses.Main]\n{here}"), "\"Main\" is none"),
            ("[buses.main]\nnats = []".to_owned(), "buses.main.nats"),
            (format!("[buses.main]\n{here}prefix = \"-a\""), "buses.main.prefix"),
            (format!("[buses.main]\n{here}key = \"k.pem\""), "buses.main.certificate"),
            ("[buses.main]\nnats = [\"nats://10.1.1.1:4222\"]".to_owned(), "loopback"),
            (format!("[buses.main]\n{here}replicas = 3"), "replicas"),
        ] {
            let error = checked(&text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
        let good = checked(&format!("[bus]\nuse = \"main\"\n[buses.main]\n{here}"));
        assert_eq!(good.is_ok(), cfg!(feature = "cluster"), "{good:?}");
        checked("[bus]\nuse = \"local\"\nstraight = false").unwrap();
    }

    #[test]
    fn files_that_are_not_there_are_named_by_their_key() {
        let text = "[buses.main]\nnats = [\"tls://bus.bank:4222\"]\nca = \"/none/ca\"\ncertificate = \"/none/c\"\nkey = \"/none/k\"";
        let config: Config = toml::from_str(text).unwrap();
        let error = config.check_files().unwrap_err().to_string();
        assert!(error.contains("buses.main.ca"), "{error}");
    }
}
