package ctl

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
	"sternpost.dev/compat/internal/store"
)

// snapshotKeys is how many keys the snapshot holds; large enough for inner pages
// and overflow pages of the bolt file.
const snapshotKeys = 3000

// TestSnapshot fills the server under test with every kind of record (overwritten,
// deleted, compacted, leased, large), saves a snapshot with etcdctl, looks at it
// with etcdutl, restores it and boots a real etcd from it.
func TestSnapshot(t *testing.T) {
	tools := []string{store.Tool("etcd"), store.Tool("etcdctl"), store.Tool("etcdutl")}
	store.NeedTools(t, tools...)
	process := store.MustStart(t, store.UnderTest())
	client := process.MustDial(t)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	fill(ctx, t, client)
	due := fingerprint(ctx, t, client)

	file := filepath.Join(t.TempDir(), "saved.db")
	command(t, store.Tool("etcdctl"), "--endpoints="+process.URL(), "snapshot", "save", file)
	var status struct {
		Revision  int64  `json:"revision"`
		TotalKey  int64  `json:"totalKey"`
		TotalSize int64  `json:"totalSize"`
		Version   string `json:"version"`
	}
	output := command(t, store.Tool("etcdutl"), "snapshot", "status", file, "-w", "json")
	if err := json.Unmarshal(output, &status); err != nil {
		t.Fatalf("%v in %s", err, output)
	}
	if status.Revision != due.header || status.TotalKey == 0 || status.TotalSize == 0 || status.Version != "3.7.0" {
		t.Errorf("etcdutl snapshot status says %s; the store is at revision %d", output, due.header)
	}

	restored, err := store.Prepare(store.Options{Binary: store.Tool("etcd"), Directory: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	command(t, store.Tool("etcdutl"), "snapshot", "restore", file, "--data-dir="+restored.DataDirectory(),
		"--name=default", "--initial-cluster=default="+restored.PeerURL(),
		"--initial-advertise-peer-urls="+restored.PeerURL())
	if err := restored.Restart(); err != nil {
		t.Fatalf("a real etcd does not boot from the snapshot: %v", err)
	}
	defer restored.Kill()
	got := fingerprint(ctx, t, restored.MustDial(t))
	if got.hash != due.hash {
		t.Errorf("HashKV of the restored etcd is %+v, of the store under test %+v", got.hash, due.hash)
	}
	if got.content != due.content {
		t.Error("the restored etcd holds other key-values")
	}
	if got.old != due.old {
		t.Error("the restored etcd answers differently at an old revision")
	}
	if got.leases != due.leases {
		t.Errorf("the restored etcd has the leases %s, not %s", got.leases, due.leases)
	}
	put(ctx, t, restored.MustDial(t), "after the restore", []byte("x"))
}

func command(t *testing.T, name string, arguments ...string) []byte {
	t.Helper()
	run := exec.Command(name, arguments...)
	output, err := run.Output()
	if err != nil {
		failed, _ := err.(*exec.ExitError)
		t.Fatalf("%s %v: %v\n%s%s", filepath.Base(name), arguments, err, output, failed.Stderr)
	}
	return output
}

func put(ctx context.Context, t *testing.T, client *store.Client, key string, value []byte) int64 {
	t.Helper()
	reply, err := client.KV.Put(ctx, &pb.PutRequest{Key: []byte(key), Value: value})
	if err != nil {
		t.Fatal(err)
	}
	return reply.Header.Revision
}

func fill(ctx context.Context, t *testing.T, client *store.Client) {
	t.Helper()
	for n := range snapshotKeys {
		put(ctx, t, client, fmt.Sprintf("key/%05d", n), fmt.Appendf(nil, "%0100d", n))
	}
	for n := range 300 {
		put(ctx, t, client, fmt.Sprintf("key/%05d", n*7), fmt.Appendf(nil, "again %d", n))
	}
	put(ctx, t, client, "large", make([]byte, 1_000_000))
	put(ctx, t, client, string(make([]byte, 20_000)), []byte("a long key"))
	_, err := client.KV.DeleteRange(ctx, &pb.DeleteRangeRequest{Key: []byte("key/00100"), RangeEnd: []byte("key/00200")})
	check(t, err)
	for id := int64(1); id <= 5; id++ {
		_, err := client.Lease.LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: id * 1000, TTL: 1000 * id})
		check(t, err)
		_, err = client.KV.Put(ctx, &pb.PutRequest{Key: fmt.Appendf(nil, "leased/%d", id), Lease: id * 1000})
		check(t, err)
	}
	_, err = client.KV.Compact(ctx, &pb.CompactionRequest{Revision: snapshotKeys + 200, Physical: true})
	check(t, err)
	for n := range 200 {
		put(ctx, t, client, fmt.Sprintf("key/%05d", n*11), []byte("after the compaction"))
	}
	_, err = client.KV.Txn(ctx, &pb.TxnRequest{Success: []*pb.RequestOp{
		{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("in a txn/1")}}},
		{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("in a txn/2")}}},
		{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte("key/00300")}}},
	}})
	check(t, err)
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// content is what two stores have to agree on.
type content struct {
	header       int64
	hash         string
	content, old string
	leases       string
}

func fingerprint(ctx context.Context, t *testing.T, client *store.Client) content {
	t.Helper()
	var found content
	hash, err := client.Maintenance.HashKV(ctx, &pb.HashKVRequest{})
	check(t, err)
	found.hash = fmt.Sprintf("hash %d at %d, compacted %d", hash.Hash, hash.HashRevision, hash.CompactRevision)
	found.header = hash.Header.Revision
	everything := &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}}
	found.content = rangeOf(ctx, t, client, everything)
	everything.Revision = snapshotKeys + 250
	found.old = rangeOf(ctx, t, client, everything)
	leases, err := client.Lease.LeaseLeases(ctx, &pb.LeaseLeasesRequest{})
	check(t, err)
	for id := int64(1); id <= 5; id++ {
		lease, err := client.Lease.LeaseTimeToLive(ctx, &pb.LeaseTimeToLiveRequest{ID: id * 1000, Keys: true})
		check(t, err)
		found.leases += fmt.Sprintf("%d: %d %q; ", lease.ID, lease.GrantedTTL, lease.Keys)
	}
	found.leases += fmt.Sprintf("%d in all", len(leases.Leases))
	return found
}

func rangeOf(ctx context.Context, t *testing.T, client *store.Client, request *pb.RangeRequest) string {
	t.Helper()
	reply, err := client.KV.Range(ctx, request)
	check(t, err)
	reply.Header = nil
	bytes, err := proto.MarshalOptions{Deterministic: true}.Marshal(reply)
	check(t, err)
	return string(bytes)
}
