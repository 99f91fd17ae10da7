package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	utilnet "k8s.io/utils/net"

	"github.com/rowlock-io/rowlock/agents/simulation"
	"github.com/rowlock-io/rowlock/schema"
	"github.com/rowlock-io/rowlock/server/controlplane"
)

// simulateOptions say which nodes are played.
type simulateOptions struct {
	Nodes   int
	JobTime time.Duration
}

// addFlags adds the flags of rowlock up.
func (o *simulateOptions) addFlags(fs *pflag.FlagSet) {
	fs.IntVar(&o.Nodes, "simulate-nodes", 0, "how many nodes to simulate: pods that are bound to them run, in the API, at once, and no container does; 0 simulates none")
	fs.DurationVar(&o.JobTime, "simulate-job-duration", 0, "how long pods of Jobs run on simulated nodes before they succeed; 0 is no time at all")
}

// validate reports what is wrong; prefix is what the flags' names begin with.
func (o *simulateOptions) validate(prefix string) error {
	var errs []error
	if o.Nodes < 0 || o.Nodes > simulation.MaxNodes {
		errs = append(errs, fmt.Errorf("--%snodes %d must be between 0 and %d", prefix, o.Nodes, simulation.MaxNodes))
	}
	if o.JobTime < 0 {
		errs = append(errs, fmt.Errorf("--%sjob-duration %s must not be negative", prefix, o.JobTime))
	}
	return errors.Join(errs...)
}

// simulatedUser is who simulated nodes are. It may do anything: what a kubelet may is known of one node at a time only.
var simulatedUser = &user.DefaultInfo{Name: "system:simulated-nodes", Groups: []string{user.SystemPrivilegedGroup, user.AllAuthenticated}}

// agents are the nodes of the cluster at the root; others have none.
func (o *simulateOptions) agents(clusterCIDR string) ([]controlplane.Agent, error) {
	if o.Nodes == 0 {
		return nil, nil
	}
	ranges, err := podRanges(clusterCIDR)
	if err != nil {
		return nil, err
	}
	return []controlplane.Agent{{Name: "simulated-nodes", Run: func(ctx context.Context, in controlplane.Inside) error {
		if in.Cluster != defaultCluster {
			<-ctx.Done()
			return nil
		}
		client, err := kubernetes.NewForConfig(in.As(simulatedUser))
		if err != nil {
			return err
		}
		return o.run(ctx, client, in.Informers(client, 0), ranges, in.Log)
	}}}, nil
}

// outside runs the nodes of a server elsewhere.
func (o *simulateOptions) outside(ctx context.Context, config *rest.Config, ranges []netip.Prefix, log *slog.Logger) error {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithTransform(withoutManagers))
	return o.run(ctx, client, factory, ranges, log)
}

// withoutManagers takes from objects what the simulation does not read.
func withoutManagers(obj any) (any, error) {
	if m, err := meta.Accessor(obj); err == nil {
		m.SetManagedFields(nil)
	}
	return obj, nil
}

func (o *simulateOptions) run(ctx context.Context, client kubernetes.Interface, factory informers.SharedInformerFactory, ranges []netip.Prefix, log *slog.Logger) error {
	return simulation.Run(ctx, simulation.Config{
		Nodes: o.Nodes, JobTime: o.JobTime, Ranges: ranges, Version: schema.Version, Client: client, Informers: factory, Log: log,
	})
}

// podRanges reads --cluster-cidr: a range, or one of each family; empty means the simulation's own.
func podRanges(text string) ([]netip.Prefix, error) {
	if text == "" {
		return nil, nil
	}
	nets, err := utilnet.ParseCIDRs(strings.Split(text, ","))
	if err == nil && len(nets) > 1 {
		var both bool
		if both, err = utilnet.IsDualStackCIDRs(nets); err == nil && (!both || len(nets) > 2) {
			err = errors.New("there may be one range of each address family")
		}
	}
	if err != nil {
		return nil, fmt.Errorf("--cluster-cidr %s: %w", text, err)
	}
	var ranges []netip.Prefix
	for _, n := range nets {
		p, err := netip.ParsePrefix(n.String())
		if err != nil {
			return nil, fmt.Errorf("--cluster-cidr %s: %w", text, err)
		}
		ranges = append(ranges, p)
	}
	return ranges, nil
}
