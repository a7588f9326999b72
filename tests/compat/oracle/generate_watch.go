package oracle

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

const (
	// streamsMost is how many watch streams a run holds open at once.
	streamsMost = 5
	// watchersMost is how many watchers one stream gets at random.
	watchersMost = 40
)

// anyStream draws an open stream; there is always one.
func (g *generator) anyStream() int {
	numbers := sortedKeys(g.model.streams)
	if len(numbers) == 0 {
		return 0
	}
	return pick(g, numbers...)
}

func (g *generator) openStream() Operation {
	if len(g.model.streams) >= streamsMost {
		return g.watchCreate()
	}
	g.nextStream++
	return Operation{Kind: WatchOpen, Stream: g.nextStream, Request: &pb.WatchRequest{}}
}

func (g *generator) watchCreate() Operation {
	stream := g.anyStream()
	request := &pb.WatchCreateRequest{
		ProgressNotify: g.chance(4), PrevKv: g.chance(2), Fragment: g.chance(3)}
	request.Key, request.RangeEnd = g.interval()
	switch g.random.IntN(4) {
	case 0:
		request.StartRevision = g.revision()
	case 1:
		request.StartRevision = max(g.model.compacted, g.model.current-g.random.Int64N(100), 1)
	}
	if g.chance(5) {
		for range 1 + g.random.IntN(2) {
			request.Filters = append(request.Filters,
				pick(g, pb.WatchCreateRequest_NOPUT, pb.WatchCreateRequest_NODELETE, pb.WatchCreateRequest_FilterType(7)))
		}
	}
	if g.chance(6) {
		request.WatchId = pick[int64](g, 1, 2, 3, 50, 1000, -5)
	}
	if model := g.model.streams[stream]; model != nil && len(model.watchers) >= watchersMost {
		return Operation{Kind: WatchClose, Stream: stream, Request: &pb.WatchRequest{}}
	}
	return Operation{Kind: WatchCreate, Stream: stream, Request: request}
}

func (g *generator) watchCancel() Operation {
	stream := g.anyStream()
	request := &pb.WatchCancelRequest{WatchId: pick[int64](g, -1, 7, 99_999)}
	if model := g.model.streams[stream]; model != nil && len(model.watchers) > 0 && !g.chance(5) {
		request.WatchId = pick(g, sortedKeys(model.watchers)...)
	}
	return Operation{Kind: WatchCancel, Stream: stream, Request: request}
}

func (g *generator) watchProgress() Operation {
	return Operation{Kind: WatchProgress, Stream: g.anyStream(), Request: &pb.WatchProgressRequest{}}
}

// streamEnd ends a stream, half or whole, or sends it nothing.
func (g *generator) streamEnd() Operation {
	kind := pick(g, WatchEmpty, WatchHalfClose, WatchClose)
	return Operation{Kind: kind, Stream: g.anyStream(), Request: &pb.WatchRequest{}}
}
