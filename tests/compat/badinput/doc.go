// Package badinput treats the server under test badly: requests at the size limit,
// bytes that are no messages, storms of cancelled calls, many watchers on one
// stream, clients that stop reading. Others must not notice, and nothing may be
// lost. What etcd answers is asked from a real etcd where it has an answer.
package badinput
