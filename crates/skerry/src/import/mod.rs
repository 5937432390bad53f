//! `skerry import`: how a bank leaves its old core. Reads the mapping and the files, then asks a bank, through its
//! public API, for customers, accounts and transfers, and compares every balance.
//!
//! Everything asked for carries an id derived from the mapping's `source` and the old core's ids, so an interrupted
//! import goes on where it was and a second run changes nothing.

mod check;
mod mapping;
mod plan;
mod send;

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::json;

use crate::cli::ImportArgs;
use crate::config::{Config, Overrides};
use crate::remote;
use crate::up::Bank;

use mapping::Mapping;
use plan::Plan;

/// Imports, and checks if asked to. Exit code 1 if a balance is off.
///
/// # Errors
///
/// The first thing that does not fit in mapping or files, or that the bank refuses.
pub(crate) fn run(args: &ImportArgs, json: bool) -> anyhow::Result<ExitCode> {
    let mapping = Mapping::load(&args.mapping)?;
    let plan = Plan::read(&mapping, &args.folder)?;
    eprintln!(
        "read {} customers, {} accounts, {} transactions ({} of them move nothing)",
        plan.customers.len(),
        plan.accounts.len(),
        plan.transfers.iter().map(Vec::len).sum::<usize>() + plan.empty_rows,
        plan.empty_rows
    );
    let Some(data) = &args.data else {
        let server = args.server.as_deref().unwrap_or("http://127.0.0.1:7117");
        let client = remote::client(server, args.token_file.as_deref(), args.certificate.as_deref())?;
        return runtime()?.block_on(import(&client, &mapping, &plan, args.check, json));
    };
    // Straight into a folder: the same bank, on a port of its own that nobody else knows, through the same API.
    let overrides = Overrides {
        data: Some(data.clone()),
        listen: Some(std::net::SocketAddr::from(([127, 0, 0, 1], 0))),
        log: Some("warn".to_owned()),
        ..Overrides::default()
    };
    let bank = Bank::start(Config::load(None, overrides)?)?;
    let token = data.join(crate::folder::TOKEN_FILE);
    let client = remote::client(bank.server(), Some(&token), None)?;
    let done = runtime()?.block_on(import(&client, &mapping, &plan, args.check, json));
    bank.stop()?;
    done
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("could not start the runtime")
}

async fn import(
    client: &skerry_client::Client,
    mapping: &Mapping,
    plan: &Plan,
    check: bool,
    json: bool,
) -> anyhow::Result<ExitCode> {
    send::heads(client, mapping).await?;
    let customers = send::customers(client, mapping, plan).await?;
    let accounts = send::accounts(client, mapping, plan, &customers).await?;
    let transfers = send::transfers(client, mapping, plan, &accounts).await?;
    let made = customers.made + accounts.made + transfers.made;
    if made == 0 {
        eprintln!("nothing changed: everything was there already");
    }
    let mut report = json!({
        "customers": {"created": customers.made, "already_there": customers.there},
        "accounts": {"created": accounts.made, "already_there": accounts.there},
        "transfers": {"created": transfers.made, "already_there": transfers.there, "empty": plan.empty_rows},
        "changed": made > 0,
    });
    if !check {
        if json {
            println!("{report}");
        } else {
            println!(
                "customers: {} created, {} already there\naccounts: {} created, {} already there\n\
                 transfers: {} created, {} already there, {} empty",
                customers.made,
                customers.there,
                accounts.made,
                accounts.there,
                transfers.made,
                transfers.there,
                plan.empty_rows
            );
        }
        return Ok(ExitCode::SUCCESS);
    }
    let found = check::compare(client, mapping, plan, &accounts).await?;
    for line in &found.examples {
        eprintln!("off: {line}");
    }
    if json {
        for (name, count) in found.counts() {
            report[name] = json!(count);
        }
        println!("{report}");
    } else {
        println!("{}", found.line(&mapping.check.tolerance));
    }
    Ok(if found.off == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Says on stderr how far a long step is, at most twice a second.
struct Progress {
    what: &'static str,
    total: u64,
    done: AtomicU64,
    began: Instant,
    said_ms: AtomicU64,
}

impl Progress {
    fn new(what: &'static str, total: usize) -> Self {
        Self {
            what,
            total: total.try_into().unwrap_or(u64::MAX),
            done: AtomicU64::new(0),
            began: Instant::now(),
            said_ms: AtomicU64::new(0),
        }
    }

    fn add(&self, count: usize) {
        let done = self.done.fetch_add(count.try_into().unwrap_or(0), Ordering::Relaxed)
            + u64::try_from(count).unwrap_or(0);
        let now = self.began.elapsed();
        let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let said = self.said_ms.load(Ordering::Relaxed);
        let due = now_ms.saturating_sub(said) >= 500 || done == self.total;
        if due && self.said_ms.compare_exchange(said, now_ms, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            eprintln!("{}: {done} of {} after {:.1} s", self.what, self.total, rounded(now));
        }
    }
}

fn rounded(elapsed: Duration) -> f64 {
    elapsed.as_secs_f64()
}
