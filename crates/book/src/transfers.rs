//! The hot path: transfers, with the few rules that the ledger cannot know.
//!
//! The book asks who may do it and whether it is all in this branch; the rest is the ledger's. A retry is answered
//! before anything else, so that no later change of rules turns an accepted transfer into a refusal.

use alloc::vec::Vec;

use skerry_ledger::{AccountRef, Earlier, Flags, Moved, MovedKind, Past, Stamp, Transfer};

use crate::actor::{Actor, Role};
use crate::book::Book;
use crate::channel::is_channel_head;
use crate::event::Refused;
use crate::policy::{Matter, Matters};
use crate::rejection::Rejection;

/// Flags with rules of the book's own.
const SPECIAL: Flags = Flags::IMPORTED
    .with(Flags::REVERSAL)
    .with(Flags::BANK)
    .with(Flags::POST)
    .with(Flags::CLOSING_DEBIT)
    .with(Flags::CLOSING_CREDIT);

/// A sender of transfers at one moment: who they are and what they need no second principal for. Made once per
/// request, used for all its transfers.
#[derive(Debug, Clone, Copy)]
pub struct Sender {
    stamp: Stamp,
    role: Role,
    /// Matters that would still need an approval.
    unapproved: Matters,
}

impl Sender {
    /// The stamp.
    #[must_use]
    pub const fn stamp(&self) -> Stamp {
        self.stamp
    }
}

impl Book {
    /// Who sends the transfers of one request.
    ///
    /// # Errors
    ///
    /// [`Rejection::BranchNotOpen`] before the first day, [`Rejection::RoleNotAllowed`] for an auditor.
    pub fn sender(&self, actor: &Actor, stamp: Stamp) -> Result<Sender, Rejection> {
        if self.life.day.is_none() {
            return Err(Rejection::BranchNotOpen);
        }
        if actor.role == Role::Auditor {
            return Err(Rejection::RoleNotAllowed);
        }
        let approved = actor.role == Role::Bank || self.approver(actor, stamp.time_us).is_some();
        let unapproved = if approved { Matters::NONE } else { self.life.policy.four_eyes };
        Ok(Sender { stamp, role: actor.role, unapproved })
    }

    /// Decides one transfer that is not part of a chain. Reads only, allocates nothing.
    ///
    /// # Errors
    ///
    /// The book's refusals about who and where first, then the ledger's in its own order; a retry's answer before
    /// all. What a refusal leaves behind is said by [`refused`](Self::refused).
    #[inline]
    pub fn decide_transfer<P: Past + ?Sized>(
        &self,
        transfer: &Transfer,
        sender: &Sender,
        past: &P,
    ) -> Result<Moved, Rejection> {
        if let Err(rejection) = self.admit(transfer, sender) {
            return Err(self.answer_or(rejection, transfer, sender, past));
        }
        self.check_original(transfer, past)?;
        let moved = self.ledger.decide(transfer, sender.stamp, past)?;
        admit_moved(&moved, sender)?;
        Ok(moved)
    }

    /// Decides a linked chain: every transfer, or the index of the first that is refused and why. The events of a
    /// chain that succeeds are appended to `out`; else `out` is as it was.
    ///
    /// # Errors
    ///
    /// As [`decide_transfer`](Self::decide_transfer) and [`Ledger::decide_chain`](skerry_ledger::Ledger::decide_chain).
    pub fn decide_chain<P: Past + ?Sized>(
        &self,
        transfers: &[Transfer],
        sender: &Sender,
        past: &P,
        out: &mut Vec<Moved>,
    ) -> Result<(), (usize, Rejection)> {
        for (index, transfer) in transfers.iter().enumerate() {
            if let Err(rejection) = self.admit(transfer, sender) {
                return Err((index, self.answer_or(rejection, transfer, sender, past)));
            }
            self.check_original(transfer, past).map_err(|rejection| (index, rejection))?;
        }
        let before = out.len();
        self.ledger
            .decide_chain(transfers, sender.stamp, past, out)
            .map_err(|(index, no)| (index, no.into()))?;
        let decided = out.get(before..).unwrap_or_default();
        let refused = decided
            .iter()
            .enumerate()
            .find_map(|(index, moved)| Some((index, admit_moved(moved, sender).err()?)));
        if refused.is_some() {
            out.truncate(before);
        }
        refused.map_or(Ok(()), Err)
    }

    /// The next hold whose time is up, as the event that ends it; by [`Cause::HoldExpiry`](crate::Cause::HoldExpiry).
    /// Evolve it and ask again.
    #[must_use]
    pub fn decide_expiry(&self, stamp: Stamp) -> Option<Moved> {
        self.ledger.decide_expiry(stamp)
    }

    /// The event of a refusal that uses its id up: to be journaled and evolved if the refusal
    /// [is of that kind](Rejection::is_journaled) and the id was not used before (a retry is answered by the same
    /// rejection, and leaves nothing).
    #[must_use]
    pub fn refused(transfer: &Transfer, rejection: Rejection, stamp: Stamp) -> Refused {
        let (code, have, need) = match rejection {
            Rejection::Ledger(rejection) => rejection.parts(),
            other => {
                let (have, need) = other.figures().unwrap_or_default();
                (other.code(), have, need)
            }
        };
        Refused {
            at: stamp,
            id: transfer.id,
            debit: transfer.debit,
            credit: transfer.credit,
            code,
            have,
            need: u64::try_from(need).unwrap_or(u64::MAX),
            transfer_code: transfer.code,
            flags: transfer.flags.0,
            reference: transfer.reference,
            digest: transfer.digest,
        }
    }

    /// The book's own rules.
    #[inline]
    pub(crate) fn admit(&self, transfer: &Transfer, sender: &Sender) -> Result<(), Rejection> {
        if self.is_elsewhere(transfer.debit) || self.is_elsewhere(transfer.credit) {
            return Err(Rejection::CrossesBranches);
        }
        let resolves = transfer.flags.overlaps(Flags::POST.with(Flags::VOID));
        if !resolves && (is_head(transfer.debit) || is_head(transfer.credit)) {
            if is_channel_head(transfer.debit) || is_channel_head(transfer.credit) {
                return Err(Rejection::HeadReserved);
            }
            admit_matter(sender, Matter::Heads)?;
        }
        if transfer.flags.overlaps(SPECIAL) {
            return self.admit_special(transfer, sender);
        }
        Ok(())
    }

    #[cold]
    fn admit_special(&self, transfer: &Transfer, sender: &Sender) -> Result<(), Rejection> {
        if transfer.flags.has(Flags::BANK) && sender.role != Role::Bank {
            return Err(Rejection::RoleNotAllowed);
        }
        // What is sent when it is posted has a number to go under; a chain has none to give.
        if transfer.flags.has(Flags::POST) && self.payee_of(transfer.related).is_some() {
            return Err(Rejection::CrossesBranches);
        }
        self.admit_closing(transfer)?;
        if transfer.flags.has(Flags::REVERSAL) {
            admit_reversal(sender)?;
        }
        if transfer.flags.has(Flags::IMPORTED) {
            admit_matter(sender, Matter::Imports)?;
        }
        // Days on which this bank kept books itself are closed to the old core's.
        match (transfer.imported, self.life.first_native) {
            (Some(imported), Some(first)) if imported.business_date >= first => {
                Err(Rejection::ImportAfterFirstEntry { first: first.0 })
            }
            _ => Ok(()),
        }
    }

    /// An account that closes must not have money coming back.
    fn admit_closing(&self, transfer: &Transfer) -> Result<(), Rejection> {
        for (flag, account) in
            [(Flags::CLOSING_DEBIT, transfer.debit), (Flags::CLOSING_CREDIT, transfer.credit)]
        {
            if transfer.flags.has(flag) {
                self.check_no_payments(account)?;
            }
        }
        Ok(())
    }

    pub(crate) fn check_no_payments(&self, account: AccountRef) -> Result<(), Rejection> {
        match self.channels.open_of(account) {
            0 => Ok(()),
            open => Err(Rejection::AccountHasPayments { open }),
        }
    }

    /// What was sent to another branch is reversed there, by a payment of its own.
    fn check_original<P: Past + ?Sized>(&self, transfer: &Transfer, past: &P) -> Result<(), Rejection> {
        if !transfer.flags.has(Flags::REVERSAL) || past.find(transfer.id).is_some() {
            return Ok(());
        }
        match past.find(transfer.related) {
            Some(Earlier::Moved { moved, .. }) if moved.credit.branch() != self.branch => {
                Err(Rejection::CrossesBranches)
            }
            _ => Ok(()),
        }
    }

    /// A retry's answer if the id was used before, else `rejection`. An id that was used never moves money again,
    /// so asking the ledger is safe.
    #[cold]
    pub(crate) fn answer_or<P: Past + ?Sized>(
        &self,
        rejection: Rejection,
        transfer: &Transfer,
        sender: &Sender,
        past: &P,
    ) -> Rejection {
        if past.find(transfer.id).is_none() {
            return rejection;
        }
        let alone = Transfer { flags: Flags(transfer.flags.0 & !Flags::LINKED.0), ..*transfer };
        self.ledger.decide(&alone, sender.stamp, past).err().map_or(rejection, Rejection::from)
    }

    #[inline]
    pub(crate) fn is_elsewhere(&self, account: AccountRef) -> bool {
        account.branch() != self.branch && account != AccountRef::default()
    }
}

/// A reversal names no accounts: what it moves is known only once it is decided.
#[inline]
fn admit_moved(moved: &Moved, sender: &Sender) -> Result<(), Rejection> {
    let reverses = moved.flags.has(Flags::REVERSAL) && moved.kind == MovedKind::Posted;
    if reverses && (is_head(moved.debit) || is_head(moved.credit)) {
        return admit_matter(sender, Matter::Heads);
    }
    Ok(())
}

/// For what only operators do, with a second principal where the policy says so.
pub(crate) fn admit_matter(sender: &Sender, matter: Matter) -> Result<(), Rejection> {
    if !sender.role.may_operate() {
        return Err(Rejection::OperatorsOnly);
    }
    approved(sender, matter)
}

/// Customers reverse nothing; others with a second principal where the policy says so.
pub(crate) fn admit_reversal(sender: &Sender) -> Result<(), Rejection> {
    if sender.role == Role::Customer {
        return Err(Rejection::RoleNotAllowed);
    }
    approved(sender, Matter::Reversals)
}

fn approved(sender: &Sender, matter: Matter) -> Result<(), Rejection> {
    if sender.unapproved.has(matter) { Err(Rejection::NeedsApproval) } else { Ok(()) }
}

#[inline]
pub(crate) fn is_head(account: AccountRef) -> bool {
    !account.is_customer() && account != AccountRef::default()
}
