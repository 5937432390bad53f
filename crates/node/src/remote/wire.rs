//! What travels between a gateway and the processes that hold branches: frames, sealed, of MessagePack with named fields.
//!
//! ```text
//! 0 "SK" · 2 u8 version · 3 u8 kind (1 ask, 2 told, 3 here) · 4 seal [16] · 20 body, MessagePack
//! ```
//!
//! Fields are named, so that one can be added without a new version: a release ignores what it does not know and fills in
//! what it misses (`#[serde(default)]`). Another version is an error that names both. Types with an invariant are read
//! through their constructors; an event travels as the record that it is in the journal.
//!
//! It refuses to know the bus.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use skerry_book::Event;
use skerry_book::actor::Actor;
use skerry_book::record::{self, RECORD_LENGTH};
use skerry_branch::api::{Body, Busy, GatewayKey, Reply, Scope};
use skerry_branch::evidence::receipts::Recorded;
use skerry_branch::history::{AsOf, Day, DayBy, Found, Page, Query, Totals};
use skerry_branch::keys::{KeyError, KeyRef};
use skerry_ledger::{AccountRef, TransferId};
use skerry_money::Date;
use skerry_proof::KeyHistory;
use skerry_proof::rotation::Rotation;

use crate::seat::{Before, Health, Trouble};

/// The version that this release speaks.
pub const VERSION: u8 = 1;

const MARK: [u8; 2] = *b"SK";
const SEAL: usize = 16;
const HEAD: usize = MARK.len() + 2;

/// Why bytes of the bus are not taken. Nothing was done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// They are cut short, or something else.
    #[error("this is no word between gateway and branch")]
    Foreign,
    /// Another release, too far away.
    #[error("it is said in version {found}; this release speaks version {VERSION}")]
    Version {
        /// The version it is said in.
        found: u8,
    },
    /// The seal is not of the bank's key.
    #[error("its seal is not of this bank's key")]
    Seal,
    /// A field is missing or holds what it cannot hold.
    #[error("it cannot be read: {0}")]
    Body(String),
}

/// A frame. Its body is laid down and read by code of this crate, compiled once for whoever speaks over whatever bus.
pub trait Word: Sized {
    /// The number of its kind.
    const KIND: u8;

    /// Lays its body down.
    fn lay(&self, out: &mut Vec<u8>);

    /// Reads a body, whose seal was checked.
    ///
    /// # Errors
    ///
    /// [`WireError::Body`].
    fn read(body: &[u8]) -> Result<Self, WireError>;
}

macro_rules! words {
    ($($frame:ty = $kind:literal),*) => {$(
        impl Word for $frame {
            const KIND: u8 = $kind;

            fn lay(&self, out: &mut Vec<u8>) {
                lay(self, out);
            }

            fn read(body: &[u8]) -> Result<Self, WireError> {
                read(body)
            }
        }
    )*};
}

words!(AskFrame = 1, ToldFrame = 2, Here = 3);

/// What is asked of a branch.
#[derive(Serialize, Deserialize)]
pub struct AskFrame {
    /// Of which.
    pub branch: u16,
    /// Chosen by the asker, never twice: a copy of the frame is known by it, and its answer.
    pub nonce: u128,
    /// Wall clock, microseconds since 1970: after this nobody waits for the answer.
    pub until_us: u64,
    /// What.
    pub ask: Ask,
}

/// What is answered.
#[derive(Serialize, Deserialize)]
pub struct ToldFrame {
    /// By which branch.
    pub branch: u16,
    /// The asker's.
    pub nonce: u128,
    /// The epoch under which the branch is open; 0 if it is not.
    pub epoch: u64,
    /// Position after its last durable record.
    pub position: u64,
    /// Position after the last record that a checkpoint covers.
    pub covered: u64,
    /// What.
    pub told: Told,
}

/// A process says that it has a branch.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Here {
    /// The process: the name of its endpoint.
    pub node: String,
    /// The branch.
    pub branch: u16,
    /// The epoch under which it is open; 0 if it is not.
    pub epoch: u64,
    /// Position after its last durable record.
    pub position: u64,
    /// Position after the last record that a checkpoint covers.
    pub covered: u64,
    /// It has it no more.
    pub gone: bool,
    /// The id of the key that signs its checkpoints.
    pub key: Option<[u8; 16]>,
    /// How it is doing, without meters and figures.
    pub health: Health,
}

/// See [`Seat`](crate::Seat): each stands for one of its calls.
#[derive(Serialize, Deserialize)]
#[expect(missing_docs, reason = "each is the call of a seat that it is named after")]
pub enum Ask {
    Submit(Box<Submit>),
    Page(Query),
    Transfer(TransferId),
    Totals { account: AccountRef, as_of: AsOf },
    Days { account: AccountRef, by: DayBy, from: Date, to: Date },
    Records { from: u64, most: u64 },
    Receipt(u64),
    Health,
    SigningKeys,
    Reopen,
    ConfirmClock,
    Archive(Before),
    CreateKeys(u64),
    SealUnder { key: KeyRef, plain: Bytes },
    Unseal { key: KeyRef, sealed: Bytes },
    EraseKey(KeyRef),
    ErasedKeys,
    NotErased(Vec<KeyRef>),
}

impl Ask {
    /// Whether asking twice does no more than asking once, whatever became of the first.
    pub(crate) fn may_be_repeated(&self) -> bool {
        match self {
            Self::Submit(submit) => matches!(submit.body, Body::Read(_)),
            Self::Reopen | Self::ConfirmClock | Self::Archive(_) => false,
            // Of keys made twice, some are nobody's.
            Self::Page(_)
            | Self::Transfer(_)
            | Self::Totals { .. }
            | Self::Days { .. }
            | Self::Records { .. }
            | Self::Receipt(_)
            | Self::Health
            | Self::SigningKeys
            | Self::CreateKeys(_)
            | Self::SealUnder { .. }
            | Self::Unseal { .. }
            | Self::EraseKey(_)
            | Self::ErasedKeys
            | Self::NotErased(_) => true,
        }
    }
}

/// A request without its way back.
#[derive(Debug, Serialize, Deserialize)]
pub struct Submit {
    /// Who asks.
    pub actor: Actor,
    /// What they may touch.
    pub scope: Scope,
    /// As in [`Request`](skerry_branch::api::Request).
    pub deadline_us: u64,
    /// As in [`Request`](skerry_branch::api::Request).
    pub mac: [u8; 16],
    /// What is asked.
    pub body: Body,
}

/// The answer to an [`Ask`].
#[derive(Serialize, Deserialize)]
#[expect(missing_docs, reason = "the first ones are the answers to the calls that they are named after")]
pub enum Told {
    Reply(Box<Reply>),
    Page(Page),
    Transfer(Option<Box<Found>>),
    Totals(Totals),
    Days(Vec<Day>),
    Records(Vec<RecordedBytes>),
    Health(Box<Health>),
    SigningKeys(Option<KeyHistoryText>),
    Keys(Vec<KeyRef>),
    /// A receipt, or what was sealed or unsealed.
    Bytes(Bytes),
    /// It is done; for an archiving up to where.
    Done(u64),
    /// A query has no answer.
    Trouble(Trouble),
    /// It was tried, and why it failed.
    Failed(String),
    /// Customers' keys say no.
    Keyless(KeyFault),
    /// The branch takes nothing now; nothing was done.
    Busy(Busy),
    /// The branch is not in this process; nothing was done.
    NotHere,
    /// The asker has given up; nothing was done.
    Late,
}

/// [`KeyError`] as it travels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "each is the error that it is named after")]
pub enum KeyFault {
    Erased,
    Unknown(u64),
    NotSealed,
    Other(String),
}

impl From<&KeyError> for KeyFault {
    fn from(error: &KeyError) -> Self {
        match error {
            KeyError::Erased => Self::Erased,
            KeyError::Unknown(key) => Self::Unknown(*key),
            KeyError::NotSealed => Self::NotSealed,
            KeyError::Away(why) => Self::Other(why.clone()),
            other => Self::Other(crate::hosted::chain(other)),
        }
    }
}

impl From<KeyFault> for KeyError {
    fn from(fault: KeyFault) -> Self {
        match fault {
            KeyFault::Erased => Self::Erased,
            KeyFault::Unknown(key) => Self::Unknown(key),
            KeyFault::NotSealed => Self::NotSealed,
            KeyFault::Other(why) => Self::Away(why),
        }
    }
}

/// [`Recorded`] with its event as the journal has it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RecordedBytes {
    position: u64,
    incarnation: u32,
    time_us: u64,
    business_date: Date,
    actor: Actor,
    #[serde(with = "serde_bytes")]
    record: Vec<u8>,
    #[serde(with = "serde_bytes")]
    tail: Vec<u8>,
}

fn has_own_tail(event: &Event) -> bool {
    matches!(event, Event::Moved(_) | Event::Sent(_) | Event::Received(_))
}

impl From<&Recorded> for RecordedBytes {
    fn from(recorded: &Recorded) -> Self {
        let (mut record, mut tail) = ([0; RECORD_LENGTH], Vec::new());
        record::encode(&recorded.event, 0, &mut record, &mut tail);
        if has_own_tail(&recorded.event) {
            tail = recorded.tail.to_vec();
        }
        Self {
            position: recorded.position,
            incarnation: recorded.incarnation,
            time_us: recorded.time_us,
            business_date: recorded.business_date,
            actor: recorded.actor,
            record: record.to_vec(),
            tail,
        }
    }
}

impl RecordedBytes {
    /// Bytes of record and tail.
    pub(crate) fn bytes(&self) -> usize {
        self.record.len() + self.tail.len()
    }

    /// Reads the record.
    ///
    /// # Errors
    ///
    /// [`WireError::Body`] if this release does not know it.
    pub fn read(self) -> Result<Recorded, WireError> {
        let refuse = |why: &dyn std::error::Error| WireError::Body(why.to_string());
        let record = self.record.as_slice().try_into().map_err(|error| refuse(&error))?;
        let decoded =
            record::decode(record, &self.tail, self.business_date).map_err(|error| refuse(&error))?;
        let tail = if has_own_tail(&decoded.event) { self.tail.into() } else { Box::default() };
        Ok(Recorded {
            position: self.position,
            incarnation: self.incarnation,
            time_us: self.time_us,
            business_date: self.business_date,
            actor: self.actor,
            event: decoded.event,
            tail,
        })
    }
}

/// A bank's signing keys: the first as text, and the rotations as they are signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyHistoryText {
    first: String,
    rotations: Vec<Bytes>,
}

impl From<&KeyHistory> for KeyHistoryText {
    fn from(keys: &KeyHistory) -> Self {
        let rotations = keys.rotations().iter().map(|rotation| rotation.encode().into()).collect();
        Self { first: keys.first().to_string(), rotations }
    }
}

impl KeyHistoryText {
    /// Reads it and verifies every rotation.
    ///
    /// # Errors
    ///
    /// [`WireError::Body`] says which rule it breaks.
    pub fn read(&self) -> Result<KeyHistory, WireError> {
        let refuse = |why: &dyn std::error::Error| WireError::Body(why.to_string());
        let mut keys = KeyHistory::new(self.first.parse().map_err(|error| refuse(&error))?);
        for rotation in &self.rotations {
            let rotation = Rotation::decode(rotation).map_err(|error| refuse(&error))?;
            keys.push(rotation).map_err(|error| refuse(&error))?;
        }
        Ok(keys)
    }
}

/// Lays a word down and seals it.
#[must_use]
pub fn encode<W: Word>(word: &W, key: &GatewayKey) -> Bytes {
    let mut out = Vec::with_capacity(256);
    out.extend_from_slice(&MARK);
    out.extend_from_slice(&[VERSION, W::KIND]);
    out.extend_from_slice(&[0; SEAL]);
    word.lay(&mut out);
    let seal = seal(key, W::KIND, &out[HEAD + SEAL..]);
    out[HEAD..HEAD + SEAL].copy_from_slice(&seal);
    out.into()
}

/// Reads a word.
///
/// # Errors
///
/// See [`WireError`].
pub fn decode<W: Word>(bytes: &[u8], key: &GatewayKey) -> Result<W, WireError> {
    let (head, rest) = bytes.split_at_checked(HEAD).ok_or(WireError::Foreign)?;
    if head[..MARK.len()] != MARK {
        return Err(WireError::Foreign);
    }
    if head[2] != VERSION {
        return Err(WireError::Version { found: head[2] });
    }
    let (sealed, body) = rest.split_at_checked(SEAL).ok_or(WireError::Foreign)?;
    if head[3] != W::KIND {
        return Err(WireError::Foreign);
    }
    // Folding the differences leaves no early exit to time.
    let expected = seal(key, W::KIND, body);
    let differs =
        expected.iter().zip(sealed).fold(0, |difference, (left, right)| difference | (left ^ right));
    if differs != 0 {
        return Err(WireError::Seal);
    }
    W::read(body)
}

fn lay<W: Serialize>(word: &W, out: &mut Vec<u8>) {
    let mut body = rmp_serde::Serializer::new(out).with_struct_map();
    word.serialize(&mut body).expect("words hold nothing that MessagePack cannot, and memory takes all");
}

fn read<W: DeserializeOwned>(body: &[u8]) -> Result<W, WireError> {
    let mut reader = rmp_serde::Deserializer::from_read_ref(body);
    reader.set_max_depth(DEPTH_MAX);
    W::deserialize(&mut reader).map_err(|error| WireError::Body(error.to_string()))
}

/// No word is nested deeper; what a later release adds may be a little.
const DEPTH_MAX: usize = 64;

fn seal(key: &GatewayKey, kind: u8, body: &[u8]) -> [u8; SEAL] {
    key.seal_word(&[VERSION, kind], body)
}
