package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/clientcmd"
)

func newSimulate() *cobra.Command {
	var (
		o                       simulateOptions
		kubeconfig, clusterCIDR string
		format                  string
		verbosity               int
	)
	cmd := &cobra.Command{
		Use:   "simulate",
		Short: "Simulate the nodes of a cluster from outside",
		Long: `Simulate the nodes of a cluster from outside, as rowlock up --simulate-nodes does from inside. It works with
any API server. Nodes that others make are simulated too when they have the label rowlock.io/simulated=true. When it
stops, the nodes stop being ready.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ranges, rangesErr := podRanges(clusterCIDR)
			if err := errors.Join(o.validate(""), rangesErr); err != nil {
				return err
			}
			log, _, err := newLogger(cmd.Context(), os.Stderr, format, verbosity)
			if err != nil {
				return err
			}
			rules := clientcmd.NewDefaultClientConfigLoadingRules()
			rules.ExplicitPath = kubeconfig
			config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, nil).ClientConfig()
			if err != nil {
				return fmt.Errorf("--kubeconfig: %w", err)
			}
			config.QPS = -1
			config.UserAgent = "rowlock-simulate"
			config.ContentType = runtime.ContentTypeProtobuf
			config.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
			return o.outside(cmd.Context(), config, ranges, log)
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&kubeconfig, "kubeconfig", "", "kubeconfig of somebody who may do anything; empty: where kubectl looks")
	fs.IntVar(&o.Nodes, "nodes", 0, "how many nodes to make, sim-0 and up; those of an earlier run that are too many are deleted")
	fs.DurationVar(&o.JobTime, "job-duration", 0, "how long pods of Jobs run before they succeed; 0 is no time at all")
	fs.StringVar(&clusterCIDR, "cluster-cidr", "", "range of the pods' addresses; empty: 10.0.0.0/16")
	fs.StringVar(&format, "logging-format", "text", "text or json")
	fs.IntVarP(&verbosity, "v", "v", 0, "verbosity; 2 and more shows debug messages")
	return cmd
}
