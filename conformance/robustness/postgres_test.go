package robustness_test

import (
	"context"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/rowlock-io/rowlock/conformance/harness"
	"github.com/rowlock-io/rowlock/conformance/load"
)

// onPostgres runs f on a fresh cluster on Postgres, with one server, unless that target was not asked for.
func onPostgres(t *testing.T, f func(*testing.T, *harness.Cluster, *harness.Server)) {
	t.Helper()
	harness.Only(t, func(t *testing.T, target harness.Target) {
		cluster := target.NewCluster(t)
		server := cluster.StartServer(t)
		harness.NewNamespace(t, server.Client(t), namespace)
		f(t, cluster, server)
	}, harness.OnPostgres)
}

// TestPostgresRestart stops and crashes Postgres under load. The server stays, answers that it cannot write, and goes on
// by itself when Postgres is back.
func TestPostgresRestart(t *testing.T) {
	t.Parallel()
	onPostgres(t, func(t *testing.T, cluster *harness.Cluster, server *harness.Server) {
		writes := load.Start(t, server.Client(t), load.Options{Namespace: namespace})
		writes.AwaitMore(t, 200)
		for _, end := range []func(testing.TB){cluster.Postgres.Stop, cluster.Postgres.Crash} {
			end(t)
			expectUnavailable(t, server.Client(t))
			cluster.Postgres.Start(t)
			server.AwaitReady(t)
			writes.AwaitMore(t, 200)
		}
		writes.Stop()
		writes.Verify(t)
	})
}

// TestDroppedConnections ends the server's connections to Postgres under load, again and again, wherever they are. Each
// commit whose answer is lost must be found out about.
func TestDroppedConnections(t *testing.T) {
	t.Parallel()
	onPostgres(t, func(t *testing.T, cluster *harness.Cluster, server *harness.Server) {
		writes := load.Start(t, server.Client(t), load.Options{Namespace: namespace})
		var dropped int64
		for range 30 {
			writes.AwaitMore(t, 20)
			dropped += dropConnections(t, cluster)
		}
		writes.AwaitMore(t, 100)
		writes.Stop()
		writes.Verify(t)
		if dropped == 0 {
			t.Error("the server had no connections to drop")
		}
	})
}

// TestReadOnlyDatabase makes the database read-only for a while, as a failover can: writes are refused and nothing of
// them is seen; reads of what the server holds go on.
func TestReadOnlyDatabase(t *testing.T) {
	t.Parallel()
	onPostgres(t, func(t *testing.T, cluster *harness.Cluster, server *harness.Server) {
		client := server.Client(t)
		writes := load.Start(t, client, load.Options{Namespace: namespace})
		writes.AwaitMore(t, 100)
		cluster.Postgres.Exec(t, "postgres", "ALTER DATABASE "+harness.Database+" SET default_transaction_read_only = on")
		dropConnections(t, cluster)
		expectUnavailable(t, client)
		// A read that must be current needs a server that takes writes, since another one may lag; others do not.
		if _, err := client.CoreV1().ConfigMaps(namespace).List(t.Context(), metav1.ListOptions{ResourceVersion: "0"}); err != nil {
			t.Errorf("list of what is at hand, without a database: %v", err)
		}
		cluster.Postgres.Exec(t, "postgres", "ALTER DATABASE "+harness.Database+" RESET default_transaction_read_only")
		dropConnections(t, cluster)
		writes.AwaitMore(t, 100)
		writes.Stop()
		writes.Verify(t)
	})
}

// dropConnections ends all connections to the cluster's database.
func dropConnections(t *testing.T, cluster *harness.Cluster) int64 {
	t.Helper()
	return cluster.Postgres.Exec(t, "postgres",
		"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", harness.Database)
}

// expectUnavailable writes until the server says that it cannot, within the time that a client gives a request.
func expectUnavailable(t *testing.T, client kubernetes.Interface) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for {
		ns := client.CoreV1().RESTClient().Patch("application/merge-patch+json").Name(namespace).Resource("namespaces").
			Body([]byte(`{"metadata":{"annotations":{"tried":"` + time.Now().Format(time.RFC3339Nano) + `"}}}`))
		err := ns.MaxRetries(0).Do(ctx).Error()
		switch {
		case apierrors.IsServiceUnavailable(err), apierrors.IsTooManyRequests(err), apierrors.IsServerTimeout(err),
			apierrors.IsTimeout(err):
			return
		case err != nil:
			t.Fatalf("a write without a database to write to gave %v, expected ServiceUnavailable", err)
		}
	}
}
