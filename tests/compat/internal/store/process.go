// Package store starts, kills and stops the process under test: an etcd, or
// anything that takes etcd's flags.
//
// A Process owns its data directory, its ports and its log file. Everything
// lies under a directory that the caller gives, so that a failed test leaves the
// log and the data where the caller chose. A process is restarted on the same
// directory and the same ports, as a supervisor would do it.
package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	// readyTimeout bounds the wait for /readyz after a start. It is generous
	// because the machine may be busy with other builds.
	readyTimeout = 60 * time.Second
	// stopTimeout is what a supervisor grants between SIGTERM and SIGKILL.
	stopTimeout = 20 * time.Second
	// readyPoll is the pause between two looks at /readyz.
	readyPoll = 25 * time.Millisecond
)

// Options says which program to start and how.
type Options struct {
	// Binary is the path of the program.
	Binary string
	// Directory holds the data directory and the log; it is created.
	Directory string
	// Flags are added to those that every start has.
	Flags []string
}

// Process is one running (or stopped) member.
type Process struct {
	options    Options
	clientPort int
	peerPort   int
	command    *exec.Cmd
	exited     chan error
}

// UnderTest is the path of the program under test: $STORE_BIN, or the
// workspace's release build.
func UnderTest() string {
	if path := os.Getenv("STORE_BIN"); path != "" {
		return path
	}
	return filepath.Join(repositoryRoot(), "target", "release", "sternpost")
}

// Tool is the path of a counterpart that tests/compat/build.sh has built.
func Tool(name string) string {
	directory := os.Getenv("STERNPOST_COMPAT_BIN")
	if directory == "" {
		directory = filepath.Join(repositoryRoot(), "tests", "compat", "bin")
	}
	return filepath.Join(directory, name)
}

// NeedTools fails the test when one of the programs is missing. A skipped suite
// would look like a passed one.
func NeedTools(t testing.TB, paths ...string) {
	t.Helper()
	for _, path := range paths {
		if _, err := os.Stat(path); err != nil {
			t.Fatalf("%v: build it with tests/compat/build.sh, or cargo build --release", err)
		}
	}
}

// repositoryRoot walks up from the working directory to the workspace's Cargo.toml.
func repositoryRoot() string {
	directory, err := os.Getwd()
	if err != nil {
		return "."
	}
	for directory != "/" {
		if _, err := os.Stat(filepath.Join(directory, "kvproto")); err == nil {
			return directory
		}
		directory = filepath.Dir(directory)
	}
	return "."
}

// Start starts a member and waits until it is ready to serve.
func Start(options Options) (*Process, error) {
	process, err := Prepare(options)
	if err != nil {
		return nil, err
	}
	return process, process.Restart()
}

// Prepare draws the ports of a member without starting it, for those who have to
// fill its data directory first. Restart starts it.
func Prepare(options Options) (*Process, error) {
	process := &Process{options: options}
	if err := os.MkdirAll(options.Directory, 0o700); err != nil {
		return nil, err
	}
	var err error
	if process.clientPort, err = FreePort(); err != nil {
		return nil, err
	}
	if process.peerPort, err = FreePort(); err != nil {
		return nil, err
	}
	return process, nil
}

// MustStart starts a member in the test's own directory and kills it at the end.
// The last lines of its log are shown when the test failed.
func MustStart(t testing.TB, binary string, flags ...string) *Process {
	t.Helper()
	NeedTools(t, binary)
	directory, err := os.MkdirTemp(t.TempDir(), filepath.Base(binary)+"-")
	if err != nil {
		t.Fatal(err)
	}
	process, err := Start(Options{Binary: binary, Directory: directory, Flags: flags})
	if process != nil {
		t.Cleanup(func() {
			if t.Failed() {
				t.Logf("the end of %s's log:\n%s", filepath.Base(binary), process.LogTail(4096))
			}
			process.Kill()
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	return process
}

// Restart starts the program on the directory and the ports of before.
func (p *Process) Restart() error {
	log, err := os.OpenFile(p.LogPath(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	peer := p.PeerURL()
	arguments := []string{
		"--name=default",
		"--data-dir=" + p.DataDirectory(),
		"--listen-client-urls=" + p.URL(),
		"--advertise-client-urls=" + p.URL(),
		"--listen-peer-urls=" + peer,
		"--initial-advertise-peer-urls=" + peer,
		"--initial-cluster=default=" + peer,
		"--log-level=warn",
	}
	p.command = exec.Command(p.options.Binary, append(arguments, p.options.Flags...)...)
	p.command.Stdout = log
	p.command.Stderr = log
	p.command.Env = environment()
	// A member must not outlive a test binary that was killed.
	p.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.command.Start(); err != nil {
		return err
	}
	exited := make(chan error, 1)
	command := p.command
	go func() { exited <- command.Wait() }()
	p.exited = exited
	return p.waitReady()
}

// environment is ours without the variables that would configure the program.
func environment() []string {
	var kept []string
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "ETCD_") {
			kept = append(kept, variable)
		}
	}
	return kept
}

// waitReady leaves out the alarm check: a member with a CORRUPT alarm serves.
func (p *Process) waitReady() error {
	client := &http.Client{Timeout: time.Second}
	deadline := time.Now().Add(readyTimeout)
	for time.Now().Before(deadline) {
		select {
		case err := <-p.exited:
			p.exited <- err
			return fmt.Errorf("%s ended before it was ready: %v\n%s",
				p.options.Binary, err, p.LogTail(4096))
		case <-time.After(readyPoll):
		}
		response, err := client.Get(p.URL() + "/readyz?exclude=data_corruption")
		if err != nil {
			continue
		}
		response.Body.Close()
		if response.StatusCode == http.StatusOK {
			return nil
		}
	}
	return fmt.Errorf("%s was not ready after %v\n%s", p.options.Binary, readyTimeout, p.LogTail(4096))
}

// Kill ends the process as kill -9 does and waits until it is gone.
func (p *Process) Kill() {
	if p.command == nil || p.command.Process == nil {
		return
	}
	// An error means that the process is gone already.
	_ = p.command.Process.Kill()
	p.waitGone(context.Background())
}

// Stop asks the process to end and reports an error when it has to be killed.
func (p *Process) Stop() error {
	if err := p.command.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	if !p.waitGone(ctx) {
		p.Kill()
		return fmt.Errorf("%s did not end within %v of SIGTERM", p.options.Binary, stopTimeout)
	}
	return nil
}

func (p *Process) waitGone(ctx context.Context) bool {
	select {
	case err := <-p.exited:
		p.exited <- err
		return true
	case <-ctx.Done():
		return false
	}
}

// Alive says whether the process still runs.
func (p *Process) Alive() bool {
	select {
	case err := <-p.exited:
		p.exited <- err
		return false
	default:
		return true
	}
}

// URL is the client URL, as etcd's flags and kube-apiserver take it.
func (p *Process) URL() string { return "http://" + p.Endpoint() }

// Endpoint is the host and port of the client URL.
func (p *Process) Endpoint() string { return fmt.Sprintf("127.0.0.1:%d", p.clientPort) }

// PeerURL is the peer URL; nobody but the member itself uses it.
func (p *Process) PeerURL() string { return fmt.Sprintf("http://127.0.0.1:%d", p.peerPort) }

// DataDirectory is the member's data directory.
func (p *Process) DataDirectory() string { return filepath.Join(p.options.Directory, "data") }

// LogPath is the file that holds what the process has printed.
func (p *Process) LogPath() string { return filepath.Join(p.options.Directory, "log") }

// LogTail is the end of the log, at most the given number of bytes.
func (p *Process) LogTail(bytes int) string {
	content, err := os.ReadFile(p.LogPath())
	if errors.Is(err, os.ErrNotExist) {
		return "(no log)"
	}
	if len(content) > bytes {
		content = content[len(content)-bytes:]
	}
	return string(content)
}

// FreePort draws a TCP port that nobody listens on. It lies below those that the
// kernel gives to outgoing connections, one of which could take it before the
// program does, and below those of etcd's own tests (20000 and more).
func FreePort() (int, error) {
	for range 100 {
		port := 10_000 + rand.IntN(9_000)
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			return port, listener.Close()
		}
	}
	return 0, errors.New("no free port found between 10000 and 19000")
}

// IsEtcd says whether the program under test is etcd itself, as it is when the
// suites are validated. Marks of what is not built yet do not count then.
func IsEtcd() bool { return filepath.Base(UnderTest()) == "etcd" }

// ID is the process id, for looking at /proc.
func (p *Process) ID() int { return p.command.Process.Pid }
