//! The names of algorithms, as every header, checkpoint and receipt states them.
//!
//! A number is never reused. A number that is not in here decodes to an error that names it, not to a
//! guess.

/// A hash function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HashAlgorithm {
    /// BLAKE3: chaining always; record roots and history unless the bank was founded otherwise.
    Blake3,
    /// SHA-256 (FIPS 180-4): record roots and history that anybody's tools can recompute.
    Sha256,
    /// SM3 (GB/T 32905-2016): the same, where the law asks for it.
    Sm3,
}

/// A signature scheme.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SignatureAlgorithm {
    /// Ed25519 (RFC 8032).
    Ed25519,
    /// SM2 with SM3 (GB/T 32918.2-2016), under the standard's default user id.
    Sm2,
}

impl HashAlgorithm {
    /// The number on disk.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Blake3 => 1,
            Self::Sha256 => 2,
            Self::Sm3 => 3,
        }
    }

    /// The algorithm with this number.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Blake3),
            2 => Some(Self::Sha256),
            3 => Some(Self::Sm3),
            _ => None,
        }
    }

    /// All that this code can compute, by rising number.
    pub const ALL: [Self; 3] = [Self::Blake3, Self::Sha256, Self::Sm3];

    /// The name people know.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Blake3 => "BLAKE3",
            Self::Sha256 => "SHA-256",
            Self::Sm3 => "SM3",
        }
    }
}

impl SignatureAlgorithm {
    /// The number on disk.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Ed25519 => 1,
            Self::Sm2 => 2,
        }
    }

    /// The algorithm with this number.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Ed25519),
            2 => Some(Self::Sm2),
            _ => None,
        }
    }

    /// All that this code can verify, by rising number.
    pub const ALL: [Self; 2] = [Self::Ed25519, Self::Sm2];

    /// The name people know.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ed25519 => "Ed25519",
            Self::Sm2 => "SM2",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_lead_back() {
        for number in 0..=u8::MAX {
            assert!(HashAlgorithm::from_number(number).is_none_or(|found| found.number() == number));
            assert!(SignatureAlgorithm::from_number(number).is_none_or(|found| found.number() == number));
        }
        assert_eq!(HashAlgorithm::from_number(1), Some(HashAlgorithm::Blake3));
    }
}
