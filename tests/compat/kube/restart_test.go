package kube

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"time"

	"sternpost.dev/compat/internal/store"
)

const (
	// writers is how many clients create and update objects all the time.
	writers = 4
	// kills is how often the store is killed under the apiserver.
	kills = 5
)

// TestKills kills the apiserver and, several times, the store under it, while
// objects are written and watched. What was acknowledged has to be there, with no
// version going back, and the watch has to have seen every change that it was
// told of again.
func TestKills(t *testing.T) {
	process := store.MustStart(t, store.UnderTest(), "--watch-progress-notify-interval=5s")
	server := startAPIServer(t, process)
	server.must(t, http.StatusCreated, http.MethodPost, namespaces, namespace("kills"))
	record := newRecord()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	for writer := range writers {
		running.Go(func() { record.write(ctx, server, writer) })
	}
	running.Go(func() { record.follow(ctx, server) })

	for range kills {
		time.Sleep(1500 * time.Millisecond)
		process.Kill()
		if err := process.Restart(); err != nil {
			t.Fatalf("the store does not come back: %v", err)
		}
		record.waitProgress(t)
	}
	server.kill()
	if err := server.start(); err != nil {
		t.Fatal(err)
	}
	server.waitReady(t)
	record.waitProgress(t)
	cancel()
	running.Wait()
	record.judge(t, server)
}

// record is what writers and the watch know. An outcome that nobody heard of
// stays open: the object may have the version before it or a later one.
type record struct {
	mutex sync.Mutex
	// acknowledged has the highest version that the server has answered for a name.
	acknowledged map[string]int64
	writes       int
	failures     int
	// seen has the versions that the watch has delivered, by name.
	seen map[string][]int64
	// relists counts how often the watch had to begin again from a list.
	relists, resumed int
	wrong            []string
}

func newRecord() *record {
	return &record{acknowledged: map[string]int64{}, seen: map[string][]int64{}}
}

const killPath = namespaces + "/kills/configmaps"

// write creates objects and updates each a few times, without guarding.
func (r *record) write(ctx context.Context, server *apiserver, writer int) {
	for n := 0; ctx.Err() == nil; n++ {
		name := fmt.Sprintf("w%d-%05d", writer, n/4)
		body := configMap(name, map[string]string{"n": fmt.Sprint(n)})
		method, path := http.MethodPost, killPath
		if n%4 > 0 {
			method, path = http.MethodPut, killPath+"/"+name
		}
		code, reply, err := server.try(method, path, "application/json", body)
		r.mutex.Lock()
		if err == nil && (code == http.StatusOK || code == http.StatusCreated) {
			if reply.version() <= r.acknowledged[name] {
				r.wrong = append(r.wrong, fmt.Sprintf("%s: version %d after %d", name, reply.version(), r.acknowledged[name]))
			}
			r.acknowledged[name] = reply.version()
			r.writes++
		} else {
			r.failures++
		}
		r.mutex.Unlock()
		if err != nil || code >= http.StatusInternalServerError {
			time.Sleep(50 * time.Millisecond)
		}
	}
}

// follow watches as a client's informer does: from the last version on, and from a
// list again only when the server says that this is too old.
func (r *record) follow(ctx context.Context, server *apiserver) {
	version := int64(0)
	for ctx.Err() == nil {
		if version == 0 {
			code, list, err := server.try(http.MethodGet, killPath+"?limit=0", "", nil)
			if err != nil || code != http.StatusOK {
				time.Sleep(50 * time.Millisecond)
				continue
			}
			version = list.version()
			r.mutex.Lock()
			r.relists++
			for _, item := range list.items() {
				r.seen[item.name()] = append(r.seen[item.name()], item.version())
			}
			r.mutex.Unlock()
		}
		options := url.Values{"resourceVersion": {fmt.Sprint(version)}, "allowWatchBookmarks": {"true"}}
		// However the watch ends, the next one goes on where it stood.
		_ = server.watch(ctx, killPath, options, func(event watchEvent) bool {
			if event.Type == "ERROR" {
				if event.Object.at("code") == float64(http.StatusGone) {
					version = 0
				}
				return false
			}
			r.noteEvent(event, version)
			version = event.Object.version()
			return true
		})
		r.mutex.Lock()
		r.resumed++
		r.mutex.Unlock()
		time.Sleep(20 * time.Millisecond)
	}
}

func (r *record) noteEvent(event watchEvent, last int64) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if event.Object.version() < last || event.Object.version() == last && event.Type != "BOOKMARK" {
		r.wrong = append(r.wrong, fmt.Sprintf("the watch goes from %d to %d", last, event.Object.version()))
	}
	if event.Type == "ADDED" || event.Type == "MODIFIED" {
		name := event.Object.name()
		r.seen[name] = append(r.seen[name], event.Object.version())
	}
}

// waitProgress waits until more writes have been acknowledged.
func (r *record) waitProgress(t *testing.T) {
	t.Helper()
	count := func() int {
		r.mutex.Lock()
		defer r.mutex.Unlock()
		return r.writes
	}
	before := count()
	eventually(t, 90*time.Second, "writes go on after a restart", func() error {
		if now := count(); now < before+20 {
			return fmt.Errorf("%d more", now-before)
		}
		return nil
	})
}

func (r *record) judge(t *testing.T, server *apiserver) {
	stored := map[string]int64{}
	for _, item := range server.must(t, http.StatusOK, http.MethodGet, killPath, nil).items() {
		stored[item.name()] = item.version()
	}
	r.mutex.Lock()
	defer r.mutex.Unlock()
	for _, wrong := range r.wrong {
		t.Error(wrong)
	}
	unseen := 0
	for name, version := range r.acknowledged {
		if stored[name] < version {
			t.Errorf("%s was acknowledged at version %d and is stored at %d", name, version, stored[name])
		}
		// The last moments of the watch were cut off with it.
		if versions := r.seen[name]; len(versions) == 0 || versions[len(versions)-1] < version {
			unseen++
		}
	}
	if unseen > writers*4 {
		t.Errorf("the watch has not seen the last version of %d of %d objects", unseen, len(r.acknowledged))
	}
	t.Logf("%d writes acknowledged on %d objects, %d failed; %d kills; the watch was taken up %d times, %d lists",
		r.writes, len(r.acknowledged), r.failures, kills, r.resumed, r.relists)
}
