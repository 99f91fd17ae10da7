package aggregation

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	proxyutil "k8s.io/apiserver/pkg/util/proxy"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	toolscache "k8s.io/client-go/tools/cache"
	apiregistration "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	"k8s.io/kube-aggregator/pkg/apis/apiregistration/v1/helper"
	aggregator "k8s.io/kube-aggregator/pkg/client/clientset_generated/clientset"
	"k8s.io/kube-aggregator/pkg/client/informers/externalversions"
	listers "k8s.io/kube-aggregator/pkg/client/listers/apiregistration/v1"

	"github.com/rowlock-io/rowlock/schema/openapi"
	"github.com/rowlock-io/rowlock/server/discovery"
	"github.com/rowlock-io/rowlock/server/outbound"
	"github.com/rowlock-io/rowlock/server/pki"
)

// Config is what the aggregation of one cluster works with.
type Config struct {
	Client     aggregator.Interface // of the cluster's own API, in process
	Kube       kubernetes.Interface
	Services   corelisters.ServiceLister
	Dialer     *outbound.Dialer
	Dial       outbound.ServiceDial // in the place of Dialer's; nil: that
	Resolver   outbound.Resolver
	Slices     proxyutil.EndpointSliceGetter
	FrontProxy *pki.Authority
	Discovery  *discovery.Documents
	OpenAPI    *openapi.Service
	Metrics    *Metrics // nil: none
	Log        *slog.Logger
}

// Aggregator knows the APIServices of one cluster.
type Aggregator struct {
	cfg         Config
	certificate *certificate
	informers   externalversions.SharedInformerFactory
	services    listers.APIServiceLister
	wake        chan struct{}
	synced      chan struct{} // closed when all APIServices are known

	remote   atomic.Pointer[table] // nil: none
	backends sync.WaitGroup        // their goroutines

	room       *room
	publishing sync.Mutex // held while discovery is made

	mu     sync.Mutex
	custom map[schema.GroupVersion]bool // nil: not known yet
}

// table finds backends; it is not changed.
type table map[schema.GroupVersion]*backend

// New returns an aggregator that Run makes work.
func New(cfg Config) *Aggregator {
	a := &Aggregator{
		cfg: cfg, certificate: &certificate{authority: cfg.FrontProxy, now: time.Now},
		wake: make(chan struct{}, 1), synced: make(chan struct{}), room: newRoom(),
		informers: externalversions.NewSharedInformerFactoryWithOptions(cfg.Client, 0, externalversions.WithTransform(slim)),
	}
	informer := a.informers.Apiregistration().V1().APIServices()
	a.services = informer.Lister()
	_, _ = informer.Informer().AddEventHandler(toolscache.ResourceEventHandlerFuncs{ // fails only on a stopped informer
		AddFunc: func(any) { a.poke() }, UpdateFunc: func(any, any) { a.poke() }, DeleteFunc: func(any) { a.poke() },
	})
	return a
}

// slim drops what nobody here reads. An update without it leaves it as it is.
func slim(obj any) (any, error) {
	if s, ok := obj.(*apiregistration.APIService); ok {
		s.ManagedFields = nil
	}
	return obj, nil
}

// Synced is closed when all APIServices are known: before that, a path that nobody serves may be somebody's yet.
func (a *Aggregator) Synced() <-chan struct{} { return a.synced }

// Find returns the handler of /apis/<group>/<path> if that is another server's; nil when it is not.
func (a *Aggregator) Find(group, path string) http.Handler {
	remote := a.remote.Load()
	if remote == nil {
		return nil
	}
	version, _, _ := strings.Cut(path, "/")
	if b := (*remote)[schema.GroupVersion{Group: group, Version: version}]; b != nil {
		return b
	}
	return nil
}

func (a *Aggregator) poke() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// Run works until ctx ends.
func (a *Aggregator) Run(ctx context.Context) error {
	a.informers.StartWithContext(ctx)
	defer a.informers.Shutdown()
	defer a.backends.Wait()
	informer := a.informers.Apiregistration().V1().APIServices().Informer()
	select { // looking from time to time, as upstream's helper does, would be a third of a start
	case <-informer.HasSyncedChecker().Done():
	case <-ctx.Done():
		return nil
	}
	retry := time.NewTimer(0)
	defer retry.Stop()
	wait := firstRetry
	var counted map[string]bool
	for first := true; ; first = false {
		if !first {
			select {
			case <-ctx.Done():
				return nil
			case <-a.wake:
			case <-retry.C:
			}
		}
		all, err := a.services.List(labels.Everything())
		if err == nil {
			a.route(ctx, all)
			counted = a.cfg.Metrics.gauges(all, counted)
			if first {
				close(a.synced)
			}
			err = a.keep(ctx, all)
		}
		if err == nil || ctx.Err() != nil {
			wait = firstRetry
			continue
		}
		a.cfg.Log.Warn("APIServices could not be kept and are tried again", "err", err, "after", wait)
		retry.Reset(wait)
		wait = min(2*wait, lastRetry)
	}
}

// Between tries after failures.
const (
	firstRetry = 100 * time.Millisecond
	lastRetry  = 30 * time.Second
)

// route makes the table of what is served elsewhere, starts what is new in it, and stops what is gone.
func (a *Aggregator) route(ctx context.Context, all []*apiregistration.APIService) {
	var old table
	if t := a.remote.Load(); t != nil {
		old = *t
	}
	now := table{}
	changed := false
	for _, service := range all {
		if service.Spec.Service == nil {
			continue
		}
		gv := schema.GroupVersion{Group: service.Spec.Group, Version: service.Spec.Version}
		b := old[gv]
		if b == nil || b.uid != service.UID || !equality.Semantic.DeepEqual(b.spec, service.Spec) {
			next := newBackend(a, service)
			if b != nil {
				next.describe = next.version(*b.described().Aggregated)
			}
			b, changed = next, true
		}
		b.available.Store(helper.IsAPIServiceConditionTrue(service, apiregistration.Available))
		now[gv] = b
	}
	for gv, b := range old {
		if now[gv] != b {
			changed = true
			b.cancel()
		}
	}
	if !changed {
		return
	}
	started := []*backend{}
	for gv, b := range now {
		if old[gv] != b {
			started = append(started, b)
		}
	}
	if len(now) == 0 {
		a.remote.Store(nil)
	} else {
		a.remote.Store(&now)
	}
	for gv, b := range old {
		if now[gv] == nil {
			a.forget(b)
		}
	}
	a.publish()
	for _, b := range started {
		ctx, cancel := context.WithCancel(ctx)
		b.cancel = cancel
		a.backends.Go(func() {
			defer b.close()
			b.run(ctx)
		})
	}
}
