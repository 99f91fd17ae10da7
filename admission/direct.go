package admission

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	upstream "k8s.io/apiserver/pkg/admission"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/informers/core"
	corev1informers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/informers/storage"
	storagev1informers "k8s.io/client-go/informers/storage/v1"
	"k8s.io/client-go/kubernetes"
	corev1listers "k8s.io/client-go/listers/core/v1"
	storagev1listers "k8s.io/client-go/listers/storage/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/kubernetes/plugin/pkg/admission/noderestriction"
	"k8s.io/kubernetes/plugin/pkg/admission/security/podsecurity"
)

// seldom initializes apart from the others the plug-ins that look at pods, nodes and volumes seldom: NodeRestriction asks
// for single objects when a node writes, PodSecurity lists the pods of a namespace when its labels change. They get listers
// that read at that moment: informers would keep all pods and volumes of the cluster, and decode them at the start.
type seldom struct {
	direct, others upstream.PluginInitializer // whose informers are directInformers, or those of all
}

// Initialize implements upstream.PluginInitializer.
func (s seldom) Initialize(plugin upstream.Interface) {
	switch plugin.(type) {
	case *noderestriction.Plugin, *podsecurity.Plugin:
		s.direct.Initialize(plugin)
	default:
		s.others.Initialize(plugin)
	}
}

// directInformers hands out listers that read through the client where there are some here, and informers of the factory for
// other kinds. Quotas have them as well, since they ask for the pod of a resource claim.
type directInformers struct {
	informers.SharedInformerFactory
	client kubernetes.Interface
}

type (
	directCore struct {
		core.Interface
		client kubernetes.Interface
	}
	directCoreV1 struct {
		corev1informers.Interface
		client kubernetes.Interface
	}
	directStorage struct {
		storage.Interface
		client kubernetes.Interface
	}
	directStorageV1 struct {
		storagev1informers.Interface
		client kubernetes.Interface
	}
)

func (d directInformers) Core() core.Interface {
	return directCore{d.SharedInformerFactory.Core(), d.client}
}

func (d directInformers) Storage() storage.Interface {
	return directStorage{d.SharedInformerFactory.Storage(), d.client}
}

func (d directCore) V1() corev1informers.Interface {
	return directCoreV1{d.Interface.V1(), d.client}
}

func (d directStorage) V1() storagev1informers.Interface {
	return directStorageV1{d.Interface.V1(), d.client}
}

func (d directCoreV1) Pods() corev1informers.PodInformer {
	one := corev1listers.NewPodLister(reads(func(namespace string) getter[*corev1.Pod] { return d.client.CoreV1().Pods(namespace).Get }))
	return onlyLists[corev1listers.PodLister]{pods{one, d.client}}
}

func (d directCoreV1) Nodes() corev1informers.NodeInformer {
	return onlyLists[corev1listers.NodeLister]{corev1listers.NewNodeLister(reads(func(string) getter[*corev1.Node] {
		return d.client.CoreV1().Nodes().Get
	}))}
}

func (d directCoreV1) ServiceAccounts() corev1informers.ServiceAccountInformer {
	return onlyLists[corev1listers.ServiceAccountLister]{corev1listers.NewServiceAccountLister(reads(func(namespace string) getter[*corev1.ServiceAccount] {
		return d.client.CoreV1().ServiceAccounts(namespace).Get
	}))}
}

func (d directCoreV1) PersistentVolumeClaims() corev1informers.PersistentVolumeClaimInformer {
	return onlyLists[corev1listers.PersistentVolumeClaimLister]{corev1listers.NewPersistentVolumeClaimLister(reads(func(namespace string) getter[*corev1.PersistentVolumeClaim] {
		return d.client.CoreV1().PersistentVolumeClaims(namespace).Get
	}))}
}

func (d directCoreV1) PersistentVolumes() corev1informers.PersistentVolumeInformer {
	return onlyLists[corev1listers.PersistentVolumeLister]{corev1listers.NewPersistentVolumeLister(reads(func(string) getter[*corev1.PersistentVolume] {
		return d.client.CoreV1().PersistentVolumes().Get
	}))}
}

func (d directStorageV1) CSIDrivers() storagev1informers.CSIDriverInformer {
	return onlyLists[storagev1listers.CSIDriverLister]{storagev1listers.NewCSIDriverLister(reads(func(string) getter[*storagev1.CSIDriver] {
		return d.client.StorageV1().CSIDrivers().Get
	}))}
}

// onlyLists is an informer that has nothing but its lister.
type onlyLists[L any] struct{ lister L }

// Informer is of the interface, and nobody calls it.
func (o onlyLists[L]) Informer() cache.SharedIndexInformer { return nil }
func (o onlyLists[L]) Lister() L                           { return o.lister }

type getter[T any] func(context.Context, string, metav1.GetOptions) (T, error)

// readTimeout bounds a look into what the replica knows.
const readTimeout = 10 * time.Second

// asKnown has a read answered with what the replica knows, which is at least as new as what an informer would.
const asKnown = "0"

// single is an indexer that gets objects by their keys, which is all that a lister's Get asks of it.
type single[T any] struct {
	cache.Indexer
	get func(namespace string) getter[T]
}

func reads[T any](get func(namespace string) getter[T]) single[T] { return single[T]{get: get} }

// GetByKey implements cache.Store.
func (s single[T]) GetByKey(key string) (any, bool, error) {
	namespace, name, err := cache.SplitMetaNamespaceKey(key)
	if err != nil {
		return nil, false, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), readTimeout)
	defer cancel()
	obj, err := s.get(namespace)(ctx, name, metav1.GetOptions{ResourceVersion: asKnown})
	if err != nil {
		return nil, false, err
	}
	return obj, true, nil
}

// pods can be listed, too: in one namespace.
type pods struct {
	corev1listers.PodLister
	client kubernetes.Interface
}

type podsIn struct {
	corev1listers.PodNamespaceLister
	client    kubernetes.Interface
	namespace string
}

func (p pods) Pods(namespace string) corev1listers.PodNamespaceLister {
	return podsIn{p.PodLister.Pods(namespace), p.client, namespace}
}

func (p podsIn) List(selector labels.Selector) ([]*corev1.Pod, error) {
	ctx, cancel := context.WithTimeout(context.Background(), readTimeout)
	defer cancel()
	list, err := p.client.CoreV1().Pods(p.namespace).List(ctx, metav1.ListOptions{LabelSelector: selector.String(), ResourceVersion: asKnown})
	if err != nil {
		return nil, err
	}
	found := make([]*corev1.Pod, len(list.Items))
	for i := range list.Items {
		found[i] = &list.Items[i]
	}
	return found, nil
}
