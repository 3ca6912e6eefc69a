//! One call into the library, which says what is tried.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::transport(data));
