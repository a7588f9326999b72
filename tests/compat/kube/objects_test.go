package kube

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"sternpost.dev/compat/internal/store"
)

const namespaces = "/api/v1/namespaces"

// TestAPIServer runs an apiserver's kinds of work on the store under test.
func TestAPIServer(t *testing.T) {
	process := store.MustStart(t, store.UnderTest(), "--watch-progress-notify-interval=5s")
	server := startAPIServer(t, process)
	server.must(t, http.StatusCreated, http.MethodPost, namespaces, namespace("compat"))
	t.Run("pods", func(t *testing.T) { testPods(t, server) })
	t.Run("pages", func(t *testing.T) { testPages(t, server) })
	t.Run("guarded updates", func(t *testing.T) { testGuardedUpdates(t, server) })
	t.Run("server-side apply", func(t *testing.T) { testServerSideApply(t, server) })
	t.Run("custom resources", func(t *testing.T) { testCustomResources(t, server) })
	t.Run("watches", func(t *testing.T) { testWatches(t, server) })
	t.Run("events with a lifetime", func(t *testing.T) { testEventLifetime(t, server, process) })
	t.Run("compactor", func(t *testing.T) { testCompactor(t, server, process) })
	t.Run("consistent reads from cache", func(t *testing.T) { testConsistentReads(t, server) })
	t.Run("namespace of everything", func(t *testing.T) { testRegistry(t, process) })
}

func namespace(name string) object {
	return object{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": name}}
}

func pod(name string) object {
	return object{
		"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": name, "labels": map[string]any{"app": "x"}},
		"spec": map[string]any{"containers": []any{map[string]any{"name": "c", "image": "example.org/none"}}},
	}
}

func testPods(t *testing.T, server *apiserver) {
	account := object{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": map[string]any{"name": "default"}}
	server.must(t, http.StatusCreated, http.MethodPost, namespaces+"/compat/serviceaccounts", account)
	pods := namespaces + "/compat/pods"
	for n := range 30 {
		server.must(t, http.StatusCreated, http.MethodPost, pods, pod(fmt.Sprintf("pod-%02d", n)))
	}
	if found := len(server.must(t, http.StatusOK, http.MethodGet, pods+"?labelSelector=app%3Dx", nil).items()); found != 30 {
		t.Errorf("%d pods, not 30", found)
	}
	server.must(t, http.StatusConflict, http.MethodPost, pods, pod("pod-01"))
	server.must(t, http.StatusOK, http.MethodDelete, pods+"/pod-00?gracePeriodSeconds=0", nil)
	server.must(t, http.StatusNotFound, http.MethodGet, pods+"/pod-00", nil)
	server.must(t, http.StatusNotFound, http.MethodDelete, pods+"/pod-00", nil)
	binding := object{"apiVersion": "v1", "kind": "Binding", "metadata": map[string]any{"name": "pod-01"},
		"target": map[string]any{"kind": "Node", "name": "nowhere"}}
	server.must(t, http.StatusCreated, http.MethodPost, pods+"/pod-01/binding", binding)
	bound := server.must(t, http.StatusOK, http.MethodGet, pods+"/pod-01", nil)
	if bound.text("spec", "nodeName") != "nowhere" {
		t.Errorf("the binding is lost: %v", bound["spec"])
	}
}

// testPages lists in pages from the store (resourceVersion exact) while it is written to.
func testPages(t *testing.T, server *apiserver) {
	const total, limit = 230, 50
	path := namespaces + "/compat/configmaps"
	for n := range total {
		server.must(t, http.StatusCreated, http.MethodPost, path,
			configMap(fmt.Sprintf("page-%03d", n), map[string]string{"n": fmt.Sprint(n)}))
	}
	var names []string
	more, version := "", ""
	for page := 0; page == 0 || more != ""; page++ {
		list := server.must(t, http.StatusOK, http.MethodGet,
			fmt.Sprintf("%s?limit=%d&continue=%s", path, limit, url.QueryEscape(more)), nil)
		if version == "" {
			version = list.text("metadata", "resourceVersion")
		}
		if list.text("metadata", "resourceVersion") != version {
			t.Errorf("page %d is of another revision", page)
		}
		for _, item := range list.items() {
			names = append(names, item.name())
		}
		more = list.text("metadata", "continue")
		// Neither of these may show in later pages.
		server.must(t, http.StatusCreated, http.MethodPost, path, configMap(fmt.Sprintf("zz-late-%d", page), nil))
		server.must(t, http.StatusOK, http.MethodDelete, path+fmt.Sprintf("/page-%03d", total-1-page), nil)
	}
	late := 0
	for n, name := range names {
		if n > 0 && names[n-1] >= name {
			t.Fatalf("%s comes after %s", name, names[n-1])
		}
		if strings.HasPrefix(name, "zz-late") {
			late++
		}
	}
	if len(names) != total+late || late != 0 {
		t.Errorf("%d names in all pages, %d of them late; want %d", len(names), late, total)
	}
	server.must(t, http.StatusOK, http.MethodGet, path+"?resourceVersionMatch=Exact&resourceVersion="+version, nil)
}

// testGuardedUpdates updates Lease objects as kubelets do, and loses a race on purpose.
func testGuardedUpdates(t *testing.T, server *apiserver) {
	path := "/apis/coordination.k8s.io/v1/namespaces/compat/leases"
	lease := object{"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
		"metadata": map[string]any{"name": "node"}, "spec": map[string]any{"holderIdentity": "a"}}
	created := server.must(t, http.StatusCreated, http.MethodPost, path, lease)
	stale := created.text("metadata", "resourceVersion")
	current := created
	for n := range 50 {
		current["spec"].(map[string]any)["holderIdentity"] = fmt.Sprint(n)
		before := current.version()
		current = server.must(t, http.StatusOK, http.MethodPut, path+"/node", current)
		if current.version() <= before {
			t.Fatalf("the version went from %d to %d", before, current.version())
		}
	}
	current["metadata"].(map[string]any)["resourceVersion"] = stale
	server.must(t, http.StatusConflict, http.MethodPut, path+"/node", current)
}

func testServerSideApply(t *testing.T, server *apiserver) {
	path := namespaces + "/compat/configmaps/applied"
	apply := func(code int, owner, force string, data map[string]string) object {
		body := configMap("applied", data)
		return server.mustAs(t, code, http.MethodPatch,
			path+"?fieldManager="+owner+"&force="+force, "application/apply-patch+yaml", body)
	}
	apply(http.StatusCreated, "one", "false", map[string]string{"a": "1", "b": "1"})
	apply(http.StatusOK, "two", "false", map[string]string{"c": "2"})
	apply(http.StatusConflict, "two", "false", map[string]string{"a": "2"})
	merged := apply(http.StatusOK, "two", "true", map[string]string{"a": "2"})
	if merged.text("data", "a") != "2" || merged.text("data", "b") != "1" || merged.at("data", "c") != nil {
		t.Errorf("the merged data are %v", merged["data"])
	}
}

func testCustomResources(t *testing.T, server *apiserver) {
	definitions := "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
	definition := object{
		"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
		"metadata": map[string]any{"name": "masts.compat.sternpost.dev"},
		"spec": map[string]any{
			"group": "compat.sternpost.dev", "scope": "Namespaced",
			"names": map[string]any{"plural": "masts", "singular": "mast", "kind": "Mast"},
			"versions": []any{map[string]any{
				"name": "v1", "served": true, "storage": true,
				"schema": map[string]any{"openAPIV3Schema": map[string]any{
					"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
			}},
		},
	}
	server.must(t, http.StatusCreated, http.MethodPost, definitions, definition)
	path := "/apis/compat.sternpost.dev/v1/namespaces/compat/masts"
	mast := object{"apiVersion": "compat.sternpost.dev/v1", "kind": "Mast",
		"metadata": map[string]any{"name": "main"}, "height": 12}
	eventually(t, time.Minute, "the custom resource is served", func() error {
		code, body, err := server.try(http.MethodPost, path, "application/json", mast)
		if err != nil || code != http.StatusCreated {
			return fmt.Errorf("%d %v %v", code, err, body)
		}
		return nil
	})
	if items := server.must(t, http.StatusOK, http.MethodGet, path, nil).items(); len(items) != 1 {
		t.Errorf("%d custom resources, not 1", len(items))
	}
	server.must(t, http.StatusOK, http.MethodDelete, definitions+"/masts.compat.sternpost.dev", nil)
	eventually(t, time.Minute, "the custom resource is gone", func() error {
		code, _, err := server.try(http.MethodGet, path, "", nil)
		if code != http.StatusNotFound {
			return fmt.Errorf("%d %v", code, err)
		}
		return nil
	})
}

// testWatches follows changes from a version on, with bookmarks, and takes the
// initial state from a watch.
func testWatches(t *testing.T, server *apiserver) {
	path := namespaces + "/compat/secrets"
	version := server.must(t, http.StatusOK, http.MethodGet, path, nil).text("metadata", "resourceVersion")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	const changes = 40
	for n := range changes {
		secret := object{"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{"name": fmt.Sprintf("s-%02d", n%10)}}
		switch (n / 10) % 2 {
		case 0:
			server.must(t, http.StatusCreated, http.MethodPost, path, secret)
		default:
			server.must(t, http.StatusOK, http.MethodDelete, path+"/"+secret.name(), nil)
		}
	}
	var seen []watchEvent
	err := server.watch(ctx, path, url.Values{"resourceVersion": {version}}, func(event watchEvent) bool {
		seen = append(seen, event)
		return len(seen) < changes
	})
	if err != nil {
		t.Fatalf("%v after %d events", err, len(seen))
	}
	for n, event := range seen {
		want := [...]string{"ADDED", "DELETED"}[(n/10)%2]
		if event.Type != want || event.Object.name() != fmt.Sprintf("s-%02d", n%10) {
			t.Errorf("event %d is %s of %s, not %s", n, event.Type, event.Object.name(), want)
		}
	}
	added, marked := 0, false
	options := url.Values{"sendInitialEvents": {"true"}, "allowWatchBookmarks": {"true"},
		"resourceVersionMatch": {"NotOlderThan"}}
	err = server.watch(ctx, namespaces+"/compat/configmaps", options, func(event watchEvent) bool {
		if event.Type == "ADDED" {
			added++
		}
		marked = event.Type == "BOOKMARK"
		return !marked
	})
	list := len(server.must(t, http.StatusOK, http.MethodGet, namespaces+"/compat/configmaps", nil).items())
	if err != nil || added != list {
		t.Errorf("the watch has given %d objects before its bookmark, the list has %d; %v", added, list, err)
	}
}

// testEventLifetime sees Event objects go with their lease.
func testEventLifetime(t *testing.T, server *apiserver, process *store.Process) {
	path := namespaces + "/compat/events"
	for n := range 10 {
		event := object{"apiVersion": "v1", "kind": "Event", "metadata": map[string]any{"name": fmt.Sprintf("e%d", n)},
			"involvedObject": map[string]any{"kind": "Pod", "name": "pod-01", "namespace": "compat"},
			"reason":         "Compat", "type": "Normal"}
		server.must(t, http.StatusCreated, http.MethodPost, path, event)
	}
	leases, err := process.MustDial(t).Lease.LeaseLeases(context.Background(), &pb.LeaseLeasesRequest{})
	if err != nil || len(leases.Leases) == 0 {
		t.Errorf("the apiserver took no lease for its events: %v %v", leases, err)
	}
	if found := len(server.must(t, http.StatusOK, http.MethodGet, path, nil).items()); found != 10 {
		t.Errorf("%d events, not 10", found)
	}
	eventually(t, 10*eventLifetime, "the events are gone", func() error {
		if found := len(server.must(t, http.StatusOK, http.MethodGet, path, nil).items()); found != 0 {
			return fmt.Errorf("%d left", found)
		}
		return nil
	})
}

// testCompactor waits until the store is compacted, and asks for what is gone.
func testCompactor(t *testing.T, server *apiserver, process *store.Process) {
	client := process.MustDial(t)
	compacted := func() int64 {
		reply, err := client.Maintenance.HashKV(context.Background(), &pb.HashKVRequest{})
		if err != nil {
			t.Fatal(err)
		}
		return reply.CompactRevision
	}
	path := namespaces + "/compat/configmaps"
	old := server.must(t, http.StatusOK, http.MethodGet, path+"?limit=1", nil)
	version := old.version()
	eventually(t, 20*compactionInterval, "the compactor has passed the revision of a list", func() error {
		server.must(t, http.StatusOK, http.MethodPut, path+"/page-000", configMap("page-000", map[string]string{"t": time.Now().String()}))
		if now := compacted(); now <= version {
			return fmt.Errorf("compacted up to %d, listed at %d", now, version)
		}
		return nil
	})
	// The apiserver may still answer from its cache; the store must not.
	_, err := client.KV.Range(context.Background(), &pb.RangeRequest{Key: []byte("/registry/"), Revision: version})
	if status.Code(err) != codes.OutOfRange {
		t.Errorf("a read at a compacted revision is answered with %v", err)
	}
	for _, gone := range []string{
		fmt.Sprintf("%s?resourceVersionMatch=Exact&limit=3&resourceVersion=%d", path, version),
		path + "?limit=1&continue=" + old.text("metadata", "continue"),
	} {
		code, body, err := server.try(http.MethodGet, gone, "", nil)
		if err != nil || code != http.StatusGone && code != http.StatusOK {
			t.Errorf("%s is answered with %d: %v %v", gone, code, err, body)
		}
	}
}

// testConsistentReads sees that lists without a version come from the cache, which
// asks the store for progress, and that no such read has fallen back.
func testConsistentReads(t *testing.T, server *apiserver) {
	path := namespaces + "/compat/configmaps"
	for n := range 20 {
		name := fmt.Sprintf("fresh-%d", n)
		server.must(t, http.StatusCreated, http.MethodPost, path, configMap(name, nil))
		found := false
		for _, item := range server.must(t, http.StatusOK, http.MethodGet, path, nil).items() {
			found = found || item.name() == name
		}
		if !found {
			t.Fatalf("a list does not hold %s, which was created before it", name)
		}
	}
	code, metrics, err := server.raw(context.Background(), http.MethodGet, "/metrics", "", nil)
	if err != nil || code != http.StatusOK {
		t.Fatal(code, err)
	}
	fromCache, fallenBack := 0.0, 0.0
	for _, line := range strings.Split(string(metrics), "\n") {
		if !strings.HasPrefix(line, "apiserver_watch_cache_consistent_read_total{") {
			continue
		}
		var count float64
		if _, err := fmt.Sscan(line[strings.LastIndex(line, " ")+1:], &count); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(line, `success="true"`) && strings.Contains(line, `fallback="false"`) {
			fromCache += count
		} else {
			fallenBack += count
			t.Logf("%s", line)
		}
	}
	if fromCache < 20 || fallenBack > 0 {
		t.Errorf("%v consistent reads from the cache, %v were not", fromCache, fallenBack)
	}
}

// testRegistry looks at what the apiserver has written beneath its prefix.
func testRegistry(t *testing.T, process *store.Process) {
	reply, err := process.MustDial(t).KV.Range(context.Background(), &pb.RangeRequest{
		Key: []byte("/registry/"), RangeEnd: []byte("/registry0"), KeysOnly: true})
	if err != nil || reply.Count < 100 {
		t.Errorf("%d keys under /registry, %v", reply.GetCount(), err)
	}
	t.Logf("%d keys under /registry at revision %d", reply.GetCount(), reply.GetHeader().GetRevision())
}
