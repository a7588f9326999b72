package common

import (
	"bufio"
	"fmt"
	"os"
	"regexp"
	"strings"
)

// Verdict says what expected.txt says of a test.
type Verdict string

// The verdicts of the list.
const (
	// Fails marks a test that runs and must fail.
	Fails Verdict = "fails"
	// Skipped marks a top-level test that is not run, because it takes long to fail.
	Skipped Verdict = "skipped"
)

// Entry is one line of the list.
type Entry struct {
	Verdict Verdict
	// Pattern is the name of a test or sub-test. A * stands for anything.
	Pattern string
	Reason  string
}

// Matches says whether the entry is about the test, or about one that it is part of.
func (e Entry) Matches(test string) bool {
	quoted := strings.ReplaceAll(regexp.QuoteMeta(e.Pattern), `\*`, ".*")
	return regexp.MustCompile("^" + quoted + "(/.*)?$").MatchString(test)
}

// ReadList reads a list: verdict, pattern and reason, divided by blanks. Empty
// lines and lines that begin with # are left out.
func ReadList(path string) ([]Entry, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var entries []Entry
	lines := bufio.NewScanner(file)
	for number := 1; lines.Scan(); number++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		fields := strings.Fields(line)
		if len(fields) < 3 || fields[0] != string(Fails) && fields[0] != string(Skipped) {
			return nil, fmt.Errorf("%s:%d: want 'fails|skipped TEST REASON'", path, number)
		}
		entries = append(entries, Entry{
			Verdict: Verdict(fields[0]), Pattern: fields[1], Reason: strings.Join(fields[2:], " ")})
	}
	return entries, lines.Err()
}

// Results are the outcomes of a run by test name, sub-tests included.
type Results struct {
	Passed, Failed, Skipped []string
}

// ParseResults reads what a test binary prints with -test.v.
func ParseResults(output string) Results {
	var results Results
	for _, line := range strings.Split(output, "\n") {
		verdict, name, found := strings.Cut(strings.TrimLeft(line, " "), ": ")
		if !found {
			continue
		}
		name, _, _ = strings.Cut(name, " ")
		switch verdict {
		case "--- PASS":
			results.Passed = append(results.Passed, name)
		case "--- FAIL":
			results.Failed = append(results.Failed, name)
		case "--- SKIP":
			results.Skipped = append(results.Skipped, name)
		}
	}
	return results
}

// Judge compares the results with the list and returns one line for each
// disagreement. A test with sub-tests is judged by them alone.
func Judge(results Results, list []Entry) []string {
	var wrong []string
	used := map[string]bool{}
	parents := map[string]bool{}
	for _, name := range append(append([]string{}, results.Passed...), results.Failed...) {
		for cut := strings.LastIndex(name, "/"); cut > 0; cut = strings.LastIndex(name[:cut], "/") {
			parents[name[:cut]] = true
		}
	}
	listed := func(name string) (Entry, bool) {
		for _, entry := range list {
			if entry.Verdict == Fails && entry.Matches(name) {
				return entry, true
			}
		}
		return Entry{}, false
	}
	for _, name := range results.Failed {
		if parents[name] {
			continue
		}
		entry, found := listed(name)
		if !found {
			wrong = append(wrong, name+" fails and is not in the list")
		}
		used[entry.Pattern] = true
	}
	for _, name := range results.Passed {
		if parents[name] {
			continue
		}
		if entry, found := listed(name); found {
			used[entry.Pattern] = true
			wrong = append(wrong, fmt.Sprintf("%s passes, but the list says that it fails: %s", name, entry.Reason))
		}
	}
	for _, entry := range list {
		if entry.Verdict == Fails && !used[entry.Pattern] {
			wrong = append(wrong, fmt.Sprintf("the list has %s, which did not run", entry.Pattern))
		}
	}
	return wrong
}
