//! Where NATS is, as every part of the configuration that names it says so: servers, the first word of subjects, files for TLS.

use std::path::{Path, PathBuf};

/// What is said of the servers under a key such as `outlet` or `buses.main`.
pub(crate) struct Place<'a> {
    /// Addresses, any of which serves.
    pub(crate) servers: &'a [String],
    /// The first word of every subject.
    pub(crate) prefix: &'a str,
    /// Authority, certificate and key for mutual TLS.
    pub(crate) files: [Option<&'a Path>; 3],
}

/// The keys of the files.
pub(crate) const FILES: [&str; 3] = ["ca", "certificate", "key"];

/// The first word of subjects where none is said.
pub(crate) fn prefix() -> String {
    "skerry".to_owned()
}

/// The files, borrowed.
pub(crate) fn files<'a>(
    ca: &'a Option<PathBuf>,
    certificate: &'a Option<PathBuf>,
    key: &'a Option<PathBuf>,
) -> [Option<&'a Path>; 3] {
    [ca, certificate, key].map(Option::as_deref)
}

impl Place<'_> {
    /// Checks what types cannot; `at` is the key that all of it stands under.
    ///
    /// # Errors
    ///
    /// The first key that is wrong; and any server at all, in a binary that speaks no NATS.
    pub(crate) fn check(&self, at: &str) -> anyhow::Result<()> {
        anyhow::ensure!(!self.servers.is_empty(), "{at}.nats names no server");
        let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        anyhow::ensure!(
            // It is a name on the bus, which begins with a letter or digit and has at most 31 bytes.
            (1..=31).contains(&self.prefix.len())
                && self.prefix.bytes().all(word)
                && !self.prefix.starts_with('-'),
            "{at}.prefix has 1 to 31 small letters, digits or hyphens and begins with none of these last, {:?} is none",
            self.prefix
        );
        let count = self.files.iter().flatten().count();
        anyhow::ensure!(count == 0 || count == 3, "{at}.ca, {at}.certificate and {at}.key go together");
        for server in self.servers.iter().filter(|_| count == 0) {
            anyhow::ensure!(
                is_loopback(server),
                "{at}.nats: {server} lies beyond the loopback: {at}.ca, {at}.certificate and {at}.key are needed"
            );
        }
        built_for(at)
    }

    /// For connecting.
    ///
    /// # Errors
    ///
    /// A prefix that [`check`](Self::check) refuses.
    #[cfg(feature = "cluster")]
    pub(crate) fn options(&self, replicas: u32) -> anyhow::Result<skerry_nats::NatsOptions> {
        use skerry_nats::{NatsOptions, NatsTls};

        let tls = match self.files {
            [Some(authority), Some(certificate), Some(key)] => Some(NatsTls {
                authority: authority.to_owned(),
                certificate: certificate.to_owned(),
                key: key.to_owned(),
            }),
            _ => None,
        };
        Ok(NatsOptions {
            servers: self.servers.to_vec(),
            prefix: skerry_bus::Name::new(self.prefix)?,
            replicas: usize::try_from(replicas)?,
            tls,
        })
    }
}

#[cfg(feature = "cluster")]
#[expect(clippy::unnecessary_wraps, reason = "as without the feature")]
const fn built_for(_at: &str) -> anyhow::Result<()> {
    Ok(())
}

#[cfg(not(feature = "cluster"))]
fn built_for(at: &str) -> anyhow::Result<()> {
    anyhow::bail!("{at}.nats is a NATS server: {}", crate::stores::LEAN)
}

/// Whether an address is on this machine.
fn is_loopback(server: &str) -> bool {
    let host = server.rsplit("://").next().unwrap_or(server);
    ["127.0.0.1", "localhost", "[::1]"]
        .iter()
        .any(|own| host.strip_prefix(own).is_some_and(|rest| rest.is_empty() || rest.starts_with(':')))
}
