//! The parser on arbitrary bytes.

#![no_main]

#[path = "../../tests/fuzz/target.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    target::parses(input);
});
