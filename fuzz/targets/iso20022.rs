//! Feeds [`skerry_fuzz::iso20022`] with whatever reaches new code.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| skerry_fuzz::iso20022(bytes));
