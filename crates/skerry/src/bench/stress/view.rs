//! How it goes, while it goes: on a terminal a picture that is drawn anew each second, elsewhere a line each ten seconds.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Field, Kind, held};

/// Seconds between two lines that go to a file.
const LINE_EVERY: u32 = 10;

/// Shows it until it is aborted.
pub(super) async fn show(field: Arc<Field>, whole: Duration) {
    let (began, is_terminal) = (Instant::now(), std::io::stderr().is_terminal());
    let mut before = [0; 3];
    let mut lines = 0;
    for second in 1.. {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = Kind::ALL.map(|kind| field.count(kind));
        if is_terminal {
            let picture = picture(&field, began.elapsed(), whole, [now, before], &branches(&field).await);
            // Up over the last picture, whose lines are then written over.
            let up = if lines > 0 { format!("\x1b[{lines}A") } else { String::new() };
            lines = picture.len();
            let text: String = picture.iter().map(|line| format!("\x1b[2K{line}\n")).collect();
            let _unseen = write!(std::io::stderr(), "{up}{text}");
        } else if second % LINE_EVERY == 0 {
            let [payments, statements, openings] = now;
            eprintln!(
                "{:.0} s: {payments} payments, {statements} statements, {openings} openings, {} tried again",
                began.elapsed().as_secs_f64(),
                field.tried_again()
            );
        }
        before = now;
    }
}

fn picture(
    field: &Field,
    elapsed: Duration,
    whole: Duration,
    [now, before]: [[u64; 3]; 2],
    branches: &[String],
) -> Vec<String> {
    let again = field.tried_again();
    let (last, silence) = field.silence();
    let mut lines = vec![format!(
        "{:.0} of {:.0} s   tried again {again}   silent for {:.1} s   longest silence of a branch {:.1} s",
        elapsed.as_secs_f64(),
        whole.as_secs_f64(),
        last.as_secs_f64(),
        silence.as_secs_f64()
    )];
    let latencies = held(&field.latencies);
    for (index, kind) in Kind::ALL.into_iter().enumerate() {
        let summary = latencies[index].summary();
        let [p50, p99] = summary.map_or([0.0; 2], |latency| [latency.p50, latency.p99]);
        lines.push(format!(
            "{:<12}{:>9}/s  {:>11} in all  p50 {p50:>7.1} ms  p99 {p99:>7.1} ms",
            kind.name(),
            now[index] - before[index],
            now[index]
        ));
    }
    lines.extend(branches.iter().cloned());
    lines
}

/// A line a branch; one line that says so if nobody answers.
async fn branches(field: &Field) -> Vec<String> {
    match tokio::time::timeout(Duration::from_millis(500), field.client.branches()).await {
        Ok(Ok(all)) => all
            .branches
            .iter()
            .map(|one| {
                let reason = one.reason.as_deref().unwrap_or_default();
                format!(
                    "branch {:<5}{:<8}{:>12} records {:>9} customers  {reason}",
                    one.branch, one.state, one.position, one.customers
                )
            })
            .collect(),
        Ok(Err(error)) => vec![format!("the bank does not answer: {error}")],
        Err(_) => vec!["the bank does not answer".to_owned()],
    }
}
