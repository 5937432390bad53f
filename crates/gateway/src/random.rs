//! Random bytes from the kernel, for tokens, nonces and keys that clients did not choose.

/// Random bytes.
///
/// # Panics
///
/// If the kernel gives none: nothing that needs secrets may go on without.
#[must_use]
pub(crate) fn bytes<const N: usize>() -> [u8; N] {
    let mut out = [0; N];
    getrandom::fill(&mut out).expect("the kernel gives random bytes");
    out
}
