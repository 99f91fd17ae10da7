// Package objects has what the node's pods refer to in the API: ConfigMaps and Secrets, each by a watch of its own while pods refer to
// it, tokens of service accounts that are bound to a pod and so to its node, and bundles of trust anchors. What was read once can be
// had while the API server is away. Errors are the kubelet's, for events and statuses.
package objects

import (
	"context"
	"hash/maphash"
	"log/slog"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	podutil "k8s.io/kubernetes/pkg/api/v1/pod"
	apiscore "k8s.io/kubernetes/pkg/apis/core"
)

// Config is what Objects needs.
type Config struct {
	Client kubernetes.Interface
	// Changed is told of pods whose ConfigMaps or Secrets have changed, appeared or gone. It must not wait. nil: nobody is.
	Changed func(types.UID)
	Log     *slog.Logger
}

// Objects are those of a node's pods. What it returns belongs to everybody: nobody may change it. It is safe for concurrent use.
type Objects struct {
	configMaps kind[*corev1.ConfigMap]
	secrets    kind[*corev1.Secret]
	tokens     tokens
	anchors    anchors

	mu    sync.Mutex
	pods  map[types.UID]refs
	queue []func(context.Context) // watches that Run has not begun
	wake  chan struct{}
}

// refs are the names of what a pod refers to.
type refs struct{ configMaps, secrets map[string]bool }

// New has nothing yet, and asks for nothing before somebody wants it.
func New(c Config) *Objects {
	if c.Changed == nil {
		c.Changed = func(types.UID) {}
	}
	o := &Objects{pods: map[types.UID]refs{}, wake: make(chan struct{}, 1)}
	o.configMaps = kind[*corev1.ConfigMap]{
		resource: apiscore.Resource("configmap"), changed: c.Changed, log: c.Log, spawn: o.spawn,
		api:       configMapAPI{c.Client},
		immutable: func(m *corev1.ConfigMap) bool { return m.Immutable != nil && *m.Immutable },
		items:     map[key]*item[*corev1.ConfigMap]{},
	}
	o.secrets = kind[*corev1.Secret]{
		resource: apiscore.Resource("secret"), changed: c.Changed, log: c.Log, spawn: o.spawn,
		api:       secretAPI{c.Client},
		immutable: func(s *corev1.Secret) bool { return s.Immutable != nil && *s.Immutable },
		items:     map[key]*item[*corev1.Secret]{},
	}
	o.tokens = tokens{client: c.Client, log: c.Log, have: map[tokenKey]token{}}
	o.anchors = anchors{client: c.Client, log: c.Log, seed: maphash.MakeSeed(), have: map[string]bundle{}}
	return o
}

// idle is how long what nobody asks for is watched. What volumes show is asked for all the time; what containers have in their
// environments only when they start.
const idle = 5 * time.Minute

// Run watches until ctx ends, and returns when no watch is left.
func (o *Objects) Run(ctx context.Context) error {
	var watches sync.WaitGroup
	defer watches.Wait()
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			o.configMaps.rest(time.Now().Add(-idle))
			o.secrets.rest(time.Now().Add(-idle))
		case <-o.wake:
		}
		o.mu.Lock()
		queue := o.queue
		o.queue = nil
		o.mu.Unlock()
		for _, watch := range queue {
			watches.Go(func() { watch(ctx) })
		}
	}
}

// spawn has Run do f.
func (o *Objects) spawn(f func(context.Context)) {
	o.mu.Lock()
	o.queue = append(o.queue, f)
	o.mu.Unlock()
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// Use says that a pod is on the node, as it is now: until Release what it refers to can be had.
func (o *Objects) Use(pod *corev1.Pod) {
	now := refs{configMaps: map[string]bool{}, secrets: map[string]bool{}}
	podutil.VisitPodConfigmapNames(pod, func(name string) bool { now.configMaps[name] = true; return true })
	podutil.VisitPodSecretNames(pod, func(name string) bool { now.secrets[name] = true; return true })
	o.mu.Lock()
	before := o.pods[pod.UID]
	o.pods[pod.UID] = now
	o.mu.Unlock()
	o.configMaps.refer(pod, before.configMaps, now.configMaps)
	o.secrets.refer(pod, before.secrets, now.secrets)
}

// Release says that a pod has gone, and needs nothing any more.
func (o *Objects) Release(pod *corev1.Pod) {
	o.mu.Lock()
	before := o.pods[pod.UID]
	delete(o.pods, pod.UID)
	o.mu.Unlock()
	o.configMaps.refer(pod, before.configMaps, nil)
	o.secrets.refer(pod, before.secrets, nil)
	o.tokens.forget(pod.UID)
}

// ConfigMap returns one that a pod in use refers to. When there is none the error is the API's NotFound.
func (o *Objects) ConfigMap(ctx context.Context, namespace, name string) (*corev1.ConfigMap, error) {
	return o.configMaps.get(ctx, key{namespace, name})
}

// Secret returns one that a pod in use refers to. When there is none the error is the API's NotFound.
func (o *Objects) Secret(ctx context.Context, namespace, name string) (*corev1.Secret, error) {
	return o.secrets.get(ctx, key{namespace, name})
}
