package eviction

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	upstream "k8s.io/kubernetes/pkg/kubelet/eviction"
	"k8s.io/kubernetes/pkg/kubelet/eviction/api"
)

func parse(t *testing.T, hard, soft, grace, reclaim map[string]string) []api.Threshold {
	t.Helper()
	all, err := Parse(hard, soft, grace, reclaim, true)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func names(all []api.Threshold) []string {
	var out []string
	for i := range all {
		name := string(all[i].Signal)
		if !hard(&all[i]) {
			name += " soft"
		}
		out = append(out, name)
	}
	return out
}

// TestOrder: memory first, what cannot wait before what can; and what containers write has the thresholds of where it is.
func TestOrder(t *testing.T) {
	t.Parallel()
	soft := map[string]string{"memory.available": "1Gi", "nodefs.available": "20%"}
	all := parse(t, upstream.DefaultEvictionHard, soft, map[string]string{"memory.available": "1m", "nodefs.available": "1m"}, nil)
	for layout, want := range map[Layout][]string{
		{}: {
			"memory.available", "allocatableMemory.available", "memory.available soft", "nodefs.available", "nodefs.inodesFree", "imagefs.available", "imagefs.inodesFree",
			"containerfs.available", "containerfs.inodesFree", "nodefs.available soft", "containerfs.available soft",
		},
		{Images: true}: {
			"memory.available", "allocatableMemory.available", "memory.available soft", "nodefs.available", "nodefs.inodesFree", "imagefs.available", "imagefs.inodesFree",
			"containerfs.available", "containerfs.inodesFree", "nodefs.available soft",
		},
	} {
		got, ignored := layout.on(all)
		if diff := cmp.Diff(want, names(got)); diff != "" || ignored != nil {
			t.Errorf("%+v: %v\n%s", layout, ignored, diff)
		}
	}
	if got := all[0].Value.Quantity.String(); got != "100Mi" {
		t.Errorf("%s of memory are to stay free", got)
	}
	said := parse(t, map[string]string{"nodefs.available": "10%", "containerfs.available": "50%"}, nil, nil, nil)
	got, ignored := Layout{}.on(said)
	if ignored == nil || len(got) != 2 || got[1].Value.Percentage != 0.1 {
		t.Errorf("a threshold of where containers write: %v, %v", got, ignored)
	}
	for _, wrong := range [][4]map[string]string{
		{{"memory": "1Gi"}},
		{{"memory.available": "-1"}},
		{{"memory.available": "101%"}},
		{nil, soft},
		{nil, nil, {"memory.available": "soon"}},
		{nil, nil, nil, {"memory.available": "-1Gi"}},
	} {
		if got, err := Parse(wrong[0], wrong[1], wrong[2], wrong[3], false); err == nil {
			t.Errorf("%v: %v", wrong, got)
		}
	}
}

func TestReserved(t *testing.T) {
	t.Parallel()
	capacity := corev1.ResourceList{
		corev1.ResourceMemory: resource.MustParse("8Gi"), corev1.ResourceEphemeralStorage: resource.MustParse("100Gi"), corev1.ResourceCPU: resource.MustParse("4"),
	}
	soft := parse(t, nil, map[string]string{"memory.available": "1Gi"}, map[string]string{"memory.available": "1m"}, nil)
	if got := Reserved(soft, capacity); len(got) != 0 {
		t.Errorf("what soft thresholds keep free is not for pods: %v", got)
	}
	got := Reserved(parse(t, upstream.DefaultEvictionHard, nil, nil, nil), capacity)
	memory, disk := got[corev1.ResourceMemory], got[corev1.ResourceEphemeralStorage]
	if ten := disk.Value() / (1 << 20); len(got) != 2 || memory.String() != "100Mi" || ten != 10239 && ten != 10240 {
		t.Errorf("reserved: %v", got)
	}
}

// TestLook goes through minutes of a node's memory.
func TestLook(t *testing.T) {
	t.Parallel()
	thresholds := parse(t, map[string]string{"memory.available": "100Mi"}, map[string]string{"memory.available": "200Mi"}, map[string]string{"memory.available": "30s"}, map[string]string{"memory.available": "50Mi"})
	thresholds = slices.DeleteFunc(thresholds, func(t api.Threshold) bool { return t.Signal == api.SignalAllocatableMemoryAvailable })
	began := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var s state
	for _, step := range []struct {
		at   int // seconds
		free string
		old  bool // it was not measured anew
		back bool // by a clock that was set back
		want string
	}{
		{at: 0, free: "1Gi", want: ""},
		{at: 10, free: "150Mi", want: "MemoryPressure"},
		{at: 20, free: "220Mi", want: "MemoryPressure"}, // not 30 s
		{at: 30, free: "150Mi", want: "MemoryPressure"},
		{at: 60, free: "150Mi", want: "MemoryPressure memory.available soft"},
		{at: 70, free: "240Mi", want: "MemoryPressure memory.available soft"}, // less than 50 MiB more
		{at: 80, free: "150Mi", old: true, want: "MemoryPressure"},
		{at: 90, free: "50Mi", want: "MemoryPressure memory.available memory.available soft"},
		{at: 100, free: "260Mi", want: "MemoryPressure"},
		{at: 110, free: "240Mi", want: "MemoryPressure"},
		{at: 149, free: "1Gi", want: "MemoryPressure"},
		{at: 150, free: "1Gi", want: ""},
		{at: 160, free: "", want: ""}, // it was not measured
		{at: 170, free: "50Mi", want: "MemoryPressure memory.available"},
		{at: 180, free: "50Mi", back: true, want: "MemoryPressure memory.available"},
	} {
		now := began.Add(time.Duration(step.at) * time.Second)
		seen := observations{}
		if step.free != "" {
			free, all := resource.MustParse(step.free), resource.MustParse("8Gi")
			at := metav1.NewTime(now)
			if step.old {
				at = s.last[api.SignalMemoryAvailable].at
			}
			if step.back {
				at = metav1.NewTime(at.Add(-time.Hour))
			}
			seen[api.SignalMemoryAvailable] = observation{&free, &all, at}
		}
		pressure, due := s.look(thresholds, seen, time.Minute, now)
		var got []string
		for _, c := range pressure {
			got = append(got, string(c))
		}
		if got := strings.Join(append(got, names(due)...), " "); got != step.want {
			t.Errorf("after %d s with %s free: %q, want %q", step.at, step.free, got, step.want)
		}
	}
}
