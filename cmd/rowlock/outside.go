package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"strings"
	"syscall"
	_ "time/tzdata" // of CronJobs, as kube-controller-manager has it

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"          // --logging-format=json
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // what upstream's main packages count
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	kubescheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"

	"github.com/rowlock-io/rowlock/agents/controllers"
	"github.com/rowlock-io/rowlock/agents/scheduler"
	"github.com/rowlock-io/rowlock/schema"
)

// outside is a program of upstream's that runs as a subcommand, in a process of its own: with its flags, files and ways to end.
type outside struct {
	name, short, long string
	upstream          func() *cobra.Command
	check             func(*pflag.FlagSet) error // beyond whether files can be read
}

func newControllers() *cobra.Command {
	return outside{
		name: "controllers", short: "Run the controllers of a cluster from outside",
		long: `Run the controllers of a cluster from outside, for servers with --controllers= or beside them: they stand for the
same election. It is kube-controller-manager under this name. What it needs is written by: rowlock identity export

`,
		upstream: controllermanager.NewControllerManagerCommand,
		check: func(fs *pflag.FlagSet) error {
			names, err := fs.GetStringSlice("controllers")
			if err != nil {
				return err
			}
			return controllers.CheckNames(names)
		},
	}.command()
}

func newScheduler() *cobra.Command {
	return outside{
		name: "scheduler", short: "Run the scheduler of a cluster from outside",
		long: `Run the scheduler of a cluster from outside, for servers with --scheduler=false or beside them: it stands for the
same election. It is kube-scheduler under this name. What it needs is written by: rowlock identity export

`,
		upstream: func() *cobra.Command { return kubescheduler.NewSchedulerCommand() },
		check:    checkSchedulerConfig,
	}.command()
}

// command leaves everything to upstream's command, which is made only when it is run: it registers flags, and starts
// logging, for the whole process.
func (o outside) command() *cobra.Command {
	cmd := &cobra.Command{
		Use: o.name, Short: o.short, DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			// Upstream has signals handled in its own way.
			signal.Reset(os.Interrupt, syscall.SIGTERM)
			upstream := o.make(cmd)
			upstream.SetArgs(args)
			return cli.RunNoErrOutput(upstream)
		},
	}
	cmd.SetHelpFunc(func(cmd *cobra.Command, _ []string) { _ = o.make(cmd).Help() })
	return cmd
}

// make makes upstream's command, under our name.
func (o outside) make(as *cobra.Command) *cobra.Command {
	cmd := o.upstream()
	cmd.Use, cmd.Long = as.Name(), o.long+cmd.Long
	cmd.Annotations = map[string]string{cobra.CommandDisplayNameAnnotation: as.CommandPath()}
	cmd.SilenceUsage = true
	cmd.SetOut(as.OutOrStdout())
	cmd.SetErr(as.ErrOrStderr())
	if help := cmd.Flags().Lookup("help"); help != nil {
		help.Usage = "help for " + as.CommandPath()
	}
	run := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if version := cmd.Flags().Lookup("version"); version != nil && version.Value.String() == "true" {
			say(cmd.OutOrStdout(), "rowlock %s (Kubernetes %s)\n", ownVersion(), schema.Version)
			return nil
		}
		if err := checkFiles(cmd.Flags()); err != nil {
			return err
		}
		if err := o.check(cmd.Flags()); err != nil {
			return err
		}
		return run(cmd, args)
	}
	return cmd
}

// checkFiles finds files that cannot be read. Upstream names the file and not the flag.
func checkFiles(flags *pflag.FlagSet) (err error) {
	flags.Visit(func(f *pflag.Flag) {
		path := f.Value.String()
		if err != nil || path == "" || f.Value.Type() != "string" {
			return
		}
		switch {
		case strings.HasSuffix(f.Name, "kubeconfig"):
			if _, err = clientcmd.LoadFromFile(path); err != nil && !errors.As(err, new(*fs.PathError)) {
				err = fmt.Errorf("%s: %w", path, err)
			}
		case f.Name == "config", strings.HasSuffix(f.Name, "-file"), strings.HasSuffix(f.Name, "-config"):
			_, err = os.ReadFile(path)
		}
		if err != nil {
			err = fmt.Errorf("--%s: %w", f.Name, err)
		}
	})
	return err
}

// checkSchedulerConfig finds what is wrong with the file of --config, unless flags may change it.
func checkSchedulerConfig(fs *pflag.FlagSet) error {
	elect := false
	fs.Visit(func(f *pflag.Flag) { elect = elect || strings.HasPrefix(f.Name, "leader-elect") })
	path, err := fs.GetString("config")
	if err != nil || path == "" || elect {
		return err
	}
	if _, err := scheduler.Load(path); err != nil {
		return fmt.Errorf("--config: %w", err)
	}
	return nil
}
