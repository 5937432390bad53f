//! Branches of one process talk without a bus: what one says goes straight into the other's queue.
//!
//! A message to a branch that is busy, closed or unknown is dropped, as any bus may do; it is said again.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use super::Outgoing;
use crate::handle::BranchHandle;

/// Takes a branch's messages away. It runs on the branch's own thread and must not wait.
pub type Courier = Arc<dyn Fn(Outgoing) + Send + Sync>;

/// Hands messages between branches of one process.
#[derive(Clone, Default)]
pub struct Exchange {
    branches: Arc<RwLock<BTreeMap<u16, BranchHandle>>>,
}

impl Exchange {
    /// Adds a branch; from now on it and those added before may pay each other.
    pub fn add(&self, handle: &BranchHandle) {
        let mut branches = self.branches.write().unwrap_or_else(PoisonError::into_inner);
        branches.insert(handle.number(), handle.clone());
        let numbers: Vec<u16> = branches.keys().copied().collect();
        for branch in branches.values() {
            branch.connect(self.courier(), numbers.clone());
        }
    }

    fn courier(&self) -> Courier {
        let branches = Arc::downgrade(&self.branches);
        Arc::new(move |message: Outgoing| {
            let Some(branches) = branches.upgrade() else { return };
            let found = branches.read().unwrap_or_else(PoisonError::into_inner).get(&message.to).cloned();
            if let Some(branch) = found {
                // Busy: it will be said again.
                let _ = branch.deliver(message.bytes);
            }
        })
    }
}
