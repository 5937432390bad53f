//! Which bus carries messages between branches: an operator's choice, kept in the directory and followed by every process.
//!
//! ```text
//! switch ──► directory: the chosen bus ◄── every process looks twice a second ──► its post sends over it
//! ```
//!
//! No process waits for another: all hear on every bus they are configured with, all the time.

use std::time::Duration;

use skerry_directory::{Ask, BusRow, Map, Name, Who};
use skerry_post::{NoWay, Post};

use crate::auth::Caller;
use crate::catalogue;
use crate::detail::said;
use crate::gateway::Shared;
use crate::problem::Problem;

/// Between two looks at the directory.
const LOOK: Duration = Duration::from_millis(500);

/// Follows what the directory says until the bank stops. While it is silent, what it said last holds.
pub(crate) async fn follow(gateway: Shared, post: Post) {
    let (mut since, mut misled) = (0, None);
    while !gateway.stopping.load(std::sync::atomic::Ordering::Relaxed) {
        if let Some(map) = gateway.residence.map_since(since).await {
            since = map.version;
            obey(&post, map, &mut misled);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// A bus that this process cannot take leaves it with the one of its configuration; that is said once.
fn obey(post: &Post, map: Map, misled: &mut Option<BusRow>) {
    let chosen = map.bus.as_ref().map(|row| row.name.as_str());
    match post.choose(chosen) {
        Ok(true) => tracing::info!(bus = chosen.unwrap_or(post.usual()), "messages go over this bus now"),
        Ok(false) => {}
        Err(error) => {
            if *misled != map.bus {
                tracing::error!(%error, usual = post.usual(), "the chosen bus cannot be taken here");
                *misled = map.bus;
            }
            // The usual one is always there.
            let _changed = post.choose(None);
        }
    }
}

/// Chooses a bus for the whole bank, and for this process at once.
///
/// # Errors
///
/// `bus_not_found`, `bus_not_shared`, `bus_away`, or the directory's.
pub(crate) async fn switch(gateway: &Shared, caller: &Caller, bus: &str) -> Result<(), Problem> {
    let post = post(gateway)?;
    let unknown = |error: &dyn std::fmt::Display| {
        Problem::numbered(catalogue::BUS_NOT_FOUND).detail(error.to_string()).field("bus")
    };
    let no_way = |error: NoWay| match &error {
        NoWay::Unknown { .. } => unknown(&error),
        NoWay::NotShared { .. } => {
            Problem::numbered(catalogue::BUS_NOT_SHARED).detail(error.to_string()).field("bus")
        }
    };
    let name = Name::new(bus).map_err(|error| unknown(&error))?;
    if !post.is_up(bus).map_err(no_way)? {
        let detail = said!("this process has no link to {bus}", "本进程未连接 {bus}");
        return Err(Problem::numbered(catalogue::BUS_AWAY).detail(detail).retry_after_ms(1_000));
    }
    let principal = caller.principal();
    let by = Who::new(principal.as_str()).map_err(|_| Problem::numbered(catalogue::INTERNAL))?;
    gateway.residence.order(Ask::UseBus { bus: name, by }).await?;
    if post.choose(Some(bus)).map_err(no_way)? {
        tracing::info!(bus, principal = principal.as_str(), "the bus was switched");
    }
    Ok(())
}

/// The post of this process.
///
/// # Errors
///
/// `bus_not_found` in a process that carries no messages.
pub(crate) fn post(gateway: &Shared) -> Result<&Post, Problem> {
    let none = || {
        Problem::numbered(catalogue::BUS_NOT_FOUND)
            .detail(said!("this process carries no messages", "本进程不传递消息"))
    };
    gateway.buses.get().ok_or_else(none)
}
