//! One endpoint's inbox: many threads put in, one takes out, and every lane has a bound.
//!
//! The taker takes all that waits in one go, so the lock is held for a few instructions per message on one side and
//! once per batch on the other. What has been taken but not yet looked at counts against the bounds until the batch
//! is used up: they are never exceeded, and may be met a batch early.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::options::Bounds;
use crate::seam::Wake;

/// Rings once when there is something, if the taker has said that it found nothing.
#[derive(Default)]
pub struct Bell {
    armed: AtomicBool,
    wake: Mutex<Option<Wake>>,
}

impl std::fmt::Debug for Bell {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Bell").field("armed", &self.armed).finish_non_exhaustive()
    }
}

impl Bell {
    /// Whom to wake.
    pub fn set(&self, wake: Wake) {
        *self.wake.lock().unwrap_or_else(PoisonError::into_inner) = Some(wake);
    }

    /// Says that the next ring is wanted. Look once more afterwards.
    pub fn arm(&self) {
        self.armed.store(true, Ordering::SeqCst);
    }

    /// Wakes the taker, if it waits.
    pub fn ring(&self) {
        if self.armed.load(Ordering::SeqCst) && self.armed.swap(false, Ordering::SeqCst) {
            let wake = self.wake.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(wake) = wake {
                wake();
            }
        }
    }
}

/// Why something was not put in; it comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushError {
    /// The lane is full.
    Full,
    /// The lane is closed.
    Closed,
}

#[derive(Debug)]
struct Lane {
    bounds: Bounds,
    messages: usize,
    bytes: usize,
    open: bool,
}

#[derive(Debug)]
struct Item<T> {
    lane: usize,
    bytes: usize,
    thing: T,
}

#[derive(Debug)]
struct State<T> {
    queue: VecDeque<Item<T>>,
    lanes: Vec<Lane>,
}

/// The side that many threads put in.
#[derive(Debug)]
pub struct Inbox<T> {
    state: Mutex<State<T>>,
    bell: Bell,
}

/// The side that takes out.
#[derive(Debug)]
pub struct Taker<T> {
    inbox: Arc<Inbox<T>>,
    batch: VecDeque<Item<T>>,
    used: Vec<(usize, usize)>,
}

/// An empty inbox without lanes.
#[must_use]
pub fn inbox<T>() -> Taker<T> {
    let state = Mutex::new(State { queue: VecDeque::new(), lanes: Vec::new() });
    let inbox = Arc::new(Inbox { state, bell: Bell::default() });
    Taker { inbox, batch: VecDeque::new(), used: Vec::new() }
}

impl<T> Inbox<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bell that is rung when something is put in.
    #[must_use]
    pub fn bell(&self) -> &Bell {
        &self.bell
    }

    /// Puts `thing` into `lane`, where it counts `bytes`.
    ///
    /// # Errors
    ///
    /// It comes back if the lane is full or closed.
    pub fn push(&self, lane: usize, bytes: usize, thing: T) -> Result<(), (PushError, T)> {
        let mut state = self.state();
        let Some(room) = state.lanes.get_mut(lane).filter(|lane| lane.open) else {
            return Err((PushError::Closed, thing));
        };
        if !room.bounds.fit(room.messages, room.bytes, bytes) {
            return Err((PushError::Full, thing));
        }
        room.messages += 1;
        room.bytes += bytes;
        state.queue.push_back(Item { lane, bytes, thing });
        drop(state);
        self.bell.ring();
        Ok(())
    }

    /// Closes a lane: what is in it is still taken.
    pub fn close(&self, lane: usize) {
        if let Some(lane) = self.state().lanes.get_mut(lane) {
            lane.open = false;
        }
    }

    /// Closes all lanes and drops what is in them.
    pub fn shut(&self) {
        let mut state = self.state();
        state.lanes.iter_mut().for_each(|lane| lane.open = false);
        let dropped = std::mem::take(&mut state.queue);
        drop(state);
        drop(dropped);
    }
}

impl<T> Taker<T> {
    /// The other side.
    #[must_use]
    pub fn inbox(&self) -> &Arc<Inbox<T>> {
        &self.inbox
    }

    /// Opens a lane; one that was closed and is empty is used again.
    pub fn lane(&mut self, bounds: Bounds) -> usize {
        let fresh = Lane { bounds, messages: 0, bytes: 0, open: true };
        let mut state = self.inbox.state();
        let found = state.lanes.iter().position(|lane| !lane.open && lane.messages == 0);
        if let Some(index) = found {
            state.lanes[index] = fresh;
            return index;
        }
        state.lanes.push(fresh);
        self.used.push((0, 0));
        state.lanes.len() - 1
    }

    /// The oldest thing that waits. When there is none the bell is armed.
    pub fn take(&mut self) -> Option<T> {
        if self.batch.is_empty() {
            self.refill();
        }
        let Item { lane, bytes, thing } = self.batch.pop_front()?;
        let used = &mut self.used[lane];
        used.0 += 1;
        used.1 += bytes;
        Some(thing)
    }

    fn refill(&mut self) {
        let mut state = self.inbox.state();
        for (lane, used) in state.lanes.iter_mut().zip(&mut self.used) {
            lane.messages -= used.0;
            lane.bytes -= used.1;
            *used = (0, 0);
        }
        std::mem::swap(&mut self.batch, &mut state.queue);
        if self.batch.is_empty() {
            self.inbox.bell.arm();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    #[test]
    fn lanes_are_bounded_in_both_measures_until_used() {
        let mut taker = inbox();
        let small = taker.lane(Bounds::new(2, 10));
        let other = taker.lane(Bounds::new(100, 1000));
        let inbox = Arc::clone(taker.inbox());
        assert_eq!(inbox.push(small, 50, 'a'), Ok(()), "an empty lane takes any one");
        assert_eq!(inbox.push(small, 1, 'b'), Err((PushError::Full, 'b')));
        assert_eq!(inbox.push(other, 1, 'c'), Ok(()));
        assert_eq!(taker.take(), Some('a'));
        assert_eq!(inbox.push(small, 1, 'd'), Err((PushError::Full, 'd')), "the batch is not used up");
        assert_eq!(taker.take(), Some('c'));
        assert_eq!(taker.take(), None);
        for letter in ['e', 'f'] {
            assert_eq!(inbox.push(small, 5, letter), Ok(()));
        }
        assert_eq!(inbox.push(small, 0, 'g'), Err((PushError::Full, 'g')));
        inbox.close(small);
        assert_eq!(inbox.push(small, 0, 'h'), Err((PushError::Closed, 'h')));
        assert_eq!((taker.take(), taker.take(), taker.take()), (Some('e'), Some('f'), None));
        assert_eq!(taker.lane(Bounds::new(1, 1)), small, "used again");
        assert_eq!(inbox.push(small, 0, 'i'), Ok(()));
        inbox.shut();
        assert_eq!(inbox.push(other, 0, 'j'), Err((PushError::Closed, 'j')));
        assert_eq!(taker.take(), None);
    }

    #[test]
    fn the_bell_rings_once_and_only_for_one_who_waits() {
        let mut taker = inbox();
        let lane = taker.lane(Bounds::new(10, 10));
        let rung = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&rung);
        taker.inbox().bell().set(Arc::new(move || {
            counter.fetch_add(1, Ordering::SeqCst);
        }));
        let push = |taker: &Taker<u8>| taker.inbox().push(lane, 1, 1).unwrap();
        push(&taker);
        assert_eq!(rung.load(Ordering::SeqCst), 0);
        assert_eq!((taker.take(), taker.take()), (Some(1), None));
        push(&taker);
        push(&taker);
        assert_eq!(rung.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn nothing_is_lost_between_threads_and_a_waiting_taker_is_woken() {
        const COUNT: u32 = 20_000;
        let mut taker = inbox();
        let lane = taker.lane(Bounds::new(64, 1 << 20));
        let thread = std::thread::current();
        taker.inbox().bell().set(Arc::new(move || thread.unpark()));
        std::thread::scope(|scope| {
            for sender in 0..2_u32 {
                let inbox = Arc::clone(taker.inbox());
                scope.spawn(move || {
                    for number in 0..COUNT {
                        while inbox.push(lane, 4, (sender, number)).is_err() {
                            std::thread::yield_now();
                        }
                    }
                });
            }
            let mut next = [0, 0];
            while next != [COUNT, COUNT] {
                match taker.take() {
                    Some((sender, number)) => {
                        let next = &mut next[sender as usize];
                        assert_eq!(number, *next, "in order per sender");
                        *next += 1;
                    }
                    // A ring that were lost would hang here.
                    None => std::thread::park(),
                }
            }
        });
    }
}
