//! What `skerry.toml` says, what the environment and the flags change of it, and what it all comes to.
//!
//! Flags win over the environment, the environment over the file, the file over the defaults. Unknown keys are
//! errors: a misspelt limit must not silently be no limit. Secrets are never in here, only the paths of files.

mod sections;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};
use skerry_gateway::config::TlsConfig;
use skerry_money::Currency;
use skerry_proof::{HashAlgorithm, PublicKey, SignatureAlgorithm};

use tracing_subscriber::EnvFilter;

use crate::buses::{Bus, Choice};
use crate::cli::Settings;
use crate::oidc::Oidc;
use crate::outlet::Outlet;
use crate::stores::Store;
use crate::traces::Traces;
use crate::webhooks::Webhooks;

pub(crate) use sections::{Bank, Branch, Evidence, Log, Node, Quota, Server, Storage};

/// The whole configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) bank: Bank,
    pub(crate) server: Server,
    pub(crate) node: Node,
    pub(crate) storage: Storage,
    pub(crate) branch: Branch,
    pub(crate) evidence: Evidence,
    pub(crate) quota: Quota,
    pub(crate) webhooks: Webhooks,
    pub(crate) log: Log,
    pub(crate) traces: Traces,
    /// Absent: only the bank's own tokens are taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) oidc: Option<Oidc>,
    /// A log in NATS that all events go to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) outlet: Option<Outlet>,
    /// What carries messages between branches.
    pub(crate) bus: Choice,
    /// Buses that messages between branches may go over, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) buses: BTreeMap<String, Bus>,
    /// PostgreSQL servers that journals may be kept in, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) stores: BTreeMap<String, Store>,
}

/// What flags and environment may change; clap has merged those two already.
#[derive(Debug, Clone, Default)]
pub(crate) struct Overrides {
    pub(crate) data: Option<PathBuf>,
    pub(crate) listen: Option<SocketAddr>,
    pub(crate) node_listen: Option<SocketAddr>,
    pub(crate) branches: Option<u16>,
    pub(crate) insecure: bool,
    pub(crate) log: Option<String>,
}

impl From<&Settings> for Overrides {
    fn from(said: &Settings) -> Self {
        Self {
            data: said.local.data.clone(),
            listen: said.listen,
            node_listen: None,
            branches: said.branches,
            insecure: said.insecure,
            log: said.log.clone(),
        }
    }
}

impl Config {
    /// What `said` comes to with its file.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load).
    pub(crate) fn of(said: &Settings) -> anyhow::Result<Self> {
        Self::load(said.local.config.as_deref(), Overrides::from(said))
    }

    /// Reads `file` (or `skerry.toml` in the working folder, if it is there), applies `overrides` and checks the whole.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, a key that does not exist, a value out of its range: each names file and key.
    pub(crate) fn load(file: Option<&Path>, overrides: Overrides) -> anyhow::Result<Self> {
        let default = Path::new("skerry.toml");
        let path = file.or_else(|| default.exists().then_some(default));
        let mut config = match path {
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("could not read the configuration {}", path.display()))?;
                toml::from_str(&text).with_context(|| format!("in the configuration {}", path.display()))?
            }
            None => Self::default(),
        };
        config.apply(overrides);
        config.check()?;
        Ok(config)
    }

    fn apply(&mut self, overrides: Overrides) {
        if let Some(data) = overrides.data {
            self.storage.data = data;
        }
        if let Some(listen) = overrides.listen {
            self.server.listen = listen;
        }
        if let Some(listen) = overrides.node_listen {
            self.node.listen = Some(listen);
        }
        if let Some(branches) = overrides.branches {
            self.bank.branches = branches;
        }
        if let Some(level) = overrides.log {
            self.log.level = level;
        }
        self.server.insecure |= overrides.insecure;
    }

    /// Checks what types cannot.
    ///
    /// # Errors
    ///
    /// The first key that is out of range, with its range.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let institution = &self.bank.institution;
        ensure!(
            (1..=32).contains(&institution.len())
                && institution.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'),
            "bank.institution must be 1 to 32 letters, digits or hyphens, not {institution:?}"
        );
        range("bank.branches", u64::from(self.bank.branches), 1, 9_999)?;
        self.check_currencies()?;
        self.offset_minutes()?;
        self.cutoff_minutes()?;
        range("server.connections_max", u64::from(self.server.connections_max), 1, 1_000_000)?;
        range("server.body_bytes_max", u64::from(self.server.body_bytes_max), 1 << 16, 1 << 28)?;
        range("server.body_timeout_ms", self.server.body_timeout_ms, 100, 600_000)?;
        range("server.request_timeout_ms", self.server.request_timeout_ms, 100, 600_000)?;
        range("server.idle_timeout_ms", self.server.idle_timeout_ms, 100, 86_400_000)?;
        range("storage.segment_bytes", self.storage.segment_bytes, 1 << 20, 4 << 30)?;
        range("branch.customers_max", u64::from(self.branch.customers_max), 1, 5_000_000)?;
        range("branch.queue_max", u64::from(self.branch.queue_max), 16, 1 << 20)?;
        range("branch.checkpoint_seconds", u64::from(self.branch.checkpoint_seconds), 1, 600)?;
        range("branch.snapshot_records", self.branch.snapshot_records, 1_000, 1 << 40)?;
        self.check_evidence()?;
        crate::stores::check(self)?;
        range("quota.in_flight", u64::from(self.quota.in_flight), 1, 1 << 20)?;
        self.log_filter()?;
        self.webhooks.check()?;
        self.outlet.as_ref().map_or(Ok(()), Outlet::check)?;
        crate::buses::check(self)?;
        if !matches!(self.log.format.as_str(), "text" | "json") {
            bail!("log.format must be \"text\" or \"json\", not {:?}", self.log.format);
        }
        self.traces.check()?;
        if let Some(oidc) = &self.oidc {
            oidc.check()?;
        }
        ensure!(
            self.server.tls_certificate.is_some() == self.server.tls_key.is_some(),
            "server.tls_certificate and server.tls_key go together"
        );
        if !self.server.listen.ip().is_loopback()
            && self.server.tls_certificate.is_none()
            && !self.server.insecure
        {
            bail!(
                "server.listen {} is not a loopback address: configure server.tls_certificate and server.tls_key, \
                 or say --insecure",
                self.server.listen
            );
        }
        Ok(())
    }

    /// Checks that the files it names can be read here and are of use, as a start would.
    ///
    /// # Errors
    ///
    /// The first key whose file cannot be read; a certificate and a key that do not belong together.
    pub(crate) fn check_files(&self) -> anyhow::Result<()> {
        let server = &self.server;
        let jwks = self.oidc.as_ref().map(|oidc| &oidc.jwks);
        let files = [
            ("server.tls_certificate", server.tls_certificate.as_ref()),
            ("server.tls_key", server.tls_key.as_ref()),
            ("server.tls_partners", server.tls_partners.as_ref()),
            ("evidence.signer.passphrase_file", self.evidence.signer.passphrase_file.as_ref()),
            ("webhooks.trusted", self.webhooks.trusted.as_ref()),
            ("oidc.jwks", jwks),
        ];
        for (key, path) in files {
            if let Some(path) = path {
                readable(key, path)?;
            }
        }
        for (name, bus) in &self.buses {
            for (key, path) in bus.files() {
                readable(&format!("buses.{name}.{key}"), path)?;
            }
        }
        if let Some((certificate, key)) = server.tls_certificate.clone().zip(server.tls_key.clone()) {
            let pair = TlsConfig { certificate, key, partners: server.tls_partners.clone() };
            skerry_gateway::tls::acceptor(&pair).context("server.tls_certificate and server.tls_key")?;
        }
        Ok(())
    }

    fn check_currencies(&self) -> anyhow::Result<()> {
        match self.bank.currencies.iter().find(|alpha| Currency::from_alpha(alpha).is_none()) {
            Some(alpha) => bail!("bank.currencies: {alpha:?} is no currency of ISO 4217, such as CNY"),
            None => Ok(()),
        }
    }

    /// What is logged.
    ///
    /// # Errors
    ///
    /// If it is neither a level nor a filter.
    pub(crate) fn log_filter(&self) -> anyhow::Result<EnvFilter> {
        let level = self.log.level.as_str();
        // A filter's target may have any name, so a misspelt level alone would be taken for one and log nothing.
        let is_level = matches!(level, "off" | "error" | "warn" | "info" | "debug" | "trace");
        ensure!(
            is_level || level.contains(['=', ',', '[']),
            "log.level must be error, warn, info, debug or a filter such as info,skerry_branch=debug, not {level:?}"
        );
        EnvFilter::try_new(level).with_context(|| format!("log.level {level:?} is not a level or filter"))
    }

    fn check_evidence(&self) -> anyhow::Result<()> {
        self.evidence_hash()?;
        self.signature_algorithm()?;
        let signer = &self.evidence.signer;
        range("evidence.signer.timeout_ms", signer.timeout_ms, 100, 60_000)?;
        let public_key = self.signer_public_key()?;
        ensure!(
            signer.command.is_empty() == public_key.is_none(),
            "evidence.signer.command and evidence.signer.public_key go together"
        );
        ensure!(
            signer.command.is_empty() || signer.passphrase_file.is_none(),
            "evidence.signer has a command or a passphrase_file, not both"
        );
        ensure!(
            signer.command.first().is_none_or(|program| !program.is_empty()),
            "evidence.signer.command must begin with a program"
        );
        Ok(())
    }

    /// The hash behind record roots and history.
    ///
    /// # Errors
    ///
    /// If it is none that this release knows.
    pub(crate) fn evidence_hash(&self) -> anyhow::Result<HashAlgorithm> {
        let name = self.evidence.hash.as_str();
        by_name(name, HashAlgorithm::ALL, HashAlgorithm::name).with_context(|| {
            format!("evidence.hash must be \"blake3\", \"sha-256\" or \"sm3\", not {name:?}")
        })
    }

    /// The scheme of keys that the bank makes.
    ///
    /// # Errors
    ///
    /// If it is none that this release knows.
    pub(crate) fn signature_algorithm(&self) -> anyhow::Result<SignatureAlgorithm> {
        let name = self.evidence.signature.as_str();
        by_name(name, SignatureAlgorithm::ALL, SignatureAlgorithm::name)
            .with_context(|| format!("evidence.signature must be \"ed25519\" or \"sm2\", not {name:?}"))
    }

    /// The pinned key of a signing command.
    ///
    /// # Errors
    ///
    /// If the text is no public key.
    pub(crate) fn signer_public_key(&self) -> anyhow::Result<Option<PublicKey>> {
        let text = self.evidence.signer.public_key.as_deref();
        let parsed =
            text.map(|text| text.parse().with_context(|| format!("evidence.signer.public_key {text:?}")));
        parsed.transpose()
    }

    /// The accounting time zone in minutes east of UTC.
    ///
    /// # Errors
    ///
    /// If it is not of the form `+08:00` or lies beyond ±14:00.
    pub(crate) fn offset_minutes(&self) -> anyhow::Result<i16> {
        let text = self.bank.time_zone.as_str();
        let wrong = || anyhow::anyhow!("bank.time_zone must look like \"+08:00\", not {text:?}");
        let (sign, rest) = match text.as_bytes().first() {
            Some(b'+') => (1, &text[1..]),
            Some(b'-') => (-1, &text[1..]),
            _ => return Err(wrong()),
        };
        let minutes = clock_minutes(rest).ok_or_else(wrong)?;
        ensure!(minutes <= 14 * 60, "bank.time_zone {text:?} lies beyond 14:00");
        Ok(sign * minutes)
    }

    /// The cutoff in minutes after local midnight.
    ///
    /// # Errors
    ///
    /// If it is not a time of day, `HH:MM`.
    pub(crate) fn cutoff_minutes(&self) -> anyhow::Result<u16> {
        let text = self.bank.cutoff.as_str();
        clock_minutes(text)
            .and_then(|minutes| u16::try_from(minutes).ok())
            .with_context(|| format!("bank.cutoff must look like \"22:30\", not {text:?}"))
    }
}

fn readable(key: &str, path: &Path) -> anyhow::Result<()> {
    let opened = std::fs::File::open(path);
    opened.map(drop).with_context(|| format!("{key}: could not read {}", path.display()))
}

/// The algorithm whose name this is, in lower case.
fn by_name<T: Copy, const N: usize>(name: &str, all: [T; N], of: fn(T) -> &'static str) -> Option<T> {
    all.into_iter().find(|algorithm| of(*algorithm).to_lowercase() == name)
}

/// `HH:MM` as minutes after midnight.
fn clock_minutes(text: &str) -> Option<i16> {
    let (hours, minutes) = text.split_once(':')?;
    if hours.len() != 2 || minutes.len() != 2 {
        return None;
    }
    let hours: i16 = hours.parse().ok().filter(|h| (0..24).contains(h))?;
    let minutes: i16 = minutes.parse().ok().filter(|m| (0..60).contains(m))?;
    Some(hours * 60 + minutes)
}

pub(crate) fn range(key: &str, value: u64, least: u64, most: u64) -> anyhow::Result<()> {
    ensure!((least..=most).contains(&value), "{key} must lie between {least} and {most}, not {value}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> anyhow::Result<Config> {
        let config: Config = toml::from_str(text)?;
        config.check()?;
        Ok(config)
    }

    #[test]
    fn the_defaults_are_valid_and_print_as_they_are_read() {
        let config = Config::default();
        config.check().unwrap();
        assert_eq!(parse(&toml::to_string(&config).unwrap()).unwrap(), config);
    }

    #[test]
    fn an_unknown_key_is_named() {
        let error = parse("[server]\nlissten = \"127.0.0.1:1\"").unwrap_err();
        assert!(error.to_string().contains("lissten"), "{error}");
    }

    #[test]
    fn another_address_needs_tls_or_a_loud_word() {
        let error = parse("[server]\nlisten = \"0.0.0.0:7117\"").unwrap_err();
        assert!(error.to_string().contains("--insecure"), "{error}");
        parse("[server]\nlisten = \"0.0.0.0:7117\"\ninsecure = true").unwrap();
    }

    #[test]
    fn values_out_of_range_name_key_and_range() {
        for (text, key) in [
            ("[bank]\nbranches = 0", "bank.branches"),
            ("[bank]\ntime_zone = \"8\"", "bank.time_zone"),
            ("[bank]\ncutoff = \"24:00\"", "bank.cutoff"),
            ("[server]\nbody_bytes_max = 1", "server.body_bytes_max"),
            ("[log]\nformat = \"xml\"", "log.format"),
            ("[log]\nlevel = \"loud\"", "log.level"),
            ("[bank]\ncurrencies = [\"CNY\", \"XXQ\"]", "bank.currencies"),
            ("[bank]\ninstitution = \"\"", "bank.institution"),
            ("[evidence]\nhash = \"md5\"", "evidence.hash"),
            ("[evidence]\nsignature = \"rsa\"", "evidence.signature"),
            ("[evidence.signer]\ntimeout_ms = 1", "evidence.signer.timeout_ms"),
            ("[evidence.signer]\ncommand = [\"sign\"]", "evidence.signer.public_key"),
            ("[evidence.signer]\npublic_key = \"00\"", "evidence.signer.public_key"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        }
    }

    #[test]
    fn files_that_are_not_there_are_named_by_their_key() {
        let config = parse("[server]\ntls_certificate = \"/none/a.pem\"\ntls_key = \"/none/a.key\"").unwrap();
        let error = config.check_files().unwrap_err().to_string();
        assert!(error.contains("server.tls_certificate"), "{error}");
        Config::default().check_files().unwrap();
    }

    #[test]
    fn offsets_and_cutoffs_are_minutes() {
        let mut config = Config::default();
        config.bank.time_zone = "-03:30".to_owned();
        config.bank.cutoff = "22:05".to_owned();
        assert_eq!(config.offset_minutes().unwrap(), -210);
        assert_eq!(config.cutoff_minutes().unwrap(), 1325);
    }
}
