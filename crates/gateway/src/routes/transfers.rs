//! Moving money: one transfer, batches in JSON or packed, and what is done to earlier transfers.

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use skerry_book::actor::Role;
use skerry_book::derive_id;
use skerry_branch::api::{Accepted, Asked, Body, Outcome, Reply};
use skerry_ledger::{AccountRef, Flags, MovedKind, TransferId};
use skerry_money::Currency;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{created, json, replayed};
use crate::auth::{Caller, Operation};
use crate::bank::rejected;
use crate::catalogue;
use crate::derived;
use crate::detail::said;
use crate::extract::{Key, Maybe, Posted, Raw, is_packed};
use crate::gateway::{Gateway, Shared};
use crate::notes;
use crate::problem::{Language, Problem};
use crate::text;
use crate::wire::scalars::{AccountText, Day, Id, Instant, Money, Party};
use crate::wire::transfers::{
    BatchDone, BatchIn, BatchResult, Echo, RefusedLine, ResolveIn, Status, TransferDone, TransferIn,
};

pub(crate) fn router() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(transfer))
        .routes(routes!(batch))
        .routes(routes!(post))
        .routes(routes!(void))
        .routes(routes!(reverse))
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
async fn may_resolve(
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

async fn one(
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

/// What is done to an earlier transfer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Deed {
    Post,
    Void,
    Reverse,
}

/// Post a pending transfer
///
/// In full, or the part that `amount` says; the rest is released.
#[utoipa::path(
    post, path = "/v1/accounts/{number}/transfers/{id}/post", tag = "transfers", request_body = Option<ResolveIn>,
    params(
        ("number" = String, Path, description = "The debit account."),
        ("id" = Id, Path, description = "The pending transfer."),
        ("Idempotency-Key" = Option<String>, Header, description = "Instead of an `id` in the body."),
    ),
    responses(
        (status = 201, description = "Posted", body = TransferDone),
        (status = 200, description = "Posted before, under the same id", body = TransferDone),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn post(
    State(gateway): State<Shared>,
    caller: Caller,
    Path(path): Path<(String, String)>,
    Maybe(posted): Maybe<ResolveIn>,
) -> Result<Response, Problem> {
    deed(&gateway, &caller, path, posted, Deed::Post).await
}

/// Void a pending transfer
///
/// Releases what is held.
#[utoipa::path(
    post, path = "/v1/accounts/{number}/transfers/{id}/void", tag = "transfers", request_body = Option<ResolveIn>,
    params(
        ("number" = String, Path, description = "The debit account."),
        ("id" = Id, Path, description = "The pending transfer."),
        ("Idempotency-Key" = Option<String>, Header, description = "Instead of an `id` in the body."),
    ),
    responses(
        (status = 201, description = "Voided", body = TransferDone),
        (status = 200, description = "Voided before, under the same id", body = TransferDone),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn void(
    State(gateway): State<Shared>,
    caller: Caller,
    Path(path): Path<(String, String)>,
    Maybe(posted): Maybe<ResolveIn>,
) -> Result<Response, Problem> {
    deed(&gateway, &caller, path, posted, Deed::Void).await
}

/// Reverse a posted transfer
///
/// Moves the whole amount back. The reversal's id follows from the original, so it happens once. A payment to another branch
/// is reversed by a payment of that branch: the answer is 202 while it is under way. For operators.
#[utoipa::path(
    post, path = "/v1/accounts/{number}/transfers/{id}/reverse", tag = "transfers", request_body = Option<ResolveIn>,
    params(
        ("number" = String, Path, description = "The account that the original debited."),
        ("id" = Id, Path, description = "The original."),
    ),
    responses(
        (status = 201, description = "Reversed", body = TransferDone),
        (status = 202, description = "Debited in the payee's branch, and on its way back", body = crate::wire::payments::PaymentOut),
        (status = 200, description = "Reversed before", body = TransferDone),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn reverse(
    State(gateway): State<Shared>,
    caller: Caller,
    Path(path): Path<(String, String)>,
    Maybe(posted): Maybe<ResolveIn>,
) -> Result<Response, Problem> {
    caller.may(Operation::TransfersReverse)?;
    deed(&gateway, &caller, path, posted, Deed::Reverse).await
}

/// Where the original of a reversal was paid from and to, if it went to another branch: that branch decides, by a
/// payment back.
async fn paid_away(
    gateway: &Shared,
    caller: &Caller,
    (branch, number): (u16, &str),
    original: u128,
    deed: Deed,
) -> Result<Option<(u16, Party)>, Problem> {
    if deed != Deed::Reverse {
        return Ok(None);
    }
    let Ok(payer) = super::account_number(number) else { return Ok(None) };
    let found = super::payments::look(gateway, caller, branch, original).await?;
    let Some(moved) = found.map(|view| view.moved) else { return Ok(None) };
    if moved.debit != AccountRef::customer(payer.branch(), payer.serial()) {
        return Err(Problem::numbered(catalogue::NOT_FOUND).field("id"));
    }
    caller.may_in(moved.credit.branch())?;
    Ok(Some((moved.credit.branch(), Party::Account(payer))))
}

async fn deed(
    gateway: &Shared,
    caller: &Caller,
    (number, id): (String, String),
    posted: Posted<ResolveIn>,
    deed: Deed,
) -> Result<Response, Problem> {
    caller.may(Operation::TransfersWrite)?;
    let branch = super::lookups::debit_branch(&number)?;
    caller.may_in(branch)?;
    let related = super::lookups::transfer_id(&id)?;
    if caller.role() == Role::Customer {
        // The hold's account is not in the request, so the branch cannot tell whose it is: the path must.
        own_account(gateway, caller, &number).await?;
        may_resolve(gateway, caller, branch, (deed != Deed::Reverse).then_some(Id(related))).await?;
    }
    let wish = &posted.body;
    if deed != Deed::Post && wish.amount.is_some() {
        return Err(Problem::numbered(catalogue::INVALID_FIELD).field("amount").detail(said!(
            "only post takes an amount; void and reverse are whole",
            "仅入账可带金额；撤销和冲正须为全额"
        )));
    }
    let back = paid_away(gateway, caller, (branch, &number), related, deed).await?;
    let branch = back.map_or(branch, |(elsewhere, _)| elsewhere);
    let derived = match (wish.id, &posted.key) {
        (Some(_), _) => None,
        (None, _) if deed == Deed::Reverse => Some(reversal_id(gateway, branch, related)),
        (None, Some(key)) => Some(derived::by_key(gateway, caller, branch, key, 0).await?),
        (None, None) => None,
    };
    let debit = party(&number, deed);
    let transfer = TransferIn {
        id: wish.id,
        debit,
        credit: back.map(|(_, payer)| payer),
        amount: wish.amount,
        code: wish.code,
        reference: wish.reference.clone(),
        note: None,
        value_date: wish.value_date,
        pending: false,
        timeout: 0,
        linked: false,
        balancing: None,
        closing: None,
        post: (deed == Deed::Post).then_some(Id(related)),
        void: (deed == Deed::Void).then_some(Id(related)),
        reverse: (deed == Deed::Reverse).then_some(Id(related)),
    };
    let (asked, echo) = transfer.asked(branch, derived)?;
    one(gateway, caller, branch, (posted.digest, &HeaderMap::new()), asked, echo).await
}

/// The path's account as the request's debit, where it is one: a reversal debits what the original credited.
fn party(number: &str, deed: Deed) -> Option<Party> {
    match deed {
        Deed::Reverse => None,
        Deed::Post | Deed::Void => super::account_number(number).ok().map(Party::Account),
    }
}

async fn own_account(gateway: &Shared, caller: &Caller, number: &str) -> Result<(), Problem> {
    let number = super::account_number(number)?;
    super::accounts::look(gateway, caller, number).await.map(|_| ())
}

/// The id of the reversal of a transfer.
fn reversal_id(gateway: &Gateway, branch: u16, original: u128) -> u128 {
    let mut cause = Vec::with_capacity(32);
    cause.extend_from_slice(b"reversal ");
    cause.extend_from_slice(&branch.to_le_bytes());
    cause.extend_from_slice(&original.to_le_bytes());
    derive_id(&gateway.secrets.seed, &cause).0
}

/// A UUID of version 7 for `millis`, filled from 74 derived bits.
pub(crate) fn uuid_v7(millis: u64, bits: u128) -> u128 {
    let millis = u128::from(millis & 0xffff_ffff_ffff);
    let (high, low) = ((bits >> 64) & 0xfff, bits & 0x3fff_ffff_ffff_ffff);
    millis << 80 | 7 << 76 | high << 64 | 0b10 << 62 | low
}

/// A key as bytes that name it together with its principal.
pub(crate) fn key_bytes(caller: &Caller, key: &Key, index: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(300);
    bytes.extend_from_slice(b"transfer by key\0");
    bytes.extend_from_slice(caller.principal().as_str().as_bytes());
    bytes.push(0);
    bytes.extend_from_slice(key.bytes());
    bytes.push(0);
    bytes.extend_from_slice(text::hex(&index.to_le_bytes()).as_bytes());
    bytes
}
