#!/usr/bin/env bash
# Runs the compatibility suites against a Sternpost binary:
#
#   run.sh [BINARY]        (default: target/release/sternpost)
#
# It builds the real counterparts first (build.sh), then runs, one after the other:
# the oracle, bad input, etcd's own black-box tests, etcdctl and snapshots, kube-apiserver and
# controllers, the storage code of Kubernetes 0.37. What each step took is printed.
# Needs Go 1.26 and, on the first run, the Go module proxy. With SUITES="oracle kube"
# only those run.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export STORE_BIN=${1:-${STORE_BIN:-$here/../../target/release/sternpost}}
export STERNPOST_COMPAT_BIN=${STERNPOST_COMPAT_BIN:-$here/bin}
export GOFLAGS=-mod=readonly
export ORACLE_OPS=${ORACLE_OPS:-3000} ORACLE_DURATION=${ORACLE_DURATION:-60s}
suites=${SUITES:-oracle badinput http common ctl kube storage037}
if [[ ! -x $STORE_BIN ]]; then
  echo "run.sh: no program at $STORE_BIN; build it with cargo build --release" >&2
  exit 2
fi
STORE_BIN=$(realpath "$STORE_BIN")

failed=()
step() {
  local name=$1 begin=$SECONDS
  shift
  if "$@"; then
    echo "compat: $name passed in $((SECONDS - begin)) s"
  else
    echo "compat: $name FAILED after $((SECONDS - begin)) s"
    failed+=("$name")
  fi
}

cd "$here" || exit 2
step build ./build.sh
step vet go vet ./...
for suite in $suites; do
  step "$suite" go test -count=1 -timeout=15m -v "./$suite"
done
if [[ ${#failed[@]} -gt 0 ]]; then
  echo "compat: failed: ${failed[*]}"
  exit 1
fi
echo "compat: all suites passed in $SECONDS s"
