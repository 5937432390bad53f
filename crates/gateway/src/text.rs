//! Small texts of the wire: hexadecimal, UUIDs and RFC 3339 times.

use std::fmt::Write;

use skerry_money::Date;

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        out.push(char::from(DIGITS[usize::from(byte >> 4)]));
        out.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    out
}

/// Exactly `N` bytes from hexadecimal of either case.
#[must_use]
pub fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != N * 2 {
        return None;
    }
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(out)
}

const fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// A UUID (RFC 9562, 4) as its 128 bits: 36 characters with hyphens, either case.
#[must_use]
pub fn parse_uuid(text: &str) -> Option<u128> {
    let bytes = text.as_bytes();
    if bytes.len() != 36 {
        return None;
    }
    let mut value = 0_u128;
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 8 | 13 | 18 | 23) {
            if *byte != b'-' {
                return None;
            }
        } else {
            value = value << 4 | u128::from(nibble(*byte)?);
        }
    }
    Some(value)
}

/// The 36 characters of a UUID.
#[must_use]
pub fn uuid(value: u128) -> String {
    let mut out = String::with_capacity(36);
    for (at, byte) in value.to_be_bytes().into_iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            out.push('-');
        }
        out.push(char::from(DIGITS[usize::from(byte >> 4)]));
        out.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    out
}

/// An RFC 3339 time in UTC with microseconds, the fraction left out when it is zero.
#[must_use]
pub fn time(time_us: u64) -> String {
    let mut out = String::with_capacity(27);
    let date = Date::at(time_us, 0);
    let seconds = time_us / 1_000_000;
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    let micros = time_us % 1_000_000;
    let _ = write!(out, "{date}T{hour:02}:{minute:02}:{second:02}");
    if micros != 0 {
        let _ = write!(out, ".{micros:06}");
    }
    out.push('Z');
    out
}

/// Microseconds since 1970 of an RFC 3339 time; `None` if it is none or lies before 1970. A fraction is
/// cut to microseconds; second 60 is refused, as the books have no leap seconds.
#[must_use]
pub fn parse_time(text: &str) -> Option<u64> {
    let bytes = text.as_bytes();
    if !text.is_ascii() || bytes.len() < 20 || !matches!(bytes[10], b'T' | b't' | b' ') {
        return None;
    }
    let date = Date::parse(&text[..10]).ok()?;
    if bytes[13] != b':' || bytes[16] != b':' {
        return None;
    }
    let hour = two(&text[11..13], 23)?;
    let minute = two(&text[14..16], 59)?;
    let second = two(&text[17..19], 59)?;
    let (micros, zone) = fraction(&text[19..])?;
    let offset_s = zone_seconds(zone)?;
    let day_s = i64::from(date.days()).checked_mul(86_400)?;
    let seconds = day_s + i64::from(hour * 3_600 + minute * 60 + second) - offset_s;
    u64::try_from(seconds).ok()?.checked_mul(1_000_000)?.checked_add(u64::from(micros))
}

fn two(text: &str, most: u32) -> Option<u32> {
    digits(text).filter(|value| *value <= most)
}

fn digits(text: &str) -> Option<u32> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

fn fraction(text: &str) -> Option<(u32, &str)> {
    let Some(rest) = text.strip_prefix('.') else { return Some((0, text)) };
    let length = rest.bytes().take_while(u8::is_ascii_digit).count();
    if length == 0 || length > 12 {
        return None;
    }
    let (all, zone) = rest.split_at(length);
    let kept = &all[..length.min(6)];
    let scale = 10_u32.pow(u32::try_from(6 - kept.len()).ok()?);
    Some((digits(kept)? * scale, zone))
}

fn zone_seconds(zone: &str) -> Option<i64> {
    if matches!(zone, "Z" | "z") {
        return Some(0);
    }
    if zone.len() != 6 || zone.as_bytes()[3] != b':' {
        return None;
    }
    let sign = match zone.as_bytes()[0] {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let minutes = two(&zone[1..3], 23)? * 60 + two(&zone[4..6], 59)?;
    Some(sign * i64::from(minutes) * 60)
}

/// Now, in microseconds since 1970. Only for stamping tokens and meters: business time is the branch's.
#[must_use]
pub fn now_us() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_are_read_with_any_offset_and_written_in_utc() {
        let cases = [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2024-02-29T23:59:59.5+08:00", Some(1_709_222_399_500_000)),
            ("2024-02-29t15:59:59.123456789z", Some(1_709_222_399_123_456)),
            ("2024-02-30T00:00:00Z", None),
            ("2024-02-29T24:00:00Z", None),
            ("2024-02-29T00:00:60Z", None),
            ("2024-02-29T00:00:00", None),
            ("2024-02-29T00:00:00.Z", None),
            ("2024-02-29T00:00:00+0800", None),
            ("1969-12-31T23:59:59Z", None),
            ("1970-01-01T00:00:00+00:01", None),
            ("２０２４-02-29T00:00:00Z", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_time(text), expected, "{text}");
        }
        assert_eq!(time(1_709_222_399_500_000), "2024-02-29T15:59:59.500000Z");
        assert_eq!(time(0), "1970-01-01T00:00:00Z");
    }

    proptest! {
        #[test]
        fn uuids_read_back(value: u128) {
            prop_assert_eq!(parse_uuid(&uuid(value)), Some(value));
            prop_assert_eq!(parse_uuid(&uuid(value).to_uppercase()), Some(value));
        }

        #[test]
        fn times_read_back(time_us in 0_u64..4_102_444_800_000_000) {
            prop_assert_eq!(parse_time(&time(time_us)), Some(time_us));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            let _ = (parse_time(&text), parse_uuid(&text), unhex::<4>(&text));
        }
    }
}
