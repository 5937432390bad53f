//! What every handler shares.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use skerry_book::Seed;
use tokio::sync::Mutex;

use crate::bank::Bank;
use crate::body::Room;
use crate::config::Limits;
use crate::digests::Digests;
use crate::meters::Meters;
use crate::newcomers::Newcomers;
use crate::notes::NoteKeys;
use crate::sealing::DocumentSecret;
use crate::tokens::TokenStore;

/// The secrets of the institution that the gateway needs.
#[derive(Debug, Clone)]
pub struct Secrets {
    /// Documents are found by HMAC under it.
    pub document: DocumentSecret,
    /// Ids of imports and of transfers named by a key are derived from it.
    pub seed: Seed,
}

/// What every handler shares. Handlers get it as [`Shared`].
#[derive(Debug)]
pub struct Gateway {
    /// The branches.
    pub bank: Bank,
    /// The tokens.
    pub tokens: Arc<TokenStore>,
    /// The secrets.
    pub secrets: Secrets,
    /// The bounds.
    pub limits: Limits,
    /// Room for large bodies.
    pub room: Arc<Room>,
    /// What is counted.
    pub meters: Arc<Meters>,
    /// When it began.
    pub begun: Instant,
    /// Held while a customer is being placed: one document must not land in two branches at once. By hash.
    pub placing: [Mutex<()>; PLACES],
    /// The bank is stopping: streams end.
    pub stopping: Arc<AtomicBool>,
    /// Where newcomers go, and the keys that lie ready for them.
    pub(crate) newcomers: Newcomers,
    /// Digests of requests and notes.
    pub(crate) digests: Digests,
    /// Under which keys customers' notes lie.
    pub(crate) note_keys: NoteKeys,
}

/// Locks for placing customers.
pub const PLACES: usize = 64;

/// How handlers hold it.
pub type Shared = Arc<Gateway>;

impl Gateway {
    /// A gateway to `bank`.
    #[must_use]
    pub fn new(bank: Bank, tokens: Arc<TokenStore>, secrets: Secrets, limits: Limits) -> Shared {
        let digests = secrets.document.digests();
        Arc::new(Self {
            bank,
            tokens,
            secrets,
            limits,
            room: Arc::new(Room::new(limits.bodies_bytes)),
            meters: Arc::new(Meters::default()),
            begun: Instant::now(),
            placing: std::array::from_fn(|_| Mutex::new(())),
            stopping: Arc::new(AtomicBool::new(false)),
            newcomers: Newcomers::default(),
            digests,
            note_keys: NoteKeys::default(),
        })
    }
}
