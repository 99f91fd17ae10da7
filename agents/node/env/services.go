package env

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
)

// Services watches all services that have an address of their own. Of each only what variables are made of is kept.
type Services struct {
	informer cache.SharedIndexInformer
	lister   corelisters.ServiceLister
}

// NewServices returns one that knows nothing until it runs.
func NewServices(client kubernetes.Interface) (*Services, error) {
	headful := fields.OneTermNotEqualSelector("spec.clusterIP", corev1.ClusterIPNone).String()
	informer := coreinformers.NewFilteredServiceInformer(client, metav1.NamespaceAll, 0,
		cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc},
		func(o *metav1.ListOptions) { o.FieldSelector = headful })
	if err := informer.SetTransform(trimmed); err != nil {
		return nil, err
	}
	return &Services{informer, corelisters.NewServiceLister(informer.GetIndexer())}, nil
}

// trimmed leaves of a service what variables are made of.
func trimmed(object any) (any, error) {
	s, ok := object.(*corev1.Service)
	if !ok { // one whose end was missed
		return object, nil
	}
	out := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: s.Name, UID: s.UID, ResourceVersion: s.ResourceVersion}}
	out.Spec.ClusterIP = s.Spec.ClusterIP
	for _, p := range s.Spec.Ports {
		out.Spec.Ports = append(out.Spec.Ports, corev1.ServicePort{Name: p.Name, Protocol: p.Protocol, Port: p.Port})
	}
	return out, nil
}

// Run watches until the context ends.
func (s *Services) Run(ctx context.Context) { s.informer.RunWithContext(ctx) }

// Services are those of a namespace; false: they were not read yet.
func (s *Services) Services(namespace string) ([]*corev1.Service, bool) {
	known := s.informer.HasSynced()
	list, err := s.lister.Services(namespace).List(labels.Everything())
	return list, known && err == nil
}
