//! Imports: an old core's customers, accounts and transactions, with their own dates and times.
//!
//! Every item derives its key or id from its cause, so doing it again changes nothing and says so.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::Response;
use skerry_book::command::OpenAccount;
use skerry_book::{Chart, Command, Done, derive_id};
use skerry_branch::api::{Asked, Body, Reply};
use skerry_ledger::{Flags, Imported, Transfer, TransferId, UNLIMITED};
use skerry_money::CustomerNumber;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::customers::{DOCUMENT_KNOWN, Newcomer, place};
use super::{command, json, serial};
use crate::auth::Caller;
use crate::bank::rejected;
use crate::catalogue;
use crate::detail::said;
use crate::extract::{Key, Posted, Raw};
use crate::gateway::{Gateway, Shared};
use crate::join;
use crate::known::Fixed;
use crate::problem::{Language, Problem};
use crate::sealing::Personal;
use crate::wire::imports::{
    AccountsIn, CustomersIn, ITEMS_MAX, ImportAccount, ImportCustomer, ImportDone, ImportResult,
    ImportTransfer, TransfersIn,
};
use crate::wire::scalars::{AccountText, Customer, Id, Party};
use crate::wire::transfers::set_reference;

pub(crate) fn router() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(customers)).routes(routes!(accounts)).routes(routes!(transfers))
}

/// The longest cause, in bytes: a key of 255 less its prefix, with room to spare.
const CAUSE_MAX: usize = 200;

fn check_causes<'a>(
    list: &'static str,
    causes: impl Iterator<Item = &'a str>,
    most: usize,
) -> Result<usize, Problem> {
    let mut count = 0;
    for cause in causes {
        if cause.is_empty() || cause.len() > CAUSE_MAX || !cause.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Problem::numbered(catalogue::INVALID_FIELD)
                .field("cause")
                .detail(said!(
                    "1 to {CAUSE_MAX} visible characters of ASCII",
                    "1 至 {CAUSE_MAX} 个可见 ASCII 字符"
                ))
                .at(list, count));
        }
        count += 1;
    }
    if count > most {
        let detail = said!("at most {most} in one call", "每次最多 {most} 条");
        return Err(Problem::numbered(catalogue::BATCH_TOO_LARGE).field(list).detail(detail));
    }
    Ok(count)
}

/// The digest under which an item's key is kept: the item's own, not that of the request it happened to come in.
fn item_digest(gateway: &Gateway, kind: &str, parts: &[&str]) -> [u8; 16] {
    let mut all = vec![&b"import item"[..], kind.as_bytes()];
    all.extend(parts.iter().map(|part| part.as_bytes()));
    gateway.digests.request(&all)
}

/// Adds results up.
struct Tally {
    done: ImportDone,
    language: Language,
}

impl Tally {
    fn new(count: usize, raw: &Raw) -> Self {
        let accept = raw.headers.get(header::ACCEPT_LANGUAGE);
        let language = accept.and_then(|value| value.to_str().ok()).map_or(Language::English, Language::of);
        let results = Vec::with_capacity(count);
        Self { done: ImportDone { new: 0, repeated: 0, refused: 0, results }, language }
    }

    fn add(&mut self, cause: &str, result: Result<ImportResult, Problem>) {
        let result = match result {
            Ok(result) if result.repeated => {
                self.done.repeated += 1;
                result
            }
            Ok(result) => {
                self.done.new += 1;
                result
            }
            Err(problem) => {
                self.done.refused += 1;
                let document = serde_json::to_value(problem.document(self.language)).ok();
                ImportResult { problem: document, ..ImportResult::default() }
            }
        };
        self.done.results.push(ImportResult { cause: cause.to_owned(), ..result });
    }
}

/// Import customers
///
/// A customer whose document is known already is answered with the number they have.
#[utoipa::path(
    post, path = "/v1/import/customers", tag = "import", request_body = CustomersIn,
    responses(
        (status = 200, description = "Done, each for itself", body = ImportDone),
        (status = "default", description = "Nothing was tried", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn customers(State(gateway): State<Shared>, caller: Caller, raw: Raw) -> Result<Response, Problem> {
    let caller = caller.importing()?;
    let posted = Posted::<CustomersIn>::read(&raw)?;
    let items = posted.body.customers;
    let count = check_causes("customers", items.iter().map(|item| item.cause.as_str()), ITEMS_MAX)?;
    let mut tally = Tally::new(count, &raw);
    let causes: Vec<String> = items.iter().map(|item| item.cause.clone()).collect();
    let results = join::all(items.into_iter().map(|item| customer(&gateway, &caller, item)), TOGETHER).await;
    for (cause, result) in causes.iter().zip(results) {
        tally.add(cause, result);
    }
    Ok(json(StatusCode::OK, &tally.done))
}

/// Items of one call that are under way at once: they share the branches' batches.
const TOGETHER: usize = 128;

async fn customer(gateway: &Shared, caller: &Caller, item: ImportCustomer) -> Result<ImportResult, Problem> {
    let opened = item.opened.map(|day| day.to_string()).unwrap_or_default();
    let document = &item.document;
    let digest = item_digest(
        gateway,
        "customer",
        &[&item.cause, &item.name, &document.kind, &document.number, &opened],
    );
    let key = Key::caused("customer", &item.cause);
    let personal = Personal { name: item.name, document: item.document, contacts: item.contacts };
    let opened = item.opened.map(|day| day.0);
    let newcomer = Newcomer { personal, line: item.line, branch: item.branch, opened };
    match place(gateway, caller, digest, &key, &newcomer).await {
        Ok(placed) => Ok(customer_result(placed.customer, placed.repeated)),
        Err(problem) if problem.number() == DOCUMENT_KNOWN => match problem.existing_id() {
            Some(Ok(number)) => Ok(customer_result(number, true)),
            _ => Err(problem),
        },
        Err(problem) => Err(problem),
    }
}

fn customer_result(customer: CustomerNumber, repeated: bool) -> ImportResult {
    ImportResult { customer: Some(Customer(customer)), repeated, ..ImportResult::default() }
}

/// Import accounts
///
/// With the dates and overdrafts of the old core.
#[utoipa::path(
    post, path = "/v1/import/accounts", tag = "import", request_body = AccountsIn,
    responses(
        (status = 200, description = "Done, each for itself", body = ImportDone),
        (status = "default", description = "Nothing was tried", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn accounts(State(gateway): State<Shared>, caller: Caller, raw: Raw) -> Result<Response, Problem> {
    let caller = caller.importing()?;
    let posted = Posted::<AccountsIn>::read(&raw)?;
    let items = posted.body.accounts;
    let count = check_causes("accounts", items.iter().map(|item| item.cause.as_str()), ITEMS_MAX)?;
    let mut tally = Tally::new(count, &raw);
    let mut charts = BTreeMap::new();
    for branch in items.iter().map(|item| item.customer.0.branch()).collect::<BTreeSet<u16>>() {
        charts.insert(branch, chart(&gateway, &caller, branch).await);
    }
    let results =
        join::all(items.iter().map(|item| account(&gateway, &caller, &charts, item)), TOGETHER).await;
    for (item, result) in items.iter().zip(results) {
        tally.add(&item.cause, result);
    }
    Ok(json(StatusCode::OK, &tally.done))
}

/// A branch's chart, or why there is none for this caller.
type Charted = Result<Box<Chart>, Problem>;

async fn chart(gateway: &Gateway, caller: &Caller, branch: u16) -> Charted {
    caller.may_in(branch)?;
    super::accounts::chart(gateway, caller, branch).await
}

async fn account(
    gateway: &Gateway,
    caller: &Caller,
    charts: &BTreeMap<u16, Charted>,
    item: &ImportAccount,
) -> Result<ImportResult, Problem> {
    let customer = item.customer.0;
    let branch = customer.branch();
    let chart = match charts.get(&branch) {
        Some(Ok(chart)) => chart,
        Some(Err(problem)) => return Err(problem.clone()),
        None => return Err(Problem::numbered(catalogue::INTERNAL)),
    };
    let currency = item.currency.0;
    let asked = OpenAccount {
        customer: serial(customer)?,
        product: super::accounts::product(chart, &item.product)?,
        currency,
        opened: item.opened.map(|day| day.0),
        floor: item.floor.map_or(Ok(0), |money| super::accounts::minor(money, currency, "floor"))?,
        daily_limit: UNLIMITED,
    };
    let owner = asked.customer;
    let opened = item.opened.map(|day| day.to_string()).unwrap_or_default();
    let (customer, floor) = (customer.to_string(), asked.floor.to_string());
    let parts = [&*item.cause, &*customer, &*item.product, currency.alpha(), &*opened, &*floor];
    let digest = item_digest(gateway, "account", &parts);
    let key = Key::caused("account", &item.cause);
    let opened = command(gateway, caller, branch, digest, Some(&key), Command::OpenAccount(asked)).await?;
    match opened.done {
        Done::Account(reference) => {
            gateway.bank.known.keep(reference, Fixed { currency, owner });
            let repeated = opened.repeated;
            Ok(ImportResult { account: Some(AccountText(reference)), repeated, ..ImportResult::default() })
        }
        _ => Err(Problem::numbered(catalogue::INTERNAL)),
    }
}

/// Import transfers
///
/// In the order of time. Each posts to its old business date, before the branch's live date.
#[utoipa::path(
    post, path = "/v1/import/transfers", tag = "import", request_body = TransfersIn,
    responses(
        (status = 200, description = "Done, each for itself", body = ImportDone),
        (status = "default", description = "Nothing was tried", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn transfers(State(gateway): State<Shared>, caller: Caller, raw: Raw) -> Result<Response, Problem> {
    let caller = caller.importing()?;
    let posted = Posted::<TransfersIn>::read(&raw)?;
    let items = posted.body.transfers;
    let causes = items.iter().map(|item| item.cause.as_str());
    let count = check_causes("transfers", causes, gateway.limits.batch_transfers)?;
    let mut parts: BTreeMap<u16, (Vec<usize>, Vec<Asked>)> = BTreeMap::new();
    for (index, item) in items.iter().enumerate() {
        let (branch, asked) = imported(&gateway, item).map_err(|problem| problem.at("transfers", index))?;
        let part = parts.entry(branch).or_default();
        part.0.push(index);
        part.1.push(asked);
    }
    let mut results: Vec<Option<Result<ImportResult, Problem>>> = (0..count).map(|_| None).collect();
    for (branch, (indexes, asked)) in parts {
        let outcomes = decide(&gateway, &caller, branch, raw.digest, asked).await;
        for (nth, index) in indexes.into_iter().enumerate() {
            let result = match &outcomes {
                Ok(outcomes) => {
                    outcomes.get(nth).cloned().unwrap_or_else(|| Err(Problem::numbered(catalogue::INTERNAL)))
                }
                Err(problem) => Err(problem.clone()),
            };
            if let Some(slot) = results.get_mut(index) {
                *slot = Some(result.map(|(id, repeated)| ImportResult {
                    transfer: Some(Id(id)),
                    repeated,
                    ..ImportResult::default()
                }));
            }
        }
    }
    let mut tally = Tally::new(count, &raw);
    for (item, result) in items.iter().zip(results.into_iter().flatten()) {
        tally.add(&item.cause, result);
    }
    Ok(json(StatusCode::OK, &tally.done))
}

type Decided = Result<(u128, bool), Problem>;

async fn decide(
    gateway: &Gateway,
    caller: &Caller,
    branch: u16,
    digest: [u8; 16],
    asked: Vec<Asked>,
) -> Result<Vec<Decided>, Problem> {
    caller.may_in(branch)?;
    let ids: Vec<_> = asked.iter().map(|asked| (asked.transfer.id.0, asked.transfer.currency)).collect();
    match gateway.bank.ask(branch, caller, digest, Body::Transfers(asked)).await? {
        Reply::Transfers(outcomes) => {
            let decided = outcomes.into_iter().zip(ids).map(|(outcome, (id, currency))| match outcome {
                Ok(accepted) => Ok((id, accepted.repeated)),
                Err(rejection) => Err(rejected(rejection, currency, digest)),
            });
            Ok(decided.collect())
        }
        _ => Err(Problem::numbered(catalogue::INTERNAL)),
    }
}

fn imported(gateway: &Gateway, item: &ImportTransfer) -> Result<(u16, Asked), Problem> {
    let branch = item.debit.branch().or_else(|| item.credit.branch()).ok_or_else(|| {
        Problem::numbered(catalogue::INVALID_FIELD).field("debit").detail(said!(
            "between two heads, name the branch: gl:1001@0001",
            "两个科目之间须指明分行：gl:1001@0001"
        ))
    })?;
    let currency = item.amount.0.currency();
    let side = |party: Party, field: &'static str| {
        party
            .reference(branch, Some(currency))
            .ok_or_else(|| Problem::numbered(catalogue::INVALID_FIELD).field(field))
    };
    let mut cause = b"import transfer\0".to_vec();
    cause.extend_from_slice(item.cause.as_bytes());
    let transfer = Transfer {
        id: TransferId(derive_id(&gateway.secrets.seed, &cause).0),
        debit: side(item.debit, "debit")?,
        credit: side(item.credit, "credit")?,
        amount: item.amount.0.minor(),
        currency: Some(currency),
        code: item.code,
        flags: Flags::IMPORTED,
        reference: [0; 16],
        related: TransferId::NONE,
        timeout_seconds: 0,
        value_date: item.value_date.map(|day| day.0),
        imported: Some(Imported { time_us: item.time.0, business_date: item.business_date.0 }),
        digest: 0,
    };
    let mut asked = Asked { transfer, ..Asked::default() };
    set_reference(&mut asked, item.reference.as_deref().unwrap_or(""))?;
    Ok((branch, asked))
}
