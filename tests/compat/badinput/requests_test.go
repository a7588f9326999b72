package badinput

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/status"
	"sternpost.dev/compat/internal/store"
)

// requestLimit is etcd's default of --max-request-bytes.
const requestLimit = 1_572_864

// both starts a real etcd and the server under test.
func both(t *testing.T, flags ...string) map[string]*store.Process {
	t.Helper()
	return map[string]*store.Process{
		"etcd":  store.MustStart(t, store.Tool("etcd"), flags...),
		"store": store.MustStart(t, store.UnderTest(), flags...),
	}
}

// TestSizeBoundary finds the largest value that a put may have. The limit is on the
// encoded log entry, which holds a request id of 8 to 10 bytes, so the servers may
// differ by that.
func TestSizeBoundary(t *testing.T) {
	largest := map[string]int{}
	for name, process := range both(t) {
		client := process.MustDial(t)
		accepted := func(length int) bool {
			_, err := client.KV.Put(t.Context(), &pb.PutRequest{Key: []byte("k"), Value: make([]byte, length)})
			if err != nil && (status.Code(err) != codes.InvalidArgument ||
				status.Convert(err).Message() != "etcdserver: request is too large") {
				t.Fatalf("%s refuses %d bytes with %v", name, length, err)
			}
			return err == nil
		}
		low, high := requestLimit-200, requestLimit+1
		if !accepted(low) || accepted(high) {
			t.Fatalf("%s: the limit does not lie between %d and %d", name, low, high)
		}
		for high-low > 1 {
			if middle := (low + high) / 2; accepted(middle) {
				low = middle
			} else {
				high = middle
			}
		}
		largest[name] = low
	}
	t.Logf("the largest value: %v", largest)
	if difference := largest["etcd"] - largest["store"]; difference < -12 || difference > 12 {
		t.Errorf("the largest values differ: %v", largest)
	}
}

// rawCodec sends bytes as they are.
type rawCodec struct{}

func (rawCodec) Marshal(value any) ([]byte, error) { return *value.(*[]byte), nil }
func (rawCodec) Unmarshal(data []byte, value any) error {
	*value.(*[]byte) = bytes.Clone(data)
	return nil
}
func (rawCodec) Name() string { return "proto" }

var _ encoding.Codec = rawCodec{}

// TestNoMessages sends bytes that are no protobuf to every unary method, asks for
// methods that are not there, and compares the codes with etcd's.
func TestNoMessages(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	processes := both(t)
	methods := []string{
		"/etcdserverpb.KV/Range", "/etcdserverpb.KV/Put", "/etcdserverpb.KV/DeleteRange", "/etcdserverpb.KV/Txn",
		"/etcdserverpb.KV/Compact", "/etcdserverpb.Lease/LeaseGrant", "/etcdserverpb.Lease/LeaseRevoke",
		"/etcdserverpb.Lease/LeaseTimeToLive", "/etcdserverpb.Maintenance/HashKV", "/etcdserverpb.Maintenance/Alarm",
		"/etcdserverpb.KV/Nothing", "/nothing.Nothing/Nothing",
	}
	random := rand.New(rand.NewPCG(seed, 1))
	for range 300 {
		method := methods[random.IntN(len(methods))]
		garbage := make([]byte, 1+random.IntN(60))
		for i := range garbage {
			garbage[i] = byte(random.IntN(256))
		}
		found := map[string]codes.Code{}
		for name, process := range processes {
			found[name] = call(t, process, method, garbage)
		}
		if found["etcd"] != found["store"] {
			t.Errorf("%s with %x: etcd answers %v, the store %v", method, garbage, found["etcd"], found["store"])
		}
	}
}

// TestFieldsOfAnotherType sends fields whose wire type is not that of the descriptor, which
// Go skips, and bytes that are malformed nearby.
func TestFieldsOfAnotherType(t *testing.T) {
	processes := both(t)
	deep := func(depth int) string {
		return strings.Repeat("\x0b", depth) + strings.Repeat("\x0c", depth) + "\x0a\x01k"
	}
	for method, messages := range map[string][]string{
		"/etcdserverpb.KV/Range": {
			"\x08\xc7\xfb\x02", "\x08\x01\x0a\x01k", "\x0a\x01k\x0d\x01\x02\x03\x04", "\x1a\x01\x09\x0a\x01k",
			"\x0b\x88\x80\x80\x80\x10\x01\x0c\x0a\x01k", "\x08\x01\x88\x80\x80\x80\x10\x01", "\x08\x01\x0c",
			"\x08\x01\x00\x01", "\x0b\x14", "\x0b\x08\x01", "\x08\x01\x0e", "\x08\x80",
			"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02\x0a\x01k",
			deep(100), deep(101), deep(10_000), deep(10_001), deep(10_002),
		},
		"/etcdserverpb.KV/Txn": {
			"\x12\x07\x0a\x05\x08\x07\x0a\x01k\x10\x03", "\x12\x07\x0a\x05\x08\x07\x0a\x02k\x10\x03", "\x10\x03",
		},
		"/grpc.health.v1.Health/Check": {"\x08\x01", "\x08\x01\x0a\x01k", "\x08\x01\x0a\x01\xff"},
	} {
		for _, message := range messages {
			etcd := call(t, processes["etcd"], method, []byte(message))
			found := call(t, processes["store"], method, []byte(message))
			if etcd != found {
				t.Errorf("%s with %d bytes, %.60x: etcd answers %v, the store %v", method, len(message), message, etcd, found)
			}
		}
	}
}

func call(t *testing.T, process *store.Process, method string, message []byte) codes.Code {
	t.Helper()
	return status.Code(invoke(t, process, method, message, 10*time.Second))
}

// invoke sends one message as it is.
func invoke(t *testing.T, process *store.Process, method string, message []byte, within time.Duration) error {
	t.Helper()
	connection, err := grpc.NewClient("passthrough:///"+process.Endpoint(),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	var reply []byte
	return connection.Invoke(ctx, method, &message, &reply, grpc.ForceCodec(rawCodec{}))
}

// TestGarbageFrames sends bytes that are no HTTP, and HTTP/2 that breaks off or makes
// no sense, while another client is served.
func TestGarbageFrames(t *testing.T) {
	process := store.MustStart(t, store.UnderTest())
	client := process.MustDial(t)
	preface := "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	random := rand.New(rand.NewPCG(7, 7))
	for n := range 200 {
		connection, err := net.Dial("tcp", process.Endpoint())
		if err != nil {
			t.Fatal(err)
		}
		content := make([]byte, random.IntN(2000))
		for i := range content {
			content[i] = byte(random.IntN(256))
		}
		if n%2 == 0 {
			content = append([]byte(preface), content...)
		}
		if n%5 == 0 {
			// A SETTINGS frame, then HEADERS on a stream of an impossible length.
			content = append([]byte(preface+"\x00\x00\x00\x04\x00\x00\x00\x00\x00\xff\xff\xff\x01\x04\x00\x00\x00\x01"), content...)
		}
		// The server may close while we write.
		_, _ = connection.Write(content)
		if n%3 != 0 {
			_ = connection.Close()
		} else {
			t.Cleanup(func() { _ = connection.Close() })
		}
		put := &pb.PutRequest{Key: fmt.Appendf(nil, "k%d", n)}
		if _, err := client.KV.Put(t.Context(), put); err != nil {
			t.Fatalf("after %d connections: %v", n, err)
		}
	}
	if !process.Alive() {
		t.Fatal("the server has ended")
	}
}

// TestTxnThatEndsEtcd sends a transaction that ends etcd 3.7.3 with a panic, found by
// the oracle: the delete is not seen as overlapping the put, whose key is then gone.
// The server has to answer, and to go on.
func TestTxnThatEndsEtcd(t *testing.T) {
	process := store.MustStart(t, store.UnderTest())
	if store.IsEtcd() {
		t.Skip("it would end")
	}
	client := process.MustDial(t)
	put(t, client, "d", []byte("v"))
	for _, one := range []*pb.PutRequest{
		{Key: []byte("d"), Value: []byte("w"), IgnoreLease: true}, {Key: []byte("d"), IgnoreValue: true},
	} {
		_, err := client.KV.Txn(t.Context(), &pb.TxnRequest{Success: []*pb.RequestOp{
			{Request: &pb.RequestOp_RequestDeleteRange{
				RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte{0}, RangeEnd: []byte{0}}}},
			{Request: &pb.RequestOp_RequestPut{RequestPut: one}},
		}})
		if code := status.Code(err); code != codes.OK && code != codes.InvalidArgument {
			t.Fatalf("answered with %v", err)
		}
		reply, err := client.KV.Range(t.Context(), &pb.RangeRequest{Key: []byte("d")})
		if err != nil || reply.Count != 1 {
			t.Fatalf("afterwards: %v %v", reply, err)
		}
	}
}
