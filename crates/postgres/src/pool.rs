//! Connections for reading, and for keys, shared by all branches of a store: as many as are needed, up to a bound.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::LinkError;
use crate::link::Link;
use crate::server::Server;

/// A bounded set of links to one server. Clones share it.
#[derive(Clone)]
pub struct Pool {
    inner: Arc<Inner>,
}

struct Inner {
    server: Server,
    most: usize,
    state: Mutex<State>,
    free: Condvar,
}

#[derive(Default)]
struct State {
    idle: Vec<Link>,
    /// Idle ones and ones in use.
    open: usize,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Pool").field("server", &self.inner.server).finish_non_exhaustive()
    }
}

impl Pool {
    /// At most `most` links to `server`; none is made yet.
    #[must_use]
    pub fn new(server: Server, most: usize) -> Self {
        let inner = Inner { server, most: most.max(1), state: Mutex::default(), free: Condvar::new() };
        Self { inner: Arc::new(inner) }
    }

    /// The server.
    #[must_use]
    pub fn server(&self) -> &Server {
        &self.inner.server
    }

    /// Lends a link to `work`, which may be done twice: a link that was gone is replaced once and asked again.
    ///
    /// # Errors
    ///
    /// [`LinkError`]; [`LinkError::Busy`] if all stay in use for as long as a commit may take.
    pub fn lend<T>(&self, mut work: impl FnMut(&Link) -> Result<T, LinkError>) -> Result<T, LinkError> {
        let (mut lent, was_idle) = self.borrow()?;
        let mut outcome = work(lent.link());
        if was_idle && lent.link().is_closed() && outcome.is_err() {
            // The server was away meanwhile, or another one is there now: links of before are of no use.
            self.forget_idle();
            lent.link = Some(self.inner.server.connect()?);
            outcome = work(lent.link());
        }
        lent.good = !lent.link().is_closed()
            && !matches!(outcome, Err(LinkError::Late { .. } | LinkError::Warned { .. }));
        outcome
    }

    fn borrow(&self) -> Result<(Lent<'_>, bool), LinkError> {
        let end = Instant::now() + self.inner.server.options().patience;
        let mut state = self.inner.state();
        loop {
            // Links to a host that is not the good one any more would read what is old.
            let (first, before) = (self.inner.server.first(), state.idle.len());
            state.idle.retain(|link| link.host() == first);
            state.open -= before - state.idle.len();
            if let Some(link) = state.idle.pop() {
                return Ok((Lent { pool: self, link: Some(link), good: false }, true));
            }
            if state.open < self.inner.most {
                state.open += 1;
                drop(state);
                let mut lent = Lent { pool: self, link: None, good: false };
                lent.link = Some(self.inner.server.connect()?);
                return Ok((lent, false));
            }
            let left = end.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                return Err(LinkError::Busy { place: self.inner.server.place().to_owned() });
            }
            state = self.inner.free.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn forget_idle(&self) {
        let mut state = self.inner.state();
        state.open -= state.idle.len();
        let idle = std::mem::take(&mut state.idle);
        drop(state);
        drop(idle);
        self.inner.free.notify_all();
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A link in use; it goes back if it is still good.
struct Lent<'a> {
    pool: &'a Pool,
    link: Option<Link>,
    good: bool,
}

impl Lent<'_> {
    fn link(&self) -> &Link {
        self.link.as_ref().expect("lent with a link")
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let mut state = self.pool.inner.state();
        match self.link.take() {
            Some(link) if self.good => state.idle.push(link),
            _ => state.open -= 1,
        }
        drop(state);
        self.pool.inner.free.notify_one();
    }
}
