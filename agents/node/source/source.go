// Package source knows which pods are wanted on the node: those that the API has bound to it, and those of the files in a directory,
// of which it keeps mirrors in the API. It looks at each once, whether it can be on the node at all, and hands it to the workers.
//
// What an agent before this one had admitted runs on, whatever the node looks like now. While the API is away all stays as it is.
package source

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/kubernetes/pkg/kubelet/status"
	kubetypes "k8s.io/kubernetes/pkg/kubelet/types"
)

// Workers run pods.
type Workers interface {
	Set(pod *corev1.Pod)
	Gone(uid types.UID)
	Changed(uid types.UID)
	Synced()
	Ending(uid types.UID) bool
	// Active are pods that take up room.
	Active() []*corev1.Pod
}

// Statuses tell the API how pods fare.
type Statuses interface {
	Changed(uid types.UID)
	Reject(pod *corev1.Pod, reason, message string)
	ResizePending(uid types.UID, reason, message string, generation int64) (news bool)
	ResizeAllotted(uid types.UID)
}

// Config is what a Source needs.
type Config struct {
	// Node is its name.
	Node string
	// Directory has the files of static pods; "": there are none.
	Directory string
	// Checkpoint is the file that remembers what pods were allotted.
	Checkpoint string
	// Admit says why a pod cannot be on the node beside the others, or cannot have what it asks for when it is there already; reason "":
	// it can.
	Admit func(pod *corev1.Pod, others []*corev1.Pod, there bool) (reason, message string)
	// Running tells whether the runtime has the pod.
	Running func(types.UID) bool
	// NodeUID is that of the node's object.
	NodeUID func(context.Context) (types.UID, error)
	Client  kubernetes.Interface
	Events  record.EventRecorder
	Log     *slog.Logger
}

// Source is a node's.
type Source struct {
	Config
	workers  Workers
	statuses Statuses
	mirror   chan struct{}
	paths    map[string]types.UID // of static pods, by their files; whoever reads these has it

	mu     sync.Mutex // one change is handled at a time
	api    bool       // it was heard which pods the API has
	files  bool       // and which ones the directory
	wanted map[types.UID]*wanted
	shares *shares

	known struct { // read while others hold their locks
		sync.RWMutex
		pods    map[types.UID]*corev1.Pod // of the API
		mirrors map[string]*corev1.Pod    // by full name
		static  map[types.UID]*corev1.Pod
	}
}

// wanted is a pod that is to be on the node.
type wanted struct {
	pod      *corev1.Pod
	rejected bool
}

// New makes one that knows of no pods yet.
func New(cfg Config) *Source {
	s := &Source{Config: cfg, mirror: make(chan struct{}, 1), paths: map[string]types.UID{}, wanted: map[types.UID]*wanted{}, files: cfg.Directory == ""}
	s.known.pods, s.known.mirrors, s.known.static = map[types.UID]*corev1.Pod{}, map[string]*corev1.Pod{}, map[types.UID]*corev1.Pod{}
	return s
}

// Run hands pods to the workers until ctx ends.
func (s *Source) Run(ctx context.Context, workers Workers, statuses Statuses) error {
	s.workers, s.statuses = workers, statuses
	var err error
	if s.shares, err = readShares(s.Checkpoint); err != nil {
		s.Log.Warn("What pods were allotted is not known, and is what they ask for", "error", err)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	if s.Directory != "" {
		wg.Go(func() { s.watchFiles(ctx) })
	}
	wg.Go(func() { s.keepMirrors(ctx) })
	pods := s.Client.CoreV1().Pods(metav1.NamespaceAll)
	here := fields.OneTermEqualSelector("spec.nodeName", s.Node).String()
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.FieldSelector = here
			return pods.List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.FieldSelector = here
			return pods.Watch(ctx, o)
		},
	}
	cache.NewReflectorWithOptions(cache.ToListWatcherWithWatchListSemantics(lw, s.Client), &corev1.Pod{}, store{s}, cache.ReflectorOptions{Name: "node pods"}).RunWithContext(ctx)
	return nil
}

// API is the pod as the API has it: of a static pod, its mirror. nil: the API is not known to have it. It must not be changed.
func (s *Source) API(uid types.UID) *corev1.Pod {
	s.known.RLock()
	defer s.known.RUnlock()
	if pod := s.known.static[uid]; pod != nil {
		return s.known.mirrors[fullName(pod)]
	}
	return s.known.pods[uid]
}

// Pods are all that are wanted, as they are wanted; static ones are not in the API under this UID.
func (s *Source) Pods() []*corev1.Pod {
	s.known.RLock()
	defer s.known.RUnlock()
	return slices.AppendSeq(slices.Collect(maps.Values(s.known.pods)), maps.Values(s.known.static))
}

// Pod is the one of this name; nil: there is none.
func (s *Source) Pod(namespace, name string) *corev1.Pod {
	s.known.RLock()
	defer s.known.RUnlock()
	for _, pods := range []map[types.UID]*corev1.Pod{s.known.static, s.known.pods} {
		for _, pod := range pods {
			if pod.Name == name && pod.Namespace == namespace {
				return pod
			}
		}
	}
	return nil
}

// store is what the reflector writes to.
type store struct{ *Source }

// Add takes a pod that is new.
func (s store) Add(obj any) error { return s.Update(obj) }

// Update takes a pod that changed.
func (s store) Update(obj any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.apply(obj.(*corev1.Pod))
	return nil
}

// Delete takes a pod that the API has no more.
func (s store) Delete(obj any) error {
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return errors.New("source: not a pod")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(pod)
	return nil
}

// Replace takes all that the API has.
func (s store) Replace(list []any, _ string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	pods := make([]*corev1.Pod, 0, len(list))
	there := map[types.UID]bool{}
	for _, obj := range list {
		pod := obj.(*corev1.Pod)
		pods = append(pods, pod)
		there[pod.UID] = true
	}
	for _, pod := range s.unlisted(there) {
		s.drop(pod)
	}
	slices.SortStableFunc(pods, func(a, b *corev1.Pod) int { return a.CreationTimestamp.Compare(b.CreationTimestamp.Time) })
	for _, pod := range pods { // what runs takes up room before others are admitted
		if s.Running(pod.UID) {
			s.apply(pod)
		}
	}
	for _, pod := range pods {
		if s.wanted[pod.UID] == nil || !s.Running(pod.UID) {
			s.apply(pod)
		}
	}
	s.api = true
	s.complete()
	return nil
}

// Resync does nothing.
func (s store) Resync() error { return nil }

// unlisted are pods of the API's, and mirrors, that it does not have any more.
func (s *Source) unlisted(there map[types.UID]bool) []*corev1.Pod {
	s.known.RLock()
	defer s.known.RUnlock()
	var out []*corev1.Pod
	for _, pods := range []func(func(*corev1.Pod) bool){maps.Values(s.known.pods), maps.Values(s.known.mirrors)} {
		for pod := range pods {
			if !there[pod.UID] {
				out = append(out, pod)
			}
		}
	}
	return out
}

// complete lets the workers remove what nobody wants, when it is known what is wanted.
func (s *Source) complete() {
	if s.api && s.files {
		s.shares.keep(func(uid types.UID) bool { return s.wanted[uid] != nil })
		s.workers.Synced()
		s.mirrorsChanged()
	}
}

// apply takes a pod as the API has it.
func (s *Source) apply(pod *corev1.Pod) {
	pod.ManagedFields = nil
	if kubetypes.IsMirrorPod(pod) {
		s.known.Lock()
		s.known.mirrors[fullName(pod)] = pod
		static := s.staticNamed(fullName(pod))
		s.known.Unlock()
		if static != nil {
			s.statuses.Changed(static.UID)
		}
		s.mirrorsChanged()
		return
	}
	old := s.wanted[pod.UID]
	seen := time.Now().Format(time.RFC3339Nano)
	if old != nil {
		seen = old.pod.Annotations[kubetypes.ConfigFirstSeenAnnotationKey]
	}
	annotate(pod, kubetypes.ApiserverSource, seen) // whatever the pod says of itself
	s.known.Lock()
	s.known.pods[pod.UID] = pod
	s.known.Unlock()
	s.want(pod)
	s.statuses.Changed(pod.UID)
}

func annotate(pod *corev1.Pod, source, seen string) {
	if pod.Annotations == nil {
		pod.Annotations = map[string]string{}
	}
	pod.Annotations[kubetypes.ConfigSourceAnnotationKey] = source
	pod.Annotations[kubetypes.ConfigFirstSeenAnnotationKey] = seen
}

// want hands a pod to its worker, when it is new or there is something in it that the worker is to know.
func (s *Source) want(pod *corev1.Pod) {
	old := s.wanted[pod.UID]
	if old == nil {
		w := &wanted{pod: pod}
		s.wanted[pod.UID] = w
		w.rejected = !s.admit(pod)
		if !w.rejected || pod.DeletionTimestamp != nil {
			s.workers.Set(s.shares.of(pod))
		}
		return
	}
	before := old.pod
	old.pod = pod
	switch {
	case old.rejected && pod.DeletionTimestamp == nil:
	case old.rejected, differs(before, pod), isOver(pod) && !isOver(before):
		s.allot(pod)
		s.workers.Set(s.shares.of(pod))
	case status.NeedToReconcilePodReadiness(pod):
		s.workers.Changed(pod.UID)
	}
}

// differs: there is more to it than the status.
func differs(a, b *corev1.Pod) bool {
	return !equality.Semantic.DeepEqual(a.Spec, b.Spec) || !maps.Equal(a.Labels, b.Labels) || !maps.Equal(a.Annotations, b.Annotations) ||
		!a.DeletionTimestamp.Equal(b.DeletionTimestamp) || !equality.Semantic.DeepEqual(a.DeletionGracePeriodSeconds, b.DeletionGracePeriodSeconds)
}

func isOver(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded
}

// admit tells whether the pod can be on the node.
func (s *Source) admit(pod *corev1.Pod) bool {
	if pod.DeletionTimestamp != nil || isOver(pod) || s.workers.Ending(pod.UID) {
		return true // it ends, whatever the node has
	}
	if !s.Running(pod.UID) {
		others := slices.DeleteFunc(s.workers.Active(), func(other *corev1.Pod) bool { return other.UID == pod.UID })
		if reason, message := s.Admit(s.shares.of(pod), others, false); reason != "" {
			s.Events.Event(pod, corev1.EventTypeWarning, reason, message)
			s.statuses.Reject(pod, reason, message)
			return false
		}
	}
	if !s.shares.has(pod.UID) {
		s.shares.give(pod)
		s.save()
	} else {
		s.allot(pod)
	}
	return true
}

// drop takes a pod that the API has no more.
func (s *Source) drop(pod *corev1.Pod) {
	s.known.Lock()
	if name := fullName(pod); kubetypes.IsMirrorPod(pod) {
		if m := s.known.mirrors[name]; m != nil && m.UID == pod.UID {
			delete(s.known.mirrors, name)
		}
		s.known.Unlock()
		s.mirrorsChanged()
		return
	}
	delete(s.known.pods, pod.UID)
	s.known.Unlock()
	s.unwant(pod.UID)
}

func (s *Source) unwant(uid types.UID) {
	delete(s.wanted, uid)
	s.workers.Gone(uid)
	if s.shares.has(uid) {
		s.shares.take(uid)
		s.save()
	}
	s.retry()
}

func fullName(pod *corev1.Pod) string { return pod.Namespace + "/" + pod.Name }

// staticNamed is the static pod that a mirror is of; nil: there is none. known is locked.
func (s *Source) staticNamed(name string) *corev1.Pod {
	for _, pod := range s.known.static {
		if fullName(pod) == name {
			return pod
		}
	}
	return nil
}
