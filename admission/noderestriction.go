package admission

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	upstream "k8s.io/apiserver/pkg/admission"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/informers/core"
	corev1informers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/informers/storage"
	storagev1informers "k8s.io/client-go/informers/storage/v1"
	"k8s.io/client-go/kubernetes"
	corev1listers "k8s.io/client-go/listers/core/v1"
	storagev1listers "k8s.io/client-go/listers/storage/v1"
	"k8s.io/kubernetes/plugin/pkg/admission/noderestriction"
)

// nodeRestriction initializes the plug-in NodeRestriction apart from the others. It asks for single objects, and only when
// a node writes, so it gets listers that read them then: informers would keep a copy of every pod and volume of the cluster.
type nodeRestriction struct {
	cfg    Config
	others upstream.PluginInitializer
}

// Initialize implements upstream.PluginInitializer.
func (n nodeRestriction) Initialize(plugin upstream.Interface) {
	p, ok := plugin.(*noderestriction.Plugin)
	if !ok {
		n.others.Initialize(plugin)
		return
	}
	p.InspectFeatureGates(utilfeature.DefaultFeatureGate)
	p.SetExternalKubeInformerFactory(directInformers{client: n.cfg.Client})
	p.SetAuthorizer(n.cfg.Authorizer)
}

// directInformers hands out listers that read through the client. They are all that NodeRestriction takes of a factory.
type directInformers struct {
	informers.SharedInformerFactory
	client kubernetes.Interface
}

func (d directInformers) Core() core.Interface       { return directCore{client: d.client} }
func (d directInformers) Storage() storage.Interface { return directStorage{client: d.client} }

type (
	directCore struct {
		core.Interface
		client kubernetes.Interface
	}
	directStorage struct {
		storage.Interface
		client kubernetes.Interface
	}
	directCoreV1 struct {
		corev1informers.Interface
		client kubernetes.Interface
	}
	directStorageV1 struct {
		storagev1informers.Interface
		client kubernetes.Interface
	}
)

func (d directCore) V1() corev1informers.Interface       { return directCoreV1{client: d.client} }
func (d directStorage) V1() storagev1informers.Interface { return directStorageV1{client: d.client} }

func (d directCoreV1) Pods() corev1informers.PodInformer { return podsOf{client: d.client} }

func (d directCoreV1) Nodes() corev1informers.NodeInformer { return nodesOf{client: d.client} }

func (d directCoreV1) ServiceAccounts() corev1informers.ServiceAccountInformer {
	return accountsOf{client: d.client}
}

func (d directCoreV1) PersistentVolumeClaims() corev1informers.PersistentVolumeClaimInformer {
	return claimsOf{client: d.client}
}

func (d directCoreV1) PersistentVolumes() corev1informers.PersistentVolumeInformer {
	return volumesOf{client: d.client}
}

func (d directStorageV1) CSIDrivers() storagev1informers.CSIDriverInformer {
	return driversOf{client: d.client}
}

// The informers have nothing but a lister.
type (
	podsOf struct {
		corev1informers.PodInformer
		client kubernetes.Interface
	}
	nodesOf struct {
		corev1informers.NodeInformer
		client kubernetes.Interface
	}
	accountsOf struct {
		corev1informers.ServiceAccountInformer
		client kubernetes.Interface
	}
	claimsOf struct {
		corev1informers.PersistentVolumeClaimInformer
		client kubernetes.Interface
	}
	volumesOf struct {
		corev1informers.PersistentVolumeInformer
		client kubernetes.Interface
	}
	driversOf struct {
		storagev1informers.CSIDriverInformer
		client kubernetes.Interface
	}
)

func (o podsOf) Lister() corev1listers.PodLister { return pods{client: o.client} }

func (o nodesOf) Lister() corev1listers.NodeLister { return nodes{client: o.client} }

func (o accountsOf) Lister() corev1listers.ServiceAccountLister { return accounts{client: o.client} }

func (o claimsOf) Lister() corev1listers.PersistentVolumeClaimLister { return claims{client: o.client} }

func (o volumesOf) Lister() corev1listers.PersistentVolumeLister { return volumes{client: o.client} }

func (o driversOf) Lister() storagev1listers.CSIDriverLister { return drivers{client: o.client} }

// The listers get by name and cannot list.
type (
	pods struct {
		corev1listers.PodLister
		client kubernetes.Interface
	}
	accounts struct {
		corev1listers.ServiceAccountLister
		client kubernetes.Interface
	}
	claims struct {
		corev1listers.PersistentVolumeClaimLister
		client kubernetes.Interface
	}
	nodes struct {
		corev1listers.NodeLister
		client kubernetes.Interface
	}
	volumes struct {
		corev1listers.PersistentVolumeLister
		client kubernetes.Interface
	}
	drivers struct {
		storagev1listers.CSIDriverLister
		client kubernetes.Interface
	}
	podsIn struct {
		corev1listers.PodNamespaceLister
		get getter[*corev1.Pod]
	}
	accountsIn struct {
		corev1listers.ServiceAccountNamespaceLister
		get getter[*corev1.ServiceAccount]
	}
	claimsIn struct {
		corev1listers.PersistentVolumeClaimNamespaceLister
		get getter[*corev1.PersistentVolumeClaim]
	}
)

func (l pods) Pods(namespace string) corev1listers.PodNamespaceLister {
	return podsIn{get: l.client.CoreV1().Pods(namespace).Get}
}

func (l accounts) ServiceAccounts(namespace string) corev1listers.ServiceAccountNamespaceLister {
	return accountsIn{get: l.client.CoreV1().ServiceAccounts(namespace).Get}
}

func (l claims) PersistentVolumeClaims(namespace string) corev1listers.PersistentVolumeClaimNamespaceLister {
	return claimsIn{get: l.client.CoreV1().PersistentVolumeClaims(namespace).Get}
}

func (l podsIn) Get(name string) (*corev1.Pod, error)                { return read(name, l.get) }
func (l accountsIn) Get(name string) (*corev1.ServiceAccount, error) { return read(name, l.get) }
func (l claimsIn) Get(name string) (*corev1.PersistentVolumeClaim, error) {
	return read(name, l.get)
}

func (l nodes) Get(name string) (*corev1.Node, error) {
	return read(name, l.client.CoreV1().Nodes().Get)
}

func (l volumes) Get(name string) (*corev1.PersistentVolume, error) {
	return read(name, l.client.CoreV1().PersistentVolumes().Get)
}

func (l drivers) Get(name string) (*storagev1.CSIDriver, error) {
	return read(name, l.client.StorageV1().CSIDrivers().Get)
}

type getter[T any] func(context.Context, string, metav1.GetOptions) (T, error)

// readTimeout bounds a look into what the replica knows.
const readTimeout = 10 * time.Second

// read returns what the replica knows, which is at least as new as what an informer would.
func read[T any](name string, get getter[T]) (T, error) {
	ctx, cancel := context.WithTimeout(context.Background(), readTimeout)
	defer cancel()
	return get(ctx, name, metav1.GetOptions{ResourceVersion: "0"})
}
