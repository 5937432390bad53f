//! Linked chains: all or nothing, decided on an overlay so that a refused chain leaves no trace.
//!
//! The overlay keeps what the members decided so far have changed; the rules see it through the same
//! [`View`] as the ledger itself.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use skerry_money::Date;

use crate::account::{Account, Change};
use crate::holds::Hold;
use crate::ledger::{Ledger, hold_of};
use crate::past::{Earlier, Past};
use crate::rejection::Rejection;
use crate::rules::{self, View};
use crate::types::{AccountRef, Flags, Moved, MovedKind, Stamp, Transfer, TransferId};

struct Overlay<'a, P: ?Sized> {
    ledger: &'a Ledger,
    past: &'a P,
    accounts: BTreeMap<AccountRef, Account>,
    /// Holds made by the chain, and those it resolved as `None`.
    holds: BTreeMap<TransferId, Option<Hold>>,
    moved: BTreeMap<TransferId, Moved>,
    /// What the chain did to earlier transfers, by their ids.
    resolved: BTreeMap<TransferId, MovedKind>,
}

impl<P: Past + ?Sized> View for Overlay<'_, P> {
    fn account(&self, account: AccountRef) -> Option<&Account> {
        self.accounts.get(&account).or_else(|| self.ledger.account(account))
    }

    fn hold(&self, id: TransferId) -> Option<Hold> {
        self.holds.get(&id).copied().unwrap_or_else(|| self.ledger.hold(id))
    }

    fn earlier(&self, id: TransferId) -> Option<Earlier> {
        let earlier = match self.moved.get(&id) {
            Some(moved) => Some(Earlier::Moved { moved: *moved, resolved: None }),
            None => self.past.find(id),
        };
        match (earlier, self.resolved.get(&id)) {
            (Some(Earlier::Moved { moved, .. }), Some(kind)) => {
                Some(Earlier::Moved { moved, resolved: Some(*kind) })
            }
            (earlier, _) => earlier,
        }
    }

    fn live(&self) -> Option<Date> {
        self.ledger.live_date()
    }
}

impl<P: Past + ?Sized> Overlay<'_, P> {
    /// # Panics
    ///
    /// If `moved` was not decided on this overlay.
    fn apply(&mut self, moved: &Moved) {
        let hold = match moved.kind {
            MovedKind::Posted | MovedKind::Held => None,
            _ => self.hold(moved.related),
        };
        let change = Change::of(moved, hold.as_ref());
        self.touch(moved.debit).debit(&change);
        self.touch(moved.credit).credit(&change);
        if moved.kind == MovedKind::Held {
            self.holds.insert(moved.id, Some(hold_of(moved)));
        }
        if hold.is_some() {
            self.holds.insert(moved.related, None);
        }
        if moved.related != TransferId::NONE {
            self.resolved.insert(moved.related, moved.kind);
        }
        self.moved.insert(moved.id, *moved);
    }

    fn touch(&mut self, account: AccountRef) -> &mut Account {
        let ledger = self.ledger;
        self.accounts
            .entry(account)
            .or_insert_with(|| *ledger.account(account).expect("a decided event names accounts that exist"))
    }
}

impl Ledger {
    /// Decides a linked chain: every transfer, or the index of the first that is refused and why.
    ///
    /// Each is decided as if those before it had happened. On success the events are appended to `out`,
    /// in order; on a refusal `out` is as it was. The other members' answer is
    /// [`Rejection::LinkedTransferFailed`], which the caller gives. If the whole chain was applied before,
    /// the answer is `(0, AlreadyApplied)`, and it holds for every member.
    ///
    /// # Errors
    ///
    /// Any of the rejections of [`decide`](Self::decide), and [`Rejection::LinkedChainOpen`] for a last
    /// transfer that is linked to a next one.
    pub fn decide_chain<P: Past + ?Sized>(
        &self,
        transfers: &[Transfer],
        stamp: Stamp,
        past: &P,
        out: &mut Vec<Moved>,
    ) -> Result<(), (usize, Rejection)> {
        let Some(last) = transfers.len().checked_sub(1) else { return Ok(()) };
        if transfers.last().is_some_and(|transfer| transfer.flags.has(Flags::LINKED)) {
            return Err((last, Rejection::LinkedChainOpen));
        }
        let before = out.len();
        let decided = self.decide_members(transfers, stamp, past, out);
        if decided.is_err() {
            out.truncate(before);
        }
        decided
    }

    fn decide_members<P: Past + ?Sized>(
        &self,
        transfers: &[Transfer],
        stamp: Stamp,
        past: &P,
        out: &mut Vec<Moved>,
    ) -> Result<(), (usize, Rejection)> {
        let mut overlay = Overlay {
            ledger: self,
            past,
            accounts: BTreeMap::new(),
            holds: BTreeMap::new(),
            moved: BTreeMap::new(),
            resolved: BTreeMap::new(),
        };
        for (index, transfer) in transfers.iter().enumerate() {
            let moved = rules::decide(&overlay, transfer, stamp).map_err(|rejection| match rejection {
                Rejection::AlreadyApplied if overlay.moved.contains_key(&transfer.id) => {
                    (index, Rejection::IdReused)
                }
                Rejection::AlreadyApplied if index == 0 => applied_before(transfers, past),
                Rejection::AlreadyApplied => (index, Rejection::LinkedChainChanged),
                other => (index, other),
            })?;
            overlay.apply(&moved);
            out.push(moved);
        }
        Ok(())
    }
}

/// The answer to a chain whose first member was applied before: all of it, or which member was not.
fn applied_before<P: Past + ?Sized>(transfers: &[Transfer], past: &P) -> (usize, Rejection) {
    let changed = transfers.iter().position(|transfer| {
        past.find(transfer.id)
            .is_none_or(|earlier| rules::again(&earlier, transfer.digest) != Rejection::AlreadyApplied)
    });
    changed.map_or((0, Rejection::AlreadyApplied), |index| (index, Rejection::LinkedChainChanged))
}
