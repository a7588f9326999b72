package http

import (
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"sternpost.dev/compat/internal/store"
)

// family is what one metric of a page is, by its series.
type family struct {
	kind, help string
	series     map[string]string
}

// memberFacts are label values that differ between any two members.
var memberFacts = regexp.MustCompile(`(server_id|server_version|cluster_version|go_version|Local|Remote)="[^"]*"`)

// metricsOf reads a page.
func metricsOf(t *testing.T, base string) map[string]family {
	t.Helper()
	response, err := clients()["HTTP/1.1"].Get(base + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	page, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	found, current := map[string]family{}, ""
	for line := range strings.SplitSeq(strings.TrimSpace(string(page)), "\n") {
		fields := strings.SplitN(line, " ", 4)
		switch {
		case strings.HasPrefix(line, "# HELP ") && len(fields) == 4:
			current = fields[2]
			found[current] = family{help: fields[3], series: map[string]string{}}
		case strings.HasPrefix(line, "# TYPE ") && len(fields) == 4:
			one := found[current]
			one.kind = fields[3]
			found[current] = one
		default:
			at := strings.LastIndexByte(line, ' ')
			found[current].series[memberFacts.ReplaceAllString(line[:at], `$1="..."`)] = line[at+1:]
		}
	}
	return found
}

// leftOut reads which families the documentation leaves out: names, and beginnings of names.
func leftOut(t *testing.T) []string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "compatibility-metrics.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "| Family | Why |")
	table, _, _ = strings.Cut(table, "\n\n")
	var patterns []string
	for line := range strings.SplitSeq(table, "\n") {
		if cells := strings.Split(line, "|"); len(cells) == 4 && strings.Contains(cells[1], "`") {
			if strings.TrimSpace(cells[2]) == "" {
				t.Errorf("%s is left out without a reason", cells[1])
			}
			for name := range strings.SplitSeq(cells[1], ",") {
				patterns = append(patterns, strings.Trim(name, " `"))
			}
		}
	}
	if len(patterns) == 0 {
		t.Fatal("the documentation has no table of what is left out")
	}
	return patterns
}

func matches(pattern, name string) bool {
	if beginning, any := strings.CutSuffix(pattern, "*"); any {
		return strings.HasPrefix(name, beginning)
	}
	return pattern == name
}

// load is a little of everything that is counted: the same for both.
func load(t *testing.T, process *store.Process) {
	t.Helper()
	client, ctx := process.MustDial(t), t.Context()
	key := func(n int) []byte { return fmt.Appendf(nil, "key/%02d", n) }
	want := func(err error, code codes.Code) {
		t.Helper()
		if status.Code(err) != code {
			t.Fatalf("%v instead of %v", err, code)
		}
	}
	stream, err := client.Watch.Watch(ctx)
	want(err, codes.OK)
	for range 2 {
		want(stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{
			CreateRequest: &pb.WatchCreateRequest{Key: []byte("key/"), RangeEnd: []byte("key0")}}}), codes.OK)
		_, err = stream.Recv()
		want(err, codes.OK)
	}
	grant, err := client.Lease.LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: 600})
	want(err, codes.OK)
	for n := range 10 {
		_, err = client.KV.Put(ctx, &pb.PutRequest{Key: key(n), Value: []byte("value"), Lease: grant.ID})
		want(err, codes.OK)
		for range 2 {
			_, err = stream.Recv()
			want(err, codes.OK)
		}
	}
	_, err = client.KV.Put(ctx, &pb.PutRequest{})
	want(err, codes.InvalidArgument)
	_, err = client.KV.Range(ctx, &pb.RangeRequest{Key: key(0), RangeEnd: []byte("key0")})
	want(err, codes.OK)
	_, err = client.KV.Range(ctx, &pb.RangeRequest{Key: key(0), Revision: 1000})
	want(err, codes.OutOfRange)
	list, err := client.KV.RangeStream(ctx, &pb.RangeRequest{Key: key(0), RangeEnd: key(3)})
	want(err, codes.OK)
	for err == nil {
		_, err = list.Recv()
	}
	_, err = client.KV.DeleteRange(ctx, &pb.DeleteRangeRequest{Key: key(0), RangeEnd: key(3)})
	want(err, codes.OK)
	for range 2 {
		_, err = stream.Recv()
		want(err, codes.OK)
	}
	put := func(n int) *pb.RequestOp {
		return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: key(n), Value: []byte("other")}}}
	}
	read := &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: key(4)}}}
	for _, operations := range [][]*pb.RequestOp{{put(20), put(21), read}, {read, read}, {}} {
		_, err = client.KV.Txn(ctx, &pb.TxnRequest{Success: operations})
		want(err, codes.OK)
	}
	for range 2 {
		_, err = stream.Recv()
		want(err, codes.OK)
	}
	alive, err := client.Lease.LeaseKeepAlive(ctx)
	want(err, codes.OK)
	want(alive.Send(&pb.LeaseKeepAliveRequest{ID: grant.ID}), codes.OK)
	_, err = alive.Recv()
	want(err, codes.OK)
	want(alive.CloseSend(), codes.OK)
	_, err = alive.Recv()
	if err == nil {
		t.Fatal("the stream of keep-alives goes on")
	}
	other, err := client.Lease.LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: 60})
	want(err, codes.OK)
	_, err = client.Lease.LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: other.ID})
	want(err, codes.OK)
	_, err = client.Lease.LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: other.ID})
	want(err, codes.NotFound)
	_, err = client.KV.Compact(ctx, &pb.CompactionRequest{Revision: 8, Physical: true})
	want(err, codes.OK)
	_, err = client.KV.Compact(ctx, &pb.CompactionRequest{Revision: 8})
	want(err, codes.OutOfRange)
	_, err = client.Maintenance.HashKV(ctx, &pb.HashKVRequest{})
	want(err, codes.OK)
	_, err = client.Maintenance.Hash(ctx, &pb.HashRequest{})
	want(err, codes.OK)
	_, err = client.Maintenance.Status(ctx, &pb.StatusRequest{})
	want(err, codes.OK)
	_, err = client.Maintenance.Alarm(ctx, &pb.AlarmRequest{})
	want(err, codes.OK)
	_, err = client.Cluster.MemberList(ctx, &pb.MemberListRequest{})
	want(err, codes.OK)
}

// notCompared are values that hang on time or on what lies on the disk, and those of which
// docs/compatibility-metrics.md says that they mean something else here.
var notCompared = regexp.MustCompile(`_(seconds|milliseconds)(_bucket|_sum)|^process_|^os_|_in_bytes$|_bytes_total$|` +
	`compaction_pause_duration_milliseconds_count|db_compaction_last|db_open_read_transactions|_(proposals|wal|backend)_|` +
	`etcd_server_feature_enabled|etcd_debugging_server_watch_send_loop_|grpc_server_msg_`)

// notHere are series that etcd has of what it writes into its log for itself, or lets pass
// through it, and Sternpost does not (docs/compatibility-metrics.md).
var notHere = regexp.MustCompile(`(op|type)="Cluster(MemberAttr|Version)Set"|apply_duration.*op="Alarm"`)

// TestMetrics puts the same load on both and compares the pages in both directions: names,
// help, types, labels and buckets, and the values of what is counted.
func TestMetrics(t *testing.T) {
	pages := map[string]map[string]family{}
	for name, binary := range map[string]string{"etcd": store.Tool("etcd"), "store": store.UnderTest()} {
		process := store.MustStart(t, binary, "--metrics=extensive")
		// What the start and its probes were counted as does not count.
		before := metricsOf(t, process.URL())
		load(t, process)
		// Counters of a call may follow its answer.
		time.Sleep(500 * time.Millisecond)
		pages[name] = since(before, metricsOf(t, process.URL()))
	}
	etcd, ours := pages["etcd"], pages["store"]
	patterns := leftOut(t)
	for _, pattern := range patterns {
		of := func(page map[string]family) bool {
			for name := range page {
				if matches(pattern, name) {
					return true
				}
			}
			return false
		}
		if !of(etcd) {
			t.Errorf("%s is left out, but etcd has none", pattern)
		}
		if !store.IsEtcd() && of(ours) {
			t.Errorf("%s is said to be left out, but it is there", pattern)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(ours)) {
		if _, there := etcd[name]; !there {
			t.Errorf("etcd has no %s", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(etcd)) {
		isLeftOut := slices.ContainsFunc(patterns, func(pattern string) bool { return matches(pattern, name) })
		if _, there := ours[name]; !there && !isLeftOut {
			t.Errorf("%s is neither there nor left out with a reason", name)
		} else if there {
			compareFamilies(t, name, etcd[name], ours[name])
		}
	}
}

// since takes from what only grows what it was.
func since(before, after map[string]family) map[string]family {
	for name, one := range after {
		for series, value := range one.series {
			var was, is float64
			if _, err := fmt.Sscan(before[name].series[series], &was); err != nil || one.kind == "gauge" {
				continue
			}
			if _, err := fmt.Sscan(value, &is); err == nil {
				one.series[series] = fmt.Sprint(is - was)
			}
		}
	}
	return after
}

func compareFamilies(t *testing.T, name string, etcd, ours family) {
	t.Helper()
	if etcd.kind != ours.kind || etcd.help != ours.help {
		t.Errorf("%s: etcd says %s %q, the store %s %q", name, etcd.kind, etcd.help, ours.kind, ours.help)
	}
	for _, series := range slices.Sorted(maps.Keys(etcd.series)) {
		value, there := ours.series[series]
		if !there && notHere.MatchString(series) {
			continue
		} else if !there {
			t.Errorf("%s is missing", series)
		} else if due := etcd.series[series]; value != due && !notCompared.MatchString(series) {
			t.Errorf("%s is %s at etcd and %s at the store", series, due, value)
		}
	}
	for _, series := range slices.Sorted(maps.Keys(ours.series)) {
		if _, there := etcd.series[series]; !there {
			t.Errorf("etcd has no %s", series)
		}
	}
}
