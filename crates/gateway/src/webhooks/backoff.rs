//! When to try again: twice as long each time, with jitter, up to a bound; and when to give up.

use std::time::Duration;

/// How failures are met.
#[derive(Debug, Clone, Copy)]
pub struct Retries {
    /// Before the second attempt.
    pub first: Duration,
    /// The longest wait.
    pub most: Duration,
    /// After so long without success the webhook is disabled.
    pub give_up: Duration,
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(1),
            most: Duration::from_secs(4 * 3_600),
            give_up: Duration::from_secs(72 * 3_600),
        }
    }
}

impl Retries {
    /// The wait after so many attempts, at least 1: half of it certain, half by `dice`, so that those who failed together do not
    /// come again together. What the receiver asked for is heeded within the longest wait.
    pub(crate) fn wait(&self, attempts: u32, asked: Option<Duration>, dice: u16) -> Duration {
        let doubled = self.first.saturating_mul(1 << attempts.saturating_sub(1).min(30)).min(self.most);
        let jittered = doubled / 2 + (doubled / 2).saturating_mul(u32::from(dice)) / (1 << 16);
        asked.map_or(jittered, |asked| asked.max(jittered)).min(self.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound_and_differ() {
        let retries = Retries::default();
        assert_eq!(retries.wait(1, None, 0), Duration::from_millis(500));
        assert!(retries.wait(1, None, u16::MAX) < Duration::from_secs(1));
        assert_eq!(retries.wait(5, None, 0), Duration::from_secs(8));
        assert_eq!(retries.wait(u32::MAX, None, 0), Duration::from_secs(2 * 3_600));
    }

    #[test]
    fn what_the_receiver_asks_for_is_heeded_within_reason() {
        let retries = Retries::default();
        assert_eq!(retries.wait(1, Some(Duration::from_secs(60)), 0), Duration::from_secs(60));
        assert_eq!(retries.wait(1, Some(Duration::MAX), 0), retries.most);
        assert_eq!(retries.wait(9, Some(Duration::ZERO), 0), Duration::from_secs(128));
    }

    #[test]
    fn three_days_are_some_thirty_attempts() {
        let retries = Retries::default();
        let (mut attempts, mut waited) = (0, Duration::ZERO);
        while waited < retries.give_up {
            attempts += 1;
            waited += retries.wait(attempts, None, 0x8000);
        }
        assert!((30..50).contains(&attempts), "{attempts}");
    }
}
