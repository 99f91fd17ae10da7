package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/kubernetes"
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
			name := strings.TrimPrefix(as, "system:")
			for {
				leases := in.Informers(client, 0)
				leases.Select(&coordinationv1.Lease{}, fields.OneTermEqualSelector(metav1.ObjectNameField, name))
				err := election.Run(ctx, election.Config{
					Client: client, Informers: leases, Namespace: cfg.ResourceNamespace, Name: name, Identity: identity, Log: in.Log,
					LeaseDuration: cfg.LeaseDuration.Duration, RenewDeadline: cfg.RenewDeadline.Duration, RetryPeriod: cfg.RetryPeriod.Duration,
				}, func(ctx context.Context, turn *election.Turn) error {
					in.Log.Info("Elected", "identity", identity)
					in.Report.Up("")
					defer in.Report.Down("", nil)
					return act(ctx, in.While(turn.Over))
				})
				if !errors.Is(err, election.ErrLost) {
					return err
				}
				in.Log.Warn("No longer elected", "identity", identity, "err", err) // nothing is broken: it stands again
			}
		}
		return a
	}, nil
}
