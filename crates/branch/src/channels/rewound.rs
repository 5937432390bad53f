//! The note that another branch knows more of this one than its own journal: it outlives the process, so that the branch
//! does not open again as if nothing were lost.
//!
//! ```text
//! magic "SKRW" 4 · version u16 · peer u16 · incarnation u32 · heard u32 · told u64 · known u64 · check 16 (BLAKE3)
//! ```
//!
//! It stands for one life of the branch; a declared loss begins the next.

use skerry_book::Book;
use skerry_journal::storage::{read_whole, replace_whole};
use skerry_journal::{Storage, StorageError};

use crate::open::OpenFailure;

const FILE: &str = "rewound";
const MAGIC: [u8; 4] = *b"SKRW";
const VERSION: u16 = 1;
const CONTENT: usize = 32;

/// What another branch has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rewound {
    /// Which branch.
    pub peer: u16,
    /// The life of this one in which it was shown.
    pub incarnation: u32,
    /// The latest life of this one that the other knows.
    pub heard: u32,
    /// The number of a payment between both that it knows.
    pub told: u64,
    /// The last number that is known here.
    pub known: u64,
}

impl Rewound {
    /// Writes the note, in the place of an earlier one.
    pub(crate) fn keep<S: Storage>(&self, folder: &S) -> Result<(), StorageError> {
        let mut bytes = Vec::with_capacity(CONTENT + 16);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&self.peer.to_le_bytes());
        bytes.extend_from_slice(&self.incarnation.to_le_bytes());
        bytes.extend_from_slice(&self.heard.to_le_bytes());
        bytes.extend_from_slice(&self.told.to_le_bytes());
        bytes.extend_from_slice(&self.known.to_le_bytes());
        let check = blake3::hash(&bytes);
        bytes.extend_from_slice(&check.as_bytes()[..16]);
        replace_whole(folder, FILE, &bytes)
    }

    /// Reads the note, if there is one. A damaged one is none: the other branch will show it again.
    pub(crate) fn find<S: Storage>(folder: &S) -> Result<Option<Self>, StorageError> {
        if !folder.list()?.iter().any(|name| name == FILE) {
            return Ok(None);
        }
        Ok(Self::read(&read_whole(folder, FILE)?))
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (content, check) = bytes.split_at_checked(CONTENT)?;
        if blake3::hash(content).as_bytes()[..16] != *check || content[..4] != MAGIC {
            return None;
        }
        let two = |at: usize| {
            content.get(at..at + 2).and_then(|field| field.try_into().ok()).map(u16::from_le_bytes)
        };
        let four = |at: usize| {
            content.get(at..at + 4).and_then(|field| field.try_into().ok()).map(u32::from_le_bytes)
        };
        let eight = |at: usize| {
            content.get(at..at + 8).and_then(|field| field.try_into().ok()).map(u64::from_le_bytes)
        };
        (two(4)? == VERSION).then_some(Self {
            peer: two(6)?,
            incarnation: four(8)?,
            heard: four(12)?,
            told: eight(16)?,
            known: eight(24)?,
        })
    }
}

/// Holds an opening book against what other branches have shown in this life of the branch.
pub(crate) fn check<S: Storage>(folder: &S, book: &Book) -> Result<(), OpenFailure> {
    match Rewound::find(folder)? {
        Some(found) if found.incarnation >= book.incarnation() => Err(OpenFailure::PeerAhead {
            peer: found.peer,
            told: found.told,
            known: found.known,
            journal: book.position(),
        }),
        _ => Ok(()),
    }
}
