//! `skerry bench directory`: how soon a customer is found by document or telephone number, and that nobody is opened twice.
//!
//! A directory of its own is filled with the customers of four branches, as a rebuild does. Then aliases are looked up, by one asker and by
//! many; and newcomers are opened by several at once who would each have them in another branch.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use serde::Serialize;
use skerry_directory::{
    Alias, AliasKind, Ask, BranchRow, Choice, CustomerRef, DirectoryHandle, DirectoryThread, Embedded,
    EmbeddedOptions, Fault, Finding, Name, Rebuild, Reserve, Room, StoreRow, Told, Where,
};
use skerry_journal::RealStorage;

use super::machine::{Contention, Machine, Watch, lies_in_memory, usage};
use super::process::Folder;
use super::random::Random;
use super::stats::{Latencies, Latency};
use crate::config::{Config, Overrides};

/// Branches that customers are spread over.
const BRANCHES: u16 = 4;
/// Aliases of one ask, as many as the directory takes.
const RECORDED: u32 = 4_096;
/// Asks of the filling that wait at once.
const AHEAD: usize = 4;
/// Those who would open the same newcomer.
const RIVALS: u16 = BRANCHES;

/// Find customers by document and telephone among millions, and open newcomers by many at once
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct DirectoryArgs {
    /// Folder on the disk for the directory
    #[arg(long, value_name = "DIR", default_value = ".", env = "SKERRY_BENCH_DIR")]
    folder: PathBuf,
    /// A configuration whose storage.directory names a store: measured is a directory there, in an empty database, and none in files
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Customers, each with a document and a telephone number
    #[arg(long, default_value_t = 10_000_000, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    customers: u32,
    /// Look-ups of each turn
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u32).range(1..))]
    lookups: u32,
    /// Askers of the second turn
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    askers: u32,
    /// Newcomers, each opened by four at once
    #[arg(long, default_value_t = 2_000)]
    newcomers: u32,
}

/// What came of it.
#[derive(Debug, Serialize)]
struct Report {
    kind: &'static str,
    version: &'static str,
    machine: Machine,
    kept_in: String,
    customers: u32,
    /// Aliases taken in, a second.
    filled_per_second: f64,
    /// By which this process grew, an alias.
    memory_bytes: f64,
    one_asker_ms: Latency,
    askers: u32,
    many_askers_ms: Latency,
    lookups_per_second: f64,
    newcomers: u32,
    /// Of a newcomer, from the first word to the directory to the confirmation.
    newcomer_ms: Latency,
    contention: Contention,
}

/// Runs it and prints the report.
///
/// # Errors
///
/// A directory that fails, a customer that is not found, a newcomer in two branches, a folder in memory (after the report).
pub(crate) fn run(args: &DirectoryArgs, json: bool) -> anyhow::Result<()> {
    let machine = Machine::here(&args.folder)?;
    let in_memory = lies_in_memory(&machine.file_system);
    let report = measure(args, machine)?;
    super::print(&report, &report.text(), json)?;
    ensure!(!in_memory, "the run is void: the data lies in memory");
    Ok(())
}

fn measure(args: &DirectoryArgs, machine: Machine) -> anyhow::Result<Report> {
    let folder = Folder::new(&args.folder, "skerry-bench-directory", false)?;
    let (thread, kept_in) = open(args.config.as_deref(), folder.path())?;
    let directory = thread.handle();
    let watch = Watch::start();
    let own = || usage(std::process::id()).unwrap_or_default();
    let (before, began) = (own(), Instant::now());
    fill(&directory, args.customers)?;
    let filled_per_second = f64::from(args.customers) * 2.0 / began.elapsed().as_secs_f64();
    let grown = own().resident_bytes.saturating_sub(before.resident_bytes);
    let (one_asker_ms, _) = look_up(&directory, args, 1)?;
    let (many_askers_ms, lookups_per_second) = look_up(&directory, args, args.askers)?;
    let newcomer_ms = open_newcomers(&directory, args)?;
    Ok(Report {
        kind: "directory",
        version: env!("CARGO_PKG_VERSION"),
        machine,
        kept_in,
        customers: args.customers,
        filled_per_second,
        memory_bytes: grown as f64 / (f64::from(args.customers) * 2.0),
        one_asker_ms,
        askers: args.askers,
        many_askers_ms,
        lookups_per_second,
        newcomers: args.newcomers,
        newcomer_ms,
        contention: watch.contention(own().cpu_seconds - before.cpu_seconds),
    })
}

fn open(config: Option<&Path>, folder: &Path) -> anyhow::Result<(DirectoryThread, String)> {
    let Some(file) = config else {
        let embedded = Embedded::open(&RealStorage::open(folder)?, EmbeddedOptions::default())?;
        return Ok((DirectoryThread::spawn(embedded)?, "files".to_owned()));
    };
    let config = Config::load(Some(file), Overrides::default())?;
    let name = config.storage.directory.as_ref();
    let name = name.with_context(|| format!("{}: storage.directory names no store", file.display()))?;
    Ok((in_store(&config, name)?, format!("PostgreSQL, store {name}")))
}

#[cfg(feature = "cluster")]
fn in_store(config: &Config, name: &str) -> anyhow::Result<DirectoryThread> {
    let store = config.stores.get(name).context("the configuration was checked")?;
    let directory = skerry_postgres::PostgresDirectory::found(store.server(name)?, "bank of a benchmark")?;
    Ok(DirectoryThread::spawn(directory)?)
}

#[cfg(not(feature = "cluster"))]
fn in_store(_: &Config, name: &str) -> anyhow::Result<DirectoryThread> {
    bail!("store {name:?} is a PostgreSQL server: {}", crate::stores::LEAN)
}

/// Of the customer with this number, from 0: where they live, and two ways to them.
fn customer(number: u32) -> (CustomerRef, [Alias; 2]) {
    let branch = 1 + (number % u32::from(BRANCHES)) as u16;
    let of = |kind: AliasKind| {
        // The real ones are HMACs: as evenly spread.
        let mut random = Random::new(u64::from(number) << 8 | u64::from(kind.number()));
        let mut key = [0; 32];
        key.chunks_exact_mut(8).for_each(|part| part.copy_from_slice(&random.next().to_le_bytes()));
        Alias { line: 0, kind, key }
    };
    (
        CustomerRef { branch, serial: 1 + number / u32::from(BRANCHES) },
        [of(AliasKind::Document), of(AliasKind::Phone)],
    )
}

fn ask(directory: &DirectoryHandle, ask: Ask) -> anyhow::Result<Told> {
    match directory.ask_and_wait(ask).context("the directory did not answer")? {
        Told::No(refusal) => bail!("the directory refuses: {refusal}"),
        told => Ok(told),
    }
}

/// Takes the customers in, as a rebuild does.
fn fill(directory: &DirectoryHandle, customers: u32) -> anyhow::Result<()> {
    let store = Name::new("bench")?;
    ask(
        directory,
        Ask::PutStore(StoreRow { name: store.clone(), kind: store.clone(), place: Where::new("here")? }),
    )?;
    for number in 1..=BRANCHES {
        ask(directory, Ask::AddBranch(BranchRow::new(number, store.clone())))?;
    }
    let Told::Rebuilding { number, .. } = ask(directory, Ask::Rebuild(Rebuild::Begin))? else {
        bail!("the directory begins no rebuild");
    };
    let (send, told) = std::sync::mpsc::channel::<Result<Told, Fault>>();
    let mut waiting = 0;
    let recorded = |most: usize, waiting: &mut usize| -> anyhow::Result<()> {
        while *waiting > most {
            *waiting -= 1;
            match told.recv().context("the directory ended")?.context("the directory did not answer")? {
                Told::Recorded { elsewhere } if elsewhere.is_empty() => {}
                other => bail!("customers were not taken in: {other:?}"),
            }
        }
        Ok(())
    };
    let mut next = 0;
    while next < customers {
        let end = customers.min(next + RECORDED / 2);
        let pair = |number| {
            let (who, aliases) = customer(number);
            aliases.map(|alias| (alias, who))
        };
        let list = (next..end).flat_map(pair).collect();
        let send = send.clone();
        let answer = Box::new(move |told| drop(send.send(told)));
        directory.ask(Ask::Rebuild(Rebuild::Record { number, list }), answer)?;
        waiting += 1;
        recorded(AHEAD, &mut waiting)?;
        next = end;
    }
    recorded(0, &mut waiting)?;
    ask(directory, Ask::Rebuild(Rebuild::End { number }))?;
    let room =
        (1..=BRANCHES).map(|branch| (branch, Some(Room { customers: 0, capacity: u32::MAX }))).collect();
    ask(directory, Ask::Report(room))?;
    Ok(())
}

/// Looks aliases up, chosen evenly, each asker one after the other; every tenth is nobody's.
fn look_up(directory: &DirectoryHandle, args: &DirectoryArgs, askers: u32) -> anyhow::Result<(Latency, f64)> {
    let (taken, began) = (AtomicU64::new(0), Instant::now());
    let one = |asker: u32| -> anyhow::Result<Latencies> {
        let (mut random, mut latencies) = (Random::new(u64::from(asker) + 1), Latencies::new());
        while taken.fetch_add(1, Ordering::Relaxed) < u64::from(args.lookups) {
            let stranger = random.below(10) == 0;
            let number = random.below(args.customers);
            let (who, aliases) = customer(if stranger { u32::MAX - number } else { number });
            let alias = aliases[random.below(2) as usize];
            let wanted = if stranger { Finding::Nobody } else { Finding::Customer(who) };
            let asked = Instant::now();
            let told = ask(directory, Ask::Find(alias))?;
            latencies.record(asked.elapsed());
            ensure!(told == Told::Found(wanted), "customer {number}: {told:?}, not {wanted:?}");
        }
        Ok(latencies)
    };
    let mut all = Latencies::new();
    std::thread::scope(|scope| -> anyhow::Result<()> {
        let one = &one;
        let running: Vec<_> = (0..askers).map(|asker| scope.spawn(move || one(asker))).collect();
        for asker in running {
            all.add(&asker.join().map_err(|_| anyhow::anyhow!("an asker panicked"))??);
        }
        Ok(())
    })?;
    let latency = all.summary().context("nothing was looked up")?;
    Ok((latency, f64::from(args.lookups) / began.elapsed().as_secs_f64()))
}

/// Opens newcomers, each by several at once who want them in different branches: all must be sent to one.
fn open_newcomers(directory: &DirectoryHandle, args: &DirectoryArgs) -> anyhow::Result<Latency> {
    let mut latencies = Latencies::new();
    for newcomer in 0..args.newcomers {
        let (_, aliases) = customer(args.customers + newcomer);
        let began = Instant::now();
        let rival = |branch: u16| -> anyhow::Result<u16> {
            let reserve =
                Reserve { aliases: aliases.to_vec(), choice: Choice::In(branch), within_us: 60_000_000 };
            match ask(directory, Ask::Reserve(reserve))? {
                Told::Reserved { branch, .. } => Ok(branch),
                other => bail!("newcomer {newcomer} was not reserved: {other:?}"),
            }
        };
        let rival = &rival;
        let sent: Vec<u16> = std::thread::scope(|scope| {
            let rivals: Vec<_> = (1..=RIVALS).map(|branch| scope.spawn(move || rival(branch))).collect();
            let joined =
                rivals.into_iter().map(|one| one.join().map_err(|_| anyhow::anyhow!("an asker panicked"))?);
            joined.collect::<anyhow::Result<_>>()
        })?;
        ensure!(sent.iter().all(|branch| *branch == sent[0]), "newcomer {newcomer} was sent to {sent:?}");
        let customer = CustomerRef { branch: sent[0], serial: args.customers + newcomer };
        ask(directory, Ask::Confirm { aliases: aliases.to_vec(), customer })?;
        latencies.record(began.elapsed());
        for alias in aliases {
            let told = ask(directory, Ask::Find(alias))?;
            ensure!(told == Told::Found(Finding::Customer(customer)), "newcomer {newcomer}: {told:?}");
        }
    }
    latencies.summary().context("nobody was opened")
}

impl Report {
    fn text(&self) -> String {
        let line = |what: &str, latency: &Latency| {
            format!(
                "{what:<24} p50 {:>7.3} ms   p99 {:>7.3} ms   slowest {:>7.3} ms\n",
                latency.p50, latency.p99, latency.max
            )
        };
        let mut text = format!(
            "{} customers with two aliases each, in {}: {:.0} aliases taken in a second, {:.0} bytes of memory each\n",
            self.customers, self.kept_in, self.filled_per_second, self.memory_bytes
        );
        text += &line("look-up, 1 asker", &self.one_asker_ms);
        text += &line(&format!("look-up, {} askers", self.askers), &self.many_askers_ms);
        text += &format!("{:.0} look-ups a second by {} askers\n", self.lookups_per_second, self.askers);
        text += &line("newcomer, 4 at once", &self.newcomer_ms);
        text + &format!("{} newcomers, none in two branches\n", self.newcomers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_taken_in_is_found_and_newcomers_are_opened_once() {
        let folder = tempfile();
        let args = DirectoryArgs {
            folder: folder.clone(),
            config: None,
            customers: 5_000,
            lookups: 200,
            askers: 3,
            newcomers: 5,
        };
        let report = measure(&args, Machine::here(&folder).unwrap()).unwrap();
        assert!(report.text().contains("5 newcomers, none in two branches"), "{}", report.text());
        std::fs::remove_dir_all(folder).unwrap();
    }

    fn tempfile() -> PathBuf {
        let folder = std::env::temp_dir().join(format!("skerry-bench-directory-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }
}
