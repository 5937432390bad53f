//! The commands that speak to a running bank: each is one or two calls of its HTTP API.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use hyper::Method;
use serde_json::{Map, Value, json};
use skerry_client::{Client, Options};
use tokio::runtime::Runtime;

use crate::cli::{AccountCommand, CustomerCommand, PaymentCommand, Remote, TokenCommand, TransferCommand};
use crate::output::print;

/// A runtime for a few calls at a time.
pub(crate) fn runtime() -> anyhow::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("could not start the runtime")
}

/// Where the token lies when nobody says.
pub(crate) const DEFAULT_TOKEN: &str = "data/operator.token";

/// A client for `remote`, with the token of its file.
///
/// # Errors
///
/// A token file that was named and cannot be read; an address that is none.
pub(crate) fn connect(remote: &Remote) -> anyhow::Result<Client> {
    client(&remote.server, remote.token_file.as_deref(), remote.certificate.as_deref())
}

/// A client for the bank at `server`.
///
/// # Errors
///
/// As [`connect`].
pub(crate) fn client(
    server: &str,
    token_file: Option<&Path>,
    certificate: Option<&Path>,
) -> anyhow::Result<Client> {
    let token = match token_file {
        Some(path) => Some(read_token(path)?),
        None if Path::new(DEFAULT_TOKEN).exists() => Some(read_token(Path::new(DEFAULT_TOKEN))?),
        None => None,
    };
    let options = Options {
        server: server.to_owned(),
        token,
        certificate: certificate.map(PathBuf::from),
        ..Options::default()
    };
    Ok(Client::new(options)?)
}

fn read_token(path: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("could not read the token {}", path.display()))?;
    Ok(text.trim().to_owned())
}

/// One `GET`, printed.
///
/// # Errors
///
/// What the bank or the way there says.
pub(crate) fn show(remote: &Remote, path: &str, json: bool) -> anyhow::Result<()> {
    let client = connect(remote)?;
    let answer: Value = runtime()?.block_on(client.get(path))?;
    print(&answer, json)
}

pub(crate) fn send(
    remote: &Remote,
    method: Method,
    path: &str,
    key: Option<&str>,
    body: &Value,
    json: bool,
) -> anyhow::Result<()> {
    let made;
    let key = match key {
        Some(key) => key,
        None => {
            made = uuid7();
            made.as_str()
        }
    };
    send_with(remote, method, path, &[("idempotency-key", key)], body, json)
}

/// The same with headers of its own.
fn send_with(
    remote: &Remote,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: &Value,
    json: bool,
) -> anyhow::Result<()> {
    let response = runtime()?.block_on(connect(remote)?.send_json(method, path, body, headers))?;
    if response.body.is_empty() {
        return Ok(());
    }
    print(&response.json()?, json)
}

/// Prints an answer in XML as it is; where there is more, says how to get it.
fn exchange_xml(remote: &Remote, method: Method, path: &str, message: Option<Vec<u8>>) -> anyhow::Result<()> {
    let content = message.as_ref().map(|_| "application/xml");
    let call = connect(remote)?;
    let call = call.call(method, path, content, message.unwrap_or_default().into(), &[]);
    let response = runtime()?.block_on(call)?;
    let link = response.headers.get(hyper::header::LINK).and_then(|link| link.to_str().ok());
    if let Some(cursor) =
        link.and_then(|link| link.split_once("cursor=")?.1.split_once('>')).map(|found| found.0)
    {
        eprintln!("there is more: --cursor {cursor}");
    }
    std::io::Write::write_all(&mut std::io::stdout(), &response.body).context("could not write to stdout")
}

/// A fresh UUIDv7 (RFC 9562, 5.7): milliseconds, then random bits of the operating system.
pub(crate) fn uuid7() -> String {
    let millis = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_millis());
    let random = u128::from(random_u64()) << 64 | u128::from(random_u64());
    let id = (millis << 80) | (random & ((1 << 80) - 1));
    uuid_text(id & !(0xf << 76) & !(0b11 << 62) | (7 << 76) | (0b10 << 62))
}

/// A UUID in its usual dress.
pub(crate) fn uuid_text(id: u128) -> String {
    let hex = format!("{id:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// Random bits: the standard library seeds its hasher from the operating system.
fn random_u64() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

/// Changes what the directory says of a branch.
///
/// # Errors
///
/// As [`show`].
pub(crate) fn steer(remote: &Remote, branch: u16, wish: &Value, json: bool) -> anyhow::Result<()> {
    send(remote, Method::PATCH, &format!("/v1/branches/{branch}"), None, wish, json)
}

/// `skerry directory rebuild`
///
/// # Errors
///
/// As [`show`].
pub(crate) fn rebuild_directory(remote: &Remote, json: bool) -> anyhow::Result<()> {
    send(remote, Method::POST, "/v1/directory/rebuild", None, &json!({}), json)
}

/// `skerry customer …`
pub(crate) fn customer(remote: &Remote, command: CustomerCommand, json: bool) -> anyhow::Result<()> {
    match command {
        CustomerCommand::Create { name, document, branch, key } => {
            let mut body = json!({"name": name, "document": document_of(&document)?});
            if let Some(branch) = branch {
                body["branch"] = Value::from(branch);
            }
            send(remote, Method::POST, "/v1/customers", key.as_deref(), &body, json)
        }
        CustomerCommand::Show { id } => show(remote, &format!("/v1/customers/{id}"), json),
        CustomerCommand::Change { id, name, document } => {
            let mut body = Map::new();
            if let Some(name) = name {
                body.insert("name".to_owned(), Value::from(name));
            }
            if let Some(document) = document {
                body.insert("document".to_owned(), document_of(&document)?);
            }
            let body = Value::Object(body);
            send(remote, Method::PATCH, &format!("/v1/customers/{}", escape(&id)), None, &body, json)
        }
        CustomerCommand::Accounts { id, limit, cursor } => {
            let query = [("limit", Some(limit.to_string())), ("cursor", cursor)];
            show(remote, &with_query(&format!("/v1/customers/{}/accounts", escape(&id)), &query), json)
        }
        CustomerCommand::Erase { id } => {
            send(remote, Method::DELETE, &format!("/v1/customers/{id}"), None, &json!({}), json)
        }
    }
}

/// `KIND:NUMBER` as requests say it.
fn document_of(text: &str) -> anyhow::Result<Value> {
    let (kind, number) = text.split_once(':').context("a document is KIND:NUMBER, as passport:123")?;
    Ok(json!({"kind": kind, "number": number}))
}

/// A path with those parameters that have a value.
pub(crate) fn with_query(path: &str, parameters: &[(&str, Option<String>)]) -> String {
    let said = parameters.iter().filter_map(|(name, value)| value.as_ref().map(|value| (name, value)));
    let said: Vec<String> = said.map(|(name, value)| format!("{name}={}", escape(value))).collect();
    if said.is_empty() { path.to_owned() } else { format!("{path}?{}", said.join("&")) }
}

/// `skerry account …`
pub(crate) fn account(remote: &Remote, command: AccountCommand, json: bool) -> anyhow::Result<()> {
    let post = |number: &str, act: &str, body: Value| {
        send(remote, Method::POST, &format!("/v1/accounts/{number}/{act}"), None, &body, json)
    };
    match command {
        AccountCommand::Open { customer, product, currency, key } => {
            let body = json!({"product": product, "currency": currency});
            send(
                remote,
                Method::POST,
                &format!("/v1/customers/{customer}/accounts"),
                key.as_deref(),
                &body,
                json,
            )
        }
        AccountCommand::Show { number } => show(remote, &format!("/v1/accounts/{number}"), json),
        AccountCommand::Entries { number, limit, cursor, filters } => {
            let mut path = format!("/v1/accounts/{number}/entries?limit={limit}");
            if let Some(cursor) = cursor {
                path.push_str(&format!("&cursor={}", escape(&cursor)));
            }
            for filter in filters {
                let (name, value) = filter.split_once('=').context("a filter is NAME=VALUE, as code=7")?;
                path.push_str(&format!("&{}={}", escape(name), escape(value)));
            }
            show(remote, &path, json)
        }
        AccountCommand::Statement { number, from, to, interim, limit, cursor } => {
            let message = if interim { "camt.052" } else { "camt.053" };
            let mut path = format!("/v1/accounts/{number}/statement?message={message}&limit={limit}");
            for (name, value) in [("from", from), ("to", to), ("cursor", cursor)] {
                if let Some(value) = value {
                    path.push_str(&format!("&{name}={}", escape(&value)));
                }
            }
            exchange_xml(remote, Method::GET, &path, None)
        }
        AccountCommand::Balance { number, date, by_value } => {
            let by = if by_value { "value" } else { "booked" };
            show(remote, &format!("/v1/accounts/{number}/balance?{by}={}", escape(&date)), json)
        }
        AccountCommand::Limits { number, floor, daily, currency } => {
            let mut body = Map::new();
            let money = |amount: String| json!({"amount": amount, "currency": currency});
            if let Some(floor) = floor {
                body.insert("floor".to_owned(), money(floor));
            }
            match daily.as_deref() {
                Some("none") => body.insert("unlimited".to_owned(), Value::Bool(true)),
                Some(amount) => body.insert("daily".to_owned(), money(amount.to_owned())),
                None => None,
            };
            send(
                remote,
                Method::PATCH,
                &format!("/v1/accounts/{number}/limits"),
                None,
                &Value::Object(body),
                json,
            )
        }
        AccountCommand::Freeze { number, reason, side } => {
            post(&number, "freeze", json!({"reason": reason, "sides": side}))
        }
        AccountCommand::Unfreeze { number, side } => post(&number, "unfreeze", json!({"sides": side})),
        AccountCommand::Close { number } => post(&number, "close", json!({})),
        AccountCommand::Reopen { number } => post(&number, "reopen", json!({})),
    }
}

/// `skerry payment …`
pub(crate) fn payment(remote: &Remote, command: &PaymentCommand, json: bool) -> anyhow::Result<()> {
    match command {
        PaymentCommand::Show { id } => show(remote, &format!("/v1/payments/{id}"), json),
        PaymentCommand::Initiate { file } => {
            let message = if file.as_os_str() == "-" {
                std::io::read_to_string(std::io::stdin()).context("could not read stdin")?.into_bytes()
            } else {
                std::fs::read(file).with_context(|| format!("could not read {}", file.display()))?
            };
            exchange_xml(remote, Method::POST, "/v1/payment-initiations", Some(message))
        }
    }
}

/// `skerry transfer …`
pub(crate) fn transfer(remote: &Remote, command: TransferCommand, json: bool) -> anyhow::Result<()> {
    match command {
        TransferCommand::Create {
            debit,
            credit,
            amount,
            currency,
            id,
            code,
            reference,
            note,
            value_date,
            pending,
            timeout,
            wait,
        } => {
            let id = id.unwrap_or_else(uuid7);
            let mut body = json!({
                "id": id, "debit": debit, "credit": credit,
                "amount": {"amount": amount, "currency": currency},
            });
            let optional = [
                ("code", code.map(Value::from)),
                ("reference", reference.map(Value::from)),
                ("note", note.map(Value::from)),
                ("value_date", value_date.map(Value::from)),
                ("pending", pending.then_some(Value::Bool(true))),
                ("timeout", timeout.map(Value::from)),
            ];
            for (name, value) in optional {
                if let (Some(value), Some(object)) = (value, body.as_object_mut()) {
                    object.insert(name.to_owned(), value);
                }
            }
            let prefer = wait.map(|seconds| format!("wait={seconds}"));
            let headers: Vec<(&str, &str)> =
                prefer.iter().map(|prefer| ("prefer", prefer.as_str())).collect();
            send_with(remote, Method::POST, "/v1/transfers", &headers, &body, json)
        }
        TransferCommand::Find { branch, reference, code, limit, cursor } => {
            let query = [
                ("branch", Some(branch.to_string())),
                ("reference", reference),
                ("code", code.map(|code| code.to_string())),
                ("limit", Some(limit.to_string())),
                ("cursor", cursor),
            ];
            show(remote, &with_query("/v1/transfers", &query), json)
        }
        TransferCommand::Show { number, id } => {
            show(remote, &format!("/v1/accounts/{number}/transfers/{id}"), json)
        }
        TransferCommand::Post { number, id, amount, currency } => {
            let mut body = json!({"id": uuid7()});
            if let Some(amount) = amount {
                body["amount"] = json!({"amount": amount, "currency": currency});
            }
            send(
                remote,
                Method::POST,
                &format!("/v1/accounts/{number}/transfers/{id}/post"),
                None,
                &body,
                json,
            )
        }
        TransferCommand::Void { number, id } => {
            let path = format!("/v1/accounts/{number}/transfers/{id}/void");
            send(remote, Method::POST, &path, None, &json!({"id": uuid7()}), json)
        }
        TransferCommand::Reverse { number, id } => {
            let path = format!("/v1/accounts/{number}/transfers/{id}/reverse");
            send(remote, Method::POST, &path, None, &json!({}), json)
        }
        // A receipt is for a file or another program: always JSON.
        TransferCommand::Receipt { number, id } => {
            show(remote, &format!("/v1/accounts/{number}/transfers/{id}/receipt"), true)
        }
    }
}

/// `skerry token …`
pub(crate) fn token(remote: &Remote, command: TokenCommand, json: bool) -> anyhow::Result<()> {
    match command {
        TokenCommand::Create { principal, role, days, branch, customer, operations } => {
            let mut body =
                json!({"principal": principal, "role": role, "lifetime_seconds": u64::from(days) * 86_400});
            if let Some(branch) = branch {
                body["branches"] = Value::from(vec![branch]);
            }
            if let Some(customer) = customer {
                body["customer"] = Value::from(customer);
            }
            if !operations.is_empty() {
                body["operations"] = Value::from(operations);
            }
            send(remote, Method::POST, "/v1/tokens", None, &body, json)
        }
        TokenCommand::List => show(remote, "/v1/tokens", json),
        TokenCommand::Revoke { id } => {
            send(remote, Method::DELETE, &format!("/v1/tokens/{}", escape(&id)), None, &json!({}), json)
        }
    }
}

/// `skerry trial-balance`
pub(crate) fn trial_balance(
    remote: &Remote,
    date: Option<&str>,
    by_value: bool,
    branch: Option<u16>,
    json: bool,
) -> anyhow::Result<()> {
    let mut path = format!("/v1/trial-balance?by={}", if by_value { "value" } else { "booked" });
    if let Some(date) = date {
        path.push_str(&format!("&date={}", escape(date)));
    }
    if let Some(branch) = branch {
        path.push_str(&format!("&branch={branch}"));
    }
    show(remote, &path, json)
}

/// `skerry branch confirm-clock`
pub(crate) fn confirm_clock(remote: &Remote, branch: u16, json: bool) -> anyhow::Result<()> {
    send(remote, Method::POST, &format!("/v1/branches/{branch}/confirm-clock"), None, &json!({}), json)
}

/// `skerry branch reopen`
pub(crate) fn reopen_branch(remote: &Remote, branch: u16, json: bool) -> anyhow::Result<()> {
    send(remote, Method::POST, &format!("/v1/branches/{branch}/reopen"), None, &json!({}), json)
}

/// `skerry branch resume-channel`.
pub(crate) fn resume_channel(remote: &Remote, branch: u16, peer: u16, json: bool) -> anyhow::Result<()> {
    let path = format!("/v1/branches/{branch}/channels/{peer}/resume");
    send(remote, Method::POST, &path, None, &json!({}), json)
}

/// `skerry cost`: what the bank's meters say, at the prices of a file (docs/cost.md).
pub(crate) fn cost(remote: &Remote, prices: &Path, json: bool) -> anyhow::Result<()> {
    let client = connect(remote)?;
    let meters: Value = runtime()?.block_on(client.get("/v1/meters"))?;
    let prices = crate::status::Prices::load(prices)?;
    let Some(report) = prices.report(&meters) else {
        bail!("the bank's meters are not what was expected: {meters}")
    };
    print(&report, json)
}

/// A value for a query: everything but unreserved characters in per cent (RFC 3986, 2.1).
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_id_is_a_uuid_of_version_7_and_variant_10() {
        let id = uuid7();
        assert_eq!(id.len(), 36);
        assert_eq!(id.as_bytes()[14], b'7');
        assert!(b"89ab".contains(&id.as_bytes()[19]), "{id}");
        assert_ne!(id, uuid7());
    }

    #[test]
    fn query_values_are_escaped() {
        assert_eq!(escape("a b&c=d/é"), "a%20b%26c%3Dd%2F%C3%A9");
    }
}
