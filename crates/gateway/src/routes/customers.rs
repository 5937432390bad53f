//! Customers: opened in the branch that the directory chooses, changed, erased.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use skerry_book::actor::Role;
use skerry_book::command::{ChangeCustomer, OpenCustomer};
use skerry_book::{Command, Done, Event};
use skerry_branch::api::{Answer, Body, Commanded, CustomerView as BookCustomer, Read, Reply};
use skerry_branch::keys::{KeyError, KeyRef};
use skerry_directory::{Alias, Ask, Choice, CustomerRef};
use skerry_money::{CustomerNumber, Date};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{command, created, customer_number, json, json_keyed, keyed, serial};
use crate::auth::{Caller, Operation};
use crate::bank::rejected;
use crate::catalogue;
use crate::detail::said;
use crate::extract::{Key, Maybe, Posted};
use crate::gateway::{Gateway, Shared};
use crate::problem::Problem;
use crate::residence::{self, Bound};
use crate::sealing::{self, CUSTOMER_ERASED, Personal};
use crate::wire::customers::{CustomerChange, CustomerDone, CustomerIn, CustomerView, check_personal};
use crate::wire::scalars::{AccountText, Customer, Day};
use skerry_node::seat::Trouble;

pub(crate) fn router() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(open)).routes(routes!(get, change, erase))
}

/// Accounts listed with a customer.
const ACCOUNTS_MAX: usize = 1_000;

/// Open a customer
///
/// Name and document are sealed under a key of the customer's own before any branch sees them. The same document twice
/// is refused with the number of the customer who has it.
#[utoipa::path(
    post, path = "/v1/customers", tag = "customers", request_body = CustomerIn,
    params(("Idempotency-Key" = Option<String>, Header)),
    responses(
        (status = 201, description = "Opened", body = CustomerDone),
        (status = 200, description = "Opened before: the answer to a retry", body = CustomerDone),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn open(
    State(gateway): State<Shared>,
    caller: Caller,
    posted: Posted<CustomerIn>,
) -> Result<Response, Problem> {
    caller.may(Operation::CustomersWrite)?;
    caller.may_beyond_one_customer()?;
    let key = posted.key_or_new();
    let wish = posted.body;
    if wish.branch.is_some() && caller.role() != Role::Operator {
        let detail = said!("only operators choose the branch", "仅操作员可指定分行");
        return Err(Problem::numbered(catalogue::FORBIDDEN).field("branch").detail(detail));
    }
    let personal = Personal { name: wish.name, document: wish.document, contacts: wish.contacts };
    let newcomer = Newcomer { personal, line: wish.line, branch: wish.branch, opened: None };
    let placed = place(&gateway, &caller, posted.digest, &key, &newcomer).await?;
    let location = format!("/v1/customers/{}", placed.customer);
    let done = CustomerDone { id: Customer(placed.customer), branch: placed.customer.branch(), location };
    Ok(keyed(created(StatusCode::CREATED, &done, &done.location), &key, placed.repeated))
}

/// A customer to be placed.
pub(crate) struct Newcomer {
    pub(crate) personal: Personal,
    pub(crate) line: u8,
    pub(crate) branch: Option<u16>,
    pub(crate) opened: Option<Date>,
}

/// Where a customer came to live.
pub(crate) struct Placed {
    pub(crate) customer: CustomerNumber,
    /// It was done before, under the same key.
    pub(crate) repeated: bool,
}

/// Opens a customer once in the whole bank.
///
/// The directory binds the document to one branch, for a retry and for whoever else comes with it; that branch decides.
pub(crate) async fn place(
    gateway: &Shared,
    caller: &Caller,
    digest: [u8; 16],
    key: &Key,
    newcomer: &Newcomer,
) -> Result<Placed, Problem> {
    check_personal(&newcomer.personal)?;
    let document = gateway.secrets.document.hmac(&newcomer.personal.document);
    let alias = residence::document(newcomer.line, document);
    let choice = match newcomer.branch {
        Some(branch) => Choice::In(gateway.bank.seat(branch)?.number()),
        None => residence::choice(&gateway.bank, caller),
    };
    gateway.residence.report(&gateway.bank);
    let bound = residence::bind(gateway, alias, &choice).await?;
    caller.may_in(bound.branch)?;
    let (key_ref, sealed) = seal_new(gateway, bound.branch, newcomer.personal.clone()).await?;
    let wish = OpenCustomer {
        document,
        key_ref: key_ref.0,
        line: newcomer.line,
        opened: newcomer.opened,
        sealed: sealed.into_boxed_slice(),
    };
    match claimed(gateway, caller, &bound, digest, key, Command::OpenCustomer(wish)).await {
        Ok(Commanded { done: Done::Customer(serial), repeated }) => {
            confirm(gateway, &bound, alias, serial);
            Ok(Placed { customer: customer_of(bound.branch, serial)?, repeated })
        }
        Ok(_) => Err(Problem::numbered(catalogue::INTERNAL)),
        Err(problem) if problem.number() == DOCUMENT_KNOWN => {
            match residence::in_branch(gateway, alias, bound.branch).await? {
                Some(owner) => {
                    confirm(gateway, &bound, alias, owner.serial);
                    Err(problem.existing(customer_of(owner.branch, owner.serial)?.to_string()))
                }
                None => Err(problem),
            }
        }
        Err(problem) => Err(problem),
    }
}

/// Sends a command that rests on a claim: the branch begins while it runs, or not at all.
async fn claimed(
    gateway: &Gateway,
    caller: &Caller,
    bound: &Bound,
    digest: [u8; 16],
    key: &Key,
    command: Command,
) -> Result<Commanded, Problem> {
    let body = Body::Command { command: Box::new(command), key: Some(key.boxed()) };
    let begins = bound.begins()?;
    match gateway.bank.ask_within(bound.branch, (caller, digest), body, begins).await? {
        Reply::Command(Ok(commanded)) => Ok(commanded),
        Reply::Command(Err(rejection)) => Err(rejected(rejection, None, digest)),
        _ => Err(Problem::numbered(catalogue::INTERNAL)),
    }
}

/// Tells the directory whose the document is. If that is lost, it is found out when somebody comes with it.
fn confirm(gateway: &Gateway, bound: &Bound, alias: Alias, serial: u32) {
    let customer = CustomerRef { branch: bound.branch, serial };
    if bound.known != Some(customer) {
        gateway.residence.tell(Ask::Confirm { aliases: vec![alias], customer });
    }
}

/// The book's number for a document that is known.
pub(crate) const DOCUMENT_KNOWN: u16 = 3021;

fn customer_of(branch: u16, serial: u32) -> Result<CustomerNumber, Problem> {
    CustomerNumber::try_new(branch, u64::from(serial)).map_err(|_| Problem::numbered(catalogue::INTERNAL))
}

/// Takes a key and seals under it, on a thread that may block.
async fn seal_new(gateway: &Shared, branch: u16, personal: Personal) -> Result<(KeyRef, Vec<u8>), Problem> {
    let keys = gateway.bank.seat(branch)?.keys();
    let gateway = Shared::clone(gateway);
    blocking(move || {
        let key = gateway.newcomers.key(branch, &*keys)?;
        Ok((key, keys.seal(key, &personal.to_plain())?))
    })
    .await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, KeyError> + Send + 'static,
) -> Result<T, Problem> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(made)) => Ok(made),
        Ok(Err(error)) => Err(sealing::keyless(&error)),
        Err(_) => Err(Problem::numbered(catalogue::INTERNAL)),
    }
}

const CUSTOMER_NOT_FOUND: u16 = 3020;

/// Look at a customer
///
/// Auditors see no names.
#[utoipa::path(
    get, path = "/v1/customers/{id}", tag = "customers",
    params(("id" = String, Path, description = "The customer.")),
    responses(
        (status = 200, description = "The customer", body = CustomerView),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn get(
    State(gateway): State<Shared>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    caller.may(Operation::CustomersRead)?;
    let number = customer_number(&id)?;
    caller.may_for(number)?;
    let found = find(&gateway, &caller, number).await?;
    let may_see_names = caller.may_read_personal_data() && !found.customer.erased;
    let personal = if may_see_names { unseal(&gateway, number.branch(), &found).await? } else { None };
    let (name, document, contacts) = match personal {
        Some(personal) => (Some(personal.name), Some(personal.document), Some(personal.contacts)),
        None => (None, None, None),
    };
    let accounts =
        found.accounts.iter().take(ACCOUNTS_MAX).map(|(reference, _)| AccountText(*reference)).collect();
    let view = CustomerView {
        id: Customer(number),
        branch: number.branch(),
        line: found.customer.line,
        status: if found.customer.erased { "erased" } else { "active" },
        opened: Day(found.customer.opened),
        name,
        document,
        contacts,
        accounts,
    };
    Ok(json(StatusCode::OK, &view))
}

async fn find(
    gateway: &Gateway,
    caller: &Caller,
    number: CustomerNumber,
) -> Result<Box<BookCustomer>, Problem> {
    match gateway.bank.look(number.branch(), caller, Read::Customer(serial(number)?)).await? {
        Some(Answer::Customer(found)) => Ok(found),
        _ => Err(Problem::numbered(CUSTOMER_NOT_FOUND).field("id")),
    }
}

/// What is sealed of a customer; `None` if the key is gone.
async fn unseal(gateway: &Gateway, branch: u16, found: &BookCustomer) -> Result<Option<Personal>, Problem> {
    let key = KeyRef(found.customer.key_ref);
    let sealed_at = found.customer.sealed_at;
    let sealed = gateway
        .bank
        .query(branch, move |seat| match seat.record(sealed_at)?.event {
            Event::CustomerOpened(opened) => Ok(opened.sealed),
            Event::CustomerChanged(changed) => Ok(changed.sealed),
            _ => Err(Trouble::Failed(format!("position {sealed_at} holds no customer"))),
        })
        .await?;
    let keys = gateway.bank.seat(branch)?.keys();
    match blocking(move || keys.unseal(key, &sealed)).await {
        Ok(plain) => Ok(Personal::from_plain(&plain)),
        Err(problem) if problem.number() == CUSTOMER_ERASED => Ok(None),
        Err(problem) => Err(problem),
    }
}

/// Change a customer
///
/// What is left out stays. The whole is sealed anew under the same key.
#[utoipa::path(
    patch, path = "/v1/customers/{id}", tag = "customers", request_body = CustomerChange,
    params(("id" = String, Path, description = "The customer."), ("Idempotency-Key" = Option<String>, Header)),
    responses(
        (status = 200, description = "Changed", body = CustomerDone),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn change(
    State(gateway): State<Shared>,
    caller: Caller,
    Path(id): Path<String>,
    posted: Posted<CustomerChange>,
) -> Result<Response, Problem> {
    caller.may(Operation::CustomersWrite)?;
    let number = customer_number(&id)?;
    caller.may_for(number)?;
    let branch = number.branch();
    let found = find(&gateway, &caller, number).await?;
    let key = posted.key_or_new();
    let Some(mut personal) = unseal(&gateway, branch, &found).await? else {
        return Err(Problem::numbered(CUSTOMER_ERASED));
    };
    let wish = posted.body;
    let document = wish.document.is_some();
    personal.name = wish.name.unwrap_or(personal.name);
    personal.document = wish.document.unwrap_or(personal.document);
    personal.contacts = wish.contacts.unwrap_or(personal.contacts);
    check_personal(&personal)?;
    let hmac = gateway.secrets.document.hmac(&personal.document);
    let own = CustomerRef { branch, serial: found.serial };
    let alias = residence::document(found.customer.line, hmac);
    let bound = if document { Some(bind_new(&gateway, alias, own).await?) } else { None };
    let keys = gateway.bank.seat(branch)?.keys();
    let key_ref = KeyRef(found.customer.key_ref);
    let sealed = blocking(move || keys.seal(key_ref, &personal.to_plain())).await?;
    let wish = Command::ChangeCustomer(ChangeCustomer {
        customer: found.serial,
        document: document.then_some(hmac),
        sealed: sealed.into_boxed_slice(),
    });
    let changed = match &bound {
        None => command(&gateway, &caller, branch, posted.digest, Some(&key), wish).await?,
        Some(bound) => claimed(&gateway, &caller, bound, posted.digest, &key, wish).await?,
    };
    if let Some(bound) = bound {
        confirm(&gateway, &bound, alias, own.serial);
        let old = residence::document(found.customer.line, found.customer.document);
        if old != alias {
            gateway.residence.tell(Ask::Forget { aliases: vec![old], customer: own });
        }
    }
    let done = CustomerDone { id: Customer(number), branch, location: format!("/v1/customers/{number}") };
    Ok(json_keyed(StatusCode::OK, &done, &key, changed.repeated))
}

/// Binds a customer's new document to the branch they live in.
async fn bind_new(gateway: &Gateway, alias: Alias, own: CustomerRef) -> Result<Bound, Problem> {
    loop {
        let bound = residence::bind(gateway, alias, &Choice::In(own.branch)).await?;
        if bound.branch == own.branch {
            // Whether it is another's here its own book knows.
            return Ok(bound);
        }
        match (residence::in_branch(gateway, alias, bound.branch).await?, bound.known) {
            (Some(owner), _) => {
                confirm(gateway, &bound, alias, owner.serial);
                let existing = customer_of(owner.branch, owner.serial)?.to_string();
                return Err(Problem::numbered(DOCUMENT_KNOWN).field("document").existing(existing));
            }
            // They have it no more, and the directory was not told.
            (None, Some(before)) => {
                gateway.residence.order(Ask::Forget { aliases: vec![alias], customer: before }).await?;
            }
            // Somebody is about to open a customer with it there.
            (None, None) => {
                return Err(Problem::numbered(catalogue::DOCUMENT_RESERVED)
                    .field("document")
                    .retry_after_ms(1_000));
            }
        }
    }
}

/// Erase a customer
///
/// Destroys the customer's key: name and document are unreadable for ever, in every copy. Refused while accounts are open and
/// until the legal retention is over. For operators; can be put under four eyes.
#[utoipa::path(
    delete, path = "/v1/customers/{id}", tag = "customers",
    params(("id" = String, Path, description = "The customer."), ("Idempotency-Key" = Option<String>, Header)),
    responses(
        (status = 204, description = "Erased"),
        (status = "default", description = "Refused", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    )
)]
async fn erase(
    State(gateway): State<Shared>,
    caller: Caller,
    Path(id): Path<String>,
    Maybe(posted): Maybe<super::Empty>,
) -> Result<Response, Problem> {
    caller.may(Operation::CustomersWrite)?;
    if caller.role() != Role::Operator {
        return Err(
            Problem::numbered(catalogue::FORBIDDEN).detail(said!("only operators erase", "仅操作员可删除"))
        );
    }
    let number = customer_number(&id)?;
    caller.may_for(number)?;
    let key = posted.key_or_new();
    let found = find(&gateway, &caller, number).await?;
    let wish = Command::EraseCustomer(serial(number)?);
    let erased = command(&gateway, &caller, number.branch(), posted.digest, Some(&key), wish).await?;
    // The branch destroys the key too, a moment after its event is durable. Whoever is told that it is done must not
    // find a note readable in that moment.
    let (keys, key_ref) = (gateway.bank.seat(number.branch())?.keys(), KeyRef(found.customer.key_ref));
    blocking(move || keys.erase(key_ref)).await?;
    let alias = residence::document(found.customer.line, found.customer.document);
    let customer = CustomerRef { branch: number.branch(), serial: found.serial };
    gateway.residence.tell(Ask::Forget { aliases: vec![alias], customer });
    Ok(keyed(StatusCode::NO_CONTENT.into_response(), &key, erased.repeated))
}
