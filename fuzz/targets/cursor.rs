//! Feeds [`skerry_fuzz::cursor`] with whatever reaches new code.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| skerry_fuzz::cursor(bytes));
