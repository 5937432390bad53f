//! The commands of operators and auditors to a running bank: audit, four eyes, buses, nodes, a branch's place, policy and days.

use anyhow::Context;
use hyper::Method;
use serde_json::{Value, json};

use crate::cli::{
    ApprovalCommand, AuditArgs, BusCommand, CreateArgs, FollowArgs, MoveArgs, PlaceArgs, Remote,
};
use crate::output::print;
use crate::remote::{connect, escape, runtime, send, show, steer, with_query};

/// `skerry audit`
///
/// # Errors
///
/// What the bank or the way there says; so for all of these.
pub(crate) fn audit(remote: &Remote, asked: &AuditArgs, json: bool) -> anyhow::Result<()> {
    let query = [
        ("limit", Some(asked.limit.to_string())),
        ("actor", asked.actor.clone()),
        ("approver", asked.approver.clone()),
        ("account", asked.account.clone()),
        ("act", asked.act.clone()),
        ("request", asked.request.clone()),
        ("from", asked.from.clone()),
        ("to", asked.to.clone()),
        ("branch", asked.branch.map(|branch| branch.to_string())),
        ("cursor", asked.cursor.clone()),
    ];
    show(remote, &with_query("/v1/audit", &query), json)
}

/// `skerry approval …`
pub(crate) fn approval(remote: &Remote, command: ApprovalCommand, json: bool) -> anyhow::Result<()> {
    let at = |branch: u16, request: &str| format!("/v1/approvals/{branch}/{}", escape(request));
    match command {
        ApprovalCommand::List => show(remote, "/v1/approvals", json),
        ApprovalCommand::Propose { branch, request, matter } => {
            let body = json!({"branch": branch, "request": request, "matter": matter});
            send(remote, Method::POST, "/v1/approvals", None, &body, json)
        }
        ApprovalCommand::Approve { branch, request } => {
            let path = format!("{}/approve", at(branch, &request));
            send(remote, Method::POST, &path, None, &json!({}), json)
        }
        ApprovalCommand::End { branch, request } => {
            send(remote, Method::DELETE, &at(branch, &request), None, &json!({}), json)
        }
    }
}

/// `skerry bus …`
pub(crate) fn bus(remote: &Remote, command: BusCommand, json: bool) -> anyhow::Result<()> {
    match command {
        BusCommand::List => show(remote, "/v1/buses", json),
        BusCommand::Switch { name } => {
            send(remote, Method::PUT, "/v1/buses/chosen", None, &json!({"bus": name}), json)
        }
    }
}

/// `skerry branch policy`: shown, or set to these matters and days.
pub(crate) fn policy(
    remote: &Remote,
    branch: u16,
    set: Option<(Vec<String>, u32)>,
    json: bool,
) -> anyhow::Result<()> {
    let path = format!("/v1/branches/{branch}/policy");
    let Some((mut four_eyes, retention_days)) = set else { return show(remote, &path, json) };
    four_eyes.retain(|matter| matter != "none");
    let body = json!({"four_eyes": four_eyes, "retention_days": retention_days});
    send(remote, Method::PUT, &path, None, &body, json)
}

/// `skerry branch open-day`
pub(crate) fn open_day(remote: &Remote, branch: u16, date: &str, json: bool) -> anyhow::Result<()> {
    send(remote, Method::POST, &format!("/v1/branches/{branch}/days"), None, &json!({"date": date}), json)
}

/// `skerry branch go-live`
pub(crate) fn go_live(remote: &Remote, branch: u16, date: &str, json: bool) -> anyhow::Result<()> {
    send(remote, Method::POST, &format!("/v1/branches/{branch}/go-live"), None, &json!({"date": date}), json)
}

/// `skerry branch raise-format`
pub(crate) fn raise_format(remote: &Remote, branch: u16, json: bool) -> anyhow::Result<()> {
    send(remote, Method::POST, &format!("/v1/branches/{branch}/format"), None, &json!({}), json)
}

/// `skerry node list`
pub(crate) fn nodes(remote: &Remote, json: bool) -> anyhow::Result<()> {
    let client = connect(remote)?;
    let mut view: Value = runtime()?.block_on(client.get("/v1/directory"))?;
    print(&json!({"nodes": view["nodes"].take()}), json)
}

/// `skerry node drain` and `skerry node resume`: says as well what stays.
pub(crate) fn drain(remote: &Remote, node: &str, draining: bool, json: bool) -> anyhow::Result<()> {
    let (client, path) = (connect(remote)?, format!("/v1/nodes/{}/draining", escape(node)));
    let wish = json!({"draining": draining});
    let answer = runtime()?.block_on(client.send_json(Method::PUT, &path, &wish, &[]))?;
    let view: Value = answer.json()?;
    print(&view, json)?;
    let stays: Vec<String> = view["stays"].as_array().into_iter().flatten().map(Value::to_string).collect();
    if !stays.is_empty() {
        eprintln!("no other node takes what it hosts: branches {} stay until one does", stays.join(", "));
    }
    Ok(())
}

/// `skerry branch create`: one after the other; what was made before a failure is printed.
pub(crate) fn create(args: &CreateArgs, json: bool) -> anyhow::Result<()> {
    let (client, runtime) = (connect(&args.remote)?, runtime()?);
    let first = match args.first {
        Some(first) => first,
        None => {
            let view: Value = runtime.block_on(client.get("/v1/directory"))?;
            let numbers = view["branches"].as_array().into_iter().flatten();
            let last = numbers.filter_map(|branch| branch["branch"].as_u64()).max().unwrap_or(0);
            u16::try_from(last + 1).context("the bank tells numbers that no branch has")?
        }
    };
    let mut made = Vec::new();
    let mut failed = None;
    for number in (first..=u16::MAX).take(usize::from(args.count)) {
        let mut wish = json!({"branch": number});
        if let Some(store) = &args.store {
            wish["store"] = json!(store);
        }
        match runtime.block_on(client.post::<_, Value>("/v1/branches", &wish)) {
            Ok(view) => made.push(view),
            Err(error) => {
                let told = format!("branch {number} was not made; `--first {number}` goes on with it");
                failed = Some(anyhow::Error::new(error).context(told));
                break;
            }
        }
    }
    if !made.is_empty() {
        print(&json!({"branches": made}), json)?;
    }
    failed.map_or(Ok(()), Err)
}

/// `skerry branch place`
pub(crate) fn place(args: &PlaceArgs, json: bool) -> anyhow::Result<()> {
    let mut wish = json!({});
    if let Some(mode) = &args.mode {
        wish["mode"] = json!(mode);
    }
    if args.any_node || args.node.is_some() {
        wish["node"] = json!(args.node);
    }
    steer(&args.remote, args.branch, &wish, json)
}

/// `skerry branch follow`
pub(crate) fn follow(args: &FollowArgs, json: bool) -> anyhow::Result<()> {
    steer(&args.remote, args.branch, &json!({"followers": args.count}), json)
}

/// `skerry branch move`
pub(crate) fn move_branch(args: &MoveArgs, json: bool) -> anyhow::Result<()> {
    steer(&args.remote, args.branch, &json!({"node": args.to}), json)
}
