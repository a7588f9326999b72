#!/usr/bin/env bash
# Runs every fuzz target for SECONDS (20), one after the other: `tests/fuzz/run.sh [SECONDS]`.
# `FUZZ_SEED=N` draws the inputs from N instead of from chance.
# Needs nightly Rust and a C++ compiler (libFuzzer); without them it says so and runs the
# bounded tests of the same bodies. Corpora and findings lie below target/fuzz, and an input
# that breaks a promise ends the run with its path.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
readonly seconds=${1:-20}
readonly output=$(realpath -m "${CARGO_TARGET_DIR:-target}")/fuzz
readonly targets=(log_record segment_recovery manifest bolt_reader grpc_bytes grpc_structure
  transactions)

if ! cargo +nightly --version >/dev/null 2>&1 || ! command -v c++ >/dev/null; then
  echo "== no nightly Rust or no C++ compiler: the bounded tests of the same bodies instead"
  exec cargo test --locked -p tests --test fuzz
fi

# As cargo-fuzz does, without asking for it: coverage of every edge, told to libFuzzer.
coverage="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4"
coverage+=" -Cllvm-args=-sanitizer-coverage-inline-8bit-counters"
coverage+=" -Cllvm-args=-sanitizer-coverage-pc-table -Clink-dead-code"
readonly triple=$(rustc +nightly -vV | sed -n 's/^host: //p')

cp Cargo.lock tests/fuzz/Cargo.lock
RUSTFLAGS=$coverage cargo +nightly build --release --manifest-path tests/fuzz/Cargo.toml \
  --target "$triple" --target-dir "$output/build" --bins
echo "== built in $SECONDS s"

for target in "${targets[@]}"; do
  corpus=$output/corpus/$target
  mkdir -p "$corpus" "$output/artifacts/$target"
  echo "== $target, $seconds s"
  "$output/build/$triple/release/$target" "$corpus" -max_total_time="$seconds" \
    -artifact_prefix="$output/artifacts/$target/" -max_len=4096 -timeout=10 \
    -seed="${FUZZ_SEED:-0}" \
    -rss_limit_mb=2048 -verbosity=0 -print_final_stats=1 2>&1 |
    grep -vE '^(INFO|stat::(slowest|new_units|average))'
done
echo "== all targets ran, $SECONDS s with the build"
