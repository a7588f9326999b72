package oracle

import (
	"context"
	"fmt"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
)

const (
	// settleEvery bounds the number of operations between two judgements of all
	// watchers.
	settleEvery = 150
	// hashPatience is how long etcd may take until the hash of a compaction that
	// runs in the background has become the one that it answers.
	hashPatience = 3 * time.Second
	// catchUpPatience is how long a watcher from the past may count as catching up,
	// although it has every event that it is due: a compaction would cancel it.
	catchUpPatience = 400 * time.Millisecond
)

// Statistics says what a run has done.
type Statistics struct {
	Operations, Refusals, Events int
	Kinds                        map[Kind]int
}

// run is one pair of servers in lockstep.
type run struct {
	targets    [2]*Target
	model      *watchModel
	statistics Statistics
	sinceJudge int
	// pastWatch is when the last watcher from the past was created.
	pastWatch time.Time
	position  int
}

func newRun(targets [2]*Target) *run {
	return &run{targets: targets, model: newWatchModel(), statistics: Statistics{Kinds: map[Kind]int{}}}
}

// step performs one operation on both servers and compares. It says whether both
// have carried it out.
func (r *run) step(operation Operation) (succeeded bool, divergence *Divergence) {
	defer func() {
		if divergence != nil {
			divergence.Position = r.position
		}
		r.position++
	}()
	perform, expectReply := r.model.plan(operation)
	if !perform {
		return false, nil
	}
	r.statistics.Operations++
	r.statistics.Kinds[operation.Kind]++
	if r.mustSettle(operation) {
		if divergence := r.settle(operation); divergence != nil || operation.Kind == Settle {
			return false, divergence
		}
	}
	if rest := catchUpPatience - time.Since(r.pastWatch); operation.Kind == Compact && rest > 0 {
		time.Sleep(rest)
	}
	outcomes := r.execute(operation, expectReply)
	divergence = compare(operation, r.targets, outcomes)
	if divergence != nil && operation.Kind == HashKV {
		// The hash that a compaction leaves behind replaces the computed one when it is done.
		for deadline := time.Now().Add(hashPatience); divergence != nil && time.Now().Before(deadline); {
			time.Sleep(50 * time.Millisecond)
			outcomes = r.execute(operation, expectReply)
			divergence = compare(operation, r.targets, outcomes)
		}
	}
	if divergence != nil {
		return false, divergence
	}
	if outcomes[0].Code != codes.OK {
		r.statistics.Refusals++
		return false, nil
	}
	r.learn(operation, outcomes[0].Reply)
	return true, nil
}

// mustSettle says whether events under way would make the outcome a matter of luck.
func (r *run) mustSettle(operation Operation) bool {
	r.sinceJudge++
	switch operation.Kind {
	case Settle, Compact, WatchCancel, WatchProgress, WatchClose, Restart:
	default:
		if r.sinceJudge < settleEvery {
			return false
		}
	}
	r.sinceJudge = 0
	return true
}

// settle learns the current revision and judges all watchers.
func (r *run) settle(operation Operation) *Divergence {
	ask := Operation{Kind: Range, Request: &pb.RangeRequest{Key: []byte("x"), CountOnly: true}}
	outcomes := r.execute(ask, false)
	if divergence := compare(ask, r.targets, outcomes); divergence != nil {
		return divergence
	}
	r.learn(ask, outcomes[0].Reply)
	if wrong := r.model.settle(r.targets); wrong != "" {
		return &Divergence{Operation: operation, Class: "watch", Details: wrong}
	}
	r.statistics.Events = r.model.eventsJudged
	return nil
}

func (r *run) execute(operation Operation, expectReply bool) [2]Outcome {
	var outcomes [2]Outcome
	var both sync.WaitGroup
	for i, target := range r.targets {
		both.Go(func() {
			if operation.Kind == Restart {
				outcomes[i] = target.Restart(r.model.current)
			} else {
				outcomes[i] = target.Execute(operation, expectReply)
			}
		})
	}
	both.Wait()
	return outcomes
}

// learn takes the current and the compacted revision from a reply.
func (r *run) learn(operation Operation, reply proto.Message) {
	if headed, ok := reply.(interface{ GetHeader() *pb.ResponseHeader }); ok {
		r.model.current = max(r.model.current, headed.GetHeader().GetRevision())
	}
	if request, ok := operation.Request.(*pb.CompactionRequest); ok {
		r.model.compacted = request.Revision
	}
	if request, ok := operation.Request.(*pb.WatchCreateRequest); ok && request.StartRevision != 0 {
		r.pastWatch = time.Now()
	}
	if request, ok := operation.Request.(*pb.RangeRequest); ok {
		if listed, ok := reply.(*pb.RangeResponse); ok {
			r.model.notePage(request, listed)
		}
	}
	watched, _ := reply.(*pb.WatchResponse)
	r.model.note(operation, watched, r.targets)
}

// Generate performs operations drawn from the seed until there are enough of
// them, the context ends or the servers diverge. It returns what it has
// performed, the last operation being the one that diverged.
func Generate(ctx context.Context, targets [2]*Target, seed uint64, count int) ([]Operation, *Divergence, Statistics) {
	r := newRun(targets)
	g := newGenerator(seed, r.model)
	var performed []Operation
	for len(performed) < count && ctx.Err() == nil {
		operation := g.next()
		performed = append(performed, operation)
		succeeded, divergence := r.step(operation)
		if divergence != nil {
			return performed, divergence, r.statistics
		}
		if succeeded {
			g.noted(operation)
		}
	}
	last := Operation{Kind: Settle, Request: &pb.WatchRequest{}}
	performed = append(performed, last)
	_, divergence := r.step(last)
	return performed, divergence, r.statistics
}

// Replay performs a script.
func Replay(targets [2]*Target, script []Operation) (*Divergence, Statistics) {
	r := newRun(targets)
	for _, operation := range script {
		if _, divergence := r.step(operation); divergence != nil {
			return divergence, r.statistics
		}
	}
	_, divergence := r.step(Operation{Kind: Settle, Request: &pb.WatchRequest{}})
	return divergence, r.statistics
}

// String is the statistics in one line.
func (s Statistics) String() string {
	return fmt.Sprintf("%d operations (%d refused by both), %d watch events judged",
		s.Operations, s.Refusals, s.Events)
}
