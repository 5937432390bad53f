//! Whether the bank has kept what it promised: what its clients were told, held against its statements, balances, channels
//! and journals.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde::Serialize;
use serde_json::Value;
use skerry_client::wire::Entry;
use skerry_client::{Client, EntryFilter};

use super::super::setup::check_trial_balance;
use super::Field;
use super::client::{Paid, fen};
use super::pressed::Pressed;

/// How long payments under way may take to come to rest.
const REST: Duration = Duration::from_secs(60);
/// Lines on a page of a statement.
const PAGE: usize = 500;

/// A promise, and whether it was kept.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Finding {
    pub(super) name: &'static str,
    pub(super) kept: bool,
    pub(super) detail: String,
}

impl Finding {
    fn of(name: &'static str, found: anyhow::Result<String>) -> Self {
        let kept = found.is_ok();
        Self { name, kept, detail: found.unwrap_or_else(|error| format!("{error:#}")) }
    }
}

/// Checks everything, and ends a bank of our own.
///
/// # Errors
///
/// The bank cannot be asked, or does not end. A promise that was not kept is a finding.
pub(super) async fn all(field: &Field, paid: &[Paid], pressed: Pressed) -> anyhow::Result<Vec<Finding>> {
    let client = pressed.face().client()?;
    let mut findings = vec![Finding::of("channels at rest", channels(&client).await)];
    findings.push(Finding::of("each payment exactly once", statements(field, &client, paid).await));
    findings.push(Finding::of("trial balances are zero", trial_balance(&client).await));
    if let Some(checked) = pressed.ended(chains).await? {
        findings.push(Finding::of("hash chains are whole", checked));
    }
    Ok(findings)
}

/// The names of the sums of a channel: what one side says, and the other side's word for the same.
const SUMS: [(&str, &str); 2] = [("settled", "received"), ("returned", "refused")];

/// Waits until nothing is under way, then holds both ends of each channel against each other.
async fn channels(client: &Client) -> anyhow::Result<String> {
    let began = Instant::now();
    loop {
        let all = channels_of_all(client).await?;
        let open: u64 = all.values().filter_map(|channel| channel["open"].as_u64()).sum();
        if open == 0 {
            return ends_meet(&all);
        }
        ensure!(began.elapsed() < REST, "{open} payments are still under way after {REST:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// By branch and peer.
async fn channels_of_all(client: &Client) -> anyhow::Result<BTreeMap<(u16, u16), Value>> {
    let mut all = BTreeMap::new();
    for branch in client.branches().await?.branches {
        ensure!(branch.state == "open", "branch {} is {}: {:?}", branch.branch, branch.state, branch.reason);
        let number = branch.branch;
        let view: Value = client.get(&format!("/v1/branches/{number}/channels")).await?;
        for channel in view["channels"].as_array().context("a branch has no list of channels")? {
            let peer = channel["peer"].as_u64().and_then(|peer| u16::try_from(peer).ok());
            all.insert((number, peer.context("a channel has no peer")?), channel.clone());
        }
    }
    Ok(all)
}

/// What one branch has sent, settled and got back is what the other one has received and refused.
fn ends_meet(all: &BTreeMap<(u16, u16), Value>) -> anyhow::Result<String> {
    let mut payments = 0;
    for ((from, to), channel) in all {
        let stopped = [&channel["outgoing_stopped"], &channel["incoming_stopped"]];
        ensure!(
            stopped.iter().all(|why| why.is_null()),
            "the channel from {from} to {to} has stopped: {stopped:?}"
        );
        let other = all.get(&(*to, *from));
        let received = other.map_or(&Value::Null, |other| &other["received"]).as_u64().unwrap_or(0);
        let sent = channel["sent"].as_u64().context("a channel tells no number")?;
        ensure!(
            sent == received,
            "branch {from} has sent {sent} payments to {to}, which has received {received}"
        );
        for total in channel["totals"].as_array().context("a channel has no sums")? {
            let same = |row: &&Value| row["currency"] == total["currency"];
            let there = other.and_then(|other| other["totals"].as_array()?.iter().find(same));
            for (here, word) in SUMS {
                let nothing = total[here]["count"] == 0 && there.is_none();
                ensure!(
                    nothing || there.is_some_and(|there| there[word] == total[here]),
                    "from {from} to {to}: {here} {}, there {word} {}",
                    total[here],
                    there.map_or(&Value::Null, |there| &there[word])
                );
            }
        }
        payments += sent;
    }
    Ok(format!("{} channels, {payments} payments, nothing under way, both ends say the same", all.len()))
}

/// What the statements must hold of one account: by reference, fen in (out is negative).
type Expected<'a> = HashMap<&'a str, i128>;

/// Each payment that was told as made is in both statements once, and nothing else is; balances are their sums.
async fn statements(field: &Field, client: &Client, paid: &[Paid]) -> anyhow::Result<String> {
    let mut expected: HashMap<&str, Expected<'_>> = HashMap::new();
    for one in paid.iter().filter(|one| one.accepted) {
        let amount = i128::from(one.amount);
        for (account, moved) in [(&one.debit, -amount), (&one.credit, amount)] {
            if !account.starts_with("gl:") {
                expected.entry(account).or_default().insert(&one.reference, moved);
            }
        }
    }
    let accounts: Vec<String> = {
        let known = field.accounts.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        known.iter().map(|one| one.number.clone()).collect()
    };
    let mut lines = 0;
    for number in &accounts {
        let mut left = expected.remove(number.as_str()).unwrap_or_default();
        let balance: i128 = left.values().sum();
        let mut filter = EntryFilter { oldest_first: true, limit: Some(PAGE), ..EntryFilter::default() };
        loop {
            let page = client.entries(number, &filter).await?;
            lines += page.entries.len();
            strike_off(number, &page.entries, &mut left)?;
            match page.next {
                Some(next) => filter.cursor = Some(next),
                None => break,
            }
        }
        let missing = left.keys().next();
        ensure!(
            missing.is_none(),
            "{number}: {} payments were told as made and are missing, one is {missing:?}",
            left.len()
        );
        let posted = fen(&client.account(number).await?.balances.posted)?;
        ensure!(posted == balance, "{number} has {posted} fen, its payments come to {balance}");
    }
    ensure!(expected.is_empty(), "{} accounts were paid that nobody opened", expected.len());
    let made = paid.iter().filter(|one| one.accepted).count();
    Ok(format!("{made} payments in {lines} lines of {} statements, balances are their sums", accounts.len()))
}

/// Takes what a page shows off what is expected.
fn strike_off(number: &str, entries: &[Entry], left: &mut Expected<'_>) -> anyhow::Result<()> {
    for entry in entries {
        let reference = entry.reference.as_deref().unwrap_or_default();
        let amount = fen(&entry.amount)?;
        let moved = if entry.side.as_deref() == Some("debit") { -amount } else { amount };
        let wanted = left.remove(reference);
        ensure!(
            wanted == Some(moved),
            "{number} has {reference:?} ({}) with {moved} fen, expected {wanted:?}: there twice, refused, or never asked for",
            entry.id
        );
    }
    Ok(())
}

async fn trial_balance(client: &Client) -> anyhow::Result<String> {
    let answer: Value = client.get("/v1/trial-balance").await?;
    check_trial_balance(&answer)?;
    Ok("in every branch and currency".to_owned())
}

/// Every journal of a bank that has stopped, by `skerry verify`.
fn chains(folders: &[PathBuf]) -> anyhow::Result<String> {
    let program = std::env::current_exe().context("could not find this program")?;
    for folder in folders {
        let said = Command::new(&program).arg("verify").arg(folder).output().context("could not verify")?;
        let why = String::from_utf8_lossy(&said.stderr);
        ensure!(said.status.success(), "{}: {why}", folder.display());
    }
    Ok(format!("of {} journals", folders.len()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entry(reference: &str, side: &str, amount: &str) -> Entry {
        serde_json::from_value(json!({
            "id": "1", "side": side, "amount": {"amount": amount, "currency": "CNY"}, "status": "posted",
            "counterparty": "2", "reference": reference, "booked_at": "", "business_date": "", "value_date": ""
        }))
        .unwrap()
    }

    #[test]
    fn a_payment_that_is_there_twice_or_not_or_differs_is_found() {
        let expected = || Expected::from([("one", -150), ("two", 5)]);
        let mut left = expected();
        strike_off("a", &[entry("one", "debit", "1.50")], &mut left).unwrap();
        assert_eq!(left, Expected::from([("two", 5)]), "what is left is missing");
        for wrong in [
            vec![entry("one", "debit", "1.50"), entry("one", "debit", "1.50")],
            vec![entry("one", "credit", "1.50")],
            vec![entry("two", "credit", "0.06")],
            vec![entry("three", "credit", "0.05")],
        ] {
            assert!(strike_off("a", &wrong, &mut expected()).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn both_ends_of_a_channel_must_say_the_same() {
        let sum = |count: u64| json!({"count": count, "amount": {"amount": format!("{count}.00"), "currency": "CNY"}});
        let channel = |sent: u64, received: u64, settled: u64, accepted: u64| {
            let totals = json!([{"currency": "CNY", "sent": sum(sent), "settled": sum(settled), "returned": sum(sent - settled),
                "received": sum(accepted), "refused": sum(received - accepted)}]);
            json!({"sent": sent, "received": received, "open": 0, "totals": totals})
        };
        let meet = |one: Value, two: Value| ends_meet(&BTreeMap::from([((1, 2), one), ((2, 1), two)]));
        meet(channel(3, 2, 2, 2), channel(2, 3, 2, 2)).unwrap();
        assert!(meet(channel(3, 2, 2, 2), channel(2, 2, 2, 2)).is_err(), "one was not received");
        assert!(meet(channel(3, 2, 2, 2), channel(2, 3, 2, 3)).is_err(), "one was accepted and came back");
        assert!(meet(channel(3, 2, 3, 2), channel(2, 3, 2, 2)).is_err(), "one was settled and refused");
        let mut stopped = channel(3, 2, 2, 2);
        stopped["outgoing_stopped"] = json!({"reason": "hash_differs"});
        assert!(meet(stopped, channel(2, 3, 2, 2)).is_err());
    }
}
