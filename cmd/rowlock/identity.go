package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apiserver/pkg/authentication/user"

	"github.com/rowlock-io/rowlock/server/pki"
	"github.com/rowlock-io/rowlock/server/seal"
	"github.com/rowlock-io/rowlock/storage"
	"github.com/rowlock-io/rowlock/storage/sqlite"
)

func newIdentity() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "identity",
		Short: "Give parts of a cluster's identity to components outside the servers",
		Long: `Give parts of a cluster's identity to components outside the servers. A cluster's authority, and the key of
its service accounts' tokens, are sealed in its database (docs/agents.md).`,
	}
	cmd.AddCommand(newIdentityExport())
	return cmd
}

func newIdentityExport() *cobra.Command {
	var (
		v         vault
		o         exportOptions
		overwrite bool
	)
	cmd := &cobra.Command{
		Use: "export --for COMPONENT DIRECTORY", Short: "Write the files that a component outside needs", Args: cobra.ExactArgs(1),
		Long: `Write the files that a component outside needs, as kubeadm names them:

  kube-controller-manager  controller-manager.conf, its kubeconfig; ca.crt and ca.key, which sign certificates;
                           sa.key, which signs the tokens of service accounts
  kube-scheduler           scheduler.conf, its kubeconfig

rowlock controllers and rowlock scheduler need the same. Whoever has ca.key can become anybody in the cluster, an
administrator too, and whoever has sa.key any service account: keep the directory as you keep the key that seals the
database. Files are readable by their owner only; none that is there is replaced, unless --overwrite says so.

The command reads the database and changes nothing. Servers may be running, on SQLite too.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.validate(); err != nil {
				return err
			}
			files, err := o.files(cmd.Context(), &v)
			if err != nil {
				return err
			}
			written, err := writePrivate(args[0], files, overwrite)
			for _, f := range written {
				say(cmd.OutOrStdout(), "%s: %s\n", filepath.Join(args[0], f.name), f.what)
			}
			return err
		},
	}
	v.addDatabase(cmd)
	fs := cmd.Flags()
	fs.StringSliceVar(&o.components, "for", nil, "kube-controller-manager, kube-scheduler, or both")
	fs.StringVar(&o.cluster, "cluster", defaultCluster, "the cluster")
	fs.StringVar(&o.server, "server", "https://127.0.0.1:6443", "where the component reaches the servers; /clusters/NAME is added for a cluster other than "+defaultCluster+", unless its host begins with NAME")
	fs.StringVar(&o.authority, "certificate-authority", "", "file with the authority of the servers' certificate, where they show one of the operator's (--tls-cert-file)")
	fs.DurationVar(&o.lifetime, "valid-for", pki.Lifetime, "how long the certificates in the kubeconfigs are valid")
	fs.BoolVar(&overwrite, "overwrite", false, "replace files that are there")
	return cmd
}

// component is one that runs outside, of whose user the default roles of RBAC know.
type component struct {
	kubeconfig string
	user       string
	keys       bool // it signs
}

var components = map[string]component{
	"kube-controller-manager": {kubeconfig: "controller-manager.conf", user: user.KubeControllerManager, keys: true},
	"kube-scheduler":          {kubeconfig: "scheduler.conf", user: user.KubeScheduler},
}

// exportOptions say what is exported.
type exportOptions struct {
	components                 []string
	cluster, server, authority string
	lifetime                   time.Duration
}

func (o *exportOptions) validate() error {
	var errs []error
	if len(o.components) == 0 {
		errs = append(errs, errors.New("--for is required: "+strings.Join(sortedKeys(components), ", ")))
	}
	for _, name := range o.components {
		if _, ok := components[name]; !ok {
			errs = append(errs, fmt.Errorf("--for: %q must be one of %s", name, strings.Join(sortedKeys(components), ", ")))
		}
	}
	if o.lifetime <= 0 {
		errs = append(errs, fmt.Errorf("--valid-for %s must be greater than 0", o.lifetime))
	}
	_, _, err := o.address()
	return errors.Join(append(errs, err)...)
}

// peeker reads a cluster of a SQLite file that a server may have open.
type peeker struct{ path, cluster string }

func (p peeker) Get(ctx context.Context, key storage.Key, _ storage.Revision) (storage.Object, error) {
	return sqlite.Peek(ctx, p.path, p.cluster, key)
}

// identity reads the identity of a cluster and leaves its servers alone.
func (v *vault) identity(ctx context.Context, keys *seal.Keyring, cluster string) (id *pki.Identity, err error) {
	d, err := v.database()
	if err != nil {
		return nil, err
	}
	if d.shared() {
		db, err := d.open(ctx, slog.New(slog.DiscardHandler))
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, db.Close()) }()
		err = withStore(ctx, db, cluster, func(_ string, store storage.Store) error {
			id, err = pki.Read(ctx, store, keys)
			return err
		})
	} else {
		id, err = pki.Read(ctx, peeker{d.Path, cluster}, keys)
	}
	if errors.Is(err, storage.ErrNotFound) {
		return nil, fmt.Errorf("--cluster: there is no cluster %q that a server has served: %w", cluster, err)
	}
	return id, err
}
