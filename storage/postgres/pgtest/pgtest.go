// Package pgtest runs a throwaway Postgres for tests: a cluster of its own in a temporary directory, on 127.0.0.1 and a
// free port, with fsync on, started on first use and stopped with the process that started it.
//
// It promises each test a database of its own, made from a template that was prepared once. Where there is no Postgres
// to run, tests are skipped, unless ROWLOCK_TEST_POSTGRES=require says that this is a failure (as in CI).
package pgtest

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Server is a Postgres shared by the tests of one binary. Keep one in a package-level variable of the test package and
// call Stop from TestMain. The zero value is ready.
type Server struct {
	// Prepare fills the template that Database copies, for example with the schema. May be nil.
	Prepare func(ctx context.Context, url string) error

	mu       sync.Mutex
	cluster  *Cluster
	err      error
	template bool
	made     atomic.Int64
}

// Cluster returns the running cluster, and starts it for the first caller.
func (s *Server) Cluster(t testing.TB) *Cluster {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cluster == nil && s.err == nil {
		s.cluster, s.err = start(context.WithoutCancel(t.Context()))
	}
	if s.err != nil {
		missing(t, s.err)
	}
	return s.cluster
}

// missing ends the test that has no Postgres.
func missing(t testing.TB, err error) {
	t.Helper()
	if os.Getenv("ROWLOCK_TEST_POSTGRES") == "require" {
		t.Fatalf("Postgres is required here: %v", err)
	}
	t.Skipf("no Postgres: %v", err)
}

const templateName = "prepared"

// Database makes a prepared database for one test and returns its address. It is dropped when the test ends.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	c := s.Cluster(t)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.template {
		if err := s.makeTemplate(t.Context(), c); err != nil {
			t.Fatalf("prepare the template database: %v", err)
		}
		s.template = true
	}
	return s.create(t, c, "TEMPLATE "+templateName)
}

// Empty makes an empty database for one test, with options as CREATE DATABASE takes them.
func (s *Server) Empty(t testing.TB, options string) string {
	t.Helper()
	return s.create(t, s.Cluster(t), options)
}

func (s *Server) makeTemplate(ctx context.Context, c *Cluster) error {
	if err := c.Exec(ctx, "CREATE DATABASE "+templateName); err != nil {
		return err
	}
	if s.Prepare == nil {
		return nil
	}
	return s.Prepare(ctx, c.URL(templateName))
}

func (s *Server) create(t testing.TB, c *Cluster, options string) string {
	t.Helper()
	name := "test_" + strconv.FormatInt(s.made.Add(1), 10)
	if err := c.Exec(t.Context(), "CREATE DATABASE "+name+" "+options); err != nil {
		t.Fatalf("create database: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
		defer cancel()
		if err := c.Exec(ctx, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)"); err != nil {
			t.Errorf("drop database: %v", err)
		}
	})
	return c.URL(name)
}

// Stop stops the cluster and removes its files. Call it once all tests are done.
func (s *Server) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cluster != nil {
		s.cluster.remove()
	}
}

// URL is the address of one of the cluster's databases.
func (c *Cluster) URL(database string) string {
	u := url.URL{
		Scheme: "postgres", User: url.User(superuser),
		Host: fmt.Sprintf("127.0.0.1:%d", c.Port), Path: database, RawQuery: "sslmode=disable",
	}
	return u.String()
}

// Exec runs one statement as superuser, outside any test's database.
func (c *Cluster) Exec(ctx context.Context, sql string) error {
	conn, err := pgx.Connect(ctx, c.URL("postgres"))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	_, err = conn.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol)
	return err
}
