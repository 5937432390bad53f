//! What travels: a subject, headers that the bus itself understands, and bytes that it does not.

use bytes::Bytes;

use crate::error::RefusedKind;
use crate::text::{Name, Subject};
use crate::trace::TraceContext;

/// Most extra headers on a message.
pub const EXTRAS_MAX: usize = 32;

/// Most bytes of all extra headers together, names and values.
pub const EXTRA_BYTES_MAX: usize = 4096;

/// What a message costs beside its payload and extra headers, as every bound in bytes counts it.
pub const MESSAGE_OVERHEAD_BYTES: usize = 256;

/// A message on its way. A clone shares the payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Where it goes.
    pub subject: Subject,
    /// What the bus and its operators must know of it.
    pub headers: Headers,
    /// What it says; the bus never looks.
    pub payload: Bytes,
}

/// What a message carries beside its payload.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Headers {
    /// Chosen by the sender of a stored message; the same one stored again within two minutes may be stored once.
    pub id: Option<u128>,
    /// The endpoint that sent it; the bus fills it in, whatever was there.
    pub sender: Option<Name>,
    /// The trace it belongs to. A reply without one takes the request's.
    pub trace: Option<TraceContext>,
    /// The version of what it says, for gray subscriptions.
    pub label: Option<Name>,
    /// Only this group gets it; all groups if there is none.
    pub group: Option<Name>,
    /// Anything else, in the order given.
    pub extra: Extra,
}

/// Headers that the bus carries and does not understand: within [`EXTRAS_MAX`] and [`EXTRA_BYTES_MAX`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Extra(Option<Box<Pairs>>);

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Pairs {
    bytes: usize,
    pairs: Vec<(Box<str>, Box<str>)>,
}

/// Why a header was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Names are lower-case letters, digits and `-`, from 1 to 64 bytes.
    #[error("a header's name takes only lower-case letters, digits and -, up to 64 bytes")]
    Name,
    /// The name belongs to the bus.
    #[error("the bus itself writes headers of this name")]
    Reserved,
    /// Values are visible ASCII and inner blanks.
    #[error("a header's value takes only visible ASCII and blanks inside it")]
    Value,
    /// There are [`EXTRAS_MAX`] headers, or [`EXTRA_BYTES_MAX`] bytes of them.
    #[error("more than {EXTRAS_MAX} extra headers or {EXTRA_BYTES_MAX} bytes of them")]
    TooMany,
    /// A header of this name is there.
    #[error("a header of this name is there already")]
    Twice,
}

fn check(name: &str, value: &str) -> Result<(), HeaderError> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.is_empty() || name.len() > 64 || !name.bytes().all(plain) {
        return Err(HeaderError::Name);
    }
    if name == "traceparent" || name.starts_with("skerry-") || name.starts_with("nats-") {
        return Err(HeaderError::Reserved);
    }
    let visible = value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    if !visible || value.trim() != value || value.is_empty() {
        return Err(HeaderError::Value);
    }
    Ok(())
}

impl Extra {
    /// Adds a header.
    ///
    /// # Errors
    ///
    /// See [`HeaderError`]; nothing was added.
    pub fn insert(&mut self, name: &str, value: &str) -> Result<(), HeaderError> {
        check(name, value)?;
        let (count, bytes) = (self.iter().count() + 1, self.bytes() + name.len() + value.len());
        if count > EXTRAS_MAX || bytes > EXTRA_BYTES_MAX {
            return Err(HeaderError::TooMany);
        }
        if self.get(name).is_some() {
            return Err(HeaderError::Twice);
        }
        let inner = self.0.get_or_insert_default();
        inner.bytes = bytes;
        inner.pairs.push((name.into(), value.into()));
        Ok(())
    }

    /// The value of the header `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(found, _)| *found == name).map(|(_, value)| value)
    }

    /// All of them, in the order given.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().flat_map(|inner| &inner.pairs).map(|(name, value)| (&**name, &**value))
    }

    /// Bytes of names and values.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |inner| inner.bytes)
    }
}

impl Message {
    /// A message without headers.
    #[must_use]
    pub fn new(subject: Subject, payload: impl Into<Bytes>) -> Self {
        Self { subject, headers: Headers::default(), payload: payload.into() }
    }

    /// The same, with an id.
    #[must_use]
    pub fn with_id(mut self, id: u128) -> Self {
        self.headers.id = Some(id);
        self
    }

    /// The same, as part of a trace.
    #[must_use]
    pub fn with_trace(mut self, trace: TraceContext) -> Self {
        self.headers.trace = Some(trace);
        self
    }

    /// The same, of a version.
    #[must_use]
    pub fn with_label(mut self, label: Name) -> Self {
        self.headers.label = Some(label);
        self
    }

    /// The same, for one group alone.
    #[must_use]
    pub fn to_group(mut self, group: Name) -> Self {
        self.headers.group = Some(group);
        self
    }

    /// What it counts against bounds in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.payload.len() + self.headers.extra.bytes() + MESSAGE_OVERHEAD_BYTES
    }

    /// Checks it against the bound on one message: payload and extra headers.
    ///
    /// # Errors
    ///
    /// [`RefusedKind::TooLarge`] with both figures.
    pub fn check_size(&self, bytes_max: usize) -> Result<(), RefusedKind> {
        let bytes = self.payload.len() + self.headers.extra.bytes();
        if bytes > bytes_max { Err(RefusedKind::TooLarge { bytes, bytes_max }) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extra_headers_are_bounded_and_plain() {
        let mut extra = Extra::default();
        assert_eq!((extra.bytes(), extra.iter().count()), (0, 0));
        assert_eq!(extra.insert("content-type", "application/json; v=1"), Ok(()));
        assert_eq!(extra.get("content-type"), Some("application/json; v=1"));
        assert_eq!(extra.get("content"), None);
        assert_eq!(extra.insert("content-type", "x"), Err(HeaderError::Twice));
        for bad in ["", "A", "a b", "ü", &"x".repeat(65)] {
            assert_eq!(extra.insert(bad, "x"), Err(HeaderError::Name), "{bad}");
        }
        for bad in ["", " x", "x ", "a\r\nb: c", "ü"] {
            assert_eq!(extra.insert("a", bad), Err(HeaderError::Value), "{bad:?}");
        }
        for bad in ["traceparent", "skerry-label", "nats-msg-id"] {
            assert_eq!(extra.insert(bad, "x"), Err(HeaderError::Reserved));
        }
        assert_eq!(extra.insert("big", &"x".repeat(EXTRA_BYTES_MAX)), Err(HeaderError::TooMany));
        for number in 1..EXTRAS_MAX {
            assert_eq!(extra.insert(&format!("h{number}"), "x"), Ok(()));
        }
        assert_eq!(extra.insert("more", "x"), Err(HeaderError::TooMany));
        assert_eq!(extra.iter().count(), EXTRAS_MAX);
    }

    #[test]
    fn size_counts_what_is_carried() {
        let mut message = Message::new(Subject::new("a").unwrap(), vec![0; 100]);
        message.headers.extra.insert("ab", "cde").unwrap();
        assert_eq!(message.size(), 105 + MESSAGE_OVERHEAD_BYTES);
        assert_eq!(message.check_size(105), Ok(()));
        assert_eq!(message.check_size(104), Err(RefusedKind::TooLarge { bytes: 105, bytes_max: 104 }));
    }
}
