//! Who did what: the journal itself, filtered.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use skerry_branch::evidence::receipts::Recorded;
use skerry_ledger::AccountRef;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{json, page_limit};
use crate::auth::{Caller, Operation};
use crate::catalogue;
use crate::detail::said;
use crate::events_view::{about, act};
use crate::extract::Parameters;
use crate::gateway::Shared;
use crate::problem::Problem;
use crate::wire::reports::{Act, AuditPage};
use crate::wire::scalars::Instant;
use skerry_node::seat::{Seat, Trouble};

pub(crate) fn router() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(audit))
}

/// Records that one call looks at: about a tenth of a second of reading.
const LOOKED_AT_MAX: usize = 100_000;

/// Records read at a time.
const STEP: usize = 4_096;

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct AuditQuery {
    /// One branch; left out, that of `account`, else all, one after another.
    branch: Option<u16>,
    /// Who did it.
    actor: Option<String>,
    /// Who approved it.
    approver: Option<String>,
    /// An account it touched.
    account: Option<String>,
    /// What it was, such as `account.frozen`; `transfer` for all of `transfer.…`.
    act: Option<String>,
    /// Digest of the request.
    request: Option<String>,
    /// At or after.
    from: Option<Instant>,
    /// At or before.
    to: Option<Instant>,
    /// Leave transfers out.
    #[serde(default)]
    without_transfers: bool,
    /// At most so many, 1 to 1000; 100 if left out.
    limit: Option<usize>,
    /// `next` of the page before.
    cursor: Option<String>,
}

/// Read the audit trail
///
/// In journal order. A page may be short, even empty, and still go on: one call looks at a bounded number of records. To begin
/// at a time, say `from`. For operators and auditors.
#[utoipa::path(
    get, path = "/v1/audit", tag = "reports", params(AuditQuery),
    responses(
        (status = 200, description = "A page", body = AuditPage),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn audit(
    State(gateway): State<Shared>,
    caller: Caller,
    Parameters(asked): Parameters<AuditQuery>,
) -> Result<Response, Problem> {
    caller.may(Operation::AuditRead)?;
    caller.may_beyond_one_customer()?;
    let limit = page_limit(asked.limit, 100, 1_000)?;
    let wanted = asked.account.as_deref().map(wanted).transpose()?;
    let home = match wanted {
        Some(Wanted::One(account)) => Some(account.branch()),
        _ => None,
    };
    let mut branches: Vec<u16> = match asked.branch.or(home) {
        Some(branch) => vec![branch],
        None => {
            gateway.bank.seats().keys().copied().filter(|branch| caller.may_in(*branch).is_ok()).collect()
        }
    };
    let mut from = None;
    if let Some(text) = asked.cursor.as_deref() {
        let (branch, position) = cursor(text)?;
        branches.retain(|other| *other >= branch);
        from = Some(position);
    }
    let asked = Arc::new(asked);
    let mut found = AuditPage { acts: Vec::new(), next: None };
    for (nth, branch) in branches.iter().copied().enumerate() {
        caller.may_in(branch)?;
        let (asked, from, room) = (Arc::clone(&asked), from.take(), limit - found.acts.len());
        let (acts, next) = gateway
            .bank
            .query(branch, move |seat| {
                let from = match from {
                    Some(position) => position,
                    None => first_at(seat, asked.from.map_or(0, |time| time.0))?,
                };
                page(seat, from, room, |recorded| matches(recorded, &asked, wanted))
            })
            .await?;
        found.acts.extend(acts);
        let following = branches.get(nth + 1).map(|branch| format!("{branch}.0"));
        found.next = match next {
            Some(position) => Some(format!("{branch}.{position}")),
            None if found.acts.len() == limit => following,
            None => None,
        };
        if found.next.is_some() {
            break;
        }
    }
    Ok(json(StatusCode::OK, &found))
}

/// `1.100`: a branch and a position in it.
fn cursor(text: &str) -> Result<(u16, u64), Problem> {
    let parts =
        text.split_once('.').and_then(|(branch, next)| Some((branch.parse().ok()?, next.parse().ok()?)));
    parts.ok_or_else(|| Problem::numbered(catalogue::CURSOR_INVALID).field("cursor"))
}

/// An account to look for: a head in any currency, if only its code is said.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wanted {
    /// This account.
    One(AccountRef),
    /// This head.
    Head(u32),
}

/// What `account` in a query names.
///
/// # Errors
///
/// `invalid_query` if it names nothing.
pub(crate) fn wanted(number: &str) -> Result<Wanted, Problem> {
    if let Some(code) = number.strip_prefix("gl:") {
        let code = code.split('@').next().unwrap_or(code);
        return code.parse().map(Wanted::Head).map_err(|_| {
            Problem::numbered(catalogue::INVALID_QUERY)
                .field("account")
                .detail(said!("a head is gl:1001", "科目写作 gl:1001"))
        });
    }
    super::accounts::reference(number, None).map(Wanted::One).map_err(|problem| problem.field("account"))
}

/// Whether it is this one.
pub(crate) fn is_wanted(account: AccountRef, wanted: Wanted) -> bool {
    match wanted {
        Wanted::One(one) => one == account,
        Wanted::Head(code) => {
            matches!(account.kind(), Some(skerry_ledger::AccountKind::Head(own, _)) if own == code)
        }
    }
}

fn matches(recorded: &Recorded, asked: &AuditQuery, accounts: Option<Wanted>) -> bool {
    let actor = &recorded.actor;
    let named = |wish: &Option<String>, name: &str| wish.as_deref().is_none_or(|wish| wish == name);
    if !named(&asked.actor, actor.principal.as_str())
        || asked.from.is_some_and(|from| recorded.time_us < from.0)
        || asked.to.is_some_and(|to| recorded.time_us > to.0)
        || asked.request.as_deref().is_some_and(|wish| wish != crate::text::hex(&actor.request))
    {
        return false;
    }
    if let Some(approver) = &asked.approver
        && actor.approver.is_none_or(|own| own.as_str() != approver)
    {
        return false;
    }
    let about = about(&recorded.event);
    let group = about.name.split('.').next().unwrap_or("");
    if asked.without_transfers && group == "transfer" {
        return false;
    }
    if asked.act.as_deref().is_some_and(|wish| wish != about.name && wish != group) {
        return false;
    }
    accounts.is_none_or(|wanted| about.accounts.iter().any(|account| is_wanted(*account, wanted)))
}

/// A page of what `keep` keeps, from `from` on.
fn page(
    seat: &dyn Seat,
    from: u64,
    limit: usize,
    keep: impl Fn(&Recorded) -> bool,
) -> Result<(Vec<Act>, Option<u64>), Trouble> {
    let mut acts: Vec<Act> = Vec::new();
    let mut next = from;
    let mut looked_at = 0;
    while looked_at < LOOKED_AT_MAX {
        let records = seat.records(next, STEP)?;
        if records.is_empty() {
            return Ok((acts, None));
        }
        for recorded in &records {
            next = recorded.position + 1;
            looked_at += 1;
            if keep(recorded) {
                acts.push(act(seat.number(), recorded));
                if acts.len() == limit {
                    return Ok((acts, Some(next)));
                }
            }
        }
    }
    Ok((acts, Some(next)))
}

/// The first position whose time is not before `time_us`: stamps never run backwards, so halving finds it.
fn first_at(seat: &dyn Seat, time_us: u64) -> Result<u64, Trouble> {
    let (mut low, mut high) = (0, seat.durable());
    if time_us == 0 {
        return Ok(0);
    }
    while low < high {
        let middle = low + (high - low) / 2;
        match seat.record(middle) {
            Ok(recorded) if recorded.time_us < time_us => low = middle + 1,
            Ok(_) => high = middle,
            Err(error) => return Err(error),
        }
    }
    Ok(low)
}
