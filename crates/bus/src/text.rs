//! Names, subjects and patterns: short ASCII texts that live inside the message, without an allocation.
//!
//! A subject is up to 95 bytes of tokens of `A-Z a-z 0-9 _ -`, with dots between them. A pattern may hold `*` for one
//! token, and end in `>` for one token or more. A name is one token of up to 31 bytes that begins with a letter or digit.

use std::fmt;
use std::hash::{Hash, Hasher};

/// Longest subject or pattern, in bytes.
pub const SUBJECT_BYTES_MAX: usize = 95;

/// Longest name, in bytes.
pub const NAME_BYTES_MAX: usize = 31;

/// Why a text is no subject, pattern or name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no {what}: {why}")]
pub struct TextError {
    /// The beginning of what was given.
    pub text: String,
    /// What it should have been.
    pub what: &'static str,
    /// The rule it breaks.
    pub why: &'static str,
}

/// Up to `N` bytes of ASCII, ordered as text.
#[derive(Clone, Copy)]
struct Text<const N: usize> {
    length: u8,
    bytes: [u8; N],
}

impl<const N: usize> Text<N> {
    fn new(
        text: &str,
        what: &'static str,
        rule: fn(&str) -> Option<&'static str>,
    ) -> Result<Self, TextError> {
        let refuse = |why| TextError { text: text.chars().take(2 * N).collect(), what, why };
        if text.len() > N {
            return Err(refuse("it is too long"));
        }
        if let Some(why) = rule(text) {
            return Err(refuse(why));
        }
        let mut bytes = [0; N];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        let length = u8::try_from(text.len()).map_err(|_| refuse("it is too long"))?;
        Ok(Self { length, bytes })
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).expect("a text was made from a str")
    }
}

impl<const N: usize> PartialEq for Text<N> {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl<const N: usize> Eq for Text<N> {}

impl<const N: usize> PartialOrd for Text<N> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<const N: usize> Ord for Text<N> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl<const N: usize> Hash for Text<N> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

fn subject_rule(text: &str) -> Option<&'static str> {
    text.split('.').find_map(token_rule)
}

fn token_rule(token: &str) -> Option<&'static str> {
    if token.is_empty() {
        return Some("it has an empty token");
    }
    (!token.bytes().all(is_plain)).then_some("a token takes only letters, digits, _ and -")
}

fn pattern_rule(text: &str) -> Option<&'static str> {
    let mut tokens = text.split('.').peekable();
    while let Some(token) = tokens.next() {
        match token {
            "*" => (),
            ">" if tokens.peek().is_none() => (),
            ">" => return Some("> stands only at its end"),
            _ => {
                if let Some(why) = token_rule(token) {
                    return Some(why);
                }
            }
        }
    }
    None
}

fn name_rule(text: &str) -> Option<&'static str> {
    match text.bytes().next() {
        None => Some("it is empty"),
        Some(first) if !first.is_ascii_alphanumeric() => Some("it begins with a letter or digit"),
        Some(_) => token_rule(text),
    }
}

macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $bytes:expr, $what:literal, $rule:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Text<{ $bytes }>);

        impl $name {
            /// Reads it.
            ///
            /// # Errors
            ///
            /// The rule of the module's head that it breaks.
            pub fn new(text: &str) -> Result<Self, TextError> {
                Text::new(text, $what, $rule).map(Self)
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, "{:?}", self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = TextError;

            fn from_str(text: &str) -> Result<Self, TextError> {
                Self::new(text)
            }
        }
    };
}

text!(
    /// Where a message goes.
    Subject, SUBJECT_BYTES_MAX, "subject", subject_rule
);
text!(
    /// Which subjects a subscription hears.
    Pattern, SUBJECT_BYTES_MAX, "pattern", pattern_rule
);
text!(
    /// An endpoint, a group, a stream or a label.
    Name, NAME_BYTES_MAX, "name", name_rule
);

impl Pattern {
    /// The pattern that hears every subject.
    #[must_use]
    pub fn all() -> Self {
        Self::new(">").expect("> is a pattern")
    }

    /// Whether `subject` is one of those that this pattern hears.
    #[must_use]
    pub fn hears(&self, subject: &Subject) -> bool {
        let mut tokens = subject.as_str().split('.');
        for wanted in self.as_str().split('.') {
            match (wanted, tokens.next()) {
                (">", Some(_)) => return true,
                ("*", Some(_)) => (),
                (wanted, Some(token)) if wanted == token => (),
                _ => return false,
            }
        }
        tokens.next().is_none()
    }

    /// Whether some subject is heard by both.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let (mut ours, mut theirs) = (self.as_str().split('.'), other.as_str().split('.'));
        loop {
            match (ours.next(), theirs.next()) {
                (None, None) => return true,
                (Some(">"), Some(_)) | (Some(_), Some(">")) => return true,
                (Some(one), Some(two)) if one == two || one == "*" || two == "*" => (),
                _ => return false,
            }
        }
    }
}

impl From<Subject> for Pattern {
    fn from(subject: Subject) -> Self {
        Self(subject.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_subject_a_pattern_a_name() {
        for good in ["a", "branch.0007.ask", "A_b-c.1", &"x".repeat(95)] {
            assert_eq!(Subject::new(good).unwrap().as_str(), good);
            assert_eq!(Pattern::new(good).unwrap().as_str(), good);
        }
        for bad in ["", ".", "a.", ".a", "a..b", "a b", "a.*", "a.>", "ü", &"x".repeat(96)] {
            assert!(Subject::new(bad).is_err(), "{bad}");
        }
        for good in ["*", ">", "a.*", "a.*.b", "a.>"] {
            assert!(Pattern::new(good).is_ok(), "{good}");
        }
        for bad in ["", "a*", "a.>.b", "a.>>", "**"] {
            assert!(Pattern::new(bad).is_err(), "{bad}");
        }
        for bad in ["", "_", "-a", "a.b", "*", &"x".repeat(32)] {
            assert!(Name::new(bad).is_err(), "{bad}");
        }
        assert_eq!(
            Subject::new("a..b").unwrap_err().to_string(),
            "\"a..b\" is no subject: it has an empty token"
        );
    }

    #[test]
    fn patterns_hear_and_overlap() {
        let hears = |pattern: &str, subject: &str| {
            Pattern::new(pattern).unwrap().hears(&Subject::new(subject).unwrap())
        };
        for (pattern, subject, expected) in [
            ("a.b", "a.b", true),
            ("a.b", "a.b.c", false),
            ("a.b.c", "a.b", false),
            ("a.*", "a.b", true),
            ("a.*", "a", false),
            ("a.*", "a.b.c", false),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            (">", "a", true),
            ("*.b", "a.b", true),
            ("*.b", "a.c", false),
        ] {
            assert_eq!(hears(pattern, subject), expected, "{pattern} {subject}");
        }
        let overlaps =
            |one: &str, two: &str| Pattern::new(one).unwrap().overlaps(&Pattern::new(two).unwrap());
        for (one, two, expected) in [
            ("a.b", "a.b", true),
            ("a.*", "*.b", true),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            ("a.b", "a.c", false),
            ("a.b", "a.b.c", false),
            ("a.*.c", "a.b.>", true),
        ] {
            assert_eq!(overlaps(one, two), expected, "{one} {two}");
            assert_eq!(overlaps(two, one), expected, "{two} {one}");
        }
    }
}
