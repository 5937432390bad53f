//! One durable record as the trade calls what happened, or as nothing: the table is docs/events.md.

use serde_json::{Map, Value, json};
use skerry_book::Event;
use skerry_book::actor::Role;
use skerry_book::event::{ArchiveBefore, Refused};
use skerry_branch::evidence::receipts::Recorded;
use skerry_ledger::{AccountRef, Moved, MovedKind, Sides, TransferId, UNLIMITED};
use skerry_money::{CustomerNumber, Date};

use super::cursor::Place;
use crate::catalogue;
use crate::text;
use crate::wire::events::CloudEvent;
use crate::wire::scalars::{AccountText, CurrencyText, Customer, Id, Instant, Money};

/// Every type, without `skerry.` before it; each has its row in docs/events.md.
pub const TYPES: &[&str] = &[
    "customer.opened",
    "customer.changed",
    "customer.erased",
    "account.opened",
    "account.closed",
    "account.reopened",
    "account.frozen",
    "account.unfrozen",
    "account.limits_changed",
    "transfer.posted",
    "transfer.held",
    "transfer.hold_posted",
    "transfer.hold_voided",
    "transfer.hold_expired",
    "transfer.refused",
    "payment.sent",
    "payment.received",
    "payment.refused",
    "payment.returned",
    "payment.withdrawn",
    "payment.taken_back",
    "payment.settled",
    "day.closed",
    "branch.opened",
    "branch.went_live",
    "branch.loss_declared",
    "branch.format_raised",
    "branch.chart_adopted",
    "branch.policy_changed",
    "branch.archive_ordered",
    "head.opened",
    "channel.opened",
    "channel.stopped",
    "channel.resuming",
    "channel.resumed",
    "approval.proposed",
    "approval.approved",
    "approval.ended",
];

/// The type of what a webhook's test sends; no record gives it.
pub(crate) const TEST: &str = "webhook.test";

/// What every type begins with.
pub(crate) const PREFIX: &str = "skerry.";

/// An event, and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    /// As CloudEvents has it.
    pub(crate) event: CloudEvent,
    /// The branch whose journal says so.
    pub(crate) branch: u16,
    /// How far somebody has read who has read this.
    pub(crate) place: Place,
    /// What it must stay in order with: customers and their accounts, of this branch.
    pub(crate) keys: Vec<u64>,
}

/// What happened, in the words of the trade.
#[derive(Debug, Default)]
pub(crate) struct Happened {
    name: &'static str,
    /// The accounts it touches, the one that it is about first.
    pub(crate) accounts: Vec<AccountRef>,
    /// The customer it is about, by serial.
    pub(crate) customer: Option<u32>,
    data: Map<String, Value>,
}

impl Happened {
    fn new(name: &'static str) -> Self {
        Self { name, ..Self::default() }
    }

    fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.data.insert(name.to_owned(), value.into());
        self
    }

    fn money(self, name: &str, minor: u64, currency: skerry_money::Currency) -> Self {
        let money = Money::minor(i128::from(minor), currency);
        self.with(name, serde_json::to_value(money).unwrap_or_default())
    }

    fn account(mut self, account: AccountRef) -> Self {
        self.accounts.push(account);
        self.with("account", AccountText(account).to_string())
    }

    fn customer(mut self, branch: u16, serial: u32) -> Self {
        self.customer = Some(serial);
        match customer_text(branch, serial) {
            Some(text) => self.with("customer", text),
            None => self,
        }
    }
}

fn customer_text(branch: u16, serial: u32) -> Option<String> {
    CustomerNumber::try_new(branch, u64::from(serial)).ok().map(|number| Customer(number).to_string())
}

/// What the record at hand is called; nothing if it is the book's own bookkeeping.
pub(crate) fn happened(branch: u16, recorded: &Recorded) -> Option<Happened> {
    Some(match &recorded.event {
        Event::Moved(e) => moved(moved_name(e.kind), e, branch),
        Event::Refused(e) => refused(e, branch),
        Event::Sent(e) if e.payer.is_some() => taken_back(&e.moved, e.n, e.payer, branch),
        Event::Received(e) if e.payee.is_some() => {
            let told = taken_back(&e.moved, e.n, e.payee, branch);
            if e.outcome == 0 { told } else { reason(told, e.outcome) }
        }
        Event::Sent(e) => moved("payment.sent", &e.moved, branch).with("number", e.n),
        Event::Received(e) if e.outcome == 0 => {
            moved("payment.received", &e.moved, branch).with("number", e.n)
        }
        Event::Received(e) => {
            reason(moved("payment.refused", &e.moved, branch).with("number", e.n), e.outcome)
        }
        Event::Returned(e) => {
            // The record names the return; who follows the payment knows it by the payment's id.
            let name = if e.withdrawn { "payment.withdrawn" } else { "payment.returned" };
            let told = moved(name, &e.moved, branch).with("number", e.n);
            reason(told, e.outcome)
                .with("return", Id(e.moved.id.0).to_string())
                .with("transfer", related(&e.moved))
        }
        Event::Settled(e) => Happened::new("payment.settled")
            .with("to", e.peer)
            .with("first", e.first)
            .with("last", e.last)
            .money("amount", e.amount, e.currency),
        other => of_customers(branch, other).or_else(|| of_branches(other))?,
    })
}

fn moved_name(kind: MovedKind) -> &'static str {
    match kind {
        MovedKind::Posted => "transfer.posted",
        MovedKind::Held => "transfer.held",
        MovedKind::HoldPosted => "transfer.hold_posted",
        MovedKind::HoldVoided => "transfer.hold_voided",
        MovedKind::HoldExpired => "transfer.hold_expired",
    }
}

fn related(moved: &Moved) -> String {
    Id(moved.related.0).to_string()
}

fn moved(name: &'static str, moved: &Moved, branch: u16) -> Happened {
    let mut told = sides(Happened::new(name), moved.id, (moved.debit, moved.credit), branch)
        .money("amount", moved.amount, moved.currency)
        .with("code", moved.code)
        .with("value_date", moved.value_date.to_string());
    if moved.related != TransferId::NONE {
        told = told.with("related", related(moved));
    }
    if moved.expires_s != 0 {
        told = told.with("expires_at", text::time(u64::from(moved.expires_s) * 1_000_000));
    }
    if moved.imported_us != 0 {
        told = told.with("imported_at", text::time(moved.imported_us));
    }
    told
}

/// A payment that this branch had lost and another one gave back. `lacking` is its account if it could not be booked there.
fn taken_back(lost: &Moved, n: u64, named: Option<AccountRef>, branch: u16) -> Happened {
    let told = moved("payment.taken_back", lost, branch).with("number", n);
    match named.filter(|account| ![lost.debit, lost.credit].contains(account)) {
        Some(account) => told.with("lacking", AccountText(account).to_string()),
        None => told,
    }
}

/// A transfer and its two sides. It is about the customer's account of this branch: the one that pays, if both are.
fn sides(told: Happened, id: TransferId, sides: (AccountRef, AccountRef), branch: u16) -> Happened {
    let (debit, credit) = sides;
    let is_own = |account: &AccountRef| account.is_customer() && account.branch() == branch;
    let first = if is_own(&debit) || !is_own(&credit) { [debit, credit] } else { [credit, debit] };
    let accounts = first.into_iter().filter(|account| account.0 != 0).collect();
    Happened { accounts, ..told }
        .with("transfer", Id(id.0).to_string())
        .with("debit", AccountText(debit).to_string())
        .with("credit", AccountText(credit).to_string())
}

fn refused(refused: &Refused, branch: u16) -> Happened {
    let told = sides(Happened::new("transfer.refused"), refused.id, (refused.debit, refused.credit), branch);
    reason(told.with("code", refused.transfer_code), refused.code)
}

/// Why not: the name of the problem and its number.
fn reason(told: Happened, number: u16) -> Happened {
    let name = catalogue::find(number).map_or("", |entry| entry.code);
    told.with("reason", name).with("problem", number)
}

fn frozen_sides(sides: Sides) -> &'static str {
    match (sides.debit, sides.credit) {
        (true, true) => "both",
        (true, false) => "debit",
        (false, true) => "credit",
        (false, false) => "none",
    }
}

fn of_customers(branch: u16, event: &Event) -> Option<Happened> {
    let told = Happened::new;
    Some(match event {
        Event::CustomerOpened(e) => told("customer.opened")
            .customer(branch, e.customer)
            .with("line", e.line)
            .with("opened", e.opened.to_string()),
        Event::CustomerChanged(e) => told("customer.changed").customer(branch, e.customer),
        Event::CustomerErased(e) => told("customer.erased").customer(branch, e.customer),
        Event::AccountOpened(e) => told("account.opened")
            .account(e.account)
            .customer(branch, e.customer)
            .with("product", e.product)
            .with("currency", CurrencyText(e.currency).to_string())
            .with("opened", e.opened.to_string())
            .with("floor_minor", e.floor)
            .with("daily_minor", daily(e.daily_limit)),
        Event::LimitsChanged(e) => told("account.limits_changed")
            .account(e.account)
            .with("floor_minor", e.floor)
            .with("daily_minor", daily(e.daily_limit)),
        Event::Frozen(e) => told("account.frozen")
            .account(e.account)
            .with("sides", frozen_sides(e.sides))
            .with("reason_code", e.reason),
        Event::Unfrozen(e) => {
            told("account.unfrozen").account(e.account).with("sides", frozen_sides(e.sides))
        }
        Event::AccountClosed(e) => told("account.closed").account(e.account),
        Event::AccountReopened(e) => told("account.reopened").account(e.account),
        Event::HeadOpened(e) => told("head.opened").account(e.account),
        _ => return None,
    })
}

/// No limit is `null`.
fn daily(limit: u64) -> Value {
    if limit == UNLIMITED { Value::Null } else { limit.into() }
}

fn of_branches(event: &Event) -> Option<Happened> {
    let told = Happened::new;
    let day = |date: Date| date.to_string();
    Some(match event {
        // The first day closes none.
        Event::DayOpened(e) if e.at.business_date == Date::default() => return None,
        Event::DayOpened(e) => {
            told("day.closed").with("closed", day(e.at.business_date)).with("opened", day(e.date))
        }
        Event::BranchOpened(_) => told("branch.opened"),
        Event::WentLive(e) => told("branch.went_live").with("date", day(e.date)),
        Event::Incarnated(e) => told("branch.loss_declared")
            .with("incarnation", e.incarnation)
            .with("lost_from", e.lost_from)
            .with("lost_to", e.lost_to),
        Event::FormatRaised(e) => told("branch.format_raised").with("level", e.level),
        Event::ChartAdopted(e) => told("branch.chart_adopted").with("version", e.chart.version),
        Event::PolicyChanged(e) => {
            let matters: Vec<&str> =
                e.policy.four_eyes.iter().map(skerry_book::policy::Matter::name).collect();
            told("branch.policy_changed")
                .with("four_eyes", matters)
                .with("retention_days", e.policy.retention_days)
        }
        Event::ArchiveOrdered(e) => match e.before {
            ArchiveBefore::Position(position) => told("branch.archive_ordered").with("before", position),
            ArchiveBefore::Day(date) => told("branch.archive_ordered").with("before_date", day(date)),
        },
        Event::ChannelOpened(e) => {
            told("channel.opened").with("peer", e.peer).with("incarnation", e.incarnation)
        }
        Event::ChannelStopped(e) => told("channel.stopped")
            .with("peer", e.peer)
            .with("reason", e.reason.name())
            .with("number", e.n)
            .with("outgoing", e.outgoing)
            .with("incoming", e.incoming),
        Event::ChannelResuming(e) => told("channel.resuming").with("peer", e.peer),
        Event::ChannelResumed(e) => {
            told("channel.resumed").with("peer", e.peer).with("incarnation", e.incarnation)
        }
        Event::Proposed(e) => {
            told("approval.proposed").with("request", text::hex(&e.request)).with("matter", e.matter.name())
        }
        Event::Approved(e) => told("approval.approved").with("request", text::hex(&e.request)),
        Event::ProposalEnded(e) => told("approval.ended").with("request", text::hex(&e.request)),
        _ => return None,
    })
}

/// The event as CloudEvents 1.0 lays it out, with its place and what it stays in order with.
pub(crate) fn told(branch: u16, recorded: &Recorded, happened: Happened) -> Told {
    let Happened { name, accounts, customer, mut data } = happened;
    let keys = keys(branch, &accounts, customer);
    let subject = accounts.first().map(|account| AccountText(*account).to_string());
    let subject = subject.or_else(|| customer.and_then(|serial| customer_text(branch, serial)));
    data.insert("position".to_owned(), recorded.position.into());
    // Before its first day a branch has none.
    if recorded.business_date != Date::default() {
        data.insert("business_date".to_owned(), recorded.business_date.to_string().into());
    }
    let life = match recorded.incarnation {
        0 | 1 => String::new(),
        later => format!(".{later}"),
    };
    let event = CloudEvent {
        specversion: "1.0",
        id: format!("{branch:04}{life}-{}", recorded.position),
        source: format!("/branches/{branch:04}"),
        kind: format!("{PREFIX}{name}"),
        partitionkey: subject.clone(),
        subject,
        time: Instant(recorded.time_us),
        datacontenttype: "application/json",
        sequence: format!("{:020}", recorded.position),
        traceparent: trace(branch, recorded),
        data: Value::Object(data),
    };
    let place = Place { next: recorded.position + 1, incarnation: recorded.incarnation };
    Told { event, branch, place, keys }
}

/// What a webhook's test sends.
pub(crate) fn test(id: String, time_us: u64) -> CloudEvent {
    CloudEvent {
        specversion: "1.0",
        id,
        source: "/webhooks".to_owned(),
        kind: format!("{PREFIX}{TEST}"),
        subject: None,
        partitionkey: None,
        time: Instant(time_us),
        datacontenttype: "application/json",
        sequence: format!("{:020}", 0),
        traceparent: None,
        data: json!({}),
    }
}

/// Heads are left out: every deposit touches the till, and what is in order with all is one queue.
fn keys(branch: u16, accounts: &[AccountRef], customer: Option<u32>) -> Vec<u64> {
    let own = |account: &&AccountRef| account.is_customer() && account.branch() == branch;
    let accounts = accounts.iter().filter(own).map(|account| account.0);
    // No account has the highest bit.
    let customer = customer.map(|serial| 1 << 63 | u64::from(branch) << 48 | u64::from(serial));
    accounts.chain(customer).collect()
}

/// All events of one request are one trace: the request's digest, by which the audit finds it too.
fn trace(branch: u16, recorded: &Recorded) -> Option<String> {
    let request = &recorded.actor.request;
    let traced = recorded.actor.role != Role::Bank && request.iter().any(|byte| *byte != 0);
    let step = (recorded.position + 1) & 0xffff_ffff_ffff;
    traced.then(|| format!("00-{}-{branch:04x}{step:012x}-00", text::hex(request)))
}
