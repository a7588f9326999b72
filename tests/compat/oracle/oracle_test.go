package oracle

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"sternpost.dev/compat/internal/store"
)

// The environment of a run:
//
//	ORACLE_SEED      the first seed (default: drawn, and printed)
//	ORACLE_OPS       operations of each seed (default 2000)
//	ORACLE_DURATION  begin another seed until this time is over (default: one seed)
//	ORACLE_SHRINK    time for shrinking a divergence (default 60s)
//	ORACLE_SCRIPT    a file to replay instead of drawing operations
//	ORACLE_KEEP      directory for the scripts of divergences (default: the system's)
func setting(name, byDefault string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return byDefault
}

func duration(t *testing.T, name, byDefault string) time.Duration {
	t.Helper()
	value, err := time.ParseDuration(setting(name, byDefault))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return value
}

// pair starts the real etcd and the server under test on empty directories.
type pair struct {
	directory string
	processes [2]*store.Process
	targets   [2]*Target
}

func startPair(directory string) (*pair, error) {
	fresh, err := os.MkdirTemp(directory, "pair-")
	if err != nil {
		return nil, err
	}
	started := &pair{directory: fresh}
	binaries := [2]string{store.Tool("etcd"), store.UnderTest()}
	for i, name := range [2]string{"etcd", "store"} {
		started.processes[i], err = store.Start(store.Options{
			Binary: binaries[i], Directory: filepath.Join(fresh, name),
			// A run writes values of megabytes; the quota has its own tests.
			Flags: []string{"--quota-backend-bytes=8589934592", "--unsafe-no-fsync"},
		})
		if err != nil {
			started.close()
			return nil, err
		}
		process := started.processes[i]
		started.targets[i], err = Dial(name, process.Endpoint(), func() error {
			process.Kill()
			return process.Restart()
		})
		if err != nil {
			started.close()
			return nil, err
		}
	}
	return started, nil
}

func (p *pair) close() {
	for _, target := range p.targets {
		if target != nil {
			target.Close()
		}
	}
	for _, process := range p.processes {
		if process != nil {
			process.Kill()
		}
	}
	// What is left behind costs disk only.
	_ = os.RemoveAll(p.directory)
}

func TestOracle(t *testing.T) {
	store.NeedTools(t, store.Tool("etcd"), store.UnderTest())
	if path := os.Getenv("ORACLE_SCRIPT"); path != "" {
		replayScript(t, path)
		return
	}
	seed, err := strconv.ParseUint(setting("ORACLE_SEED", fmt.Sprint(rand.Uint32())), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	count, err := strconv.Atoi(setting("ORACLE_OPS", "2000"))
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(duration(t, "ORACLE_DURATION", "0s"))
	for first := true; first || time.Now().Before(deadline); first = false {
		oneSeed(t, seed, count)
		if t.Failed() {
			return
		}
		seed++
	}
}

func oneSeed(t *testing.T, seed uint64, count int) {
	pair, err := startPair(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer pair.close()
	begin := time.Now()
	performed, divergence, statistics := Generate(context.Background(), pair.targets, seed, count)
	t.Logf("seed %d: %v in %v", seed, statistics, time.Since(begin).Round(time.Millisecond))
	if divergence == nil {
		return
	}
	for i, process := range pair.processes {
		if !process.Alive() {
			t.Errorf("%s has ended:\n%s", pair.targets[i].Name, process.LogTail(3000))
		}
	}
	pair.close()
	t.Errorf("seed %d: %v", seed, divergence)
	report(t, seed, performed, divergence)
}

// report shrinks the run and prints it.
func report(t *testing.T, seed uint64, performed []Operation, divergence *Divergence) {
	t.Helper()
	deadline := time.Now().Add(duration(t, "ORACLE_SHRINK", "60s"))
	directory := t.TempDir()
	shrunk, last := Shrink(performed, divergence, func(script []Operation) (*Divergence, error) {
		fresh, err := startPair(directory)
		if err != nil {
			return nil, err
		}
		defer fresh.close()
		found, _ := Replay(fresh.targets, script)
		return found, nil
	}, deadline)
	path := filepath.Join(setting("ORACLE_KEEP", os.TempDir()), fmt.Sprintf("oracle-%d.script", seed))
	if err := WriteScript(path, shrunk); err != nil {
		t.Error(err)
	}
	t.Logf("shrunk to %d operations; run them again with ORACLE_SCRIPT=%s", len(shrunk), path)
	for i, operation := range shrunk {
		// A script that did not become short is for the file only, but for its end.
		if len(shrunk)-i <= 40 {
			t.Logf("%4d  %s", i, operation.Short())
		}
	}
	t.Logf("ends with %v", last)
}

func replayScript(t *testing.T, path string) {
	script, err := ReadScript(path)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := startPair(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer pair.close()
	divergence, statistics := Replay(pair.targets, script)
	t.Log(statistics)
	if divergence != nil {
		t.Error(divergence)
	}
}
