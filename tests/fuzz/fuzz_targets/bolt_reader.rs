//! libFuzzer over `fuzz::bolt_reader`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    fuzz::bolt_reader::check(data);
});
