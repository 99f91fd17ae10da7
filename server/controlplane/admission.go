package controlplane

import (
	"sync"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	upstream "k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/util/webhook"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/rest"

	"github.com/rowlock-io/rowlock/admission"
)

// newAdmission builds the chain that writes pass.
func (c *ControlPlane) newAdmission() (upstream.Interface, error) {
	return admission.New(admission.Config{
		Options: c.cfg.Admission,
		Client:  c.clients.kube, Dynamic: c.clients.dynamic, Informers: c.informers, Mapper: mapperOf(c.catalogue, &c.kinds),
		Authorizer: c.access.authorizer, Done: c.stopped,
		Count: func(resource string) int { return c.backend.Cache.Snapshot(resource).Len() },
		Start: c.late.start, Webhooks: c.tracedWebhooks(), Services: c.backends.services,
	})
}

// tracedWebhooks has calls of webhooks belong to the trace of the request that they are made for.
func (c *ControlPlane) tracedWebhooks() webhook.AuthenticationInfoResolverWrapper {
	return func(delegate webhook.AuthenticationInfoResolver) webhook.AuthenticationInfoResolver {
		delegate = c.backends.webhooks(delegate)
		if c.cfg.Record.Tracer == nil {
			return delegate
		}
		traced := func(cfg *rest.Config, err error) (*rest.Config, error) {
			if err == nil {
				c.cfg.Record.client(cfg)
			}
			return cfg, err
		}
		return &webhook.AuthenticationInfoResolverDelegator{
			ClientConfigForFunc: func(hostPort string) (*rest.Config, error) { return traced(delegate.ClientConfigFor(hostPort)) },
			ClientConfigForServiceFunc: func(name, namespace string, port int) (*rest.Config, error) {
				return traced(delegate.ClientConfigForService(name, namespace, port))
			},
		}
	}
}

// lateInformers starts informers that somebody asked for while the cluster was running.
type lateInformers struct {
	mu      sync.Mutex
	stop    <-chan struct{} // ends the running cluster; nil before it runs
	factory informers.SharedInformerFactory
}

// run tells that the factory was started.
func (l *lateInformers) run(stop <-chan struct{}, factory informers.SharedInformerFactory) {
	l.mu.Lock()
	l.stop, l.factory = stop, factory
	l.mu.Unlock()
	l.start() // what was asked for in between
}

// start starts what the factory was asked for since. Before the cluster runs there is nothing to do: it will start all.
func (l *lateInformers) start() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stop != nil {
		l.factory.Start(l.stop)
	}
}

// newEquivalents knows which resources of different groups are the same objects, as upstream tells by their place in
// etcd: a webhook for one of them is called for the other.
func newEquivalents() runtime.EquivalentResourceRegistry {
	return runtime.NewEquivalentResourceRegistryWithIdentity(func(r schema.GroupResource) string {
		if r.Resource == "events" && (r.Group == "" || r.Group == "events.k8s.io") {
			return "events"
		}
		return "" // only versions of one group
	})
}
