//! Buses as JSON.

use serde::{Deserialize, Serialize};
use skerry_directory::BusRow;
use skerry_post::{Figures, Post};
use utoipa::ToSchema;

use super::scalars::Instant;

/// What carries messages between branches.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct BusesView {
    /// The one that this process sends over.
    pub chosen: String,
    /// The one of its configuration, which it takes while no operator has chosen.
    pub configured: String,
    /// Who chose, if somebody has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// When.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Instant>,
    /// Branches of one process hand each other their messages, whatever bus is chosen.
    pub straight: bool,
    /// All that this process hears on, `local` first.
    pub buses: Vec<BusView>,
}

/// One bus, as this process sees it since it began.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct BusView {
    /// Its name; `local` is the way inside a process.
    pub bus: String,
    /// Whether this process sends over it.
    pub chosen: bool,
    /// `up`, or `down` while it cannot be reached.
    pub link: &'static str,
    /// Messages handed to it.
    pub sent: u64,
    /// Messages that came over it.
    pub heard: u64,
    /// Messages dropped because a queue was full; they are said again.
    pub dropped_busy: u64,
    /// Messages dropped because it could not be reached; they are said again.
    pub dropped_away: u64,
    /// Messages dropped because no branch of this institution has said them.
    pub refused: u64,
    /// Times the link was lost.
    pub links_lost: u64,
}

/// Which bus to take.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BusIn {
    /// `local`, or a name of the configuration.
    pub bus: String,
}

impl BusView {
    fn of(figures: &Figures) -> Self {
        Self {
            bus: figures.name.clone(),
            chosen: figures.chosen,
            link: if figures.up { "up" } else { "down" },
            sent: figures.sent,
            heard: figures.heard,
            dropped_busy: figures.dropped_busy,
            dropped_away: figures.dropped_away,
            refused: figures.refused,
            links_lost: figures.links_lost,
        }
    }

    /// All of them.
    #[must_use]
    pub fn all(post: &Post) -> Vec<Self> {
        post.figures().iter().map(Self::of).collect()
    }
}

impl BusesView {
    /// How they are, and who has chosen.
    #[must_use]
    pub fn of(post: &Post, row: Option<&BusRow>) -> Self {
        let buses = BusView::all(post);
        let chosen = buses.iter().find(|bus| bus.chosen).map_or_else(String::new, |bus| bus.bus.clone());
        Self {
            chosen,
            configured: post.usual().to_owned(),
            by: row.map(|row| row.by.to_string()),
            at: row.map(|row| Instant(row.at_us)),
            straight: post.straight(),
            buses,
        }
    }
}
