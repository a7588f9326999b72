#!/usr/bin/env bash
# Builds the real counterparts of the compatibility suites: etcd and its tools,
# etcd's black-box tests, the Kubernetes programs, and the tests of Kubernetes'
# storage code of 0.37. They come as Go modules by name, at the
# versions that tools/*/go.mod pin, and land in ${STERNPOST_COMPAT_BIN:-bin}.
#
#   build.sh [etcd|common|kube|storage037]...      (all of them by default)
#
# A group whose go.mod, go.sum and sources have not changed is left as it is.
# What each step took is printed.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
bin=${STERNPOST_COMPAT_BIN:-$here/bin}
mkdir -p "$bin"
export GOFLAGS=-mod=readonly

# build MODULE OUTPUT COMMAND...: runs the command in tools/MODULE unless OUTPUT
# is newer than everything there.
build() {
  local module=$1 output=$2 begin=$SECONDS
  shift 2
  local stamp=$bin/.$output.inputs inputs
  inputs=$(cd "$here/tools/$module" && find . -type f | sort | xargs cat && go version && echo "$@")
  if [[ -x $bin/$output && -f $stamp && $(cat "$stamp") == "$(sha256sum <<<"$inputs")" ]]; then
    echo "compat build: $output is up to date"
    return
  fi
  (cd "$here/tools/$module" && "$@")
  sha256sum <<<"$inputs" >"$stamp"
  echo "compat build: $output took $((SECONDS - begin)) s"
}

build_etcd() {
  build etcd etcd go build -o "$bin/etcd" go.etcd.io/etcd/server/v3
  build etcd etcdctl go build -o "$bin/etcdctl" go.etcd.io/etcd/etcdctl/v3
  build etcd etcdutl go build -o "$bin/etcdutl" go.etcd.io/etcd/etcdutl/v3
}

build_common() {
  build etcd etcd-common.test \
    go test -tags e2e -c -o "$bin/etcd-common.test" go.etcd.io/etcd/tests/v3/common
}

build_kube() {
  # The programs report the version that the linker gives them; clients look at it.
  local version=k8s.io/component-base/version
  local flags="-s -w -X $version.gitVersion=v1.36.3 -X $version.gitMajor=1 -X $version.gitMinor=36"
  for program in kube-apiserver kube-controller-manager kubectl; do
    build kube "$program" go build -ldflags "$flags" -o "$bin/$program" "k8s.io/kubernetes/cmd/$program"
  done
}

build_storage037() {
  # The tests' own etcd is replaced by the program under test (testserver/server.go).
  # Go lets nothing in its module cache be overlaid, so the module is copied.
  local source copy=$bin/storage037-source package
  source=$(cd "$here/tools/storage037" && go mod download && go list -m -f '{{.Dir}}' k8s.io/apiserver)
  rm -rf "$copy"
  cp -r "$source" "$copy"
  chmod -R u+w "$copy"
  cp "$here/tools/storage037/testserver/server.go" "$copy/pkg/storage/etcd3/testserver/test_server.go"
  cp "$here/tools/storage037/go.sum" "$bin/storage037.sum"
  cp "$here/tools/storage037/go.mod" "$bin/storage037.mod"
  echo "replace k8s.io/apiserver => $copy" >>"$bin/storage037.mod"
  for package in etcd3 cacher storagebackend/factory; do
    build storage037 "storage037-${package##*/}.test" go test -modfile="$bin/storage037.mod" -c \
      -ldflags "-s -w" -o "$bin/storage037-${package##*/}.test" "k8s.io/apiserver/pkg/storage/$package"
  done
}

if [[ $# -eq 0 ]]; then
  set -- etcd common kube storage037
fi
for group in "$@"; do
  case $group in
    etcd | common | kube | storage037) "build_$group" ;;
    *)
      echo "build.sh: no group '$group' (etcd, common, kube, storage037)" >&2
      exit 2
      ;;
  esac
done
