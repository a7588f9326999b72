package oracle

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
)

// Kind names what an operation does. Most are RPCs of the same name; the others
// say below what they are made of.
type Kind string

// The kinds of operations.
const (
	Range       Kind = "Range"
	RangeStream Kind = "RangeStream"
	Put         Kind = "Put"
	DeleteRange Kind = "DeleteRange"
	Txn         Kind = "Txn"
	Compact     Kind = "Compact"

	LeaseGrant      Kind = "LeaseGrant"
	LeaseRevoke     Kind = "LeaseRevoke"
	LeaseKeepAlive  Kind = "LeaseKeepAlive"
	LeaseTimeToLive Kind = "LeaseTimeToLive"
	LeaseLeases     Kind = "LeaseLeases"
	// LeaseGrantAny grants with id 0 and revokes what the server picked.
	LeaseGrantAny Kind = "LeaseGrantAny"
	// LeaseExpire grants a short lease, attaches a key and waits until both are gone.
	LeaseExpire Kind = "LeaseExpire"

	HashKV     Kind = "HashKV"
	Status     Kind = "Status"
	Alarm      Kind = "Alarm"
	Defragment Kind = "Defragment"
	MemberList Kind = "MemberList"
	MoveLeader Kind = "MoveLeader"

	// WatchOpen opens the stream with the number of the operation.
	WatchOpen     Kind = "WatchOpen"
	WatchCreate   Kind = "WatchCreate"
	WatchCancel   Kind = "WatchCancel"
	WatchProgress Kind = "WatchProgress"
	// WatchEmpty sends a request in which nothing is set.
	WatchEmpty Kind = "WatchEmpty"
	// WatchHalfClose ends the client's side of the stream only.
	WatchHalfClose Kind = "WatchHalfClose"
	// WatchClose cancels the stream.
	WatchClose Kind = "WatchClose"
	// Restart kills both servers and starts them again on their data. Streams end.
	Restart Kind = "Restart"
	// Settle waits until every watcher has all its events, and compares them.
	Settle Kind = "Settle"
)

// requestOf gives the empty request of a kind.
var requestOf = map[Kind]func() proto.Message{
	Range:           func() proto.Message { return &pb.RangeRequest{} },
	RangeStream:     func() proto.Message { return &pb.RangeRequest{} },
	Put:             func() proto.Message { return &pb.PutRequest{} },
	DeleteRange:     func() proto.Message { return &pb.DeleteRangeRequest{} },
	Txn:             func() proto.Message { return &pb.TxnRequest{} },
	Compact:         func() proto.Message { return &pb.CompactionRequest{} },
	LeaseGrant:      func() proto.Message { return &pb.LeaseGrantRequest{} },
	LeaseRevoke:     func() proto.Message { return &pb.LeaseRevokeRequest{} },
	LeaseKeepAlive:  func() proto.Message { return &pb.LeaseKeepAliveRequest{} },
	LeaseTimeToLive: func() proto.Message { return &pb.LeaseTimeToLiveRequest{} },
	LeaseLeases:     func() proto.Message { return &pb.LeaseLeasesRequest{} },
	LeaseGrantAny:   func() proto.Message { return &pb.LeaseGrantRequest{} },
	LeaseExpire:     func() proto.Message { return &pb.LeaseGrantRequest{} },
	HashKV:          func() proto.Message { return &pb.HashKVRequest{} },
	Status:          func() proto.Message { return &pb.StatusRequest{} },
	Alarm:           func() proto.Message { return &pb.AlarmRequest{} },
	Defragment:      func() proto.Message { return &pb.DefragmentRequest{} },
	MemberList:      func() proto.Message { return &pb.MemberListRequest{} },
	MoveLeader:      func() proto.Message { return &pb.MoveLeaderRequest{} },
	WatchOpen:       func() proto.Message { return &pb.WatchRequest{} },
	WatchCreate:     func() proto.Message { return &pb.WatchCreateRequest{} },
	WatchCancel:     func() proto.Message { return &pb.WatchCancelRequest{} },
	WatchProgress:   func() proto.Message { return &pb.WatchProgressRequest{} },
	WatchEmpty:      func() proto.Message { return &pb.WatchRequest{} },
	WatchHalfClose:  func() proto.Message { return &pb.WatchRequest{} },
	WatchClose:      func() proto.Message { return &pb.WatchRequest{} },
	Restart:         func() proto.Message { return &pb.WatchRequest{} },
	Settle:          func() proto.Message { return &pb.WatchRequest{} },
}

// Operation is one step of a run.
type Operation struct {
	Kind Kind
	// Stream is the number of the watch stream, for the Watch kinds.
	Stream int
	// Request is the message that goes out, exactly.
	Request proto.Message
}

// String is the operation as one line of a script.
func (o Operation) String() string {
	text := prototext.MarshalOptions{}.Format(o.Request)
	return fmt.Sprintf("%s %d {%s}", o.Kind, o.Stream, text)
}

// Short is the line with long runs of one byte cut out, for people.
func (o Operation) Short() string {
	const most = 400
	line := o.String()
	if len(line) <= most {
		return line
	}
	return fmt.Sprintf("%s ... (%d bytes) ... %s", line[:most/2], len(line), line[len(line)-most/2:])
}

// ParseOperation reads one line of a script.
func ParseOperation(line string) (Operation, error) {
	kind, rest, _ := strings.Cut(line, " ")
	number, text, found := strings.Cut(rest, " ")
	create := requestOf[Kind(kind)]
	if !found || create == nil || !strings.HasPrefix(text, "{") || !strings.HasSuffix(text, "}") {
		return Operation{}, fmt.Errorf("not an operation: %.60q", line)
	}
	stream, err := strconv.Atoi(number)
	if err != nil {
		return Operation{}, err
	}
	request := create()
	if err := prototext.Unmarshal([]byte(text[1:len(text)-1]), request); err != nil {
		return Operation{}, err
	}
	return Operation{Kind: Kind(kind), Stream: stream, Request: request}, nil
}

// WriteScript writes the operations, one on each line.
func WriteScript(path string, operations []Operation) error {
	var text strings.Builder
	for _, operation := range operations {
		text.WriteString(operation.String())
		text.WriteByte('\n')
	}
	return os.WriteFile(path, []byte(text.String()), 0o600)
}

// ReadScript reads what WriteScript wrote. Empty lines and lines that begin with
// # are left out.
func ReadScript(path string) ([]Operation, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var operations []Operation
	for _, line := range strings.Split(string(content), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		operation, err := ParseOperation(line)
		if err != nil {
			return nil, err
		}
		operations = append(operations, operation)
	}
	return operations, nil
}
