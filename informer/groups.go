// Package informer gives informer factories that make their informers in a way of their own upstream's typed groups.
package informer

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers/admissionregistration"
	"k8s.io/client-go/informers/apiserverinternal"
	"k8s.io/client-go/informers/apps"
	"k8s.io/client-go/informers/autoscaling"
	"k8s.io/client-go/informers/batch"
	"k8s.io/client-go/informers/certificates"
	"k8s.io/client-go/informers/coordination"
	"k8s.io/client-go/informers/core"
	"k8s.io/client-go/informers/discovery"
	"k8s.io/client-go/informers/events"
	"k8s.io/client-go/informers/extensions"
	"k8s.io/client-go/informers/flowcontrol"
	"k8s.io/client-go/informers/internalinterfaces"
	"k8s.io/client-go/informers/networking"
	"k8s.io/client-go/informers/node"
	"k8s.io/client-go/informers/policy"
	"k8s.io/client-go/informers/rbac"
	"k8s.io/client-go/informers/resource"
	"k8s.io/client-go/informers/scheduling"
	"k8s.io/client-go/informers/storage"
	"k8s.io/client-go/informers/storagemigration"
)

// Groups are the typed groups of client-go's informers, made by Factory. A factory embeds it, above client-go's own factory
// whose groups it takes the place of.
type Groups struct {
	Factory internalinterfaces.SharedInformerFactory
}

const all = metav1.NamespaceAll

func (g Groups) Admissionregistration() admissionregistration.Interface {
	return admissionregistration.New(g.Factory, all, nil)
}

func (g Groups) Internal() apiserverinternal.Interface {
	return apiserverinternal.New(g.Factory, all, nil)
}

func (g Groups) Apps() apps.Interface { return apps.New(g.Factory, all, nil) }

func (g Groups) Autoscaling() autoscaling.Interface { return autoscaling.New(g.Factory, all, nil) }

func (g Groups) Batch() batch.Interface { return batch.New(g.Factory, all, nil) }

func (g Groups) Certificates() certificates.Interface { return certificates.New(g.Factory, all, nil) }

func (g Groups) Coordination() coordination.Interface { return coordination.New(g.Factory, all, nil) }

func (g Groups) Core() core.Interface { return core.New(g.Factory, all, nil) }

func (g Groups) Discovery() discovery.Interface { return discovery.New(g.Factory, all, nil) }

func (g Groups) Events() events.Interface { return events.New(g.Factory, all, nil) }

func (g Groups) Extensions() extensions.Interface { return extensions.New(g.Factory, all, nil) }

func (g Groups) Flowcontrol() flowcontrol.Interface { return flowcontrol.New(g.Factory, all, nil) }

func (g Groups) Networking() networking.Interface { return networking.New(g.Factory, all, nil) }

func (g Groups) Node() node.Interface { return node.New(g.Factory, all, nil) }

func (g Groups) Policy() policy.Interface { return policy.New(g.Factory, all, nil) }

func (g Groups) Rbac() rbac.Interface { return rbac.New(g.Factory, all, nil) }

func (g Groups) Resource() resource.Interface { return resource.New(g.Factory, all, nil) }

func (g Groups) Scheduling() scheduling.Interface { return scheduling.New(g.Factory, all, nil) }

func (g Groups) Storage() storage.Interface { return storage.New(g.Factory, all, nil) }

func (g Groups) Storagemigration() storagemigration.Interface {
	return storagemigration.New(g.Factory, all, nil)
}
