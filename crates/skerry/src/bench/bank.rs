//! The bank that is measured: one of our own, started for the run and removed after it, or one that runs already.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use skerry_client::{Client, Options};

use super::lane::Lane;
use super::machine::{Usage, usage};

/// How long a bank may take to answer after its start, and to end after it was asked to.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two questions whether it is ready.
const POLL: Duration = Duration::from_millis(5);
/// Its configuration, within the folder that is made for it.
const CONFIGURATION: &str = "skerry.toml";

/// How a bank ends before it is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// As an operator stops it.
    Stop,
    /// As a crash does.
    Kill,
}

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

/// A bank of our own: stopped and removed when dropped.
#[derive(Debug)]
struct Own {
    child: Child,
    folder: PathBuf,
    keep: bool,
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
        let folder = fresh_folder(folder, "skerry-bench-bank")?;
        // Always there, so that a file in the working folder is never taken for ours.
        std::fs::write(folder.join(CONFIGURATION), configuration.unwrap_or_default())
            .context("could not write the bank's configuration")?;
        Self::start_in(folder, format!("127.0.0.1:{}", free_port()?), branches, keep).await
    }

    /// Ends a bank of our own and starts it again on the same data and address. Says how long it took to be ready.
    ///
    /// # Errors
    ///
    /// A bank that is not ours, or as [`start`](Self::start) and [`stop`](Self::stop). `between` runs while it is down.
    pub(super) async fn restart(
        mut self,
        branches: u16,
        ending: Ending,
        between: impl FnOnce() -> anyhow::Result<()>,
    ) -> anyhow::Result<(Self, Duration)> {
        let mut own = self.own.take().context("only a bank of our own can be restarted")?;
        let (folder, keep) = (std::mem::take(&mut own.folder), own.keep);
        match ending {
            Ending::Stop => end(&mut own).await?,
            Ending::Kill => own.child.kill().context("could not kill the bank")?,
        }
        own.child.wait().context("could not wait for the bank")?;
        between()?;
        let started = Instant::now();
        let authority = std::mem::take(&mut self.authority);
        let bank = Self::start_in(folder, authority, branches, keep).await?;
        Ok((bank, started.elapsed()))
    }

    async fn start_in(folder: PathBuf, authority: String, branches: u16, keep: bool) -> anyhow::Result<Self> {
        let data = folder.join("data");
        let said = std::fs::File::create(folder.join("bank.log")).context("could not make the bank's log")?;
        let program = std::env::current_exe().context("could not find this program")?;
        let child = Command::new(program)
            .arg("up")
            .arg("--config")
            .arg(folder.join(CONFIGURATION))
            .arg("--data")
            .arg(&data)
            .args(["--listen", &authority, "--branches", &branches.to_string(), "--log", "warn"])
            .stdin(Stdio::null())
            .stdout(said.try_clone().context("could not share the bank's log")?)
            .stderr(said)
            .spawn()
            .context("could not start a bank")?;
        let process = child.id();
        let mut own = Own { child, folder, keep };
        own.wait_until_ready(&authority).await?;
        let token = read_token(&data.join(crate::folder::TOKEN_FILE))?;
        Ok(Self { authority, token, process: Some(process), data: Some(data), own: Some(own) })
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
            end(own).await?;
        }
        Ok(work())
    }
}

/// Asks the bank to stop, as an operator would, and waits until it has.
async fn end(own: &mut Own) -> anyhow::Result<()> {
    kill_process(Pid::from_child(&own.child), Signal::TERM).context("could not ask the bank to stop")?;
    let asked = Instant::now();
    loop {
        if let Some(status) = own.child.try_wait().context("could not wait for the bank")? {
            ensure!(status.success(), "the bank ended with {status}: {}", own.last_words());
            return Ok(());
        }
        ensure!(asked.elapsed() < PATIENCE, "the bank does not stop: {}", own.last_words());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

impl Own {
    async fn wait_until_ready(&mut self, authority: &str) -> anyhow::Result<()> {
        let started = Instant::now();
        let request = format!("GET /readyz HTTP/1.1\r\nhost: {authority}\r\n\r\n");
        loop {
            if let Some(status) = self.child.try_wait().context("could not look after the bank")? {
                bail!("the bank ended with {status} before it was ready: {}", self.last_words());
            }
            if let Ok(mut lane) = Lane::open(authority).await
                && lane.exchange(request.as_bytes(), b"").await.is_ok_and(|answer| answer.status == 200)
            {
                return Ok(());
            }
            ensure!(started.elapsed() < PATIENCE, "the bank is not ready: {}", self.last_words());
            tokio::time::sleep(POLL).await;
        }
    }

    fn last_words(&self) -> String {
        let said = std::fs::read_to_string(self.folder.join("bank.log")).unwrap_or_default();
        let lines: Vec<&str> = said.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" / ")
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // After a good end both say "no such thing"; after a bad one this is the best that is left to do.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
        if self.folder.as_os_str().is_empty() {
            // The folder has gone over to the bank that was started after this one.
        } else if self.keep {
            eprintln!("kept {}", self.folder.display());
        } else {
            let _removed = std::fs::remove_dir_all(&self.folder);
        }
    }
}

/// A new folder under `parent` that no other run has.
pub(super) fn fresh_folder(parent: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let process = std::process::id();
    for number in 0..1_000 {
        let folder = parent.join(format!("{name}-{process}-{number}"));
        match std::fs::create_dir(&folder) {
            Ok(()) => {
                return folder.canonicalize().with_context(|| format!("could not find {}", folder.display()));
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => (),
            Err(error) => return Err(error).with_context(|| format!("could not make {}", folder.display())),
        }
    }
    bail!("{} is full of folders of earlier runs", parent.display())
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
