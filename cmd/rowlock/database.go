package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/rowlock-io/rowlock/storage"
	"github.com/rowlock-io/rowlock/storage/postgres"
	"github.com/rowlock-io/rowlock/storage/sqlite"
)

// database says where everything is kept.
type database struct {
	Scheme string // "sqlite" or "postgres"
	Path   string // of the SQLite file
	URL    string // of Postgres
}

func parseDatabase(text string) (database, error) {
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok {
		return database{}, errors.New("the database must be given as postgres://… or sqlite:///FILE")
	}
	switch scheme {
	case "postgres", "postgresql":
		return database{Scheme: "postgres", URL: text}, nil
	case "sqlite":
		path, err := url.PathUnescape(rest)
		if err != nil || !strings.HasPrefix(path, "/") {
			return database{}, errors.New("a SQLite database must be given with an absolute path: sqlite:///FILE")
		}
		return database{Scheme: "sqlite", Path: path}, nil
	}
	return database{}, fmt.Errorf("database scheme %q must be postgres or sqlite", scheme)
}

// shared tells whether other processes may serve the same database.
func (d database) shared() bool { return d.Scheme == "postgres" }

// exists fails when there is no such file: opening a SQLite database makes one.
func (d database) exists() error {
	if d.shared() {
		return nil
	}
	_, err := os.Stat(d.Path)
	return err
}

func (d database) open(ctx context.Context, log *slog.Logger) (storage.Database, error) {
	if d.shared() {
		return postgres.Open(ctx, postgres.Config{URL: d.URL, Log: log})
	}
	return sqlite.Open(ctx, sqlite.Config{Path: d.Path, Log: log})
}

// ensureCluster makes a cluster when it is missing. It looks first: a database logs the attempt to make one that is there
// as an error.
func ensureCluster(ctx context.Context, db storage.Database, name string) error {
	clusters, err := db.Clusters(ctx)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(clusters, func(c storage.Cluster) bool { return c.Name == name }) {
		return nil
	}
	err = db.CreateCluster(ctx, name)
	if errors.Is(err, storage.ErrExists) {
		return nil // another server was quicker
	}
	return err
}
