package oracle

import (
	"context"
	"errors"
	"fmt"
	"io"
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
}

// Dial connects to a server that has just been started on an empty directory.
func Dial(name, endpoint string) (*Target, error) {
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
		watch: pb.NewWatchClient(connection), streams: map[int]*watchStream{},
	}
	target.ctx, target.cancel = context.WithCancel(context.Background())
	reply, err := target.maintenance.Status(target.ctx, &pb.StatusRequest{}, grpc.WaitForReady(true))
	if err != nil {
		return nil, fmt.Errorf("status of %s: %w", name, err)
	}
	target.memberID = reply.GetHeader().GetMemberId()
	target.history, err = openWatchStream(target.ctx, target.watch)
	if err != nil {
		return nil, err
	}
	everything := &pb.WatchCreateRequest{Key: []byte{0}, RangeEnd: []byte{0}, StartRevision: 1}
	if outcome := target.history.create(everything); outcome.Code != codes.OK {
		return nil, fmt.Errorf("%s does not let itself be watched: %s", name, outcome.Text)
	}
	return target, nil
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

func (t *Target) grant(ctx context.Context, kind Kind, request *pb.LeaseGrantRequest) Outcome {
	reply, err := t.lease.LeaseGrant(ctx, request)
	if err != nil {
		return failure(err)
	}
	switch kind {
	case LeaseGrantAny:
		if reply.ID <= 0 {
			return Outcome{Fault: fmt.Sprintf("the server picked the lease id %d", reply.ID)}
		}
		if _, err := t.lease.LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: reply.ID}); err != nil {
			return failure(err)
		}
		reply.ID = 1
	case LeaseExpire:
		return t.expire(ctx, reply)
	}
	return Outcome{Reply: reply}
}

// expire attaches a key to a short lease and waits until both are gone.
func (t *Target) expire(ctx context.Context, lease *pb.LeaseGrantResponse) Outcome {
	key := []byte("expiring")
	put, err := t.kv.Put(ctx, &pb.PutRequest{Key: key, Value: []byte("x"), Lease: lease.ID})
	if err != nil {
		return failure(err)
	}
	granted := time.Now()
	for {
		reply, err := t.kv.Range(ctx, &pb.RangeRequest{Key: key})
		if err != nil {
			return failure(err)
		}
		if reply.Count == 0 {
			break
		}
		if reply.Header.Revision != put.Header.Revision {
			return Outcome{Fault: "a revision was taken while a lease ran out"}
		}
		time.Sleep(20 * time.Millisecond)
	}
	// The lease was granted before the put, so one second of slack tells early from due.
	if early := time.Duration(lease.TTL)*time.Second - time.Since(granted); early > time.Second {
		return Outcome{Fault: fmt.Sprintf("the key was gone %v before its time", early)}
	}
	return outcome(t.lease.LeaseTimeToLive(ctx,
		&pb.LeaseTimeToLiveRequest{ID: lease.ID, Keys: true}))
}

// keepLeaseAlive sends one request on a stream that stays open over the run.
func (t *Target) keepLeaseAlive(request *pb.LeaseKeepAliveRequest) Outcome {
	if t.keepAlive == nil {
		stream, err := t.lease.LeaseKeepAlive(t.ctx)
		if err != nil {
			return failure(err)
		}
		t.keepAlive = stream
	}
	if err := t.keepAlive.Send(request); err != nil {
		t.keepAlive = nil
		return failure(err)
	}
	type received struct {
		reply *pb.LeaseKeepAliveResponse
		err   error
	}
	answer := make(chan received, 1)
	stream := t.keepAlive
	go func() {
		reply, err := stream.Recv()
		answer <- received{reply, err}
	}()
	select {
	case got := <-answer:
		if got.err != nil {
			t.keepAlive = nil
		}
		return outcome(got.reply, got.err)
	case <-time.After(operationTimeout):
		t.keepAlive = nil
		return Outcome{Fault: "a keep-alive was not answered"}
	}
}
