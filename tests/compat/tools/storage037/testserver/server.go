// Package testserver takes the place of k8s.io/apiserver/pkg/storage/etcd3/testserver
// when Kubernetes' storage tests are compiled (go build -overlay): the same two
// functions, but the server is the program in $STORE_BIN instead of an etcd inside
// the test binary.
//
// When a test ends, the number of RangeStream calls that its server has counted is
// appended to the file $STORAGE037_CALLS, so that the suite can show that lists
// were streamed and did not fall back to pages.
package testserver

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest"
	storagetesting "k8s.io/apiserver/pkg/storage/testing"
)

// readyTimeout bounds the wait for the first answer.
const readyTimeout = 60 * time.Second

// NewTestConfig gives what the tests then change: URLs, TLS, quota, intervals.
func NewTestConfig(t testing.TB) *embed.Config {
	config := embed.NewConfig()
	config.UnsafeNoFsync = true
	client, peer := freeURL(t), freeURL(t)
	config.ListenClientUrls, config.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	config.ListenPeerUrls, config.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	config.Dir = filepath.Join(t.TempDir(), "data")
	return config
}

// freeURL draws a port below those that the kernel gives to outgoing connections.
func freeURL(t testing.TB) url.URL {
	t.Helper()
	for range 100 {
		address := fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(9_000))
		if listener, err := net.Listen("tcp", address); err == nil {
			_ = listener.Close()
			return url.URL{Scheme: "http", Host: address}
		}
	}
	t.Fatal("no free port found between 10000 and 19000")
	return url.URL{}
}

// RunEtcd starts the program with the configuration as flags and gives a client
// of the kind that the tests expect.
func RunEtcd(t testing.TB, config *embed.Config) *kubernetes.Client {
	t.Helper()
	if config == nil {
		config = NewTestConfig(t)
	}
	start(t, config)
	tls, err := config.ClientTLSInfo.ClientConfig()
	if err != nil {
		t.Fatal(err)
	}
	client, err := kubernetes.New(clientv3.Config{
		TLS: tls, Endpoints: []string{config.AdvertiseClientUrls[0].String()}, DialTimeout: 10 * time.Second,
		Logger: zaptest.NewLogger(t, zaptest.Level(zapcore.ErrorLevel)),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
	defer cancel()
	for {
		if _, err = client.Client.Get(ctx, "ready"); err == nil {
			break
		}
		if ctx.Err() != nil {
			t.Fatalf("the store does not answer: %v", err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	recorder := storagetesting.NewKubernetesRecorder(client.Kubernetes)
	client.KV = storagetesting.NewKVRecorder(client.KV, recorder)
	client.Kubernetes = recorder
	return client
}

func start(t testing.TB, config *embed.Config) {
	t.Helper()
	client, peer := config.ListenClientUrls[0].String(), config.ListenPeerUrls[0].String()
	flags := []string{
		"--name=" + config.Name, "--data-dir=" + config.Dir, "--log-level=error", "--unsafe-no-fsync",
		"--listen-client-urls=" + client, "--advertise-client-urls=" + client,
		"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer,
		"--initial-cluster=" + config.Name + "=" + peer,
		fmt.Sprintf("--max-request-bytes=%d", config.MaxRequestBytes),
		fmt.Sprintf("--quota-backend-bytes=%d", config.QuotaBackendBytes),
		fmt.Sprintf("--watch-progress-notify-interval=%v", config.WatchProgressNotifyInterval),
	}
	if tls := config.ClientTLSInfo; tls.CertFile != "" {
		flags = append(flags, "--cert-file="+tls.CertFile, "--key-file="+tls.KeyFile,
			"--trusted-ca-file="+tls.TrustedCAFile)
	}
	command := exec.Command(os.Getenv("STORE_BIN"), flags...)
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	command.Stdout, command.Stderr = log, log
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		countStreams(client)
		// The error says that it was killed.
		_ = command.Process.Kill()
		_ = command.Wait()
		if content, err := os.ReadFile(log.Name()); err == nil && t.Failed() {
			t.Logf("the store's log:\n%s", content[max(0, len(content)-4000):])
		}
	})
}

var streamed = regexp.MustCompile(`(?m)^grpc_server_started_total\{[^}]*grpc_method="RangeStream"[^}]*\} (\d+)`)

// countStreams appends the server's count to the file that the suite reads.
func countStreams(client string) {
	path := os.Getenv("STORAGE037_CALLS")
	if path == "" || !strings.HasPrefix(client, "http://") {
		return
	}
	response, err := http.Get(client + "/metrics")
	if err != nil {
		return
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	found := streamed.FindSubmatch(content)
	if err != nil || found == nil {
		return
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return
	}
	defer file.Close()
	// A count that is lost makes the suite fail, which is loud enough.
	_, _ = fmt.Fprintf(file, "%s\n", found[1])
}
