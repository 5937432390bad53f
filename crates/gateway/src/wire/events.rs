//! Events as JSON.

use serde::Serialize;
use utoipa::ToSchema;

use super::scalars::Instant;

/// An event as CloudEvents 1.0 lays it out, with the extensions *sequence*, *partitioning* and *distributed tracing*.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct CloudEvent {
    /// `1.0`.
    pub specversion: &'static str,
    /// The same whenever and wherever this event is told: `0001-42` is position 42 of branch 1.
    pub id: String,
    /// `/branches/0001`.
    pub source: String,
    /// `skerry.transfer.posted` and so on: docs/events.md lists them.
    #[serde(rename = "type")]
    pub kind: String,
    /// The account it is about, else the customer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// When.
    pub time: Instant,
    /// `application/json`.
    pub datacontenttype: &'static str,
    /// The position in its branch's journal, in 20 digits: as text in the order of the journal.
    pub sequence: String,
    /// The subject again, for brokers that keep order by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partitionkey: Option<String>,
    /// The request that caused it, as a trace (W3C): its digest is the trace, so what one request did is together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// What happened; ids and figures, never personal data.
    #[schema(value_type = Object)]
    pub data: serde_json::Value,
}

/// A page of events.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct EventsPage {
    /// Per branch in the order of its journal.
    pub events: Vec<CloudEvent>,
    /// Pass as `after` for what comes next; valid for as long as the journal is.
    pub next: String,
    /// Whether there is more to look at now. A page may be empty and still say so: it looks at a bounded number of records.
    pub more: bool,
    /// Branches that could not be read; `next` leaves them where they were.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unavailable: Vec<Unavailable>,
}

/// A branch that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Unavailable {
    /// Which.
    pub branch: u16,
    /// The code of the problem that asking for this branch alone is answered with.
    pub code: &'static str,
}
