//! A branch's lease as the branch's own threads see it: an end on the boot clock, set by the host, read at every answer.

use std::sync::atomic::{AtomicU64, Ordering};

use skerry_branch::Leash;

/// Reads a clock that goes on while the machine sleeps and the process is stopped, in microseconds.
pub type BootClock = Box<dyn Fn() -> u64 + Send + Sync>;

/// See the module. Nothing is granted at first.
pub struct Lease {
    boot: BootClock,
    /// Up to here it may be relied upon: its margin is taken off already.
    end_us: AtomicU64,
}

impl Lease {
    /// A lease by `boot`.
    #[must_use]
    pub fn new(boot: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self { boot: Box::new(boot), end_us: AtomicU64::new(0) }
    }

    /// It may be relied upon before `end_us`; 0 takes it away.
    pub fn holds_until(&self, end_us: u64) {
        self.end_us.store(end_us, Ordering::Release);
    }
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Lease").field("end_us", &self.end_us).finish_non_exhaustive()
    }
}

impl Leash for Lease {
    fn holds(&self) -> bool {
        // The end first: it may only move on while the clock is read.
        let end_us = self.end_us.load(Ordering::Acquire);
        (self.boot)() < end_us
    }
}

/// The machine's boot clock.
#[must_use]
pub fn boot_us() -> u64 {
    #[cfg(target_os = "linux")]
    let clock = rustix::time::ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    let clock = rustix::time::ClockId::Monotonic;
    let time = rustix::time::clock_gettime(clock);
    let (seconds, nanos) = (u64::try_from(time.tv_sec), u64::try_from(time.tv_nsec));
    seconds.unwrap_or(0).saturating_mul(1_000_000).saturating_add(nanos.unwrap_or(0) / 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    static NOW: AtomicU64 = AtomicU64::new(0);

    #[test]
    fn it_holds_up_to_its_end_by_the_clock_of_the_moment() {
        let lease = Lease::new(|| NOW.load(Ordering::SeqCst));
        assert!(!lease.holds(), "nothing was granted");
        lease.holds_until(100);
        NOW.store(99, Ordering::SeqCst);
        assert!(lease.holds());
        NOW.store(100, Ordering::SeqCst);
        assert!(!lease.holds());
        lease.holds_until(200);
        assert!(lease.holds());
        lease.holds_until(0);
        assert!(!lease.holds());
    }

    #[test]
    fn the_boot_clock_goes_on() {
        let before = boot_us();
        assert!(before > 0);
        assert!(boot_us() >= before);
    }
}
