package badinput

import (
	"bytes"
	"fmt"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
	"sternpost.dev/compat/internal/store"
)

// manyKeys and valueBytes make 16 MiB to read.
const manyKeys, valueBytes = 2000, 8192

func fill(t *testing.T, client *store.Client) {
	t.Helper()
	for n := range manyKeys {
		// No two values are alike: Go's sort leaves open what comes first of those.
		put(t, client, fmt.Sprintf("list/%05d", n), bytes.Repeat(fmt.Appendf(nil, "%08d", n), valueBytes/8))
	}
}

func rangeOf(request *pb.RangeRequest) *pb.RequestOp {
	request.Key, request.RangeEnd = []byte("list/"), []byte("list0")
	return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: request}}
}

// TestLargeTransactions compares answers of many megabytes: lists within transactions, and
// what was deleted.
func TestLargeTransactions(t *testing.T) {
	deletion := func(first, behind int) *pb.DeleteRangeRequest {
		return &pb.DeleteRangeRequest{PrevKv: true,
			Key: fmt.Appendf(nil, "list/%05d", first), RangeEnd: fmt.Appendf(nil, "list/%05d", behind)}
	}
	inner := &pb.TxnRequest{Success: []*pb.RequestOp{
		rangeOf(&pb.RangeRequest{}), rangeOf(&pb.RangeRequest{KeysOnly: true}),
		{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: deletion(100, 700)}},
		rangeOf(&pb.RangeRequest{SortTarget: pb.RangeRequest_VALUE, SortOrder: pb.RangeRequest_DESCEND, KeysOnly: true}),
	}}
	reads := &pb.TxnRequest{Success: []*pb.RequestOp{
		rangeOf(&pb.RangeRequest{}), rangeOf(&pb.RangeRequest{Limit: 300}),
		rangeOf(&pb.RangeRequest{SortOrder: pb.RangeRequest_DESCEND}), rangeOf(&pb.RangeRequest{CountOnly: true}),
	}}
	writes := &pb.TxnRequest{Success: []*pb.RequestOp{
		{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("list/00000"), PrevKv: true}}},
		{Request: &pb.RequestOp_RequestTxn{RequestTxn: inner}}, rangeOf(&pb.RangeRequest{}),
	}}
	replies := map[string][]proto.Message{}
	for name, process := range both(t) {
		client := process.MustDial(t)
		fill(t, client)
		for _, request := range []*pb.TxnRequest{reads, writes} {
			reply, err := client.KV.Txn(t.Context(), request)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			reply.Header.ClusterId, reply.Header.MemberId = 0, 0
			replies[name] = append(replies[name], reply)
		}
		reply, err := client.KV.DeleteRange(t.Context(), deletion(1000, 1900))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		reply.Header.ClusterId, reply.Header.MemberId = 0, 0
		replies[name] = append(replies[name], reply)
	}
	for n, due := range replies["etcd"] {
		if !proto.Equal(due, replies["store"][n]) {
			t.Errorf("answer %d differs: %d bytes at etcd, %d at the store", n, proto.Size(due), proto.Size(replies["store"][n]))
		}
	}
}

// TestStoppedTransactions has clients that ask for lists within a transaction and do not read
// the answer: 512 MiB, of which the server holds little more than what is stored anyway.
func TestStoppedTransactions(t *testing.T) {
	const readers, lists, grownMost = 8, 4, 128 << 20
	process := store.MustStart(t, store.UnderTest())
	client := process.MustDial(t)
	fill(t, client)
	operations := make([]*pb.RequestOp, lists)
	for n := range operations {
		operations[n] = rangeOf(&pb.RangeRequest{})
	}
	message, err := proto.Marshal(&pb.TxnRequest{Success: operations})
	if err != nil {
		t.Fatal(err)
	}
	before := residentBytes(t, process)
	var streams []grpc.ClientStream
	for range readers {
		connection, err := grpc.NewClient("passthrough:///"+process.Endpoint(), grpc.WithInitialWindowSize(65_536),
			grpc.WithInitialConnWindowSize(65_536), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		defer connection.Close()
		stream, err := connection.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true}, "/etcdserverpb.KV/Txn",
			grpc.ForceCodec(rawCodec{}), grpc.MaxCallRecvMsgSize(1<<30))
		if err == nil {
			err = stream.SendMsg(&message)
		}
		if err == nil {
			err = stream.CloseSend()
		}
		if err == nil {
			// The answer has begun.
			_, err = stream.Header()
		}
		if err != nil {
			t.Fatal(err)
		}
		streams = append(streams, stream)
	}
	put(t, client, "beside", nil)
	grown := residentBytes(t, process) - before
	t.Logf("%d MiB wait; the server has grown by %d MiB", readers*lists*manyKeys*valueBytes>>20, grown>>20)
	if !store.IsEtcd() && grown > grownMost {
		t.Errorf("grown by %d MiB", grown>>20)
	}
	for _, stream := range streams {
		var answer []byte
		if err := stream.RecvMsg(&answer); err != nil {
			t.Fatal(err)
		}
		reply := &pb.TxnResponse{}
		if err := proto.Unmarshal(answer, reply); err != nil {
			t.Fatal(err)
		}
		for _, response := range reply.Responses {
			if kvs := response.GetResponseRange().GetKvs(); len(kvs) != manyKeys {
				t.Fatalf("%d keys", len(kvs))
			}
		}
	}
}
