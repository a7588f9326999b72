// Package tools pins Kubernetes' storage code of 0.37, the first that lists by
// RangeStream. tests/compat/build.sh compiles its own tests against the store
// under test; testserver/ says how.
package tools
