//! Promises: what clients were told, held against the model.

use skerry_book::Done;
use skerry_branch::api::{Accepted, AccountView, PaymentState, PaymentView};
use skerry_ledger::AccountRef;

use super::Promise;
use crate::model::{Broken, Model};

/// Whether the model bears the promise out; `false` if it has not come so far.
pub(super) fn confirmed(promise: &Promise, model: &Model) -> Result<bool, Broken> {
    match promise {
        Promise::Done { position, .. } if *position >= model.position => Ok(false),
        Promise::Done { key, position, told } => {
            let fact =
                model.fact(key.0).filter(|fact| fact.position == *position && fact.moved.digest == key.1);
            let Some(fact) = fact else {
                return Err(format!(
                    "{:032x} was acknowledged at {position}, where something else is",
                    key.0.0
                ));
            };
            let same = told.as_ref().is_none_or(|told| is_told_right(told, fact));
            if same {
                Ok(true)
            } else {
                Err(format!("acknowledged was {told:?}, recorded is {:?}", fact.moved))
            }
        }
        Promise::Refused { key, code } => match model.refused.get(&key.0) {
            Some(sticky) if sticky.digest == key.1 && sticky.code == *code => Ok(true),
            Some(sticky) => Err(format!("{:032x} was refused with {code}, recorded is {sticky:?}", key.0.0)),
            None => Ok(false),
        },
        Promise::Command { key, done } => match model.keys.get(key) {
            Some((kept, _)) if kept == done => Ok(true),
            Some((kept, _)) => Err(format!("a command was answered {done:?}, recorded is {kept:?}")),
            None => Ok(false),
        },
        Promise::Made(Done::Plain) => Ok(true),
        Promise::Made(Done::Customer(serial)) => Ok(*serial as usize <= model.customers.len()),
        Promise::Made(Done::Account(account)) => Ok(model.accounts.contains_key(account)),
        Promise::Read(view) if view.position > model.position => Ok(false),
        Promise::Read(view) => check_view(view, model).map(|()| true),
        Promise::Payment(view) if view.position >= model.position => Ok(false),
        Promise::Payment(view) => check_payment(view, model),
    }
}

/// Where the money of a payment is said to be.
fn check_payment(view: &PaymentView, model: &Model) -> Result<bool, Broken> {
    let peer = model.peers.get(&view.moved.credit.branch());
    let mut gone = peer.into_iter().flat_map(|peer| &peer.withdrawn);
    if let Some((.., until)) = gone.find(|(way, from, _)| (way.id, *from) == (view.moved.id, view.position)) {
        return match view.state {
            PaymentState::Returned { position, .. } if position != *until => {
                Err(format!("a payment withdrawn at {until} is said to be {:?}", view.state))
            }
            _ => Ok(true),
        };
    }
    let sent = peer.map(|peer| &peer.sent);
    let index = usize::try_from(view.n).unwrap_or(0).wrapping_sub(1);
    let out = sent.and_then(|sent| sent.get(index)).filter(|out| out.way.id == view.moved.id);
    let out = out.ok_or_else(|| format!("tells of a payment that was not sent: {view:?}"))?;
    let told = match view.state {
        PaymentState::Sent => return Ok(out.position == view.position),
        PaymentState::Settled => (0, out.end.map_or(0, |(_, position)| position)),
        PaymentState::Returned { outcome, position, .. } => (outcome, position),
    };
    match out.end {
        None => Ok(false),
        Some(end) if end == told => Ok(true),
        Some(end) => Err(format!("a payment is said to be {:?}, it ended with {end:?}", view.state)),
    }
}

fn is_told_right(told: &Accepted, fact: &crate::model::Fact) -> bool {
    let moved = &fact.moved;
    told.kind == moved.kind
        && (told.debit, told.credit, told.amount) == (moved.debit, moved.credit, moved.amount)
        && told.currency == moved.currency
        && told.time_us == moved.time_us
        && (told.business_date, told.value_date) == (moved.business_date, moved.value_date)
}

fn check_view(view: &AccountView, model: &Model) -> Result<(), Broken> {
    let AccountView { reference, account, position } = view;
    let (posted, held) = model.sums_at(*reference, *position);
    let same = posted == [account.debits_posted, account.credits_posted]
        && held == [account.debits_pending, account.credits_pending];
    if same {
        return Ok(());
    }
    let AccountRef(number) = reference;
    Err(format!(
        "account {number:016x} was read at {position} as {account:?}, was {posted:?} and held {held:?}"
    ))
}
