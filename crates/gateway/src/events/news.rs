//! That something has happened somewhere: whoever waits for events is woken, and the branches' threads are not held up.
//!
//! ```text
//! writer thread ── happened() ──► usher, a task ── at most every 5 ms ──► all who listen
//! ```
//!
//! While nobody listens, a batch costs its branch two loads. While somebody does, it costs one waking every [`PACE`] at
//! most, however many listen: the usher wakes the others. News carries nothing: what happened is read from the journal.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Weak};
use std::time::Duration;

use skerry_branch::Watcher;
use tokio::sync::{Notify, watch};

/// Those who listen are woken at most so often.
const PACE: Duration = Duration::from_millis(5);

/// They are woken at least so often: to see whether they should go on, and for a branch that does not tell.
const TICK: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct News {
    listeners: AtomicUsize,
    bell: Notify,
    rounds: watch::Sender<u64>,
    ushered: AtomicBool,
}

impl News {
    /// What a branch calls when more of it is durable.
    pub(crate) fn watcher(self: &Arc<Self>) -> Watcher {
        let news = Arc::clone(self);
        Arc::new(move || news.happened())
    }

    fn happened(&self) {
        // Who begins to listen counts itself before it looks at what is durable; we have made it durable before we look at
        // the count. One of the two sees the other.
        fence(Ordering::SeqCst);
        if self.listeners.load(Ordering::Relaxed) > 0 {
            self.bell.notify_one();
        }
    }

    /// Begins to listen: what becomes durable from now on is heard. Needs a runtime.
    pub(crate) fn listen(self: &Arc<Self>) -> Listener {
        self.listeners.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if !self.ushered.swap(true, Ordering::Relaxed) {
            tokio::spawn(usher(Arc::downgrade(self)));
        }
        Listener { news: Arc::clone(self), rounds: self.rounds.subscribe() }
    }
}

async fn usher(news: Weak<News>) {
    loop {
        let Some(news) = news.upgrade() else { return };
        tokio::select! {
            () = news.bell.notified() => {}
            () = tokio::time::sleep(TICK) => {}
        }
        news.rounds.send_modify(|round| *round = round.wrapping_add(1));
        drop(news);
        tokio::time::sleep(PACE).await;
    }
}

/// Somebody who waits for news.
#[derive(Debug)]
pub(crate) struct Listener {
    news: Arc<News>,
    rounds: watch::Receiver<u64>,
}

impl Listener {
    /// Waits until something may have happened since the last call, at most [`TICK`] and a little.
    pub(crate) async fn heard(&mut self) {
        // The sender lives as long as we do.
        let _lives = self.rounds.changed().await;
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.news.listeners.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the usher would be woken; takes the ringing away.
    async fn rung(news: &News) -> bool {
        tokio::select! {
            biased;
            () = news.bell.notified() => true,
            () = std::future::ready(()) => false,
        }
    }

    #[tokio::test]
    async fn a_branch_rings_only_while_somebody_listens() {
        let news = Arc::new(News::default());
        let watcher = news.watcher();
        watcher();
        assert!(!rung(&news).await, "nobody listens");
        let listener = news.listen();
        watcher();
        watcher();
        assert!(rung(&news).await, "somebody does");
        assert!(!rung(&news).await, "and is woken once for both");
        drop(listener);
        watcher();
        assert!(!rung(&news).await, "nobody any more");
    }

    #[tokio::test]
    async fn what_happens_while_nobody_waits_is_heard_at_the_next_wait() {
        let news = Arc::new(News::default());
        let (mut one, mut other) = (news.listen(), news.listen());
        news.watcher()();
        one.heard().await;
        other.heard().await;
    }
}
