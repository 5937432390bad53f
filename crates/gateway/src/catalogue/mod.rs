//! Every problem the bank can answer: number, name, status, titles, and what to do about it.
//!
//! The numbers and names below 5000 are the ledger's and the book's; a test holds this list against theirs.
//! The pages in `docs/errors/` are written from here, so that text exists once.

mod book;
mod events;
mod gateway;
mod ledger;

use axum::http::StatusCode;

use crate::problem::Language;

pub use events::{
    BUS_AWAY, BUS_NOT_FOUND, BUS_NOT_SHARED, CURSOR_AHEAD, EVENT_TYPE_UNKNOWN, NODE_NOT_FOUND,
    WEBHOOK_INVALID, WEBHOOKS_FULL, WEBHOOKS_UNAVAILABLE,
};
pub use gateway::{
    ARCHIVED, BATCH_TOO_LARGE, BODY_CUT_SHORT, BODY_TOO_LARGE, BRANCH_NOT_FOUND, BRANCH_UNAVAILABLE, BUSY,
    CURSOR_INVALID, DEADLINE_PASSED, DIRECTORY_REBUILDING, DIRECTORY_UNAVAILABLE, DOCUMENT_RESERVED,
    FORBIDDEN, HISTORY_UNAVAILABLE, ID_NEEDED, INTERNAL, INVALID_FIELD, INVALID_KEY, INVALID_QUERY,
    JWT_ALGORITHM_REFUSED, JWT_AUDIENCE_WRONG, JWT_CLAIM_REFUSED, JWT_ISSUER_WRONG, JWT_KEY_UNKNOWN,
    JWT_MALFORMED, JWT_NOT_YET_VALID, JWT_SIGNATURE_WRONG, MALFORMED_JSON, MALFORMED_XML, METHOD_NOT_ALLOWED,
    MISSING_FIELD, NO_OPEN_BRANCH, NOT_ARCHIVED, NOT_FOUND, OUT_OF_SCOPE, OUTCOME_UNKNOWN, PACKED_MALFORMED,
    PERSONAL_DATA_UNAVAILABLE, QUOTA_EXCEEDED, REQUEST_TIMEOUT, SHUTTING_DOWN, TOKEN_EXPIRED, TOKEN_INVALID,
    TOO_MANY_CONNECTIONS, TOO_MANY_STREAMS, UNAUTHENTICATED, UNKNOWN_FIELD, UNSUPPORTED_MEDIA_TYPE,
};

/// What a refusal leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing happened.
    Nothing,
    /// Nothing moved, and the transfer's id is used up.
    IdUsed,
    /// It is not known whether it happened.
    Unknown,
}

impl Effect {
    /// In words.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Nothing => "Nothing was done and nothing is left behind.",
            Self::IdUsed => {
                "No money moved. The refusal of a transfer is journaled and its id stays refused: a retry with the \
                 same id answers the same. Another attempt needs a new id."
            }
            Self::Unknown => "The request may or may not have been carried out.",
        }
    }
}

/// One problem.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// The stable number; its page is `/docs/errors/<number>`.
    pub number: u16,
    /// The stable name.
    pub code: &'static str,
    status: u16,
    /// The title in English.
    pub title_en: &'static str,
    /// The title in Chinese.
    pub title_zh: &'static str,
    /// What it leaves behind.
    pub effect: Effect,
    /// How it comes about.
    pub cause: &'static str,
    /// What to do.
    pub remedy: &'static str,
}

impl Entry {
    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The title in `language`.
    #[must_use]
    pub const fn title(&self, language: Language) -> &'static str {
        match language {
            Language::English => self.title_en,
            Language::Chinese => self.title_zh,
        }
    }

    /// Its page in Markdown.
    #[must_use]
    pub fn page(&self) -> String {
        format!(
            "# {} `{}`\n\n{} · {}\n\nHTTP status {}.\n\n## Cause\n\n{}\n\n## Effect\n\n{}\n\n## What to do\n\n{}\n",
            self.number,
            self.code,
            self.title_en,
            self.title_zh,
            self.status,
            self.cause,
            self.effect.text(),
            self.remedy
        )
    }
}

/// `(number, name, status, English, Chinese, effect, cause, remedy)`.
type Row = (u16, &'static str, u16, &'static str, &'static str, Effect, &'static str, &'static str);

const fn of(row: Row) -> Entry {
    let (number, code, status, title_en, title_zh, effect, cause, remedy) = row;
    Entry { number, code, status, title_en, title_zh, effect, cause, remedy }
}

/// All problems, ascending by number within each part.
pub fn all() -> impl Iterator<Item = &'static Entry> {
    ledger::ENTRIES.iter().chain(book::ENTRIES).chain(gateway::ENTRIES).chain(events::ENTRIES)
}

/// The entry with this number; `internal` for a number that has none.
#[must_use]
pub fn entry(number: u16) -> &'static Entry {
    find(number).unwrap_or_else(|| find(INTERNAL).expect("the catalogue has the problem `internal`"))
}

/// The entry with this number.
#[must_use]
pub fn find(number: u16) -> Option<&'static Entry> {
    let part = match number {
        0..3_000 => ledger::ENTRIES,
        3_000..5_000 => book::ENTRIES,
        5_200..5_300 => events::ENTRIES,
        _ => gateway::ENTRIES,
    };
    part.get(part.binary_search_by_key(&number, |entry| entry.number).ok()?)
}

#[cfg(test)]
mod tests;
