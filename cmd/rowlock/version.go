package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/rowlock-io/rowlock/schema"
)

// release is set by the linker for releases; other builds tell the version of the module.
var release string

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the versions of Rowlock, of the Kubernetes API that it serves, and of Go",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return printVersion(cmd.OutOrStdout()) },
	}
}

func printVersion(w io.Writer) error {
	_, err := fmt.Fprintf(w, "rowlock %s\nkubernetes %s\n%s %s/%s\n",
		ownVersion(), schema.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}

func ownVersion() string {
	if release != "" {
		return release
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
