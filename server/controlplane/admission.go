package controlplane

import (
	"sync"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	upstream "k8s.io/apiserver/pkg/admission"
	"k8s.io/client-go/informers"

	"github.com/rowlock-io/rowlock/admission"
)

// newAdmission builds the chain that writes pass.
func (c *ControlPlane) newAdmission() (upstream.Interface, error) {
	return admission.New(admission.Config{
		Options: c.cfg.Admission,
		Client:  c.clients.kube, Dynamic: c.clients.dynamic, Informers: c.informers, Mapper: mapperOf(c.catalogue, &c.kinds),
		Authorizer: c.access.authorizer, Done: c.stopped,
		Count: func(resource string) int { return c.backend.Cache.Snapshot(resource).Len() },
		Start: c.late.start, Webhooks: c.backends.webhooks, Services: c.backends.services,
	})
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
