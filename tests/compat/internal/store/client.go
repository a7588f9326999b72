package store

import (
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// receiveLimit lets replies of any size in.
const receiveLimit = 1 << 30

// Client is a connection with etcd's stubs, without anything that retries.
type Client struct {
	KV          pb.KVClient
	Lease       pb.LeaseClient
	Watch       pb.WatchClient
	Maintenance pb.MaintenanceClient
	Cluster     pb.ClusterClient
}

// MustDial connects to the process and closes the connection at the end of the test.
func (p *Process) MustDial(t testing.TB) *Client {
	t.Helper()
	connection, err := grpc.NewClient("passthrough:///"+p.Endpoint(),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true), grpc.MaxCallRecvMsgSize(receiveLimit)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	return &Client{
		KV: pb.NewKVClient(connection), Lease: pb.NewLeaseClient(connection), Watch: pb.NewWatchClient(connection),
		Maintenance: pb.NewMaintenanceClient(connection), Cluster: pb.NewClusterClient(connection),
	}
}
