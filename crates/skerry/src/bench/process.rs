//! A process of this very program, started for a measurement and ended with it; and the folder that it lives in.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

/// How long a process may take to be ready, and to end after it was asked to.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

/// How a process ends before it is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// As an operator stops it.
    Stop,
    /// As a crash does.
    Kill,
}

/// A process; killed when dropped.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    arguments: Vec<OsString>,
    log: PathBuf,
}

impl Process {
    /// Starts this program with `arguments`; what it says goes to `log`, after what is there.
    ///
    /// # Errors
    ///
    /// It does not start, or the log cannot be written.
    pub(super) fn start(arguments: Vec<OsString>, log: PathBuf) -> anyhow::Result<Self> {
        let said = std::fs::File::options().create(true).append(true).open(&log);
        let said = said.with_context(|| format!("could not make {}", log.display()))?;
        let program = std::env::current_exe().context("could not find this program")?;
        let child = Command::new(program)
            .args(&arguments)
            .stdin(Stdio::null())
            .stdout(said.try_clone().context("could not share the log")?)
            .stderr(said)
            .spawn()
            .context("could not start this program")?;
        Ok(Self { child, arguments, log })
    }

    /// Starts it again as it was, once it has ended.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub(super) fn begin_again(&mut self) -> anyhow::Result<()> {
        *self = Self::start(std::mem::take(&mut self.arguments), std::mem::take(&mut self.log))?;
        Ok(())
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Fails if it has ended, with the last that it said.
    ///
    /// # Errors
    ///
    /// It has ended.
    pub(super) fn still_runs(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait().context("could not look after a process")? {
            Some(status) => bail!("a process ended with {status}: {}", self.last_words()),
            None => Ok(()),
        }
    }

    /// Sends it a signal.
    ///
    /// # Errors
    ///
    /// It is gone.
    pub(super) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        kill_process(Pid::from_child(&self.child), signal)
            .with_context(|| format!("could not send {signal:?} to a process of ours"))
    }

    /// Ends it, and waits until it has.
    ///
    /// # Errors
    ///
    /// It does not end in time, or not well although it was asked to.
    pub(super) async fn end(&mut self, ending: Ending) -> anyhow::Result<()> {
        if ending == Ending::Kill {
            self.child.kill().context("could not kill a process of ours")?;
            self.child.wait().context("could not wait for a process of ours")?;
            return Ok(());
        }
        self.signal(Signal::TERM)?;
        let asked = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().context("could not wait for a process of ours")? {
                ensure!(status.success(), "a process ended with {status}: {}", self.last_words());
                return Ok(());
            }
            ensure!(asked.elapsed() < PATIENCE, "a process does not stop: {}", self.last_words());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(super) fn last_words(&self) -> String {
        let said = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = said.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" / ")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // After a good end both say "no such thing"; after a bad one this is the best that is left to do.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// A folder that no other run has; removed when dropped, unless it is to be kept.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    keep: bool,
}

impl Folder {
    /// Makes one under `parent`.
    ///
    /// # Errors
    ///
    /// It cannot be made.
    pub(super) fn new(parent: &Path, name: &str, keep: bool) -> anyhow::Result<Self> {
        let process = std::process::id();
        for number in 0..1_000 {
            let path = parent.join(format!("{name}-{process}-{number}"));
            match std::fs::create_dir(&path) {
                Ok(()) => {
                    let path =
                        path.canonicalize().with_context(|| format!("could not find {}", path.display()))?;
                    return Ok(Self { path, keep });
                }
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => (),
                Err(error) => {
                    return Err(error).with_context(|| format!("could not make {}", path.display()));
                }
            }
        }
        bail!("{} is full of folders of earlier runs", parent.display())
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.keep {
            eprintln!("kept {}", self.path.display());
        } else {
            let _removed = std::fs::remove_dir_all(&self.path);
        }
    }
}
