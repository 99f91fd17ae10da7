package adapter_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/apis/example"
	apistorage "k8s.io/apiserver/pkg/storage"
	storagetesting "k8s.io/apiserver/pkg/storage/testing"
)

func benchHarness(b *testing.B) *harness {
	return newHarness(b, memoryDatabase(b), 1)
}

func bigPod(i int) *example.Pod {
	p := newPod(fmt.Sprint("ns", i%20), fmt.Sprint("pod-", i))
	p.Labels = map[string]string{"app": fmt.Sprint(i % 100), "tier": "backend"}
	p.Annotations = map[string]string{"note": "some words that make the object about as large as a small one in a real cluster"}
	p.Spec = example.PodSpec{RestartPolicy: "Always", NodeName: fmt.Sprint("node-", i%50), ServiceAccountName: "default"}
	return p
}

func BenchmarkCreate(b *testing.B) {
	h := benchHarness(b)
	var n atomic.Int64
	b.ReportAllocs()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		out := &example.Pod{}
		for pb.Next() {
			p := bigPod(int(n.Add(1)))
			if err := h.Create(b.Context(), podKey(p), p, out, 0); err != nil {
				b.Error(err)
			}
		}
	})
}

func BenchmarkUpdate(b *testing.B) {
	h := benchHarness(b)
	pods := fillPods(b, h, 1000)
	var n atomic.Int64
	b.ReportAllocs()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		out := &example.Pod{}
		for pb.Next() {
			i := n.Add(1)
			err := h.GuaranteedUpdate(b.Context(), podKey(pods[int(i)%len(pods)]), out, false, nil,
				apistorage.SimpleUpdate(func(obj runtime.Object) (runtime.Object, error) {
					obj.(*example.Pod).Annotations["n"] = fmt.Sprint(i)
					return obj, nil
				}), nil)
			if err != nil {
				b.Error(err)
			}
		}
	})
}

func BenchmarkGet(b *testing.B) {
	for name, rv := range map[string]string{"current": "", "any": "0"} {
		b.Run(name, func(b *testing.B) {
			h := benchHarness(b)
			pods := fillPods(b, h, 1000)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				out := &example.Pod{}
				for i := 0; pb.Next(); i++ {
					if err := h.Get(b.Context(), podKey(pods[i%len(pods)]), apistorage.GetOptions{ResourceVersion: rv}, out); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}

func BenchmarkGetList(b *testing.B) {
	everything := labels.Everything()
	for _, bc := range []struct {
		name, key string
		label     labels.Selector
		field     fields.Selector
		want      int
	}{
		{"all", "/pods/", everything, fields.Everything(), 5000},
		{"namespace", "/pods/ns1", everything, fields.Everything(), 250},
		{"label", "/pods/", labels.SelectorFromSet(labels.Set{"app": "7"}), fields.Everything(), 50},
		{"field", "/pods/", everything, fields.OneTermEqualSelector("spec.nodeName", "node-7"), 100},
	} {
		b.Run(bc.name, func(b *testing.B) {
			h := benchHarness(b)
			fillPods(b, h, 5000)
			opts := apistorage.ListOptions{
				Recursive: true, ResourceVersion: "0", Predicate: apistorage.SelectionPredicate{Label: bc.label, Field: bc.field},
			}
			b.ReportAllocs()
			for b.Loop() {
				list := &example.PodList{}
				if err := h.GetList(b.Context(), bc.key, opts, list); err != nil || len(list.Items) != bc.want {
					b.Fatalf("%d items, %v", len(list.Items), err)
				}
			}
		})
	}
}

func fillPods(b *testing.B, h *harness, n int) []*example.Pod {
	b.Helper()
	pods := make([]*example.Pod, n)
	for i := range pods {
		pods[i] = bigPod(i)
		if err := h.Create(b.Context(), podKey(pods[i]), pods[i].DeepCopy(), nil, 0); err != nil {
			b.Fatal(err)
		}
	}
	return pods
}

// BenchmarkUpstream runs upstream's own benchmarks.
func BenchmarkUpstream(b *testing.B) {
	for _, match := range []metav1.ResourceVersionMatch{metav1.ResourceVersionMatchNotOlderThan, metav1.ResourceVersionMatchExact} {
		b.Run("ListCreate/"+string(match), func(b *testing.B) {
			b.ReportAllocs()
			storagetesting.RunBenchmarkStoreListCreate(b.Context(), b, benchHarness(b), match)
		})
	}
	h := benchHarness(b)
	data := storagetesting.PrepareBenchchmarkData(20, 250, 50)
	for _, pod := range data.Pods {
		if err := h.Create(b.Context(), podKey(pod), pod, nil, 0); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("List", func(b *testing.B) { storagetesting.RunBenchmarkStoreList(b.Context(), b, h, data, false) })
	b.Run("Stats", func(b *testing.B) { storagetesting.RunBenchmarkStoreStats(b.Context(), b, h) })
}
