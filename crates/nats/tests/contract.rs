//! The bus contract over a real server.

mod common;

use common::{Real, Servers};
use skerry_bus::contract::check_contract;

#[test]
fn nats() {
    check_contract(&mut Real::new(Servers::new(1, "", None)));
}
