//! `[outlet]` of the configuration: a log in NATS that all events go to, behind the feature `cluster`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use skerry_gateway::gateway::Shared;

use crate::config::range;
use crate::nats::{self, Place};

/// See docs/events.md.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Outlet {
    /// Addresses of the servers, any of which serves: `nats://host:4222`.
    pub(crate) nats: Vec<String>,
    /// The first word of every subject, and of the stream's name.
    #[serde(default = "nats::prefix")]
    pub(crate) prefix: String,
    /// Servers that keep a copy.
    #[serde(default = "replicas")]
    pub(crate) replicas: u32,
    /// Events are kept for so long.
    #[serde(default = "days_max")]
    pub(crate) days_max: u32,
    /// And as long as all of them have no more bytes than this.
    #[serde(default = "bytes_max")]
    pub(crate) bytes_max: u64,
    /// Where to begin in a log that has nothing: `now` or `beginning`.
    #[serde(default = "begin")]
    pub(crate) begin: String,
    /// PEM files for mutual TLS; needed beyond the loopback.
    pub(crate) ca: Option<PathBuf>,
    pub(crate) certificate: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
}

const fn replicas() -> u32 {
    1
}

const fn days_max() -> u32 {
    30
}

const fn bytes_max() -> u64 {
    10 << 30
}

fn begin() -> String {
    "now".to_owned()
}

impl Outlet {
    /// Checks what types cannot.
    ///
    /// # Errors
    ///
    /// The first key that is wrong.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        range("outlet.replicas", u64::from(self.replicas), 1, 5)?;
        range("outlet.days_max", u64::from(self.days_max), 1, 3_650)?;
        range("outlet.bytes_max", self.bytes_max, 1 << 20, 1 << 50)?;
        anyhow::ensure!(
            matches!(self.begin.as_str(), "now" | "beginning"),
            "outlet.begin must be \"now\" or \"beginning\", not {:?}",
            self.begin
        );
        // Last: in a binary that speaks no NATS everything else that is wrong is still named.
        self.place().check("outlet")
    }

    fn place(&self) -> Place<'_> {
        let files = nats::files(&self.ca, &self.certificate, &self.key);
        Place { servers: &self.nats, prefix: &self.prefix, files }
    }

    /// Begins to put events into it. Needs a runtime.
    ///
    /// # Errors
    ///
    /// The machine gives no thread, or a file that is not ours.
    #[cfg(feature = "cluster")]
    pub(crate) fn start(&self, gateway: &Shared) -> anyhow::Result<()> {
        use skerry_gateway::events::outlet::Begin;

        let begin = if self.begin == "now" { Begin::Now } else { Begin::Beginning };
        let log = skerry_nats::EventLog::new(self.options()?)?;
        gateway.begin_outlet(std::sync::Arc::new(Log(log)), begin)?;
        Ok(())
    }

    /// Never: [`check`](Self::check) refuses it.
    ///
    /// # Errors
    ///
    /// That this binary does not know it.
    #[cfg(not(feature = "cluster"))]
    pub(crate) fn start(&self, _gateway: &Shared) -> anyhow::Result<()> {
        self.check()
    }

    #[cfg(feature = "cluster")]
    fn options(&self) -> anyhow::Result<skerry_nats::EventLogOptions> {
        let nats = self.place().options(self.replicas)?;
        let age_max = std::time::Duration::from_secs(u64::from(self.days_max) * 86_400);
        Ok(skerry_nats::EventLogOptions { nats, age_max, bytes_max: self.bytes_max })
    }
}

/// The log as the gateway has it.
#[cfg(feature = "cluster")]
struct Log(skerry_nats::EventLog);

#[cfg(feature = "cluster")]
impl skerry_gateway::events::outlet::Outlet for Log {
    fn last(&self, branch: u16) -> Result<Option<String>, String> {
        self.0.last(&format!("{branch:04}")).map_err(|error| error.to_string())
    }

    fn put(&self, events: Vec<skerry_gateway::events::outlet::Outgoing>) -> Result<(), String> {
        let logged = |event: skerry_gateway::events::outlet::Outgoing| skerry_nats::Logged {
            lane: format!("{:04}", event.branch),
            kind: event.kind,
            place: event.place,
            body: event.body,
        };
        let logged: Vec<_> = events.into_iter().map(logged).collect();
        self.0.put(&logged).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    fn checked(text: &str) -> Result<(), String> {
        let config: Config =
            toml::from_str(&format!("[outlet]\n{text}")).map_err(|error| error.to_string())?;
        config.check().map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_wrong_with_an_outlet_names_its_key() {
        let here = "nats = [\"nats://127.0.0.1:4222\"]\n";
        for (text, part) in [
            ("nats = []".to_owned(), "outlet.nats"),
            (format!("{here}prefix = \"Bank.\""), "outlet.prefix"),
            (format!("{here}replicas = 0"), "outlet.replicas"),
            (format!("{here}days_max = 0"), "outlet.days_max"),
            (format!("{here}bytes_max = 1"), "outlet.bytes_max"),
            (format!("{here}begin = \"tomorrow\""), "outlet.begin"),
            (format!("{here}ca = \"ca.pem\""), "outlet.certificate"),
            ("nats = [\"nats://127.0.0.1.example:4222\"]".to_owned(), "loopback"),
            ("nats = [\"nats://10.1.1.1:4222\"]".to_owned(), "loopback"),
            (format!("{here}brokers = 1"), "brokers"),
        ] {
            let error = checked(&text).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
        let good = checked(here);
        assert_eq!(good.is_ok(), cfg!(feature = "cluster"), "{good:?}");
    }
}
