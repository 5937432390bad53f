//! What a holder does with a question that may wait for the disk: one call of the seat, and its answer as it travels.

use skerry_branch::keys::KeyError;

use super::wire::{Ask, KeyFault, RecordedBytes, Told};
use crate::hosted::log_keys_failed;
use crate::seat::{Seat, Trouble};

/// The most records in one answer, whatever was asked for.
const RECORDS_MAX: u64 = 4_096;

/// Keys made by one question.
const KEYS_MAX: u64 = 65_536;

/// Asks `seat`; an answer takes at most about `bytes_max` bytes. What a branch did not answer because it is on its way out, the next
/// process that has it will: it is *not here*.
pub(crate) fn answer(seat: &dyn Seat, ask: Ask, bytes_max: usize) -> Told {
    let told = tell(seat, ask, bytes_max);
    let failed = matches!(told, Told::Trouble(Trouble::NotYet(_)) | Told::Failed(_) | Told::Keyless(_));
    // It lets go before it says that it is closed, and says that it is sick before it lets go.
    let leaves = || seat.epoch() == 0 && !seat.health().is_sick();
    if failed && leaves() { Told::NotHere } else { told }
}

fn tell(seat: &dyn Seat, ask: Ask, bytes_max: usize) -> Told {
    match ask {
        // These never come here: the branch's own queue takes them.
        Ask::Submit(_) => Told::NotHere,
        Ask::Page(query) => told(seat.page(&query), Told::Page),
        Ask::Transfer(id) => told(seat.transfer(id), |found| Told::Transfer(found.map(Box::new))),
        Ask::Totals { account, as_of } => told(seat.totals(account, as_of), Told::Totals),
        Ask::Days { account, by, from, to } => told(seat.days(account, by, from, to), Told::Days),
        Ask::Records { from, most } => told(records(seat, from, most, bytes_max), Told::Records),
        Ask::Receipt(position) => told(seat.receipt(position), |receipt| Told::Bytes(receipt.into())),
        Ask::Health => Told::Health(Box::new(seat.health())),
        Ask::SigningKeys => Told::SigningKeys(seat.signing_keys().map(|keys| (&*keys).into())),
        Ask::Reopen => tried(seat.reopen().map(|()| 0)),
        Ask::ConfirmClock => {
            seat.confirm_clock();
            Told::Done(0)
        }
        Ask::Archive(before) => tried(seat.archive(before)),
        Ask::CreateKeys(count) => {
            let count = usize::try_from(count.min(KEYS_MAX)).unwrap_or_default();
            keyed(seat.keys().create(count).map(Told::Keys))
        }
        Ask::SealUnder { key, plain } => {
            keyed(seat.keys().seal(key, &plain).map(|sealed| Told::Bytes(sealed.into())))
        }
        Ask::Unseal { key, sealed } => {
            keyed(seat.keys().unseal(key, &sealed).map(|plain| Told::Bytes(plain.into())))
        }
        Ask::EraseKey(key) => keyed(seat.keys().erase(key).map(|()| Told::Done(0))),
        Ask::ErasedKeys => keyed(seat.keys().erased().map(Told::Keys)),
        Ask::NotErased(keys) => keyed(seat.keys().not_erased(&keys).map(Told::Keys)),
    }
}

/// As many of the records asked for as fit: at least one, if there is one.
fn records(seat: &dyn Seat, from: u64, most: u64, bytes_max: usize) -> Result<Vec<RecordedBytes>, Trouble> {
    let most = usize::try_from(most.min(RECORDS_MAX)).unwrap_or_default();
    let mut room = bytes_max;
    let mut fitting = Vec::new();
    for recorded in seat.records(from, most)? {
        let bytes = RecordedBytes::from(&recorded);
        let size = bytes.bytes() + RECORD_OVERHEAD;
        if size > room && !fitting.is_empty() {
            break;
        }
        room = room.saturating_sub(size);
        fitting.push(bytes);
    }
    Ok(fitting)
}

/// What a record takes beside itself, with its actor and the fields' names: more than it ever does.
const RECORD_OVERHEAD: usize = 512;

fn told<T>(found: Result<T, Trouble>, told: impl FnOnce(T) -> Told) -> Told {
    found.map_or_else(Told::Trouble, told)
}

fn tried(done: Result<u64, String>) -> Told {
    done.map_or_else(Told::Failed, Told::Done)
}

fn keyed(done: Result<Told, KeyError>) -> Told {
    done.unwrap_or_else(|error| {
        let fault = KeyFault::from(&error);
        // Whoever asks is told little more than that they are away; here is what to do about it.
        if matches!(fault, KeyFault::Other(_)) {
            log_keys_failed(&error);
        }
        Told::Keyless(fault)
    })
}
