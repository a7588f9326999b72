//! libFuzzer over `fuzz::transactions`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    fuzz::transactions::check(data);
});
