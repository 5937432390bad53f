//! The line protocol between the bank and a signing command: one request, one answer, each a line of ASCII.
//!
//! ```text
//! bank     sign 6b1f…(32 digits: key id) 534b43…(message in hexadecimal)
//! command  signature 0a5e…(128 digits)            or: error any text, told to the operator
//! ```
//!
//! The command is asked for a signature of the message itself: Ed25519 as RFC 8032 has it, SM2 over `SM3(Z ‖ message)` with
//! the default user id. It may live for one request or for many; end of input tells it to go.

use skerry_proof::{KeyId, Signature};

/// The longest line a command may answer, its end not counted.
pub const ANSWER_LENGTH_MAX: usize = 1024;

/// What a command said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// A signature, not verified.
    Signature(Signature),
    /// It cannot sign now: why, in printable characters.
    Error(String),
}

/// A line that is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AnswerError {
    /// It is longer than [`ANSWER_LENGTH_MAX`].
    #[error("it answered a line of more than 1024 bytes")]
    Long,
    /// It begins with neither word.
    #[error("it answered a line that begins with neither 'signature' nor 'error'")]
    Word,
    /// What follows `signature` is not 128 hexadecimal digits.
    #[error("it answered a signature that is not 128 hexadecimal digits")]
    Digits,
}

impl Answer {
    /// Reads a line without its end.
    ///
    /// # Errors
    ///
    /// [`AnswerError`].
    pub fn parse(line: &[u8]) -> Result<Self, AnswerError> {
        if line.len() > ANSWER_LENGTH_MAX {
            return Err(AnswerError::Long);
        }
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if let Some(digits) = line.strip_prefix(b"signature ") {
            return parse_hex(digits).map(Self::Signature).ok_or(AnswerError::Digits);
        }
        let text = line.strip_prefix(b"error").ok_or(AnswerError::Word)?;
        if !matches!(text.first(), None | Some(b' ')) {
            return Err(AnswerError::Word);
        }
        // It goes into a log: nothing in it may look like anything else.
        let shown = text.iter().map(|byte| match byte {
            b' '..=b'~' => char::from(*byte),
            _ => '?',
        });
        Ok(Self::Error(shown.collect::<String>().trim().to_owned()))
    }

    /// The line, without its end.
    #[must_use]
    pub fn line(&self) -> String {
        match self {
            Self::Signature(signature) => format!("signature {}", hex(signature)),
            Self::Error(text) => format!("error {text}"),
        }
    }
}

/// The request to sign `message` with `key`, with its end.
#[must_use]
pub fn request(key: KeyId, message: &[u8]) -> String {
    format!("sign {key} {}\n", hex(message))
}

/// Reads a request without its end: the key's name and the message; `None` if it is none.
#[must_use]
pub fn parse_request(line: &str) -> Option<(KeyId, Vec<u8>)> {
    let line = line.trim_end_matches(['\r', '\n']);
    let (key, message) = line.strip_prefix("sign ")?.split_once(' ')?;
    let (pairs, odd) = message.as_bytes().as_chunks::<2>();
    let bytes: Option<Vec<u8>> = pairs.iter().map(|pair| byte(*pair)).collect();
    odd.is_empty().then_some((KeyId(parse_hex(key.as_bytes())?), bytes?))
}

/// Bytes as hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `N` bytes out of twice as many hexadecimal digits.
#[must_use]
pub fn parse_hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let (pairs, odd) = digits.as_chunks::<2>();
    if pairs.len() != N || !odd.is_empty() {
        return None;
    }
    let mut bytes = [0; N];
    for (to, pair) in bytes.iter_mut().zip(pairs) {
        *to = byte(*pair)?;
    }
    Some(bytes)
}

fn byte([high, low]: [u8; 2]) -> Option<u8> {
    let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(high)? << 4 | digit(low)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn answers_are_words_and_digits() {
        let signature = Answer::Signature([0xab; 64]);
        assert_eq!(Answer::parse(signature.line().as_bytes()), Ok(signature.clone()));
        assert_eq!(Answer::parse(format!("{}\r", signature.line()).as_bytes()), Ok(signature));
        assert_eq!(Answer::parse(b"error"), Ok(Answer::Error(String::new())));
        assert_eq!(Answer::parse(b"error no\x1b[2J card"), Ok(Answer::Error("no?[2J card".to_owned())));
        for (line, error) in [
            (b"".as_slice(), AnswerError::Word),
            (b"errors", AnswerError::Word),
            (b"ok", AnswerError::Word),
            (b"signature", AnswerError::Word),
            (b"signature ", AnswerError::Digits),
            (&[b"signature ".as_slice(), &[b'g'; 128]].concat(), AnswerError::Digits),
            (&[b"signature ".as_slice(), &[b'a'; 127]].concat(), AnswerError::Digits),
            (&[b"signature ".as_slice(), &[b'a'; 130]].concat(), AnswerError::Digits),
            (&[b'e'; ANSWER_LENGTH_MAX + 1], AnswerError::Long),
        ] {
            assert_eq!(Answer::parse(line), Err(error), "{}", String::from_utf8_lossy(line));
        }
    }

    proptest! {
        #[test]
        fn requests_survive(key: [u8; 16], message: Vec<u8>) {
            let line = request(KeyId(key), &message);
            prop_assert!(line.ends_with('\n') && line.is_ascii());
            prop_assert_eq!(parse_request(&line), Some((KeyId(key), message)));
        }

        #[test]
        fn rubbish_is_no_request(line in "\\PC{0,80}") {
            if let Some((key, message)) = parse_request(&line) {
                prop_assert_eq!(request(key, &message), format!("{}\n", line.to_lowercase()));
            }
        }

        #[test]
        fn whatever_is_an_answer_is_one_again(line: Vec<u8>) {
            if let Ok(answer) = Answer::parse(&line) {
                prop_assert_eq!(Answer::parse(answer.line().as_bytes()), Ok(answer));
            }
        }
    }
}
