package oracle

import (
	"context"
	"crypto/sha256"
	"fmt"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

const (
	// progressPatience is how long one progress request may stay unanswered before
	// it is repeated: etcd drops a request that finds a watcher catching up.
	progressPatience = 150 * time.Millisecond
	// progressAttempts bounds those repetitions.
	progressAttempts = 60
	// bodyMost is the length from which on an event is kept as its digest.
	bodyMost = 256
)

// event is one event as a watcher has received it.
type event struct {
	revision int64
	deleted  bool
	key      string
	// body is the encoded key-value, prior the encoded previous one.
	body, prior string
}

// watcherLog is what one watcher has received, from created to cancelled.
type watcherLog struct {
	request         *pb.WatchCreateRequest
	events          []event
	compactRevision int64
	// openFragments says that the last message was not the end of its revision.
	openFragments bool
}

// progressMark is one answer to a progress request, with what every watcher of
// the stream had received before it.
type progressMark struct {
	revision int64
	received map[*watcherLog]int
}

// watchStream is one bidirectional stream and the record of what came over it.
type watchStream struct {
	stream pb.Watch_WatchClient
	cancel context.CancelFunc
	// replies holds the created and cancelled messages that answer a request.
	replies chan *pb.WatchResponse

	mutex    sync.Mutex
	changed  chan struct{}
	live     map[int64]*watcherLog
	pending  []*pb.WatchCreateRequest
	progress []progressMark
	// progressDue counts the progress requests that may be answered.
	progressDue int
	fault       string
	ended       bool
}

func openWatchStream(ctx context.Context, client pb.WatchClient) (*watchStream, error) {
	ctx, cancel := context.WithCancel(ctx)
	stream, err := client.Watch(ctx, grpc.WaitForReady(true))
	if err != nil {
		cancel()
		return nil, err
	}
	opened := &watchStream{
		stream: stream, cancel: cancel, replies: make(chan *pb.WatchResponse, 4096),
		changed: make(chan struct{}), live: map[int64]*watcherLog{},
	}
	go opened.receive(ctx)
	return opened, nil
}

func (s *watchStream) receive(ctx context.Context) {
	for {
		message, err := s.stream.Recv()
		s.mutex.Lock()
		if err != nil {
			s.ended = true
			if ctx.Err() == nil {
				s.fail("the stream has ended: %v", err)
			}
		} else {
			s.record(message)
		}
		close(s.changed)
		s.changed = make(chan struct{})
		s.mutex.Unlock()
		if err != nil {
			return
		}
	}
}

// fail keeps the first broken promise.
func (s *watchStream) fail(format string, arguments ...any) {
	if s.fault == "" {
		s.fault = fmt.Sprintf(format, arguments...)
	}
}

// record files one message. The caller holds the mutex.
func (s *watchStream) record(message *pb.WatchResponse) {
	switch {
	case message.Created:
		s.recordCreated(message)
	case message.Canceled && message.CompactRevision != 0:
		if log := s.live[message.WatchId]; log == nil || len(message.Events) != 0 {
			s.fail("cancelled by compaction, but not a watcher or with events: %v", message)
		} else {
			log.compactRevision = message.CompactRevision
			delete(s.live, message.WatchId)
		}
	case message.Canceled:
		delete(s.live, message.WatchId)
		s.replies <- message
	case len(message.Events) == 0:
		s.recordProgress(message)
	default:
		s.recordEvents(message)
	}
}

func (s *watchStream) recordCreated(message *pb.WatchResponse) {
	if len(s.pending) == 0 {
		s.fail("created without a request: %v", message)
		return
	}
	request := s.pending[0]
	s.pending = s.pending[1:]
	if len(message.Events) != 0 {
		s.fail("a created message holds events")
	}
	if !message.Canceled {
		s.live[message.WatchId] = &watcherLog{request: request}
	}
	s.replies <- message
}

func (s *watchStream) recordProgress(message *pb.WatchResponse) {
	if message.WatchId != -1 {
		s.fail("a progress message that nobody asked for: %v", message)
		return
	}
	mark := progressMark{revision: message.GetHeader().GetRevision(), received: map[*watcherLog]int{}}
	for _, log := range s.live {
		mark.received[log] = len(log.events)
	}
	s.progress = append(s.progress, mark)
	if len(s.progress) > s.progressDue {
		s.fail("a progress message at revision %d that could not be given", mark.revision)
	}
}

func (s *watchStream) recordEvents(message *pb.WatchResponse) {
	log := s.live[message.WatchId]
	if log == nil {
		s.fail("events for %d, which is no watcher", message.WatchId)
		return
	}
	if message.Fragment && !log.request.Fragment {
		s.fail("watcher %d did not ask for fragments", message.WatchId)
	}
	previous := int64(0)
	if count := len(log.events); count > 0 {
		previous = log.events[count-1].revision
		if !log.openFragments {
			// The revision before is complete; this message has to begin with a later one.
			previous++
		}
	}
	for _, one := range message.Events {
		if one.Kv.ModRevision < previous {
			s.fail("watcher %d: revision %d comes after %d", message.WatchId, one.Kv.ModRevision, previous)
		}
		previous = one.Kv.ModRevision
		log.events = append(log.events, recordedEvent(one, log.request.PrevKv))
	}
	if revision := message.GetHeader().GetRevision(); revision < previous {
		s.fail("watcher %d: header revision %d is below its events (%d)", message.WatchId, revision, previous)
	}
	log.openFragments = message.Fragment
}

// recordedEvent leaves out a previous key-value that was not asked for: etcd
// shares events between watchers, so one that did not ask may get it as well.
func recordedEvent(one *mvccpb.Event, withPrevious bool) event {
	recorded := event{
		revision: one.Kv.ModRevision, deleted: one.Type == mvccpb.Event_DELETE,
		key: string(one.Kv.Key), body: encoded(one.Kv),
	}
	if withPrevious && one.PrevKv != nil {
		recorded.prior = "+" + encoded(one.PrevKv)
	}
	return recorded
}

func encoded(message proto.Message) string {
	bytes, err := proto.MarshalOptions{Deterministic: true}.Marshal(message)
	if err != nil {
		return err.Error()
	}
	if len(bytes) > bodyMost {
		return fmt.Sprintf("%d bytes, %x", len(bytes), sha256.Sum256(bytes))
	}
	return string(bytes)
}

// create sends a request and waits for the message that answers it.
func (s *watchStream) create(request *pb.WatchCreateRequest) Outcome {
	s.mutex.Lock()
	s.pending = append(s.pending, request)
	s.mutex.Unlock()
	return s.ask(&pb.WatchRequest{
		RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: request}}, true)
}

// ask sends a request and waits for its answer, if it has one.
func (s *watchStream) ask(request *pb.WatchRequest, expectReply bool) Outcome {
	if err := s.stream.Send(request); err != nil {
		return Outcome{Fault: "the stream takes no request: " + err.Error()}
	}
	if !expectReply {
		return Outcome{}
	}
	select {
	case reply := <-s.replies:
		return Outcome{Reply: reply}
	case <-time.After(operationTimeout):
		return Outcome{Fault: "a watch request was not answered"}
	}
}

// askProgress repeats the request until it is answered, when it has to be.
func (s *watchStream) askProgress(expectReply bool) Outcome {
	request := &pb.WatchRequest{
		RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}}
	if !expectReply {
		return s.ask(request, false)
	}
	s.mutex.Lock()
	before := len(s.progress)
	s.mutex.Unlock()
	for range progressAttempts {
		s.mutex.Lock()
		s.progressDue++
		s.mutex.Unlock()
		if outcome := s.ask(request, false); outcome.Fault != "" {
			return outcome
		}
		if s.await(progressPatience, func() bool { return len(s.progress) > before }) {
			s.mutex.Lock()
			defer s.mutex.Unlock()
			revision := s.progress[len(s.progress)-1].revision
			return Outcome{Reply: &pb.WatchResponse{
				WatchId: -1, Header: &pb.ResponseHeader{Revision: revision}}}
		}
	}
	return Outcome{Fault: "progress requests were not answered"}
}

// await waits until the condition holds; it is evaluated under the mutex.
func (s *watchStream) await(patience time.Duration, condition func() bool) bool {
	deadline := time.After(patience)
	for {
		s.mutex.Lock()
		holds, changed := condition(), s.changed
		s.mutex.Unlock()
		if holds {
			return true
		}
		select {
		case <-changed:
		case <-deadline:
			return false
		}
	}
}

// watchOperation performs the Watch kinds.
func (t *Target) watchOperation(operation Operation, expectReply bool) Outcome {
	if operation.Kind == WatchOpen {
		stream, err := openWatchStream(t.ctx, t.watch)
		if err != nil {
			return failure(err)
		}
		t.streams[operation.Stream] = stream
		return Outcome{}
	}
	stream := t.streams[operation.Stream]
	if stream == nil {
		return Outcome{Fault: fmt.Sprintf("no stream %d", operation.Stream)}
	}
	switch request := operation.Request.(type) {
	case *pb.WatchCreateRequest:
		return stream.create(request)
	case *pb.WatchCancelRequest:
		return stream.ask(&pb.WatchRequest{
			RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: request}}, expectReply)
	case *pb.WatchProgressRequest:
		return stream.askProgress(expectReply)
	}
	switch operation.Kind {
	case WatchEmpty:
		return stream.ask(&pb.WatchRequest{}, false)
	case WatchHalfClose:
		if err := stream.stream.CloseSend(); err != nil {
			return Outcome{Fault: err.Error()}
		}
	case WatchClose:
		stream.cancel()
		delete(t.streams, operation.Stream)
	}
	return Outcome{}
}
