//! Digests of what clients send, under secrets of the institution: they tell one request from another, and without the secret
//! nobody can try out what was in it.
//!
//! They are journaled, and a request may hold a name, a document or a note: a plain hash would let whoever has a journal
//! guess at them.

use zeroize::Zeroizing;

/// The keys of the digests, derived from one secret.
#[derive(Clone)]
pub struct Digests {
    requests: Zeroizing<[u8; 32]>,
    notes: Zeroizing<[u8; 32]>,
}

impl std::fmt::Debug for Digests {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Digests(..)")
    }
}

impl Digests {
    /// From 32 secret bytes of the institution's.
    #[must_use]
    pub fn new(secret: &[u8; 32]) -> Self {
        Self {
            requests: Zeroizing::new(blake3::derive_key("skerry 2026-11 request digests", secret)),
            notes: Zeroizing::new(blake3::derive_key("skerry 2026-11 note tags", secret)),
        }
    }

    /// What makes a request the same request: each part counts, and where it ends.
    #[must_use]
    pub fn request(&self, parts: &[&[u8]]) -> [u8; 16] {
        digest(&self.requests, parts)
    }

    /// The tag of a note on the transfer `id` of `branch`: never all zeros, which is no note. The same text on another
    /// transfer has another tag.
    #[must_use]
    pub fn note(&self, branch: u16, id: u128, text: &str) -> [u8; 16] {
        let mut tag = digest(&self.notes, &[&branch.to_le_bytes(), &id.to_le_bytes(), text.as_bytes()]);
        tag[15] |= 1;
        tag
    }
}

fn digest(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new_keyed(key);
    for part in parts {
        hasher.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
        hasher.update(part);
    }
    let mut digest = [0; 16];
    digest.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    digest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_each_of_its_parts_under_this_secret() {
        let digests = Digests::new(&[1; 32]);
        let one = digests.request(&[b"POST", b"/v1/transfers?a=1", b"{}"]);
        assert_eq!(one, digests.request(&[b"POST", b"/v1/transfers?a=1", b"{}"]));
        assert_ne!(one, digests.request(&[b"PUT", b"/v1/transfers?a=1", b"{}"]));
        assert_ne!(one, digests.request(&[b"POST", b"/v1/transfers?a=1", b"{ }"]));
        assert_ne!(
            one,
            digests.request(&[b"POST", b"/v1/transfers", b"?a=1{}"]),
            "parts do not run together"
        );
        assert_ne!(one, Digests::new(&[2; 32]).request(&[b"POST", b"/v1/transfers?a=1", b"{}"]));
    }

    #[test]
    fn a_note_s_tag_is_its_transfer_s_own() {
        let digests = Digests::new(&[1; 32]);
        let one = digests.note(1, 7, "rent");
        assert_eq!(one, digests.note(1, 7, "rent"));
        for other in [digests.note(1, 7, "Rent"), digests.note(1, 8, "rent"), digests.note(2, 7, "rent")] {
            assert_ne!(one, other);
        }
        assert_ne!(one, Digests::new(&[2; 32]).note(1, 7, "rent"));
        assert_ne!(one[..], digests.request(&[&1_u16.to_le_bytes(), &7_u128.to_le_bytes(), b"rent"])[..]);
    }
}
