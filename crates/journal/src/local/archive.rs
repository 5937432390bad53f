//! Moving old sealed segments to a cold folder, where they still verify.
//!
//! Copied and checked first, durable there second; then the mark says where this journal begins; then the originals go. A
//! power cut anywhere leaves each segment in at least one place.

use super::reader::Shared;
use super::seal::copy_packed;
use crate::error::ArchiveError;
use crate::seam::{Head, Position};
use crate::storage::Storage;

/// Moves the sealed segments that end at or before `before`. Returns the first position still here.
pub(super) fn archive<S: Storage>(
    shared: &Shared<S>,
    before: Position,
    cold: &S,
) -> Result<Position, ArchiveError> {
    let table = shared.segments();
    let old = table.iter().take_while(|segment| segment.name.sealed && segment.head().position <= before);
    let old: Vec<_> = old.cloned().collect();
    let there = cold.list()?;
    for segment in &old {
        let name = segment.name.format();
        // Copied by an earlier attempt that did not come to its end? A sealed name is only ever given to a whole copy.
        if !there.contains(&name) {
            copy_packed(segment, cold)?;
        }
    }
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

/// Copies every segment, the open one as far as it is durable now, into `target`.
pub(super) fn export<S: Storage, T: Storage>(shared: &Shared<S>, target: &T) -> Result<Head, ArchiveError> {
    let mut head = shared.durable();
    for segment in shared.segments() {
        if segment.start() == segment.head() {
            continue;
        }
        head = copy_packed(&segment, target)?;
    }
    Ok(head)
}
