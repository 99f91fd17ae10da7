package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	componentconfig "k8s.io/component-base/config"

	"github.com/rowlock-io/rowlock/agents/election"
	"github.com/rowlock-io/rowlock/server/controlplane"
)

// electedAs has agents act in one process of those that serve a cluster: in that which holds the Lease of kube-system that is
// named after the upstream component whose user is given. So stock components stand for the same election.
func electedAs(cfg componentconfig.LeaderElectionConfiguration) (func(as string, a controlplane.Agent) controlplane.Agent, error) {
	host, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("--leader-elect: %w", err)
	}
	identity := host + "_" + string(uuid.NewUUID())
	return func(as string, a controlplane.Agent) controlplane.Agent {
		act := a.Run
		a.Run = func(ctx context.Context, in controlplane.Inside) error {
			client, err := kubernetes.NewForConfig(in.As(&user.DefaultInfo{Name: as, Groups: []string{user.AllAuthenticated}}))
			if err != nil {
				return err
			}
			in.Report.Down("", nil) // it is not running while it waits
			return election.Run(ctx, election.Config{
				Client: client, Namespace: cfg.ResourceNamespace, Name: strings.TrimPrefix(as, "system:"), Identity: identity,
				LeaseDuration: cfg.LeaseDuration.Duration, RenewDeadline: cfg.RenewDeadline.Duration, RetryPeriod: cfg.RetryPeriod.Duration,
			}, func(ctx context.Context) error {
				in.Log.Info("Elected", "identity", identity)
				in.Report.Up("")
				defer in.Report.Down("", nil)
				open := in.As
				in := in
				in.As = func(who user.Info) *rest.Config { return election.Fence(ctx, open(who)) }
				return act(ctx, in)
			})
		}
		return a
	}, nil
}
