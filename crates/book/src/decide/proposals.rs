//! Four eyes: proposing, approving, ending.

use super::{Decided, plain};
use crate::book::Book;
use crate::command::{Context, Propose};
use crate::event::{Approved, Event, ProposalEnded, Proposed};
use crate::policy::{PROPOSALS_MAX, Proposal};
use crate::rejection::Rejection;
use skerry_ledger::Stamp;

impl Book {
    pub(super) fn decide_propose(&self, wish: &Propose, context: &Context) -> Decided {
        let at = context.stamp;
        let Propose { request, matter } = *wish;
        if self.life.proposals.find(&request, at.time_us).is_some() {
            return Err(Rejection::ProposalExists);
        }
        if self.proposals(at.time_us).count() >= PROPOSALS_MAX {
            return Err(Rejection::TooManyProposals);
        }
        plain(Event::Proposed(Proposed { at, request, matter, proposer: context.actor.principal }))
    }

    pub(super) fn decide_approve(&self, request: &[u8; 16], context: &Context) -> Decided {
        let at = context.stamp;
        let approver = context.actor.principal;
        let proposal = self.standing(request, at)?;
        if proposal.proposer == approver {
            return Err(Rejection::OwnProposal);
        }
        if proposal.approver.is_some() {
            return Err(Rejection::ProposalApproved);
        }
        plain(Event::Approved(Approved { at, request: *request, approver }))
    }

    pub(super) fn decide_end(&self, request: &[u8; 16], at: Stamp) -> Decided {
        self.standing(request, at)?;
        plain(Event::ProposalEnded(ProposalEnded { at, request: *request }))
    }

    fn standing(&self, request: &[u8; 16], at: Stamp) -> Result<&Proposal, Rejection> {
        self.life.proposals.find(request, at.time_us).ok_or(Rejection::ProposalNotFound)
    }
}
