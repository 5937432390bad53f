//! What is pressed: a bank in one process, ours or not, or one of ours in several.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::Signal;

use super::super::bank::{Bank, Ending};
use super::super::lane::Lane;
use super::super::nodes::Nodes;
use super::chaos::Chaos;
use super::{BankArgs, branch_folders};

/// How long a process is paused: longer than a lease.
const PAUSE: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub(super) enum Pressed {
    One(Bank),
    Many(Nodes),
}

/// What a blow has left to be mended.
#[derive(Debug)]
pub(super) enum Wound {
    None,
    /// A node is gone.
    Lost(usize),
    /// A node was away and finds its place again.
    Unsettled,
}

impl Pressed {
    /// Starts it, or finds it.
    ///
    /// # Errors
    ///
    /// It does not come up.
    pub(super) async fn start(args: &BankArgs) -> anyhow::Result<Self> {
        Ok(match (&args.server, &args.token_file, args.nodes, &args.config) {
            (Some(server), Some(token), ..) => Self::One(Bank::attach(server, token, None)?),
            (_, _, Some(nodes), Some(config)) => {
                Self::Many(Nodes::start(&args.folder, (nodes, args.branches), config, args.keep).await?)
            }
            _ => Self::One(Bank::start(&args.folder, args.branches, args.keep).await?),
        })
    }

    /// Whom clients speak to.
    pub(super) const fn face(&self) -> &Bank {
        match self {
            Self::One(bank) => bank,
            Self::Many(nodes) => &nodes.gateway,
        }
    }

    /// Lets `what` happen. It may answer again afterwards.
    ///
    /// # Errors
    ///
    /// It does not come up again, or nobody takes a lost node's branches.
    pub(super) async fn strike(&mut self, what: Chaos) -> anyhow::Result<Wound> {
        let ending = match what {
            Chaos::Kill | Chaos::Gateway => Ending::Kill,
            Chaos::Restart | Chaos::Pause | Chaos::Move | Chaos::Gather => Ending::Stop,
        };
        match (self, what) {
            (Self::One(_), Chaos::Gateway | Chaos::Move | Chaos::Gather) => {
                bail!("only a bank of several processes has a gateway, and nodes to move to: --nodes")
            }
            (Self::Many(nodes), Chaos::Move) => {
                nodes.move_one().await?;
                return Ok(Wound::Unsettled);
            }
            (Self::Many(nodes), Chaos::Gather) => {
                nodes.gather().await?;
                return Ok(Wound::Unsettled);
            }
            (Self::One(bank), Chaos::Pause) => pause(bank).await?,
            (Self::One(bank), _) => drop(bank.restart(ending, || Ok(())).await?),
            (Self::Many(nodes), Chaos::Gateway) => drop(nodes.gateway.restart(ending, || Ok(())).await?),
            (Self::Many(nodes), Chaos::Pause) => {
                nodes.pause(PAUSE).await?;
                return Ok(Wound::Unsettled);
            }
            (Self::Many(nodes), _) => return Ok(Wound::Lost(nodes.lose(ending).await?)),
        }
        Ok(Wound::None)
    }

    /// Makes it whole again, for the next blow.
    ///
    /// # Errors
    ///
    /// It does not become whole.
    pub(super) async fn mend(&mut self, wound: Wound) -> anyhow::Result<()> {
        let Self::Many(nodes) = self else { return Ok(()) };
        match wound {
            Wound::None => return Ok(()),
            Wound::Lost(node) => nodes.mend(node)?,
            Wound::Unsettled => {}
        }
        nodes.until_settled().await
    }

    /// Ends a bank of our own, does `work` on its journals, and removes it. Nothing if it is not ours.
    ///
    /// # Errors
    ///
    /// It does not end well.
    pub(super) async fn ended<T>(
        self,
        work: impl FnOnce(&[PathBuf]) -> anyhow::Result<T>,
    ) -> anyhow::Result<Option<anyhow::Result<T>>> {
        Ok(match self {
            Self::Many(nodes) => Some(nodes.stopped(work).await?),
            Self::One(bank) => match bank.data.clone() {
                Some(data) => Some(bank.stopped(|| work(&branch_folders(&data)?)).await?),
                None => None,
            },
        })
    }
}

async fn pause(bank: &Bank) -> anyhow::Result<()> {
    let process = bank.own_process()?;
    process.signal(Signal::STOP)?;
    tokio::time::sleep(PAUSE).await;
    process.signal(Signal::CONT)?;
    let request = format!("GET /healthz HTTP/1.1\r\nhost: {}\r\n\r\n", bank.authority);
    let mut lane = Lane::open(&bank.authority).await?;
    lane.exchange(request.as_bytes(), b"").await.context("the bank does not answer after its pause")?;
    Ok(())
}
