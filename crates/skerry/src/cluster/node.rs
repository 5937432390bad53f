//! `skerry node`: hosts as many of the bank's branches as the directory gives it leases for, until told to stop.

use std::sync::Arc;

use anyhow::{Context, ensure};
use skerry_node::remote::{Holder, HolderOptions};

use super::driver::Driver;
use super::{Process, own_endpoint};
use crate::buses;
use crate::cli::NodeArgs;
use crate::config::{Config, Overrides};
use crate::up::{Signals, log, notify};

/// `skerry node --name N`
///
/// # Errors
///
/// The configuration, the folder: whatever keeps it from hosting. A branch that does not open is left to other nodes.
pub(crate) fn run(args: &NodeArgs) -> anyhow::Result<()> {
    let name = args.name.as_deref().context("--name is missing: no two processes of a bank have the same")?;
    let overrides =
        Overrides { data: args.local.data.clone(), log: args.log.clone(), ..Overrides::default() };
    let config = Config::load(args.local.config.as_deref(), overrides)?;
    log(&config)?;
    let endpoint = own_endpoint(name)?;
    let process = Process::open(config, name)?;
    process.first_map()?;
    let bus = buses::endpoint(&process.config, endpoint)?;
    let holder = Holder::start(bus, HolderOptions::new(process.key.clone()))
        .context("could not begin to answer on the bus")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("could not start the runtime")?;
    let mut signals = {
        let _within = runtime.enter();
        Signals::catch()?
    };
    let process = Arc::new(process);
    let mut driver = Driver::start(Arc::clone(&process), name, holder)?;
    process.folder.announce(&format!("node {name}"))?;
    tracing::info!(node = name, "the node is there");
    notify::ready(&format!("node {name}"));
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
    driver.stop();
    process.folder.retract();
    Ok(())
}
