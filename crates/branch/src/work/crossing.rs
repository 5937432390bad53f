//! Transfers that leave the branch: one at a time, or one debit for many payees. Who is debited here is decided at once;
//! what becomes of the payment is the payee's branch's word.

use std::cell::Cell;

use skerry_book::{Crossing, Rejection};
use skerry_journal::Journal;
use skerry_ledger::{Flags, Transfer};

use super::transfers::{Asking, Results};
use super::{Fault, Work};

impl<J: Journal> Work<J> {
    /// A transfer to another branch: the payer is debited, and it goes out once that is durable.
    pub(super) fn run_crossing<R: Results>(
        &mut self,
        index: usize,
        peer: u16,
        asking: &Asking<'_>,
        results: &mut R,
    ) -> Result<(), Fault> {
        let transfer = &asking.transfers[index];
        if !self.open_heads(transfer, peer, asking, index) {
            return self.refuse(transfer, Rejection::ChannelBusy { open: 0 }, asking, results);
        }
        let fault = Cell::new(None);
        let past = self.known(&fault);
        let decided = self.book.decide_crossing(transfer, peer, &asking.sender, &past);
        if let Some(fault) = fault.into_inner() {
            return Err(*fault);
        }
        match decided {
            Ok(crossing) => self.write_crossing(crossing, index, asking, results),
            Err(rejection) => self.refuse(transfer, rejection, asking, results)?,
        }
        Ok(())
    }

    fn write_crossing<R: Results>(
        &mut self,
        crossing: Crossing,
        index: usize,
        asking: &Asking<'_>,
        results: &mut R,
    ) {
        let tail = asking.tail(index);
        match crossing {
            Crossing::Moved(moved) => {
                let (position, moved) = self.write_with_tail(moved, asking.actor, tail);
                results.accepted(position, &moved);
            }
            Crossing::Sent(mut sent) => {
                if !tail.is_empty() {
                    sent.moved.flags = sent.moved.flags.with(Flags::TAIL);
                }
                let position = self.write_sent(&sent, asking.actor, tail);
                results.accepted(position, &sent.moved);
            }
        }
    }

    /// One debit for many payees: all of them are written into this batch, or the refusal of one refuses all.
    #[cold]
    pub(super) fn run_payout<R: Results>(
        &mut self,
        asking: &Asking<'_>,
        results: &mut R,
    ) -> Result<(), Fault> {
        for (index, transfer) in asking.transfers.iter().enumerate() {
            let peer = self.book.crosses(transfer).filter(|_| self.talk.is_connected());
            // Nothing is written yet, so all of them need room behind the heads.
            if peer.is_some_and(|peer| !self.open_heads(transfer, peer, asking, 0)) {
                let busy = Rejection::ChannelBusy { open: 0 };
                return self.refuse_all(asking.transfers, index, busy, asking, results);
            }
        }
        let fault = Cell::new(None);
        let past = self.known(&fault);
        let decided = self.book.decide_payout(asking.transfers, &asking.sender, &past);
        if let Some(fault) = fault.into_inner() {
            return Err(*fault);
        }
        match decided {
            Ok(decided) => {
                for (index, crossing) in decided.into_iter().enumerate() {
                    self.write_crossing(crossing, index, asking, results);
                }
                Ok(())
            }
            Err((culprit, rejection)) => {
                self.refuse_all(asking.transfers, culprit, rejection, asking, results)
            }
        }
    }

    /// The channel's heads in the payer's currency: opened by the first payment. Returns whether the batch had room.
    fn open_heads(&mut self, transfer: &Transfer, peer: u16, asking: &Asking<'_>, index: usize) -> bool {
        let account = match transfer.flags.has(Flags::REVERSAL) {
            // Of one of these it becomes the payer's, if of any.
            true => None,
            false => self.book.account(transfer.debit),
        };
        let Some(currency) = account.map(|account| account.currency) else { return true };
        let heads = self.book.channel_heads(peer, currency, asking.sender.stamp());
        let rest = asking.transfers.len() - index + heads.len();
        if !heads.is_empty() && (self.filling.room() as usize) < rest {
            return false;
        }
        for event in &heads {
            self.write_event(event, asking.actor);
        }
        true
    }
}
