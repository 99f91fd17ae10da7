package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strconv"

	"github.com/rowlock-io/rowlock/server/controlplane"
	"github.com/rowlock-io/rowlock/server/kubeconfig"
	"github.com/rowlock-io/rowlock/server/pki"
)

// wherever stands for the file in which kubectl looks.
const wherever = "(where kubectl looks)"

// writeKubeconfig merges an administrator's kubeconfig into the file that was asked for.
func (o *options) writeKubeconfig(ctx context.Context, plane *controlplane.ControlPlane, port int, log *slog.Logger) error {
	if o.WriteKubeconfig == "" {
		return nil
	}
	file := kubeconfig.File{Path: o.WriteKubeconfig}
	if o.WriteKubeconfig == wherever {
		var err error
		if file, err = kubeconfig.Default(); err != nil {
			return fmt.Errorf("--write-kubeconfig: %w", err)
		}
	}
	admin, err := plane.Identity().ClusterCA.IssueClient(pki.Admin())
	if err != nil {
		return fmt.Errorf("administrator's certificate: %w", err)
	}
	written, err := kubeconfig.Write(ctx, file, kubeconfig.Entry{
		Own:  o.tls.custom(), // who issued the operator's is not known
		Name: "rowlock", Server: "https://" + net.JoinHostPort(o.reachable(), strconv.Itoa(port)),
		CA: plane.Identity().ClusterCA.Bundle(), Cert: admin.CertPEM, Key: admin.KeyPEM,
	}, false)
	if err != nil {
		return fmt.Errorf("--write-kubeconfig: %w", err)
	}
	log.Info("Kubeconfig written", "file", written.Path, "context", written.Context)
	if !written.Current {
		log.Info("Another context is current", "use", "kubectl --context "+written.Context)
	}
	return nil
}
