//! What every handler shares.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use skerry_book::Seed;
use skerry_directory::DirectoryHandle;
use skerry_post::Post;

use crate::bank::Bank;
use crate::body::Room;
use crate::buses;
use crate::config::Limits;
use crate::digests::Digests;
use crate::events::outlet::{Begin, Outlet, Running};
use crate::events::stream::Open;
use crate::founding::{Founder, Founding};
use crate::meters::Meters;
use crate::newcomers::Newcomers;
use crate::notes::NoteKeys;
use crate::residence::Residence;
use crate::sealing::DocumentSecret;
use crate::tokens::TokenStore;
use crate::webhooks::{OpenError, Settings, Webhooks};

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
    /// The bank is stopping: streams end.
    pub stopping: Arc<AtomicBool>,
    /// Where customers live.
    pub residence: Residence,
    /// The keys that lie ready for newcomers.
    pub(crate) newcomers: Newcomers,
    /// Digests of requests and notes.
    pub(crate) digests: Digests,
    /// Under which keys customers' notes lie.
    pub(crate) note_keys: NoteKeys,
    /// Streams of events and requests that wait for some.
    pub(crate) open_streams: Open,
    /// Who is called with events, once that was begun.
    pub(crate) webhooks: OnceLock<Arc<Webhooks>>,
    /// What carries messages between branches, once that was said.
    pub(crate) buses: OnceLock<Post>,
    /// Where all events go, if that was begun.
    pub(crate) outlet: OnceLock<Running>,
    /// Who makes new branches, once that was said.
    pub(crate) founding: OnceLock<Founding>,
}

/// How handlers hold it.
pub type Shared = Arc<Gateway>;

impl Gateway {
    /// A gateway to `bank`.
    #[must_use]
    pub fn new(
        bank: Bank,
        directory: DirectoryHandle,
        tokens: Arc<TokenStore>,
        secrets: Secrets,
        limits: Limits,
    ) -> Shared {
        let digests = secrets.document.digests();
        Arc::new(Self {
            bank,
            tokens,
            secrets,
            limits,
            room: Arc::new(Room::new(limits.bodies_bytes)),
            meters: Arc::new(Meters::default()),
            begun: Instant::now(),
            stopping: Arc::new(AtomicBool::new(false)),
            residence: Residence::new(directory),
            newcomers: Newcomers::default(),
            digests,
            note_keys: NoteKeys::default(),
            open_streams: Open::default(),
            webhooks: OnceLock::new(),
            buses: OnceLock::new(),
            outlet: OnceLock::new(),
            founding: OnceLock::new(),
        })
    }

    /// Opens the webhooks that are kept beside the tokens and begins to deliver. Needs a runtime. To be said once.
    ///
    /// # Errors
    ///
    /// [`OpenError`].
    pub fn begin_webhooks(self: &Arc<Self>, settings: Settings) -> Result<(), OpenError> {
        let webhooks = Arc::new(Webhooks::open(self.tokens.folder(), self, settings)?);
        if self.webhooks.set(Arc::clone(&webhooks)).is_ok() {
            webhooks.start(self);
        }
        Ok(())
    }

    /// Shows and steers the buses of `post`, and lets it follow what the directory says. Needs a runtime. To be said once.
    pub fn begin_buses(self: &Arc<Self>, post: Post) {
        if self.buses.set(post.clone()).is_ok() {
            tokio::spawn(buses::follow(Shared::clone(self), post));
        }
    }

    /// Lets operators add branches, by `founder`. To be said once.
    pub fn begin_founding(&self, founder: Arc<dyn Founder>) {
        let _said_before = self.founding.set(Founding::new(founder));
    }

    /// Begins to put all events into a log outside of the bank. Needs a runtime. To be said once.
    ///
    /// # Errors
    ///
    /// The file that says how far it was cannot be read.
    pub fn begin_outlet(self: &Arc<Self>, outlet: Arc<dyn Outlet>, begin: Begin) -> std::io::Result<()> {
        let _began_before = self.outlet.set(Running::begin(self, outlet, begin)?);
        Ok(())
    }

    /// Lets webhooks and the log outside finish what is under way and writes how far they are: the last word before the bank
    /// ends.
    pub async fn end_events(self: &Arc<Self>) {
        if let Some(outlet) = self.outlet.get() {
            outlet.end().await;
        }
        if let Some(webhooks) = self.webhooks.get() {
            webhooks.end(self).await;
        }
    }
}
