//! UUIDs as text, and version 7 (RFC 9562, 5.7) for those who let us choose.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

static LAST: AtomicU64 = AtomicU64::new(0);

/// A new UUIDv7: the time in milliseconds and 12 bits of its fraction, never twice the same prefix in one process,
/// then 62 random bits.
#[must_use]
pub fn uuid_v7() -> u128 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let millis = u64::try_from(since.as_millis()).unwrap_or(0);
    let fraction = u64::from(since.subsec_nanos() % 1_000_000) * 4_096 / 1_000_000;
    let now = millis << 12 | fraction;
    // Two calls within a 4096th of a millisecond take the next tick.
    let tick = match LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(now.max(last + 1))) {
        Ok(last) | Err(last) => now.max(last + 1),
    };
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u64(tick);
    let random = hasher.finish() >> 2;
    let (millis, fraction) = (u128::from(tick >> 12), u128::from(tick & 0xfff));
    millis << 80 | 7 << 76 | fraction << 64 | 0b10 << 62 | u128::from(random)
}

/// The 36 characters of a UUID.
#[must_use]
pub fn uuid_text(value: u128) -> String {
    let hex = format!("{value:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// Reads the 36 characters of a UUID.
#[must_use]
pub fn parse_uuid(text: &str) -> Option<u128> {
    let shaped =
        text.len() == 36 && text.char_indices().all(|(at, c)| matches!(at, 8 | 13 | 18 | 23) == (c == '-'));
    if !shaped || !text.chars().all(|c| c == '-' || c.is_ascii_hexdigit()) {
        return None;
    }
    u128::from_str_radix(&text.replace('-', ""), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_version_7_rising_and_read_back() {
        let mut last = 0;
        for _ in 0..10_000 {
            let id = uuid_v7();
            assert_eq!((id >> 76) & 0xf, 7);
            assert_eq!((id >> 62) & 3, 2);
            assert!(id >> 64 > last >> 64, "rising");
            assert_eq!(parse_uuid(&uuid_text(id)), Some(id));
            last = id;
        }
        assert_eq!(parse_uuid("+1234567-1234-7234-8234-123456789012"), None);
        assert_eq!(parse_uuid("0123456789-1234-7234-8234-1234567890"), None);
    }
}
