//! What the tests of the journal share: folders that go away, small segments.

use skerry_journal::contract::BRANCH;
use skerry_journal::{LocalOptions, Mode};

/// Small segments, so that every test meets their ends.
pub(crate) const fn small(mode: Mode) -> LocalOptions {
    let mut options = LocalOptions::new(BRANCH);
    options.segment_bytes = 64 << 10;
    options.reserve_bytes = 16 << 10;
    options.mark_every = 5;
    options.mode = mode;
    options
}
