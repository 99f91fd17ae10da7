package server_test

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/capabilities"

	"github.com/rowlock-io/rowlock/server/servertest"
	"github.com/rowlock-io/rowlock/storage/postgres"
	"github.com/rowlock-io/rowlock/storage/postgres/pgtest"
)

// shared is one server in memory for the tests that only ask, or that keep to namespaces of their own.
var shared *servertest.Server

var wire = servertest.NewWire()

var postgresServer = pgtest.Server{Prepare: func(ctx context.Context, url string) error {
	return postgres.Migrate(ctx, postgres.Config{URL: url})
}}

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	capabilities.Setup(true, 0)
	klog.SetLogger(logr.Discard()) // what upstream says is not a result of a test
	dir, err := os.MkdirTemp("", "server")
	if err == nil {
		defer func() { _ = os.RemoveAll(dir) }()
		shared, err = servertest.Open(context.Background(), dir, servertest.Config{})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer postgresServer.Stop()
	code := m.Run()
	wire.Close()
	if err := shared.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, "the shared server ended badly:", err)
		return 1
	}
	return code
}
