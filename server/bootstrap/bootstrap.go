// Package bootstrap makes the objects that every cluster has from its first moment, as kube-apiserver makes them: system
// namespaces, the `kubernetes` Service and its range, priority classes, flow control, APIServices and what clients read
// to trust the server. Every step may run on several replicas at once and again at any time.
package bootstrap

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	aggregator "k8s.io/kube-aggregator/pkg/client/clientset_generated/clientset"
	schedulingv1 "k8s.io/kubernetes/pkg/apis/scheduling/v1"

	"github.com/rowlock-io/rowlock/schema/adapter"
	"github.com/rowlock-io/rowlock/schema/catalogue"
)

// Config is what the steps work with.
type Config struct {
	Client     kubernetes.Interface // in process, unlimited
	Aggregator aggregator.Interface
	Informers  informers.SharedInformerFactory // started
	Catalogue  *catalogue.Catalogue
	RBAC       func(ctx context.Context, client kubernetes.Interface) error // roles and bindings

	First        *adapter.First // nil: every write waits for the disk
	ServiceRange net.IPNet      // of cluster IPs; its first address is the `kubernetes` Service
	Service      *Service
	Trust        Trust
	Joining      Joining
	Log          *slog.Logger
}

// Ensure makes what is missing and returns when all of it is there.
func Ensure(ctx context.Context, cfg Config) error {
	tracked, err := tracksTokens(ctx, cfg)
	if err != nil {
		return err
	}
	if tracked {
		return steps(ctx, cfg)
	}
	if cfg.First != nil {
		cfg.First.Set(true)
		defer cfg.First.Set(false)
	}
	if err := steps(ctx, cfg); err != nil {
		return err
	}
	if cfg.First != nil {
		cfg.First.Set(false)
	}
	return trackTokens(ctx, cfg) // the last one, for which the disk is waited for
}

func steps(ctx context.Context, cfg Config) error {
	if err := namespaces(ctx, cfg); err != nil {
		return err // the steps below make objects in them
	}
	all := map[string]func(context.Context, Config) error{
		"roles":                  func(ctx context.Context, cfg Config) error { return cfg.RBAC(ctx, cfg.Client) },
		"flow control":           flowControl,
		"priority classes":       priorityClasses,
		"API services":           apiServices,
		"trust":                  trust,
		"joining":                joining,
		"the kubernetes service": kubernetesService,
	}
	g, ctx := errgroup.WithContext(ctx)
	for name, step := range all {
		g.Go(func() error {
			if err := step(ctx, cfg); err != nil {
				return fmt.Errorf("bootstrap %s: %w", name, err)
			}
			return nil
		})
	}
	return g.Wait()
}

// Inform asks for the informers that the steps read; call it before they start.
func (cfg Config) Inform() {
	cfg.Informers.Core().V1().Namespaces().Informer()
	cfg.Informers.Core().V1().Services().Informer()
	cfg.Informers.Flowcontrol().V1().FlowSchemas().Informer()
	cfg.Informers.Flowcontrol().V1().PriorityLevelConfigurations().Informer()
}

// How often what users may have broken is mended, as upstream does it.
const (
	mendInterval    = time.Minute
	serviceInterval = 10 * time.Second
)

// Run keeps the objects there until ctx ends.
func Run(ctx context.Context, cfg Config) error {
	mend, service := time.NewTicker(mendInterval), time.NewTicker(serviceInterval)
	defer mend.Stop()
	defer service.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case <-mend.C:
			if err = namespaces(ctx, cfg); err == nil {
				err = flowControl(ctx, cfg)
			}
		case <-service.C:
			err = cfg.Service.reconcile()
		}
		if err != nil && ctx.Err() == nil {
			cfg.Log.Warn("Mending of bootstrap objects failed", "err", err)
		}
	}
}

var systemNamespaces = []string{metav1.NamespaceDefault, metav1.NamespaceSystem, metav1.NamespacePublic, corev1.NamespaceNodeLease}

func namespaces(ctx context.Context, cfg Config) error {
	lister := cfg.Informers.Core().V1().Namespaces().Lister()
	g, ctx := errgroup.WithContext(ctx)
	for _, name := range systemNamespaces {
		if _, err := lister.Get(name); err == nil {
			continue
		}
		g.Go(func() error {
			ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
			_, err := cfg.Client.CoreV1().Namespaces().Create(ctx, ns, metav1.CreateOptions{})
			if err != nil && !apierrors.IsAlreadyExists(err) {
				return fmt.Errorf("bootstrap namespace %s: %w", name, err)
			}
			return nil
		})
	}
	return g.Wait()
}

func priorityClasses(ctx context.Context, cfg Config) error {
	classes := cfg.Client.SchedulingV1().PriorityClasses()
	for _, pc := range schedulingv1.SystemPriorityClasses() {
		_, err := classes.Get(ctx, pc.Name, metav1.GetOptions{ResourceVersion: "0"})
		if apierrors.IsNotFound(err) {
			_, err = classes.Create(ctx, pc, metav1.CreateOptions{})
		}
		if err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("%s: %w", pc.Name, err)
		}
	}
	return nil
}

// tokenTracking is the ConfigMap that says since when uses of legacy service-account tokens are tracked (KEP-2799).
const tokenTracking = "kube-apiserver-legacy-service-account-token-tracking"

func tracksTokens(ctx context.Context, cfg Config) (bool, error) {
	_, err := cfg.Client.CoreV1().ConfigMaps(metav1.NamespaceSystem).Get(ctx, tokenTracking, metav1.GetOptions{ResourceVersion: "0"})
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("bootstrap token tracking: %w", err)
	}
	return true, nil
}

func trackTokens(ctx context.Context, cfg Config) error {
	cm := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: tokenTracking},
		Data:       map[string]string{"since": time.Now().UTC().Format(time.DateOnly)},
	}
	_, err := cfg.Client.CoreV1().ConfigMaps(cm.Namespace).Create(ctx, cm, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("bootstrap token tracking: %w", err)
	}
	return nil
}
