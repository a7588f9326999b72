// Package tools pins the Kubernetes 1.36.3 programs that the compatibility
// suite runs on the store under test. Nothing here is compiled into anything of
// ours: tests/compat/build.sh builds the programs from this module's go.mod.
package tools
