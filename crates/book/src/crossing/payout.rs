//! One debit for many payees, wherever they live.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use skerry_ledger::{Flags, Moved, Past, Rejection as LedgerRejection, Transfer};

use super::Crossing;
use crate::book::Book;
use crate::channel::WINDOW;
use crate::rejection::Rejection;
use crate::transfers::Sender;

impl Book {
    /// Decides one debit for many payees: all of them, or the index of the first that is refused and why. What goes to
    /// other branches settles or returns each by itself. Its [heads](Self::channel_heads) must be open. Reads only.
    ///
    /// # Errors
    ///
    /// As [`decide_crossing`](Self::decide_crossing) and [`decide_chain`](Self::decide_chain), and
    /// [`CrossesBranches`](Rejection::CrossesBranches) for what is no plain posting.
    pub fn decide_payout<P: Past + ?Sized>(
        &self,
        transfers: &[Transfer],
        sender: &Sender,
        past: &P,
    ) -> Result<Vec<Crossing>, (usize, Rejection)> {
        let mut sent: BTreeMap<u16, u64> = BTreeMap::new();
        let mut local = Vec::with_capacity(transfers.len());
        for (index, transfer) in transfers.iter().enumerate() {
            let peer = self.crosses(transfer);
            self.admit_payee(transfer, peer, sender, &mut sent)
                .map_err(|rejection| self.answer_all_or(rejection, (index, transfers), sender, past))?;
            let credit = match peer {
                Some(peer) => self.stand_in(transfer, Some(transfer.credit), peer),
                None => transfer.credit,
            };
            local.push(Transfer { credit, ..*transfer });
        }
        let mut moved = Vec::with_capacity(local.len());
        self.ledger
            .decide_chain(&local, sender.stamp(), past, &mut moved)
            .map_err(|(index, rejection)| (index, rejection.into()))?;
        sent.clear();
        let crossing = |(moved, transfer): (Moved, &Transfer)| match self.crosses(transfer) {
            Some(peer) => {
                let before = sent.entry(peer).or_default();
                let n = self.next_number(peer).saturating_add(*before);
                *before = before.saturating_add(1);
                Crossing::Sent(super::sent(Moved { credit: transfer.credit, ..moved }, n))
            }
            None => Crossing::Moved(moved),
        };
        Ok(moved.into_iter().zip(transfers).map(crossing).collect())
    }

    /// The answer to a payout whose `index`-th payee is not admitted: *applied* only if all of it was, as it is asked now.
    fn answer_all_or<P: Past + ?Sized>(
        &self,
        rejection: Rejection,
        (index, transfers): (usize, &[Transfer]),
        sender: &Sender,
        past: &P,
    ) -> (usize, Rejection) {
        let applied = Rejection::Ledger(LedgerRejection::AlreadyApplied);
        let answer = |transfer: &Transfer| self.answer_or(rejection, transfer, sender, past);
        match transfers.get(index).map_or(rejection, answer) {
            answered if answered != applied => (index, answered),
            _ if transfers.iter().all(|transfer| answer(transfer) == applied) => (0, applied),
            _ => (index, Rejection::Ledger(LedgerRejection::LinkedChainChanged)),
        }
    }

    /// Admits one payee of many; `sent` counts those before it by their branch.
    fn admit_payee(
        &self,
        transfer: &Transfer,
        peer: Option<u16>,
        sender: &Sender,
        sent: &mut BTreeMap<u16, u64>,
    ) -> Result<(), Rejection> {
        if transfer.flags != Flags::default() {
            return Err(Rejection::CrossesBranches);
        }
        let Some(peer) = peer else { return self.admit(transfer, sender) };
        self.admit_crossing(transfer, peer, sender)?;
        let before = sent.entry(peer).or_default();
        *before = before.saturating_add(1);
        let open = self.channel(peer).map_or(0, |channel| channel.outgoing.open.len());
        let open = u64::try_from(open).unwrap_or(u64::MAX).saturating_add(*before);
        if open > u64::try_from(WINDOW).unwrap_or(u64::MAX) {
            return Err(Rejection::ChannelBusy { open: u32::try_from(WINDOW).unwrap_or(u32::MAX) });
        }
        Ok(())
    }
}
