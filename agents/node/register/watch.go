package register

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
)

// watch follows the Node, and no other.
func (n *Node) watch(ctx context.Context) {
	client := n.cfg.Watching
	if client == nil {
		client = n.cfg.Client
	}
	nodes := client.CoreV1().Nodes()
	only := fields.OneTermEqualSelector(metav1.ObjectNameField, n.cfg.Name).String()
	source := cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.FieldSelector = only
			return nodes.List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.FieldSelector = only
			return nodes.Watch(ctx, o)
		},
	}, client)
	_, informer := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: source, ObjectType: &corev1.Node{},
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc:    func(obj any) { n.saw(obj.(*corev1.Node)) },
			UpdateFunc: func(_, obj any) { n.saw(obj.(*corev1.Node)) },
		},
	})
	informer.RunWithContext(ctx)
}

// saw remembers the Node as the server has it, unless something newer was seen.
func (n *Node) saw(node *corev1.Node) {
	if n.keepNewer(node) && n.cfg.Changed != nil {
		n.cfg.Changed()
	}
}

func (n *Node) keepNewer(node *corev1.Node) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.node != nil && n.node.UID == node.UID {
		if order, err := resourceversion.CompareResourceVersion(node.ResourceVersion, n.node.ResourceVersion); err == nil && order <= 0 {
			return false
		}
	}
	kept := node.DeepCopy()
	kept.ManagedFields = nil
	n.node = kept
	return true
}
