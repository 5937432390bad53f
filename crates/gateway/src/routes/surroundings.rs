//! Figures for `/metrics` about what the branches stand on: the process, its disk, the directory.

use std::path::Path;
use std::time::Duration;

use skerry_directory::{BranchEntry, BranchState, Map};

use crate::gateway::Gateway;
use crate::meters::Exposition;
use crate::usage;
use crate::wire::directory::FollowerView;

/// Whoever reads metrics does not wait for a directory that is away.
const PATIENCE: Duration = Duration::from_secs(1);

/// The directory's map, if it answers at once.
pub(super) async fn map(gateway: &Gateway) -> Option<Map> {
    gateway.residence.report(&gateway.bank);
    tokio::time::timeout(PATIENCE, gateway.residence.map()).await.ok()?.ok()
}

/// Writes them all.
pub(super) fn write(gateway: &Gateway, map: Option<&Map>, out: &mut Exposition) {
    write_machine(gateway.tokens.folder(), out);
    write_directory(map, out);
    write_followers(map, out);
}

/// The process, and the disk that `folder` lies on.
pub(crate) fn write_machine(folder: &Path, out: &mut Exposition) {
    write_process(out);
    // No figure is better than a wrong one.
    if let Some((all, free)) = usage::disk_room(folder) {
        out.single("skerry_disk_bytes", "gauge", "Size of the disk that the data folder lies on.", all);
        out.single("skerry_disk_free_bytes", "gauge", "What is free of it.", free);
    }
}

fn write_process(out: &mut Exposition) {
    out.metric("process_cpu_seconds_total", "counter", "Processor time of all threads.");
    out.line(format_args!("process_cpu_seconds_total {}", usage::cpu_seconds()));
    out.single("process_resident_memory_bytes", "gauge", "Resident memory.", usage::memory_bytes());
}

fn write_directory(map: Option<&Map>, out: &mut Exposition) {
    out.single("skerry_directory_answers", "gauge", "1 if the directory answers.", u64::from(map.is_some()));
    let rebuilding = map.is_some_and(|map| map.rebuilding);
    out.single(
        "skerry_directory_rebuilding",
        "gauge",
        "1 while customers are taken in again from the branches, and none can be opened.",
        u64::from(rebuilding),
    );
    let taking = map.filter(|map| !map.rebuilding).map_or(0, |map| map.branches.iter().filter(takes).count());
    out.single(
        "skerry_directory_branches_for_newcomers",
        "gauge",
        "Branches that a new customer may come to.",
        u64::try_from(taking).unwrap_or(u64::MAX),
    );
}

/// How many followers branches want, and how many would take over at once.
fn write_followers(map: Option<&Map>, out: &mut Exposition) {
    let Some(map) = map else { return };
    let hosted =
        || map.branches.iter().map(|entry| &entry.row).filter(|row| row.state != BranchState::Closed);
    out.metric("skerry_branch_followers_wanted", "gauge", "Nodes that are to follow the branch.");
    for row in hosted() {
        let (number, wanted) = (row.number, row.followers);
        out.line(format_args!("skerry_branch_followers_wanted{{branch=\"{number}\"}} {wanted}"));
    }
    let help = "Nodes that follow the branch and would take over at once.";
    out.metric("skerry_branch_followers_near", "gauge", help);
    for row in hosted() {
        let followers = FollowerView::all(map, row.number);
        let near = followers.iter().filter(|follower| follower.near).count();
        out.line(format_args!("skerry_branch_followers_near{{branch=\"{}\"}} {near}", row.number));
    }
}

fn takes(entry: &&BranchEntry) -> bool {
    skerry_directory::assign::takes(&entry.row)
        && entry.room.is_some_and(|room| room.customers < room.capacity)
}
