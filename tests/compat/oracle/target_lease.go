package oracle

import (
	"context"
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

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
