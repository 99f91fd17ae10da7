package adapter_test

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/apis/example"
	apistorage "k8s.io/apiserver/pkg/storage"
)

// TestUnchanged makes updates that change nothing: they take no revision and cost no commit.
func TestUnchanged(t *testing.T) {
	t.Parallel()
	h := newHarness(t, memoryDatabase(t), 2)
	pod := mustCreate(t, h, newPod("ns", "a"))
	before, err := h.GetCurrentResourceVersion(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range h.stores {
		out := &example.Pod{}
		err := s.GuaranteedUpdate(t.Context(), podKey(pod), out, false, nil, apistorage.SimpleUpdate(func(obj runtime.Object) (runtime.Object, error) {
			obj.(*example.Pod).SelfLink = "not stored"
			return obj, nil
		}), nil)
		if err != nil || out.ResourceVersion != pod.ResourceVersion {
			t.Errorf("update: resourceVersion %s, %v; want %s", out.ResourceVersion, err, pod.ResourceVersion)
		}
	}
	if after, err := h.GetCurrentResourceVersion(t.Context()); err != nil || after != before {
		t.Errorf("revision went from %d to %d, %v", before, after, err)
	}
}

// TestConcurrentUpdates has writers on two replicas count in the same few objects: no increment is lost, and a watch
// sees each of them once, in order.
func TestConcurrentUpdates(t *testing.T) {
	t.Parallel()
	const objects, writers, rounds = 3, 8, 20
	for name, open := range map[string]func(testing.TB) opener{"memory": memoryDatabase, "sqlite": sqliteDatabase, "postgres": postgresDatabase} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t, open(t), 2)
			var pods []*example.Pod
			for i := range objects {
				pods = append(pods, mustCreate(t, h, newPod("ns", fmt.Sprint("p", i))))
			}
			w, err := h.stores[1].Watch(t.Context(), "/pods/ns", apistorage.ListOptions{
				Recursive: true, Predicate: apistorage.Everything, ResourceVersion: pods[objects-1].ResourceVersion,
			})
			if err != nil {
				t.Fatal(err)
			}
			defer w.Stop()
			var wg sync.WaitGroup
			for i := range writers {
				wg.Go(func() {
					for j := range rounds {
						s := h.stores[(i+j)%len(h.stores)]
						if err := increment(t.Context(), s, pods[(i+j)%objects]); err != nil {
							t.Errorf("update: %v", err)
						}
					}
				})
			}
			wg.Wait()
			checkCounts(t, h, w, pods, writers*rounds)
		})
	}
}

func increment(ctx context.Context, s apistorage.Interface, pod *example.Pod) error {
	return s.GuaranteedUpdate(ctx, podKey(pod), &example.Pod{}, false, nil, apistorage.SimpleUpdate(func(obj runtime.Object) (runtime.Object, error) {
		p := obj.(*example.Pod)
		n, _ := strconv.Atoi(p.Annotations["n"])
		p.Annotations = map[string]string{"n": strconv.Itoa(n + 1)}
		return p, nil
	}), nil)
}

func checkCounts(t *testing.T, h *harness, w watch.Interface, pods []*example.Pod, total int) {
	t.Helper()
	seen := map[string]int{}
	last := uint64(0)
	for range total {
		e, ok := <-w.ResultChan()
		if !ok || e.Type != watch.Modified {
			t.Fatalf("event %v", e)
		}
		p := e.Object.(*example.Pod)
		seen[p.Name]++
		if n := p.Annotations["n"]; n != strconv.Itoa(seen[p.Name]) {
			t.Fatalf("%s shows %s as change %d", p.Name, n, seen[p.Name])
		}
		rv, err := strconv.ParseUint(p.ResourceVersion, 10, 64)
		if err != nil || rv <= last {
			t.Fatalf("resourceVersion %s after %d", p.ResourceVersion, last)
		}
		last = rv
	}
	sum := 0
	for _, s := range h.stores {
		for _, pod := range pods {
			out := &example.Pod{}
			if err := s.Get(t.Context(), podKey(pod), apistorage.GetOptions{}, out); err != nil {
				t.Fatal(err)
			}
			n, _ := strconv.Atoi(out.Annotations["n"])
			sum += n
		}
	}
	if sum != total*len(h.stores) {
		t.Errorf("replicas count %d, want %d", sum, total*len(h.stores))
	}
}

// TestStaleReplica has a replica write from what it has not yet heard of: refusals are looked at again, and the object
// is never overwritten.
func TestStaleReplica(t *testing.T) {
	t.Parallel()
	h := newHarness(t, memoryDatabase(t), 2)
	ctx := t.Context()
	a, b := h.stores[0], h.stores[1]
	for i := range 50 {
		pod := mustCreate(t, a, newPod("ns", fmt.Sprint(i)))
		n := 0
		if err := b.GuaranteedUpdate(ctx, podKey(pod), &example.Pod{}, false, nil, touch(&n), nil); err != nil {
			t.Fatalf("update from the other replica: %v", err)
		}
		refuseOld := func(_ context.Context, obj runtime.Object) error {
			if obj.(*example.Pod).Annotations["n"] == "" {
				return fmt.Errorf("old state")
			}
			return nil
		}
		if err := a.Delete(ctx, podKey(pod), &example.Pod{}, nil, refuseOld, nil, apistorage.DeleteOptions{}); err != nil {
			t.Fatalf("delete: %v", err)
		}
		if err := b.Get(ctx, podKey(pod), apistorage.GetOptions{}, &example.Pod{}); !apistorage.IsNotFound(err) {
			t.Fatalf("get after delete: %v", err)
		}
		if err := b.Create(ctx, podKey(pod), newPod("ns", fmt.Sprint(i)), nil, 0); err != nil {
			t.Fatalf("create again: %v", err)
		}
	}
}
