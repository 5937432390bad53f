//! What lies in the files of the embedded directory: records of whole 16-byte units, each with its own check.
//!
//! ```text
//! kind u8 · detail u8 · body length u16 · check u32 · body · zeros up to the next 16 bytes      (little-endian)
//! ```
//!
//! The check is the beginning of BLAKE3 over kind, detail, length and body. What is read is written the same; what cannot
//! be read is damage, never a guess.

use crate::rows::{
    Alias, AliasKind, BranchRow, BranchState, BusRow, CustomerRef, DrainRow, Mode, Name, NodeRow, StoreRow,
    Where, Who,
};

/// Records begin at multiples of this.
pub const UNIT: usize = 16;
/// Bytes before the body.
pub const HEAD: usize = 8;

/// One thing that became so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// An alias is a customer's.
    Confirmed(Alias, CustomerRef),
    /// An alias is bound to a branch, under the first alias of its reservation.
    Reserved(Alias, u16, Alias),
    /// An alias leads nowhere.
    Gone(Alias),
    /// A branch, as operators want it.
    Branch(BranchRow),
    /// A store.
    Store(StoreRow),
    /// A store is dropped.
    StoreGone(Name),
    /// A node.
    Node(NodeRow),
    /// A node is dropped.
    NodeGone(Name),
    /// A moved customer lives there, or at home again.
    Moved(CustomerRef, Option<u16>),
    /// All confirmed aliases are forgotten: customers are being taken in again.
    Begun,
    /// Customers are all in.
    Complete,
    /// The directory was opened for this time.
    Opened(u64),
    /// This bus was chosen.
    Bus(BusRow),
    /// An operator wants this node empty, or no more.
    Drain(Name, Option<DrainRow>),
}

mod kind {
    pub(super) const CONFIRMED: u8 = 1;
    pub(super) const RESERVED: u8 = 2;
    pub(super) const GONE: u8 = 3;
    pub(super) const BRANCH: u8 = 4;
    pub(super) const STORE: u8 = 5;
    pub(super) const STORE_GONE: u8 = 6;
    pub(super) const NODE: u8 = 7;
    pub(super) const NODE_GONE: u8 = 8;
    pub(super) const MOVED: u8 = 9;
    pub(super) const BEGUN: u8 = 10;
    pub(super) const COMPLETE: u8 = 11;
    pub(super) const OPENED: u8 = 12;
    pub(super) const BUS: u8 = 13;
    pub(super) const DRAIN: u8 = 14;
}

/// Puts `record` at the end of `out`, and says how many bytes it took.
pub fn encode(record: &Record, out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; HEAD]);
    let (kind, detail) = body(record, out);
    let length = u16::try_from(out.len() - start - HEAD).expect("texts are bounded, so a body is short");
    let head = [kind, detail, length.to_le_bytes()[0], length.to_le_bytes()[1]];
    out[start..start + 4].copy_from_slice(&head);
    let check = check(head, &out[start + HEAD..]);
    out[start + 4..start + HEAD].copy_from_slice(&check);
    let taken = (out.len() - start).next_multiple_of(UNIT);
    out.resize(start + taken, 0);
    taken
}

fn check(head: [u8; 4], body: &[u8]) -> [u8; 4] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&head);
    hasher.update(body);
    let mut check = [0; 4];
    check.copy_from_slice(&hasher.finalize().as_bytes()[..4]);
    check
}

/// Puts the body at the end of `out` and gives kind and detail.
fn body(record: &Record, out: &mut Vec<u8>) -> (u8, u8) {
    match record {
        Record::Confirmed(alias, customer) => {
            put_alias(alias, out);
            out.extend_from_slice(&customer.serial.to_le_bytes());
            out.extend_from_slice(&customer.branch.to_le_bytes());
            (kind::CONFIRMED, alias.kind.number())
        }
        Record::Reserved(alias, branch, first) => {
            put_alias(alias, out);
            out.extend_from_slice(&branch.to_le_bytes());
            if first != alias {
                out.push(first.kind.number());
                put_alias(first, out);
            }
            (kind::RESERVED, alias.kind.number())
        }
        Record::Gone(alias) => {
            put_alias(alias, out);
            (kind::GONE, alias.kind.number())
        }
        Record::Branch(row) => (kind::BRANCH, put_branch(row, out)),
        Record::Store(row) => {
            put_text(row.name.as_str(), out);
            put_text(row.kind.as_str(), out);
            put_text(row.place.as_str(), out);
            (kind::STORE, 0)
        }
        Record::StoreGone(name) => {
            put_text(name.as_str(), out);
            (kind::STORE_GONE, 0)
        }
        Record::Node(row) => {
            put_text(row.name.as_str(), out);
            put_text(row.address.as_str(), out);
            put_text(row.version.as_str(), out);
            out.extend_from_slice(&row.capacity.to_le_bytes());
            (kind::NODE, u8::from(row.draining))
        }
        Record::NodeGone(name) => {
            put_text(name.as_str(), out);
            (kind::NODE_GONE, 0)
        }
        Record::Moved(customer, branch) => {
            out.extend_from_slice(&customer.serial.to_le_bytes());
            out.extend_from_slice(&customer.branch.to_le_bytes());
            out.extend_from_slice(&branch.unwrap_or(0).to_le_bytes());
            (kind::MOVED, 0)
        }
        Record::Begun => (kind::BEGUN, 0),
        Record::Complete => (kind::COMPLETE, 0),
        Record::Opened(times) => {
            out.extend_from_slice(&times.to_le_bytes());
            (kind::OPENED, 0)
        }
        Record::Bus(row) => {
            put_text(row.name.as_str(), out);
            put_text(row.by.as_str(), out);
            out.extend_from_slice(&row.at_us.to_le_bytes());
            (kind::BUS, 0)
        }
        Record::Drain(node, drain) => {
            put_text(node.as_str(), out);
            if let Some(row) = drain {
                put_text(row.by.as_str(), out);
                out.extend_from_slice(&row.at_us.to_le_bytes());
            }
            (kind::DRAIN, u8::from(drain.is_some()))
        }
    }
}

fn put_alias(alias: &Alias, out: &mut Vec<u8>) {
    out.extend_from_slice(&alias.key);
    out.push(alias.line);
}

fn put_text(text: &str, out: &mut Vec<u8>) {
    out.push(u8::try_from(text.len()).expect("names and places have at most 200 bytes"));
    out.extend_from_slice(text.as_bytes());
}

fn put_branch(row: &BranchRow, out: &mut Vec<u8>) -> u8 {
    out.extend_from_slice(&row.number.to_le_bytes());
    out.extend_from_slice(&row.weight.to_le_bytes());
    put_text(row.store.as_str(), out);
    put_text(row.placement.as_ref().map_or("", Name::as_str), out);
    let state = match row.state {
        BranchState::Founding => 0,
        BranchState::Open => 1,
        BranchState::Closed => 2,
    };
    let flag = |set: bool, bit: u8| if set { bit } else { 0 };
    let flags = flag(row.mode == Mode::Dedicated, 4) | flag(row.newcomers, 8) | flag(row.gray, 16);
    // Where no followers are wanted it is the record of releases that knew of none.
    state | flags | (row.followers.min(BranchRow::FOLLOWERS_MAX) << FOLLOWERS_BIT)
}

/// Followers are the two bits from here on of a branch's detail.
const FOLLOWERS_BIT: u8 = 5;

/// The record at the beginning of `bytes`, and how many it takes; `None` is damage.
#[must_use]
pub fn decode(bytes: &[u8]) -> Option<(Record, usize)> {
    let head: [u8; 4] = bytes.get(..4)?.try_into().ok()?;
    let length = usize::from(u16::from_le_bytes([head[2], head[3]]));
    let body = bytes.get(HEAD..HEAD + length)?;
    let taken = (HEAD + length).next_multiple_of(UNIT);
    let filler = bytes.get(HEAD + length..taken)?;
    if check(head, body) != bytes[4..HEAD] || filler.iter().any(|byte| *byte != 0) {
        return None;
    }
    let mut reader = Reader(body);
    let record = read(head[0], head[1], &mut reader)?;
    reader.0.is_empty().then_some((record, taken))
}

fn read(kind: u8, detail: u8, reader: &mut Reader<'_>) -> Option<Record> {
    let plain = |record| (detail == 0).then_some(record);
    match kind {
        kind::CONFIRMED => {
            let alias = reader.alias(detail)?;
            let serial = reader.u32()?;
            let branch = reader.u16()?;
            Some(Record::Confirmed(alias, CustomerRef { branch, serial }))
        }
        kind::RESERVED => {
            let alias = reader.alias(detail)?;
            let branch = reader.u16()?;
            let first = if reader.0.is_empty() {
                alias
            } else {
                let kind = reader.u8()?;
                reader.alias(kind).filter(|first| *first != alias)?
            };
            Some(Record::Reserved(alias, branch, first))
        }
        kind::GONE => Some(Record::Gone(reader.alias(detail)?)),
        kind::BRANCH => Some(Record::Branch(reader.branch(detail)?)),
        kind::STORE => {
            let (name, kind) = (reader.name()?, reader.name()?);
            plain(Record::Store(StoreRow { name, kind, place: reader.place()? }))
        }
        kind::STORE_GONE => plain(Record::StoreGone(reader.name()?)),
        kind::NODE if detail <= 1 => {
            let (name, address, version) = (reader.name()?, reader.place()?, reader.place()?);
            let capacity = reader.u16()?;
            Some(Record::Node(NodeRow { name, address, capacity, version, draining: detail == 1 }))
        }
        kind::NODE_GONE => plain(Record::NodeGone(reader.name()?)),
        kind::MOVED => {
            let serial = reader.u32()?;
            let customer = CustomerRef { branch: reader.u16()?, serial };
            let branch = reader.u16()?;
            plain(Record::Moved(customer, (branch != 0).then_some(branch)))
        }
        kind::BEGUN => plain(Record::Begun),
        kind::COMPLETE => plain(Record::Complete),
        kind::OPENED => plain(Record::Opened(reader.u64()?)),
        kind::BUS => {
            let (name, by) = (reader.name()?, Who::new(reader.text()?).ok()?);
            plain(Record::Bus(BusRow { name, by, at_us: reader.u64()? }))
        }
        kind::DRAIN if detail <= 1 => {
            let node = reader.name()?;
            let drain = if detail == 0 { None } else { Some(reader.drain()?) };
            Some(Record::Drain(node, drain))
        }
        _ => None,
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn alias(&mut self, kind: u8) -> Option<Alias> {
        let key = self.array()?;
        Some(Alias { line: self.u8()?, kind: AliasKind::of(kind)?, key })
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = self.u8()?;
        std::str::from_utf8(self.take(usize::from(length))?).ok()
    }

    fn name(&mut self) -> Option<Name> {
        Name::new(self.text()?).ok()
    }

    fn place(&mut self) -> Option<Where> {
        Where::new(self.text()?).ok()
    }

    fn drain(&mut self) -> Option<DrainRow> {
        let by = Who::new(self.text()?).ok()?;
        Some(DrainRow { by, at_us: self.u64()? })
    }

    fn branch(&mut self, detail: u8) -> Option<BranchRow> {
        let (number, weight) = (self.u16()?, self.u16()?);
        let store = self.name()?;
        let placement = match self.text()? {
            "" => None,
            name => Some(Name::new(name).ok()?),
        };
        let state = match detail & 3 {
            0 => BranchState::Founding,
            1 => BranchState::Open,
            2 => BranchState::Closed,
            _ => return None,
        };
        let mode = if detail & 4 == 0 { Mode::Scattered } else { Mode::Dedicated };
        let (newcomers, gray) = (detail & 8 != 0, detail & 16 != 0);
        let followers = detail >> FOLLOWERS_BIT;
        let row = BranchRow { number, state, mode, weight, newcomers, gray, store, placement, followers };
        (followers <= BranchRow::FOLLOWERS_MAX).then_some(row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Vec<Record> {
        let alias = |kind, byte| Alias { line: 3, kind, key: [byte; 32] };
        let name = |text: &str| Name::new(text).unwrap();
        let row = BranchRow {
            number: 9_999,
            state: BranchState::Founding,
            mode: Mode::Dedicated,
            weight: 1_000,
            newcomers: false,
            gray: true,
            store: name("local"),
            placement: Some(name("node-1")),
            followers: 3,
        };
        let customer = CustomerRef { branch: 7, serial: u32::MAX };
        let place = Where::new(&"p".repeat(200)).unwrap();
        let node = NodeRow {
            name: name("n"),
            address: place.clone(),
            capacity: 9,
            version: Where::new("1").unwrap(),
            draining: true,
        };
        vec![
            Record::Confirmed(alias(AliasKind::Document, 1), customer),
            Record::Reserved(alias(AliasKind::Document, 1), 7, alias(AliasKind::Document, 1)),
            Record::Reserved(alias(AliasKind::Phone, 2), 7, alias(AliasKind::Document, 1)),
            Record::Gone(alias(AliasKind::Customer, 4)),
            Record::Branch(BranchRow { placement: None, followers: 0, ..row.clone() }),
            Record::Branch(row),
            Record::Store(StoreRow { name: name("s"), kind: name("postgres"), place }),
            Record::StoreGone(name("s")),
            Record::Node(node),
            Record::NodeGone(name("n")),
            Record::Moved(customer, Some(8)),
            Record::Moved(customer, None),
            Record::Begun,
            Record::Complete,
            Record::Opened(u64::MAX),
            Record::Bus(BusRow { name: name("main"), by: Who::new("行长 1").unwrap(), at_us: 77 }),
            Record::Drain(name("n"), Some(DrainRow { by: Who::new("行长 1").unwrap(), at_us: u64::MAX })),
            Record::Drain(name("n"), None),
        ]
    }

    #[test]
    fn what_is_written_is_read_and_any_flipped_bit_is_seen() {
        for record in samples() {
            let mut bytes = Vec::new();
            let taken = encode(&record, &mut bytes);
            assert_eq!((taken, taken % UNIT), (bytes.len(), 0));
            assert_eq!(decode(&bytes), Some((record.clone(), taken)));
            for bit in 0..bytes.len() * 8 {
                bytes[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(decode(&bytes), None, "{record:?}, bit {bit}");
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
            assert_eq!(decode(&bytes[..taken - 1]), None);
        }
    }

    #[test]
    fn a_branch_of_before_followers_is_read_as_it_was_written() {
        // Branch 7, open, scattered, 100 hundredths, with newcomers, in store "local", placed nowhere.
        let body = [7, 0, 100, 0, 5, b'l', b'o', b'c', b'a', b'l', 0];
        let head = [kind::BRANCH, 1 | 8, 11, 0];
        let mut bytes = head.to_vec();
        bytes.extend_from_slice(&check(head, &body));
        bytes.extend_from_slice(&body);
        bytes.resize(32, 0);
        let row = BranchRow::new(7, Name::new("local").unwrap());
        assert_eq!(decode(&bytes), Some((Record::Branch(row.clone()), 32)));
        let mut written = Vec::new();
        encode(&Record::Branch(row), &mut written);
        assert_eq!(written, bytes, "and releases of before read it");
    }

    #[test]
    fn an_alias_takes_48_bytes() {
        for record in &samples()[..2] {
            assert_eq!(encode(record, &mut Vec::new()), 48);
        }
    }
}
