//! The lease that a branch is held under, as the branch sees it: may an answer that rests on no append leave now?
//!
//! Whoever hosts the branch counts its lease and says so here. The lease only tells that nobody else may have the branch; once it
//! tells nothing any more, the branch asks the journal's own store instead, one check for all answers that wait.

/// Told by whoever hosts a branch. Asked on the branch's thread and on those that read beside it, each time anew.
pub trait Leash: std::fmt::Debug + Send + Sync {
    /// Whether at this moment, by a clock that also runs while the machine sleeps, nobody else can have the branch: the lease, counted
    /// from before its last renewal was sent, has a margin left. It is asked *after* what is to be answered was looked at.
    fn holds(&self) -> bool;
}
