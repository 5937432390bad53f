//! Commands: what may happen besides transfers. Reads only; every way to refuse is in here and in its parts.
//!
//! The order of checks is the same for all: a retry's answer, the role, the branch's being open, the second
//! principal, room for the key, and then the command's own rules.

mod accounts;
mod branch;
mod customers;
mod proposals;

use alloc::vec::Vec;

use skerry_ledger::{AccountRef, Stamp};

use crate::actor::Role;
use crate::book::Book;
use crate::command::{Command, Context, Decision, Done};
use crate::event::{Event, KeyUsed, ProposalEnded};
use crate::policy::Matter;
use crate::rejection::Rejection;

/// The events of a command and its answer.
type Decided = Result<(Vec<Event>, Done), Rejection>;

impl Book {
    /// Decides what `command` would do. The events of one decision belong in one batch: they are true together.
    /// [`DayOpened`](crate::event::DayOpened), where there is one, is the last, and the batch ends with it.
    ///
    /// # Errors
    ///
    /// The first rule that it breaks, in the order above. Nothing of a refused command is journaled, and its
    /// idempotency key stays free.
    pub fn decide(&self, command: &Command, context: &Context) -> Result<Decision, Rejection> {
        if let Some(used) = context.key.and_then(|key| self.keys.find(key)) {
            return if used.request == context.actor.request {
                Ok(Decision { events: Vec::new(), done: used.done, repeated: true })
            } else {
                Err(Rejection::KeyReused)
            };
        }
        if !is_allowed(command, context.actor.role) {
            return Err(Rejection::RoleNotAllowed);
        }
        let opens = matches!(command, Command::OpenBranch(_));
        if self.life.day.is_none() && !opens {
            return Err(Rejection::BranchNotOpen);
        }
        let at = context.stamp;
        let mut events = Vec::new();
        if self.needs_approval(command, context)? {
            events.push(Event::ProposalEnded(ProposalEnded { at, request: context.actor.request }));
        }
        if context.key.is_some() {
            self.check_room(context)?;
        }
        let (mut own, done) = self.decide_own(command, context)?;
        if opens {
            // The first event of every journal is the branch's opening, with a key or without.
            events.extend(own.drain(..1));
        }
        if let Some(key) = context.key {
            let (request, permanent) = (context.actor.request, context.is_import());
            events.push(Event::KeyUsed(KeyUsed { at, key, request, done, permanent }));
        }
        events.extend(own);
        Ok(Decision { events, done, repeated: false })
    }

    /// Whether the context's key can be kept as long as it must be.
    fn check_room(&self, context: &Context) -> Result<(), Rejection> {
        if context.is_import() {
            let full = Rejection::Ledger(skerry_ledger::Rejection::BranchFull);
            return if self.keys.has_permanent_room() { Ok(()) } else { Err(full) };
        }
        if self.keys.has_room(context.stamp.time_us) { Ok(()) } else { Err(Rejection::TooManyKeys) }
    }

    fn decide_own(&self, command: &Command, context: &Context) -> Decided {
        let at = context.stamp;
        match command {
            Command::OpenBranch(wish) => self.decide_open_branch(wish, at),
            Command::Incarnate(wish) => self.decide_incarnate(wish, at),
            Command::RaiseFormat(level) => self.decide_format(*level, at),
            Command::AdoptChart(chart) => self.decide_chart(chart, at),
            Command::OpenCurrency(currency) => Ok((self.currency_events(*currency, at)?, Done::Plain)),
            Command::OpenDay(date) => self.decide_day(*date, at),
            Command::GoLive(date) => self.decide_live(*date, at),
            Command::OpenChannel(wish) => Ok(few(self.decide_open_channel(*wish, at)?)),
            Command::StopChannel(wish) => Ok(few(self.decide_stop_channel(*wish, at)?)),
            Command::ResumeChannel(peer) => Ok(few(self.decide_resume_channel(*peer, at)?)),
            Command::GoOn(wish) => Ok(few(self.decide_go_on(*wish, at)?)),
            Command::SetPolicy(policy) => Self::decide_policy(*policy, at),
            Command::OrderArchive(before) => self.decide_archive(*before, at),
            Command::OpenCustomer(wish) => self.decide_open_customer(wish, context),
            Command::ChangeCustomer(wish) => self.decide_change_customer(wish, at),
            Command::EraseCustomer(serial) => self.decide_erase(*serial, at),
            Command::OpenAccount(wish) => self.decide_open_account(wish, context),
            Command::ChangeLimits(wish) => self.decide_limits(wish, at),
            Command::Freeze(_) | Command::Unfreeze(_) | Command::CloseAccount(_) => {
                self.decide_state(command, at)
            }
            Command::ReopenAccount(account) => self.decide_reopen(*account, at),
            Command::Propose(wish) => self.decide_propose(wish, context),
            Command::Approve(request) => self.decide_approve(request, context),
            Command::EndProposal(request) => self.decide_end(request, at),
        }
    }

    /// Whether the command uses an approval up.
    fn needs_approval(&self, command: &Command, context: &Context) -> Result<bool, Rejection> {
        let matter = matter_of(command).filter(|matter| self.life.policy.four_eyes.has(*matter));
        if matter.is_none() || context.actor.role == Role::Bank {
            return Ok(false);
        }
        match self.approver(&context.actor, context.stamp.time_us) {
            Some(_) => Ok(true),
            None => Err(Rejection::NeedsApproval),
        }
    }

    fn check_here(&self, account: AccountRef) -> Result<(), Rejection> {
        if account.branch() == self.branch { Ok(()) } else { Err(Rejection::CrossesBranches) }
    }
}

/// Auditors and customers command nothing; services keep customers and accounts; operators do all but what branches
/// agree on between them.
const fn is_allowed(command: &Command, role: Role) -> bool {
    match role {
        Role::Bank => true,
        Role::Operator => {
            !matches!(command, Command::OpenChannel(_) | Command::StopChannel(_) | Command::GoOn(_))
        }
        Role::Auditor | Role::Customer => false,
        Role::Service => matches!(
            command,
            Command::OpenCustomer(_)
                | Command::ChangeCustomer(_)
                | Command::OpenAccount(_)
                | Command::CloseAccount(_)
                | Command::Propose(_)
                | Command::EndProposal(_)
        ),
    }
}

const fn matter_of(command: &Command) -> Option<Matter> {
    match command {
        Command::ChangeLimits(_) => Some(Matter::Limits),
        Command::Freeze(_) | Command::Unfreeze(_) => Some(Matter::Freezes),
        Command::GoLive(_) => Some(Matter::Imports),
        Command::Incarnate(_) | Command::ResumeChannel(_) => Some(Matter::DeclaredLoss),
        Command::EraseCustomer(_) => Some(Matter::Erasure),
        Command::SetPolicy(_) => Some(Matter::Policy),
        // An account that opens with an overdraft is a limit too.
        Command::OpenAccount(wish) if wish.floor < 0 => Some(Matter::Limits),
        _ => None,
    }
}

/// One event and a plain answer.
fn plain(event: Event) -> Decided {
    Ok((alloc::vec![event], Done::Plain))
}

/// An event if there is anything to do, and a plain answer.
fn few(event: Option<Event>) -> (Vec<Event>, Done) {
    (event.into_iter().collect(), Done::Plain)
}

/// The business day of the stamp.
const fn today(at: Stamp) -> skerry_money::Date {
    at.business_date
}
