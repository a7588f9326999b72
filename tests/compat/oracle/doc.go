// Package oracle sends the same requests to a real etcd and to the server under
// test and compares everything that they answer.
//
// A run draws operations from a seed (generate*.go), executes each one on both
// servers in lockstep (target.go, watch_stream.go) and compares replies, error
// codes and texts, revisions in headers (compare.go) and what every watcher has
// received (watch_model.go). Only what a contract leaves open is set aside, each
// in one named place (normalize.go): ids of cluster and member, sizes and
// log indexes, the order of ties in an unstable sort.
//
// A divergence ends the run. The list of operations is then shrunk against fresh
// pairs of servers (shrink.go) and printed as a script that can be run again.
package oracle
