package ctl

import (
	"path/filepath"
	"testing"

	"sternpost.dev/compat/internal/store"
)

const (
	unbuiltAuth    = "authentication"
	unbuiltMembers = "membership changes"
)

// steps holds every command family of etcdctl 3.7.
var steps = []Step{
	// Key-value commands.
	{Arguments: "put a 1"}, {Arguments: "put a 2 --prev-kv"}, {Arguments: "put b", Input: "from standard input"},
	{Arguments: "put a/1 x"}, {Arguments: "put a/2 y"}, {Arguments: "put a/2 z --prev-kv -w json"},
	{Arguments: "put a --ignore-value --lease=0"}, {Arguments: "put missing --ignore-value"},
	{Arguments: "put a v --ignore-lease"}, {Arguments: "put a v --lease=77"},
	{Arguments: "get a"}, {Arguments: "get a -w json"}, {Arguments: "get a -w fields"}, {Arguments: "get missing"},
	{Arguments: "get a --prefix"}, {Arguments: "get a --prefix --keys-only"}, {Arguments: "get a --prefix --count-only -w json"},
	{Arguments: "get a --prefix --limit=1 -w json"}, {Arguments: "get a b --print-value-only"},
	{Arguments: "get a --from-key"}, {Arguments: "get EMPTY --prefix --order=DESCEND --sort-by=MODIFY"},
	{Arguments: "get EMPTY --from-key --sort-by=VALUE"}, {Arguments: "get a --rev=2"}, {Arguments: "get a --rev=99"},
	{Arguments: "get a --consistency=s -w json"}, {Arguments: "get a --prefix --min-mod-rev=4 -w json"},
	{Arguments: "get a --prefix --max-create-rev=4 -w json"}, {Arguments: "get a --hex"},
	{Arguments: "del a/1"}, {Arguments: "del a/1"}, {Arguments: "del a --prefix --prev-kv"}, {Arguments: "del zz --from-key"},
	{Arguments: "txn", Input: "mod(\"b\") > \"0\"\n\nput c 1\nget b\n\nput d 1\n\n"},
	{Arguments: "txn -w json", Input: "value(\"c\") = \"9\"\n\nput c 2\n\nget c\ndel c\n\n"},
	{Arguments: "txn", Input: "version(\"c\") = \"0\"\ncreate(\"c\") = \"0\"\n\nput c new\n\nput c old\n\n"},
	{Arguments: "compaction 4"}, {Arguments: "compaction 4"}, {Arguments: "compaction 9999"},
	{Arguments: "compaction 6 --physical"}, {Arguments: "get a --rev=3"}, {Arguments: "put after compaction"},
	// Hashes; before there are leases with ids that the servers draw.
	{Arguments: "endpoint hashkv -w json"}, {Arguments: "endpoint hashkv --rev=9 -w json"},
	{Arguments: "endpoint hashkv --rev=3 -w json"},
	// Leases.
	{Arguments: "lease grant 500"}, {Arguments: "put leased x --lease=$LEASE"}, {Arguments: "lease list"},
	{Arguments: "lease timetolive $LEASE --keys"}, {Arguments: "lease timetolive $LEASE -w json"},
	{Arguments: "lease timetolive 7b"}, {Arguments: "lease keep-alive --once $LEASE"},
	{Arguments: "lease keep-alive --once 7b"}, {Arguments: "lease revoke $LEASE"},
	{Arguments: "lease revoke $LEASE"}, {Arguments: "get leased"}, {Arguments: "lease grant 99999999999"},
	// Watches, from the past so that they have something to say, and with a command to end them.
	{Arguments: "watch a --prefix --rev=10", Endless: true}, {Arguments: "watch b --rev=2 -w json", Endless: true},
	{Arguments: "watch a --from-key --rev=12 --prev-kv", Endless: true}, {Arguments: "watch a --rev=-4", Endless: true},
	// The cluster and its upkeep.
	{Arguments: "endpoint health"}, {Arguments: "endpoint health --cluster -w json"},
	{Arguments: "endpoint status -w json"}, {Arguments: "endpoint status --cluster"}, {Arguments: "member list"}, {Arguments: "member list -w json"},
	{Arguments: "alarm list"}, {Arguments: "alarm disarm"}, {Arguments: "defrag"}, {Arguments: "version"},
	{Arguments: "snapshot save $FILE"}, {Arguments: "move-leader 1"},
	{Arguments: "make-mirror --max-txn-ops=10 127.0.0.1:1 --dest-insecure-transport=maybe"},
	{Arguments: "downgrade validate 3.6", Unbuilt: "downgrades"},
	{Arguments: "downgrade validate 3.9", Unbuilt: "downgrades"},
	{Arguments: "downgrade cancel", Unbuilt: "downgrades"},
	// Recipes, which etcdctl makes of transactions, leases and watches.
	{Arguments: "lock l echo held"}, {Arguments: "elect -l nobody", Endless: true},
	{Arguments: "elect somebody me", Endless: true},
	// What comes later: members and authentication.
	{Arguments: "member remove 77", Unbuilt: unbuiltMembers},
	{Arguments: "member promote 77", Unbuilt: unbuiltMembers},
	{Arguments: "member update 77 --peer-urls=http://127.0.0.1:7", Unbuilt: unbuiltMembers},
	{Arguments: "auth status", Unbuilt: unbuiltAuth}, {Arguments: "user list", Unbuilt: unbuiltAuth},
	{Arguments: "role list", Unbuilt: unbuiltAuth}, {Arguments: "role add r", Unbuilt: unbuiltAuth},
	{Arguments: "role grant-permission r readwrite k", Unbuilt: unbuiltAuth}, {Arguments: "role get r", Unbuilt: unbuiltAuth},
	{Arguments: "user add u:p", Unbuilt: unbuiltAuth}, {Arguments: "user grant-role u r", Unbuilt: unbuiltAuth},
	{Arguments: "user get u", Unbuilt: unbuiltAuth}, {Arguments: "auth enable", Unbuilt: unbuiltAuth},
	{Arguments: "auth disable", Unbuilt: unbuiltAuth},
}

func TestEtcdctl(t *testing.T) {
	store.NeedTools(t, store.Tool("etcd"), store.Tool("etcdctl"), store.UnderTest())
	directory := t.TempDir()
	reference := &session{process: store.MustStart(t, store.Tool("etcd")), file: filepath.Join(directory, "etcd.db")}
	tested := &session{process: store.MustStart(t, store.UnderTest()), file: filepath.Join(directory, "store.db")}
	compared := 0
	for _, step := range steps {
		due, got := reference.run(step), tested.run(step)
		same := due == got
		switch {
		case !same && step.Unbuilt == "":
			t.Errorf("etcdctl %s\netcd answers:\n%s\nthe server under test:\n%s", step.Arguments, due, got)
		case same && step.Unbuilt != "" && !store.IsEtcd():
			t.Errorf("etcdctl %s answers as etcd does; drop the mark that %s is not built", step.Arguments, step.Unbuilt)
		}
		compared++
	}
	t.Logf("%d calls of etcdctl compared", compared)
}
