package ctl

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"time"

	"sternpost.dev/compat/internal/store"
)

const (
	// commandTimeout ends an etcdctl that hangs.
	commandTimeout = 30 * time.Second
	// listeningTime is how long a command runs that ends by a signal only.
	listeningTime = 1500 * time.Millisecond
)

// Step is one call of etcdctl.
type Step struct {
	// Arguments may hold $LEASE, the id that the last grant has answered, and
	// $FILE, a path of its own for each server.
	Arguments string
	// Input is what etcdctl reads.
	Input string
	// Endless marks a command that ends by a signal only.
	Endless bool
	// Unbuilt is set when the server under test does not have this yet: the step
	// then has to answer differently from etcd, so that the mark goes away with
	// its reason.
	Unbuilt string
}

// session runs steps against one server.
type session struct {
	process *store.Process
	file    string
	lease   string
}

// substitutions take out of an output what two correct servers may answer
// differently. They apply in this order.
var substitutions = []struct {
	pattern *regexp.Regexp
	with    string
}{
	{regexp.MustCompile(`"(cluster_id|member_id|leader|ID|id|memberID|raft_term|raftTerm|raftIndex|raftAppliedIndex|dbSize|dbSizeInUse)":\d+`), `"$1":0`},
	{regexp.MustCompile(`"(ClusterID|MemberID|RaftTerm)" : \d+`), `"$1" : 0`},
	{regexp.MustCompile(`"version":"3\.7\.\d+"`), `"version":"3.7"`},
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), `HOST`},
	{regexp.MustCompile(`took = [^ \n]+|took [^ \n]+|"took":"[^"]*"`), `took T`},
	{regexp.MustCompile(`remaining\(\d+s\)`), `remaining(T)`},
	{regexp.MustCompile(`\b[0-9a-f]{15,16}\b`), `ID`},
	{regexp.MustCompile(`memberID:\d+`), `memberID:N`},
	{regexp.MustCompile(`"ttl":\d+`), `"ttl":T`},
	{regexp.MustCompile(`(?m)^\{"level".*$`), `LOG`},
	{regexp.MustCompile(`\d+(\.\d+)? (kB|MB|B)\b`), `SIZE`},
	{regexp.MustCompile(`SIZE, SIZE, \d+%, ([^,]+), (\w+), (\w+), \d+, \d+, \d+`), `SIZE, SIZE, P, $1, $2, $3, N, N, N`},
}

var granted = regexp.MustCompile(`lease ([0-9a-f]+) granted`)

// run performs one step and gives the exit code and the normalized output.
func (s *session) run(step Step) string {
	patience := commandTimeout
	if step.Endless {
		patience = listeningTime
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	arguments := []string{"--endpoints=" + s.process.URL()}
	for _, argument := range strings.Fields(step.Arguments) {
		argument = strings.ReplaceAll(argument, "$LEASE", s.lease)
		argument = strings.ReplaceAll(argument, "$FILE", s.file)
		arguments = append(arguments, strings.ReplaceAll(argument, "EMPTY", ""))
	}
	command := exec.CommandContext(ctx, store.Tool("etcdctl"), arguments...)
	command.Stdin = strings.NewReader(step.Input)
	command.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}
	output, err := command.CombinedOutput()
	if ctx.Err() != nil && !step.Endless {
		return fmt.Sprintf("not done after %v\n%s", commandTimeout, output)
	}
	if found := granted.FindSubmatch(output); found != nil {
		s.lease = string(found[1])
	}
	text := string(output)
	for _, one := range substitutions {
		text = one.pattern.ReplaceAllString(text, one.with)
	}
	text = strings.ReplaceAll(text, s.file, "FILE")
	return fmt.Sprintf("%s\nexit: %v", text, exitCode(err))
}

func exitCode(err error) int {
	if err == nil {
		return 0
	}
	if exit, ok := err.(*exec.ExitError); ok {
		return exit.ExitCode()
	}
	return -1
}
