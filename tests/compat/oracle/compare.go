package oracle

import (
	"bytes"
	"fmt"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
)

// insertionSorted is the length up to which Go's sort is an insertion sort, so
// stable: ties then have one right order.
const insertionSorted = 12

// Divergence is the first difference that a run has met.
type Divergence struct {
	// Position is the number of the operation in the run.
	Position  int
	Operation Operation
	// Class is what has to stay the same while the run is shrunk.
	Class string
	// Details are for people.
	Details string
}

func (d *Divergence) String() string {
	return fmt.Sprintf("operation %d, %s: %s\n%s", d.Position, d.Operation.Kind, d.Class, d.Details)
}

// compare gives nil when both servers have answered alike.
func compare(operation Operation, targets [2]*Target, outcomes [2]Outcome) *Divergence {
	diverged := func(class string) *Divergence {
		return &Divergence{
			Operation: operation, Class: class,
			Details: targets[0].explain(outcomes[0]) + "\n" + targets[1].explain(outcomes[1]),
		}
	}
	for i, outcome := range outcomes {
		if outcome.Fault != "" {
			return diverged("fault of " + targets[i].Name)
		}
	}
	if outcomes[0].Code != outcomes[1].Code {
		return diverged(fmt.Sprintf("codes %v and %v", outcomes[0].Code, outcomes[1].Code))
	}
	texts := [2]string{}
	replies := [2]proto.Message{}
	for i, outcome := range outcomes {
		texts[i] = normalizedText(outcome.Code, outcome.Text)
		replies[i] = targets[i].normalized(outcome.Reply)
	}
	if texts[0] != texts[1] {
		return diverged("error texts")
	}
	if replies[0] == nil && replies[1] == nil {
		return nil
	}
	if replies[0] == nil || replies[1] == nil {
		return diverged("one reply")
	}
	allowTies(operation.Request, replies)
	if operation.Kind == RangeStream {
		allowSortedChunks(operation.Request.(*pb.RangeRequest), replies)
	}
	allowClocks(replies)
	if !proto.Equal(replies[0], replies[1]) {
		return diverged("replies")
	}
	return nil
}

// explain shows what one server has answered, cut to a readable length.
func (t *Target) explain(outcome Outcome) string {
	const most = 1500
	text := fmt.Sprintf("  %s: ", t.Name)
	switch {
	case outcome.Fault != "":
		text += "FAULT " + outcome.Fault
	case outcome.Reply == nil:
		text += fmt.Sprintf("%v %q", outcome.Code, outcome.Text)
	default:
		text += prototext.MarshalOptions{}.Format(outcome.Reply)
	}
	if len(text) > most {
		text = text[:most] + fmt.Sprintf(" ... (%d bytes)", len(text))
	}
	return text
}

// clockSeconds is how far two clocks may be apart: after a restart each server counts from when
// it was there again, which on a busy machine is seconds later for one of them.
const clockSeconds = 10

// allowClocks makes remaining times equal that differ by no more.
func allowClocks(replies [2]proto.Message) {
	first, ok := replies[0].(*pb.LeaseTimeToLiveResponse)
	second, also := replies[1].(*pb.LeaseTimeToLiveResponse)
	if ok && also && first.TTL >= 0 && second.TTL >= 0 {
		if difference := first.TTL - second.TTL; difference >= -clockSeconds && difference <= clockSeconds {
			second.TTL = first.TTL
		}
	}
}

// allowTies walks the ranges of a request and makes the answers equal where they
// differ only in the order of ties of a sort that etcd leaves unstable.
func allowTies(request proto.Message, replies [2]proto.Message) {
	switch asked := request.(type) {
	case *pb.RangeRequest:
		first, ok := replies[0].(*pb.RangeResponse)
		second, also := replies[1].(*pb.RangeResponse)
		if ok && also && asked != nil && first != nil && second != nil && sameButTies(asked, first, second) {
			second.Kvs = first.Kvs
		}
	case *pb.TxnRequest:
		first, ok := replies[0].(*pb.TxnResponse)
		second, also := replies[1].(*pb.TxnResponse)
		if !ok || !also || asked == nil || first == nil || second == nil || first.Succeeded != second.Succeeded {
			return
		}
		branch := asked.Failure
		if first.Succeeded {
			branch = asked.Success
		}
		for i, operation := range branch {
			if i >= len(first.Responses) || i >= len(second.Responses) {
				return
			}
			allowTies(requestInside(operation), [2]proto.Message{
				responseInside(first.Responses[i]), responseInside(second.Responses[i])})
		}
	}
}

// firstChunk is how many keys the first chunk of a RangeStream holds at most.
const firstChunk = 10

// allowSortedChunks leaves the key-values of a streamed list open when a sort target
// is given without an order and the list takes more than one chunk: etcd takes one key
// more than a chunk holds, sorts, cuts, and goes on behind the last one, so that it
// repeats keys and leaves out others.
func allowSortedChunks(asked *pb.RangeRequest, replies [2]proto.Message) {
	first, ok := replies[0].(*pb.RangeResponse)
	second, also := replies[1].(*pb.RangeResponse)
	if ok && also && asked.SortTarget != pb.RangeRequest_KEY &&
		(max(first.Count, second.Count) > firstChunk || asked.Limit > 0) {
		second.Kvs, second.More, second.Count = first.Kvs, first.More, first.Count
	}
}

func requestInside(operation *pb.RequestOp) proto.Message {
	if asked := operation.GetRequestRange(); asked != nil {
		return asked
	}
	return operation.GetRequestTxn()
}

func responseInside(operation *pb.ResponseOp) proto.Message {
	if answer := operation.GetResponseRange(); answer != nil {
		return answer
	}
	return operation.GetResponseTxn()
}

func sameButTies(asked *pb.RangeRequest, first, second *pb.RangeResponse) bool {
	if asked.SortTarget == pb.RangeRequest_KEY || first.Count <= insertionSorted ||
		len(first.Kvs) != len(second.Kvs) {
		return false
	}
	for i := range first.Kvs {
		if !bytes.Equal(sortKey(asked, first.Kvs[i]), sortKey(asked, second.Kvs[i])) {
			return false
		}
	}
	// Ties at the limit may be answered by different keys.
	return first.More || slices.Equal(encodedSorted(first.Kvs), encodedSorted(second.Kvs))
}

func sortKey(asked *pb.RangeRequest, one *mvccpb.KeyValue) []byte {
	number := int64(0)
	switch asked.SortTarget {
	case pb.RangeRequest_VALUE:
		return one.Value
	case pb.RangeRequest_VERSION:
		number = one.Version
	case pb.RangeRequest_CREATE:
		number = one.CreateRevision
	case pb.RangeRequest_MOD:
		number = one.ModRevision
	}
	return fmt.Append(nil, number)
}

func encodedSorted(list []*mvccpb.KeyValue) []string {
	texts := make([]string, len(list))
	for i, one := range list {
		texts[i] = encoded(one)
	}
	slices.Sort(texts)
	return texts
}
