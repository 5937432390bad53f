//! What can go wrong between us and a server, each with the place it was met at.

use std::io;
use std::time::Duration;

use skerry_journal::{OpenError, ReadError, StorageError, StorageErrorKind};
use tokio_postgres::error::SqlState;

/// Why something did not come about on a PostgreSQL server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// What the configuration says cannot be used.
    #[error("{place}: {what}")]
    Configuration {
        /// The store.
        place: String,
        /// What is wrong with it.
        what: String,
    },
    /// No host took the connection.
    #[error("could not connect to {place}: {}", words(source))]
    Connect {
        /// The store.
        place: String,
        /// Why.
        source: tokio_postgres::Error,
    },
    /// The server is not set so that what it acknowledges survives.
    #[error("{place} is not safe for a journal: {what}")]
    Unsafe {
        /// The store.
        place: String,
        /// Which settings, as they are and as they must be.
        what: String,
    },
    /// A statement was refused, or the connection went away under it.
    #[error("could not {action} in {place}: {}", words(source))]
    Statement {
        /// A verb and what.
        action: &'static str,
        /// The store.
        place: String,
        /// Why.
        source: tokio_postgres::Error,
    },
    /// Nothing came back.
    #[error(
        "{place} did not {action} within {} ms (a commit waits for a synchronous standby: is one connected?)",
        patience.as_millis()
    )]
    Late {
        /// A verb and what.
        action: &'static str,
        /// The store.
        place: String,
        /// How long was waited.
        patience: Duration,
    },
    /// The server committed with a warning: nobody knows whether a standby has it.
    #[error("{place} warned: {warning}")]
    Warned {
        /// The store.
        place: String,
        /// The server's words.
        warning: String,
    },
    /// The connection went away while nothing was asked of it.
    #[error("the connection to {place} is gone")]
    Gone {
        /// The store.
        place: String,
    },
    /// All connections for reading were busy for too long.
    #[error("all connections to {place} are busy")]
    Busy {
        /// The store.
        place: String,
    },
}

/// A server's own words where it had any, else the client's with its causes.
pub(crate) fn words(error: &tokio_postgres::Error) -> String {
    if let Some(told) = error.as_db_error() {
        let detail = told.detail().map(|detail| format!(" ({detail})")).unwrap_or_default();
        return format!("{}{detail}", told.message());
    }
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

impl LinkError {
    /// The server's code for its refusal, if it refused.
    #[must_use]
    pub fn code(&self) -> Option<&SqlState> {
        match self {
            Self::Connect { source, .. } | Self::Statement { source, .. } => source.code(),
            _ => None,
        }
    }

    /// Whether the server cannot be reached, or not in time: nothing is wrong with what was asked of it.
    pub(crate) fn is_away(&self) -> bool {
        let stopping = [
            &SqlState::ADMIN_SHUTDOWN,
            &SqlState::CRASH_SHUTDOWN,
            &SqlState::CANNOT_CONNECT_NOW,
            &SqlState::TOO_MANY_CONNECTIONS,
        ];
        match self {
            Self::Late { .. } | Self::Gone { .. } | Self::Busy { .. } => true,
            // Without a code it is no refusal: the connection did not come about or went away.
            Self::Connect { source, .. } | Self::Statement { source, .. } => {
                source.code().is_none_or(|code| stopping.contains(&code))
            }
            Self::Configuration { .. } | Self::Unsafe { .. } | Self::Warned { .. } => false,
        }
    }

    /// Whether a table that was asked for is not there.
    pub(crate) fn is_missing_table(&self) -> bool {
        matches!(self.code(), Some(code) if *code == SqlState::UNDEFINED_TABLE || *code == SqlState::INVALID_SCHEMA_NAME)
    }

    /// Whether somebody else made the same thing at the same time.
    pub(crate) fn is_made_already(&self) -> bool {
        let made = [
            &SqlState::DUPLICATE_TABLE,
            &SqlState::DUPLICATE_SCHEMA,
            &SqlState::DUPLICATE_OBJECT,
            &SqlState::UNIQUE_VIOLATION,
        ];
        self.code().is_some_and(|code| made.contains(&code))
    }

    /// The same as the journal seam says it: the machine failed.
    pub(crate) fn into_storage(self, place: &str) -> StorageError {
        let full = self.code() == Some(&SqlState::DISK_FULL);
        let kind = if full { StorageErrorKind::Full } else { StorageErrorKind::Io };
        let source = io::Error::other(self);
        StorageError { kind, action: "reach", file: place.to_owned(), offset: None, source }
    }

    pub(crate) fn into_read(self, place: &str) -> ReadError {
        ReadError::Storage(self.into_storage(place))
    }

    /// Opening did not come about for a reason that may pass.
    pub(crate) fn into_open(self, place: &str) -> OpenError {
        OpenError::Away { place: place.to_owned(), source: self.into_storage(place) }
    }
}
