//! Feeds [`skerry_fuzz::numbers`] with whatever reaches new code.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| skerry_fuzz::numbers(bytes));
