package oracle

import (
	"bytes"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// page is a list that was cut by its limit, as the one who reads the next page knows it.
type page struct {
	revision int64
	lastKey  []byte
	rangeEnd []byte
}

// notePage remembers where a list in key order was cut.
func (m *watchModel) notePage(request *pb.RangeRequest, reply *pb.RangeResponse) {
	inOrder := request.SortTarget == pb.RangeRequest_KEY && request.SortOrder != pb.RangeRequest_DESCEND
	if !inOrder || !reply.GetMore() || len(reply.GetKvs()) == 0 {
		return
	}
	m.cut = page{revision: request.Revision, lastKey: reply.Kvs[len(reply.Kvs)-1].Key, rangeEnd: request.RangeEnd}
	if request.Revision <= 0 {
		m.cut.revision = reply.GetHeader().GetRevision()
	}
}

// nextPage goes on behind the last list that was cut, as a kube-apiserver does: at the
// revision of the first page, whatever was written since. One of the answers' counts is
// what is left from there on.
func (g *generator) nextPage() *pb.RangeRequest {
	cut := g.model.cut
	if cut.lastKey == nil {
		return &pb.RangeRequest{Key: []byte("list/"), RangeEnd: []byte("list0"), Limit: 3}
	}
	request := &pb.RangeRequest{
		Key: append(bytes.Clone(cut.lastKey), 0), RangeEnd: cut.rangeEnd, Revision: cut.revision,
		Limit: pick[int64](g, 1, 3, 10, 30), KeysOnly: g.chance(5), Serializable: g.chance(3),
	}
	if g.chance(8) {
		request.Limit, request.CountOnly = 0, g.chance(2)
	}
	return request
}

// deepTxn nests transactions up to and beyond what the budget of operations lets through,
// which is more than twice the depth at which protobuf libraries give up.
func (g *generator) deepTxn() *pb.TxnRequest {
	levels := pick(g, 4, 20, 49, 50, 51, 52, 100, 101, 126, 127, 128, 129, 130, 131, 200)
	txn := &pb.TxnRequest{}
	if !g.chance(3) {
		txn = g.txnAt(depthMost)
	}
	for range levels - 1 {
		outer := &pb.TxnRequest{}
		inner := []*pb.RequestOp{{Request: &pb.RequestOp_RequestTxn{RequestTxn: txn}}}
		// Compares do not cost more than the operation beside them.
		if g.chance(8) {
			outer.Compare = append(outer.Compare, g.compare())
		}
		if g.chance(30) {
			inner = append(inner, g.operation(depthMost))
		}
		if g.chance(2) {
			outer.Success = inner
		} else {
			outer.Failure = inner
		}
		// Both branches hold it now and then; keys may meet in them.
		if g.chance(60) {
			outer.Success, outer.Failure = inner[:1], inner[:1]
		}
		txn = outer
	}
	keepFromPanic(txn)
	return txn
}

// bulkyTxn changes so much at one revision that the events are more than a message holds
// when a watcher wants the values before as well.
func (g *generator) bulkyTxn() *pb.TxnRequest {
	request := &pb.TxnRequest{}
	letter := byte('a' + g.random.IntN(26))
	for i := range 14 {
		request.Success = append(request.Success, &pb.RequestOp{Request: &pb.RequestOp_RequestPut{
			RequestPut: &pb.PutRequest{Key: listKey(i), Value: bytes.Repeat([]byte{letter}, 105_000)}}})
	}
	return request
}

func (g *generator) moveLeader() *pb.MoveLeaderRequest {
	return &pb.MoveLeaderRequest{TargetID: pick[uint64](g, 0, 1, 5)}
}
