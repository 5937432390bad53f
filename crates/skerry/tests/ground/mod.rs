//! What a bank of several processes is configured with: one server for journals and directory, one for messages.

use crate::nats::Servers;
use crate::postgres::Group;

/// What NATS is started with.
pub(crate) const NATS: &str = "max_payload: 8MB";

/// The text of such a bank's configuration.
pub(crate) fn configuration(group: &Group, servers: &Servers, branches: u16) -> String {
    format!(
        "[bank]\nbranches = {branches}\n[storage]\njournals = [\"main\"]\ndirectory = \"main\"\n[stores.main]\n\
         postgres = {:?}\ndurability = \"single\"\n[bus]\nuse = \"main\"\n[buses.main]\nnats = [\"nats://127.0.0.1:{}\"]\n",
        group.url("postgres"),
        servers.all[0].port
    )
}
