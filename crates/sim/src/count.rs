//! What a branch's model has seen, as counts.

use skerry_journal::Storage;
use skerry_ledger::TransferId;

use crate::cell::Cell;
use crate::tally::State;

/// Counts what became of payments between branches.
pub(crate) fn count_payments<D: Storage>(cell: &mut Cell<D>) {
    let (model, tally) = (&cell.oracle.model, &mut cell.tally);
    for peer in model.peers.values() {
        for out in &peer.sent {
            tally.state(State::PaymentSent);
            tally.states(State::PaymentReversed, u64::from(out.way.reverses != TransferId::NONE));
            match out.end {
                Some((0, _)) => tally.state(State::PaymentSettled),
                Some(_) => tally.state(State::PaymentReturned),
                None => {}
            }
        }
    }
}

/// Counts what the model saw happen.
pub(crate) fn count_kinds<D: Storage>(cell: &mut Cell<D>) {
    use skerry_ledger::{Flags, MovedKind};
    let (model, tally) = (&cell.oracle.model, &mut cell.tally);
    for fact in &model.facts {
        let moved = &fact.moved;
        let kind = match moved.kind {
            MovedKind::Held => Some(State::Held),
            MovedKind::HoldPosted => Some(State::HoldPosted),
            MovedKind::HoldVoided => Some(State::HoldVoided),
            MovedKind::Posted | MovedKind::HoldExpired => None,
        };
        let flags = [
            (Flags::REVERSAL, State::Reversed),
            (Flags::IMPORTED, State::Imported),
            (Flags::BALANCING_DEBIT, State::Balanced),
            (Flags::LINKED, State::ChainDone),
            (Flags::TAIL, State::TextKept),
        ];
        let flagged = flags.into_iter().filter(|(flag, _)| moved.flags.has(*flag)).map(|(_, state)| state);
        kind.into_iter().chain(flagged).for_each(|state| tally.state(state));
        let left = moved.kind == MovedKind::HoldPosted && model.is_elsewhere(moved.credit);
        tally.states(State::HoldSent, u64::from(left));
        let closes = moved.kind == MovedKind::HoldPosted && model.accounts[&moved.debit].closed;
        tally.states(State::ClosedByAHold, u64::from(closes));
    }
    let erased = model.customers.iter().filter(|customer| customer.erased).count() as u64;
    tally.states(State::CustomerErased, erased);
}
