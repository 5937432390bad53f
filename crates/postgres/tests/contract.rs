//! The journal seam's contract on real servers.

mod common;

use common::Group;
use skerry_journal::contract::check_contract;
use skerry_postgres::Durability;

#[test]
fn one_server() {
    let group = Group::single();
    check_contract(|| group.fresh(Durability::Single));
}

#[test]
fn a_primary_with_synchronous_standbys() {
    let group = Group::replicated();
    check_contract(|| group.fresh(Durability::Replicated));
}
