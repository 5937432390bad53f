//! What every implementation of the seam must pass: the promises of `seam.rs`, one check each.

mod aliases;
mod leases;
mod rows;
mod scene;

pub use scene::{Rig, Scene};

/// Runs all checks; each begins with an empty directory that was never rebuilt.
///
/// # Panics
///
/// If a promise is broken.
pub fn check_contract(rig: &mut impl Rig) {
    rows::a_new_directory_places_nobody_until_it_is_rebuilt(rig);
    rows::branches_and_stores_are_kept_and_versioned(rig);
    rows::the_chosen_bus_is_kept(rig);
    rows::what_makes_no_sense_is_refused(rig);
    rows::moved_customers_are_found(rig);
    rows::a_full_queue_is_busy(rig);
    aliases::a_customer_is_reserved_confirmed_and_found(rig);
    aliases::many_at_once_come_to_one_branch(rig);
    aliases::a_reservation_outlives_a_restart(rig);
    aliases::a_second_alias_waits_for_its_first(rig);
    aliases::a_claim_is_released_only_when_it_has_run_out(rig);
    aliases::another_branch_is_refused(rig);
    aliases::newcomers_are_spread_by_room_weight_and_gray(rig);
    aliases::what_is_forgotten_can_be_another_s(rig);
    aliases::a_rebuild_takes_everybody_in_again(rig);
    leases::one_holder_at_a_time(rig);
    leases::a_lease_is_another_s_only_after_its_time(rig);
    leases::renewing_keeps_what_is_kept_and_tells_what_is_lost(rig);
    leases::nodes_come_and_go(rig);
    leases::a_drain_is_kept_until_it_is_taken_back(rig);
    leases::what_a_node_follows_is_what_it_said_last(rig);
}
