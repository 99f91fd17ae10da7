// Package controllers runs upstream's control loops, those of kube-controller-manager, and a few of our own as parts of another process: with
// the clients and informers that it is given, and without a server, certificates or tokens of its own.
package controllers

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/rest"
	controllermanager "k8s.io/controller-manager/app"
	"k8s.io/kubernetes/cmd/kube-controller-manager/app"
	"k8s.io/kubernetes/cmd/kube-controller-manager/names"
	"k8s.io/kubernetes/pkg/controller/apis/config"
	"k8s.io/kubernetes/pkg/controller/certificates/authority"
	"k8s.io/kubernetes/pkg/serviceaccount"
)

// Config is what the loops of one cluster need.
type Config struct {
	// Loops says which run and how; see Options.
	Loops config.KubeControllerManagerConfiguration
	// As makes clients. Each loop is the service account of its name.
	As func(user.Info) *rest.Config
	// Informers are the loops' own: they are started and stopped with them.
	Informers informers.SharedInformerFactory
	Metadata  metadatainformer.SharedInformerFactory
	// Tokens signs the tokens of Secrets that ask for one; nil: they get none.
	Tokens serviceaccount.TokenGenerator
	// RootCA is published in each namespace, PEM, unless Loops names a file.
	RootCA []byte
	// Signing answers certificate signing requests, unless Loops names files; nil: nobody does.
	Signing *authority.CertificateAuthority
	// Own is what no node may have a certificate for.
	Own Own

	Report Report
	Log    *slog.Logger
	// Upstream is where the loops themselves log.
	Upstream *slog.Logger
}

// Report is told how loops fare.
type Report interface {
	Up(loop string)
	// Down says why; nil: the loop is not to run any more.
	Down(loop string, err error)
}

// Run runs the loops until ctx ends. A loop that crashes or stops early is made again, and the others go on.
func Run(ctx context.Context, cfg Config) error {
	return run(ctx, cfg, makers(cfg))
}

func run(ctx context.Context, cfg Config, makers []maker) error {
	ctx, stop := context.WithCancel(logr.NewContext(ctx, logr.FromSlogHandler(cfg.Upstream.Handler())))
	defer stop()
	inside, err := newInside(ctx, cfg)
	if err != nil {
		return fmt.Errorf("controllers: %w", err)
	}
	var running sync.WaitGroup
	defer cfg.Informers.Shutdown()
	defer cfg.Metadata.Shutdown()
	defer stop()
	defer running.Wait()
	var starts []func()
	for _, m := range makers {
		l := &loop{maker: m, inside: inside, log: cfg.Log, report: cfg.Report}
		if wanted, err := l.make(ctx); wanted {
			starts = append(starts, func() { l.run(ctx, err) })
		}
	}
	inside.start(ctx)
	close(inside.InformersStarted)
	for _, start := range starts {
		running.Go(start)
	}
	running.Wait()
	<-ctx.Done()
	return nil
}

// makers are those of the loops that are on, in the order of their names.
func makers(cfg Config) []maker {
	on := app.ControllerContext{ComponentConfig: cfg.Loops}
	var all []maker
	for name, d := range app.NewControllerDescriptors() {
		switch {
		case !on.IsControllerEnabled(d) && !joins(cfg.Loops, name), d.IsCloudProviderController():
			continue
		case name == names.ClusterRoleAggregationController:
			continue // the server does it, also where nothing runs beside it
		case name == names.ServiceAccountTokenController:
			if cfg.Tokens != nil {
				all = append(all, maker{name, tokens(cfg)})
			}
		case name == names.CertificateSigningRequestSigningController && cfg.Signing != nil && !signers(cfg.Loops.CSRSigningController):
			all = append(all, maker{name, signs(cfg.Signing)})
		case name == names.CertificateSigningRequestApprovingController:
			all = append(all, maker{name, approves(cfg.Own, cfg.Log)})
		case name == names.ValidatingAdmissionPolicyStatusController:
			all = append(all, maker{name, policies})
		default:
			all = append(all, maker{name, d.BuildController})
		}
	}
	if controllermanager.IsControllerEnabled(PodNetworks, sets.NewString(), cfg.Loops.Generic.Controllers) {
		all = append(all, maker{PodNetworks, publishesPodNetworks(cfg.Log)})
	}
	slices.SortFunc(all, func(a, b maker) int { return strings.Compare(a.name, b.name) })
	return all
}

// joins tells of the two loops by which nodes join that they are on: kube-controller-manager has them off by default, and kubeadm turns
// them on.
func joins(c config.KubeControllerManagerConfiguration, name string) bool {
	return (name == names.BootstrapSignerController || name == names.TokenCleanerController) &&
		controllermanager.IsControllerEnabled(name, sets.NewString(), c.Generic.Controllers)
}
