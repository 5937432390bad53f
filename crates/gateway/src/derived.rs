//! Ids of transfers that came with a key instead of an id.
//!
//! A version 7 id has a time in it, and a retry comes later than its original. So the id takes the beginning of a
//! third of a day for its time, and an earlier third's id is taken again if something was done under it. A
//! minute after a third begins, whatever was under way in the one before is decided: until then the earlier id is
//! used for everything. (A refusal is answered again for as long as its third lasts; an `id` of the client's own is
//! refused for ever. docs/api.md says so.)

use skerry_book::Purpose;
use skerry_ledger::TransferId;

use crate::auth::Caller;
use crate::extract::Key;
use crate::gateway::Shared;
use crate::problem::Problem;
use crate::text;

/// Eight hours, in milliseconds.
const THIRD_MS: u64 = 8 * 3_600_000;

/// Longer than any request lives, in milliseconds.
const SETTLED_MS: u64 = 60_000;

/// Thirds in which an id still acts: it may be at most a day old.
const THIRDS: u64 = 3;

/// The id for the `index`-th transfer of a request with `key`.
///
/// # Errors
///
/// `history_unavailable` when it cannot be told whether the key was used before.
pub(crate) async fn by_key(
    gateway: &Shared,
    caller: &Caller,
    branch: u16,
    key: &Key,
    index: usize,
) -> Result<u128, Problem> {
    let bits = gateway.secrets.seed.wide(Purpose::TransferId, &key_bytes(caller, key, index));
    let ids = candidates(text::now_us() / 1_000, bits);
    let earlier = ids[1..].to_vec();
    let found = gateway.bank.query(branch, move |seat| {
        for id in earlier {
            if seat.transfer(TransferId(id))?.is_some() {
                return Ok(Some(id));
            }
        }
        Ok(None)
    });
    Ok(found.await?.unwrap_or(ids[0]))
}

/// The id to use, then those of the thirds before it.
fn candidates(now_ms: u64, bits: u128) -> [u128; 4] {
    let third = now_ms.saturating_sub(SETTLED_MS) / THIRD_MS;
    let mut ids = [0; 4];
    for (back, id) in (0..=THIRDS).zip(&mut ids) {
        *id = uuid_v7(third.saturating_sub(back) * THIRD_MS, bits);
    }
    ids
}

/// A UUID of version 7 for `millis`, filled from 74 derived bits.
pub(crate) fn uuid_v7(millis: u64, bits: u128) -> u128 {
    let millis = u128::from(millis & 0xffff_ffff_ffff);
    let (high, low) = ((bits >> 64) & 0xfff, bits & 0x3fff_ffff_ffff_ffff);
    millis << 80 | 7 << 76 | high << 64 | 0b10 << 62 | low
}

/// A key as bytes that name it together with its principal.
fn key_bytes(caller: &Caller, key: &Key, index: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(300);
    bytes.extend_from_slice(b"transfer by key\0");
    bytes.extend_from_slice(caller.principal().as_str().as_bytes());
    bytes.push(0);
    bytes.extend_from_slice(key.bytes());
    bytes.push(0);
    bytes.extend_from_slice(text::hex(&index.to_le_bytes()).as_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_holds_for_a_third_of_a_day_and_is_found_from_the_next() {
        let begin = 200_000 * THIRD_MS;
        let at = |now_ms| candidates(now_ms, 0x1234_5678_9abc_def0_1234_5678_9abc_def0);
        let id = at(begin + SETTLED_MS)[0];
        assert_eq!(at(begin + THIRD_MS)[0], id, "until what was under way is decided");
        assert_eq!(at(begin + THIRD_MS + SETTLED_MS)[1], id);
        assert_ne!(at(begin + THIRD_MS + SETTLED_MS)[0], id);
        assert_eq!(TransferId(id).version(), 7);
        assert_eq!(TransferId(id).millis(), begin);
        assert_eq!(id >> 62 & 3, 2, "the variant of RFC 9562");
    }

    #[test]
    fn an_id_acts_whenever_it_is_made() {
        let begin = 200_000 * THIRD_MS;
        for now_ms in [begin, begin + SETTLED_MS - 1, begin + SETTLED_MS, begin + THIRD_MS - 1] {
            let made = TransferId(candidates(now_ms, 1)[0]).millis();
            assert!(made <= now_ms && now_ms - made < 24 * 3_600_000);
        }
    }
}
