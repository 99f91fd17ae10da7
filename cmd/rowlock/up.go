package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/rowlock-io/rowlock/server/seal"
)

func newUp() *cobra.Command {
	o := &options{BindAddress: net.IPv4(127, 0, 0, 1), WriteKubeconfig: wherever}
	var dataDir string
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Run a cluster on one SQLite file, in the foreground",
		Long: `Run a cluster on one SQLite file, in the foreground.

Everything is kept in the data directory: rowlock.db with its log, and the key that seals the
cluster's identity. kubectl finds the cluster through the kubeconfig that is written.

Started by root on a machine with a container runtime, it makes the machine a node (docs/nodes.md), unless --agent=false
or --simulate-nodes says otherwise.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.local.dir = filepath.Join(dataDir, "agent")
			if err := o.validate(); err != nil {
				return err
			}
			if err := os.MkdirAll(dataDir, 0o700); err != nil {
				return fmt.Errorf("--data-dir: %w", err)
			}
			keyFile := o.EncryptionKeyFile
			if keyFile == "" {
				keyFile = filepath.Join(dataDir, "encryption.key")
			}
			keys, err := seal.LoadOrGenerate(keyFile)
			if err != nil {
				return err
			}
			return serve(cmd.Context(), o, database{Scheme: "sqlite", Path: filepath.Join(dataDir, "rowlock.db")}, keys)
		},
	}
	cmd.Flags().StringVar(&dataDir, "data-dir", defaultDataDir(), "directory of the cluster's data")
	cmd.Flags().StringVar(&o.EncryptionKeyFile, "encryption-key-file", "", "file of the key that seals the clusters' identities and data keys (default: encryption.key in the data directory, made at the first start)")
	o.addFlags(cmd.Flags())
	o.simulate.addFlags(cmd.Flags())
	o.local.addFlags(cmd.Flags())
	return inSections(cmd)
}

func defaultDataDir() string {
	if os.Geteuid() == 0 {
		return "/var/lib/rowlock"
	}
	if dir := os.Getenv("XDG_DATA_HOME"); dir != "" {
		return filepath.Join(dir, "rowlock")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "rowlock-data"
	}
	return filepath.Join(home, ".local", "share", "rowlock")
}
