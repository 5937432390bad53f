//! What the directory holds, as rows: branches, stores, nodes, leases, aliases. Plain values that check themselves.

use std::fmt;

/// Why a text is not a name or a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// Not a name.
    #[error("a name is 1 to 40 of a-z, 0-9, '.', '_' and '-', and begins with a letter or digit")]
    Name,
    /// Not a place.
    #[error("a place is 1 to 200 visible characters of ASCII")]
    Place,
    /// Not somebody's name.
    #[error("a principal is 1 to 32 bytes without control characters")]
    Who,
    /// A secret was about to be written down.
    #[error("a place holds no secret: no password, and no user:password@")]
    Secret,
}

/// The name of a store, a node or a bus.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<str>);

impl Name {
    /// The longest, in bytes.
    pub const LENGTH_MAX: usize = 40;

    /// A name.
    ///
    /// # Errors
    ///
    /// [`TextError::Name`].
    pub fn new(text: &str) -> Result<Self, TextError> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let fits = text.len() <= Self::LENGTH_MAX && text.bytes().next().is_some_and(plain);
        let every = text.bytes().all(|byte| plain(byte) || matches!(byte, b'.' | b'_' | b'-'));
        if fits && every { Ok(Self(text.into())) } else { Err(TextError::Name) }
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Where something is: a folder, `host:port/database`, a bus subject. Never a secret.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Where(Box<str>);

impl Where {
    /// The longest, in bytes.
    pub const LENGTH_MAX: usize = 200;

    /// A place.
    ///
    /// # Errors
    ///
    /// [`TextError`].
    pub fn new(text: &str) -> Result<Self, TextError> {
        if text.is_empty()
            || text.len() > Self::LENGTH_MAX
            || !text.bytes().all(|byte| byte.is_ascii_graphic())
        {
            return Err(TextError::Place);
        }
        let credentials = text.split('@').next().filter(|_| text.contains('@'));
        let after_scheme = credentials.map(|text| text.rsplit("//").next().unwrap_or(text));
        if text.to_ascii_lowercase().contains("password")
            || after_scheme.is_some_and(|user| user.contains(':'))
        {
            return Err(TextError::Secret);
        }
        Ok(Self(text.into()))
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Who did something: a principal, as the book names it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Who(Box<str>);

impl Who {
    /// The longest, in bytes.
    pub const LENGTH_MAX: usize = 32;

    /// A principal.
    ///
    /// # Errors
    ///
    /// [`TextError::Who`].
    pub fn new(text: &str) -> Result<Self, TextError> {
        let fits = !text.is_empty() && text.len() <= Self::LENGTH_MAX;
        if fits && !text.chars().any(char::is_control) { Ok(Self(text.into())) } else { Err(TextError::Who) }
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

macro_rules! shown {
    ($($name:ident)*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, formatter)
            }
        }
    )*};
}

shown!(Name Where Who);

/// By what a customer is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum AliasKind {
    /// The institution's own number for them, as another system gave it.
    Customer = 1,
    /// An identity document.
    Document = 2,
    /// A telephone number.
    Phone = 3,
}

impl AliasKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Customer, Self::Document, Self::Phone];

    /// Its number, as stored.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Customer => 1,
            Self::Document => 2,
            Self::Phone => 3,
        }
    }

    /// The kind with this number.
    #[must_use]
    pub fn of(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }
}

/// One way to a customer of one business line.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Alias {
    /// The business line; 0 is retail.
    pub line: u8,
    /// What was hashed.
    pub kind: AliasKind,
    /// HMAC of it under the institution's secret: spread evenly, and nobody can choose it.
    pub key: [u8; 32],
}

impl fmt::Debug for Alias {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.key;
        write!(formatter, "{:?}({}, {a:02x}{b:02x}{c:02x}{d:02x}…)", self.kind, self.line)
    }
}

/// A customer by branch of issue and serial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CustomerRef {
    /// The branch of issue, from 1.
    pub branch: u16,
    /// Their serial in it, from 1.
    pub serial: u32,
}

/// Whether a branch is there for customers at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BranchState {
    /// Its book is not opened yet.
    Founding,
    /// It works.
    Open,
    /// It is closed for good: nobody hosts it.
    Closed,
}

/// How a branch wants to be hosted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// With others on one node.
    Scattered,
    /// On a node of its own.
    Dedicated,
}

/// What operators have said of a branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BranchRow {
    /// Its number, from 1 to 9999.
    pub number: u16,
    /// Whether it works.
    pub state: BranchState,
    /// How it is hosted.
    pub mode: Mode,
    /// How many newcomers it draws: its room counts by so many hundredths, 0 to 1000. 100 is usual.
    pub weight: u16,
    /// Whether newcomers are sent to it; an operator may still name it.
    pub newcomers: bool,
    /// Gets a new release first; newcomers only if no other branch has room.
    pub gray: bool,
    /// Where its journal is.
    pub store: Name,
    /// The node that should host it.
    pub placement: Option<Name>,
    /// How many other nodes are to follow its journal, so that one of them takes over soon: 0 to 3.
    pub followers: u8,
}

impl BranchRow {
    /// The greatest weight.
    pub const WEIGHT_MAX: u16 = 1_000;
    /// The most followers.
    pub const FOLLOWERS_MAX: u8 = 3;

    /// An open branch as it is founded where it is alone; a bank of nodes wants followers for it as well.
    #[must_use]
    pub const fn new(number: u16, store: Name) -> Self {
        Self {
            number,
            state: BranchState::Open,
            mode: Mode::Scattered,
            weight: 100,
            newcomers: true,
            gray: false,
            store,
            placement: None,
            followers: 0,
        }
    }

    /// The same with one thing changed.
    #[must_use]
    pub fn with(mut self, setting: &Setting) -> Self {
        match setting {
            Setting::State(state) => self.state = *state,
            Setting::Mode(mode) => self.mode = *mode,
            Setting::Weight(weight) => self.weight = *weight,
            Setting::Newcomers(newcomers) => self.newcomers = *newcomers,
            Setting::Gray(gray) => self.gray = *gray,
            Setting::Store(store) => self.store = store.clone(),
            Setting::Placement(node) => self.placement.clone_from(node),
            Setting::Followers(followers) => self.followers = *followers,
        }
        self
    }
}

/// One thing that an operator changes of a branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Setting {
    /// Whether it works.
    State(BranchState),
    /// How it is hosted.
    Mode(Mode),
    /// How many newcomers it draws.
    Weight(u16),
    /// Whether newcomers are sent to it.
    Newcomers(bool),
    /// Whether it gets a new release first.
    Gray(bool),
    /// Where its journal is.
    Store(Name),
    /// The node that should host it.
    Placement(Option<Name>),
    /// How many nodes are to follow it.
    Followers(u8),
}

/// How many customers a branch has and may have, as its owner last said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Room {
    /// Customers it holds.
    pub customers: u32,
    /// Customers it may hold.
    pub capacity: u32,
}

/// Where journals are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreRow {
    /// Its name.
    pub name: Name,
    /// `local`, `postgres`.
    pub kind: Name,
    /// Where: a folder, `host:port/database`.
    pub place: Where,
}

/// A process that hosts branches, as it says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRow {
    /// Its name.
    pub name: Name,
    /// How it is reached: a subject on the bus.
    pub address: Where,
    /// Branches it may host.
    pub capacity: u16,
    /// Its release.
    pub version: Where,
    /// Takes none for now, of its own accord: it stops, or its clock is off.
    pub draining: bool,
}

/// A branch that a node follows without hosting it, as it says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Follow {
    /// The branch.
    pub branch: u16,
    /// Records of its journal that the node has yet to read; `None` if it does not know.
    pub behind: Option<u64>,
}

impl Follow {
    /// Whoever is so many records behind, or fewer, takes over at once: they are read in less time than the rest of a move takes.
    pub const NEAR: u64 = 10_000;

    /// Whether it could take over at once.
    #[must_use]
    pub fn is_near(&self) -> bool {
        self.behind.is_some_and(|behind| behind <= Self::NEAR)
    }
}

/// An operator's word that a node is to give its branches away and take none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrainRow {
    /// Who says so.
    pub by: Who,
    /// Since when, on the directory's wall clock, microseconds.
    pub at_us: u64,
}

/// Who holds a lease: a node, in one life of its process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The node.
    pub node: Name,
    /// Another at each start of the process.
    pub incarnation: u64,
}

/// A lease, as a reader of the map sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseView {
    /// Who holds it.
    pub holder: Holder,
    /// The number of the grant.
    pub grant: u64,
    /// How long it still held when the map was made, microseconds.
    pub left_us: u64,
}

/// A branch in the map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BranchEntry {
    /// What operators have said of it.
    pub row: BranchRow,
    /// Who hosts it now; none once the lease is over.
    pub lease: Option<LeaseView>,
    /// Its room, if its owner has said so since the directory was opened.
    pub room: Option<Room>,
}

/// A node in the map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeEntry {
    /// What it says of itself.
    pub row: NodeRow,
    /// How long ago it was last heard of when the map was made, microseconds.
    pub silent_us: u64,
    /// Whether an operator wants it empty. The node's own word does not touch it.
    pub drain: Option<DrainRow>,
    /// What it follows, as it said when it was last heard of.
    pub follows: Vec<Follow>,
}

impl NodeEntry {
    /// Whether branches may come to it: neither it nor an operator says otherwise.
    #[must_use]
    pub const fn takes(&self) -> bool {
        !self.row.draining && self.drain.is_none()
    }

    /// How it follows a branch, if it does.
    #[must_use]
    pub fn follow(&self, branch: u16) -> Option<&Follow> {
        self.follows.iter().find(|follow| follow.branch == branch)
    }
}

/// The bus that messages between branches go over, as an operator has chosen it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BusRow {
    /// Its name in the configuration of every process.
    pub name: Name,
    /// Who chose it.
    pub by: Who,
    /// When, on the directory's wall clock, microseconds.
    pub at_us: u64,
}

/// Everything but the aliases, at one version.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Map {
    /// Grows with every change of branches, stores, nodes, holders, drains and the chosen bus; not with renewals, beats, what nodes
    /// follow and reports of room.
    pub version: u64,
    /// Whether customers are being taken in again from the branches: until that has ended nobody is placed.
    pub rebuilding: bool,
    /// By number.
    pub branches: Vec<BranchEntry>,
    /// By name.
    pub stores: Vec<StoreRow>,
    /// By name.
    pub nodes: Vec<NodeEntry>,
    /// The bus that an operator has chosen; without, each process takes the one of its configuration.
    pub bus: Option<BusRow>,
}

impl Map {
    /// The branch with this number.
    #[must_use]
    pub fn branch(&self, number: u16) -> Option<&BranchEntry> {
        let at = self.branches.binary_search_by_key(&number, |entry| entry.row.number).ok()?;
        self.branches.get(at)
    }

    /// The node with this name.
    #[must_use]
    pub fn node(&self, name: &Name) -> Option<&NodeEntry> {
        self.nodes.iter().find(|entry| entry.row.name == *name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain() {
        for good in ["a", "node-1", "0.x_y", &"n".repeat(40)] {
            assert_eq!(Name::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "-a", "A", "a b", "ä", ".a", &"n".repeat(41)] {
            assert_eq!(Name::new(bad), Err(TextError::Name), "{bad}");
        }
    }

    #[test]
    fn a_place_holds_no_secret() {
        for good in ["/var/lib/skerry", "db1:5432/bank", "postgres://bank@db1:5432/bank", "skerry.node.a"] {
            assert_eq!(Where::new(good).unwrap().as_str(), good);
        }
        for bad in ["postgres://bank:hush@db1/bank", "host=db1 x", "bank:hush@db1", "host=db1;Password=hush"]
        {
            assert!(Where::new(bad).is_err(), "{bad}");
        }
        assert_eq!(Where::new("postgres://bank:hush@db1/bank"), Err(TextError::Secret));
    }
}
