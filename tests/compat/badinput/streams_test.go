package badinput

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"sternpost.dev/compat/internal/store"
)

// streamTimeout ends a test whose stream stays silent.
const streamTimeout = 90 * time.Second

func openWatch(ctx context.Context, t *testing.T, client *store.Client, creates ...*pb.WatchCreateRequest) pb.Watch_WatchClient {
	t.Helper()
	stream, err := client.Watch.Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, create := range creates {
		send(t, stream, create)
		reply, err := stream.Recv()
		if err != nil || !reply.Created || reply.Canceled {
			t.Fatalf("not created: %v %v", reply, err)
		}
	}
	return stream
}

func send(t *testing.T, stream pb.Watch_WatchClient, create *pb.WatchCreateRequest) {
	t.Helper()
	request := &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create}}
	if err := stream.Send(request); err != nil {
		t.Fatal(err)
	}
}

func put(t *testing.T, client *store.Client, key string, value []byte) int64 {
	t.Helper()
	reply, err := client.KV.Put(t.Context(), &pb.PutRequest{Key: []byte(key), Value: value})
	if err != nil {
		t.Fatal(err)
	}
	return reply.Header.Revision
}

// TestManyWatchers has a thousand watchers on one stream; each gets every event once.
func TestManyWatchers(t *testing.T) {
	const watchers, events = 1000, 30
	client := store.MustStart(t, store.UnderTest()).MustDial(t)
	ctx, cancel := context.WithTimeout(t.Context(), streamTimeout)
	defer cancel()
	stream := openWatch(ctx, t, client)
	for n := range watchers {
		send(t, stream, &pb.WatchCreateRequest{Key: []byte("k"), StartRevision: int64(n % 3)})
	}
	received := map[int64]int64{}
	count := 0
	for created := 0; created < watchers; created++ {
		reply, err := stream.Recv()
		if err != nil || !reply.Created || reply.WatchId != int64(created) {
			t.Fatalf("creation %d is answered with %v %v", created, reply, err)
		}
	}
	go func() {
		for range events {
			if _, err := client.KV.Put(ctx, &pb.PutRequest{Key: []byte("k"), Value: make([]byte, 1024)}); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	for count < watchers*events {
		reply, err := stream.Recv()
		if err != nil {
			t.Fatalf("%v after %d events", err, count)
		}
		for _, event := range reply.Events {
			if last := received[reply.WatchId]; last != 0 && event.Kv.ModRevision != last+1 {
				t.Fatalf("watcher %d goes from %d to %d", reply.WatchId, last, event.Kv.ModRevision)
			}
			received[reply.WatchId] = event.Kv.ModRevision
			count++
		}
	}
}

// TestCancelStorm cancels calls and streams by the thousand on one connection. A
// watch and puts on the same connection go on.
func TestCancelStorm(t *testing.T) {
	client := store.MustStart(t, store.UnderTest()).MustDial(t)
	ctx, cancel := context.WithTimeout(t.Context(), streamTimeout)
	defer cancel()
	stream := openWatch(ctx, t, client, &pb.WatchCreateRequest{Key: []byte("k")})
	for n := range 3000 {
		put(t, client, fmt.Sprintf("list/%05d", n), bytes.Repeat([]byte("v"), 500))
	}
	everything := &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}}
	for range 20 {
		var storm sync.WaitGroup
		for n := range 100 {
			storm.Go(func() {
				short, end := context.WithTimeout(ctx, time.Duration(n)*100*time.Microsecond)
				defer end()
				switch n % 3 {
				case 0:
					_, _ = client.KV.Range(short, everything)
				case 1:
					if list, err := client.KV.RangeStream(short, everything); err == nil {
						_, _ = list.Recv()
					}
				default:
					if watch, err := client.Watch.Watch(short); err == nil {
						_ = watch.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{
							CreateRequest: &pb.WatchCreateRequest{Key: []byte{0}, RangeEnd: []byte{0}, StartRevision: 1}}})
						_, _ = watch.Recv()
					}
				}
			})
		}
		storm.Wait()
		revision := put(t, client, "k", nil)
		reply, err := stream.Recv()
		if err != nil || len(reply.Events) != 1 || reply.Events[0].Kv.ModRevision != revision {
			t.Fatalf("the watch beside the storm: %v %v", reply, err)
		}
	}
}

// TestStoppedReader has clients that do not read their events for a while. They lose
// none, others are served, and the server's memory does not hold what waits for them.
func TestStoppedReader(t *testing.T) {
	const readers, events, size = 6, 600, 256 << 10
	// 256 MiB of superseded values, the ring of events with 64 MiB, and slack for the allocator:
	// half of what waits.
	const grownMost = 448 << 20
	process := store.MustStart(t, store.UnderTest())
	writer := process.MustDial(t)
	ctx, cancel := context.WithTimeout(t.Context(), streamTimeout)
	defer cancel()
	var stopped []pb.Watch_WatchClient
	for range readers {
		stopped = append(stopped, openWatch(ctx, t, process.MustDial(t), &pb.WatchCreateRequest{Key: []byte("k")}))
	}
	other := openWatch(ctx, t, writer, &pb.WatchCreateRequest{Key: []byte("k")})
	before := residentBytes(t, process)
	var last int64
	for n := range events {
		last = put(t, writer, "k", bytes.Repeat([]byte{byte(n)}, size))
		if reply, err := other.Recv(); err != nil || reply.Events[0].Kv.ModRevision != last {
			t.Fatalf("another watcher: %v", err)
		}
	}
	grown := residentBytes(t, process) - before
	t.Logf("%d MiB of events wait; the server has grown by %d MiB", readers*events*size>>20, grown>>20)
	if !store.IsEtcd() && grown > grownMost {
		t.Errorf("grown by %d MiB", grown>>20)
	}
	for _, stream := range stopped {
		for next := last - events + 1; next <= last; {
			reply, err := stream.Recv()
			if err != nil {
				t.Fatalf("at revision %d of %d: %v", next, last, err)
			}
			for _, event := range reply.Events {
				if event.Kv.ModRevision != next || len(event.Kv.Value) != size {
					t.Fatalf("revision %d with %d bytes instead of %d", event.Kv.ModRevision, len(event.Kv.Value), next)
				}
				next++
			}
		}
	}
}

func residentBytes(t *testing.T, process *store.Process) int {
	t.Helper()
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", process.ID()))
	if err != nil {
		t.Fatal(err)
	}
	_, value, _ := strings.Cut(string(content), "VmRSS:")
	var kibibytes int
	if _, err := fmt.Sscan(value, &kibibytes); err != nil {
		t.Fatal(err)
	}
	return kibibytes << 10
}

// TestHalfClosed ends the client's side of streams; what was asked is still answered.
func TestHalfClosed(t *testing.T) {
	client := store.MustStart(t, store.UnderTest()).MustDial(t)
	ctx, cancel := context.WithTimeout(t.Context(), streamTimeout)
	defer cancel()
	stream := openWatch(ctx, t, client, &pb.WatchCreateRequest{Key: []byte("k")})
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	revision := put(t, client, "k", nil)
	if reply, err := stream.Recv(); err != nil || reply.Events[0].Kv.ModRevision != revision {
		t.Errorf("after the half close: %v %v", reply, err)
	}
	alive, err := client.Lease.LeaseKeepAlive(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := alive.Send(&pb.LeaseKeepAliveRequest{ID: 77}); err != nil {
		t.Fatal(err)
	}
	if err := alive.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if reply, err := alive.Recv(); err != nil || reply.ID != 77 || reply.TTL != 0 {
		t.Errorf("keep-alive: %v %v", reply, err)
	}
	if _, err := alive.Recv(); status.Code(err) == codes.OK {
		t.Errorf("the keep-alive stream goes on: %v", err)
	}
}

// TestProgressNotify waits for the periodic messages of an idle watcher that asked
// for them, and sees that one that did not gets none.
func TestProgressNotify(t *testing.T) {
	client := store.MustStart(t, store.UnderTest(), "--watch-progress-notify-interval=200ms").MustDial(t)
	ctx, cancel := context.WithTimeout(t.Context(), streamTimeout)
	defer cancel()
	stream := openWatch(ctx, t, client, &pb.WatchCreateRequest{Key: []byte("k"), ProgressNotify: true},
		&pb.WatchCreateRequest{Key: []byte("l")})
	revision := put(t, client, "elsewhere", nil)
	for seen := 0; seen < 3; {
		reply, err := stream.Recv()
		if err != nil || reply.WatchId != 0 || len(reply.Events) != 0 || reply.Created || reply.Canceled {
			t.Fatalf("%v %v", reply, err)
		}
		if reply.Header.Revision == revision {
			seen++
		}
	}
}
