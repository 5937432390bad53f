//! The keys that lie ready for newcomers, by branch.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use skerry_branch::keys::{KeyError, KeyRef, Keys};

/// Keys made at once: each making syncs two files, or is a commit in a store.
const KEYS_TOGETHER: usize = 32;

/// See the module. Keys that are far away keep nobody waiting but their own branch's newcomers.
#[derive(Debug, Default)]
pub(crate) struct Newcomers {
    branches: Mutex<BTreeMap<u16, Arc<Mutex<Ready>>>>,
}

#[derive(Debug, Default)]
struct Ready {
    keys: Vec<KeyRef>,
    /// When making more failed last, and why.
    failed: Option<(Instant, String)>,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Newcomers {
    /// A key that nobody has. Those left over at a restart are never used.
    ///
    /// # Errors
    ///
    /// As [`Keys::create`]; [`KeyError::Away`] if that failed for somebody else while this waited for them.
    pub(crate) fn key(&self, branch: u16, keys: &dyn Keys) -> Result<KeyRef, KeyError> {
        let came = Instant::now();
        let ready = Arc::clone(held(&self.branches).entry(branch).or_default());
        // Held while keys are made: whoever waits finds them ready, or hears why they are not.
        let mut ready = held(&ready);
        if ready.keys.is_empty() {
            if let Some((at, why)) = &ready.failed
                && *at > came
            {
                return Err(KeyError::Away(why.clone()));
            }
            match keys.create(KEYS_TOGETHER) {
                Ok(made) => *ready = Ready { keys: made, failed: None },
                Err(error) => {
                    ready.failed = Some((Instant::now(), error.to_string()));
                    return Err(error);
                }
            }
        }
        ready.keys.pop().ok_or(KeyError::Unknown(0))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;

    /// For what must come; it is never waited for in vain.
    const PATIENCE: Duration = Duration::from_secs(60);

    /// A place that makes keys so, and does nothing else.
    struct Making<F>(F);

    fn unused<T>() -> Result<T, KeyError> {
        panic!("newcomers only make keys")
    }

    impl<F: Fn() -> Result<Vec<KeyRef>, KeyError> + Send + Sync> Keys for Making<F> {
        fn create(&self, _: usize) -> Result<Vec<KeyRef>, KeyError> {
            (self.0)()
        }

        fn seal(&self, _: KeyRef, _: &[u8]) -> Result<Vec<u8>, KeyError> {
            unused()
        }

        fn unseal(&self, _: KeyRef, _: &[u8]) -> Result<Vec<u8>, KeyError> {
            unused()
        }

        fn erase(&self, _: KeyRef) -> Result<(), KeyError> {
            unused()
        }

        fn erased(&self) -> Result<Vec<KeyRef>, KeyError> {
            unused()
        }

        fn not_erased(&self, _: &[KeyRef]) -> Result<Vec<KeyRef>, KeyError> {
            unused()
        }
    }

    #[test]
    fn a_store_that_is_away_keeps_no_other_branch_waiting_and_is_asked_once_for_all_who_wait() {
        let ((asked, is_asked), (let_go, answer)) = (channel(), channel());
        let answer = Mutex::new(answer);
        let far = Making(|| {
            asked.send(()).unwrap();
            held(&answer).recv_timeout(PATIENCE).unwrap();
            Err(KeyError::Away("the store is down".to_owned()))
        });
        let near = Making(|| Ok(vec![KeyRef(1), KeyRef(2)]));
        let newcomers = Newcomers::default();
        std::thread::scope(|scope| {
            let ask = || newcomers.key(1, &far);
            let first = scope.spawn(ask);
            is_asked.recv_timeout(PATIENCE).unwrap();
            assert_eq!(newcomers.key(2, &near).unwrap(), KeyRef(2), "another branch's");
            let ready = Arc::clone(&held(&newcomers.branches)[&1]);
            let others = [scope.spawn(ask), scope.spawn(ask)];
            // Each of them has said that it waits: the map, two threads with it in hand, the first one, and this.
            let end = Instant::now() + PATIENCE;
            while Arc::strong_count(&ready) < 5 {
                assert!(Instant::now() < end, "they do not come");
                std::thread::yield_now();
            }
            let_go.send(()).unwrap();
            for waited in [first].into_iter().chain(others) {
                let refused = waited.join().unwrap().unwrap_err();
                assert!(refused.to_string().contains("the store is down"), "{refused}");
            }
            assert!(is_asked.try_recv().is_err(), "it was asked once");
            let_go.send(()).unwrap();
            assert!(newcomers.key(1, &far).is_err());
            assert!(is_asked.try_recv().is_ok(), "whoever comes later asks anew");
        });
    }
}
