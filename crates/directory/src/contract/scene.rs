//! What a check of the suite works with: endpoints of one directory, and time.

use crate::rows::{
    Alias, AliasKind, BranchRow, CustomerRef, Holder, Map, Name, NodeRow, Room, StoreRow, Where,
};
use crate::seam::{
    Answered, Ask, Choice, Directory, Fault, Finding, Now, Rebuild, Refusal, Reserve, Ticket, Told,
};

/// A minute of the rig's time.
const PATIENCE_US: u64 = 60_000_000;

/// What gives the suite endpoints and time.
pub trait Rig {
    /// The implementation under test.
    type Directory: Directory;

    /// Begins with an empty directory; everything before is gone.
    fn begin(&mut self);

    /// Another endpoint of the directory; `None` if there can be no more.
    fn endpoint(&mut self) -> Option<Self::Directory>;

    /// All endpoints are dropped; now the directory is ended in the worst way and started again.
    fn restart(&mut self);

    /// The time now.
    fn now(&mut self) -> Now;

    /// Nothing has happened: waits a few milliseconds, or lets so much time pass if the rig makes it.
    fn idle(&mut self);
}

/// A directory with one store.
pub struct Scene<'r, R: Rig> {
    rig: &'r mut R,
    endpoints: Vec<R::Directory>,
}

pub(super) fn name(text: &str) -> Name {
    Name::new(text).expect("short and plain")
}

pub(super) fn document(number: u8) -> Alias {
    Alias { line: 0, kind: AliasKind::Document, key: *blake3::hash(&[1, number]).as_bytes() }
}

pub(super) fn phone(number: u8) -> Alias {
    Alias { line: 0, kind: AliasKind::Phone, key: *blake3::hash(&[2, number]).as_bytes() }
}

pub(super) const fn customer(branch: u16, serial: u32) -> CustomerRef {
    CustomerRef { branch, serial }
}

pub(super) fn node(text: &str) -> NodeRow {
    NodeRow {
        name: name(text),
        address: Where::new(&format!("skerry.node.{text}")).expect("plain"),
        capacity: 8,
        version: Where::new("0.1.0").expect("plain"),
        draining: false,
    }
}

/// Its word that it is there and follows nothing.
pub(super) fn beat(node: NodeRow) -> Ask {
    Ask::Beat { node, follows: Vec::new() }
}

pub(super) fn holder(text: &str, incarnation: u64) -> Holder {
    Holder { node: name(text), incarnation }
}

pub(super) const fn room(customers: u32, capacity: u32) -> Option<Room> {
    Some(Room { customers, capacity })
}

impl<'r, R: Rig> Scene<'r, R> {
    /// An empty directory, as it is founded.
    pub fn empty(rig: &'r mut R) -> Self {
        rig.begin();
        let mut scene = Self { rig, endpoints: Vec::new() };
        scene.connect();
        scene
    }

    /// One with a store, rebuilt from nothing, and with these branches, each with room for a thousand.
    pub(super) fn with_branches(rig: &'r mut R, branches: &[u16]) -> Self {
        let mut scene = Self::empty(rig);
        scene.done(Ask::PutStore(store("local")));
        for branch in branches {
            scene.done(Ask::AddBranch(row(*branch)));
        }
        scene.done(Ask::Report(branches.iter().map(|branch| (*branch, room(0, 1_000))).collect()));
        scene.rebuild(&[]);
        scene
    }

    pub(super) fn rebuild(&mut self, customers: &[(Alias, CustomerRef)]) {
        let number = self.begin_rebuild();
        assert_eq!(self.record(number, customers), Told::Recorded { elsewhere: vec![] });
        self.done(Ask::Rebuild(Rebuild::End { number }));
    }

    /// Its number.
    pub(super) fn begin_rebuild(&mut self) -> u64 {
        match self.ask(Ask::Rebuild(Rebuild::Begin)) {
            Told::Rebuilding { number, .. } => number,
            other => panic!("no rebuild: {other:?}"),
        }
    }

    pub(super) fn record(&mut self, number: u64, customers: &[(Alias, CustomerRef)]) -> Told {
        self.ask(Ask::Rebuild(Rebuild::Record { number, list: customers.to_vec() }))
    }

    fn connect(&mut self) {
        for _ in 0..3 {
            self.endpoints.extend(self.rig.endpoint());
        }
        assert!(!self.endpoints.is_empty(), "there is one endpoint at least");
    }

    /// Ends the directory and starts it again.
    pub(super) fn restart(&mut self) {
        self.endpoints.clear();
        self.rig.restart();
        self.connect();
    }

    pub(super) fn now(&mut self) -> Now {
        self.rig.now()
    }

    pub(super) fn first(&mut self) -> &mut R::Directory {
        &mut self.endpoints[0]
    }

    pub(super) fn idle(&mut self) {
        self.rig.idle();
    }

    /// Asks, and asks again while the outcome is unknown.
    pub(super) fn ask(&mut self, ask: Ask) -> Told {
        self.ask_all(vec![ask]).remove(0)
    }

    /// Asks all at once, spread over the endpoints; each again while its outcome is unknown.
    pub(super) fn ask_all(&mut self, asks: Vec<Ask>) -> Vec<Told> {
        let mut told: Vec<Option<Told>> = asks.iter().map(|_| None).collect();
        let begun = self.rig.now().monotonic_us;
        while told.iter().any(Option::is_none) {
            let mut open: Vec<(usize, Ticket, usize)> = Vec::new();
            for (at, ask) in asks.iter().enumerate().filter(|(at, _)| told[*at].is_none()) {
                let endpoint = at % self.endpoints.len();
                match self.endpoints[endpoint].submit(ask.clone()) {
                    Ok(ticket) => open.push((endpoint, ticket, at)),
                    Err(_busy) => break,
                }
            }
            while !open.is_empty() {
                let (endpoint, answered) = self.next(begun);
                let found =
                    open.iter().position(|(e, ticket, _)| (*e, *ticket) == (endpoint, answered.ticket));
                let (_, _, at) = open.remove(found.expect("each ask is answered once, and nothing else is"));
                match answered.outcome {
                    Ok(answer) => told[at] = Some(answer),
                    Err(Fault::Unknown(_)) => self.rig.idle(),
                }
            }
        }
        told.into_iter().flatten().collect()
    }

    fn next(&mut self, begun: u64) -> (usize, Answered) {
        loop {
            let now = self.rig.now();
            assert!(now.monotonic_us - begun < PATIENCE_US, "every ask is answered");
            for (at, endpoint) in self.endpoints.iter_mut().enumerate() {
                if let Some(answered) = endpoint.poll(now) {
                    return (at, answered);
                }
            }
            self.rig.idle();
        }
    }

    pub(super) fn done(&mut self, ask: Ask) {
        let told = self.ask(ask.clone());
        assert_eq!(told, Told::Done, "{ask:?}");
    }

    pub(super) fn refused(&mut self, ask: Ask) -> Refusal {
        match self.ask(ask.clone()) {
            Told::No(refusal) => refusal,
            other => panic!("{ask:?} was answered {other:?}"),
        }
    }

    pub(super) fn map(&mut self) -> Map {
        match self.ask(Ask::Map { since: 0 }) {
            Told::Map(map) => *map,
            other => panic!("no map: {other:?}"),
        }
    }

    pub(super) fn find(&mut self, alias: Alias) -> Finding {
        match self.ask(Ask::Find(alias)) {
            Told::Found(finding) => finding,
            other => panic!("nothing found: {other:?}"),
        }
    }

    /// Reserves for ten seconds and says where.
    pub(super) fn reserved(&mut self, aliases: &[Alias], choice: Choice) -> u16 {
        match self.ask(reserve(aliases, choice, 10_000_000)) {
            Told::Reserved { branch, .. } => branch,
            other => panic!("not reserved: {other:?}"),
        }
    }
}

pub(super) fn reserve(aliases: &[Alias], choice: Choice, within_us: u64) -> Ask {
    Ask::Reserve(Reserve { aliases: aliases.to_vec(), choice, within_us })
}

pub(super) fn store(text: &str) -> StoreRow {
    let place = Where::new("/var/lib/skerry").expect("plain");
    StoreRow { name: name(text), kind: name("local"), place }
}

pub(super) fn row(number: u16) -> BranchRow {
    BranchRow::new(number, name("local"))
}
