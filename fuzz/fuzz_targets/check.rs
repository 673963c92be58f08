//! The whole frontend on arbitrary bytes: what `nnc check` does with a file.

#![no_main]

#[path = "../../tests/fuzz/target.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    target::checks(input);
});
