package badinput

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"sternpost.dev/compat/internal/store"
)

// TestTermination stops a member while its clients hold it up, and prints how long that took
// (docs/operations.md). It fails when the member has to be killed, or loses what it answered.
func TestTermination(t *testing.T) {
	if store.IsEtcd() {
		t.Skip("etcd waits for its clients")
	}
	everything := &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}}
	all := &pb.WatchCreateRequest{Key: []byte{0}, RangeEnd: []byte{0}, StartRevision: 1}
	for name, hold := range map[string]func(t *testing.T, process *store.Process){
		"nobody": func(*testing.T, *store.Process) {},
		"eight clients that stopped reading lists, streams and watches": func(t *testing.T, process *store.Process) {
			for range 8 {
				client := process.MustDial(t)
				list, err := client.KV.RangeStream(t.Context(), everything)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := list.Recv(); err != nil {
					t.Fatal(err)
				}
				openWatch(t.Context(), t, client, all)
				go func() { _, _ = client.KV.Range(context.Background(), everything) }()
			}
		},
		"1,000 watchers on one stream": func(t *testing.T, process *store.Process) {
			stream := openWatch(t.Context(), t, process.MustDial(t))
			for n := range 1000 {
				send(t, stream, &pb.WatchCreateRequest{Key: fmt.Appendf(nil, "w/%d", n)})
				if _, err := stream.Recv(); err != nil {
					t.Fatal(err)
				}
			}
		},
		"1,000 streams of ten connections": func(t *testing.T, process *store.Process) {
			for range 10 {
				client := process.MustDial(t)
				for n := range 100 {
					openWatch(t.Context(), t, client, &pb.WatchCreateRequest{Key: fmt.Appendf(nil, "w/%d", n)})
				}
			}
		},
		"lists that are being read": func(t *testing.T, process *store.Process) {
			for range 4 {
				client := process.MustDial(t)
				go func() {
					for {
						if _, err := client.KV.Range(context.Background(), everything); err != nil {
							return
						}
					}
				}()
			}
			time.Sleep(200 * time.Millisecond)
		},
	} {
		t.Run(name, func(t *testing.T) {
			process := store.MustStart(t, store.UnderTest())
			client := process.MustDial(t)
			var last int64
			for n := range 2000 {
				last = put(t, client, fmt.Sprintf("list/%05d", n), bytes.Repeat([]byte("v"), 8192))
			}
			hold(t, process)
			begin := time.Now()
			if err := process.Stop(); err != nil {
				t.Fatal(err)
			}
			t.Logf("SIGTERM, held up by %s: %v", name, time.Since(begin).Round(10*time.Millisecond))
			if err := process.Restart(); err != nil {
				t.Fatal(err)
			}
			reply, err := process.MustDial(t).KV.Range(t.Context(), &pb.RangeRequest{Key: []byte("list/01999")})
			if err != nil || len(reply.Kvs) != 1 || reply.Kvs[0].ModRevision != last {
				t.Fatalf("after the restart: %v %v", reply, err)
			}
		})
	}
}
