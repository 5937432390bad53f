//! `skerry node`: hosts as many of the bank's branches as the directory gives it leases for, until told to stop. With `--listen` it
//! tells machines how it is meanwhile.

use std::sync::Arc;

use anyhow::{Context, ensure};
use skerry_gateway::hosting::{self, Hosting};
use skerry_gateway::server::Listening;
use skerry_node::remote::{Holder, HolderOptions};
use tokio::runtime::Runtime;

use super::driver::Driver;
use super::{Process, endpoint};
use crate::buses;
use crate::cli::NodeArgs;
use crate::config::{Config, Overrides};
use crate::up::{Signals, face, log, notify};

/// Connections of those who look after the node, at once.
const CONNECTIONS_MAX: usize = 256;

/// `skerry node --name N`
///
/// # Errors
///
/// The configuration, the folder, the address: whatever keeps it from hosting. A branch that does not open is left to other nodes.
pub(crate) fn run(args: &NodeArgs) -> anyhow::Result<()> {
    let name = args.name.as_deref().context("--name is missing: no two processes of a bank have the same")?;
    let config = configured(args)?;
    log(&config)?;
    let endpoint = endpoint(name)?;
    let process = Process::open(config, name)?;
    process.first_map()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("could not start the runtime")?;
    // Before anything is hosted: an address that is taken ends the process.
    let listening = listen(&process.config, &runtime)?;
    let bus = buses::endpoint(&process.config, endpoint)?;
    let holder = Holder::start(bus, HolderOptions::new(process.key.clone()))
        .context("could not begin to answer on the bus")?;
    let mut signals = {
        let _within = runtime.enter();
        Signals::catch()?
    };
    let process = Arc::new(process);
    let mut driver = Driver::start(Arc::clone(&process), (name, args.gray), holder)?;
    let server = match listening {
        Some(listening) => serve(listening, &process, &driver, &runtime),
        None => format!("node {name}"),
    };
    process.folder.announce(&server)?;
    tracing::info!(node = name, server, gray = args.gray, "the node is there");
    notify::ready(&server);
    let told = runtime.block_on(async {
        tokio::select! {
            () = signals.told_to_stop() => true,
            _ = &mut driver.died => false,
        }
    });
    // Its leases run out, and others take its branches; a service manager starts it again.
    ensure!(told, "the thread that hosts branches died");
    tracing::info!("stopping: branches are closed and given up");
    notify::stopping();
    // Whoever asks how it is has an answer until the last branch is closed.
    let stopped = runtime.block_on(async { tokio::task::spawn_blocking(|| driver.stop()).await });
    stopped.context("could not stop in order")?;
    process.folder.retract();
    Ok(())
}

fn configured(args: &NodeArgs) -> anyhow::Result<Config> {
    let overrides = Overrides {
        data: args.local.data.clone(),
        log: args.log.clone(),
        node_listen: args.listen,
        insecure: args.insecure,
        ..Overrides::default()
    };
    Config::load(args.local.config.as_deref(), overrides)
}

/// Takes the address, if one is configured.
fn listen(config: &Config, runtime: &Runtime) -> anyhow::Result<Option<Listening>> {
    let Some(address) = config.node.listen else { return Ok(None) };
    let mut limits = face::limits(config);
    limits.connections = limits.connections.min(CONNECTIONS_MAX);
    let config = face::gateway_config(config, address, limits);
    Ok(Some(runtime.block_on(Listening::bind(&config))?))
}

/// Tells machines how the node is, for as long as the runtime runs; where.
fn serve(listening: Listening, process: &Process, driver: &Driver, runtime: &Runtime) -> String {
    let server = face::server_of(&process.config, &listening);
    let hosting = Hosting {
        reports: driver.reports(),
        post: process.post.post(),
        folder: process.folder.root().to_path_buf(),
    };
    let front = hosting::front(hosting);
    runtime.spawn(listening.serve(front, std::future::pending()));
    server
}
