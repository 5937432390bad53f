//! The bank in the background: start, wait until it answers, print what to try; and stop.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::cli::UpArgs;
use crate::config::Config;
use crate::{folder, remote, sample};

const PATIENCE: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(20);

/// Starts a bank of its own process group and waits until it is ready.
///
/// # Errors
///
/// What the bank said before it ended; an address that is taken.
pub(super) fn run(args: &UpArgs) -> anyhow::Result<()> {
    let config = Config::of(&args.settings)?;
    let data = &config.storage.data;
    if folder::is_held(data) {
        let server = folder::running_server(data).unwrap_or_else(|| "an unknown address".to_owned());
        eprintln!("the bank of {} is running already at {server}", data.display());
        return Ok(());
    }
    if config.server.listen.port() != 0
        && let Err(error) = std::net::TcpListener::bind(config.server.listen)
    {
        bail!(
            "{} cannot be listened on ({error}): stop what is there, or choose another with --listen",
            config.server.listen
        );
    }
    std::fs::create_dir_all(data).with_context(|| format!("could not make the folder {}", data.display()))?;
    let path = data.join("bank.log");
    // What the last run said before it ended is needed most after it ended badly.
    let log = std::fs::OpenOptions::new().append(true).create(true).open(&path);
    let log = log.with_context(|| format!("could not write {}", path.display()))?;
    let _stale = std::fs::remove_file(data.join("running.json"));
    let mut command = Command::new(std::env::current_exe().context("could not find this program")?);
    command.arg("up").arg("--data").arg(data).arg("--listen").arg(config.server.listen.to_string());
    if let Some(config) = &args.settings.local.config {
        command.arg("--config").arg(config);
    }
    if let Some(branches) = args.settings.branches {
        command.arg("--branches").arg(branches.to_string());
    }
    if args.settings.insecure {
        command.arg("--insecure");
    }
    command.arg("--log").arg(&config.log.level);
    let fresh = !data.join("bank.toml").exists();
    let error = log.try_clone().context("could not share the log")?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(error)
        .process_group(0)
        .spawn()
        .context("could not start the bank")?;
    let began = Instant::now();
    let server = loop {
        if let Some(running) = folder::running(data)
            && running.process == child.id()
        {
            break running.server;
        }
        if let Some(status) = child.try_wait().context("could not watch the bank")? {
            let said = std::fs::read_to_string(&path).unwrap_or_default();
            bail!("the bank ended with {status}: {}", said.trim());
        }
        if began.elapsed() > PATIENCE {
            bail!("the bank does not answer; see {}", path.display());
        }
        std::thread::sleep(LOOK);
    };
    let token = data.join(folder::TOKEN_FILE);
    let opened = if fresh && args.sample > 0 { sample(&server, &token, args.sample)? } else { Vec::new() };
    eprintln!(
        "the bank is open at {server} after {:.1} s; its log is {}, `skerry down --data {}` stops it",
        began.elapsed().as_secs_f64(),
        path.display(),
        data.display()
    );
    print_lines(&server, &token, &opened, args.sample)
}

/// Opens the sample customers.
///
/// # Errors
///
/// The first refusal.
pub(super) fn sample(server: &str, token: &Path, customers: u32) -> anyhow::Result<Vec<sample::Opened>> {
    let client = remote::client(server, Some(token), None)?;
    let opened = remote::runtime()?.block_on(sample::open(&client, customers, 1))?;
    eprintln!("opened {} sample customers, each with an account and some cash in it", opened.len());
    Ok(opened)
}

/// Three lines to paste: a look, a payment, a statement.
fn print_lines(server: &str, token: &Path, opened: &[sample::Opened], customers: u32) -> anyhow::Result<()> {
    let again;
    let opened = if opened.is_empty() && customers > 0 {
        // Not the first start: asking again with the same keys gives the same customers.
        let client = remote::client(server, Some(token), None)?;
        again = remote::runtime()?.block_on(sample::open(&client, customers.min(8), 1))?;
        &again
    } else {
        opened
    };
    let Some((one, other)) = sample::neighbours(opened) else { return Ok(()) };
    let curl = format!("curl -s -H \"Authorization: Bearer $(cat {})\"", token.display());
    println!("{curl} {server}/v1/accounts/{}", one.number);
    println!(
        "{curl} -H 'Content-Type: application/json' -H 'Idempotency-Key: {}' -d \
         '{{\"debit\":\"{}\",\"credit\":\"{}\",\"amount\":{{\"amount\":\"12.34\",\"currency\":\"CNY\"}},\"reference\":\"first payment\"}}' \
         {server}/v1/transfers",
        remote::uuid7(),
        one.number,
        other.number
    );
    println!("{curl} '{server}/v1/accounts/{}/entries?limit=5'", one.number);
    Ok(())
}

/// Asks the bank of `data` to end and waits for it.
///
/// # Errors
///
/// If there is none, or it does not end in time.
pub(super) fn stop(data: &Path) -> anyhow::Result<()> {
    let Some(running) = folder::running(data).filter(|_| folder::is_held(data)) else {
        bail!("no bank runs on {}", data.display());
    };
    let process = i32::try_from(running.process)
        .ok()
        .and_then(Pid::from_raw)
        .context("the bank's process has no number")?;
    kill_process(process, Signal::TERM).context("could not ask the bank to stop")?;
    let began = Instant::now();
    while folder::is_held(data) {
        if began.elapsed() > PATIENCE {
            bail!(
                "the bank (process {}) does not end; see {}",
                running.process,
                data.join("bank.log").display()
            );
        }
        std::thread::sleep(LOOK);
    }
    eprintln!("the bank is closed");
    Ok(())
}
