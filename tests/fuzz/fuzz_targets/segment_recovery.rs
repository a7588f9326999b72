//! libFuzzer over `fuzz::segment_recovery`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    fuzz::segment_recovery::check(data);
});
