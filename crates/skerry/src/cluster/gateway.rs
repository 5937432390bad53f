//! `skerry gateway`: HTTP in front of branches that are open in other processes. It hosts none, so there may be any number of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context;
use skerry_directory::{Ask, BranchState, Map, Told};
use skerry_gateway::gateway::Shared;
use skerry_node::remote::{RemoteOptions, RemoteSeats};
use skerry_node::seat::Seat;
use tokio::sync::oneshot;

use super::founding::Elsewhere;
use super::{Process, endpoint};
use crate::cli::GatewayArgs;
use crate::config::Config;
use crate::up::face::{Behind, Face};
use crate::up::{log, notify};
use crate::{buses, stores};

/// Between two looks for branches that are new.
const LOOK: Duration = Duration::from_millis(500);

/// `skerry gateway --name N`
///
/// # Errors
///
/// The configuration, the folder, the address: whatever keeps it from serving. Branches that are away do not.
pub(crate) fn run(args: &GatewayArgs) -> anyhow::Result<()> {
    let config = Config::of(&args.settings)?;
    log(&config)?;
    let endpoint = endpoint(&args.name)?;
    let process = Process::open(config, &args.name)?;
    let map = process.first_map()?;
    let bus = buses::endpoint(&process.config, endpoint)?;
    let remote = RemoteSeats::start(bus, RemoteOptions::new(process.key.clone()))
        .context("could not begin to ask over the bus")?;
    let remote = Arc::new(remote);
    let behind = Behind {
        seats: branches(&map).map(|number| seat(&remote, number)).collect(),
        post: process.post.post(),
        directory: process.directory.handle(),
        stores: stores::named(&process.config).collect(),
        founder: Arc::new(Elsewhere {
            config: process.config.clone(),
            identity: process.folder.identity.clone(),
        }),
    };
    let mut face = Face::open(&process.config, &process.folder, behind)?;
    face.runtime().spawn(follow(Arc::clone(face.gateway()), process.directory.handle(), Arc::clone(&remote)));
    process.folder.announce(face.server())?;
    tracing::info!(server = face.server(), "the gateway is open");
    notify::ready(face.server());
    face.wait_to_stop();
    tracing::info!("stopping: what runs is finished");
    notify::stopping();
    let traces = face.stop()?;
    drop(remote);
    if let Some(traces) = traces {
        traces.close();
    }
    process.folder.retract();
    Ok(())
}

/// Those that somebody should host.
fn branches(map: &Map) -> impl Iterator<Item = u16> {
    let hosted = map.branches.iter().filter(|entry| entry.row.state != BranchState::Closed);
    hosted.map(|entry| entry.row.number)
}

fn seat(remote: &RemoteSeats, number: u16) -> Arc<dyn Seat> {
    Arc::new(remote.seat(number))
}

/// Gives branches that appear in the directory a seat.
async fn follow(gateway: Shared, directory: skerry_directory::DirectoryHandle, remote: Arc<RemoteSeats>) {
    let mut since = 0;
    while !gateway.stopping.load(Ordering::Relaxed) {
        let (send, receive) = oneshot::channel();
        let asked = directory.ask(Ask::Map { since }, Box::new(move |told| drop(send.send(told))));
        if let (Ok(()), Ok(Ok(Told::Map(map)))) = (asked, receive.await) {
            since = map.version;
            for number in branches(&map) {
                if !gateway.bank.seats().contains_key(&number) {
                    tracing::info!(branch = number, "a branch that is new");
                    gateway.bank.add(seat(&remote, number));
                }
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}
