package oracle

import (
	"slices"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// normalized is a copy of a reply in which everything that two correct servers
// may answer differently is replaced by whether it is there at all.
func (t *Target) normalized(reply proto.Message) proto.Message {
	if reply == nil {
		return nil
	}
	copied := proto.Clone(reply)
	normalizeHeaders(copied.ProtoReflect())
	switch message := copied.(type) {
	case *pb.StatusResponse:
		t.normalizeStatus(message)
	case *pb.AlarmResponse:
		for _, alarm := range message.Alarms {
			alarm.MemberID = t.placeholder(alarm.MemberID)
		}
		slices.SortFunc(message.Alarms, func(a, b *pb.AlarmMember) int {
			return int(a.Alarm)*2 + int(a.MemberID) - int(b.Alarm)*2 - int(b.MemberID)
		})
	case *pb.LeaseTimeToLiveResponse:
		slices.SortFunc(message.Keys, slices.Compare)
	case *pb.LeaseLeasesResponse:
		// They come by the time that is left, which two clocks do not tell apart.
		slices.SortFunc(message.Leases, func(a, b *pb.LeaseStatus) int {
			return strings.Compare(a.String(), b.String())
		})
	case *pb.MemberListResponse:
		for _, member := range message.Members {
			member.ID = t.placeholder(member.ID)
			member.PeerURLs, member.ClientURLs = presence(member.PeerURLs), presence(member.ClientURLs)
		}
	}
	return copied
}

// placeholder is 1 for the server's own member id.
func (t *Target) placeholder(memberID uint64) uint64 {
	if memberID == t.memberID {
		return 1
	}
	return memberID
}

func presence(list []string) []string {
	return slices.Repeat([]string{"url"}, len(list))
}

func (t *Target) normalizeStatus(message *pb.StatusResponse) {
	message.DbSize = min(message.DbSize, 1)
	message.DbSizeInUse = min(message.DbSizeInUse, 1)
	message.Leader = t.placeholder(message.Leader)
	message.RaftIndex = min(message.RaftIndex, 1)
	message.RaftAppliedIndex = min(message.RaftAppliedIndex, 1)
	if strings.HasPrefix(message.Version, "3.7.") {
		message.Version = "3.7"
	}
	for i, text := range message.Errors {
		// The text of an alarm names the member and is made to be read by people.
		if _, alarm, found := strings.Cut(text, "alarm:"); found {
			message.Errors[i] = "alarm:" + strings.TrimSpace(alarm)
		}
	}
	slices.Sort(message.Errors)
}

// normalizeHeaders keeps the revision and the term of every header, and of the ids
// only that they are set.
func normalizeHeaders(message protoreflect.Message) {
	if header, ok := message.Interface().(*pb.ResponseHeader); ok {
		header.ClusterId = min(header.ClusterId, 1)
		header.MemberId = min(header.MemberId, 1)
		return
	}
	message.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case field.Message() == nil:
		case field.IsList():
			for i := range value.List().Len() {
				normalizeHeaders(value.List().Get(i).Message())
			}
		default:
			normalizeHeaders(value.Message())
		}
		return true
	})
}

// normalizedText leaves the wording of the transport's own refusals open. They
// are no part of etcd's interface; their codes are.
func normalizedText(code codes.Code, text string) string {
	if code == codes.ResourceExhausted && !strings.HasPrefix(text, "etcdserver:") {
		return "a refusal of the transport"
	}
	return text
}
