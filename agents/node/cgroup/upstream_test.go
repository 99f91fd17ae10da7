package cgroup

import (
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	kubeletconfig "k8s.io/kubernetes/pkg/kubelet/apis/config"
	"k8s.io/kubernetes/pkg/kubelet/cm"
)

func logger(t testing.TB) *slog.Logger { return slog.New(slog.NewTextHandler(t.Output(), nil)) }

// pod has one container with these requests and limits, like cpu=1.
func pod(id types.UID, requests, limits string) *corev1.Pod {
	list := func(text string) corev1.ResourceList {
		out := corev1.ResourceList{}
		for _, one := range strings.Fields(text) {
			name, q, _ := strings.Cut(one, "=")
			out[corev1.ResourceName(name)] = resource.MustParse(q)
		}
		return out
	}
	p := &corev1.Pod{}
	p.UID = id
	p.Spec.Containers = []corev1.Container{{Name: "main", Resources: corev1.ResourceRequirements{Requests: list(requests), Limits: list(limits)}}}
	return p
}

func classes() map[string]*corev1.Pod {
	return map[string]*corev1.Pod{
		"guaranteed":  pod("6c7f3c9e-0000-4000-8000-000000000001", "cpu=500m memory=64Mi", "cpu=500m memory=64Mi"),
		"burstable":   pod("6c7f3c9e-0000-4000-8000-000000000002", "cpu=250m", ""),
		"limited":     pod("6c7f3c9e-0000-4000-8000-000000000003", "cpu=250m memory=32Mi", "cpu=2 memory=64Mi"),
		"best effort": pod("6c7f3c9e-0000-4000-8000-000000000004", "", ""),
		"static":      pod("0123456789abcdef0123456789abcdef", "", ""),
	}
}

// TestNames: they are those of upstream's manager of cgroups.
func TestNames(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ driver, root, class, want string }{
		{"cgroupfs", "", "guaranteed", "/kubepods/pod6c7f3c9e-0000-4000-8000-000000000001"},
		{"cgroupfs", "/", "burstable", "/kubepods/burstable/pod6c7f3c9e-0000-4000-8000-000000000002"},
		{"cgroupfs", "/node-a", "best effort", "/node-a/kubepods/besteffort/pod6c7f3c9e-0000-4000-8000-000000000004"},
		{"cgroupfs", "node-a/", "static", "/node-a/kubepods/besteffort/pod0123456789abcdef0123456789abcdef"},
		{"systemd", "", "guaranteed", "/kubepods.slice/kubepods-pod6c7f3c9e_0000_4000_8000_000000000001.slice"},
		{"systemd", "/", "burstable", "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod6c7f3c9e_0000_4000_8000_000000000002.slice"},
		{"systemd", "/", "best effort", "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod6c7f3c9e_0000_4000_8000_000000000004.slice"},
		{"systemd", "/a", "guaranteed", "/a.slice/a-kubepods.slice/a-kubepods-pod6c7f3c9e_0000_4000_8000_000000000001.slice"},
	} {
		m, err := New(Config{Log: logger(t), Systemd: tc.driver == "systemd", Root: tc.root})
		if err != nil {
			t.Fatal(err)
		}
		p := classes()[tc.class]
		got, err := m.Parent(p)
		if err != nil || got != tc.want {
			t.Errorf("%s below %q, %s: %q, %v, want %q", tc.driver, tc.root, tc.class, got, err, tc.want)
		}
		name, err := m.name(p)
		if err != nil {
			t.Fatal(err)
		}
		for _, theirs := range []cm.CgroupManager{
			cm.NewCgroupV1Manager(logr.Discard(), &cm.CgroupSubsystems{}, tc.driver), cm.NewCgroupV2Manager(logr.Discard(), &cm.CgroupSubsystems{}, tc.driver),
		} {
			if want := theirs.Name(name); got != want {
				t.Errorf("upstream's is %q, ours %q", want, got)
			}
		}
		if id, ok := m.uid("/sys/fs/cgroup" + got); !ok || id != p.UID {
			t.Errorf("%q is said to be of pod %q (%v), want %q", got, id, ok, p.UID)
		}
	}
	m, err := New(Config{Log: logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []types.UID{"", "../../x", "a/b", "a_b", "..", "-"} {
		if got, err := m.Parent(pod(bad, "", "")); err == nil {
			t.Errorf("a pod with the UID %q has the cgroup %q, want an error", bad, got)
		}
	}
	for _, no := range []string{"/kubepods", "/kubepods/burstable", "/", "/kubepods/pod", "/kubepods/besteffort/crio-conmon-1"} {
		if id, ok := m.uid(no); ok {
			t.Errorf("%q is said to be of pod %q", no, id)
		}
	}
	if _, err := New(Config{Log: logger(t), Root: "/a_b"}); err == nil {
		t.Error("a root with _ is taken")
	}
}

// tree has the machine's hierarchies and a root in them of the test's own, which is removed after it.
func tree(t *testing.T) (Hierarchies, string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("cgroups are made by root only")
	}
	h, err := Find()
	if err != nil {
		t.Skip(err)
	}
	if h.V2 {
		t.Skip("the machine has cgroup v2; this test is about v1")
	}
	for _, mount := range h.directories() {
		dir, err := os.MkdirTemp(mount, "rowlock-test-") //nolint:usetesting // it is in the hierarchy
		if err != nil {
			t.Skipf("cgroups cannot be made: %v", err)
		}
		_ = os.Remove(dir)
	}
	root := "/rowlock-test-" + strconv.Itoa(os.Getpid()) + "-" + strings.ToLower(strings.NewReplacer("/", "-", "_", "-").Replace(t.Name()))
	t.Cleanup(func() {
		all, _ := filepath.Glob("/sys/fs/cgroup/*" + root) // upstream's manager uses more hierarchies than it has mounts of
		for _, dir := range all {
			removeTree(t, dir)
		}
	})
	return h, root
}

func removeTree(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if e.IsDir() {
			removeTree(t, filepath.Join(dir, e.Name()))
		}
	}
	if err := os.Remove(dir); err != nil {
		t.Error(err)
	}
}

// values are those of the files that are written, by their paths below the mounts.
func values(t *testing.T, h Hierarchies, literal string) map[string]string {
	t.Helper()
	files := map[string][]string{
		"cpu": {"cpu.shares", "cpu.cfs_quota_us", "cpu.cfs_period_us"}, "memory": {"memory.limit_in_bytes"}, "pids": {"pids.max"},
		"cpuset": {"cpuset.cpus", "cpuset.mems"},
	}
	out := map[string]string{}
	for controller, names := range files {
		for _, name := range names {
			data, err := os.ReadFile(filepath.Join(h.Mounts[controller], literal, name))
			if err != nil {
				t.Fatal(err)
			}
			out[name] = strings.TrimSpace(string(data))
		}
	}
	return out
}

// TestUpstreamV1: on cgroup v1, pods' cgroups are in every hierarchy, and what is written is what upstream's manager writes.
func TestUpstreamV1(t *testing.T) {
	t.Parallel()
	h, root := tree(t)
	ours, err := New(Config{Log: logger(t), Hierarchies: h, Root: root + "/ours", PodPids: 100})
	if err != nil {
		t.Fatal(err)
	}
	pods := classes()
	var all []*corev1.Pod
	for _, p := range pods {
		all = append(all, p)
	}
	allocatable := corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("2"), corev1.ResourceMemory: resource.MustParse("4Gi"), "pid": resource.MustParse("5000"),
	}
	if err := ours.Setup(allocatable); err != nil {
		t.Fatal(err)
	}
	if err := ours.SetQoS(all); err != nil {
		t.Fatal(err)
	}
	theirs := cm.NewCgroupV1Manager(logr.Discard(), &cm.CgroupSubsystems{MountPoints: h.Mounts}, "cgroupfs")
	base := cm.ParseCgroupfsToCgroupName(root + "/theirs")
	make := func(name cm.CgroupName, c *cm.ResourceConfig) {
		t.Helper()
		if err := theirs.Create(logr.Discard(), &cm.CgroupConfig{Name: name, ResourceParameters: c}); err != nil {
			t.Fatal(err)
		}
	}
	top := cm.NewCgroupName(base, "kubepods")
	shares, memory, pids := cm.MilliCPUToShares(2000), int64(4<<30), int64(5000)
	make(top, &cm.ResourceConfig{CPUShares: &shares, Memory: &memory, PidsLimit: &pids})
	least, burst := uint64(cm.MinShares), cm.MilliCPUToShares(500)
	make(cm.NewCgroupName(top, "burstable"), &cm.ResourceConfig{CPUShares: &burst})
	make(cm.NewCgroupName(top, "besteffort"), &cm.ResourceConfig{CPUShares: &least})
	compare := func(what, literal string) {
		t.Helper()
		want := values(t, h, strings.Replace(literal, "/ours/", "/theirs/", 1))
		if diff := cmp.Diff(want, values(t, h, literal)); diff != "" {
			t.Errorf("%s (-upstream +ours):\n%s", what, diff)
		}
	}
	for _, name := range []cm.CgroupName{ours.top, ours.burstable, ours.bestEffort} {
		compare(name.ToCgroupfs(), name.ToCgroupfs())
	}
	for what, p := range pods {
		if err := ours.Ensure(p); err != nil {
			t.Fatal(err)
		}
		if !ours.Exists(p) {
			t.Errorf("%s: it is not there", what)
		}
		literal, err := ours.Parent(p)
		if err != nil {
			t.Fatal(err)
		}
		c := cm.ResourceConfigForPod(p, true, cm.QuotaPeriod, false, kubeletconfig.NoneMemoryReservationPolicy)
		c.PidsLimit = new(int64)
		*c.PidsLimit = 100
		make(cm.ParseCgroupfsToCgroupName(strings.Replace(literal, "/ours/", "/theirs/", 1)), c)
		compare(what, literal)
	}
	// A pod that is resized.
	larger := pod(pods["guaranteed"].UID, "cpu=1 memory=128Mi", "cpu=1 memory=128Mi")
	if err := ours.Ensure(larger); err != nil {
		t.Fatal(err)
	}
	literal, _ := ours.Parent(larger)
	got := values(t, h, literal)
	for file, want := range map[string]string{"cpu.shares": "1024", "cpu.cfs_quota_us": "100000", "memory.limit_in_bytes": "134217728"} {
		if got[file] != want {
			t.Errorf("when it was resized %s is %s, want %s", file, got[file], want)
		}
	}
	if n, err := ours.MemoryUsage(larger); err != nil || n < 0 {
		t.Errorf("it uses %d bytes, %v", n, err)
	}
	found, err := ours.Pods()
	if err != nil || len(found) != len(pods) {
		t.Errorf("pods %v have cgroups (%v), want %d", found, err, len(pods))
	}
}
