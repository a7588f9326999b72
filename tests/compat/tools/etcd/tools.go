// Package tools pins etcd 3.7.3, its two command line tools and its black-box
// tests. Nothing here is compiled into anything of ours: tests/compat/build.sh
// builds the four programs from this module's go.mod.
package tools
