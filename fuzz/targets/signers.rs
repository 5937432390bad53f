//! Feeds [`skerry_fuzz::signers`] with whatever reaches new code.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| skerry_fuzz::signers(bytes));
