package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rowlock-io/rowlock/server/seal"
)

func newServer() *cobra.Command {
	o := &options{BindAddress: net.IPv4zero}
	var url, urlFile string
	cmd := &cobra.Command{
		Use:   "server",
		Short: "Run one API server on Postgres or SQLite",
		Long: `Run one API server on Postgres or SQLite. It keeps nothing itself: any number of servers may
share one Postgres. All of them need the same key, which seals the clusters' identities.

  rowlock server --database postgres://user@host/db --encryption-key-file key
  rowlock server --database sqlite:///var/lib/rowlock/rowlock.db --encryption-key-file key

Make a key with: head -c 32 /dev/urandom | base64`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			db, dbErr := databaseFrom(url, urlFile)
			if err := errors.Join(dbErr, o.validate()); err != nil {
				return err
			}
			keys, err := seal.LoadKey(seal.Source{File: o.EncryptionKeyFile, Env: seal.EnvVar})
			if err != nil {
				return fmt.Errorf("--encryption-key-file or %s: %w", seal.EnvVar, err)
			}
			return serve(cmd.Context(), o, db, keys)
		},
	}
	cmd.Flags().StringVar(&url, "database", "", "postgres://… or sqlite:///FILE")
	cmd.Flags().StringVar(&urlFile, "database-file", "", "file that holds the database's URL, to keep its password off the command line")
	cmd.Flags().StringVar(&o.EncryptionKeyFile, "encryption-key-file", "", "file of the key that seals the clusters' identities and data keys (or the key itself in $"+seal.EnvVar+")")
	_ = cmd.Flags().SetAnnotation("database", "classified", []string{"true"}) // may hold a password, which /flagz would show
	o.addFlags(cmd.Flags())
	return inSections(cmd)
}

func databaseFrom(url, file string) (database, error) {
	switch {
	case url != "" && file != "":
		return database{}, errors.New("only one of --database and --database-file may be given")
	case url == "" && file == "":
		return database{}, errors.New("--database or --database-file is required")
	case file != "":
		text, err := os.ReadFile(file)
		if err != nil {
			return database{}, fmt.Errorf("--database-file: %w", err)
		}
		url = strings.TrimSpace(string(text))
	}
	return parseDatabase(url)
}
