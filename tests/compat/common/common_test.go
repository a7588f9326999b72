package common

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"sternpost.dev/compat/internal/store"
)

// runTimeout ends a run of the whole suite that hangs.
const runTimeout = 12 * time.Minute

// TestEtcdCommon runs etcd's tests. COMMON_RUN restricts them to those that match
// a regular expression; the list is then checked in one direction only. With
// COMMON_LIST=none nothing is expected to fail, as with a real etcd.
func TestEtcdCommon(t *testing.T) {
	binary := store.Tool("etcd-common.test")
	store.NeedTools(t, binary, store.UnderTest(), store.Tool("etcdctl"), store.Tool("etcdutl"))
	list, err := ReadList("expected.txt")
	if err != nil {
		t.Fatal(err)
	}
	arguments := []string{"-bin-dir=" + binaries(t), "-test.v", "-test.timeout=" + runTimeout.String()}
	if skip := skipPattern(list); skip != "" {
		arguments = append(arguments, "-test.skip="+skip)
	}
	only := os.Getenv("COMMON_RUN")
	if only != "" {
		arguments = append(arguments, "-test.run="+only)
	}
	if os.Getenv("COMMON_LIST") == "none" {
		list = nil
	}
	begin := time.Now()
	output := run(t, binary, arguments)
	results := ParseResults(output)
	t.Logf("%d tests and sub-tests passed, %d failed, %d skipped themselves in %v; the output is in %s",
		len(results.Passed), len(results.Failed), len(results.Skipped),
		time.Since(begin).Round(time.Second), keep(t, output))
	if len(results.Passed) == 0 {
		t.Errorf("no test has passed; the end of the output:\n%s", output[max(0, len(output)-4000):])
	}
	for _, wrong := range Judge(results, list) {
		if only != "" && strings.HasSuffix(wrong, "did not run") {
			continue
		}
		t.Error(wrong)
	}
}

// binaries makes the directory in which the suite looks for the programs.
func binaries(t *testing.T) string {
	directory := t.TempDir()
	for name, path := range map[string]string{
		"etcd": store.UnderTest(), "etcdctl": store.Tool("etcdctl"), "etcdutl": store.Tool("etcdutl"),
	} {
		absolute, err := filepath.Abs(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(absolute, filepath.Join(directory, name)); err != nil {
			t.Fatal(err)
		}
	}
	return directory
}

// skipPattern is the -test.skip for the entries that are not run.
func skipPattern(list []Entry) string {
	var patterns []string
	for _, entry := range list {
		if entry.Verdict == Skipped {
			patterns = append(patterns, "^"+regexp.QuoteMeta(entry.Pattern)+"$")
		}
	}
	return strings.Join(patterns, "|")
}

// run starts the suite in the folder of the module that it was compiled from: it
// finds its fixtures relative to it.
func run(t *testing.T, binary string, arguments []string) string {
	command := exec.Command(binary, arguments...)
	command.Dir = suiteDirectory(t)
	command.Env = append(os.Environ(), "E2E_TEST_MINIMAL=true")
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var output bytes.Buffer
	command.Stdout = &output
	command.Stderr = &output
	// The exit code is that of failed tests; they are judged by the output.
	if err := command.Run(); err != nil {
		t.Logf("the suite ended with: %v", err)
	}
	return output.String()
}

func suiteDirectory(t *testing.T) string {
	t.Helper()
	list := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "go.etcd.io/etcd/tests/v3")
	list.Dir = filepath.Join("..", "tools", "etcd")
	list.Env = append(os.Environ(), "GOFLAGS=-mod=readonly")
	directory, err := list.Output()
	if err != nil {
		t.Fatalf("where is etcd's test module? %v", err)
	}
	return filepath.Join(strings.TrimSpace(string(directory)), "common")
}

func keep(t *testing.T, output string) string {
	t.Helper()
	path := filepath.Join(os.TempDir(), "etcd-common-output.txt")
	if err := os.WriteFile(path, []byte(output), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
