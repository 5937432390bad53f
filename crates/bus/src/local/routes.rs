//! Who hears a subject: looked up once and kept until something changes.

use std::sync::Arc;

use super::{Parcel, Stream};
use crate::inbox::Inbox;
use crate::options::Takes;
use crate::seam::SubscriptionId;
use crate::text::{Name, Pattern, Subject};

/// A subscription that lies in an inbox.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) kind: MemberKind,
    pub(super) pattern: Pattern,
    pub(super) takes: Takes,
    pub(super) inbox: Arc<Inbox<Parcel>>,
    pub(super) lane: usize,
    pub(super) subscription: SubscriptionId,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MemberKind {
    Server,
    Every,
    Group(Name),
}

/// Everyone who hears one subject, in the order in which they subscribed.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) version: u64,
    pub(super) servers: Vec<Arc<Member>>,
    pub(super) every: Vec<Arc<Member>>,
    pub(super) groups: Vec<(Name, Vec<Arc<Member>>)>,
    pub(super) stream: Option<Arc<Stream>>,
}

impl Route {
    pub(super) fn new(
        version: u64,
        members: &[Arc<Member>],
        stream: Option<Arc<Stream>>,
        subject: &Subject,
    ) -> Self {
        let mut route = Self { version, servers: Vec::new(), every: Vec::new(), groups: Vec::new(), stream };
        for member in members.iter().filter(|member| member.pattern.hears(subject)) {
            let member = Arc::clone(member);
            match member.kind {
                MemberKind::Server => route.servers.push(member),
                MemberKind::Every => route.every.push(member),
                MemberKind::Group(name) => match route.groups.iter_mut().find(|(found, _)| *found == name) {
                    Some((_, group)) => group.push(member),
                    None => route.groups.push((name, vec![member])),
                },
            }
        }
        route
    }
}

/// Why none of several members took a parcel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Untaken {
    /// None takes the label.
    Nobody,
    /// Those who take it are full.
    Full,
    /// Those who took it have just gone: look up the route again.
    Gone,
}

/// Gives a parcel to the first of `members`, beginning at `turn`, that takes `label` and has room.
pub(super) fn give(
    members: &[Arc<Member>],
    turn: usize,
    label: Option<Name>,
    bytes: usize,
    make: impl FnOnce(SubscriptionId) -> Parcel,
) -> Result<(), Untaken> {
    let mut untaken = Untaken::Nobody;
    let mut make = Some(make);
    let mut parcel = None;
    for offset in 0..members.len() {
        let member = &members[(turn.wrapping_add(offset)) % members.len()];
        if !member.takes.takes(label) {
            continue;
        }
        let ready = match (parcel.take(), make.take()) {
            (Some(parcel), _) => readdress(parcel, member.subscription),
            (None, Some(make)) => make(member.subscription),
            (None, None) => unreachable!("a parcel comes back from whoever does not take it"),
        };
        match member.inbox.push(member.lane, bytes, ready) {
            Ok(()) => return Ok(()),
            Err((error, back)) => {
                parcel = Some(back);
                let gone = error == crate::inbox::PushError::Closed && untaken == Untaken::Nobody;
                untaken = if gone { Untaken::Gone } else { Untaken::Full };
            }
        }
    }
    Err(untaken)
}

fn readdress(mut parcel: Parcel, to: SubscriptionId) -> Parcel {
    match &mut parcel {
        Parcel::Ask { subscription, .. } | Parcel::Copy { subscription, .. } => *subscription = to,
        Parcel::Reply { .. } => (),
    }
    parcel
}
