//! What happened, told: durable records as acts of an audit and as CloudEvents. Ids and figures, never personal data.

use serde_json::{Map, Value, json};
use skerry_book::Event;
use skerry_book::actor::Role;
use skerry_book::event::ArchiveBefore;
use skerry_book::event::Refused;
use skerry_branch::evidence::receipts::Recorded;
use skerry_ledger::{AccountRef, Moved, MovedKind, TransferId};
use skerry_money::CustomerNumber;

use crate::text;
use crate::wire::reports::{Act, CloudEvent};
use crate::wire::scalars::{AccountText, CurrencyText, Customer, Day, Id, Instant, Money};

/// What an event is about.
#[derive(Debug, Default)]
pub(crate) struct About {
    /// Its name: what the audit calls it, and what follows `skerry.` in the type of a CloudEvent.
    pub name: &'static str,
    /// The accounts it touches.
    pub accounts: Vec<AccountRef>,
    /// The customer it touches, by serial.
    pub customer: Option<u32>,
    /// The transfer.
    pub transfer: Option<TransferId>,
    /// The amount.
    pub amount: Option<Money>,
    /// Everything else worth telling.
    pub data: Map<String, Value>,
}

/// What `event` is about.
#[must_use]
pub(crate) fn about(event: &Event) -> About {
    match event {
        Event::Moved(moved) => about_moved(moved),
        Event::Refused(refused) => about_refused(refused),
        Event::Sent(e) if e.payer.is_some() => taken_back(&e.moved, e.n, None, e.payer),
        Event::Received(e) if e.payee.is_some() => {
            taken_back(&e.moved, e.n, Some(e.outcome).filter(|outcome| *outcome != 0), e.payee)
        }
        Event::Sent(e) => payment("payment.sent", &e.moved, e.n, None),
        Event::Received(e) if e.outcome == 0 => payment("payment.received", &e.moved, e.n, None),
        Event::Received(e) => payment("payment.refused", &e.moved, e.n, Some(e.outcome)),
        Event::Returned(e) if e.withdrawn => payment("payment.withdrawn", &e.moved, e.n, Some(e.outcome)),
        Event::Returned(e) => payment("payment.returned", &e.moved, e.n, Some(e.outcome)),
        other => about_other(other),
    }
}

fn about_moved(moved: &Moved) -> About {
    let name = match moved.kind {
        MovedKind::Posted => "transfer.posted",
        MovedKind::Held => "transfer.pending",
        MovedKind::HoldPosted => "transfer.pending_posted",
        MovedKind::HoldVoided => "transfer.voided",
        MovedKind::HoldExpired => "transfer.expired",
    };
    let mut data = Map::new();
    data.insert("code".to_owned(), moved.code.into());
    data.insert("value_date".to_owned(), moved.value_date.to_string().into());
    if let Some(reference) = crate::routes::lookups::reference(moved) {
        data.insert("reference".to_owned(), reference.into());
    }
    if moved.related != TransferId::NONE {
        data.insert("related".to_owned(), Id(moved.related.0).to_string().into());
    }
    if moved.imported_us != 0 {
        data.insert("imported_at".to_owned(), text::time(moved.imported_us).into());
    }
    About {
        name,
        accounts: vec![moved.debit, moved.credit],
        transfer: Some(moved.id),
        amount: Some(Money::minor(i128::from(moved.amount), moved.currency)),
        data,
        ..About::default()
    }
}

/// A payment between branches: its number on the channel, and why it was not accepted.
fn payment(name: &'static str, moved: &Moved, n: u64, outcome: Option<u16>) -> About {
    let mut about = About { name, ..about_moved(moved) };
    about.data.insert("number".to_owned(), n.into());
    if let Some(entry) = outcome.and_then(crate::catalogue::find) {
        about.data.insert("reason".to_owned(), entry.code.into());
    }
    about
}

/// A payment that this branch had lost and another one gave back; `lacking` is its account if it could not be booked there.
fn taken_back(moved: &Moved, n: u64, outcome: Option<u16>, named: Option<AccountRef>) -> About {
    let mut about = payment("payment.taken_back", moved, n, outcome);
    let lacking = named.filter(|account| ![moved.debit, moved.credit].contains(account));
    if let Some(account) = lacking {
        about.data.insert("lacking".to_owned(), AccountText(account).to_string().into());
    }
    about
}

fn about_refused(refused: &Refused) -> About {
    let mut data = Map::new();
    let entry = crate::catalogue::find(refused.code);
    data.insert("number".to_owned(), refused.code.into());
    data.insert("code".to_owned(), entry.map_or("", |entry| entry.code).into());
    About {
        name: "transfer.refused",
        accounts: vec![refused.debit, refused.credit],
        transfer: Some(refused.id),
        data,
        ..About::default()
    }
}

fn about_other(event: &Event) -> About {
    let plain = |name: &'static str, data: Value| {
        let data = match data {
            Value::Object(data) => data,
            _ => Map::new(),
        };
        About { name, data, ..About::default() }
    };
    let account = |name, account: AccountRef, data| About { accounts: vec![account], ..plain(name, data) };
    let customer = |name, customer: u32, data| About { customer: Some(customer), ..plain(name, data) };
    let sides = |sides: &skerry_ledger::Sides| json!({"debit": sides.debit, "credit": sides.credit});
    match event {
        Event::CustomerOpened(e) => {
            customer("customer.opened", e.customer, json!({"line": e.line, "opened": e.opened.to_string()}))
        }
        Event::CustomerChanged(e) => customer("customer.changed", e.customer, Value::Null),
        Event::CustomerErased(e) => customer("customer.erased", e.customer, Value::Null),
        Event::AccountOpened(e) => About {
            customer: Some(e.customer),
            ..account(
                "account.opened",
                e.account,
                json!({
                    "product": e.product,
                    "currency": CurrencyText(e.currency).to_string(),
                    "opened": e.opened.to_string(),
                    "floor": Money::minor(i128::from(e.floor), e.currency),
                }),
            )
        },
        Event::LimitsChanged(e) => account(
            "account.limits_changed",
            e.account,
            json!({"floor_minor": e.floor, "daily_minor": e.daily_limit}),
        ),
        Event::Frozen(e) => {
            account("account.frozen", e.account, json!({"sides": sides(&e.sides), "reason": e.reason}))
        }
        Event::Unfrozen(e) => account("account.unfrozen", e.account, json!({"sides": sides(&e.sides)})),
        Event::AccountClosed(e) => account("account.closed", e.account, Value::Null),
        Event::AccountReopened(e) => account("account.reopened", e.account, Value::Null),
        Event::HeadOpened(e) => account("head.opened", e.account, Value::Null),
        Event::BranchOpened(_) => plain("branch.opened", Value::Null),
        Event::Incarnated(e) => plain(
            "branch.incarnated",
            json!({"incarnation": e.incarnation, "lost_from": e.lost_from, "lost_to": e.lost_to}),
        ),
        Event::ArchiveOrdered(e) => plain(
            "branch.archive_ordered",
            match e.before {
                ArchiveBefore::Position(position) => json!({"before": position}),
                ArchiveBefore::Day(day) => json!({"before_date": day.to_string()}),
            },
        ),
        Event::FormatRaised(e) => plain("branch.format_raised", json!({"level": e.level})),
        Event::ChartAdopted(e) => plain("branch.chart_adopted", json!({"version": e.chart.version})),
        Event::DayOpened(e) => plain("branch.day_opened", json!({"date": e.date.to_string()})),
        Event::WentLive(e) => plain("branch.went_live", json!({"date": e.date.to_string()})),
        Event::PolicyChanged(e) => {
            let four_eyes: Vec<&str> =
                e.policy.four_eyes.iter().map(skerry_book::policy::Matter::name).collect();
            let retention_days = e.policy.retention_days;
            plain("branch.policy_changed", json!({"four_eyes": four_eyes, "retention_days": retention_days}))
        }
        Event::Settled(e) => About {
            amount: Some(Money::minor(i128::from(e.amount), e.currency)),
            ..plain("payment.settled", json!({"to": e.peer, "first": e.first, "last": e.last}))
        },
        Event::ChannelOpened(e) => {
            plain("channel.opened", json!({"peer": e.peer, "incarnation": e.incarnation}))
        }
        Event::ChannelStopped(e) => plain(
            "channel.stopped",
            json!({"peer": e.peer, "reason": e.reason.name(), "number": e.n, "outgoing": e.outgoing, "incoming": e.incoming}),
        ),
        Event::ChannelResuming(e) => plain("channel.resuming", json!({"peer": e.peer})),
        Event::ChannelResumed(e) => {
            plain("channel.resumed", json!({"peer": e.peer, "incarnation": e.incarnation}))
        }
        Event::KeyUsed(_) => plain("key.used", Value::Null),
        Event::Proposed(e) => plain(
            "approval.proposed",
            json!({"request": text::hex(&e.request), "matter": e.matter.name(), "proposer": e.proposer.as_str()}),
        ),
        Event::Approved(e) => plain(
            "approval.approved",
            json!({"request": text::hex(&e.request), "approver": e.approver.as_str()}),
        ),
        Event::ProposalEnded(e) => plain("approval.ended", json!({"request": text::hex(&e.request)})),
        _ => plain("other", Value::Null),
    }
}

fn number(branch: u16, serial: u32) -> Option<Customer> {
    CustomerNumber::try_new(branch, u64::from(serial)).ok().map(Customer)
}

/// A line of the audit.
#[must_use]
pub(crate) fn act(branch: u16, recorded: &Recorded) -> Act {
    let about = about(&recorded.event);
    let actor = &recorded.actor;
    let request = if actor.role == Role::Bank { String::new() } else { text::hex(&actor.request) };
    Act {
        branch,
        position: recorded.position,
        time: Instant(recorded.time_us),
        business_date: Day(recorded.business_date),
        principal: actor.principal.to_string(),
        role: actor.role.name(),
        approver: actor.approver.map(|approver| approver.to_string()),
        cause: actor.cause.name(),
        request,
        act: about.name,
        accounts: about
            .accounts
            .iter()
            .filter(|account| account.0 != 0)
            .map(|account| AccountText(*account))
            .collect(),
        customer: about.customer.and_then(|serial| number(branch, serial)),
        transfer: about.transfer.map(|id| Id(id.0)),
        amount: about.amount,
    }
}

/// The event as CloudEvents has it.
#[must_use]
pub(crate) fn cloud_event(branch: u16, recorded: &Recorded) -> CloudEvent {
    let about = about(&recorded.event);
    let mut data = about.data;
    let mut subject = None;
    if let [debit, credit] = about.accounts[..] {
        data.insert("debit".to_owned(), AccountText(debit).to_string().into());
        data.insert("credit".to_owned(), AccountText(credit).to_string().into());
    } else if let Some(account) = about.accounts.first() {
        subject = Some(AccountText(*account).to_string());
    }
    if let Some(customer) = about.customer.and_then(|serial| number(branch, serial)) {
        data.insert("customer".to_owned(), customer.to_string().into());
        subject = subject.or_else(|| Some(customer.to_string()));
    }
    if let Some(amount) = about.amount {
        data.insert("amount".to_owned(), serde_json::to_value(amount).unwrap_or_default());
    }
    if let Some(id) = about.transfer {
        subject = Some(Id(id.0).to_string());
    }
    data.insert("position".to_owned(), recorded.position.into());
    data.insert("business_date".to_owned(), recorded.business_date.to_string().into());
    CloudEvent {
        specversion: "1.0",
        id: format!("{branch:04}-{}", recorded.position),
        source: format!("/branches/{branch:04}"),
        kind: format!("skerry.{}", about.name),
        subject,
        time: Instant(recorded.time_us),
        datacontenttype: "application/json",
        data: Value::Object(data),
    }
}
