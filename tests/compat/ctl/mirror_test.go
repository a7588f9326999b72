package ctl

import (
	"context"
	"fmt"
	"os/exec"
	"testing"
	"time"

	"sternpost.dev/compat/internal/store"
)

// mirrored is how many keys there are when a mirror begins: more than a page of its reading.
const mirrored = 1500

// TestMakeMirror has etcdctl copy the server under test into a real etcd, and that into
// another server under test, while keys change: in the end all hold the same.
func TestMakeMirror(t *testing.T) {
	etcdctl := store.Tool("etcdctl")
	store.NeedTools(t, store.Tool("etcd"), etcdctl, store.UnderTest())
	first := store.MustStart(t, store.UnderTest())
	middle := store.MustStart(t, store.Tool("etcd"))
	last := store.MustStart(t, store.UnderTest())
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	client := first.MustDial(t)
	for number := range mirrored {
		put(ctx, t, client, fmt.Sprintf("m/%05d", number), []byte("first"))
	}
	for _, pair := range [][2]*store.Process{{first, middle}, {middle, last}} {
		mirror := exec.CommandContext(ctx, etcdctl, "--endpoints="+pair[0].URL(),
			"make-mirror", "--max-txn-ops=100", pair[1].Endpoint())
		if err := mirror.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() {
			_ = mirror.Process.Kill()
			_ = mirror.Wait()
		}()
	}
	for number := range 300 {
		put(ctx, t, client, fmt.Sprintf("m/%05d", 4*number), []byte("second"))
	}
	command(t, etcdctl, "--endpoints="+first.URL(), "del", "m/01", "m/011")
	list := func(process *store.Process) string {
		return string(command(t, etcdctl, "--endpoints="+process.URL(), "get", "--prefix", "m/"))
	}
	due := list(first)
	for list(middle) != due || list(last) != due {
		if ctx.Err() != nil {
			t.Fatalf("the mirrors never hold what the server under test holds")
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// TestCheckDatascale runs etcdctl's own check, which writes 10,000 keys and looks at the
// memory that /metrics tells.
func TestCheckDatascale(t *testing.T) {
	store.NeedTools(t, store.Tool("etcdctl"), store.UnderTest())
	process := store.MustStart(t, store.UnderTest())
	output := command(t, store.Tool("etcdctl"), "--endpoints="+process.URL(), "check", "datascale",
		"--load=s", "--auto-compact", "--auto-defrag")
	t.Logf("%s", output)
}
