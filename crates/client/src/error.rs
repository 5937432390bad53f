//! What can go wrong between a client and a bank: a refusal (the bank's word) or a fault (the way there).

use serde::{Deserialize, Serialize};

/// A problem document (RFC 9457) as the bank sends it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Where the page about it is.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// One line, in the language asked for.
    #[serde(default)]
    pub title: String,
    /// The HTTP status.
    #[serde(default)]
    pub status: u16,
    /// The stable name that programs match on.
    #[serde(default)]
    pub code: String,
    /// What is wrong this time.
    #[serde(default)]
    pub detail: Option<String>,
    /// The request's field that is to blame.
    #[serde(default)]
    pub field: Option<String>,
    /// Everything else it says: number, figures, existing.
    #[serde(flatten)]
    pub more: serde_json::Map<String, serde_json::Value>,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({}", self.title, self.code)?;
        if let Some(field) = &self.field {
            write!(f, ", field {field}")?;
        }
        f.write_str(")")?;
        if let Some(detail) = &self.detail {
            write!(f, ": {detail}")?;
        }
        // What the next step needs: the digest to propose, or what is there already.
        for name in ["request", "existing"] {
            if let Some(text) = self.more.get(name).and_then(serde_json::Value::as_str) {
                write!(f, "; {name} {text}")?;
            }
        }
        Ok(())
    }
}

/// Why a call did not give what was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The address is not `http://host:port` or `https://host:port`.
    #[error("not a bank's address: {0:?} (expected http://host:port or https://host:port)")]
    Address(String),
    /// No connection.
    #[error("could not connect to {address}")]
    Connect {
        /// Where to.
        address: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The connection broke, or the answer was not HTTP.
    #[error("could not {action}")]
    Http {
        /// What was attempted.
        action: &'static str,
        /// Why it failed.
        source: hyper::Error,
    },
    /// The answer has more bytes than were to be read.
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
    /// The answer did not come in time.
    #[error("no answer within {0:?}")]
    TimedOut(std::time::Duration),
    /// The bank said no.
    #[error("{0}")]
    Problem(Box<Problem>),
    /// An answer that is not what the API describes.
    #[error("unexpected answer, status {status}: {text}")]
    Unexpected {
        /// The HTTP status.
        status: u16,
        /// The beginning of the body.
        text: String,
    },
    /// A certificate that cannot be read.
    #[error("could not read the certificate {path}: {reason}")]
    Certificate {
        /// Which file.
        path: String,
        /// Why.
        reason: String,
    },
}

impl Error {
    /// Whether the same request, with the same id, may be sent again.
    #[must_use]
    pub fn may_retry(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Http { .. } | Self::TimedOut(_) => true,
            Self::Problem(problem) => matches!(problem.status, 429 | 503 | 504),
            _ => false,
        }
    }
}
