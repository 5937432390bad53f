//! A process of a bank, with its data folder and its log; it ends with the test.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use skerry_client::Client;

use super::client;
use crate::common::{announced, until};

/// Lines of its log that a failed test shows.
const TAIL: usize = 80;

pub(crate) struct Process {
    child: Child,
    pub(crate) data: PathBuf,
    log: PathBuf,
}

impl Process {
    /// Starts `command`, called `what`, on the folder `data`, and waits until it has announced itself there.
    pub(crate) fn start(mut command: Command, what: &str, data: PathBuf) -> Self {
        let _stale = std::fs::remove_file(data.join("running.json"));
        let log = data.with_extension("log");
        let file = std::fs::File::options().create(true).append(true).open(&log).unwrap();
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        let mut process = Self { child: command.spawn().unwrap(), data, log };
        until(&format!("{what} is there"), || {
            assert!(process.child.try_wait().unwrap().is_none(), "{what} ended: {}", process.log());
            announced(&process.data.join("running.json"))
        });
        process
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Where it serves.
    pub(crate) fn server(&self) -> String {
        announced(&self.data.join("running.json")).unwrap()
    }

    /// Its operator.
    pub(crate) fn client(&self) -> Client {
        client(&self.data).unwrap()
    }

    pub(crate) fn signal(&self, signal: &str) {
        let done = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(done.success());
    }

    /// kill -9.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn stop(mut self) {
        self.signal("-TERM");
        self.ended();
    }

    /// Waits until it has ended in order.
    pub(crate) fn ended(&mut self) {
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}: {}", self.log());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let tail = &lines[lines.len().saturating_sub(TAIL)..];
            eprintln!("-- the end of {}:\n{}", self.log.display(), tail.join("\n"));
        }
        let _dead = self.child.kill();
        let _reaped = self.child.wait();
    }
}
