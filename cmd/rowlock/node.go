package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/rowlock-io/rowlock/agents/node"
	"github.com/rowlock-io/rowlock/agents/node/join"
	"github.com/rowlock-io/rowlock/schema"
)

// run joins the cluster, and is the node until ctx ends.
func (o *nodeOptions) run(ctx context.Context, place nodePlace, log *slog.Logger) error {
	cfg, err := o.config(place, log)
	if err != nil {
		return err
	}
	cfg.Metrics = prometheus.NewRegistry()
	place.Join.Metrics = cfg.Metrics
	member, err := join.Join(ctx, place.Join)
	if err != nil {
		return err
	}
	cfg.API = member.Config()
	cfg.Serving = func(ctx context.Context, client kubernetes.Interface, addresses func() []corev1.NodeAddress) (func(*tls.ClientHelloInfo) (*tls.Certificate, error), error) {
		serving, err := member.Serving(ctx, client, addresses)
		if err != nil {
			return nil, err
		}
		return serving.GetCertificate, nil
	}
	cfg.Authority = func() (*x509.CertPool, error) {
		bundle, err := member.Authority()
		if err != nil {
			return nil, err
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(bundle) {
			return nil, errors.New("no certificate in the cluster's authority")
		}
		return pool, nil
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return member.Run(ctx) })
	g.Go(func() error { return node.Run(ctx, cfg) })
	if err := g.Wait(); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// config is what the flags say of the node.
func (o *nodeOptions) config(place nodePlace, log *slog.Logger) (node.Config, error) {
	reserved, err := o.reserved()
	if err != nil {
		return node.Config{}, err
	}
	name, err := o.name()
	if err != nil {
		return node.Config{}, err
	}
	cfg := node.Config{
		Name: name, DataDir: place.Dir, Runtime: place.Endpoint, Addresses: o.split(), Labels: o.labels, Taints: o.taints,
		ProviderID: o.providerID, MaxPods: o.maxPods, PodsPerCore: o.podsPerCore, Reserved: reserved, Version: schema.Version,
		Flags: place.Flags, SetVerbosity: place.Verbosity, Log: log,
	}
	err = o.pods.complete(&cfg)
	return cfg, err
}
