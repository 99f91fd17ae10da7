package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/rowlock-io/rowlock/server/encryption"
	"github.com/rowlock-io/rowlock/server/seal"
	"github.com/rowlock-io/rowlock/storage"
)

func newEncryption() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "encryption",
		Short: "See and change the keys that encrypt what is in the database",
		Long: `See and change the keys that encrypt what is in the database (docs/encryption.md).

The commands work on the database itself. On Postgres servers may be running meanwhile; a SQLite
file belongs to one process, so stop its server first.`,
	}
	cmd.AddCommand(newEncryptionStatus(), newEncryptionRotate(), newEncryptionRewrite(), newEncryptionPrune(), newEncryptionRekey())
	return cmd
}

// vault is what the commands work on: clusters of a database, and the operator's key.
type vault struct {
	URL, URLFile, DataDir, KeyFile string
	Cluster                        []string
}

func (v *vault) addFlags(cmd *cobra.Command) {
	v.addDatabase(cmd)
	cmd.Flags().StringSliceVar(&v.Cluster, "cluster", nil, "only these clusters; all, when none is named")
}

// addDatabase adds the flags that say where the clusters are.
func (v *vault) addDatabase(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVar(&v.URL, "database", "", "postgres://… or sqlite:///FILE")
	fs.StringVar(&v.URLFile, "database-file", "", "file that holds the database's URL, to keep its password off the command line")
	fs.StringVar(&v.DataDir, "data-dir", defaultDataDir(), "directory of the data of rowlock up, when no database is given")
	fs.StringVar(&v.KeyFile, "encryption-key-file", "", "file of the operator's key (or the key itself in $"+seal.EnvVar+"; with --data-dir: encryption.key in it)")
}

// database is the one that was named.
func (v *vault) database() (database, error) {
	if v.URL != "" || v.URLFile != "" {
		return databaseFrom(v.URL, v.URLFile)
	}
	return database{Scheme: "sqlite", Path: filepath.Join(v.DataDir, "rowlock.db")}, nil
}

// keys reads the operator's key.
func (v *vault) keys() (*seal.Keyring, error) {
	src := seal.Source{File: v.KeyFile, Env: seal.EnvVar}
	if v.KeyFile == "" && v.URL == "" && v.URLFile == "" {
		src.File = filepath.Join(v.DataDir, "encryption.key")
	}
	keys, err := seal.LoadKey(src)
	if err != nil {
		return nil, fmt.Errorf("--encryption-key-file or %s: %w", seal.EnvVar, err)
	}
	return keys, nil
}

// each calls f for every cluster, one after the other, and goes on when one fails.
func (v *vault) each(ctx context.Context, f func(name string, store storage.Store) error) (err error) {
	d, err := v.database()
	if err != nil {
		return err
	}
	if err := d.exists(); err != nil {
		return err
	}
	db, err := d.open(ctx, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	clusters, err := db.Clusters(ctx)
	if err != nil {
		return err
	}
	for _, name := range v.Cluster {
		if !slices.ContainsFunc(clusters, func(c storage.Cluster) bool { return c.Name == name }) {
			return fmt.Errorf("--cluster: there is no cluster %q", name)
		}
	}
	var errs []error
	for _, c := range clusters {
		if len(v.Cluster) > 0 && !slices.Contains(v.Cluster, c.Name) {
			continue
		}
		if err := withStore(ctx, db, c.Name, f); err != nil {
			errs = append(errs, fmt.Errorf("cluster %s: %w", c.Name, err))
		}
	}
	return errors.Join(errs...)
}

func withStore(ctx context.Context, db storage.Database, name string, f func(string, storage.Store) error) (err error) {
	store, err := db.OpenCluster(ctx, name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	return f(name, store)
}

func newEncryptionStatus() *cobra.Command {
	var v vault
	var history bool
	cmd := &cobra.Command{
		Use: "status", Short: "Tell which keys there are and what they encrypt", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			keys, err := v.keys()
			if err != nil {
				return err
			}
			return v.each(cmd.Context(), func(name string, store storage.Store) error {
				return printStatus(cmd.Context(), cmd.OutOrStdout(), name, store, keys, history)
			})
		},
	}
	v.addFlags(cmd)
	cmd.Flags().BoolVar(&history, "history", false, "look through the history too, which reads all of it")
	return cmd
}

func printStatus(ctx context.Context, w io.Writer, name string, store storage.Store, keys *seal.Keyring, history bool) error {
	infos, err := encryption.Describe(ctx, store, keys)
	if err != nil {
		return err
	}
	present, past, err := encryption.Survey(ctx, store, history)
	if err != nil {
		return err
	}
	say(w, "cluster %s\n", name)
	for _, k := range infos {
		say(w, "  key %s\t%s\tcreated %s", k.ID, k.Role, k.Created.Format(time.RFC3339))
		if !k.Retired.IsZero() {
			say(w, "\tretired %s", k.Retired.Format(time.RFC3339))
		}
		say(w, "\n")
	}
	printUsage(w, "objects", present)
	printUsage(w, "states in the history", past)
	return nil
}

// say prints; nobody can be told that printing failed.
func say(w io.Writer, format string, args ...any) { _, _ = fmt.Fprintf(w, format, args...) }

func printUsage(w io.Writer, what string, u encryption.Usage) {
	for _, resource := range sortedKeys(u.Schemes) {
		for _, scheme := range sortedKeys(u.Schemes[resource]) {
			say(w, "  %s\t%s\t%d %s\n", resource, scheme, u.Schemes[resource][scheme], what)
		}
	}
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func newEncryptionRotate() *cobra.Command {
	var v vault
	var settle time.Duration
	cmd := &cobra.Command{
		Use: "rotate", Short: "Make a new data key and encrypt with it from now on", Args: cobra.NoArgs,
		Long: `Make a new data key for each cluster and encrypt with it from now on. The key is stored first, and
used only after --settle. Running servers take it over by themselves. What older keys encrypted stays
readable; "rowlock encryption rewrite" encrypts it anew. A rotation that was cut short goes on when
the command is run again.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			keys, err := v.keys()
			if err != nil {
				return err
			}
			ctx := cmd.Context()
			if err := v.each(ctx, func(_ string, store storage.Store) error {
				_, err := encryption.AddKey(ctx, store, keys)
				return err
			}); err != nil {
				return err
			}
			select {
			case <-time.After(settle):
			case <-ctx.Done():
				return ctx.Err()
			}
			return v.each(ctx, func(name string, store storage.Store) error {
				id, err := encryption.PromoteKey(ctx, store, keys)
				if errors.Is(err, encryption.ErrNoNext) {
					return nil // it came after the first half, and its keys are new
				}
				if err == nil {
					say(cmd.OutOrStdout(), "cluster %s: key %s encrypts\n", name, id)
				}
				return err
			})
		},
	}
	v.addFlags(cmd)
	cmd.Flags().DurationVar(&settle, "settle", 10*time.Second, "how long a new key is kept before anything is encrypted with it, for the database's own replicas to have it")
	return cmd
}
