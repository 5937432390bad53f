//! What a binary that was built without the feature `cluster` says of several machines.

use anyhow::bail;

use crate::cli::{GatewayArgs, NodeArgs, Settings};
use crate::stores::LEAN;

/// # Errors
///
/// Always.
pub(crate) fn run_node(_: &NodeArgs) -> anyhow::Result<()> {
    bail!("a node hosts branches whose journals are in PostgreSQL: {LEAN}")
}

/// # Errors
///
/// Always.
pub(crate) fn run_gateway(_: &GatewayArgs) -> anyhow::Result<()> {
    bail!("a gateway reaches branches over NATS: {LEAN}")
}

/// # Errors
///
/// Always.
pub(crate) fn found(_: &Settings, _: bool) -> anyhow::Result<()> {
    bail!("a bank of several machines keeps its directory in PostgreSQL: {LEAN}")
}
