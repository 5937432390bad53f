//! Notes on transfers: a customer's free text, sealed on its way in and opened for who may read the account.
//!
//! A note is sealed under the key of the customer who pays; when a head pays, of the customer who is paid. It is personal
//! data like a name: when that customer is erased, it is unreadable for both sides. The branch gets ciphertext and a tag: a
//! keyed digest of the text, so that a retry with the same note is a retry and another note is another transfer.
//!
//! ```text
//! note in the record's tail: u64 key reference, little-endian · what `Keys::seal` made
//! ```
//!
//! With the key's reference beside it a note is opened without asking the branch whose the account was.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use serde::Serialize;
use skerry_book::record::TransferTailRef;
use skerry_branch::api::{Answer, Asked, Read};
use skerry_branch::keys::{KeyError, KeyRef};
use skerry_ledger::{AccountRef, Flags};
use utoipa::ToSchema;

use crate::auth::Caller;
use crate::catalogue;
use crate::detail::{Detail, said};
use crate::gateway::Shared;
use crate::problem::Problem;
use crate::sealing;
use skerry_node::hosted::log_keys_failed;
use skerry_node::seat::{Seat, Trouble};

/// The longest note, in characters.
const CHARS_MAX: usize = 140;

/// Customers whose key reference is kept, at most; 16 bytes each.
const KEPT_MAX: usize = 1 << 16;

/// What tells a note's plain text from others sealed under the same key.
const VERSION: u8 = 2;

/// Why there is a note that is not shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Unshown {
    /// The customer under whose key it lay is erased: nobody can read it any more.
    Erased,
    /// The caller's role reads no personal data.
    Withheld,
    /// The customers' keys could not be read just now.
    Unavailable,
}

/// A note as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Shown {
    Text(String),
    Not(Unshown),
}

/// The texts of a record's tail.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Texts {
    /// The whole reference, if it is longer than the record holds.
    pub(crate) reference: Option<String>,
    /// The note.
    pub(crate) note: Option<Shown>,
}

impl Texts {
    /// For JSON: nothing if there is no note, `null` if it is not shown.
    pub(crate) fn note(&self) -> Option<Option<String>> {
        self.note.as_ref().map(|shown| match shown {
            Shown::Text(text) => Some(text.clone()),
            Shown::Not(_) => None,
        })
    }

    /// Why a note that is there is not shown.
    pub(crate) fn note_status(&self) -> Option<Unshown> {
        match self.note {
            Some(Shown::Not(why)) => Some(why),
            _ => None,
        }
    }
}

/// Key references of customers, as branches said them. They never change: a changed customer is sealed under the same key.
#[derive(Debug, Default)]
pub(crate) struct NoteKeys(RwLock<HashMap<(u16, u32), KeyRef>>);

impl NoteKeys {
    fn get(&self, branch: u16, owner: u32) -> Option<KeyRef> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&(branch, owner)).copied()
    }

    fn keep(&self, branch: u16, owner: u32, key: KeyRef) {
        let mut kept = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT_MAX {
            let dropped = kept.keys().next().copied();
            dropped.and_then(|dropped| kept.remove(&dropped));
        }
        kept.insert((branch, owner), key);
    }
}

/// A note's bytes for the record, and the index of its transfer.
type Sealed = (usize, Box<[u8]>);

/// Checks a note as it was sent.
///
/// # Errors
///
/// `invalid_field`: empty, too long, with control characters, or on what is not a transfer of its own.
pub(crate) fn check(note: &str, flags: Flags) -> Result<(), Problem> {
    let wrong =
        |detail: Detail| Err(Problem::numbered(catalogue::INVALID_FIELD).field("note").detail(detail));
    if note.is_empty() || note.chars().take(CHARS_MAX + 1).count() > CHARS_MAX {
        return wrong(said!("1 to 140 characters", "1 至 140 个字符"));
    }
    if note.chars().any(char::is_control) {
        return wrong(said!("no control characters", "不得含控制字符"));
    }
    if flags.overlaps(Flags::POST.with(Flags::VOID).with(Flags::REVERSAL)) {
        return wrong(said!(
            "post, void and reverse take no note: it stands on the transfer that they resolve or undo",
            "入账、撤销和冲正不带附言：附言写在其所处理的交易上"
        ));
    }
    Ok(())
}

/// Seals the notes that go with `asked`, each under its customer's key, and lays them into it.
///
/// # Errors
///
/// What is wrong with a note, or with the customer it is to be sealed for; with the index where that is.
pub(crate) async fn seal(
    gateway: &Shared,
    caller: &Caller,
    branch: u16,
    asked: &mut [Asked],
    notes: Vec<(usize, String)>,
) -> Result<(), (usize, Problem)> {
    if notes.is_empty() {
        return Ok(());
    }
    let mut work = Vec::with_capacity(notes.len());
    for (index, note) in notes {
        let Some(one) = asked.get_mut(index) else { continue };
        let at = |problem| (index, problem);
        let key = key_for(gateway, caller, branch, one).await.map_err(at)?;
        one.note_tag = gateway.digests.note(branch, one.transfer.id.0, &note);
        work.push((index, key, note));
    }
    let keys = gateway.bank.seat(branch).map_err(|problem| (0, problem))?.keys();
    let sealing = move || -> Result<Vec<Sealed>, (usize, KeyError)> {
        let seal = |(index, key, note): (usize, KeyRef, String)| {
            let mut plain = zeroize::Zeroizing::new(Vec::with_capacity(1 + note.len()));
            plain.push(VERSION);
            plain.extend_from_slice(note.as_bytes());
            let sealed = keys.seal(key, &plain).map_err(|error| (index, error))?;
            let mut bytes = key.0.to_le_bytes().to_vec();
            bytes.extend_from_slice(&sealed);
            Ok((index, bytes.into_boxed_slice()))
        };
        work.into_iter().map(seal).collect()
    };
    let sealed = match tokio::task::spawn_blocking(sealing).await {
        Ok(Ok(sealed)) => sealed,
        Ok(Err((index, error))) => return Err((index, sealing::keyless(&error).field("note"))),
        Err(_) => return Err((0, Problem::numbered(catalogue::INTERNAL))),
    };
    for (index, bytes) in sealed {
        if let Some(one) = asked.get_mut(index) {
            one.note = bytes;
        }
    }
    Ok(())
}

/// The key of the customer who pays; if a head pays, of the customer who is paid.
async fn key_for(gateway: &Shared, caller: &Caller, branch: u16, asked: &Asked) -> Result<KeyRef, Problem> {
    let transfer = &asked.transfer;
    let is_customer = |account: &AccountRef| account.is_customer() && account.branch() == branch;
    let account = [transfer.debit, transfer.credit].into_iter().find(is_customer).ok_or_else(|| {
        Problem::numbered(catalogue::INVALID_FIELD)
            .field("note")
            .detail(said!("a note is sealed under a customer's key, and neither side is a customer's account of this branch", "附言以客户密钥加密，而借贷双方均不是本分行的客户账户"))
    })?;
    let field = if account == transfer.debit { "debit" } else { "credit" };
    let owner = crate::routes::accounts::look_fixed(gateway, caller, account)
        .await
        .map_err(|problem| problem.field(field))?
        .owner;
    if let Some(key) = gateway.note_keys.get(branch, owner) {
        return Ok(key);
    }
    match gateway.bank.look(branch, caller, Read::Customer(owner)).await? {
        Some(Answer::Customer(found)) => {
            let key = KeyRef(found.customer.key_ref);
            gateway.note_keys.keep(branch, owner, key);
            Ok(key)
        }
        _ => Err(Problem::numbered(catalogue::INTERNAL)),
    }
}

/// The texts of the record at `position`, whose flags are `flags`; a note only if the caller `may_read` it. Runs where one may
/// block.
///
/// # Errors
///
/// [`Trouble`] if the record cannot be read. Keys that cannot be read leave the note [`Unshown::Unavailable`].
pub(crate) fn texts(seat: &dyn Seat, position: u64, flags: Flags, may_read: bool) -> Result<Texts, Trouble> {
    if !flags.has(Flags::TAIL) {
        return Ok(Texts::default());
    }
    let recorded = seat.record(position)?;
    let Some(tail) = TransferTailRef::decode(&recorded.tail) else {
        return Err(Trouble::Failed(format!("the tail of position {position} is not one of a transfer")));
    };
    let reference = (!tail.reference.is_empty()).then(|| tail.reference.to_owned());
    let note = (!tail.note.is_empty())
        .then(|| if may_read { open(seat, tail.note, position) } else { Shown::Not(Unshown::Withheld) });
    Ok(Texts { reference, note })
}

fn open(seat: &dyn Seat, note: &[u8], position: u64) -> Shown {
    let Some((key, sealed)) = note.split_first_chunk() else { return Shown::Not(Unshown::Unavailable) };
    let opened = seat.keys().unseal(KeyRef(u64::from_le_bytes(*key)), sealed);
    match opened {
        Ok(plain) => match plain.split_first() {
            Some((&VERSION, text)) => Shown::Text(String::from_utf8_lossy(text).into_owned()),
            _ => Shown::Not(Unshown::Unavailable),
        },
        Err(KeyError::Erased) => Shown::Not(Unshown::Erased),
        Err(error) => {
            tracing::error_span!("note", position).in_scope(|| log_keys_failed(&error));
            Shown::Not(Unshown::Unavailable)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_has_1_to_140_characters_and_no_control_characters() {
        for good in ["a", "房租 十一月", &"é".repeat(140)] {
            assert!(check(good, Flags(0)).is_ok(), "{good}");
        }
        for wrong in ["", &"é".repeat(141), "a\nb", "a\0"] {
            assert_eq!(check(wrong, Flags(0)).unwrap_err().field_name(), "note", "{wrong:?}");
        }
    }

    #[test]
    fn what_resolves_or_undoes_takes_no_note() {
        for flags in [Flags::POST, Flags::VOID, Flags::REVERSAL] {
            assert!(check("a", flags).is_err());
        }
        assert!(check("a", Flags::PENDING).is_ok());
    }

    #[test]
    fn key_references_are_kept_within_a_bound() {
        let keys = NoteKeys::default();
        for owner in 1..=u32::try_from(KEPT_MAX).unwrap() + 10 {
            keys.keep(1, owner, KeyRef(u64::from(owner)));
            assert_eq!(keys.get(1, owner), Some(KeyRef(u64::from(owner))));
        }
        assert_eq!(keys.0.read().unwrap().len(), KEPT_MAX);
        assert_eq!(keys.get(2, 1), None);
    }
}
