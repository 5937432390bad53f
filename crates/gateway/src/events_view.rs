//! What happened, told as acts of an audit: durable records by name, with whom and what they touch.

use skerry_book::Event;
use skerry_book::actor::Role;
use skerry_book::event::{Received, Sent};
use skerry_branch::evidence::receipts::Recorded;
use skerry_ledger::{AccountRef, Moved, MovedKind, TransferId};
use skerry_money::CustomerNumber;

use crate::text;
use crate::wire::reports::Act;
use crate::wire::scalars::{AccountText, Customer, Day, Id, Instant, Money};

/// What an act is about.
#[derive(Debug, Default)]
pub(crate) struct About {
    /// What the audit calls it.
    pub name: &'static str,
    /// The accounts it touches.
    pub accounts: Vec<AccountRef>,
    /// The customer it touches, by serial.
    pub customer: Option<u32>,
    /// The transfer.
    pub transfer: Option<TransferId>,
    /// The amount.
    pub amount: Option<Money>,
}

impl About {
    fn named(name: &'static str) -> Self {
        Self { name, ..Self::default() }
    }

    fn account(name: &'static str, account: AccountRef) -> Self {
        Self { accounts: vec![account], ..Self::named(name) }
    }

    fn customer(name: &'static str, customer: u32) -> Self {
        Self { customer: Some(customer), ..Self::named(name) }
    }

    fn moved(name: &'static str, moved: &Moved) -> Self {
        Self {
            name,
            accounts: vec![moved.debit, moved.credit],
            customer: None,
            transfer: Some(moved.id),
            amount: Some(Money::minor(i128::from(moved.amount), moved.currency)),
        }
    }
}

/// What `event` is about.
#[must_use]
pub(crate) fn about(event: &Event) -> About {
    match event {
        Event::Moved(moved) => About::moved(moved_name(moved.kind), moved),
        Event::Refused(refused) => About {
            accounts: vec![refused.debit, refused.credit],
            transfer: Some(refused.id),
            ..About::named("transfer.refused")
        },
        Event::Sent(Sent { payer: Some(_), moved, .. })
        | Event::Received(Received { payee: Some(_), moved, .. }) => {
            About::moved("payment.taken_back", moved)
        }
        Event::Sent(e) => About::moved("payment.sent", &e.moved),
        Event::Received(e) if e.outcome == 0 => About::moved("payment.received", &e.moved),
        Event::Received(e) => About::moved("payment.refused", &e.moved),
        Event::Returned(e) if e.withdrawn => About::moved("payment.withdrawn", &e.moved),
        Event::Returned(e) => About::moved("payment.returned", &e.moved),
        Event::Settled(e) => About {
            amount: Some(Money::minor(i128::from(e.amount), e.currency)),
            ..About::named("payment.settled")
        },
        other => about_other(other),
    }
}

const fn moved_name(kind: MovedKind) -> &'static str {
    match kind {
        MovedKind::Posted => "transfer.posted",
        MovedKind::Held => "transfer.pending",
        MovedKind::HoldPosted => "transfer.pending_posted",
        MovedKind::HoldVoided => "transfer.voided",
        MovedKind::HoldExpired => "transfer.expired",
    }
}

fn about_other(event: &Event) -> About {
    match event {
        Event::CustomerOpened(e) => About::customer("customer.opened", e.customer),
        Event::CustomerChanged(e) => About::customer("customer.changed", e.customer),
        Event::CustomerErased(e) => About::customer("customer.erased", e.customer),
        Event::AccountOpened(e) => {
            About { customer: Some(e.customer), ..About::account("account.opened", e.account) }
        }
        Event::LimitsChanged(e) => About::account("account.limits_changed", e.account),
        Event::Frozen(e) => About::account("account.frozen", e.account),
        Event::Unfrozen(e) => About::account("account.unfrozen", e.account),
        Event::AccountClosed(e) => About::account("account.closed", e.account),
        Event::AccountReopened(e) => About::account("account.reopened", e.account),
        Event::HeadOpened(e) => About::account("head.opened", e.account),
        other => About::named(branch_act(other)),
    }
}

const fn branch_act(event: &Event) -> &'static str {
    match event {
        Event::BranchOpened(_) => "branch.opened",
        Event::Incarnated(_) => "branch.incarnated",
        Event::ArchiveOrdered(_) => "branch.archive_ordered",
        Event::FormatRaised(_) => "branch.format_raised",
        Event::ChartAdopted(_) => "branch.chart_adopted",
        Event::DayOpened(_) => "branch.day_opened",
        Event::WentLive(_) => "branch.went_live",
        Event::PolicyChanged(_) => "branch.policy_changed",
        Event::ChannelOpened(_) => "channel.opened",
        Event::ChannelStopped(_) => "channel.stopped",
        Event::ChannelResuming(_) => "channel.resuming",
        Event::ChannelResumed(_) => "channel.resumed",
        Event::KeyUsed(_) => "key.used",
        Event::Proposed(_) => "approval.proposed",
        Event::Approved(_) => "approval.approved",
        Event::ProposalEnded(_) => "approval.ended",
        _ => "other",
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
