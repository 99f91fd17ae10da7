package cri_test

import (
	"testing"
	"time"

	libcontainer "github.com/opencontainers/cgroups"
	corev1 "k8s.io/api/core/v1"
	criclient "k8s.io/cri-client/pkg"
	"k8s.io/utils/ptr"

	"github.com/rowlock-io/rowlock/agents/node/cri"
	"github.com/rowlock-io/rowlock/agents/node/fakecri"
)

// TestStrictRuntime: CRI-O wants a container's namespaces to be asked for as its pod's were, and leaves a cgroup behind for a pod
// that has no parent of its own. containerd forgives the first by sharing processes, which changes what signals do.
func TestStrictRuntime(t *testing.T) {
	t.Parallel()
	r := fakecri.Start(t, fakecri.CRIO())
	r.AddImages("busybox")
	c, err := criclient.NewRemoteRuntimeService(t.Context(), r.Endpoint(), 10*time.Second, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	for what, spec := range map[string]corev1.PodSpec{
		"usual": {}, "node's processes": {HostPID: true}, "shared processes": {ShareProcessNamespace: ptr.To(true)},
		"node's network": {HostNetwork: true}, "node's IPC": {HostIPC: true},
	} {
		spec.Containers = []corev1.Container{{Name: "main", Image: "busybox"}}
		pod := &cri.Pod{Node: &cri.Node{}, Pod: &corev1.Pod{Spec: spec}, CgroupParent: "/kubepods/besteffort/pod1"}
		pod.Name, pod.Namespace, pod.UID = what, "default", "1"
		sandbox, err := pod.Sandbox()
		if err != nil {
			t.Fatal(err)
		}
		id, err := c.RunPodSandbox(t.Context(), sandbox, "")
		if err != nil {
			t.Fatal(err)
		}
		container := &cri.Container{Pod: pod, Spec: &spec.Containers[0], Image: "busybox"}
		config, err := container.Config()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.CreateContainer(t.Context(), id, config, sandbox); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	if left := r.Leftovers(); len(left) > 0 {
		t.Errorf("it left %v", left)
	}
}

// TestNoHugetlb: huge pages are not limited where nothing counts them, which some runtimes fail for.
func TestNoHugetlb(t *testing.T) {
	t.Parallel()
	spec := &corev1.Container{Name: "main", Image: "busybox"}
	for _, none := range []bool{false, true} {
		c := &cri.Container{Pod: &cri.Pod{Node: &cri.Node{NoHugetlb: none}, Pod: &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{*spec}}}}, Spec: spec}
		if got, sizes := len(c.Resources().HugepageLimits), len(libcontainer.HugePageSizes()); none && got != 0 || !none && got != sizes {
			t.Errorf("%v: %d limits of %d sizes", none, got, sizes)
		}
	}
}
