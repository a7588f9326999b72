//! libFuzzer over `fuzz::grpc_bytes`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    fuzz::grpc_bytes::check(data);
});
