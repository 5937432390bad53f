//! The book's tests: one binary, a file for each subject.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod crossing;
mod founding;
mod lives;
mod packed;
mod pages;
mod payouts;
mod properties;
mod records;
mod scenarios;
mod world;
