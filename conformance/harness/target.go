package harness

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// Target is a kind of API server to judge.
type Target string

// The targets.
const (
	SQLite        Target = "sqlite"         // rowlock up
	OnPostgres    Target = "postgres"       // rowlock server, any number of them on one database
	KubeAPIServer Target = "kube-apiserver" // upstream's, with etcd: what the tests themselves are judged by

	// Upstream's with kine in etcd's place, to compare with.
	KineSQLite   Target = "kine-sqlite"
	KinePostgres Target = "kine-postgres"
)

// Targets returns what ROWLOCK_TEST_TARGET names.
func Targets(t testing.TB) []Target {
	t.Helper()
	names := os.Getenv("ROWLOCK_TEST_TARGET")
	if names == "" {
		return []Target{SQLite, OnPostgres}
	}
	var targets []Target
	for name := range strings.SplitSeq(names, ",") {
		switch target := Target(strings.TrimSpace(name)); target {
		case SQLite, OnPostgres, KubeAPIServer:
			targets = append(targets, target)
		default:
			t.Fatalf("ROWLOCK_TEST_TARGET names %q; the targets are %s, %s, %s", name, SQLite, OnPostgres, KubeAPIServer)
		}
	}
	return targets
}

// Each runs f as a subtest for each target.
func Each(t *testing.T, f func(t *testing.T, target Target)) {
	t.Helper()
	for _, target := range Targets(t) {
		t.Run(string(target), func(t *testing.T) { f(t, target) })
	}
}

// Only runs f as a subtest for each target that is both chosen and among those named: for what the others have not got.
func Only(t *testing.T, f func(t *testing.T, target Target), targets ...Target) {
	t.Helper()
	var ran bool
	for _, target := range Targets(t) {
		if slices.Contains(targets, target) {
			ran = true
			t.Run(string(target), func(t *testing.T) { f(t, target) })
		}
	}
	if !ran {
		t.Skipf("this is about %v, and ROWLOCK_TEST_TARGET names others", targets)
	}
}

// IsRowlock tells whether the target is ours: where Rowlock promises more than Kubernetes does, or names files and flags
// of its own.
func (target Target) IsRowlock() bool { return target == SQLite || target == OnPostgres }

// Cluster is the data of one Kubernetes cluster, and the way to start servers on them.
type Cluster struct {
	Target   Target
	Dir      string    // holds the files of the servers; with SQLite, the database too
	Postgres *Postgres // nil for targets without one

	// Within is what the commands of Rowlock's servers begin with, to run in a network that is not this machine's. There they
	// listen on all addresses; whoever asks for it brings 127.0.0.1 there.
	Within []string

	newServer func(t testing.TB, flags []string) *Server
	beside    []int // processes of etcd and of the stock components
}

// NewCluster makes an empty cluster that goes with the test.
func (target Target) NewCluster(t testing.TB) *Cluster {
	t.Helper()
	c := &Cluster{Target: target, Dir: t.TempDir()}
	switch target {
	case SQLite:
		c.onSQLite(t)
	case OnPostgres:
		c.onPostgres(t)
	case KubeAPIServer:
		c.onEtcd(t)
	case KineSQLite, KinePostgres:
		c.onKine(t)
	}
	return c
}

// NewServer describes one more server on the cluster's data, with further flags; it is not started.
func (c *Cluster) NewServer(t testing.TB, flags ...string) *Server {
	t.Helper()
	return c.newServer(t, flags)
}

// StartServer starts one more server on the cluster's data, with further flags, and waits until it is ready.
func (c *Cluster) StartServer(t testing.TB, flags ...string) *Server {
	t.Helper()
	s := c.newServer(t, flags)
	s.Start(t)
	return s
}

// ShortHistory is the flag that makes a server forget the past about a second after it is the past.
func (target Target) ShortHistory() string {
	if !target.IsRowlock() {
		return "--etcd-compaction-interval=1s"
	}
	return "--history-retention=1s"
}
