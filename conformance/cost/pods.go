package cost

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"

	"github.com/rowlock-io/rowlock/conformance/noderuntime"
)

// patience is for all pods of a step.
const patience = 3 * time.Minute

// pods are those that this process made, with what a watch has told of them.
type pods struct {
	client kubernetes.Interface
	node   string

	mu    sync.Mutex
	news  chan struct{} // closed, and made anew, when something is heard
	ready map[string]time.Time
	gone  map[string]time.Time
}

// watchPods hears of the namespace's pods until the benchmark ends.
func watchPods(b *testing.B, client kubernetes.Interface, node string) *pods {
	b.Helper()
	p := &pods{client: client, node: node, news: make(chan struct{}), ready: map[string]time.Time{}, gone: map[string]time.Time{}}
	list, err := client.CoreV1().Pods(namespace).List(b.Context(), metav1.ListOptions{})
	if err != nil {
		b.Fatal(err)
	}
	w, err := client.CoreV1().Pods(namespace).Watch(b.Context(), metav1.ListOptions{ResourceVersion: list.ResourceVersion})
	if err != nil {
		b.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for event := range w.ResultChan() {
			p.hear(event)
		}
	})
	b.Cleanup(func() { w.Stop(); wg.Wait() })
	return p
}

func (p *pods) hear(event watch.Event) {
	now := time.Now()
	pod, ok := event.Object.(*corev1.Pod)
	if !ok {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case event.Type == watch.Deleted:
		p.gone[pod.Name] = now
	case p.ready[pod.Name].IsZero() && ready(pod):
		p.ready[pod.Name] = now
	default:
		return
	}
	close(p.news)
	p.news = make(chan struct{})
}

func ready(pod *corev1.Pod) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// await waits until all of these were heard of, and returns when each was.
func (p *pods) await(ctx context.Context, names []string, heard func() map[string]time.Time) ([]time.Time, error) {
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for {
		p.mu.Lock()
		var times []time.Time
		for _, name := range names {
			if at, ok := heard()[name]; ok {
				times = append(times, at)
			}
		}
		news := p.news
		p.mu.Unlock()
		if len(times) == len(names) {
			return times, nil
		}
		select {
		case <-news:
		case <-timeout.C:
			return nil, fmt.Errorf("%d of %d pods after %v", len(times), len(names), patience)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// start makes pods of these names, bound to the node, and waits until they are ready. It returns how long each took, from the moment
// when its creation was asked for.
func (p *pods) start(ctx context.Context, names ...string) ([]time.Duration, error) {
	began := make([]time.Time, len(names))
	for i, name := range names {
		began[i] = time.Now()
		if _, err := p.client.CoreV1().Pods(namespace).Create(ctx, p.pod(name), metav1.CreateOptions{}); err != nil {
			return nil, err
		}
	}
	times, err := p.await(ctx, names, func() map[string]time.Time { return p.ready })
	if err != nil {
		return nil, fmt.Errorf("start: %w", err)
	}
	took := make([]time.Duration, len(names))
	for i := range names {
		took[i] = times[i].Sub(began[i])
	}
	return took, nil
}

// remove deletes pods, and waits until they are gone.
func (p *pods) remove(ctx context.Context, names []string) error {
	if err := p.client.CoreV1().Pods(namespace).DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
		return err
	}
	if _, err := p.await(ctx, names, func() map[string]time.Time { return p.gone }); err != nil {
		return fmt.Errorf("remove: %w", err)
	}
	return nil
}

// pod has one container, which is small, stops when it is told to, and whose image is there; and as any pod a volume with a token.
func (p *pods) pod(name string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PodSpec{
			NodeName: p.node,
			Containers: []corev1.Container{{
				Name: "c", Image: noderuntime.PauseImage, ImagePullPolicy: corev1.PullIfNotPresent,
				Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
					corev1.ResourceCPU: resource.MustParse("5m"), corev1.ResourceMemory: resource.MustParse("8Mi"),
				}},
			}},
		},
	}
}

func names(prefix string, n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("%s-%d", prefix, i)
	}
	return all
}
