//! Feeds [`skerry_fuzz::seat`] with whatever reaches new code.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| skerry_fuzz::seat(bytes));
