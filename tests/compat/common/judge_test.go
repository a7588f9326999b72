package common

import "testing"

// TestJudge shows that the list is checked in both directions.
func TestJudge(t *testing.T) {
	results := ParseResults(`
--- PASS: TestA (0.01s)
--- FAIL: TestB (0.01s)
    --- FAIL: TestB/PeerTLS (0.00s)
    --- PASS: TestB/NoTLS (0.00s)
--- FAIL: TestC (0.01s)
`)
	list := func(lines ...string) []Entry {
		var entries []Entry
		for _, line := range lines {
			entries = append(entries, Entry{Verdict: Fails, Pattern: line, Reason: "r"})
		}
		return entries
	}
	for name, one := range map[string]struct {
		list  []Entry
		wrong int
	}{
		"all is as listed":            {list("*/PeerTLS*", "TestC"), 0},
		"a failure is not listed":     {list("*/PeerTLS*"), 1},
		"a listed test passes":        {list("*/PeerTLS*", "TestC", "TestA"), 1},
		"a listed sub-test passes":    {list("TestB", "TestC"), 1},
		"a listed test did not run":   {list("*/PeerTLS*", "TestC", "TestD"), 1},
		"an empty list, two failures": {nil, 2},
	} {
		if wrong := Judge(results, one.list); len(wrong) != one.wrong {
			t.Errorf("%s: %d disagreements, not %d: %q", name, len(wrong), one.wrong, wrong)
		}
	}
}
