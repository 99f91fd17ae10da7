package main

import (
	"github.com/spf13/cobra"
)

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "rowlock",
		Short: "Kubernetes without etcd: the API on Postgres or SQLite",
		Long: `Rowlock is a Kubernetes 1.36 API server that keeps its objects, and an ordered log of
their changes, in Postgres or in one SQLite file. Stock kubectl, client-go and Helm use it.

  rowlock up           a cluster on one SQLite file, in the foreground
  rowlock server       one API server, on Postgres or SQLite; run as many as you like on one Postgres
  rowlock agent        a node: pods run on this machine, by containerd or CRI-O
  rowlock token        the tokens that machines join with
  rowlock controllers  what otherwise runs inside a server, in a process of its own,
  rowlock scheduler    as kube-controller-manager and kube-scheduler do
  rowlock simulate     nodes that do not exist, for any API server`,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		// A library gives every command the flag --version.
		PersistentPreRun: func(cmd *cobra.Command, _ []string) {
			if f := cmd.Flags().Lookup("version"); f != nil && f.Changed {
				cmd.RunE = func(cmd *cobra.Command, _ []string) error { return printVersion(cmd.OutOrStdout()) }
			}
		},
	}
	root.AddCommand(newUp(), newServer(), newAgent(), newToken(), newControllers(), newScheduler(), newSimulate(), newIdentity(), newEncryption(), newVersion())
	return root
}
