// Package ctl drives the server under test with the stock etcdctl and etcdutl.
//
// Every command family of etcdctl runs against a real etcd and against the server
// under test; exit codes and outputs are compared once ids, terms and sizes are
// set aside. A snapshot saved from the server under test has to satisfy etcdutl,
// and a real etcd has to boot from it with the same content.
package ctl
