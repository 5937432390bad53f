//! Webhooks as JSON.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::scalars::Instant;
use crate::webhooks::store::Disabled;

/// A new webhook.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookIn {
    /// Where events are posted: `https://`; plain `http://` for the loopback.
    #[schema(example = "https://shop.example/hooks")]
    pub url: String,
    /// Only these types, or beginnings of some such as `skerry.transfer`; left out, all.
    #[serde(default)]
    pub types: Vec<String>,
    /// Only these branches; left out, all.
    #[serde(default)]
    pub branches: Option<Vec<u16>>,
    /// A cursor to begin after; `now`, or left out, at the end; empty, at the beginning.
    #[serde(default)]
    pub after: Option<String>,
}

/// Where to begin again.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplayIn {
    /// A cursor, `now`, or empty for the beginning.
    pub after: String,
}

/// A webhook.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct WebhookOut {
    /// Its id.
    pub id: String,
    /// Where events are posted.
    pub url: String,
    /// Only these types; empty is all.
    pub types: Vec<String>,
    /// Only these branches; absent is all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub branches: Option<Vec<u16>>,
    /// When it was made.
    pub created: String,
    /// By whom.
    pub created_by: String,
    /// Whether it is called.
    pub enabled: bool,
    /// Why it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disabled: Option<Disabled>,
    /// Everything before it is delivered.
    pub cursor: String,
    /// Records between the cursor and the ends of its branches.
    pub lag_records: u64,
    /// Age in seconds of the oldest event that is read and not delivered.
    pub lag_seconds: u64,
    /// Events delivered since the bank began.
    pub delivered: u64,
    /// Attempts that failed since the bank began.
    pub failures: u64,
    /// The delivery that fails, if one does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failing: Option<FailingOut>,
    /// Why its branches cannot be read just now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// A delivery that fails and is tried again.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct FailingOut {
    /// Since when.
    pub since: Instant,
    /// Attempts so far.
    pub attempts: u32,
    /// The next attempt.
    pub next: Instant,
    /// Why the last one failed.
    pub detail: String,
}

/// A webhook with a new secret.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct WebhookDone {
    /// What its messages are signed with, shown this once: `whsec_…`.
    pub secret: String,
    /// The webhook.
    #[serde(flatten)]
    pub webhook: WebhookOut,
}

/// All webhooks.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct WebhooksView {
    /// In the order in which they were made; without their secrets.
    pub webhooks: Vec<WebhookOut>,
}

/// What a test came to.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct TestOut {
    /// Whether the receiver took it.
    pub delivered: bool,
    /// What it answered, or why there was no answer.
    pub detail: String,
    /// From the look-up of the host to the end of the answer, in milliseconds.
    pub took_ms: u64,
}
