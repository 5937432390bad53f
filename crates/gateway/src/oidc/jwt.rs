//! A JSON Web Token taken apart: the compact form of RFC 7515, strict and bounded. It trusts nothing and decides nothing.
//!
//! ```text
//! base64url(header) . base64url(claims) . base64url(signature)
//! └──────── what is signed ─────────┘
//! ```

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::Refusal;

/// The longest token that is looked at.
pub const LENGTH_MAX: usize = 8 * 1024;

/// The longest key id.
const KEY_ID_MAX: usize = 256;

/// A token of the right form; nothing in it is known to be true.
#[derive(Debug)]
pub struct Token<'a> {
    /// `alg`, as it stands there.
    pub algorithm: String,
    /// `kid`.
    pub key_id: Option<String>,
    /// The bytes that are signed.
    pub message: &'a [u8],
    /// The claims' bytes, not looked into.
    pub claims: Vec<u8>,
    /// The signature.
    pub signature: Vec<u8>,
}

impl<'a> Token<'a> {
    /// Takes `text` apart.
    ///
    /// # Errors
    ///
    /// [`Refusal::Malformed`], saying where.
    pub fn parse(text: &'a str) -> Result<Self, Refusal> {
        if text.len() > LENGTH_MAX {
            return Err(Refusal::Malformed("it is longer than 8 KiB"));
        }
        let shape = Refusal::Malformed("it is not three parts with a dot between");
        let (message, signature) = text.rsplit_once('.').ok_or_else(|| shape.clone())?;
        let (header, claims) = message.split_once('.').ok_or_else(|| shape.clone())?;
        if claims.contains('.') {
            return Err(shape);
        }
        let part = |part: &str| base64url(part).ok_or(Refusal::Malformed("a part is not base64url"));
        let Unique(header) = serde_json::from_slice(&part(header)?)
            .map_err(|_| Refusal::Malformed("its header is not a JSON object with each member once"))?;
        let (algorithm, key_id) = read_header(&header)?;
        Ok(Self {
            algorithm,
            key_id,
            message: message.as_bytes(),
            claims: part(claims)?,
            signature: part(signature)?,
        })
    }
}

fn read_header(header: &Map<String, Value>) -> Result<(String, Option<String>), Refusal> {
    let text = |name: &str| header.get(name).map(|value| value.as_str().map(str::to_owned));
    let Some(Some(algorithm)) = text("alg") else {
        return Err(Refusal::Malformed("its header has no `alg`"));
    };
    let key_id = match text("kid") {
        None => None,
        Some(Some(id)) if id.len() <= KEY_ID_MAX => Some(id),
        Some(_) => return Err(Refusal::Malformed("its `kid` is not a text of at most 256 bytes")),
    };
    // RFC 7515, 4.1.11: what is critical and not understood makes the whole token invalid. We understand none.
    if header.contains_key("crit") {
        return Err(Refusal::Malformed("its header has critical extensions"));
    }
    // RFC 8725, 3.11: a token made for another purpose (a logout, a proof of possession) says so in its type.
    let is_ours =
        |kind: &str| ["JWT", "at+jwt", "application/at+jwt"].iter().any(|own| own.eq_ignore_ascii_case(kind));
    match text("typ") {
        None => {}
        Some(Some(kind)) if is_ours(&kind) => {}
        Some(_) => return Err(Refusal::Malformed("its `typ` is neither `JWT` nor `at+jwt`")),
    }
    Ok((algorithm, key_id))
}

/// A JSON object in which no member is given twice: which of two counts is not for us to choose.
#[derive(Debug)]
pub(super) struct Unique(pub(super) Map<String, Value>);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Unique;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("an object with each member once")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Unique, A::Error> {
                let mut members = Map::new();
                while let Some((name, value)) = access.next_entry::<String, Value>()? {
                    if members.insert(name, value).is_some() {
                        return Err(A::Error::custom("a member is given twice"));
                    }
                }
                Ok(Unique(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// Reads base64url without padding (RFC 7515, 2): one text for each sequence of bytes, everything else is `None`.
#[must_use]
pub fn base64url(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 2);
    let (mut held, mut bits) = (0_u32, 0_u32);
    for character in text.bytes() {
        held = held << 6 | digit(character)?;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(held >> bits).ok()?);
            held &= (1 << bits) - 1;
        }
    }
    (bits < 6 && held == 0).then_some(bytes)
}

fn digit(character: u8) -> Option<u32> {
    let digit = match character {
        b'A'..=b'Z' => character - b'A',
        b'a'..=b'z' => character - b'a' + 26,
        b'0'..=b'9' => character - b'0' + 52,
        b'-' => 62,
        b'_' => 63,
        _ => return None,
    };
    Some(u32::from(digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64url_has_one_text_for_each_value() {
        for (text, bytes) in [
            ("", &b""[..]),
            ("Zg", b"f"),
            ("Zm8", b"fo"),
            ("Zm9v", b"foo"),
            ("Zm9vYg", b"foob"),
            ("-_8", &[0xfb, 0xff]),
        ] {
            assert_eq!(base64url(text).as_deref(), Some(bytes), "{text}");
        }
        for wrong in ["Z", "Zg==", "Zh", "Zm9", "Zm9vY", "+/8", "Zm 9v", "é"] {
            assert_eq!(base64url(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_member_that_is_given_twice_is_refused() {
        assert!(serde_json::from_str::<Unique>(r#"{"alg":"none","kid":"a"}"#).is_ok());
        assert!(serde_json::from_str::<Unique>(r#"{"alg":"none","alg":"RS256"}"#).is_err());
        assert!(serde_json::from_str::<Unique>("[]").is_err());
    }
}
