package oracle

import (
	"math"
	"math/rand/v2"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// generator draws operations. What it draws depends on the seed and on what the
// first server has answered so far, so a seed gives the same run again.
type generator struct {
	random *rand.Rand
	model  *watchModel
	leases []int64
	// queue holds operations that have to come next.
	queue      []Operation
	nextStream int
	// alarm is set while the operations under an alarm are drawn.
	alarm pb.AlarmType
}

func newGenerator(seed uint64, model *watchModel) *generator {
	g := &generator{random: rand.New(rand.NewPCG(seed, 0x5eed)), model: model}
	g.preload()
	return g
}

// preload gives lists, pages and streams something to work on.
func (g *generator) preload() {
	for i := range 40 + g.random.IntN(200) {
		g.push(Put, &pb.PutRequest{Key: listKey(i), Value: g.value()})
	}
	for stream := range 2 {
		g.queue = append(g.queue, Operation{Kind: WatchOpen, Stream: stream, Request: &pb.WatchRequest{}})
	}
	g.nextStream = 2
}

func (g *generator) push(kind Kind, request proto.Message) {
	g.queue = append(g.queue, Operation{Kind: kind, Request: request})
}

// weighted is one choice of next.
type weighted struct {
	weight int
	draw   func() Operation
}

// next draws the next operation.
func (g *generator) next() Operation {
	if len(g.queue) > 0 {
		first := g.queue[0]
		g.queue = g.queue[1:]
		return first
	}
	simple := func(kind Kind, draw func() proto.Message) func() Operation {
		return func() Operation { return Operation{Kind: kind, Request: draw()} }
	}
	choices := []weighted{
		{220, simple(Put, func() proto.Message { return g.put() })},
		{160, simple(Range, func() proto.Message { return g.rangeRequest() })},
		{60, simple(Range, func() proto.Message { return g.nextPage() })},
		{10, simple(RangeStream, func() proto.Message { return g.nextPage() })},
		{60, simple(RangeStream, func() proto.Message { return g.rangeRequest() })},
		{60, simple(DeleteRange, func() proto.Message { return g.deleteRange() })},
		{160, simple(Txn, func() proto.Message { return g.txn() })},
		{12, simple(Txn, func() proto.Message { return g.deepTxn() })},
		{4, simple(Txn, func() proto.Message { return g.bulkyTxn() })},
		{8, simple(Compact, func() proto.Message { return g.compact() })},
		{20, simple(LeaseGrant, func() proto.Message { return g.grant() })},
		{10, simple(LeaseRevoke, func() proto.Message { return &pb.LeaseRevokeRequest{ID: g.leaseID()} })},
		{12, simple(LeaseKeepAlive, func() proto.Message { return &pb.LeaseKeepAliveRequest{ID: g.leaseID()} })},
		{15, simple(LeaseTimeToLive, func() proto.Message {
			return &pb.LeaseTimeToLiveRequest{ID: g.leaseID(), Keys: g.chance(2)}
		})},
		{5, simple(LeaseLeases, func() proto.Message { return &pb.LeaseLeasesRequest{} })},
		{3, simple(LeaseGrantAny, func() proto.Message { return &pb.LeaseGrantRequest{TTL: 300} })},
		{1, g.expiring},
		{25, simple(HashKV, func() proto.Message { return &pb.HashKVRequest{Revision: g.revision()} })},
		{5, simple(Status, func() proto.Message { return &pb.StatusRequest{} })},
		{4, simple(Alarm, func() proto.Message { return g.alarmRequest() })},
		{1, simple(Defragment, func() proto.Message { return &pb.DefragmentRequest{} })},
		{1, simple(MoveLeader, func() proto.Message { return g.moveLeader() })},
		{1, simple(MemberList, func() proto.Message { return &pb.MemberListRequest{Linearizable: g.chance(2)} })},
		{4, g.openStream},
		{40, g.watchCreate},
		{10, g.watchCancel},
		{6, g.watchProgress},
		{2, g.streamEnd},
		{1, func() Operation { return Operation{Kind: Restart, Request: &pb.WatchRequest{}} }},
		{4, func() Operation { return Operation{Kind: Settle, Request: &pb.WatchRequest{}} }},
	}
	total := 0
	for _, choice := range choices {
		total += choice.weight
	}
	drawn := g.random.IntN(total)
	for _, choice := range choices {
		if drawn -= choice.weight; drawn < 0 {
			return choice.draw()
		}
	}
	panic("the weights do not add up")
}

// noted tells the generator that an operation has succeeded.
func (g *generator) noted(operation Operation) {
	switch request := operation.Request.(type) {
	case *pb.LeaseGrantRequest:
		if operation.Kind == LeaseGrant && !slices.Contains(g.leases, request.ID) {
			g.leases = append(g.leases, request.ID)
		}
	case *pb.LeaseRevokeRequest:
		g.leases = slices.DeleteFunc(g.leases, func(id int64) bool { return id == request.ID })
	}
}

// chance is true once in n draws.
func (g *generator) chance(n int) bool { return g.random.IntN(n) == 0 }

func pick[V any](g *generator, values ...V) V { return values[g.random.IntN(len(values))] }

// revision draws where the edges are: now, the compacted one, their neighbours.
func (g *generator) revision() int64 {
	current, compacted := g.model.current, g.model.compacted
	switch g.random.IntN(12) {
	case 0:
		return pick[int64](g, -1, -2, math.MinInt64)
	case 1:
		return pick[int64](g, current+1, current+2, math.MaxInt64)
	case 2:
		return pick(g, compacted-1, compacted, compacted+1)
	case 3, 4:
		return current
	case 5, 6, 7:
		low := max(compacted, 1)
		return low + g.random.Int64N(max(current-low, 1)+1)
	}
	return 0
}

// grant draws long times to live; short ones would end at two different moments.
func (g *generator) grant() *pb.LeaseGrantRequest {
	id := pick[int64](g, 0, 1) * g.leaseID()
	if id == 0 {
		id = 1 + g.random.Int64N(math.MaxInt64-1)
	}
	return &pb.LeaseGrantRequest{
		ID:  id,
		TTL: pick[int64](g, 600, 3600, 100_000, 8_999_999_999, 9_000_000_000, 9_000_000_001, math.MaxInt64),
	}
}

// leaseID draws a known lease mostly, else one that is not there.
func (g *generator) leaseID() int64 {
	if len(g.leases) > 0 && !g.chance(4) {
		return pick(g, g.leases...)
	}
	return pick[int64](g, -1, -7, 0, 1, 77, math.MaxInt64, math.MinInt64)
}

func (g *generator) expiring() Operation {
	return Operation{Kind: LeaseExpire, Request: &pb.LeaseGrantRequest{
		ID: 900_000 + g.random.Int64N(90_000), TTL: pick[int64](g, -5, 0, 1, 2, 3)}}
}

func (g *generator) compact() *pb.CompactionRequest {
	revision := g.revision()
	if g.chance(2) && g.model.current > 20 {
		revision = g.model.current - g.random.Int64N(20)
	}
	return &pb.CompactionRequest{Revision: revision, Physical: g.chance(2)}
}

// alarmRequest raises an alarm now and then, and sees to it that it ends soon.
func (g *generator) alarmRequest() *pb.AlarmRequest {
	if g.alarm == pb.AlarmType_NONE && g.chance(3) {
		alarm := pick(g, pb.AlarmType_NOSPACE, pb.AlarmType_CORRUPT)
		g.alarm = alarm
		var within []Operation
		for range 12 {
			if operation := g.next(); operation.Kind != LeaseExpire {
				within = append(within, operation)
			}
		}
		g.alarm = pb.AlarmType_NONE
		g.queue = append(g.queue, within...)
		g.push(Alarm, &pb.AlarmRequest{Action: pb.AlarmRequest_DEACTIVATE, MemberID: 1, Alarm: alarm})
		return &pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, MemberID: 1, Alarm: alarm}
	}
	if g.chance(2) {
		return &pb.AlarmRequest{Action: pb.AlarmRequest_DEACTIVATE, MemberID: pick[uint64](g, 0, 1, 5),
			Alarm: pick(g, pb.AlarmType_NONE, pb.AlarmType_NOSPACE, pb.AlarmType_CORRUPT)}
	}
	return &pb.AlarmRequest{Action: pb.AlarmRequest_GET, MemberID: pick[uint64](g, 0, 1, 5),
		Alarm: pick(g, pb.AlarmType_NONE, pb.AlarmType_NOSPACE, pb.AlarmType_CORRUPT)}
}
