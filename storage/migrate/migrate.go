// Package migrate brings a database to the schema of this binary: numbered SQL files, applied once each, in order,
// forward only. What differs between databases is behind Driver.
//
// It exists because goose, the runner that we would take, raises versions that k8s.io pins.
package migrate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/rowlock-io/rowlock/storage"
)

// Migration is one file: 00001_init.sql has Version 1 and Name "init".
type Migration struct {
	Version int
	Name    string
	SQL     string
}

// Driver is what the runner needs of a database.
type Driver interface {
	// Version returns the newest version that was applied, 0 for an empty database, and ErrSchema for a database that
	// holds something else. It must not write.
	Version(ctx context.Context) (int, error)
	// Exclusive runs fn while no other process that uses Exclusive runs its own (a session or advisory lock, or the
	// database file's lock). It waits for its turn until ctx ends.
	Exclusive(ctx context.Context, fn func(ctx context.Context) error) error
	// Apply runs the migration and records its version, in one transaction.
	Apply(ctx context.Context, m Migration) error
}

// Run applies what is missing. Any number of processes may do so at once. When there is nothing to do it reads one
// version and writes nothing. A database that is newer than the newest file is refused with ErrSchema.
func Run(ctx context.Context, files fs.FS, d Driver) error {
	all, err := Load(files)
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	todo, err := pending(ctx, all, d)
	if err != nil || len(todo) == 0 {
		return err
	}
	return d.Exclusive(ctx, func(ctx context.Context) error {
		// Asked again: another process may have migrated while this one waited.
		todo, err := pending(ctx, all, d)
		if err != nil {
			return err
		}
		for _, m := range todo {
			if err := d.Apply(ctx, m); err != nil {
				return fmt.Errorf("migrate: apply %d (%s): %w", m.Version, m.Name, err)
			}
		}
		return nil
	})
}

func pending(ctx context.Context, all []Migration, d Driver) ([]Migration, error) {
	have, err := d.Version(ctx)
	if err != nil {
		return nil, fmt.Errorf("migrate: read the schema version: %w", err)
	}
	if have > len(all) {
		return nil, fmt.Errorf("migrate: %w: the database has schema version %d and this binary knows versions up to %d: run a newer rowlock", storage.ErrSchema, have, len(all))
	}
	return all[have:], nil
}

// Load reads all *.sql files of a directory. Versions must run from 1 without a gap, so that the version alone says
// what a database has.
func Load(files fs.FS) ([]Migration, error) {
	names, err := fs.Glob(files, "*.sql")
	if err != nil {
		return nil, err
	}
	var all []Migration
	for _, file := range names {
		number, name, ok := strings.Cut(strings.TrimSuffix(path.Base(file), ".sql"), "_")
		version, err := strconv.Atoi(number)
		if err != nil || !ok || name == "" {
			return nil, fmt.Errorf("%s: want a name like 00001_init.sql", file)
		}
		text, err := fs.ReadFile(files, file)
		if err != nil {
			return nil, err
		}
		all = append(all, Migration{Version: version, Name: name, SQL: string(text)})
	}
	if len(all) == 0 {
		return nil, errors.New("no migrations")
	}
	slices.SortFunc(all, func(a, b Migration) int { return a.Version - b.Version })
	for i, m := range all {
		if m.Version != i+1 {
			return nil, fmt.Errorf("found version %d (%s) where %d belongs", m.Version, m.Name, i+1)
		}
	}
	return all, nil
}
