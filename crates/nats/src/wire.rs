//! How a message looks on NATS: which subject it travels under, and its headers as text.
//!
//! | subject | what |
//! |---|---|
//! | `PREFIX.r.LABEL.SUBJECT` | requests |
//! | `PREFIX.p.LABEL.SUBJECT` | published |
//! | `PREFIX.k.LABEL.SUBJECT` | stored; stream `PREFIX-k-NAME` |
//! | `PREFIX.d.STREAM.GROUP` | dead letters; stream `PREFIX-d-NAME` |
//! | `PREFIX.i.ENDPOINT.>` | an endpoint's replies; nobody else listens there |
//!
//! A message without a label has `_` in its place. Trace context travels as `traceparent`, so that outside subscribers
//! need not know us.

use async_nats::HeaderMap;
use bytes::Bytes;
use skerry_bus::{Message, Name, Pattern, RequestFault, Subject, Takes, TraceContext};

const SENDER: &str = "Skerry-Sender";
const LABEL: &str = "Skerry-Label";
const GROUP: &str = "Skerry-Group";
const ID: &str = "Skerry-Id";
const STATUS: &str = "Skerry-Status";
const REASON: &str = "Skerry-Reason";
const TRACE: &str = "traceparent";
/// Time left to answer a request when it was sent, in microseconds.
pub(crate) const TIME_LEFT: &str = "Skerry-Time-Left";
/// The one consumer group that a replayed message is for.
pub(crate) const ONLY: &str = "Skerry-Only";
/// The subject of a dead letter.
pub(crate) const SUBJECT: &str = "Skerry-Subject";
/// Deliveries a dead letter has had.
pub(crate) const ATTEMPTS: &str = "Skerry-Attempts";

/// The token for a label.
pub(crate) fn token(label: Option<Name>) -> String {
    label.map_or_else(|| "_".to_owned(), |label| label.to_string())
}

/// The tokens for what an instance takes.
pub(crate) fn tokens(takes: &Takes) -> Vec<String> {
    match takes {
        Takes::Everything => vec!["*".to_owned()],
        Takes::Only { unlabelled, labels } => {
            let labels = labels.iter().map(|label| token(Some(*label)));
            unlabelled.then(|| token(None)).into_iter().chain(labels).collect()
        }
    }
}

/// The NATS subject of a message.
pub(crate) fn subject(prefix: Name, kind: char, message: &Message) -> String {
    format!("{prefix}.{kind}.{}.{}", token(message.headers.label), message.subject)
}

/// The NATS subject of a pattern.
pub(crate) fn pattern(prefix: Name, kind: char, token: &str, pattern: &Pattern) -> String {
    format!("{prefix}.{kind}.{token}.{pattern}")
}

/// A message's headers, sent by `sender`.
pub(crate) fn headers(message: &Message, sender: Name) -> HeaderMap {
    let mut map = HeaderMap::new();
    map.insert(SENDER, sender.as_str());
    let of = &message.headers;
    if let Some(id) = of.id {
        map.insert(ID, format!("{id:032x}").as_str());
    }
    if let Some(trace) = of.trace {
        map.insert(TRACE, trace.to_string().as_str());
    }
    if let Some(label) = of.label {
        map.insert(LABEL, label.as_str());
    }
    if let Some(group) = of.group {
        map.insert(GROUP, group.as_str());
    }
    for (name, value) in of.extra.iter() {
        map.insert(name, value);
    }
    map
}

/// Adds why a request has no reply.
pub(crate) fn refuse(map: &mut HeaderMap, fault: &RequestFault) {
    match fault {
        RequestFault::Failed(why) => {
            map.insert(STATUS, "failed");
            map.insert(REASON, &**why);
        }
        _ => map.insert(STATUS, "busy"),
    }
}

/// Adds why a message is a dead letter.
pub(crate) fn bury(map: &mut HeaderMap, subject: Subject, attempts: u32, reason: &str) {
    map.insert(SUBJECT, subject.as_str());
    map.insert(ATTEMPTS, attempts.to_string().as_str());
    map.insert(REASON, reason);
}

/// The value of a header.
pub(crate) fn value<'a>(map: &'a HeaderMap, name: &str) -> Option<&'a str> {
    map.get(name).map(async_nats::HeaderValue::as_str)
}

/// The reason in a dead letter.
pub(crate) fn reason(map: &HeaderMap) -> &str {
    value(map, REASON).unwrap_or("no reason given")
}

/// Why a reply says that there is none.
pub(crate) fn fault(map: &HeaderMap) -> Option<RequestFault> {
    match value(map, STATUS)? {
        "failed" => Some(RequestFault::Failed(reason(map).into())),
        _ => Some(RequestFault::Busy),
    }
}

/// Reads a message. A header of ours that does not read as it should is taken for absent: whoever may publish here is
/// known to the server, and a message is judged by its receiver.
pub(crate) fn message(subject: Subject, map: Option<&HeaderMap>, payload: Bytes) -> Message {
    let mut message = Message::new(subject, payload);
    let Some(map) = map else { return message };
    let name = |header| value(map, header).and_then(|text| Name::new(text).ok());
    let headers = &mut message.headers;
    headers.sender = name(SENDER);
    headers.label = name(LABEL);
    headers.group = name(GROUP);
    headers.id = value(map, ID).and_then(|text| u128::from_str_radix(text, 16).ok());
    headers.trace = value(map, TRACE).and_then(TraceContext::parse);
    let mut extra: Vec<_> =
        map.iter().filter_map(|(name, values)| Some((name.as_ref(), values.first()?))).collect();
    // The map has no order of its own.
    extra.sort_by_key(|(name, _): &(&str, _)| *name);
    for (name, value) in extra {
        // What is not a plain header is ours, or NATS's own.
        let _ours = headers.extra.insert(name, value.as_str());
    }
    message
}

/// Our subject within a NATS subject: what follows the third dot.
pub(crate) fn inner(subject: &str) -> Option<Subject> {
    subject.splitn(4, '.').nth(3).and_then(|text| Subject::new(text).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_as_they_were_written() {
        let name = |text| Name::new(text).unwrap();
        let mut sent = Message::new(Subject::new("a.b").unwrap(), "payload")
            .with_id(u128::MAX)
            .with_label(name("v2"))
            .to_group(name("g"))
            .with_trace(TraceContext { trace: 1, span: 2, flags: 3 });
        sent.headers.extra.insert("kind", "posted").unwrap();
        let map = headers(&sent, name("me"));
        let read = message(sent.subject, Some(&map), sent.payload.clone());
        sent.headers.sender = Some(name("me"));
        assert_eq!(read, sent);
        assert_eq!(subject(name("bank"), 'k', &sent), "bank.k.v2.a.b");
        assert_eq!(inner("bank.k.v2.a.b"), Some(sent.subject));
        assert_eq!(inner("bank.k.v2"), None);
    }

    #[test]
    fn rubbish_is_taken_for_absent() {
        let mut map = HeaderMap::new();
        for (name, value) in
            [(ID, "x"), (LABEL, "a b"), (TRACE, "00"), (SENDER, ""), ("UPPER", "x"), ("ok", "y")]
        {
            map.insert(name, value);
        }
        let read = message(Subject::new("a").unwrap(), Some(&map), Bytes::new());
        let mut expected = Message::new(read.subject, "");
        expected.headers.extra.insert("ok", "y").unwrap();
        assert_eq!(read, expected);
    }
}
