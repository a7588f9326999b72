package oracle

import (
	"bytes"
	"fmt"
	"math"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// transactionLimit is etcd's default of --max-txn-ops.
const transactionLimit = 128

// longKeyLength is above 65,535, the bound of several storage engines.
const longKeyLength = 70_000

func listKey(number int) []byte { return fmt.Appendf(nil, "list/%03d", number) }

// key draws from a small pool, so that operations meet each other.
func (g *generator) key() []byte {
	switch g.random.IntN(40) {
	case 0:
		return nil
	case 1:
		return []byte{0}
	case 2:
		return []byte{0xff}
	case 3:
		return []byte{0xff, 0xff, byte(g.random.IntN(3))}
	case 4:
		return bytes.Repeat([]byte{'k'}, 300+g.random.IntN(3))
	case 5:
		if g.chance(4) {
			return bytes.Repeat([]byte{'K'}, longKeyLength+g.random.IntN(2))
		}
		return []byte("a\x00")
	case 6, 7, 8, 9, 10, 11, 12, 13:
		return listKey(g.random.IntN(60))
	}
	return []byte(pick(g, "a", "b", "c", "a/1", "a/2", "a/2/x", "b/1", "b/2", "c/", "d", "e", "sync"))
}

// presentKey is a key that a request may hold.
func (g *generator) presentKey() []byte {
	for {
		if key := g.key(); len(key) > 0 {
			return key
		}
	}
}

func prefixEnd(prefix []byte) []byte {
	end := bytes.Clone(prefix)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i] < 0xff {
			end[i]++
			return end[:i+1]
		}
	}
	return []byte{0}
}

// interval draws key and range_end, inverted and degenerate ones included.
func (g *generator) interval() (key, end []byte) {
	switch g.random.IntN(12) {
	case 0, 1, 2:
		return g.key(), nil
	case 3:
		return []byte{0}, []byte{0}
	case 4:
		return g.key(), []byte{0}
	case 5:
		return g.key(), g.key()
	case 6, 7, 8, 9:
		return []byte("list/"), []byte("list0")
	}
	key = g.key()
	return key, prefixEnd(key)
}

func (g *generator) value() []byte {
	switch g.random.IntN(60) {
	case 0:
		return nil
	case 1:
		return bytes.Repeat([]byte{byte('a' + g.random.IntN(26))}, 100_000)
	case 2:
		if g.chance(6) {
			return bytes.Repeat([]byte{byte('a' + g.random.IntN(26))}, 1_500_000)
		}
		return nil
	case 3:
		// Above the limit of a request, and above the limit of a message.
		if g.chance(8) {
			return bytes.Repeat([]byte{'x'}, pick(g, 1_573_000, 2_000_000, 2_200_000))
		}
		return []byte{0}
	case 4, 5, 6:
		return bytes.Repeat([]byte{byte('a' + g.random.IntN(26))}, 1024)
	}
	return fmt.Appendf(nil, "v%d", g.random.IntN(20))
}

func (g *generator) put() *pb.PutRequest {
	request := &pb.PutRequest{Key: g.key(), Value: g.value(), PrevKv: g.chance(3)}
	if g.chance(6) {
		request.Lease = g.leaseID()
	}
	if g.chance(12) {
		request.IgnoreLease = true
		if !g.chance(4) {
			request.Lease = 0
		}
	}
	if g.chance(12) {
		request.IgnoreValue = true
		if !g.chance(4) {
			request.Value = nil
		}
	}
	return request
}

func (g *generator) deleteRange() *pb.DeleteRangeRequest {
	request := &pb.DeleteRangeRequest{Key: g.key(), PrevKv: g.chance(2)}
	switch g.random.IntN(10) {
	case 0:
		request.Key, request.RangeEnd = g.interval()
	case 1:
		start := g.random.IntN(60)
		request.Key, request.RangeEnd = listKey(start), listKey(start+g.random.IntN(10))
	case 2:
		request.RangeEnd = prefixEnd(request.Key)
	}
	return request
}

func (g *generator) rangeRequest() *pb.RangeRequest {
	request := &pb.RangeRequest{Serializable: g.chance(3)}
	request.Key, request.RangeEnd = g.interval()
	if g.chance(2) {
		request.Revision = g.revision()
	}
	if g.chance(2) {
		request.Limit = pick[int64](g, 1, 2, 3, 9, 10, 11, 30, 500, -1)
	}
	if g.chance(4) {
		request.SortOrder = pick(g, pb.RangeRequest_NONE, pb.RangeRequest_ASCEND, pb.RangeRequest_DESCEND)
		request.SortTarget = pick(g, pb.RangeRequest_KEY, pb.RangeRequest_VERSION, pb.RangeRequest_CREATE,
			pb.RangeRequest_MOD, pb.RangeRequest_VALUE)
	}
	if g.chance(40) {
		request.SortOrder = pb.RangeRequest_SortOrder(pick[int32](g, 3, -1, 99))
	}
	if g.chance(40) {
		request.SortTarget = pb.RangeRequest_SortTarget(pick[int32](g, 5, -1, 99))
	}
	if g.chance(60) {
		request.Limit = pick[int64](g, math.MinInt64, math.MaxInt64)
	}
	request.KeysOnly = g.chance(5)
	request.CountOnly = g.chance(8)
	if g.chance(8) {
		request.MinModRevision = g.revision()
		request.MaxModRevision = g.revision() * int64(g.random.IntN(2))
	}
	if g.chance(8) {
		request.MinCreateRevision = g.revision()
		request.MaxCreateRevision = g.revision() * int64(g.random.IntN(2))
	}
	return request
}

// txn draws a transaction; some sit at the limits.
func (g *generator) txn() *pb.TxnRequest {
	if g.chance(12) {
		return g.largeTxn()
	}
	drawn := g.txnAt(0)
	if deletes, nested := contents(drawn); deletes && nested || deletesToTheEnd(drawn) {
		keepFromPanic(drawn)
	}
	return drawn
}

// keepFromPanic takes ignore_value and ignore_lease out of a transaction. A put with
// one of them on a key that the same transaction has deleted ends etcd 3.7.3 with a
// panic; its rule against duplicate keys lets some of those through. badinput has
// such a transaction for the server under test alone.
func keepFromPanic(txn *pb.TxnRequest) {
	for _, operation := range slices.Concat(txn.Success, txn.Failure) {
		if put := operation.GetRequestPut(); put != nil {
			put.IgnoreValue, put.IgnoreLease = false, false
		}
		if inner := operation.GetRequestTxn(); inner != nil {
			keepFromPanic(inner)
		}
	}
}

func contents(txn *pb.TxnRequest) (deletes, nested bool) {
	for _, operation := range slices.Concat(txn.Success, txn.Failure) {
		deletes = deletes || operation.GetRequestDeleteRange() != nil
		if inner := operation.GetRequestTxn(); inner != nil {
			innerDeletes, _ := contents(inner)
			deletes, nested = deletes || innerDeletes, true
		}
	}
	return deletes, nested
}

func deletesToTheEnd(txn *pb.TxnRequest) bool {
	return slices.ContainsFunc(slices.Concat(txn.Success, txn.Failure), func(operation *pb.RequestOp) bool {
		return string(operation.GetRequestDeleteRange().GetRangeEnd()) == "\x00"
	})
}

func (g *generator) txnAt(depth int) *pb.TxnRequest {
	request := &pb.TxnRequest{}
	for range g.random.IntN(3) {
		request.Compare = append(request.Compare, g.compare())
	}
	for range g.random.IntN(4) {
		request.Success = append(request.Success, g.operation(depth))
	}
	for range g.random.IntN(4) {
		request.Failure = append(request.Failure, g.operation(depth))
	}
	return request
}

// largeTxn has 127, 128 or 129 operations or compares, on distinct keys mostly.
func (g *generator) largeTxn() *pb.TxnRequest {
	request := &pb.TxnRequest{}
	count := transactionLimit - 1 + g.random.IntN(3)
	switch g.random.IntN(4) {
	case 0:
		for range count {
			request.Compare = append(request.Compare, g.compare())
		}
	case 1:
		// The nested one has what the outer one leaves: nothing or one operation.
		inner := g.txnAt(depthMost)
		request.Success = g.distinctPuts(count - 1)
		request.Success = append(request.Success,
			&pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: inner}})
	case 2:
		request.Failure = g.distinctPuts(count)
	default:
		request.Success = g.distinctPuts(count)
	}
	return request
}

func (g *generator) distinctPuts(count int) []*pb.RequestOp {
	var operations []*pb.RequestOp
	for i := range count {
		operations = append(operations, &pb.RequestOp{Request: &pb.RequestOp_RequestPut{
			RequestPut: &pb.PutRequest{Key: fmt.Appendf(nil, "many/%03d", i), Value: []byte("m")}}})
	}
	return operations
}

// depthMost is how deep transactions are nested at random.
const depthMost = 3

func (g *generator) operation(depth int) *pb.RequestOp {
	switch drawn := g.random.IntN(20); {
	case drawn < 8:
		return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: g.put()}}
	case drawn < 13:
		return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: g.rangeRequest()}}
	case drawn < 16:
		return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: g.deleteRange()}}
	case drawn < 19 && depth < depthMost:
		return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: g.txnAt(depth + 1)}}
	case drawn == 19 && g.chance(4):
		return &pb.RequestOp{}
	}
	return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: g.presentKey()}}}
}

func (g *generator) compare() *pb.Compare {
	compare := &pb.Compare{
		Key:    g.presentKey(),
		Result: pick(g, pb.Compare_EQUAL, pb.Compare_GREATER, pb.Compare_LESS, pb.Compare_NOT_EQUAL),
		Target: pick(g, pb.Compare_VERSION, pb.Compare_CREATE, pb.Compare_MOD, pb.Compare_VALUE, pb.Compare_LEASE),
	}
	if g.chance(30) {
		compare.Key = nil
	}
	if g.chance(30) {
		compare.Result = pb.Compare_CompareResult(pick[int32](g, 4, -1))
	}
	if g.chance(40) {
		compare.Target = pb.Compare_CompareTarget(pick[int32](g, 5, -1))
	}
	if g.chance(4) {
		_, compare.RangeEnd = g.interval()
	}
	union := compare.Target
	if g.chance(10) {
		// The value does not belong to the target, or is not there at all.
		union = pb.Compare_CompareTarget(g.random.Int32N(6))
	}
	switch union {
	case pb.Compare_VERSION:
		compare.TargetUnion = &pb.Compare_Version{
			Version: pick[int64](g, 0, 1, 2, 3, -1, math.MaxInt64, math.MinInt64)}
	case pb.Compare_CREATE:
		compare.TargetUnion = &pb.Compare_CreateRevision{CreateRevision: g.revision()}
	case pb.Compare_MOD:
		compare.TargetUnion = &pb.Compare_ModRevision{ModRevision: g.revision()}
	case pb.Compare_VALUE:
		compare.TargetUnion = &pb.Compare_Value{Value: g.value()}
	case pb.Compare_LEASE:
		compare.TargetUnion = &pb.Compare_Lease{Lease: g.leaseID()}
	}
	return compare
}
