package cgroup

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

const busy = syscall.EBUSY

func itoa(n int) string { return strconv.Itoa(n) }

// fake is a tree of plain files that looks as cgroup v2 does.
func fake(t *testing.T) (m *Manager, root string) {
	t.Helper()
	root = t.TempDir()
	h := Hierarchies{V2: true, Mounts: map[string]string{}}
	for _, c := range []string{"cpu", "cpuset", "memory", "pids", "hugetlb", "io"} {
		h.Mounts[c] = root
	}
	for file, text := range map[string]string{"cgroup.controllers": "cpuset cpu io memory hugetlb pids\n", "cgroup.subtree_control": "memory pids\n"} {
		if err := os.WriteFile(filepath.Join(root, file), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	m, err := New(Config{Log: logger(t), Hierarchies: h})
	if err != nil {
		t.Fatal(err)
	}
	m.store = func(file, value string) error {
		if filepath.Base(file) == "cgroup.kill" {
			return os.ErrNotExist
		}
		if filepath.Base(file) == "cgroup.subtree_control" { // what is written is added
			have, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			value = strings.TrimSpace(string(have)) + strings.ReplaceAll(" "+value, "+", "")
		}
		return os.WriteFile(file, []byte(value), 0o644)
	}
	m.rmdir = func(dir string) error { // as in a cgroup, files go with it
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if !e.IsDir() {
				if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
					return err
				}
			}
		}
		return syscall.Rmdir(dir)
	}
	return m, root
}

func TestV2(t *testing.T) {
	t.Parallel()
	m, root := fake(t)
	pods := classes()
	var all []*corev1.Pod
	for _, p := range pods {
		all = append(all, p)
	}
	if err := m.Setup(corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("2"), corev1.ResourceMemory: resource.MustParse("4Gi")}); err != nil {
		t.Fatal(err)
	}
	if err := m.SetQoS(all); err != nil {
		t.Fatal(err)
	}
	for _, p := range pods {
		if err := m.Ensure(p); err != nil {
			t.Fatal(err)
		}
	}
	got := map[string]string{}
	if err := filepath.WalkDir(root, func(path string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() && !strings.Contains(path, "hugetlb.") {
			data, _ := os.ReadFile(path)
			got[strings.TrimPrefix(path, root+"/")] = strings.TrimSpace(string(data))
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	id := "6c7f3c9e-0000-4000-8000-00000000000"
	want := map[string]string{
		"cgroup.controllers": "cpuset cpu io memory hugetlb pids", "cgroup.subtree_control": "memory pids cpuset cpu io hugetlb",
		"kubepods/cpu.weight": "79", "kubepods/memory.max": "4294967296",
		"kubepods/burstable/cpu.weight": "20", "kubepods/besteffort/cpu.weight": "1",
		"kubepods/pod" + id + "1/cpu.weight": "20", "kubepods/pod" + id + "1/cpu.max": "50000 100000", "kubepods/pod" + id + "1/memory.max": "67108864",
		"kubepods/burstable/pod" + id + "2/cpu.weight": "10",
		"kubepods/burstable/pod" + id + "3/cpu.weight": "10", "kubepods/burstable/pod" + id + "3/cpu.max": "200000 100000",
		"kubepods/burstable/pod" + id + "3/memory.max":                       "67108864",
		"kubepods/besteffort/pod" + id + "4/cpu.weight":                      "1",
		"kubepods/besteffort/pod0123456789abcdef0123456789abcdef/cpu.weight": "1",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for _, p := range pods {
		if err := m.Remove(t.Context(), p.UID); err != nil {
			t.Error(err)
		}
	}
	if left, err := m.Pods(); err != nil || len(left) > 0 {
		t.Errorf("pods %v have cgroups (%v), want none", left, err)
	}
	if _, err := os.Stat(filepath.Join(root, "kubepods/burstable")); err != nil {
		t.Error(err)
	}
}

// TestNoQuota: limits of the CPU are not enforced, those of processes are.
func TestNoQuota(t *testing.T) {
	t.Parallel()
	m, _ := fake(t)
	m.NoCPUQuota, m.PodPids = true, 10
	p := classes()["guaranteed"]
	if err := m.Ensure(p); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{"cpu.max": "max 100000", "pids.max": "10"} {
		data, err := os.ReadFile(filepath.Join(m.Directory(p, "cpu"), file))
		if err != nil || string(data) != want {
			t.Errorf("%s is %q (%v), want %q", file, data, err, want)
		}
	}
}

// TestWeight has the values of KEP-2254.
func TestWeight(t *testing.T) {
	t.Parallel()
	for shares, want := range map[uint64]uint64{0: 1, 2: 1, 102: 4, 1024: 39, 2048: 79, 262144: 10000, 1 << 40: 10000} {
		if got := weight(shares); got != want {
			t.Errorf("weight(%d) = %d, want %d", shares, got, want)
		}
	}
}

// TestSetupRefused: pods that run already may use more than all are to have together; the node comes up all the same.
func TestSetupRefused(t *testing.T) {
	t.Parallel()
	m, _ := fake(t)
	whole := m.store
	m.store = func(file, value string) error {
		if filepath.Base(file) == "memory.max" {
			return busy
		}
		return whole(file, value)
	}
	if err := m.Setup(corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("1Mi")}); err != nil {
		t.Errorf("%v, want no error", err)
	}
	if err := m.Ensure(classes()["guaranteed"]); err == nil {
		t.Error("a pod has no limit, and nobody hears of it")
	}
}
