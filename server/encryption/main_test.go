package encryption_test

import (
	"context"
	"os"
	"testing"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"

	"github.com/rowlock-io/rowlock/storage/postgres"
	"github.com/rowlock-io/rowlock/storage/postgres/pgtest"
)

var postgresServer = pgtest.Server{Prepare: func(ctx context.Context, url string) error {
	return postgres.Migrate(ctx, postgres.Config{URL: url})
}}

func TestMain(m *testing.M) {
	klog.SetLogger(logr.Discard()) // upstream says there what cannot be decrypted, which is what some tests are about
	code := m.Run()
	postgresServer.Stop()
	os.Exit(code)
}
