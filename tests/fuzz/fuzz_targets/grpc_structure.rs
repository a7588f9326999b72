//! libFuzzer over `fuzz::grpc_structure`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    fuzz::grpc_structure::check(data);
});
