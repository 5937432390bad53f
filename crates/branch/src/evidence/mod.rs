//! What a branch can prove: the nodes of its history, signed checkpoints, receipts.

pub mod checkpoints;
pub mod nodes;
pub mod receipts;
