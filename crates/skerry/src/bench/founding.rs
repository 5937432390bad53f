//! A branch in this process, founded and with money in its accounts: what `bench engine` measures without HTTP.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use skerry_book::command::{OpenAccount, OpenBranch, OpenCustomer};
use skerry_book::event::Terms;
use skerry_book::{Command, Seed};
use skerry_branch::api::{Actor, Body, Cause, GatewayKey, Principal, Reply, Request, Role, Scope};
use skerry_branch::keys::SlotKeys;
use skerry_branch::{BranchHandle, BranchThread, Condition, Options, Parts};
use skerry_journal::{LocalOptions, LocalStore, RealStorage, Storage};
use skerry_ledger::UNLIMITED;
use skerry_money::{Currency, Date};
use skerry_proof::Ed25519Signer;

use super::random::{Random, now_millis};

/// The branch of the engine.
pub(super) const BRANCH: u16 = 1;
/// Commands under way while accounts are opened.
const WINDOW: usize = 256;
/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Secrets of a bank that lives for a minute and holds nobody's money.
fn seed() -> Seed {
    Seed::new([1; 32])
}

fn gateway() -> GatewayKey {
    GatewayKey::new([2; 32])
}

pub(super) fn operator() -> Actor {
    let principal = Principal::new("bench").expect("the name is short");
    Actor { principal, role: Role::Operator, request: [0; 16], approver: None, cause: Cause::Request }
}

pub(super) fn renminbi() -> Currency {
    Currency::from_alpha("CNY").expect("the renminbi is in ISO 4217")
}

/// The commands that found a branch and open `accounts`, in order.
pub(super) fn commands(accounts: u32) -> impl Iterator<Item = Command> {
    let today = i32::try_from(now_millis() / 86_400_000).unwrap_or(i32::MAX);
    let terms = Terms {
        institution: *b"bench\0\0\0\0\0\0\0\0\0\0\0",
        currencies: vec![renminbi()],
        offset_minutes: 0,
        cutoff_minutes: 0,
        capacity: 5_000_000,
    };
    let found = Command::OpenBranch(OpenBranch { terms, date: Date(today) });
    std::iter::once(found).chain((1..=accounts).flat_map(|number| [customer(number), account(number)]))
}

fn customer(number: u32) -> Command {
    let mut document = [0; 32];
    document[..4].copy_from_slice(&number.to_le_bytes());
    let sealed = Box::from(*b"sealed");
    Command::OpenCustomer(OpenCustomer {
        document,
        key_ref: u64::from(number),
        line: 0,
        opened: None,
        sealed,
    })
}

fn account(customer: u32) -> Command {
    Command::OpenAccount(OpenAccount {
        customer,
        product: 1,
        currency: renminbi(),
        opened: None,
        floor: 0,
        daily_limit: UNLIMITED,
    })
}

/// A branch on threads, journaling to a folder on disk.
pub(super) struct Engine {
    thread: BranchThread,
    handle: BranchHandle,
    answers: (SyncSender<Reply>, Receiver<Reply>),
}

impl Engine {
    /// Opens a new branch in `folder`.
    ///
    /// # Errors
    ///
    /// It does not open.
    pub(super) fn open(folder: &Path) -> anyhow::Result<Self> {
        let storage = RealStorage::open(folder).context("could not open the engine's folder")?;
        let inside =
            |name: &str| storage.folder(name).with_context(|| format!("could not make the folder {name}"));
        let keys = SlotKeys::open(&inside("keys")?, [3; 32], Box::new(numbers()))
            .context("could not open the engine's keys")?;
        let parts = Parts {
            store: LocalStore { storage: inside("journal")?, options: LocalOptions::new(BRANCH), cold: None },
            storage: storage.clone(),
            options: Options::new(BRANCH, "bench", seed(), gateway()),
            signer: Arc::new(Ed25519Signer::from_seed(&[4; 32])),
            keys: Arc::new(keys),
            ticks: ticks(),
        };
        let mut numbers = numbers();
        let entropy = Box::new(move |bytes: &mut [u8; 32]| numbers(bytes));
        let thread =
            BranchThread::spawn_local(parts, entropy).context("could not start the engine's branch")?;
        let handle = thread.handle();
        if let Condition::Sick(reason) = handle.condition() {
            bail!("the engine's branch did not open: {reason}");
        }
        Ok(Self { thread, handle, answers: sync_channel(1 << 16) })
    }

    /// Founds it, opens `accounts` and waits for all answers.
    ///
    /// # Errors
    ///
    /// The first command that was refused.
    pub(super) fn found(&self, accounts: u32) -> anyhow::Result<()> {
        let mut waiting = 0;
        for (index, command) in commands(accounts).enumerate() {
            self.submit(Body::Command { command: Box::new(command), key: None })?;
            waiting += 1;
            // An account's customer must be open before it is decided; order is kept, so only the first must wait.
            let window = if index == 0 { 0 } else { WINDOW };
            while waiting > window {
                self.command_answer()?;
                waiting -= 1;
            }
        }
        for _ in 0..waiting {
            self.command_answer()?;
        }
        Ok(())
    }

    fn command_answer(&self) -> anyhow::Result<()> {
        match self.answer()? {
            Reply::Command(Ok(_)) => Ok(()),
            other => bail!("the engine's branch refused a command: {other:?}"),
        }
    }

    /// Sends packed transfers; their answer comes by [`accepted`](Self::accepted).
    ///
    /// # Errors
    ///
    /// A branch that stays busy.
    pub(super) fn send(&self, packed: Bytes) -> anyhow::Result<()> {
        self.submit(Body::Packed(packed))
    }

    /// How many transfers of the next answered request were accepted.
    ///
    /// # Errors
    ///
    /// An answer that is not to packed transfers, or none in time.
    pub(super) fn accepted(&self) -> anyhow::Result<u64> {
        match self.answer()? {
            Reply::Packed(packed) => Ok(u64::from(packed.accepted)),
            other => bail!("the engine's branch answered a batch with {other:?}"),
        }
    }

    fn answer(&self) -> anyhow::Result<Reply> {
        self.answers.1.recv_timeout(PATIENCE).context("the engine's branch does not answer")
    }

    fn submit(&self, body: Body) -> anyhow::Result<()> {
        let (actor, scope) = (operator(), Scope::default());
        let answers = self.answers.0.clone();
        let reply = Box::new(move |reply| {
            // The engine waits for every answer, so the other end is there.
            let _sent = answers.send(reply);
        });
        let mac = gateway().authenticate(&actor, scope, 0);
        let busy = self.handle.submit(Request { actor, scope, deadline_us: 0, mac, body, reply });
        busy.context("the engine's branch is busy with less than it can hold")
    }

    /// Closes the branch.
    pub(super) fn close(self) {
        self.thread.close();
    }
}

/// Numbers in the place of entropy: nothing here must stay secret.
fn numbers() -> impl FnMut(&mut [u8]) + Send {
    let mut random = Random::new(now_millis());
    move |bytes| bytes.fill_with(|| random.next().to_le_bytes()[0])
}

fn ticks() -> Box<dyn Fn() -> u64 + Send> {
    let begun = Instant::now();
    Box::new(move || u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX))
}

/// Checks that a whole number of transfers was accepted.
pub(super) fn all_accepted(accepted: u64, asked: u64) -> anyhow::Result<()> {
    ensure!(accepted == asked, "the engine accepted {accepted} of {asked} transfers");
    Ok(())
}
