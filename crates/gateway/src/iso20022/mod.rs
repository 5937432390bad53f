//! ISO 20022: payments in (`pain.001`), what became of them (`pain.002`), and statements (`camt.053`, `camt.052`).
//!
//! Only the shapes are here, from and to plain values; what is asked of branches stands in the routes. Names of elements,
//! their order and lengths are those of the message definitions of the versions named below (iso20022.org); codes of
//! reasons are those of its external code sets.

pub mod initiation;
pub mod statement;
pub mod status;
pub mod tree;
mod xml;

/// The media type of all of them.
pub const MEDIA_TYPE: &str = "application/xml";

/// A message and its namespace.
pub mod message {
    /// A customer starts credit transfers.
    pub const INITIATION: &str = "pain.001.001.09";
    /// What became of them.
    pub const STATUS: &str = "pain.002.001.10";
    /// What was booked on closed days.
    pub const STATEMENT: &str = "camt.053.001.08";
    /// The same, the open day included.
    pub const REPORT: &str = "camt.052.001.08";

    /// Its XML namespace.
    #[must_use]
    pub fn namespace(message: &str) -> String {
        format!("urn:iso:std:iso:20022:tech:xsd:{message}")
    }
}

/// An id without its hyphens: with them it is one character longer than `Max35Text`.
#[must_use]
pub fn short_id(id: u128) -> String {
    format!("{id:032x}")
}
