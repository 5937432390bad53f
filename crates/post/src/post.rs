//! Who is hosted here, which bus is chosen, and the branch's side of it: the courier.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, Weak};
use std::thread::JoinHandle;

use skerry_branch::BranchHandle;
use skerry_branch::api::GatewayKey;
use skerry_branch::channels::{Courier, Outgoing};
use skerry_bus::{Bus, Connect, ConnectError, Limits, Name, Subject, ThreadWait};

use crate::carrier::Carrier;
use crate::figures::{Figures, Line, count};

/// The name of the way that needs no bus: branches of one process hand each other their messages.
pub const LOCAL: &str = "local";

/// Messages that wait for the post's thread, and their bytes.
const OUTBOX_MAX: usize = 4_096;
const OUTBOX_BYTES_MAX: usize = 64 << 20;

/// Connects an endpoint of this name to a bus; may wait, and is asked again until it succeeds.
pub type Connecting = Box<dyn FnMut(Name) -> Result<Box<dyn Bus>, ConnectError> + Send>;

/// A bus that messages may go over.
pub struct Route {
    /// What it is called; never [`LOCAL`], and no two are called the same.
    pub name: String,
    /// How to get on it.
    pub connect: Connecting,
}

impl Route {
    /// Over what `connector` gives.
    pub fn over<C>(name: &str, connector: C) -> Self
    where
        C: Connect + Send + 'static,
        C::Bus: 'static,
    {
        let connect: Connecting = Box::new(move |endpoint| {
            let bus = connector.connect(endpoint, Limits::default())?;
            Ok(Box::new(bus))
        });
        Self { name: name.to_owned(), connect }
    }
}

/// How a post is set up.
pub struct PostOptions {
    /// This process among those of the bank: no other one that lives has it.
    pub endpoint: Name,
    /// What seals messages.
    pub key: GatewayKey,
    /// Whether the bank has branches in other processes, which [`LOCAL`] does not reach: then it is never chosen.
    pub among: bool,
    /// Whether branches of this process hand each other their messages whatever bus is chosen.
    pub straight: bool,
    /// Where messages go while nobody has chosen: [`LOCAL`] or a route's name.
    pub usual: String,
    /// The buses.
    pub routes: Vec<Route>,
}

impl PostOptions {
    /// Without any bus.
    #[must_use]
    pub fn local(key: GatewayKey) -> Self {
        let endpoint = Name::new("post").expect("a name");
        Self { endpoint, key, among: false, straight: true, usual: LOCAL.to_owned(), routes: Vec::new() }
    }
}

/// Why a bus cannot be chosen here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoWay {
    /// No bus has this name here.
    #[error("there is no bus {name:?}; there are: {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// Those that there are, with commas.
        known: String,
    },
    /// It is [`LOCAL`], and the bank has branches in other processes.
    #[error(
        "{LOCAL:?} ends at this process, and the bank's branches are open in several; over processes go: {known}"
    )]
    NotShared {
        /// Those that reach other processes, with commas.
        known: String,
    },
}

/// What is said to branch `number` is published under this.
///
/// # Panics
///
/// Never: a number is a token.
#[must_use]
pub fn subject(number: u16) -> Subject {
    Subject::new(&format!("channel.{number}")).expect("letters, a dot and digits")
}

#[derive(Default)]
pub(crate) struct Branches {
    pub(crate) hosted: BTreeMap<u16, BranchHandle>,
    elsewhere: BTreeSet<u16>,
    /// Raised with every change of those hosted.
    pub(crate) version: u64,
}

#[derive(Default)]
pub(crate) struct Outbox {
    pub(crate) messages: VecDeque<(usize, Outgoing)>,
    bytes: usize,
}

impl Outbox {
    /// Whether it was taken, and was the first.
    fn put(&mut self, line: usize, message: Outgoing) -> Option<bool> {
        let bytes = self.bytes + message.bytes.len();
        if self.messages.len() >= OUTBOX_MAX || (bytes > OUTBOX_BYTES_MAX && !self.messages.is_empty()) {
            return None;
        }
        self.bytes = bytes;
        self.messages.push_back((line, message));
        Some(self.messages.len() == 1)
    }

    pub(crate) fn take_all(&mut self) -> VecDeque<(usize, Outgoing)> {
        self.bytes = 0;
        std::mem::take(&mut self.messages)
    }
}

/// What the post's clones, the couriers and the thread share.
pub(crate) struct Shared {
    pub(crate) key: GatewayKey,
    among: bool,
    straight: bool,
    usual: usize,
    chosen: AtomicUsize,
    /// [`LOCAL`] first, then the routes.
    pub(crate) lines: Vec<Line>,
    pub(crate) branches: RwLock<Branches>,
    pub(crate) outbox: Mutex<Outbox>,
    pub(crate) wait: ThreadWait,
    pub(crate) stop: AtomicBool,
}

impl Shared {
    pub(crate) fn branches(&self) -> RwLockReadGuard<'_, Branches> {
        self.branches.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a message away. On a branch's thread: it does not wait.
    fn carry(&self, message: Outgoing) {
        let chosen = self.chosen.load(Ordering::Relaxed);
        if self.straight || chosen == 0 {
            let near = self.branches().hosted.get(&message.to).cloned();
            if let Some(branch) = near {
                return self.deliver(&self.lines[0], &branch, message.bytes, true);
            }
        }
        let line = &self.lines[chosen];
        if chosen == 0 || !line.is_up() {
            // What waits for a link to come back is old by then; it is said again anyway.
            return count(&line.away);
        }
        let put = self.outbox.lock().unwrap_or_else(PoisonError::into_inner).put(chosen, message);
        match put {
            None => count(&line.busy),
            Some(true) => self.wait.wake()(),
            Some(false) => {}
        }
    }

    /// Puts a message into a branch's queue.
    pub(crate) fn deliver(&self, line: &Line, branch: &BranchHandle, bytes: bytes::Bytes, straight: bool) {
        match branch.deliver(bytes) {
            Ok(()) => {
                count(&line.heard);
                if straight {
                    count(&line.sent);
                }
            }
            // It will be said again.
            Err(_) => count(&line.busy),
        }
    }
}

/// The post of a process, from any thread. Clones are the same.
#[derive(Clone)]
pub struct Post(Arc<Shared>);

impl std::fmt::Debug for Post {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let chosen = &self.0.lines[self.0.chosen.load(Ordering::Relaxed)].name;
        formatter.debug_struct("Post").field("chosen", chosen).finish_non_exhaustive()
    }
}

impl Post {
    /// A branch is open in this process: from now on it and all that are known may pay each other.
    pub fn host(&self, handle: &BranchHandle) {
        self.change(|branches| {
            branches.hosted.insert(handle.number(), handle.clone());
            branches.version += 1;
        });
    }

    /// A branch is open in this process no more: it is somewhere else in the bank, and what is said to it goes over the bus.
    pub fn leave(&self, number: u16) {
        self.change(|branches| {
            if branches.hosted.remove(&number).is_some() {
                branches.elsewhere.insert(number);
                branches.version += 1;
            }
        });
    }

    /// These branches are somewhere in the bank, in this process or in another.
    pub fn know(&self, numbers: &[u16]) {
        self.change(|branches| branches.elsewhere.extend(numbers));
    }

    fn change(&self, change: impl FnOnce(&mut Branches)) {
        let mut branches = self.0.branches.write().unwrap_or_else(PoisonError::into_inner);
        change(&mut branches);
        let peers: BTreeSet<u16> = branches.hosted.keys().chain(&branches.elsewhere).copied().collect();
        let peers: Vec<u16> = peers.into_iter().collect();
        for branch in branches.hosted.values() {
            branch.connect(self.courier(), peers.clone());
        }
        drop(branches);
        self.0.wait.wake()();
    }

    fn courier(&self) -> Courier {
        // Branches outlive the post at a stop, and must not keep it.
        let shared: Weak<Shared> = Arc::downgrade(&self.0);
        Arc::new(move |message: Outgoing| {
            if let Some(shared) = shared.upgrade() {
                shared.carry(message);
            }
        })
    }

    /// Sends over the bus `name` from now on; `None` is the usual one. Whether that is another than before.
    ///
    /// # Errors
    ///
    /// [`NoWay`]; nothing has changed.
    pub fn choose(&self, name: Option<&str>) -> Result<bool, NoWay> {
        let line = match name {
            None => self.0.usual,
            Some(name) => self.line(name)?,
        };
        Ok(self.0.chosen.swap(line, Ordering::Relaxed) != line)
    }

    /// Whether there is a way to the bus `name`.
    ///
    /// # Errors
    ///
    /// [`NoWay`].
    pub fn is_up(&self, name: &str) -> Result<bool, NoWay> {
        self.line(name).map(|line| self.0.lines[line].is_up())
    }

    fn line(&self, name: &str) -> Result<usize, NoWay> {
        let among = self.0.among;
        let names = self.0.lines.iter().map(|line| line.name.as_str()).skip(usize::from(among));
        let known = || names.collect::<Vec<_>>().join(", ");
        match self.0.lines.iter().position(|line| line.name == name) {
            Some(0) if among => Err(NoWay::NotShared { known: known() }),
            Some(found) => Ok(found),
            None => Err(NoWay::Unknown { name: name.to_owned(), known: known() }),
        }
    }

    /// Where messages go while nobody has chosen.
    #[must_use]
    pub fn usual(&self) -> &str {
        &self.0.lines[self.0.usual].name
    }

    /// Whether branches of this process hand each other their messages whatever bus is chosen.
    #[must_use]
    pub fn straight(&self) -> bool {
        self.0.straight
    }

    /// All buses, [`LOCAL`] first.
    #[must_use]
    pub fn figures(&self) -> Vec<Figures> {
        let chosen = self.0.chosen.load(Ordering::Relaxed);
        self.0.lines.iter().enumerate().map(|(at, line)| line.figures(at == chosen)).collect()
    }
}

/// The post with its thread; dropping it ends both. What waits to be carried then is dropped.
#[derive(Debug)]
pub struct PostThread {
    post: Post,
    /// None without a bus.
    thread: Option<JoinHandle<()>>,
}

impl PostThread {
    /// Begins; buses are connected in the background, for as long as that takes.
    ///
    /// # Errors
    ///
    /// The machine gives no thread, or the usual bus is none of the routes, or does not reach the other processes that there are.
    pub fn start(options: PostOptions) -> std::io::Result<Self> {
        let names = options.routes.iter().map(|route| Line::new(&route.name, false));
        let lines: Vec<Line> = std::iter::once(Line::new(LOCAL, true)).chain(names).collect();
        let usual = lines.iter().position(|line| line.name == options.usual);
        let usual = usual.filter(|usual| !options.among || *usual > 0);
        let usual = usual.ok_or_else(|| std::io::Error::other(format!("no bus {:?}", options.usual)))?;
        let shared = Arc::new(Shared {
            key: options.key,
            among: options.among,
            straight: options.straight,
            usual,
            chosen: AtomicUsize::new(usual),
            lines,
            branches: RwLock::default(),
            outbox: Mutex::default(),
            wait: ThreadWait::default(),
            stop: AtomicBool::new(false),
        });
        let thread = if options.routes.is_empty() {
            None
        } else {
            let carrier = Carrier::new(Arc::clone(&shared), options.endpoint, options.routes)?;
            Some(std::thread::Builder::new().name("post".into()).spawn(move || carrier.run())?)
        };
        Ok(Self { post: Post(shared), thread })
    }

    /// The post.
    #[must_use]
    pub fn post(&self) -> Post {
        self.post.clone()
    }
}

impl Drop for PostThread {
    fn drop(&mut self) {
        self.post.0.stop.store(true, Ordering::Relaxed);
        self.post.0.wait.wake()();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
