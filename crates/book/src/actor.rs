//! Who did it: no event without an actor.
//!
//! A record names its actor by an index into the actor table of its batch; a batch of 8,000 transfers
//! from one client has one entry. A [`Principal`] is a token's or a system's name, never a person's.

use alloc::vec::Vec;

use crate::wire::{Reader, Short};

/// The name under which a client, an operator or the bank itself acts: 1 to 32 bytes of UTF-8.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Principal {
    length: u8,
    bytes: [u8; Self::LENGTH_MAX],
}

impl Principal {
    /// The longest name, in bytes.
    pub const LENGTH_MAX: usize = 32;

    /// The bank's own acts, whose cause says why.
    pub const BANK: Self = Self::literal("bank");

    /// A name; `None` if it is empty, longer than 32 bytes or has control characters.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        if name.is_empty() || name.chars().any(char::is_control) {
            return None;
        }
        let mut bytes = [0; Self::LENGTH_MAX];
        bytes.get_mut(..name.len())?.copy_from_slice(name.as_bytes());
        Some(Self { length: u8::try_from(name.len()).ok()?, bytes })
    }

    const fn literal(name: &str) -> Self {
        let mut bytes = [0; Self::LENGTH_MAX];
        let (to, _) = bytes.split_at_mut(name.len());
        to.copy_from_slice(name.as_bytes());
        assert!(name.len() <= Self::LENGTH_MAX, "a literal name is at most 32 bytes");
        #[expect(clippy::as_conversions, reason = "at most 32, just asserted; `try_from` is not const")]
        Self { length: name.len() as u8, bytes }
    }

    /// The name.
    ///
    /// # Panics
    ///
    /// Never: it was UTF-8 when it was made.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let bytes = self.bytes.get(..usize::from(self.length)).expect("a name is at most 32 bytes");
        core::str::from_utf8(bytes).expect("a principal was checked when it was made")
    }

    pub(crate) fn put(self, out: &mut Vec<u8>) {
        crate::wire::put_short_text(out, self.as_str());
    }

    pub(crate) fn take(reader: &mut Reader<'_>) -> Result<Self, Short> {
        let length = usize::from(reader.u8()?);
        let text = core::str::from_utf8(reader.slice(length)?).map_err(|_| Short)?;
        Self::new(text).ok_or(Short)
    }
}

impl core::fmt::Debug for Principal {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(formatter, "Principal({})", self.as_str())
    }
}

impl core::fmt::Display for Principal {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.write_str(self.as_str())
    }
}

#[cfg(feature = "wire")]
impl serde::Serialize for Principal {
    fn serialize<S: serde::Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(self.as_str())
    }
}

#[cfg(feature = "wire")]
impl<'de> serde::Deserialize<'de> for Principal {
    fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let name = <alloc::string::String as serde::Deserialize>::deserialize(input)?;
        Self::new(&name).ok_or_else(|| serde::de::Error::custom("no principal has this name"))
    }
}

/// What a principal may do at most; scopes narrow it in the gateway.
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Runs the bank: heads, limits, days, imports.
    Operator,
    /// A program of the bank's: customers, accounts, transfers between customers.
    Service,
    /// Reads everything, changes nothing.
    Auditor,
    /// One customer, through a token scoped to them.
    Customer,
    /// The bank itself; the [`Cause`] says why.
    Bank,
}

impl Role {
    const ALL: [Self; 5] = [Self::Operator, Self::Service, Self::Auditor, Self::Customer, Self::Bank];

    /// The stored number; never renumbered.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Operator => 1,
            Self::Service => 2,
            Self::Auditor => 3,
            Self::Customer => 4,
            Self::Bank => 5,
        }
    }

    /// The role with this stored number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.number() == number)
    }

    /// Its name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Service => "service",
            Self::Auditor => "auditor",
            Self::Customer => "customer",
            Self::Bank => "bank",
        }
    }

    /// Whether it may post to general-ledger heads, reverse and import.
    #[must_use]
    pub const fn may_operate(self) -> bool {
        matches!(self, Self::Operator | Self::Bank)
    }
}

/// Why the event happened.
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// A client asked.
    Request,
    /// A hold's time ran out.
    HoldExpiry,
    /// The cutoff passed.
    Cutoff,
    /// The branch was opened for the first time.
    Founding,
    /// Entries were taken over from an old core.
    Import,
    /// An operator declared a loss after a rewind.
    DeclaredLoss,
    /// A release raised the format.
    Upgrade,
    /// Another branch sent it, or answered.
    Channel,
}

impl Cause {
    const ALL: [Self; 8] = [
        Self::Request,
        Self::HoldExpiry,
        Self::Cutoff,
        Self::Founding,
        Self::Import,
        Self::DeclaredLoss,
        Self::Upgrade,
        Self::Channel,
    ];

    /// The stored number; never renumbered.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Request => 0,
            Self::HoldExpiry => 1,
            Self::Cutoff => 2,
            Self::Founding => 3,
            Self::Import => 4,
            Self::DeclaredLoss => 5,
            Self::Upgrade => 6,
            Self::Channel => 7,
        }
    }

    /// The cause with this stored number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| cause.number() == number)
    }

    /// Its name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::HoldExpiry => "hold_expiry",
            Self::Cutoff => "cutoff",
            Self::Founding => "founding",
            Self::Import => "import",
            Self::DeclaredLoss => "declared_loss",
            Self::Upgrade => "upgrade",
            Self::Channel => "channel",
        }
    }
}

/// An entry of a batch's actor table.
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Actor {
    /// Who.
    pub principal: Principal,
    /// As what.
    pub role: Role,
    /// Digest of the whole authenticated request; zero for the bank's own acts.
    pub request: [u8; 16],
    /// The second principal, where two were needed.
    pub approver: Option<Principal>,
    /// Why.
    pub cause: Cause,
}

impl Actor {
    /// The bank itself, for `cause`.
    #[must_use]
    pub const fn bank(cause: Cause) -> Self {
        Self { principal: Principal::BANK, role: Role::Bank, request: [0; 16], approver: None, cause }
    }
}

/// An actor table that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("could not read the actor table: entry {entry} is cut short or not canonical")]
pub struct ActorError {
    /// Which entry, from 0; equal to the count when bytes are left over.
    pub entry: usize,
}

/// The most entries of one table: an index is a u16.
pub const ACTORS_MAX: usize = 1 << 16;

/// Appends the table of one batch to `out`: a u32 count, then each entry as role u8, cause u8, request 16 bytes,
/// principal (u8 length, UTF-8), approver (the same, length 0 for none).
///
/// # Panics
///
/// If there are more than [`ACTORS_MAX`].
pub fn encode_table(actors: &[Actor], out: &mut Vec<u8>) {
    assert!(actors.len() <= ACTORS_MAX, "a batch has at most 65,536 actors");
    crate::wire::put_count(out, actors.len());
    for actor in actors {
        out.push(actor.role.number());
        out.push(actor.cause.number());
        out.extend_from_slice(&actor.request);
        actor.principal.put(out);
        match actor.approver {
            Some(approver) => approver.put(out),
            None => out.push(0),
        }
    }
}

/// Reads a table written by [`encode_table`].
///
/// # Errors
///
/// If an entry is cut short or has an unknown role or cause, or if bytes are left over.
pub fn decode_table(bytes: &[u8]) -> Result<Vec<Actor>, ActorError> {
    let mut reader = Reader::new(bytes);
    let count = reader.count(ACTORS_MAX).map_err(|_| ActorError { entry: 0 })?;
    let mut actors = Vec::new();
    for entry in 0..count {
        actors.push(decode_actor(&mut reader).map_err(|_| ActorError { entry })?);
    }
    if reader.is_empty() { Ok(actors) } else { Err(ActorError { entry: count }) }
}

fn decode_actor(reader: &mut Reader<'_>) -> Result<Actor, Short> {
    let role = Role::from_number(reader.u8()?).ok_or(Short)?;
    let cause = Cause::from_number(reader.u8()?).ok_or(Short)?;
    let request = reader.array()?;
    let principal = Principal::take(reader)?;
    let approver = if reader.rest().first() == Some(&0) {
        reader.u8()?;
        None
    } else {
        Some(Principal::take(reader)?)
    };
    Ok(Actor { principal, role, request, approver, cause })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn a_table_reads_back_as_written() {
        let teller = Principal::new("till-1").unwrap();
        let chief = Principal::new("主管").unwrap();
        let actors = vec![
            Actor::bank(Cause::HoldExpiry),
            Actor {
                principal: teller,
                role: Role::Operator,
                request: [9; 16],
                approver: Some(chief),
                cause: Cause::Request,
            },
        ];
        let mut bytes = vec![];
        encode_table(&actors, &mut bytes);
        assert_eq!(decode_table(&bytes), Ok(actors));
        for cut in 0..bytes.len() {
            assert!(decode_table(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        bytes.push(0);
        assert_eq!(decode_table(&bytes), Err(ActorError { entry: 2 }));
    }

    #[test]
    fn principals_are_short_and_plain() {
        assert_eq!(Principal::new(""), None);
        assert_eq!(Principal::new("a\nb"), None);
        assert_eq!(Principal::new(&"x".repeat(33)), None);
        assert_eq!(Principal::new(&"x".repeat(32)).unwrap().as_str().len(), 32);
        assert_eq!(Principal::BANK.as_str(), "bank");
    }

    #[test]
    fn numbers_name_their_roles_and_causes() {
        for role in Role::ALL {
            assert_eq!(Role::from_number(role.number()), Some(role));
        }
        for cause in Cause::ALL {
            assert_eq!(Cause::from_number(cause.number()), Some(cause));
        }
    }
}
