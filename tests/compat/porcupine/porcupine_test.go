// Package porcupine asks porcupine for a second opinion on the histories that
// tests/checkers judges: good and spoiled ones, each with the verdict of our own search. Both
// must agree on every history.
//
//	CHECKERS_EXPORT=/somewhere cargo test -p tests --test checkers
//	cd tests/compat && HISTORIES=/somewhere go test ./porcupine
//
// The specification is written here a second time; what the calls of a history do is shared.
package porcupine

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// A search that takes longer than this is a failure, as with our own.
const searchMax = 5 * time.Minute

// unknown is the revision that nobody was told.
const unknown = -1

type keyValue struct {
	Key      string `json:"key"`
	Value    string `json:"value"`
	Lease    int64  `json:"lease"`
	Version  int64  `json:"version"`
	Created  int64  `json:"created"`
	Modified int64  `json:"modified"`
}

type guard struct {
	Key      string `json:"key"`
	Modified int64  `json:"modified"`
}

type change struct {
	Key     string `json:"key"`
	Value   string `json:"value"`
	Lease   int64  `json:"lease"`
	Deletes bool   `json:"deletes"`
}

type operation struct {
	Invoked  int64  `json:"invoked"`
	Returned *int64 `json:"returned"`
	Revision *int64 `json:"revision"`
	Write    *struct {
		Guards  []guard  `json:"guards"`
		Changes []change `json:"changes"`
		Told    *bool    `json:"told"`
		Deleted *int64   `json:"deleted"`
	} `json:"write"`
	EndLease *int64 `json:"end_lease"`
	Read     *struct {
		From  string     `json:"from"`
		To    string     `json:"to"`
		Shown []keyValue `json:"shown"`
	} `json:"read"`
}

type history struct {
	Linearizable bool          `json:"linearizable"`
	Base         int64         `json:"base"`
	Groups       [][]operation `json:"groups"`
}

// state is what a group of keys holds; it is never changed once made. text tells two apart.
type state struct {
	rows     map[string]keyValue
	revision int64
	text     string
}

func newState(rows map[string]keyValue, revision int64) *state {
	lines := make([]string, 0, len(rows))
	for key, row := range rows {
		lines = append(lines, fmt.Sprintf("%s %s %d %d %d %d",
			key, row.Value, row.Lease, row.Version, row.Created, row.Modified))
	}
	sort.Strings(lines)
	return &state{rows, revision, fmt.Sprintf("%d\n%s", revision, strings.Join(lines, "\n"))}
}

func (s *state) copied() map[string]keyValue {
	rows := make(map[string]keyValue, len(s.rows)+1)
	for key, row := range s.rows {
		rows[key] = row
	}
	return rows
}

// step gives the state after an operation, if its answer fits here.
func step(s *state, op *operation) (bool, *state) {
	if op.Revision != nil && *op.Revision < s.revision {
		return false, nil
	}
	rows := s.copied()
	changed := false
	switch {
	case op.Read != nil:
		if !readFits(rows, op) {
			return false, nil
		}
	case op.EndLease != nil:
		for key, row := range rows {
			if row.Lease == *op.EndLease {
				delete(rows, key)
				changed = true
			}
		}
	default:
		fits := false
		if fits, changed = write(rows, op); !fits {
			return false, nil
		}
	}
	revision := s.revision
	switch {
	case op.Revision != nil && changed && *op.Revision <= s.revision:
		return false, nil
	case op.Revision != nil:
		revision = *op.Revision
	case changed:
		revision++
	}
	return true, newState(rows, revision)
}

func readFits(rows map[string]keyValue, op *operation) bool {
	inside := 0
	// Hexadecimal text of bytes has their order.
	for key := range rows {
		if key >= op.Read.From && key < op.Read.To {
			inside++
		}
	}
	if inside != len(op.Read.Shown) {
		return false
	}
	for _, shown := range op.Read.Shown {
		row, found := rows[shown.Key]
		if !found {
			return false
		}
		if row.Created == unknown {
			row.Created = shown.Created
		}
		if row.Modified == unknown {
			row.Modified = shown.Modified
		}
		row.Key = shown.Key
		if row != shown {
			return false
		}
		rows[shown.Key] = row
	}
	return true
}

// holds says whether the guards hold; an answer that they did tells a revision that was unknown.
func holds(rows map[string]keyValue, guards []guard, told *bool) bool {
	for _, guard := range guards {
		row, found := rows[guard.Key]
		if !found {
			if guard.Modified != 0 {
				return false
			}
			continue
		}
		if row.Modified == unknown && told != nil && *told && guard.Modified > 0 {
			row.Modified = guard.Modified
			rows[guard.Key] = row
		}
		if row.Modified != guard.Modified {
			return false
		}
	}
	return true
}

func write(rows map[string]keyValue, op *operation) (fits, changed bool) {
	hold := holds(rows, op.Write.Guards, op.Write.Told)
	if op.Write.Told != nil && *op.Write.Told != hold {
		return false, false
	}
	if !hold {
		return true, false
	}
	revision := int64(unknown)
	if op.Revision != nil {
		revision = *op.Revision
	}
	gone := int64(0)
	for _, change := range op.Write.Changes {
		row, found := rows[change.Key]
		if change.Deletes {
			if found {
				delete(rows, change.Key)
				gone++
				changed = true
			}
			continue
		}
		if !found {
			row = keyValue{Created: revision}
		}
		row.Key, row.Value, row.Lease = change.Key, change.Value, change.Lease
		row.Version++
		row.Modified = revision
		rows[change.Key] = row
		changed = true
	}
	return op.Write.Deleted == nil || *op.Write.Deleted == gone, changed
}

func model(base int64) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return newState(nil, base) },
		Step: func(before, input, _ any) (bool, any) {
			fits, after := step(before.(*state), input.(*operation))
			return fits, after
		},
		Equal: func(one, other any) bool { return one.(*state).text == other.(*state).text },
	}
}

// judge says what porcupine says of all groups of a history.
func judge(t *testing.T, name string, recorded history) bool {
	for _, group := range recorded.Groups {
		var operations []porcupine.Operation
		for i := range group {
			// What was never answered may stand after everything else.
			returned := int64(math.MaxInt64)
			if group[i].Returned != nil {
				returned = *group[i].Returned
			}
			operations = append(operations, porcupine.Operation{
				Input: &group[i], Call: group[i].Invoked, Return: returned,
			})
		}
		switch porcupine.CheckOperationsTimeout(model(recorded.Base), operations, searchMax) {
		case porcupine.Illegal:
			return false
		case porcupine.Unknown:
			t.Fatalf("%s: no verdict within %v", name, searchMax)
		}
	}
	return true
}

func TestBothSearchesAgree(t *testing.T) {
	directory := os.Getenv("HISTORIES")
	if directory == "" {
		t.Skip("HISTORIES names no directory of histories")
	}
	files, err := filepath.Glob(filepath.Join(directory, "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no histories in %s: %v", directory, err)
	}
	counts := map[string]int{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var recorded history
		if err := json.Unmarshal(text, &recorded); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		name := filepath.Base(file)
		verdict := judge(t, name, recorded)
		if verdict != recorded.Linearizable {
			t.Errorf("%s: porcupine says %v, our search %v", name, verdict, recorded.Linearizable)
		}
		kind, _, _ := strings.Cut(name, "-")
		counts[fmt.Sprintf("%s linearizable=%v", kind, verdict)]++
	}
	t.Logf("%d histories: %v", len(files), counts)
	if counts["good linearizable=true"] == 0 || counts["spoiled linearizable=false"] == 0 {
		t.Error("a kind of history is missing")
	}
}
