package oracle

import (
	"bytes"
	"fmt"
	"sort"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// settlePatience bounds the wait for events that are due.
const settlePatience = 20 * time.Second

// modelWatcher is a watcher as both servers should see it.
type modelWatcher struct {
	stream   int
	watchID  int64
	request  *pb.WatchCreateRequest
	start    int64
	logs     [2]*watcherLog
	expected []event
	// cursor is how much of the history has been looked at, compared how many
	// of the expected events have been.
	cursor, compared int
	// compacted says that the watcher began below the compacted revision, which
	// was compactedAt then.
	compacted   bool
	compactedAt int64
}

// watchModel knows which events each watcher of the two servers has to receive.
// The histories of the servers (one watcher over everything) are compared with
// each other, then every watcher with the history.
type watchModel struct {
	streams      map[int]*modelStream
	historyRead  int
	compacted    int64
	current      int64
	eventsJudged int
	// cut is the last list that had more than its limit.
	cut page
}

type modelStream struct {
	watchers   map[int64]*modelWatcher
	halfClosed bool
}

func newWatchModel() *watchModel {
	return &watchModel{streams: map[int]*modelStream{}, compacted: -1, current: 1}
}

// plan says whether the operation makes sense now, and whether a watch request
// has an answer to wait for. Shrunk scripts lose streams and watchers, and a
// watcher that compaction has ended is left alone: etcd half keeps it.
func (m *watchModel) plan(operation Operation) (perform, expectReply bool) {
	if operation.Kind == WatchOpen {
		return m.streams[operation.Stream] == nil, false
	}
	stream := m.streams[operation.Stream]
	switch request := operation.Request.(type) {
	case *pb.WatchCreateRequest:
		if stream == nil || stream.halfClosed {
			return false, false
		}
		old := stream.watchers[request.WatchId]
		return request.WatchId != -1 && (old == nil || !old.compacted), true
	case *pb.WatchCancelRequest:
		if stream == nil || stream.halfClosed {
			return false, false
		}
		old := stream.watchers[request.WatchId]
		return old == nil || !old.compacted, old != nil
	case *pb.WatchProgressRequest:
		if stream == nil || stream.halfClosed {
			return false, false
		}
		return stream.progressExpected(m.current)
	}
	switch operation.Kind {
	case WatchEmpty, WatchHalfClose:
		return stream != nil && !stream.halfClosed, false
	case WatchClose:
		return stream != nil, false
	}
	return true, false
}

func (s *modelStream) progressExpected(current int64) (perform, expectReply bool) {
	expectReply = len(s.watchers) > 0
	for _, watcher := range s.watchers {
		if watcher.compacted || watcher.request.StartRevision == current+1 {
			// etcd does not answer while a watcher waits for the very next revision;
			// we may: it misses nothing.
			return false, false
		}
		if watcher.request.StartRevision > current {
			expectReply = false
		}
	}
	return true, expectReply
}

// note takes in what an operation has changed. The replies have been found equal.
func (m *watchModel) note(operation Operation, reply *pb.WatchResponse, targets [2]*Target) {
	stream := m.streams[operation.Stream]
	switch operation.Kind {
	case WatchOpen:
		m.streams[operation.Stream] = &modelStream{watchers: map[int64]*modelWatcher{}}
	case Restart:
		m.streams = map[int]*modelStream{}
	case WatchHalfClose:
		stream.halfClosed = true
	case WatchClose:
		delete(m.streams, operation.Stream)
	case WatchCancel:
		delete(stream.watchers, operation.Request.(*pb.WatchCancelRequest).WatchId)
	case WatchCreate:
		if reply == nil || reply.Canceled {
			return
		}
		m.create(operation, reply, targets)
	}
}

func (m *watchModel) create(operation Operation, reply *pb.WatchResponse, targets [2]*Target) {
	request := operation.Request.(*pb.WatchCreateRequest)
	watcher := &modelWatcher{
		stream: operation.Stream, watchID: reply.WatchId, request: request, start: request.StartRevision}
	if watcher.start == 0 {
		watcher.start = reply.GetHeader().GetRevision() + 1
	}
	watcher.compacted, watcher.compactedAt = watcher.start < m.compacted, m.compacted
	for i, target := range targets {
		stream := target.streams[operation.Stream]
		stream.mutex.Lock()
		watcher.logs[i] = stream.live[reply.WatchId]
		stream.mutex.Unlock()
		if watcher.logs[i] == nil && watcher.compacted {
			// Cancelled before we looked: what is left to see is in the stream's fault.
			watcher.logs[i] = &watcherLog{request: request, compactRevision: m.compacted}
		}
	}
	m.streams[operation.Stream].watchers[reply.WatchId] = watcher
}

// wants says whether an event is one of this watcher's.
func (w *modelWatcher) wants(one event) bool {
	if w.compacted || one.revision < w.start {
		return false
	}
	for _, filter := range w.request.Filters {
		if filter == pb.WatchCreateRequest_NOPUT && !one.deleted ||
			filter == pb.WatchCreateRequest_NODELETE && one.deleted {
			return false
		}
	}
	key, end := w.request.Key, w.request.RangeEnd
	if len(key) == 0 {
		key = []byte{0}
	}
	switch {
	case len(end) == 0:
		return string(key) == one.key
	case len(end) == 1 && end[0] == 0:
		return string(key) <= one.key
	}
	return string(key) <= one.key && bytes.Compare([]byte(one.key), end) < 0
}

// settle waits until every event that is due has come, and judges all of them.
// The answer is empty, or the first thing that is wrong.
func (m *watchModel) settle(targets [2]*Target) string {
	histories := [2]*watcherLog{}
	for i, target := range targets {
		if wrong := waitHistory(target, m.current); wrong != "" {
			return wrong
		}
		target.history.mutex.Lock()
		histories[i] = target.history.live[0]
		target.history.mutex.Unlock()
	}
	history, wrong := m.compareHistories(targets, histories)
	if wrong != "" {
		return wrong
	}
	for _, number := range sortedKeys(m.streams) {
		stream := m.streams[number]
		for _, id := range sortedKeys(stream.watchers) {
			if wrong := m.judge(stream.watchers[id], history, targets); wrong != "" {
				return wrong
			}
		}
		if wrong := m.judgeStream(number, targets); wrong != "" {
			return wrong
		}
	}
	return ""
}

func waitHistory(target *Target, current int64) string {
	arrived := target.history.await(settlePatience, func() bool {
		log := target.history.live[0]
		return target.history.fault != "" || log == nil || current == 1 ||
			len(log.events) > 0 && log.events[len(log.events)-1].revision >= current
	})
	target.history.mutex.Lock()
	defer target.history.mutex.Unlock()
	if target.history.fault != "" {
		return fmt.Sprintf("%s, watch over everything: %s", target.Name, target.history.fault)
	}
	if !arrived || target.history.live[0] == nil {
		return fmt.Sprintf("%s: the watch over everything lacks events up to revision %d", target.Name, current)
	}
	return ""
}

func (m *watchModel) compareHistories(targets [2]*Target, histories [2]*watcherLog) ([]event, string) {
	var events [2][]event
	for i, target := range targets {
		target.history.mutex.Lock()
		events[i] = histories[i].events
		target.history.mutex.Unlock()
	}
	wrong := difference(targets, events, m.historyRead)
	m.historyRead = len(events[0])
	if wrong != "" {
		return nil, "watch over everything: " + wrong
	}
	return events[0], ""
}

// difference compares two lists of events from a position on.
func difference(targets [2]*Target, events [2][]event, from int) string {
	for i := from; i < len(events[0]) || i < len(events[1]); i++ {
		if i >= len(events[0]) || i >= len(events[1]) || events[0][i] != events[1][i] {
			return fmt.Sprintf("event %d differs: %s has %s, %s has %s", i,
				targets[0].Name, describe(events[0], i), targets[1].Name, describe(events[1], i))
		}
	}
	return ""
}

func describe(events []event, position int) string {
	if position >= len(events) {
		return "none"
	}
	one := events[position]
	return fmt.Sprintf("{revision %d, deleted %v, key %.60q, body %.200q, previous %.200q}",
		one.revision, one.deleted, one.key, one.body, one.prior)
}

func (m *watchModel) judge(watcher *modelWatcher, history []event, targets [2]*Target) string {
	for ; watcher.cursor < len(history); watcher.cursor++ {
		if watcher.wants(history[watcher.cursor]) {
			watcher.expected = append(watcher.expected, history[watcher.cursor])
		}
	}
	name := fmt.Sprintf("stream %d watcher %d", watcher.stream, watcher.watchID)
	var events [2][]event
	for i, target := range targets {
		log := watcher.logs[i]
		if log == nil {
			return fmt.Sprintf("%s %s: no record after it was created", target.Name, name)
		}
		stream := target.streams[watcher.stream]
		arrived := stream.await(settlePatience, func() bool {
			if watcher.compacted {
				return log.compactRevision != 0
			}
			return stream.fault != "" || len(log.events) >= len(watcher.expected)
		})
		stream.mutex.Lock()
		events[i] = log.events
		compactRevision := log.compactRevision
		fault := stream.fault
		stream.mutex.Unlock()
		if fault != "" {
			return fmt.Sprintf("%s %s: %s", target.Name, name, fault)
		}
		if watcher.compacted && (!arrived || len(events[i]) != 0 || compactRevision != watcher.compactedAt) {
			return fmt.Sprintf("%s %s: starts at %d, below the compacted revision %d, and is not cancelled with it (%d)",
				target.Name, name, watcher.start, watcher.compactedAt, compactRevision)
		}
		if !watcher.compacted && compactRevision != 0 {
			return fmt.Sprintf("%s %s: cancelled by compaction at %d without need", target.Name, name, compactRevision)
		}
		for n := watcher.compared; n < len(watcher.expected) || n < len(events[i]); n++ {
			if n >= len(watcher.expected) || n >= len(events[i]) || !sameEvent(events[i][n], watcher.expected[n]) {
				return fmt.Sprintf("%s %s: event %d is %s, due is %s", target.Name, name, n,
					describe(events[i], n), describe(watcher.expected, n))
			}
		}
	}
	wrong := difference(targets, events, watcher.compared)
	if wrong != "" {
		return name + ": " + wrong
	}
	m.eventsJudged += len(watcher.expected) - watcher.compared
	watcher.compared = len(watcher.expected)
	return ""
}

// sameEvent leaves out the previous key-value, which the history does not hold.
func sameEvent(got, due event) bool {
	return got.revision == due.revision && got.deleted == due.deleted &&
		got.key == due.key && got.body == due.body
}

// judgeStream checks that no progress message ran ahead of events.
func (m *watchModel) judgeStream(number int, targets [2]*Target) string {
	for i, target := range targets {
		stream := target.streams[number]
		stream.mutex.Lock()
		fault := stream.fault
		marks := stream.progress
		stream.mutex.Unlock()
		if fault != "" {
			return fmt.Sprintf("%s stream %d: %s", target.Name, number, fault)
		}
		for _, mark := range marks {
			for _, watcher := range m.streams[number].watchers {
				received, known := mark.received[watcher.logs[i]]
				due := sort.Search(len(watcher.expected), func(n int) bool {
					return watcher.expected[n].revision > mark.revision
				})
				if known && received < due {
					return fmt.Sprintf("%s stream %d: progress to revision %d came before an event of watcher %d",
						target.Name, number, mark.revision, watcher.watchID)
				}
			}
		}
	}
	return ""
}

func sortedKeys[K int | int64, V any](from map[K]V) []K {
	keys := make([]K, 0, len(from))
	for key := range from {
		keys = append(keys, key)
	}
	sort.Slice(keys, func(i, j int) bool { return keys[i] < keys[j] })
	return keys
}
