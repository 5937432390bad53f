//! Money and the few things it is counted with: currencies, amounts, account numbers, business
//! dates, rates, day counts, rounding.
//!
//! Everything is an integer and everything is a small `Copy` value. This crate refuses to know of
//! accounts, balances, clocks and files; it does not even know what time it is.
//!
//! # Invariants
//!
//! - **M1, exact**: no float anywhere; a division is always named together with its [`Rounding`].
//! - **M2, nothing lost**: the parts of a [split](split::split) add up to the whole.
//! - **M3, one text**: what is formatted parses back to the same value.

#![no_std]
// Tests are exempt: what goes wrong there shows.
#![cfg_attr(
    not(test),
    deny(
        clippy::float_arithmetic,
        clippy::as_conversions,
        clippy::arithmetic_side_effects,
        clippy::indexing_slicing
    )
)]

extern crate alloc;

pub mod amount;
pub mod currency;
pub mod date;
pub mod number;
pub mod rate;
pub mod rounding;
pub mod split;

pub use amount::{Amount, AmountError, Balance};
pub use currency::Currency;
pub use date::{Date, DateError, Weekday};
pub use number::{AccountNumber, CustomerNumber, NumberError};
pub use rate::{DayCount, Rate, YearFraction, interest};
pub use rounding::Rounding;
pub use split::split;
