// Package kube runs real Kubernetes 1.36 programs on the store under test: a
// kube-apiserver with every kind of request that it makes of its store, killed and
// restarted; the store killed under it; a kube-controller-manager and kubectl.
//
// The API is spoken to as plain HTTP and JSON, so that nothing between the test
// and the apiserver hides a lost watch event or repeats a request.
package kube
