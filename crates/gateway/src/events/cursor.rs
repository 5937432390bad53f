//! How far somebody has read: a position in each branch, as one word.
//!
//! ```text
//! 1.100~2.50~3.7.2     branch 1 up to position 100, branch 2 up to 50, branch 3 up to 7 in its second life
//! ```
//!
//! A branch that is not named was not begun with. One value has one text, so that cursors may be compared as text.

use std::collections::BTreeMap;
use std::fmt;

/// The longest text that is read: every branch that a bank may have, each with its position and its life.
pub const LENGTH_MAX: usize = 512 * 1024;

/// The highest branch.
const BRANCH_MAX: u16 = 9_999;

/// How far one branch was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The next position.
    pub next: u64,
    /// The life of the branch that the positions before it are of: 1, until a loss is declared.
    pub incarnation: u32,
}

impl Default for Place {
    fn default() -> Self {
        Self { next: 0, incarnation: 1 }
    }
}

/// How far each branch was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cursor(BTreeMap<u16, Place>);

impl Cursor {
    /// Reads it; `None` if it is not one of ours. Nothing is the beginning.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > LENGTH_MAX {
            return None;
        }
        let mut cursor = Self::default();
        let mut before = 0;
        for part in text.split('~').filter(|_| !text.is_empty()) {
            let mut numbers = part.split('.');
            let branch = u16::try_from(number(numbers.next()?)?).ok()?;
            let next = number(numbers.next()?)?;
            let incarnation = match numbers.next() {
                Some(text) => {
                    number(text).and_then(|life| u32::try_from(life).ok()).filter(|life| *life > 1)?
                }
                None => 1,
            };
            if numbers.next().is_some() || branch <= before || branch > BRANCH_MAX {
                return None;
            }
            before = branch;
            cursor.0.insert(branch, Place { next, incarnation });
        }
        Some(cursor)
    }

    /// How far `branch` was read.
    #[must_use]
    pub fn place(&self, branch: u16) -> Place {
        self.0.get(&branch).copied().unwrap_or_default()
    }

    /// Says how far `branch` was read.
    pub fn put(&mut self, branch: u16, place: Place) {
        self.0.insert(branch, place);
    }

    /// The branches that were begun with, in order.
    pub fn places(&self) -> impl Iterator<Item = (u16, Place)> {
        self.0.iter().map(|(branch, place)| (*branch, *place))
    }
}

/// Digits without sign and without zeros before them.
fn number(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text.len() == 1 || !text.starts_with('0'));
    plain.then(|| text.parse().ok()).flatten()
}

impl fmt::Display for Cursor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, (branch, place)) in self.0.iter().enumerate() {
            let between = if nth == 0 { "" } else { "~" };
            write!(formatter, "{between}{branch}.{}", place.next)?;
            if place.incarnation > 1 {
                write!(formatter, ".{}", place.incarnation)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn cursors_read_back_and_rubbish_does_not() {
        let mut cursor = Cursor::default();
        cursor.put(2, Place { next: 5, incarnation: 3 });
        cursor.put(1, Place { next: 100, incarnation: 1 });
        assert_eq!(cursor.to_string(), "1.100~2.5.3");
        assert_eq!(Cursor::parse("1.100~2.5.3"), Some(cursor));
        assert_eq!(Cursor::parse(""), Some(Cursor::default()));
        for wrong in [
            "x",
            "1",
            "1.",
            ".1",
            "1.-1",
            "1.+1",
            "1.01",
            "01.1",
            "0.1",
            "10000.1",
            "1.1~1.2",
            "2.1~1.1",
            "1.1~",
            "~1.1",
            "1.1.1",
            "1.1.0",
            "1.1.2.3",
            "1.99999999999999999999",
            "1.1.4294967296",
            " 1.1",
            "1.1 ",
        ] {
            assert_eq!(Cursor::parse(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            places in proptest::collection::btree_map(1_u16..=9_999, (any::<u64>(), 1_u32..), 0..9),
        ) {
            let mut cursor = Cursor::default();
            for (branch, (next, incarnation)) in places {
                cursor.put(branch, Place { next, incarnation });
            }
            prop_assert_eq!(Cursor::parse(&cursor.to_string()), Some(cursor));
        }
    }
}
