//! What can be said of an ask without looking anything up: bounds and combinations. Every implementation begins with it.

use crate::rows::{Alias, BranchRow, CustomerRef, Setting};
use crate::seam::{ALIASES_MAX, Ask, BRANCH_MAX, CLAIM_US_MAX, Choice, LEASE_US, LIST_MAX, Rebuild, Refusal};

const WEIGHT: &str = "a weight is a number from 0 to 1000";
const FOLLOWERS: &str = "a branch has 0 to 3 followers";

impl Ask {
    /// Checks what does not depend on what the directory holds.
    ///
    /// # Errors
    ///
    /// Why it makes no sense.
    pub fn check(&self) -> Result<(), Refusal> {
        let need = |holds: bool, why| if holds { Ok(()) } else { Err(Refusal::Invalid(why)) };
        match self {
            Self::Reserve(wish) => {
                check_aliases(&wish.aliases)?;
                let lines =
                    wish.aliases.iter().all(|alias| Some(alias.line) == wish.aliases.first().map(|a| a.line));
                need(lines, "the aliases of one customer are of one line")?;
                need(wish.within_us <= CLAIM_US_MAX, "a claim runs for two minutes at most")?;
                match &wish.choice {
                    Choice::Among(branches) => {
                        need(branches.len() <= LIST_MAX, "too many branches in one ask")
                    }
                    Choice::In(_) | Choice::Any => Ok(()),
                }
            }
            Self::Confirm { aliases, customer } | Self::Forget { aliases, customer } => {
                check_aliases(aliases)?;
                need(is_customer(*customer), "not a customer")
            }
            Self::Rebuild(Rebuild::Record { list, .. }) => {
                need(list.len() <= LIST_MAX, "too many customers in one ask")?;
                need(list.iter().all(|(_, customer)| is_customer(*customer)), "not a customer")
            }
            Self::PutMoved { customer, branch } => {
                need(is_customer(*customer), "not a customer")?;
                need(branch.is_none_or(is_branch), "a branch is a number from 1 to 9999")
            }
            Self::AddBranch(row) => {
                need(is_branch(row.number), "a branch is a number from 1 to 9999")?;
                need(row.weight <= BranchRow::WEIGHT_MAX, WEIGHT)?;
                need(row.followers <= BranchRow::FOLLOWERS_MAX, FOLLOWERS)
            }
            Self::Steer { setting: Setting::Weight(weight), .. } => {
                need(*weight <= BranchRow::WEIGHT_MAX, WEIGHT)
            }
            Self::Steer { setting: Setting::Followers(followers), .. } => {
                need(*followers <= BranchRow::FOLLOWERS_MAX, FOLLOWERS)
            }
            Self::Report(list) => need(list.len() <= LIST_MAX, "too many branches in one ask"),
            Self::Beat { follows, .. } => need(follows.len() <= LIST_MAX, "too many branches in one ask"),
            Self::Acquire { lease_us, .. } => {
                need(LEASE_US.contains(lease_us), "a lease is 0.1 to 60 seconds")
            }
            Self::Renew { branches, lease_us, .. } => {
                need(LEASE_US.contains(lease_us), "a lease is 0.1 to 60 seconds")?;
                need(branches.len() <= LIST_MAX, "too many branches in one ask")
            }
            Self::GiveUp { leases, .. } => need(leases.len() <= LIST_MAX, "too many branches in one ask"),
            Self::Map { .. }
            | Self::Find(_)
            | Self::FindMoved(_)
            | Self::Release { .. }
            | Self::Rebuild(Rebuild::Begin | Rebuild::End { .. })
            | Self::Steer { .. }
            | Self::PutStore(_)
            | Self::DropStore(_)
            | Self::UseBus { .. }
            | Self::Drain { .. }
            | Self::DropNode(_) => Ok(()),
        }
    }
}

const fn is_branch(branch: u16) -> bool {
    branch > 0 && branch <= BRANCH_MAX
}

const fn is_customer(customer: CustomerRef) -> bool {
    is_branch(customer.branch) && customer.serial > 0
}

fn check_aliases(aliases: &[Alias]) -> Result<(), Refusal> {
    let different =
        aliases.iter().enumerate().all(|(at, alias)| !aliases.iter().skip(at + 1).any(|a| a == alias));
    if aliases.is_empty() || aliases.len() > ALIASES_MAX || !different {
        return Err(Refusal::Invalid("1 to 4 aliases, all different"));
    }
    Ok(())
}
