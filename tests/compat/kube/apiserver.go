package kube

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"sternpost.dev/compat/internal/store"
)

const (
	// token is the bearer token of a member of system:masters.
	token = "compat-token"
	// readyTimeout bounds the start of an apiserver on a busy machine.
	readyTimeout = 3 * time.Minute
	// compactionInterval is that of the apiserver's compactor; it compacts up to
	// what was current one interval ago.
	compactionInterval = 3 * time.Second
	// eventLifetime is how long Event objects live.
	eventLifetime = 5 * time.Second
)

// program is a Kubernetes process with its log.
type program struct {
	path      string
	arguments []string
	logPath   string
	command   *exec.Cmd
	exited    chan struct{}
}

func (p *program) start() error {
	log, err := os.OpenFile(p.logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	p.command = exec.Command(p.path, p.arguments...)
	p.command.Stdout, p.command.Stderr = log, log
	p.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.command.Start(); err != nil {
		return err
	}
	exited := make(chan struct{})
	command := p.command
	go func() {
		// How it ended stands in its log.
		_ = command.Wait()
		close(exited)
	}()
	p.exited = exited
	return nil
}

// kill ends the process as kill -9 does.
func (p *program) kill() {
	if p.command == nil || p.exited == nil {
		return
	}
	_ = p.command.Process.Kill()
	<-p.exited
}

func (p *program) logTail() string {
	content, err := os.ReadFile(p.logPath)
	if err != nil {
		return err.Error()
	}
	return string(content[max(0, len(content)-6000):])
}

// apiserver is a kube-apiserver on a store.
type apiserver struct {
	program
	port int
	*client
}

// startAPIServer starts an apiserver and waits until it is ready.
func startAPIServer(t *testing.T, process *store.Process) *apiserver {
	t.Helper()
	store.NeedTools(t, store.Tool("kube-apiserver"))
	directory := t.TempDir()
	port, err := store.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	key, public := keyPair(t, directory)
	tokens := filepath.Join(directory, "tokens.csv")
	if err := os.WriteFile(tokens, []byte(token+",admin,admin,system:masters\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	server := &apiserver{port: port}
	server.program = program{
		path: store.Tool("kube-apiserver"), logPath: filepath.Join(directory, "log"),
		arguments: []string{
			"--etcd-servers=" + process.URL(),
			"--etcd-compaction-interval=" + compactionInterval.String(),
			"--event-ttl=" + eventLifetime.String(),
			"--service-account-issuer=https://kubernetes.default.svc",
			"--service-account-key-file=" + public, "--service-account-signing-key-file=" + key,
			"--cert-dir=" + filepath.Join(directory, "certs"), "--bind-address=127.0.0.1",
			fmt.Sprintf("--secure-port=%d", port), "--token-auth-file=" + tokens,
			"--authorization-mode=RBAC", "--service-cluster-ip-range=10.0.0.0/24",
		},
	}
	server.client = newClient(port)
	if err := server.start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		server.kill()
		if t.Failed() {
			t.Logf("the end of kube-apiserver's log:\n%s", server.logTail())
		}
	})
	server.waitReady(t)
	return server
}

func (s *apiserver) waitReady(t *testing.T) {
	t.Helper()
	begin := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
	defer cancel()
	for {
		code, body, err := s.raw(ctx, http.MethodGet, "/readyz?verbose", "", nil)
		if err == nil && code == http.StatusOK {
			t.Logf("the apiserver is ready after %v", time.Since(begin).Round(100*time.Millisecond))
			return
		}
		select {
		case <-s.exited:
			t.Fatalf("the apiserver has ended:\n%s", s.logTail())
		case <-ctx.Done():
			t.Fatalf("the apiserver is not ready after %v: %v\n%s", readyTimeout, err, body)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func keyPair(t *testing.T, directory string) (private, public string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	private, public = filepath.Join(directory, "sa.key"), filepath.Join(directory, "sa.pub")
	for path, block := range map[string]*pem.Block{
		private: {Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)},
		public:  {Type: "PUBLIC KEY", Bytes: encoded},
	} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return private, public
}
