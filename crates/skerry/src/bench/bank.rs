//! The bank that is measured: one of our own, started for the run and removed after it, or one that runs already.

use std::ffi::OsString;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use skerry_client::{Client, Options};

use super::lane::Lane;
use super::machine::{Usage, usage};
pub(super) use super::process::Ending;
use super::process::{Folder, PATIENCE, Process};

/// Between two questions whether it is ready.
const POLL: Duration = Duration::from_millis(5);
/// Its configuration, within the folder that is made for it.
const CONFIGURATION: &str = "skerry.toml";

/// A bank to measure.
#[derive(Debug)]
pub(super) struct Bank {
    /// `host:port`.
    pub(super) authority: String,
    pub(super) token: String,
    /// Its process, if it is of this machine and we know it.
    pub(super) process: Option<u32>,
    /// Its data folder, likewise.
    pub(super) data: Option<PathBuf>,
    own: Option<Own>,
}

/// A bank of our own. What is dropped first is the process, then what it lived in.
#[derive(Debug)]
struct Own {
    process: Process,
    /// It goes with the bank.
    home: Option<Folder>,
}

impl Bank {
    /// Starts this very program as a bank of `branches` in a new folder under `folder`.
    ///
    /// # Errors
    ///
    /// It does not come up; the error ends with the last it said.
    pub(super) async fn start(folder: &Path, branches: u16, keep: bool) -> anyhow::Result<Self> {
        Self::start_with(folder, branches, keep, None).await
    }

    /// The same, with the text of its `skerry.toml`.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub(super) async fn start_with(
        folder: &Path,
        branches: u16,
        keep: bool,
        configuration: Option<&str>,
    ) -> anyhow::Result<Self> {
        let folder = Folder::new(folder, "skerry-bench-bank", keep)?;
        // Always there, so that a file in the working folder is never taken for ours.
        let config = folder.path().join(CONFIGURATION);
        std::fs::write(&config, configuration.unwrap_or_default())
            .context("could not write the bank's configuration")?;
        let data = folder.path().join("data");
        let what = ["up".into(), "--branches".into(), branches.to_string().into()];
        let log = folder.path().join("bank.log");
        let mut bank = Self::serve(what.into(), &config, data, log).await?;
        if let Some(own) = &mut bank.own {
            own.home = Some(folder);
        }
        Ok(bank)
    }

    /// Starts this very program as `what` serves HTTP, with a data folder of its own, on a port that is free.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub(super) async fn serve(
        mut what: Vec<OsString>,
        config: &Path,
        data: PathBuf,
        log: PathBuf,
    ) -> anyhow::Result<Self> {
        let authority = format!("127.0.0.1:{}", free_port()?);
        let more: [(&str, OsString); 4] = [
            ("--config", config.into()),
            ("--data", data.clone().into()),
            ("--listen", authority.clone().into()),
            ("--log", "warn".into()),
        ];
        what.extend(more.into_iter().flat_map(|(option, value)| [option.into(), value]));
        let mut process = Process::start(what, log)?;
        wait_until_ready(&mut process, &authority).await?;
        let token = read_token(&data.join(crate::folder::TOKEN_FILE))?;
        let id = process.id();
        let own = Some(Own { process, home: None });
        Ok(Self { authority, token, process: Some(id), data: Some(data), own })
    }

    /// Ends a bank of our own and starts it again on the same data and address. Says how long it took to be ready; `between` runs
    /// while it is down.
    ///
    /// # Errors
    ///
    /// A bank that is not ours, or as [`start`](Self::start) and [`stop`](Self::stop).
    pub(super) async fn restart(
        &mut self,
        ending: Ending,
        between: impl FnOnce() -> anyhow::Result<()>,
    ) -> anyhow::Result<Duration> {
        let own = self.own.as_mut().context("only a bank of our own can be restarted")?;
        own.process.end(ending).await?;
        between()?;
        let started = Instant::now();
        own.process.begin_again()?;
        self.process = Some(own.process.id());
        wait_until_ready(&mut own.process, &self.authority).await?;
        Ok(started.elapsed())
    }

    /// The process of a bank of our own.
    ///
    /// # Errors
    ///
    /// It is not ours.
    pub(super) fn own_process(&self) -> anyhow::Result<&Process> {
        self.own.as_ref().map(|own| &own.process).context("this needs a bank of our own")
    }

    /// Speaks to the bank at `server`. With its `data` folder, disk and process are measured too.
    ///
    /// # Errors
    ///
    /// An address that is not plain HTTP, a token that cannot be read.
    pub(super) fn attach(server: &str, token_file: &Path, data: Option<&Path>) -> anyhow::Result<Self> {
        let authority = server.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
        let authority =
            authority.context("the load is sent over plain HTTP: name the bank as http://host:port")?;
        let running = data.and_then(crate::folder::running);
        Ok(Self {
            authority: authority.to_owned(),
            token: read_token(token_file)?,
            process: running.map(|running| running.process),
            data: data.map(Path::to_owned),
            own: None,
        })
    }

    /// A client for the calls that are not part of the load.
    pub(super) fn client(&self) -> anyhow::Result<Client> {
        let options = Options {
            server: format!("http://{}", self.authority),
            token: Some(self.token.clone()),
            ..Options::default()
        };
        Ok(Client::new(options)?)
    }

    /// What its process took so far; `None` if it is not of this machine.
    pub(super) fn usage(&self) -> Option<Usage> {
        self.process.and_then(usage)
    }

    /// CPU seconds that it and this process took so far.
    pub(super) fn cpu_seconds_with_ours(&self) -> f64 {
        let own = usage(std::process::id()).unwrap_or_default().cpu_seconds;
        own + self.usage().unwrap_or_default().cpu_seconds
    }

    /// Stops a bank of our own as an operator would, and removes its folder.
    ///
    /// # Errors
    ///
    /// It did not end in time or not well.
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        self.stopped(|| ()).await
    }

    /// Stops a bank of our own, and does `work` on its folder before it is removed.
    ///
    /// # Errors
    ///
    /// As [`stop`](Self::stop).
    pub(super) async fn stopped<T>(mut self, work: impl FnOnce() -> T) -> anyhow::Result<T> {
        if let Some(own) = &mut self.own {
            own.process.end(Ending::Stop).await?;
        }
        Ok(work())
    }
}

/// Asks whoever listens at `authority` until it is ready.
async fn wait_until_ready(process: &mut Process, authority: &str) -> anyhow::Result<()> {
    let started = Instant::now();
    let request = format!("GET /readyz HTTP/1.1\r\nhost: {authority}\r\n\r\n");
    loop {
        process.still_runs()?;
        if let Ok(mut lane) = Lane::open(authority).await
            && lane.exchange(request.as_bytes(), b"").await.is_ok_and(|answer| answer.status == 200)
        {
            return Ok(());
        }
        ensure!(started.elapsed() < PATIENCE, "the bank is not ready: {}", process.last_words());
        tokio::time::sleep(POLL).await;
    }
}

/// A port that was free a moment ago.
fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("could not find a free port")?;
    Ok(listener.local_addr().context("could not read the free port")?.port())
}

fn read_token(path: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("could not read the token {}", path.display()))?;
    Ok(text.trim().to_owned())
}
