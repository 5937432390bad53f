//! The directory of a bank in one process: opened, and brought in line with the branches.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context;
use skerry_directory::{DirectoryThread, Embedded, EmbeddedOptions, Recovery};
use skerry_gateway::gateway::Shared;
use skerry_gateway::residence;
use skerry_journal::RealStorage;

use crate::folder::{self, Folder};

/// The directory in the data folder, on a thread of its own.
pub(super) fn open(folder: &Folder) -> anyhow::Result<DirectoryThread> {
    let storage = RealStorage::open(folder.root().join(folder::DIRECTORY))?;
    let embedded = Embedded::open(&storage, EmbeddedOptions::default())?;
    match embedded.recovery() {
        Recovery::Whole => {}
        Recovery::Fresh => tracing::info!("the directory is new: it takes its customers from the branches"),
        Recovery::ThrownAway(why) => tracing::warn!(why, "the directory was damaged and is made again"),
    }
    DirectoryThread::spawn(embedded).context("could not start the directory's thread")
}

/// How long to wait before a rebuild that failed is tried again.
const REBUILD_AGAIN: Duration = Duration::from_secs(2);
/// How long the start waits for the directory.
const USUALLY: Duration = Duration::from_secs(2);

/// Brings the directory in line with the branches. Waits a moment for that, as it is usually at hand; a branch that is sick, or
/// claims that must run out first, are waited for in the background.
pub(super) fn settle_in(runtime: &tokio::runtime::Runtime, gateway: &Shared, stores: Vec<residence::Store>) {
    let gateway = Arc::clone(gateway);
    let settling = runtime.spawn(async move {
        while !gateway.stopping.load(Ordering::Relaxed) && !is_settled(&gateway, &stores).await {
            tokio::time::sleep(REBUILD_AGAIN).await;
        }
    });
    // Newcomers are told that it is not ready yet.
    let _not_yet = runtime.block_on(async { tokio::time::timeout(USUALLY, settling).await });
}

async fn is_settled(gateway: &Shared, stores: &[residence::Store]) -> bool {
    match residence::prepare(gateway, stores).await {
        Ok(Some(rebuilt)) => {
            tracing::info!(customers = rebuilt.customers, "the directory took its customers in");
            true
        }
        Ok(None) => true,
        Err(problem) => {
            let cause = problem.code();
            tracing::warn!(cause, "no customers can be opened until the directory has heard every branch");
            false
        }
    }
}
