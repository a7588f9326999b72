//! libFuzzer over `fuzz::log_record`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    fuzz::log_record::check(data);
});
