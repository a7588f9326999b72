// Package http compares what the plain HTTP endpoints of a real etcd and of the
// server under test answer: status, content type and body, on the client port and on
// the metrics port.
package http

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"sternpost.dev/compat/internal/store"
)

// requests are method and path.
var requests = []string{
	"GET /version", "POST /version", "GET /health", "GET /health?serializable=true", "GET /health?exclude=NOSPACE",
	"POST /health", "GET /livez", "GET /livez?verbose", "GET /readyz", "GET /readyz?verbose=1", "POST /readyz",
	"GET /readyz/linearizable_read", "GET /readyz/nothing", "GET /livez/serializable_read", "GET /livez/ping",
	"GET /readyz?exclude=data_corruption&exclude=nothing&verbose", "GET /", "GET /v2/keys", "GET /members",
	"GET /config/local/log", "GET /nothing",
}

// onMetricsPort are those that etcd serves there as well.
var onMetricsPort = []string{"GET /health", "GET /livez", "GET /readyz", "GET /version", "POST /health"}

type answer struct {
	status      int
	contentType string
	allow       string
	body        string
}

var threeDigits = regexp.MustCompile(`3\.7\.\d+`)

func ask(t *testing.T, client *http.Client, base, request string) answer {
	t.Helper()
	method, path, _ := strings.Cut(request, " ")
	asked, err := http.NewRequestWithContext(t.Context(), method, base+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(asked)
	if err != nil {
		t.Fatalf("%s: %v", request, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	// The checks of a verbose answer come in no order.
	lines := strings.Split(strings.TrimSpace(threeDigits.ReplaceAllString(string(body), "3.7.x")), "\n")
	slices.Sort(lines)
	return answer{
		status: response.StatusCode, contentType: response.Header.Get("Content-Type"),
		allow: response.Header.Get("Allow"), body: strings.Join(lines, "\n"),
	}
}

func clients() map[string]*http.Client {
	prior := &http.Protocols{}
	prior.SetUnencryptedHTTP2(true)
	return map[string]*http.Client{
		"HTTP/1.1": {Timeout: 20 * time.Second, Transport: &http.Transport{}},
		"HTTP/2":   {Timeout: 20 * time.Second, Transport: &http.Transport{Protocols: prior}},
	}
}

type pair struct {
	process *store.Process
	metrics string
}

func start(t *testing.T) (etcd, tested pair) {
	t.Helper()
	for i, binary := range []string{store.Tool("etcd"), store.UnderTest()} {
		port, err := store.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		url := fmt.Sprintf("http://127.0.0.1:%d", port)
		started := pair{process: store.MustStart(t, binary, "--listen-metrics-urls="+url), metrics: url}
		if i == 0 {
			etcd = started
		} else {
			tested = started
		}
	}
	return etcd, tested
}

// TestEndpoints compares the answers.
func TestEndpoints(t *testing.T) {
	etcd, tested := start(t)
	for _, request := range requests {
		client := clients()["HTTP/1.1"]
		due, got := ask(t, client, etcd.process.URL(), request), ask(t, client, tested.process.URL(), request)
		if due != got {
			t.Errorf("%s: etcd answers %+v, the server under test %+v", request, due, got)
		}
		// etcd takes all HTTP/2 without TLS for gRPC (415). We answer as over HTTP/1.1.
		if store.IsEtcd() {
			continue
		}
		if got := ask(t, clients()["HTTP/2"], tested.process.URL(), request); due != got {
			t.Errorf("%s over HTTP/2: etcd answers %+v, the server under test %+v", request, due, got)
		}
	}
	for _, request := range onMetricsPort {
		client := clients()["HTTP/1.1"]
		due, got := ask(t, client, etcd.metrics, request), ask(t, client, tested.metrics, request)
		if due != got {
			t.Errorf("metrics port, %s: etcd answers %+v, the server under test %+v", request, due, got)
		}
	}
}

// TestVersion looks at what clients parse: three integers (contract 3.1).
func TestVersion(t *testing.T) {
	_, tested := start(t)
	response, err := http.Get(tested.process.URL() + "/version")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var version struct{ Etcdserver, Etcdcluster, Storage string }
	if err := json.NewDecoder(response.Body).Decode(&version); err != nil {
		t.Fatal(err)
	}
	if !threeDigits.MatchString(version.Etcdserver) || version.Etcdcluster != "3.7.0" || version.Storage != "3.7.0" {
		t.Errorf("/version says %+v", version)
	}
}
