package oracle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// operationTimeout ends an operation that a server does not answer. The two
// servers get the same time, so a hang of one is a divergence.
const operationTimeout = 20 * time.Second

// receiveLimit lets replies of any size in.
const receiveLimit = 1 << 30

// Outcome is what one server made of one operation.
type Outcome struct {
	// Reply is nil when the operation failed.
	Reply proto.Message
	Code  codes.Code
	Text  string
	// Fault names a broken promise that needs no comparison.
	Fault string
}

// Target is one of the two servers, as seen through gRPC.
type Target struct {
	Name        string
	connection  *grpc.ClientConn
	kv          pb.KVClient
	lease       pb.LeaseClient
	maintenance pb.MaintenanceClient
	cluster     pb.ClusterClient
	watch       pb.WatchClient
	keepAlive   pb.Lease_LeaseKeepAliveClient
	streams     map[int]*watchStream
	history     *watchStream
	memberID    uint64
	ctx         context.Context
	cancel      context.CancelFunc
	// restart kills the process and starts it again, on the same address.
	restart func() error
}

// Dial connects to a server that has just been started on an empty directory.
func Dial(name, endpoint string, restart func() error) (*Target, error) {
	connection, err := grpc.NewClient("passthrough:///"+endpoint,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(
			grpc.MaxCallRecvMsgSize(receiveLimit), grpc.MaxCallSendMsgSize(receiveLimit)))
	if err != nil {
		return nil, err
	}
	target := &Target{
		Name: name, connection: connection,
		kv: pb.NewKVClient(connection), lease: pb.NewLeaseClient(connection),
		maintenance: pb.NewMaintenanceClient(connection), cluster: pb.NewClusterClient(connection),
		watch: pb.NewWatchClient(connection), streams: map[int]*watchStream{}, restart: restart,
	}
	target.ctx, target.cancel = context.WithCancel(context.Background())
	reply, err := target.maintenance.Status(target.ctx, &pb.StatusRequest{}, grpc.WaitForReady(true))
	if err != nil {
		return nil, fmt.Errorf("status of %s: %w", name, err)
	}
	target.memberID = reply.GetHeader().GetMemberId()
	return target, target.watchEverything(1, nil)
}

// watchEverything opens the watch over the whole history. The events that are known
// already come first in its log.
func (t *Target) watchEverything(from int64, known []event) error {
	var err error
	if t.history, err = openWatchStream(t.ctx, t.watch); err != nil {
		return err
	}
	everything := &pb.WatchCreateRequest{Key: []byte{0}, RangeEnd: []byte{0}, StartRevision: from}
	if outcome := t.history.create(everything); outcome.Fault != "" {
		return fmt.Errorf("%s does not let itself be watched: %s", t.Name, outcome.Fault)
	}
	t.history.mutex.Lock()
	defer t.history.mutex.Unlock()
	log := t.history.live[0]
	if log == nil {
		return fmt.Errorf("%s refuses a watch from revision %d", t.Name, from)
	}
	log.events = append(slices.Clone(known), log.events...)
	return nil
}

// Restart kills the server, starts it again and takes up the watch over everything.
func (t *Target) Restart(current int64) Outcome {
	t.history.mutex.Lock()
	var known []event
	if log := t.history.live[0]; log != nil {
		known = log.events
	}
	t.history.mutex.Unlock()
	for number, stream := range t.streams {
		stream.cancel()
		delete(t.streams, number)
	}
	t.history.cancel()
	t.keepAlive = nil
	if err := t.restart(); err != nil {
		return Outcome{Fault: err.Error()}
	}
	t.connection.ResetConnectBackoff()
	reply, err := t.maintenance.Status(t.ctx, &pb.StatusRequest{}, grpc.WaitForReady(true))
	if err != nil {
		return failure(err)
	}
	if reply.GetHeader().GetMemberId() != t.memberID {
		return Outcome{Fault: "the member id has changed"}
	}
	if err := t.watchEverything(current+1, known); err != nil {
		return Outcome{Fault: err.Error()}
	}
	return Outcome{Reply: reply}
}

// Close ends all streams and the connection.
func (t *Target) Close() {
	t.cancel()
	// The connection goes away with its streams; there is nobody to tell of an error.
	_ = t.connection.Close()
}

// Execute performs one operation, except Settle, which needs the model.
// expectReply says whether a watch request has an answer to wait for.
func (t *Target) Execute(operation Operation, expectReply bool) Outcome {
	ctx, cancel := context.WithTimeout(t.ctx, operationTimeout)
	defer cancel()
	switch request := operation.Request.(type) {
	case *pb.RangeRequest:
		if operation.Kind == RangeStream {
			return t.rangeStream(ctx, request)
		}
		return outcome(t.kv.Range(ctx, request))
	case *pb.PutRequest:
		return outcome(t.kv.Put(ctx, request))
	case *pb.DeleteRangeRequest:
		return outcome(t.kv.DeleteRange(ctx, request))
	case *pb.TxnRequest:
		return outcome(t.kv.Txn(ctx, request))
	case *pb.CompactionRequest:
		return outcome(t.kv.Compact(ctx, request))
	case *pb.LeaseGrantRequest:
		return t.grant(ctx, operation.Kind, request)
	case *pb.LeaseRevokeRequest:
		return outcome(t.lease.LeaseRevoke(ctx, request))
	case *pb.LeaseKeepAliveRequest:
		return t.keepLeaseAlive(request)
	case *pb.LeaseTimeToLiveRequest:
		return outcome(t.lease.LeaseTimeToLive(ctx, request))
	case *pb.LeaseLeasesRequest:
		return outcome(t.lease.LeaseLeases(ctx, request))
	case *pb.HashKVRequest:
		return outcome(t.maintenance.HashKV(ctx, request))
	case *pb.StatusRequest:
		return outcome(t.maintenance.Status(ctx, request))
	case *pb.AlarmRequest:
		return t.alarm(ctx, request)
	case *pb.DefragmentRequest:
		return outcome(t.maintenance.Defragment(ctx, request))
	case *pb.MoveLeaderRequest:
		own := proto.Clone(request).(*pb.MoveLeaderRequest)
		if own.TargetID == 1 {
			own.TargetID = t.memberID
		}
		return outcome(t.maintenance.MoveLeader(ctx, own))
	case *pb.MemberListRequest:
		return outcome(t.cluster.MemberList(ctx, request))
	}
	return t.watchOperation(operation, expectReply)
}

// outcome turns the results of a stub into an Outcome.
func outcome[M proto.Message](reply M, err error) Outcome {
	if err != nil {
		return failure(err)
	}
	return Outcome{Reply: reply}
}

func failure(err error) Outcome {
	state := status.Convert(err)
	return Outcome{Code: state.Code(), Text: state.Message()}
}

// alarm replaces the placeholder 1 by the server's own member id.
func (t *Target) alarm(ctx context.Context, request *pb.AlarmRequest) Outcome {
	own := proto.Clone(request).(*pb.AlarmRequest)
	if own.MemberID == 1 {
		own.MemberID = t.memberID
	}
	return outcome(t.maintenance.Alarm(ctx, own))
}

// rangeStream merges the chunks and checks what each may hold (contract 1.5).
func (t *Target) rangeStream(ctx context.Context, request *pb.RangeRequest) Outcome {
	stream, err := t.kv.RangeStream(ctx, request)
	if err != nil {
		return failure(err)
	}
	merged := &pb.RangeResponse{}
	var last *pb.RangeResponse
	for {
		message, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return failure(err)
		}
		if last != nil && (last.Header != nil || last.More || last.Count != 0 || len(last.Kvs) == 0) {
			return Outcome{Fault: "a chunk before the last one is empty or holds more than key-values"}
		}
		last = message.GetRangeResponse()
		proto.Merge(merged, last)
	}
	if last == nil || last.Header == nil {
		return Outcome{Fault: "the last chunk has no header"}
	}
	return Outcome{Reply: merged}
}
