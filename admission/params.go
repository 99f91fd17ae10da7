package admission

import (
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
)

// paramInformers gives each kind of policy parameters an informer of its own. Upstream takes it from the shared factory and
// stops it when no policy has such parameters any more; a factory never starts a stopped informer again, so that the next
// policy would see the parameters of that day for ever. Everything else comes from the shared factory.
//
// A policy source asks for an informer and then starts the factory, under one lock.
type paramInformers struct {
	informers.SharedInformerFactory
	client kubernetes.Interface
	asked  informers.SharedInformerFactory // not started yet
}

// ForResource is what only policy sources call, for parameters.
func (p *paramInformers) ForResource(gvr schema.GroupVersionResource) (informers.GenericInformer, error) {
	own := informers.NewSharedInformerFactory(p.client, 0)
	informer, err := own.ForResource(gvr)
	if err != nil {
		return nil, err // not a built-in kind: upstream watches it dynamically
	}
	informer.Informer() // the factory knows what to start
	p.asked = own
	return informer, nil
}

// Start starts the informer that was asked for last.
func (p *paramInformers) Start(stop <-chan struct{}) {
	if p.asked != nil {
		p.asked.Start(stop)
		p.asked = nil
	}
}
