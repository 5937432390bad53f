//! What travels as JSON: typed, strict, and free of the inside of the bank.
//!
//! Requests refuse unknown fields and say what they expected; money is a string with a currency, never a
//! JSON number. Answers are written straight from the values, without intermediate text.

pub mod accounts;
pub mod buses;
pub mod channels;
pub mod customers;
pub mod directory;
pub mod events;
pub mod imports;
pub mod payments;
pub mod reports;
pub mod scalars;
pub mod transfers;
pub mod webhooks;
