//! `skerry events` and `skerry webhook …`: what happened, and who is told.

use std::io::Write;

use anyhow::{Context, ensure};
use hyper::Method;
use serde_json::{Map, Value, json};
use skerry_client::Client;

use crate::cli::{EventsArgs, Remote, WebhookCommand};
use crate::output::print;
use crate::remote::{connect, escape, runtime, show};

/// Events asked for at once.
const PAGE: u64 = 500;

/// Seconds that the bank may wait for the next event before it answers that there is none.
const WAIT: &str = "wait=20";

/// `skerry events`: one line an event, as JSON with `--json`. The cursor to go on with is told on stderr.
///
/// # Errors
///
/// What the bank or the way there says.
pub(crate) fn run(args: &EventsArgs, json: bool) -> anyhow::Result<()> {
    let client = connect(&args.remote)?;
    let mut cursor = args.after.clone().unwrap_or_default();
    let done = runtime()?.block_on(async {
        tokio::select! {
            done = print_all(&client, args, &mut cursor, json) => done,
            interrupted = tokio::signal::ctrl_c() => interrupted.context("could not wait for an interruption"),
        }
    });
    eprintln!("go on: --after '{cursor}'");
    done
}

async fn print_all(
    client: &Client,
    args: &EventsArgs,
    cursor: &mut String,
    json: bool,
) -> anyhow::Result<()> {
    let mut left = args.limit.unwrap_or(u64::MAX);
    while left > 0 {
        let headers: &[(&str, &str)] = if args.follow { &[("prefer", WAIT)] } else { &[] };
        let path = query(args, cursor, left.min(PAGE));
        let answer = client.call(Method::GET, &path, None, bytes::Bytes::new(), headers).await?;
        let page: Value = answer.json()?;
        let events = page["events"].as_array().context("the bank's answer has no events")?;
        if !told(events, json)? {
            return Ok(()); // whoever read us has gone
        }
        left = left.saturating_sub(u64::try_from(events.len())?);
        page["next"].as_str().context("the bank's answer has no cursor")?.clone_into(cursor);
        for branch in page["unavailable"].as_array().into_iter().flatten() {
            eprintln!("branch {} could not be read: {}", branch["branch"], branch["code"]);
        }
        if !args.follow && page["more"] != true {
            return Ok(());
        }
    }
    Ok(())
}

fn query(args: &EventsArgs, cursor: &str, limit: u64) -> String {
    let mut path = format!("/v1/events?limit={limit}&after={}", escape(cursor));
    if let Some(branch) = args.branch {
        path.push_str(&format!("&branch={branch}"));
    }
    if !args.types.is_empty() {
        path.push_str(&format!("&type={}", escape(&args.types.join(","))));
    }
    if let Some(account) = &args.account {
        path.push_str(&format!("&account={}", escape(account)));
    }
    path
}

/// Prints events; whether anybody still reads.
fn told(events: &[Value], json: bool) -> anyhow::Result<bool> {
    let mut out = std::io::stdout().lock();
    for event in events {
        let text = |name: &str| event[name].as_str().unwrap_or("-");
        let line = if json {
            event.to_string()
        } else {
            format!(
                "{}  {}  {}  {}  {}",
                text("time"),
                text("id"),
                text("type"),
                text("subject"),
                event["data"]
            )
        };
        match writeln!(out, "{line}").and_then(|()| out.flush()) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(false),
            Err(error) => return Err(error).context("could not print an event"),
        }
    }
    Ok(true)
}

/// `skerry webhook …`
///
/// # Errors
///
/// What the bank or the way there says.
pub(crate) fn webhook(remote: &Remote, command: WebhookCommand, json: bool) -> anyhow::Result<()> {
    let at = |id: &str, act: &str| format!("/v1/webhooks/{}{act}", escape(id));
    match command {
        WebhookCommand::Create { url, types, branches, after } => {
            let mut body =
                Map::from_iter([("url".to_owned(), Value::from(url)), ("types".to_owned(), json!(types))]);
            if !branches.is_empty() {
                body.insert("branches".to_owned(), json!(branches));
            }
            if let Some(after) = after {
                body.insert("after".to_owned(), after.into());
            }
            send(remote, Method::POST, "/v1/webhooks", &Value::Object(body), json)
        }
        WebhookCommand::List => show(remote, "/v1/webhooks", json),
        WebhookCommand::Show { id } => show(remote, &at(&id, ""), json),
        WebhookCommand::Delete { id } => send(remote, Method::DELETE, &at(&id, ""), &json!({}), json),
        WebhookCommand::Enable { id } => send(remote, Method::POST, &at(&id, "/enable"), &json!({}), json),
        WebhookCommand::Disable { id } => send(remote, Method::POST, &at(&id, "/disable"), &json!({}), json),
        WebhookCommand::Rotate { id } => send(remote, Method::POST, &at(&id, "/rotate"), &json!({}), json),
        WebhookCommand::Replay { id, after } => {
            send(remote, Method::POST, &at(&id, "/replay"), &json!({"after": after}), json)
        }
        WebhookCommand::Test { id } => {
            let tested = sent(remote, Method::POST, &at(&id, "/test"), &json!({}))?;
            print(&tested, json)?;
            ensure!(tested["delivered"] == true, "the receiver did not take it: {}", tested["detail"]);
            Ok(())
        }
    }
}

/// Sent once: a webhook that is made twice would call twice.
fn sent(remote: &Remote, method: Method, path: &str, body: &Value) -> anyhow::Result<Value> {
    let client = connect(remote)?.once();
    Ok(runtime()?.block_on(client.send_json(method, path, body, &[]))?.json()?)
}

fn send(remote: &Remote, method: Method, path: &str, body: &Value, json: bool) -> anyhow::Result<()> {
    print(&sent(remote, method, path, body)?, json)
}
