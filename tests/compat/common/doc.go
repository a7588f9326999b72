// Package common runs etcd's own black-box tests (go.etcd.io/etcd/tests/v3/common)
// with the program under test as "etcd".
//
// The tests are compiled once by tests/compat/build.sh. They find the program in a
// directory that also holds the real etcdctl and etcdutl. What does not apply is
// listed with its reason in expected.txt, and the list is checked in both
// directions: a test that fails without being listed fails the run, and so does a
// listed one that passes.
package common
