package badinput

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"sternpost.dev/compat/internal/store"
)

// field is one field of bytes.
func field(number protowire.Number, content []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), content)
}

// nested is an encoded transaction of this many levels, each the only operation of the one
// around it, with `innermost` in the last.
func nested(levels int, innermost []byte) []byte {
	for range levels - 1 {
		innermost = field(2, field(4, innermost))
	}
	return innermost
}

// told is what a client sees of a call.
func told(t *testing.T, process *store.Process, method string, message []byte) string {
	t.Helper()
	err := invoke(t, process, method, message, 30*time.Second)
	// Go's protobuf library puts one of two spaces behind "proto:", so that nobody compares it.
	return strings.ReplaceAll(fmt.Sprint(err), "\u00a0", " ")
}

// TestNestedTransactions sends transactions within transactions, up to what etcd takes and
// beyond, sound and broken at the bottom, and compares code and text. The default budget of
// 128 operations lets 129 levels through when the last is empty.
func TestNestedTransactions(t *testing.T) {
	put := field(2, field(2, append(field(1, []byte("k")), field(2, []byte("v"))...)))
	empty := []byte(nil)
	noKey := field(2, field(2, field(2, []byte("v"))))
	broken := []byte{0x12, 0x7f}
	processes := both(t)
	for name, innermost := range map[string][]byte{
		"empty": empty, "put": put, "without key": noKey, "broken": broken,
	} {
		for _, levels := range []int{2, 49, 50, 51, 52, 100, 101, 127, 128, 129, 130, 131, 192, 193, 1000, 4999, 5000, 5001, 10_000, 20_000} {
			message := nested(levels, innermost)
			etcd := told(t, processes["etcd"], "/etcdserverpb.KV/Txn", message)
			found := told(t, processes["store"], "/etcdserverpb.KV/Txn", message)
			if etcd != found {
				t.Errorf("%d levels, the last %s: etcd answers %.200s\nthe store %.200s", levels, name, etcd, found)
			}
			t.Logf("%d levels, the last %s: %.160s", levels, name, etcd)
		}
	}
}
