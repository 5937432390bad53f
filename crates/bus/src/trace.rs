//! The trace of a request through every hop, as W3C Trace Context (level 1) writes it.

use std::fmt;

/// What `traceparent` says: which trace this belongs to, and which span sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceContext {
    /// The trace; never 0.
    pub trace: u128,
    /// The span that sent the message; never 0.
    pub span: u64,
    /// Flags; bit 0 says that the trace is recorded.
    pub flags: u8,
}

impl TraceContext {
    /// Reads a `traceparent` header. Of a version later than 00 the part that 00 knows is read, as the standard asks.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if !text.is_ascii() || text.len() < 55 {
            return None;
        }
        let (known, rest) = text.split_at(55);
        let mut parts = known.split('-');
        let version = hex(parts.next()?, 2)?;
        let context = Self {
            trace: hex(parts.next()?, 32)?,
            span: u64::try_from(hex(parts.next()?, 16)?).ok()?,
            flags: u8::try_from(hex(parts.next()?, 2)?).ok()?,
        };
        let ended = parts.next().is_none() && (rest.is_empty() || (version > 0 && rest.starts_with('-')));
        (ended && version != 0xff && context.trace != 0 && context.span != 0).then_some(context)
    }

    /// The same trace, sent on by `span`.
    #[must_use]
    pub fn child(self, span: u64) -> Self {
        Self { span, ..self }
    }
}

/// Exactly `digits` lower-case hexadecimal digits.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let lower = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    (text.len() == digits && text.bytes().all(lower)).then(|| u128::from_str_radix(text, 16).ok()).flatten()
}

impl fmt::Display for TraceContext {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, self.flags)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn traceparent_is_read_and_written_the_same() {
        let context = TraceContext::parse(GOOD).unwrap();
        assert_eq!(context.span, 0x00f0_67aa_0ba9_02b7);
        assert_eq!(context.to_string(), GOOD);
        assert_eq!(context.child(1).to_string(), "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000001-01");
        assert_eq!(TraceContext::parse(&GOOD.replacen("00", "01", 1)), Some(context));
        assert_eq!(TraceContext::parse(&format!("{}-more", GOOD.replacen("00", "01", 1))), Some(context));
    }

    #[test]
    fn what_is_no_traceparent() {
        for bad in [
            "",
            "00",
            &GOOD[..54],
            &format!("{GOOD}-"),
            &GOOD.replace('-', "_"),
            &GOOD.to_uppercase(),
            &GOOD.replacen("00", "ff", 1),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-600f067aa0ba902b7-01",
        ] {
            assert_eq!(TraceContext::parse(bad), None, "{bad}");
        }
    }
}
