// Package controllers runs upstream's control loops, those of kube-controller-manager, as parts of another process: with
// the clients and informers that it is given, and without a server, certificates or tokens of its own.
package controllers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/controller-manager/pkg/clientbuilder"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/cmd/kube-controller-manager/app"
	"k8s.io/kubernetes/cmd/kube-controller-manager/names"
	"k8s.io/kubernetes/pkg/controller/apis/config"
	"k8s.io/kubernetes/pkg/serviceaccount"
)

// Config is what the loops of one cluster need.
type Config struct {
	// Loops says which run and how; see Options.
	Loops config.KubeControllerManagerConfiguration
	// Clients gives each loop a client of its own name; Root's may do everything.
	Clients, Root clientbuilder.ControllerClientBuilder
	// Informers are the loops' own: they are started and stopped with them.
	Informers informers.SharedInformerFactory
	Metadata  metadatainformer.SharedInformerFactory
	// Tokens signs the tokens of Secrets that ask for one; nil: they get none.
	Tokens serviceaccount.TokenGenerator
	// RootCA is published in each namespace, PEM.
	RootCA []byte
	// SigningCert and SigningKey answer certificate signing requests, PEM; nil: nobody answers.
	SigningCert, SigningKey []byte
	Log                     *slog.Logger
}

// Run runs the loops until ctx ends. A loop that panics or stops early is started again, and the others go on.
func Run(ctx context.Context, cfg Config) error {
	ctx = klog.NewContext(ctx, logr.FromSlogHandler(cfg.Log.Handler()))
	files, err := secretFiles(map[string][]byte{"root-ca": cfg.RootCA, "signing-cert": cfg.SigningCert, "signing-key": cfg.SigningKey})
	if err != nil {
		return fmt.Errorf("controllers: %w", err)
	}
	defer files.close()
	cfg.Loops.SAController.RootCAFile = files.path("root-ca")
	cfg.Loops.CSRSigningController.ClusterSigningCertFile = files.path("signing-cert")
	cfg.Loops.CSRSigningController.ClusterSigningKeyFile = files.path("signing-key")

	inside, err := newContext(ctx, cfg)
	if err != nil {
		return fmt.Errorf("controllers: %w", err)
	}
	var loops []*loop
	for _, make := range makers(cfg, inside) {
		l := &loop{maker: make, log: cfg.Log}
		if err := l.make(ctx, inside); err != nil {
			return fmt.Errorf("controller %s: %w", make.name, err)
		}
		if l.controller != nil {
			loops = append(loops, l)
		}
	}
	cfg.Informers.Start(ctx.Done())
	cfg.Metadata.Start(ctx.Done())
	close(inside.InformersStarted)
	defer cfg.Informers.Shutdown()
	defer cfg.Metadata.Shutdown()
	var g errgroup.Group
	for _, l := range loops {
		g.Go(func() error { l.run(ctx, inside); return nil })
	}
	return g.Wait()
}

// maker makes a loop.
type maker struct {
	name string
	make func(context.Context, app.ControllerContext) (app.Controller, error)
}

// makers are those of the loops that are on, in the order of their names.
func makers(cfg Config, inside app.ControllerContext) []maker {
	var all []maker
	for name, d := range app.NewControllerDescriptors() {
		switch {
		case !inside.IsControllerEnabled(d):
			continue
		case name == names.ServiceAccountTokenController:
			if cfg.Tokens != nil {
				all = append(all, maker{name, tokens(cfg)})
			}
		default:
			all = append(all, maker{name, d.BuildController})
		}
	}
	slices.SortFunc(all, func(a, b maker) int {
		if a.name < b.name {
			return -1
		}
		return 1
	})
	return all
}

// loop is one controller, made again when it ended too early.
type loop struct {
	maker
	controller app.Controller
	log        *slog.Logger
}

func (l *loop) make(ctx context.Context, inside app.ControllerContext) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	l.controller, err = l.maker.make(ctx, inside)
	return err
}

func (l *loop) run(ctx context.Context, inside app.ControllerContext) {
	backoff := wait.Backoff{Duration: time.Second, Factor: 2, Jitter: 0.2, Steps: 10, Cap: 5 * time.Minute}
	for {
		err := l.runOnce(ctx)
		if ctx.Err() != nil {
			return
		}
		after := backoff.Step()
		l.log.Error("Controller stopped and is started again", "controller", l.name, "err", err, "after", after)
		select {
		case <-time.After(after):
		case <-ctx.Done():
			return
		}
		if err := l.make(ctx, inside); err != nil {
			l.log.Error("Controller could not be made", "controller", l.name, "err", err)
		}
	}
}

var errEnded = errors.New("it ended by itself")

func (l *loop) runOnce(ctx context.Context) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	l.controller.Run(ctx)
	return errEnded
}
