package badinput

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"golang.org/x/net/http2"
	"google.golang.org/protobuf/proto"
	"sternpost.dev/compat/internal/store"
)

// receiveLimit is what a message may have before the request in it is looked at.
const receiveLimit = requestLimit + 512<<10

// rawCall is one gRPC request, byte by byte.
type rawCall struct {
	name, path string
	body       []byte
	headers    map[string]string
}

// TestFrames sends messages that break off, come twice, are too long or compressed,
// and compares status, text and the answer's encoding with etcd's.
func TestFrames(t *testing.T) {
	processes := both(t)
	calls := append(encodedCalls(t), brokenCalls()...)
	for _, one := range calls {
		found := map[string]string{}
		for name, process := range processes {
			found[name] = answer(t, process, one)
		}
		if found["etcd"] != found["store"] {
			t.Errorf("%s to %s: etcd answers %s\nthe store %s", one.name, one.path, found["etcd"], found["store"])
		}
	}
	t.Logf("%d calls compared", len(calls))
}

func frame(flag byte, message []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{flag}, uint32(len(message))), message...)
}

func compressed(t *testing.T, message []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	writer := gzip.NewWriter(&out)
	if _, err := writer.Write(message); err != nil {
		t.Fatal(err)
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// putOf is an encoded put of this length.
func putOf(t *testing.T, length int) []byte {
	t.Helper()
	message, err := proto.Marshal(&pb.PutRequest{Key: []byte("k"), Value: make([]byte, length-7)})
	if err != nil || len(message) != length {
		t.Fatal(len(message), err)
	}
	return message
}

func encodedCalls(t *testing.T) []rawCall {
	const path = "/etcdserverpb.KV/Range"
	request := []byte{0x0a, 0x01, 'k'}
	good := compressed(t, request)
	flipped := bytes.Clone(good)
	flipped[len(flipped)-6] ^= 1
	zip := map[string]string{"grpc-encoding": "gzip"}
	accepted := map[string]string{"grpc-encoding": "gzip", "grpc-accept-encoding": "identity, gzip"}
	calls := []rawCall{
		{"gzip", path, frame(1, good), zip},
		{"gzip, accepted", path, frame(1, good), accepted},
		{"gzip named, message plain", path, frame(0, request), accepted},
		{"plain, gzip accepted", path, frame(0, request), map[string]string{"grpc-accept-encoding": "gzip"}},
		{"identity named, message flagged", path, frame(1, good), map[string]string{"grpc-encoding": "identity"}},
		{"nothing named, message flagged", path, frame(1, good), nil},
		{"snappy", path, frame(1, good), map[string]string{"grpc-encoding": "snappy"}},
		{"GZIP", path, frame(1, good), map[string]string{"grpc-encoding": "GZIP"}},
		{"no gzip, short", path, frame(1, []byte{1, 2, 3, 4}), zip},
		{"no gzip", path, frame(1, []byte("0123456789abcdef")), zip},
		{"cut gzip", path, frame(1, good[:len(good)-6]), zip},
		{"flipped gzip", path, frame(1, flipped), zip},
		{"garbage behind gzip", path, frame(1, append(bytes.Clone(good), 1, 2, 3)), zip},
		{"gzip in two parts", path, frame(1, append(compressed(t, request[:1]), compressed(t, request[1:])...)), zip},
		{"nothing as gzip", path, frame(1, nil), zip},
		{"zip bomb", path, frame(1, compressed(t, make([]byte, 64<<20))), zip},
		{"stream", "/etcdserverpb.KV/RangeStream", frame(1, good), accepted},
		{"keep-alive", "/etcdserverpb.Lease/LeaseKeepAlive", frame(1, compressed(t, []byte{8, 77})), accepted},
	}
	for _, difference := range []int{-1, 0, 1} {
		message := putOf(t, receiveLimit+difference)
		name := fmt.Sprintf("limit%+d", difference)
		calls = append(calls, rawCall{name, "/etcdserverpb.KV/Put", frame(0, message), nil},
			rawCall{name + " inflated", "/etcdserverpb.KV/Put", frame(1, compressed(t, message)), zip})
	}
	return calls
}

func brokenCalls() []rawCall {
	request := []byte{0x0a, 0x01, 'k'}
	one := frame(0, request)
	var calls []rawCall
	for _, path := range []string{"/etcdserverpb.KV/Range", "/etcdserverpb.KV/RangeStream", "/etcdserverpb.Watch/Watch",
		"/etcdserverpb.Lease/LeaseKeepAlive", "/grpc.health.v1.Health/Check"} {
		calls = append(calls,
			rawCall{"3 bytes of 5", path, one[:3], nil}, rawCall{"no message behind 5 bytes", path, one[:5], nil},
			rawCall{"half a message", path, one[:7], nil}, rawCall{"too long", path, []byte{0, 0x70, 0, 0, 0, 1}, nil},
			rawCall{"flag 2", path, frame(2, request), nil}, rawCall{"garbage", path, frame(0, []byte{0xff, 0xff}), nil})
	}
	for _, path := range []string{"/etcdserverpb.KV/Range", "/etcdserverpb.KV/RangeStream"} {
		calls = append(calls, rawCall{"two messages", path, append(bytes.Clone(one), one...), nil},
			rawCall{"one and a part", path, append(bytes.Clone(one), 0, 0), nil})
	}
	return calls
}

// answer is what a server says to one call, but for what differs by right: ids in
// messages, and the words of the protobuf library.
func answer(t *testing.T, process *store.Process, one rawCall) string {
	t.Helper()
	transport := &http2.Transport{AllowHTTP: true, DisableCompression: true,
		DialTLSContext: func(ctx context.Context, network, _ string, _ *tls.Config) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, process.Endpoint())
		}}
	defer transport.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+process.Endpoint()+one.path, bytes.NewReader(one.body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("content-type", "application/grpc")
	request.Header.Set("te", "trailers")
	for name, value := range one.headers {
		request.Header.Set(name, value)
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return "silence"
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return "silence"
	}
	status := response.Trailer
	if response.Header.Get("grpc-status") != "" {
		status = response.Header
	}
	text, _, _ := strings.Cut(status.Get("grpc-message"), "proto:")
	text, _, _ = strings.Cut(text, "failed to decode Protobuf")
	flag := "none"
	if len(body) > 0 {
		flag = fmt.Sprint(body[0])
	}
	return fmt.Sprintf("%d, status %s %q, encoding %q, flag %s", response.StatusCode, status.Get("grpc-status"),
		text, response.Header.Get("grpc-encoding"), flag)
}
