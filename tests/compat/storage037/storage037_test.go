// Package storage037 runs the tests of Kubernetes' own storage code (0.37, the first
// that lists by RangeStream) against the store under test.
//
// tests/compat/build.sh compiles them with a test server of ours, which starts
// $STORE_BIN. Every one of them has to pass, and the server's own counter has to
// show that lists were streamed.
package storage037

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sternpost.dev/compat/internal/store"
)

// suites are the packages under k8s.io/apiserver/pkg/storage.
var suites = []struct {
	folder, binary string
	// streams says that the suite lists by RangeStream.
	streams bool
}{
	{folder: "etcd3", binary: "storage037-etcd3.test", streams: true},
	{folder: "cacher", binary: "storage037-cacher.test", streams: true},
	{folder: "storagebackend/factory", binary: "storage037-factory.test"},
}

func TestStorage(t *testing.T) {
	for _, suite := range suites {
		t.Run(suite.folder, func(t *testing.T) {
			// They wait most of the time, so they wait together.
			t.Parallel()
			binary := store.Tool(suite.binary)
			store.NeedTools(t, binary, store.UnderTest())
			calls := filepath.Join(t.TempDir(), "calls")
			command := exec.Command(binary, "-test.v", "-test.timeout=8m")
			command.Dir = filepath.Join(store.Tool("storage037-source"), "pkg", "storage", suite.folder)
			command.Env = append(os.Environ(), "STORE_BIN="+absolute(t, store.UnderTest()), "STORAGE037_CALLS="+calls)
			command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
			var output bytes.Buffer
			command.Stdout, command.Stderr = &output, &output
			begin := time.Now()
			err := command.Run()
			passed := strings.Count(output.String(), "--- PASS: ")
			t.Logf("%d tests and sub-tests passed in %v", passed, time.Since(begin).Round(time.Second))
			path := filepath.Join(os.TempDir(), suite.binary+".txt")
			if err := os.WriteFile(path, output.Bytes(), 0o600); err != nil {
				t.Error(err)
			}
			if err != nil || passed == 0 {
				t.Errorf("%v; the output is in %s:\n%s", err, path, failures(output.String()))
			}
			if suite.streams {
				judgeStreams(t, calls, output.String())
			}
		})
	}
}

// judgeStreams sums what the servers have counted.
func judgeStreams(t *testing.T, path, output string) {
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("no server has counted RangeStream calls: %v", err)
	}
	total := 0
	for _, line := range strings.Fields(string(content)) {
		var count int
		if _, err := fmt.Sscan(line, &count); err != nil {
			t.Fatal(err)
		}
		total += count
	}
	if total == 0 {
		t.Error("not one list was streamed")
	}
	if strings.Contains(output, "does not support RangeStream") {
		t.Error("lists have fallen back from streams to pages")
	}
	t.Logf("%d RangeStream calls counted by the servers", total)
}

// failures are the lines that name failed tests, with the line before each.
func failures(output string) string {
	var kept []string
	for _, line := range strings.Split(output, "\n") {
		if strings.Contains(line, "--- FAIL") || strings.Contains(line, "_test.go:") || strings.Contains(line, "panic:") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept[max(0, len(kept)-40):], "\n")
}

func absolute(t *testing.T, path string) string {
	t.Helper()
	absolute, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return absolute
}
