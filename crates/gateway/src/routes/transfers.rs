//! Moving money: one transfer, and batches in JSON or packed.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use skerry_book::actor::Role;
use skerry_branch::api::{Accepted, Asked, Body, Outcome, Reply};
use skerry_ledger::{Flags, MovedKind, TransferId};
use skerry_money::Currency;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{created, json, replayed};
use crate::auth::{Caller, Operation};
use crate::bank::rejected;
use crate::catalogue;
use crate::derived;
use crate::detail::said;
use crate::extract::{Posted, Raw, is_packed};
use crate::gateway::{Gateway, Shared};
use crate::notes;
use crate::problem::{Language, Problem};
use crate::wire::scalars::{AccountText, Day, Id, Instant, Money};
use crate::wire::transfers::{
    BatchDone, BatchIn, BatchResult, Echo, RefusedLine, Status, TransferDone, TransferIn,
};

pub(crate) fn router() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(transfer)).routes(routes!(batch))
}

/// Move money
///
/// One transfer. Sending the same `id` with the same content again answers what happened the first time. A payee in another
/// branch is paid too: the answer is 202 while it is under way; `Prefer: wait=SECONDS` waits for its end, 30 at most.
#[utoipa::path(
    post, path = "/v1/transfers", tag = "transfers", request_body = TransferIn,
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "Instead of an `id`."),
        ("Prefer" = Option<String>, Header, description = "`wait=5`: to another branch, answer when it has ended."),
    ),
    responses(
        (status = 201, description = "Accepted; a payment that has arrived in another branch also has the members of 202", body = TransferDone),
        (status = 202, description = "Debited, and on its way to another branch", body = crate::wire::payments::PaymentOut),
        (status = 200, description = "Accepted before: the answer to a retry", body = TransferDone),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn transfer(State(gateway): State<Shared>, caller: Caller, raw: Raw) -> Result<Response, Problem> {
    caller.may(Operation::TransfersWrite)?;
    let posted = Posted::<TransferIn>::read(&raw)?;
    let wish = &posted.body;
    if wish.reverse.is_some() {
        caller.may(Operation::TransfersReverse)?;
    }
    let branch = wish.branch()?;
    caller.may_in(branch)?;
    may_resolve(&gateway, &caller, branch, wish.post.or(wish.void)).await?;
    let id = match (&wish.id, &posted.key) {
        (None, Some(key)) => Some(derived::by_key(&gateway, &caller, branch, key, 0).await?),
        _ => None,
    };
    let (mut asked, echo) = wish.asked(branch, id)?;
    if let Some(note) = &wish.note {
        let notes = vec![(0, note.clone())];
        let sealing = notes::seal(&gateway, &caller, branch, std::slice::from_mut(&mut asked), notes);
        sealing.await.map_err(|(_, problem)| problem)?;
    }
    one(&gateway, &caller, branch, (raw.digest, &raw.headers), asked, echo).await
}

/// Whether the caller may end this hold: customers only those that customers have placed, for with a void of the bank's
/// they would take back what it has promised to others.
pub(super) async fn may_resolve(
    gateway: &Shared,
    caller: &Caller,
    branch: u16,
    hold: Option<Id>,
) -> Result<(), Problem> {
    let Some(Id(hold)) = hold.filter(|_| caller.role() == Role::Customer) else { return Ok(()) };
    let placed_by = gateway.bank.query(branch, move |seat| match seat.transfer(TransferId(hold))? {
        Some(found) => Ok(Some(seat.record(found.entry.position)?.actor.role)),
        None => Ok(None),
    });
    match placed_by.await? {
        // The branch says what is wrong with one that is not there.
        None | Some(Role::Customer) => Ok(()),
        Some(_) => Err(Problem::numbered(catalogue::OUT_OF_SCOPE).detail(said!(
            "the bank has placed this hold: only the bank posts or voids it",
            "该笔待定交易由银行设立：仅银行可入账或撤销"
        ))),
    }
}

pub(super) async fn one(
    gateway: &Gateway,
    caller: &Caller,
    branch: u16,
    (digest, headers): ([u8; 16], &HeaderMap),
    asked: Asked,
    echo: Echo,
) -> Result<Response, Problem> {
    let currency = asked.transfer.currency;
    let outcomes = send(gateway, caller, branch, digest, vec![asked]).await?;
    match outcomes.first() {
        Some(Ok(accepted)) if leaves(accepted) => {
            super::payments::answer(gateway, caller, branch, (echo.id, accepted.repeated), headers).await
        }
        Some(Ok(accepted)) => {
            let done = done(&echo, branch, accepted);
            Ok(replayed(created(StatusCode::CREATED, &done, &done.location), accepted.repeated))
        }
        Some(Err(rejection)) => Err(named(rejected(*rejection, currency, digest), echo.flags)),
        None => Err(Problem::numbered(catalogue::INTERNAL)),
    }
}

async fn send(
    gateway: &Gateway,
    caller: &Caller,
    branch: u16,
    digest: [u8; 16],
    asked: Vec<Asked>,
) -> Result<Vec<Outcome>, Problem> {
    match gateway.bank.ask(branch, caller, digest, Body::Transfers(asked)).await? {
        Reply::Transfers(outcomes) => Ok(outcomes),
        _ => Err(Problem::numbered(catalogue::INTERNAL)),
    }
}

/// Gives a field of the ledger the name it has in the request.
fn named(problem: Problem, flags: Flags) -> Problem {
    let field = match problem.field_name() {
        "related" if flags.has(Flags::POST) => "post",
        "related" if flags.has(Flags::VOID) => "void",
        "related" if flags.has(Flags::REVERSAL) => "reverse",
        "currency" => "amount.currency",
        "flags" => flag_named(problem.number(), flags),
        _ => return problem,
    };
    problem.field(field)
}

/// The member of the request that a refusal about flags is about.
fn flag_named(number: u16, flags: Flags) -> &'static str {
    match number {
        1001..=1003 => "linked",
        1022 => "closing",
        _ if flags.has(Flags::POST) => "post",
        _ if flags.has(Flags::VOID) => "void",
        _ if flags.has(Flags::REVERSAL) => "reverse",
        _ => "pending",
    }
}

pub(super) fn done(echo: &Echo, branch: u16, accepted: &Accepted) -> TransferDone {
    TransferDone {
        id: Id(echo.id),
        status: if leaves(accepted) { Status::Sent } else { status(accepted.kind) },
        amount: Money::minor(i128::from(accepted.amount), accepted.currency),
        booked_at: Instant(accepted.time_us),
        business_date: Day(accepted.business_date),
        position: accepted.position,
        location: location(branch, accepted, echo.id),
        repeated: accepted.repeated,
    }
}

/// What a kind of event means for its transfer.
pub(crate) const fn status(kind: MovedKind) -> Status {
    match kind {
        MovedKind::Posted | MovedKind::HoldPosted => Status::Posted,
        MovedKind::Held => Status::Pending,
        MovedKind::HoldVoided => Status::Voided,
        MovedKind::HoldExpired => Status::Expired,
    }
}

/// Whether it was debited here and goes to another branch.
fn leaves(accepted: &Accepted) -> bool {
    accepted.kind != MovedKind::Held && accepted.credit.branch() != accepted.debit.branch()
}

fn location(branch: u16, accepted: &Accepted, id: u128) -> String {
    if leaves(accepted) {
        return super::payments::location(id);
    }
    debug_assert_eq!(accepted.debit.branch(), branch, "a branch moves its own accounts");
    format!("/v1/accounts/{}/transfers/{}", AccountText(accepted.debit), Id(id))
}

/// Move money, many at a time
///
/// JSON, or `application/vnd.skerry.transfers` with records of 96 bytes, answered by results of 32 bytes. Results come in
/// order. Linked transfers stand next to each other and live in one branch.
#[utoipa::path(
    post, path = "/v1/transfers/batch", tag = "transfers",
    request_body(content(
        (BatchIn = "application/json"),
        (Vec<u8> = "application/vnd.skerry.transfers"),
    )),
    params(("Idempotency-Key" = Option<String>, Header, description = "For transfers without an `id`.")),
    responses(
        (status = 200, description = "Decided, each for itself or its chain", body = BatchDone),
        (status = "default", description = "Nothing was tried", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn batch(State(gateway): State<Shared>, caller: Caller, raw: Raw) -> Result<Response, Problem> {
    caller.may(Operation::TransfersWrite)?;
    if is_packed(&raw.headers) {
        super::packed::batch(&gateway, &caller, &raw).await
    } else {
        json_batch(&gateway, &caller, &raw).await
    }
}

async fn json_batch(gateway: &Shared, caller: &Caller, raw: &Raw) -> Result<Response, Problem> {
    let posted = Posted::<BatchIn>::read(raw)?;
    let wishes = &posted.body.transfers;
    if wishes.len() > gateway.limits.batch_transfers {
        return Err(too_many(gateway));
    }
    if wishes.iter().any(|wish| wish.reverse.is_some()) {
        caller.may(Operation::TransfersReverse)?;
    }
    let mut parts: Vec<Part> = Vec::new();
    let mut chain: Option<u16> = None;
    for (index, wish) in wishes.iter().enumerate() {
        let at = |problem: Problem| problem.at("transfers", index);
        // A chain goes where its first transfer goes; that branch then says which of the others it lacks.
        let branch = match chain {
            Some(branch) => branch,
            None => wish.branch().map_err(at)?,
        };
        chain = wish.linked.then_some(branch);
        may_resolve(gateway, caller, branch, wish.post.or(wish.void)).await.map_err(at)?;
        let id = match (&wish.id, &posted.key) {
            (None, Some(key)) => Some(derived::by_key(gateway, caller, branch, key, index).await?),
            _ => None,
        };
        let (asked, echo) = wish.asked(branch, id).map_err(at)?;
        caller.may_in(branch).map_err(at)?;
        Part::in_branch(&mut parts, branch).push(index, asked, echo, wish.note.clone());
    }
    let accept = raw.headers.get(header::ACCEPT_LANGUAGE);
    let language = accept.and_then(|value| value.to_str().ok()).map_or(Language::English, Language::of);
    let mut results: Vec<Option<Result<TransferDone, Problem>>> = wishes.iter().map(|_| None).collect();
    for part in &mut parts {
        part.seal(gateway, caller).await?;
    }
    for part in parts {
        part.decide(gateway, caller, raw.digest, &mut results).await;
    }
    let accepted = results.iter().flatten().filter(|result| result.is_ok()).count();
    let shown = |result| match result {
        Ok(done) => BatchResult::Done(done),
        Err(problem) => {
            let problem: Problem = problem;
            let line = serde_json::to_value(problem.document(language)).unwrap_or_default();
            BatchResult::Problem(RefusedLine(line))
        }
    };
    let results = results.into_iter().flatten().map(shown).collect();
    Ok(json(StatusCode::OK, &BatchDone { accepted: u32::try_from(accepted).unwrap_or(u32::MAX), results }))
}

pub(super) fn too_many(gateway: &Gateway) -> Problem {
    let most = gateway.limits.batch_transfers;
    let detail = said!("at most {most} transfers", "最多 {most} 笔交易");
    Problem::numbered(catalogue::BATCH_TOO_LARGE).field("transfers").detail(detail)
}

/// What of a batch goes to one branch.
pub(super) struct Part {
    branch: u16,
    indexes: Vec<usize>,
    asked: Vec<Asked>,
    echoes: Vec<Echo>,
    /// By index into `asked`.
    notes: Vec<(usize, String)>,
}

impl Part {
    /// The part of `branch`, begun if there is none yet.
    pub(super) fn in_branch(parts: &mut Vec<Self>, branch: u16) -> &mut Self {
        let index = parts.iter().position(|part| part.branch == branch).unwrap_or(parts.len());
        if index == parts.len() {
            let (indexes, asked, echoes, notes) = Default::default();
            parts.push(Self { branch, indexes, asked, echoes, notes });
        }
        &mut parts[index]
    }

    /// Adds the `index`-th transfer of the whole.
    pub(super) fn push(&mut self, index: usize, asked: Asked, echo: Echo, note: Option<String>) {
        self.notes.extend(note.map(|note| (self.asked.len(), note)));
        self.indexes.push(index);
        self.asked.push(asked);
        self.echoes.push(echo);
    }

    /// Seals the notes; a note that cannot be sealed is a problem of the whole batch, of which nothing was tried.
    async fn seal(&mut self, gateway: &Shared, caller: &Caller) -> Result<(), Problem> {
        let notes = std::mem::take(&mut self.notes);
        let sealing = notes::seal(gateway, caller, self.branch, &mut self.asked, notes);
        let index = |nth: usize| self.indexes.get(nth).copied().unwrap_or(nth);
        sealing.await.map_err(|(nth, problem)| problem.at("transfers", index(nth)))
    }

    /// Asks the branch and fills in the results; a branch that does not answer is a problem of each of its transfers.
    pub(super) async fn decide(
        self,
        gateway: &Gateway,
        caller: &Caller,
        digest: [u8; 16],
        results: &mut [Option<Result<TransferDone, Problem>>],
    ) {
        let currencies: Vec<Option<Currency>> =
            self.asked.iter().map(|asked| asked.transfer.currency).collect();
        let outcomes = send(gateway, caller, self.branch, digest, self.asked).await;
        for (nth, index) in self.indexes.iter().enumerate() {
            let echo = &self.echoes[nth];
            let result = match &outcomes {
                Ok(outcomes) => match outcomes.get(nth) {
                    Some(Ok(done_as)) => Ok(done(echo, self.branch, done_as)),
                    Some(Err(rejection)) => {
                        Err(named(rejected(*rejection, currencies[nth], digest), echo.flags))
                    }
                    None => Err(Problem::numbered(catalogue::INTERNAL)),
                },
                Err(problem) => Err(problem.clone()),
            };
            if let Some(slot) = results.get_mut(*index) {
                *slot = Some(result);
            }
        }
    }
}
