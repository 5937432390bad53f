//! `skerry bench ledger`: accounts, then the load, then the proof that nothing was lost; in turns with the peers.
//!
//! Each turn of ours is a bank of its own on an empty folder, unless `--server` names one.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::Value;

use super::bank::Bank;
use super::disk::Disk;
use super::load::{Loaded, Mode, Plan, load};
use super::machine::{Machine, Usage, Watch, lies_in_memory, usage};
use super::nodes::Nodes;
use super::peers::postgres::Kind;
use super::peers::{Peer, PeerRun, postgres, tigerbeetle};
use super::picks::Skew;
use super::report::{DiskUse, Medians, Memory, OurRun, Payments, Report, Work, void};
use super::setup::{Wanted, check_trial_balance, open_accounts};

/// TigerBeetle with batches of one is asked for no more: it would take longer than all else together.
const PEER_SINGLES_MAX: u64 = 20_000;
/// Below so many accounts a bank's fixed buffers are most of its memory, and a figure an account says nothing.
const ACCOUNTS_MANY: u32 = 100_000;
/// How long derived files may go on growing after the load.
const SETTLE_MAX: Duration = Duration::from_secs(60);
/// How long they must stand still to count as settled.
const SETTLED: Duration = Duration::from_secs(2);

/// Load a bank and say what it takes
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct LedgerArgs {
    /// Load the bank at this address instead of starting one
    #[arg(long, value_name = "URL", requires = "token_file", conflicts_with = "branches")]
    server: Option<String>,
    /// File with a token of an operator of that bank
    #[arg(long, value_name = "FILE", requires = "server")]
    token_file: Option<PathBuf>,
    /// Data folder of that bank, to measure its disk and process too
    #[arg(long, value_name = "DIR", requires = "server")]
    data: Option<PathBuf>,
    /// Folder on the disk to measure; banks and peers are laid into it and removed
    #[arg(long, value_name = "DIR", default_value = ".", env = "SKERRY_BENCH_DIR")]
    folder: PathBuf,
    /// Customer accounts to open
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(2..))]
    accounts: u32,
    /// Accounts of each customer
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    accounts_per_customer: u32,
    /// Transfers to make
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    transfers: u64,
    /// Transfers in a packed batch
    #[arg(long, default_value_t = 8_189, value_parser = clap::value_parser!(u32).range(1..=8_189))]
    batch: u32,
    /// Connections, each with one request in flight; 4 for packed and 64 for single if left out
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: Option<u32>,
    /// Branches of the bank that is started
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=9_999))]
    branches: u16,
    /// How accounts are chosen: uniform, zipf or zipf=EXPONENT
    #[arg(long, default_value = "uniform")]
    skew: Skew,
    /// Share of transfers that hold first; as many more post the holds
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    pending: f64,
    /// Share of transfers that pay an account of another branch: each turn is one of a bank of one branch whose
    /// transfers stay at home, and one of a bank of two or more; the second ends when every payment has
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    crossing: f64,
    /// A NATS server that payments between branches go over, also within the bank's one process, instead of straight
    #[arg(long, value_name = "URL", conflicts_with = "server")]
    bus: Option<String>,
    /// Nodes of the bank that is started, with a gateway before them
    #[arg(long, requires = "config", conflicts_with_all = ["server", "bus"], value_parser = clap::value_parser!(u16).range(1..=16))]
    nodes: Option<u16>,
    /// What a bank of nodes is configured with; its database must be empty, and is left with what the run wrote
    #[arg(long, value_name = "FILE", requires = "nodes")]
    config: Option<PathBuf>,
    /// How transfers travel
    #[arg(long, value_enum, default_value_t = Mode::Packed)]
    mode: Mode,
    /// Requests a second, instead of as many as the bank takes
    #[arg(long, value_name = "PER_SECOND")]
    rate: Option<f64>,
    /// Chooses accounts and amounts
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Turns of ours, and of every peer
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// A peer to measure in turns with ours: tigerbeetle=PATH, postgres or two-phase; may be repeated
    #[arg(long, value_name = "PEER")]
    peer: Vec<Peer>,
    /// Clients of the tigerbeetle peer, if not its own default
    #[arg(long, value_name = "COUNT")]
    tigerbeetle_clients: Option<usize>,
    /// Seconds for each client count of the postgres peer
    #[arg(long, value_name = "SECONDS", default_value_t = 15)]
    postgres_seconds: u32,
    /// Client counts of the postgres peer, the best of which counts
    #[arg(long, value_name = "COUNTS", default_value = "8 16 32")]
    postgres_clients: String,
    /// Folder of the peers' scripts
    #[arg(long, value_name = "DIR", default_value = "bench/peers")]
    peers: PathBuf,
    /// Leave the folders of our banks where they are
    #[arg(long)]
    keep: bool,
}

impl LedgerArgs {
    fn connections(&self) -> usize {
        let default = if self.mode == Mode::Packed { 4 } else { 64 };
        self.connections.unwrap_or(default) as usize
    }

    /// Checks what clap cannot.
    fn check(&self) -> anyhow::Result<()> {
        ensure!(
            (0.0..=0.5).contains(&self.pending),
            "--pending lies between 0 and 0.5: each hold is posted by another"
        );
        ensure!((0.0..=1.0).contains(&self.crossing), "--crossing lies between 0 and 1");
        ensure!(
            self.crossing == 0.0 || self.server.is_none(),
            "--crossing measures banks of its own: leave out --server"
        );
        ensure!(
            self.crossing > 0.0 || !self.peer.contains(&Peer::TwoPhase),
            "the peer two-phase pays between two databases: it needs --crossing"
        );
        ensure!(
            self.crossing > 0.0 || self.bus.is_none(),
            "--bus carries payments between branches: it needs --crossing"
        );
        ensure!(self.rate.is_none_or(|rate| rate > 0.0 && rate.is_finite()), "--rate lies above 0");
        ensure!(
            self.nodes.is_none() || (self.rounds == 1 && self.crossing == 0.0),
            "--nodes takes a database that is empty: leave out --rounds and --crossing"
        );
        ensure!(
            self.server.is_none() || self.rounds == 1,
            "a running bank is loaded once: leave out --rounds"
        );
        Ok(())
    }
}

/// Runs the rounds and prints the report: JSON if `json`, else text.
///
/// # Errors
///
/// A bank or peer that failed, books that do not balance, or a run that is void (after it was printed).
pub(crate) fn run(args: LedgerArgs, json: bool) -> anyhow::Result<()> {
    args.check()?;
    let machine = Machine::here(&args.folder)?;
    let data = args.data.as_deref().unwrap_or(&args.folder);
    let in_memory = lies_in_memory(super::machine::file_system(data)?);
    let runtime = super::runtime()?;
    let (mut ours, mut at_home, mut peers, mut branches) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for round in 1..=args.rounds {
        eprintln!("round {round} of {}", args.rounds);
        if args.crossing > 0.0 {
            let home = LedgerArgs { crossing: 0.0, branches: 1, bus: None, ..args.clone() };
            at_home.push(runtime.block_on(our_turn(&home))?.0);
        }
        let (run, seen) = runtime.block_on(our_turn(&args))?;
        ours.push(run);
        branches = seen;
        for peer in &args.peer {
            peers.push(their_turn(&args, peer)?);
        }
    }
    let report = Report {
        kind: "ledger".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        machine,
        work: work(&args, branches),
        medians: Medians::of(&ours, &at_home, &peers),
        void: void(&ours, &peers, in_memory),
        ours,
        at_home,
        peers,
    };
    super::print(&report, &report.text(), json)?;
    ensure!(report.void.is_empty(), "the run is void: {}", report.void.join("; "));
    Ok(())
}

fn work(args: &LedgerArgs, branches: usize) -> Work {
    Work {
        mode: args.mode.name().to_owned(),
        accounts: args.accounts,
        accounts_per_customer: args.accounts_per_customer,
        transfers: args.transfers,
        batch: if args.mode == Mode::Packed { args.batch as usize } else { 1 },
        connections: args.connections(),
        branches,
        skew: args.skew.to_string(),
        pending_share: args.pending,
        crossing_share: args.crossing,
        bus: args.bus.clone(),
        nodes: args.nodes,
        rate: args.rate,
        seed: args.seed,
    }
}

/// A bank's configuration in which every message between branches goes over this server.
fn over_a_bus(server: &str) -> String {
    format!(
        "[bus]\nuse = \"bench\"\nstraight = false\n[buses.bench]\nnats = [{server:?}]\nprefix = \"bench\"\n"
    )
}

/// One turn of ours, and the number of branches it ran over.
async fn our_turn(args: &LedgerArgs) -> anyhow::Result<(OurRun, usize)> {
    if let (Some(nodes), Some(config)) = (args.nodes, &args.config) {
        let bank = Nodes::start(&args.folder, (nodes, args.branches), config, args.keep).await?;
        let turn = turn_of(args, &bank.gateway, &|| bank.usage()).await?;
        bank.stop().await?;
        return Ok(turn);
    }
    let bank = match (&args.server, &args.token_file) {
        (Some(server), Some(token)) => Bank::attach(server, token, args.data.as_deref())?,
        _ => {
            let configuration = args.bus.as_deref().map(over_a_bus);
            Bank::start_with(&args.folder, branches_of(args), args.keep, configuration.as_deref()).await?
        }
    };
    let turn = turn_of(args, &bank, &|| bank.usage()).await?;
    bank.stop().await?;
    Ok(turn)
}

/// The same in a bank that is there, whose processes use what `bank_usage` says.
async fn turn_of(
    args: &LedgerArgs,
    bank: &Bank,
    bank_usage: &dyn Fn() -> Option<Usage>,
) -> anyhow::Result<(OurRun, usize)> {
    let empty = bank_usage();
    let wanted = Wanted {
        accounts: args.accounts,
        accounts_per_customer: args.accounts_per_customer,
        skew: args.skew,
        pending: args.pending,
        crossing: args.crossing,
        dressed: false,
        seed: args.seed,
    };
    let fields = open_accounts(bank, wanted).await?;
    let branches = fields.len();
    settle(bank).await?;
    let opened = bank_usage();
    let disk = disk_of(bank.data.as_deref())?;
    let client = usage(std::process::id()).unwrap_or_default();
    let watch = Watch::start();
    let begun = Instant::now();
    let plan = Plan {
        mode: args.mode,
        batch: args.batch as usize,
        connections: args.connections().max(branches),
        transfers: args.transfers,
        rate: args.rate,
        seed: args.seed,
        ..Plan::of(bank, fields, args.seed)
    };
    let mut loaded = load(plan).await?;
    let payments = match args.crossing > 0.0 {
        true => Some(payments(bank, &mut loaded, begun).await?),
        false => None,
    };
    let client_cpu = usage(std::process::id()).unwrap_or_default().cpu_seconds - client.cpu_seconds;
    let server_cpu = |since: Option<Usage>| Some(bank_usage()?.cpu_seconds - since?.cpu_seconds);
    let contention = watch.contention(client_cpu + server_cpu(opened).unwrap_or(0.0));
    let resident = bank_usage().map(|usage| usage.resident_bytes);
    settle(bank).await?;
    let trial = bank.client()?.get("/v1/trial-balance").await.context("could not read the trial balance")?;
    check_trial_balance(&trial)?;
    let per_million = 1e6 / args.transfers as f64;
    let grown = match (disk, disk_of(bank.data.as_deref())?) {
        (Some(before), Some(after)) => Some(after.since(before)),
        _ => None,
    };
    let memory = match (empty, opened, resident) {
        (Some(empty), Some(opened), Some(resident_bytes_after_load)) => {
            let accounts_bytes = opened.resident_bytes.saturating_sub(empty.resident_bytes);
            let each = accounts_bytes as f64 / f64::from(args.accounts);
            let bytes_per_million_accounts = (args.accounts >= ACCOUNTS_MANY).then_some(each * 1e6);
            Some(Memory { accounts_bytes, bytes_per_million_accounts, resident_bytes_after_load })
        }
        _ => None,
    };
    let run = OurRun {
        disk: grown.map(|disk| disk_use(disk, args.transfers)),
        memory,
        server_cpu_seconds_per_million: server_cpu(opened).map(|seconds| seconds * per_million),
        client_cpu_seconds_per_million: client_cpu * per_million,
        contention,
        payments,
        ..our_run(&loaded)
    };
    Ok((run, branches))
}

/// Two at least, if payments are to cross.
fn branches_of(args: &LedgerArgs) -> u16 {
    if args.crossing > 0.0 { args.branches.max(2) } else { args.branches }
}

/// Waits until every payment between branches has ended, which then ends the run, and says what became of them.
async fn payments(bank: &Bank, loaded: &mut Loaded, started: Instant) -> anyhow::Result<Payments> {
    let client = bank.client()?;
    let since = Instant::now();
    loop {
        let mut seen = Payments::default();
        let listed: Value = client.get("/v1/branches").await.context("could not list the branches")?;
        for branch in listed["branches"].as_array().into_iter().flatten() {
            let path = format!("/v1/branches/{}/channels", branch["branch"]);
            let listed: Value = client.get(&path).await.context("could not list a branch's channels")?;
            for channel in listed["channels"].as_array().into_iter().flatten() {
                seen.add(channel);
            }
        }
        if seen.open == 0 {
            loaded.elapsed = started.elapsed();
            seen.seconds_to_the_end = loaded.elapsed.as_secs_f64();
            return Ok(seen);
        }
        ensure!(since.elapsed() < SETTLE_MAX, "{} payments have not ended after {SETTLE_MAX:?}", seen.open);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// What the client alone can tell.
fn our_run(loaded: &Loaded) -> OurRun {
    let seconds = loaded.elapsed.as_secs_f64();
    OurRun {
        transfers: loaded.asked,
        accepted: loaded.accepted,
        refused: loaded.refused.clone(),
        requests: loaded.requests,
        busy_answers: loaded.busy,
        seconds,
        transfers_per_second: loaded.accepted as f64 / seconds.max(f64::MIN_POSITIVE),
        latency_ms: loaded.latencies.summary(),
        server_cpu_seconds_per_million: None,
        client_cpu_seconds_per_million: 0.0,
        disk: None,
        memory: None,
        payments: None,
        trial_balance: "zero".to_owned(),
        durability: "every batch of the journal synced to disk before the replies that rest on it".to_owned(),
        contention: Watch::start().contention(0.0),
        counted: "transfers answered as accepted, from before the first request to after the last answer"
            .to_owned(),
    }
}

fn disk_use(grown: Disk, transfers: u64) -> DiskUse {
    let each = |bytes: u64| bytes as f64 / transfers as f64;
    DiskUse {
        journal_bytes_per_transfer: each(grown.journal.written),
        side_bytes_per_transfer: each(grown.side.written),
        total_bytes_per_transfer: each(grown.journal.written + grown.side.written),
        allocated_bytes_per_transfer: each(grown.journal.allocated + grown.side.allocated),
        snapshot_bytes: grown.snapshots.written,
    }
}

fn disk_of(data: Option<&Path>) -> anyhow::Result<Option<Disk>> {
    data.map(Disk::of).transpose()
}

/// Waits until the bank's files stand still, or long enough.
async fn settle(bank: &Bank) -> anyhow::Result<()> {
    let Some(data) = bank.data.as_deref() else { return Ok(()) };
    let started = Instant::now();
    let (mut last, mut since) = (Disk::of(data)?, Instant::now());
    while since.elapsed() < SETTLED && started.elapsed() < SETTLE_MAX {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = Disk::of(data)?;
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
    Ok(())
}

fn their_turn(args: &LedgerArgs, peer: &Peer) -> anyhow::Result<PeerRun> {
    eprintln!("the turn of {}", peer.name());
    let single = args.mode == Mode::Single;
    match peer {
        Peer::TigerBeetle(binary) => tigerbeetle::run(tigerbeetle::Work {
            binary,
            folder: &args.folder,
            transfers: if single { args.transfers.min(PEER_SINGLES_MAX) } else { args.transfers },
            accounts: args.accounts,
            batch: if single { 1 } else { args.batch as usize },
            clients: args.tigerbeetle_clients,
        }),
        Peer::Postgres | Peer::TwoPhase => postgres::run(postgres::Work {
            peers: &args.peers,
            folder: &args.folder,
            kind: if *peer == Peer::TwoPhase { Kind::TwoPhase } else { Kind::at_home(args.mode) },
            accounts: args.accounts,
            seconds: args.postgres_seconds,
            clients: &args.postgres_clients,
        }),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: LedgerArgs,
    }

    fn parse(line: &str) -> Result<LedgerArgs, clap::Error> {
        Line::try_parse_from(std::iter::once("ledger").chain(line.split_whitespace())).map(|line| line.args)
    }

    #[test]
    fn the_defaults_are_those_of_the_claim() {
        let args = parse("").unwrap();
        assert_eq!((args.accounts, args.batch, args.branches, args.connections()), (10_000, 8_189, 1, 4));
        let args = parse("--mode single --peer postgres --peer tigerbeetle=tb --skew zipf=1.5").unwrap();
        assert_eq!((args.connections(), args.peer.len(), args.skew), (64, 2, Skew::Zipf(1.5)));
        assert_eq!(branches_of(&parse("--crossing 1").unwrap()), 2, "payments cross between two");
        assert_eq!(branches_of(&parse("--crossing 0.5 --branches 4").unwrap()), 4);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for wrong in
            ["--accounts 1", "--batch 8190", "--server http://x:1", "--data d", "--mode odd", "--transfers 0"]
        {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        for wrong in [
            "--pending 0.6",
            "--rate 0",
            "--crossing 1.5",
            "--peer two-phase",
            "--server http://x:1 --token-file t --crossing 1",
            "--server http://x:1 --token-file t --rounds 2",
        ] {
            assert!(parse(wrong).unwrap().check().is_err(), "{wrong}");
        }
    }
}
