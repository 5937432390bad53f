//! Moving old sealed segments to a cold folder, where they still verify.
//!
//! Copied and checked first, durable there second, off the writer's thread; then the mark says where this journal begins;
//! then the originals go. A power cut anywhere leaves each segment in at least one place.

use super::reader::Shared;
use super::seal::copy_packed;
use crate::coverage::Mark as Covered;
use crate::error::{ArchiveError, ReadError};
use crate::seam::{Head, Position, Shelved};
use crate::storage::Storage;

/// Copies the first sealed segments that end at or before `before`.
pub(super) fn copy_old<S: Storage>(
    shared: &Shared<S>,
    before: Position,
    most: usize,
) -> Result<Shelved, ArchiveError> {
    let cold = shared.cold().ok_or(ArchiveError::NoCold)?;
    let table = shared.segments();
    let start = table.first().map_or(shared.durable(), |first| first.start());
    cold.begin(start)?;
    let mut end = start;
    for segment in table.iter().take(most) {
        if !segment.name.sealed || segment.head().position > before {
            break;
        }
        if cold.has(segment.start(), segment.head())? {
            Covered::CopiedBefore.hit();
        } else {
            copy_packed(segment, cold.storage())?;
        }
        end = segment.head();
    }
    // The name of an earlier attempt's copy may be seen and yet not be durable.
    cold.storage().sync_dir()?;
    Ok(Shelved::before(end))
}

/// Takes away what lies durably in the cold folder. Returns the first position still here.
pub(super) fn release<S: Storage>(shared: &Shared<S>, copied: Shelved) -> Result<Position, ArchiveError> {
    let table = shared.segments();
    let end = copied.end();
    let old =
        table.iter().take_while(|segment| segment.name.sealed && segment.head().position <= end.position);
    let old: Vec<_> = old.cloned().collect();
    let Some(last) = old.last() else {
        return Ok(table.first().map_or(shared.durable().position, |first| first.start().position));
    };
    let start = last.head();
    shared.change_mark(|mark| mark.start = start)?;
    shared.forget_first(old.len());
    for segment in &old {
        shared.storage().remove(&segment.name.format())?;
    }
    shared.storage().sync_dir()?;
    Ok(start.position)
}

/// Copies every segment that `shared` reaches, the open one as far as it is durable now, into `target`.
pub(super) fn export<S: Storage, T: Storage>(shared: &Shared<S>, target: &T) -> Result<Head, ArchiveError> {
    let mut head = shared.durable();
    let table = shared.segments();
    let start = table.first().map_or(head, |first| first.start()).position;
    let archived = match shared.cold() {
        Some(cold) if start > Position(0) => Some(cold.all_before(start)?),
        _ => None,
    };
    let mut next = None;
    let all = archived.into_iter().flatten().chain(table.into_iter().map(Ok));
    for segment in all {
        let segment = segment?;
        if segment.start() == segment.head() {
            continue;
        }
        if next.is_some_and(|next| next != segment.start()) {
            let kind = crate::error::DamageKind::Chain("the segment does not continue the one before it");
            let damage: ReadError = segment.damage(0, segment.start().position.0, kind);
            return Err(damage.into());
        }
        head = copy_packed(&segment, target)?;
        next = Some(head);
    }
    Ok(head)
}
