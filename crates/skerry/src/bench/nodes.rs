//! A bank of our own in several processes: nodes that host its branches over the stores and the bus that a configuration names, and
//! a gateway in front of them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use hyper::Method;
use rustix::process::Signal;
use serde_json::{Value, json};
use skerry_client::Client;

use super::bank::{Bank, Ending};
use super::machine::{Usage, usage};
use super::process::{Folder, PATIENCE, Process};

/// Between two looks at the directory.
const POLL: Duration = Duration::from_millis(20);

/// The bank. Processes go before the folder that they live in.
#[derive(Debug)]
pub(super) struct Nodes {
    pub(super) gateway: Bank,
    nodes: Vec<Node>,
    branches: u16,
    config: PathBuf,
    /// The node whose turn it is.
    turn: usize,
    folder: Folder,
}

#[derive(Debug)]
struct Node {
    name: String,
    data: PathBuf,
    process: Process,
}

fn argument(text: impl Into<OsString>) -> OsString {
    text.into()
}

impl Nodes {
    /// Founds a bank of `branches` with the configuration in `config`, and starts `count` nodes and a gateway.
    ///
    /// # Errors
    ///
    /// What the stores or the bus lack; a process that does not come up. The error ends with the last it said.
    pub(super) async fn start(
        parent: &Path,
        (count, branches): (u16, u16),
        config: &Path,
        keep: bool,
    ) -> anyhow::Result<Self> {
        let folder = Folder::new(parent, "skerry-bench-nodes", keep)?;
        let config = config.canonicalize().with_context(|| format!("could not find {}", config.display()))?;
        let names: Vec<String> = (1..=count).map(|number| format!("n{number}")).collect();
        found(folder.path(), &config, branches, &names)?;
        let mut nodes = Vec::new();
        for name in names {
            let data = folder.path().join(&name);
            let log = data.with_extension("log");
            let arguments = [
                argument("node"),
                argument("--name"),
                argument(&name),
                argument("--config"),
                argument(&config),
                argument("--data"),
                argument(&data),
                argument("--log"),
                argument("warn"),
            ];
            nodes.push(Node { process: Process::start(arguments.into(), log)?, name, data });
        }
        let what = ["gateway", "--name", "g"].map(argument);
        let (data, log) = (folder.path().join("g"), folder.path().join("g.log"));
        let mut gateway = Bank::serve(what.into(), &config, data, log).await?;
        // The journals lie in the stores: its folder says nothing of them.
        gateway.data = None;
        let mut all = Self { gateway, nodes, branches, config, turn: 0, folder };
        all.until_settled().await?;
        Ok(all)
    }

    /// The node whose turn it is; the next time another one.
    fn next(&mut self) -> usize {
        self.turn += 1;
        (self.turn - 1) % self.nodes.len()
    }

    /// Ends a node, and waits until the others have its branches. Gives its place back, for [`mend`](Self::mend).
    ///
    /// # Errors
    ///
    /// It does not end, or nobody takes its branches.
    pub(super) async fn lose(&mut self, ending: Ending) -> anyhow::Result<usize> {
        let lost = self.next();
        self.nodes[lost].process.end(ending).await?;
        self.until_without(lost).await?;
        Ok(lost)
    }

    /// Lets a node stand still for `pause`, and waits until the others have its branches.
    ///
    /// # Errors
    ///
    /// As [`lose`](Self::lose).
    pub(super) async fn pause(&mut self, pause: Duration) -> anyhow::Result<()> {
        let lost = self.next();
        self.nodes[lost].process.signal(Signal::STOP)?;
        tokio::time::sleep(pause).await;
        let found = self.until_without(lost).await;
        self.nodes[lost].process.signal(Signal::CONT)?;
        found
    }

    /// Starts a node that was lost again.
    ///
    /// # Errors
    ///
    /// It does not start.
    pub(super) fn mend(&mut self, lost: usize) -> anyhow::Result<()> {
        self.nodes[lost].process.begin_again()
    }

    /// Moves the branch whose turn it is to the node after its own, and lets it be anywhere again.
    ///
    /// # Errors
    ///
    /// The bank refuses, or the branch does not come there.
    pub(super) async fn move_one(&mut self) -> anyhow::Result<()> {
        let (client, began) = (self.gateway.client()?, Instant::now());
        let branch = 1 + self.turn as u64 % u64::from(self.branches);
        self.turn += 1;
        let host = async || hosts(&client.get("/v1/directory").await.unwrap_or_default()).remove(&branch);
        let from = host().await.context("the branch is open nowhere")?;
        let at = self.nodes.iter().position(|node| node.name == from).context("the host is none of ours")?;
        let to = self.nodes[(at + 1) % self.nodes.len()].name.clone();
        steer(&client, branch, json!(to)).await?;
        while host().await.as_ref() != Some(&to) {
            ensure!(
                began.elapsed() < PATIENCE,
                "branch {branch} does not come to {to}: {}",
                self.last_words()
            );
            tokio::time::sleep(POLL).await;
        }
        steer(&client, branch, Value::Null).await
    }

    /// Moves all branches to the node whose turn it is, and lets them be anywhere again: they scatter.
    ///
    /// # Errors
    ///
    /// As [`move_one`](Self::move_one).
    pub(super) async fn gather(&mut self) -> anyhow::Result<()> {
        let (client, to) = (self.gateway.client()?, self.next());
        let to = self.nodes[to].name.clone();
        for branch in 1..=u64::from(self.branches) {
            steer(&client, branch, json!(to)).await?;
        }
        self.until(&[to], false).await?;
        for branch in 1..=u64::from(self.branches) {
            steer(&client, branch, Value::Null).await?;
        }
        Ok(())
    }

    async fn until_without(&mut self, lost: usize) -> anyhow::Result<()> {
        let rest = self.nodes.iter().enumerate().filter(|(index, _)| *index != lost);
        let rest: Vec<String> = rest.map(|(_, node)| node.name.clone()).collect();
        self.until(&rest, false).await
    }

    /// Waits until all branches are open and every node has some of them, if there are enough.
    ///
    /// # Errors
    ///
    /// A node has ended by itself, or it takes too long.
    pub(super) async fn until_settled(&mut self) -> anyhow::Result<()> {
        for node in &mut self.nodes {
            node.process.still_runs()?;
        }
        let all: Vec<String> = self.nodes.iter().map(|node| node.name.clone()).collect();
        self.until(&all, true).await
    }

    async fn until(&self, names: &[String], evenly: bool) -> anyhow::Result<()> {
        let (client, began) = (self.gateway.client()?, Instant::now());
        loop {
            // While branches are on their way the bank may say so instead of an answer.
            let found = async {
                let open = client.branches().await.ok()?;
                let open = open.branches.iter().filter(|branch| branch.state == "open").count();
                let hosts = hosts(&client.get("/v1/directory").await.ok()?);
                (open == usize::from(self.branches)).then_some(hosts)
            };
            let hosts = found.await.unwrap_or_default();
            let least = if evenly { usize::from(self.branches) / self.nodes.len() } else { 0 };
            let shares = |name: &String| hosts.values().filter(|host| *host == name).count() >= least;
            let all = hosts.len() == usize::from(self.branches);
            if all && hosts.values().all(|host| names.contains(host)) && names.iter().all(shares) {
                return Ok(());
            }
            ensure!(
                began.elapsed() < PATIENCE,
                "after {PATIENCE:?} the branches are not open on {names:?}: {hosts:?}; {}",
                self.last_words()
            );
            tokio::time::sleep(POLL).await;
        }
    }

    fn last_words(&self) -> String {
        let said = self.nodes.iter().map(|node| format!("{}: {}", node.name, node.process.last_words()));
        said.collect::<Vec<_>>().join("; ")
    }

    /// What all its processes took so far.
    pub(super) fn usage(&self) -> Option<Usage> {
        let nodes = self.nodes.iter().map(|node| usage(node.process.id()));
        nodes.chain([self.gateway.usage()]).sum()
    }

    /// Stops all of it as an operator would.
    ///
    /// # Errors
    ///
    /// A process does not end well.
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        self.gateway.stop().await?;
        for mut node in self.nodes {
            node.process.end(Ending::Stop).await?;
        }
        Ok(())
    }

    /// Stops all of it as an operator would, and does `work` on each branch's journal, copied out of its store.
    ///
    /// # Errors
    ///
    /// A process does not end well; a journal cannot be copied.
    pub(super) async fn stopped<T>(mut self, work: impl FnOnce(&[PathBuf]) -> T) -> anyhow::Result<T> {
        self.gateway.stop().await?;
        for node in &mut self.nodes {
            node.process.end(Ending::Stop).await?;
        }
        // Any machine of the bank knows where the journals are.
        let data = &self.nodes.first().context("there is no node")?.data;
        let copies = (1..=self.branches).map(|branch| {
            let out = self.folder.path().join(format!("journal-{branch}"));
            let export = ["branch".into(), "export".into(), branch.to_string().into()].into_iter();
            run(export.chain([argument("--out"), argument(&out)]).collect(), &self.config, data)?;
            Ok(out)
        });
        let copies: Vec<PathBuf> = copies.collect::<anyhow::Result<_>>()?;
        Ok(work(&copies))
    }
}

/// Founds the bank in the first node's folder and makes the others' folders those of its other machines.
fn found(folder: &Path, config: &Path, branches: u16, names: &[String]) -> anyhow::Result<()> {
    let first = folder.join(&names[0]);
    let identity = folder.join("bank.identity");
    let new = ["identity".into(), "new".into(), "--branches".into(), branches.to_string().into()];
    run(new.into(), config, &first)?;
    run(["identity".into(), "export".into(), argument(&identity)].into(), config, &first)?;
    for name in names.iter().skip(1).map(String::as_str).chain(["g"]) {
        let import = ["identity".into(), "import".into(), argument(&identity)];
        run(import.into(), config, &folder.join(name))?;
    }
    Ok(())
}

/// Runs one command of this program to its end.
fn run(mut arguments: Vec<OsString>, config: &Path, data: &Path) -> anyhow::Result<()> {
    let program = std::env::current_exe().context("could not find this program")?;
    let shown = arguments.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    arguments.extend(["--config".into(), argument(config), "--data".into(), argument(data)]);
    let said = Command::new(program).args(arguments).output().context("could not start this program")?;
    ensure!(said.status.success(), "skerry {shown}: {}", String::from_utf8_lossy(&said.stderr).trim());
    Ok(())
}

/// Says where a branch is to be; null is anywhere.
async fn steer(client: &Client, branch: u64, node: Value) -> anyhow::Result<()> {
    let path = format!("/v1/branches/{branch}");
    client.send_json(Method::PATCH, &path, &json!({"node": node}), &[]).await?;
    Ok(())
}

/// By branch, the node that hosts it as the directory knows.
fn hosts(view: &Value) -> BTreeMap<u64, String> {
    let branches = view["branches"].as_array().map(Vec::as_slice).unwrap_or_default().iter();
    let host = |branch: &Value| Some((branch["branch"].as_u64()?, branch["host"].as_str()?.to_owned()));
    branches.filter_map(host).collect()
}
