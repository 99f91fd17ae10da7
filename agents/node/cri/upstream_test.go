package cri

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/flowcontrol"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"
	"k8s.io/utils/ptr"

	"github.com/rowlock-io/rowlock/agents/node/kubelettest"
)

// TestAgainstKubelet: for random pods sandboxes and containers are asked for as by the kubelet's own manager of pods.
func TestAgainstKubelet(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	k := kubelettest.New(t)
	k.Helper.HostName, k.Helper.CgroupParent, k.Helper.Groups = "web", "/kubepods/pod1", []int64{7}
	k.Helper.DNSServers = []string{"10.0.0.10"}
	k.Helper.Options.Envs = []kubecontainer.EnvVar{{Name: "WHO", Value: "you"}, {Name: "EMPTY"}}
	node := &Node{MemoryCapacity: kubelettest.MemoryCapacity, PodLogs: k.Logs, SeccompRoot: k.Root + "/seccomp", CgroupV2: CgroupV2(), SwapController: SwapController()}
	for n := range 500 {
		pod := random(r)
		asked := k.Sync(context.Background(), pod.DeepCopy(), &kubecontainer.PodStatus{}, flowcontrol.NewBackOff(time.Second, time.Minute), false)
		p := &Pod{
			Node: node, Pod: pod, Hostname: "web", DNS: &runtimeapi.DNSConfig{Servers: k.Helper.DNSServers},
			CgroupParent: k.Helper.CgroupParent, ExtraGroups: k.Helper.Groups,
		}
		sandbox, err := p.Sandbox()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(asked.Sandboxes, []*runtimeapi.PodSandboxConfig{sandbox}, protocmp.Transform(), protocmp.SortRepeated(func(a, b int64) bool { return a < b })); diff != "" {
			t.Fatalf("pod %d: kubelet -, agent +:\n%s", n, diff)
		}
		var containers []*runtimeapi.ContainerConfig
		for i := range pod.Spec.Containers {
			c := &Container{Pod: p, Spec: &pod.Spec.Containers[i], Image: kubelettest.Image + ":latest", UID: new(int64), Envs: k.Helper.Options.Envs}
			config, err := c.Config()
			if err != nil {
				continue // and upstream's has not asked for it either
			}
			containers = append(containers, config)
		}
		if diff := cmp.Diff(asked.Containers, containers, protocmp.Transform(), protocmp.SortRepeated(func(a, b int64) bool { return a < b })); diff != "" {
			t.Fatalf("pod %d: kubelet -, agent +:\n%s", n, diff)
		}
	}
}

func random(r *rand.Rand) *corev1.Pod {
	one := func(odds int) bool { return r.IntN(odds) == 0 }
	flag := func() *bool {
		return []*bool{nil, ptr.To(true), ptr.To(false)}[r.IntN(3)]
	}
	id := func() *int64 {
		return []*int64{nil, ptr.To[int64](0), ptr.To[int64](1000)}[r.IntN(3)]
	}
	list := func() corev1.ResourceList {
		out := corev1.ResourceList{}
		if one(2) {
			out[corev1.ResourceCPU] = *resource.NewMilliQuantity(int64(r.IntN(4000)), resource.DecimalSI)
		}
		if one(2) {
			out[corev1.ResourceMemory] = *resource.NewQuantity(int64(r.IntN(1<<30)), resource.BinarySI)
		}
		if one(4) {
			out[corev1.ResourceHugePagesPrefix+"2Mi"] = *resource.NewQuantity(int64(r.IntN(8))<<21, resource.BinarySI)
		}
		return out
	}
	seccomp := func() *corev1.SeccompProfile {
		return []*corev1.SeccompProfile{
			nil,
			{Type: corev1.SeccompProfileTypeRuntimeDefault},
			{Type: corev1.SeccompProfileTypeUnconfined},
			{Type: corev1.SeccompProfileTypeLocalhost, LocalhostProfile: ptr.To("a/b.json")},
		}[r.IntN(4)]
	}
	apparmor := func() *corev1.AppArmorProfile {
		return []*corev1.AppArmorProfile{
			nil,
			{Type: corev1.AppArmorProfileTypeRuntimeDefault},
			{Type: corev1.AppArmorProfileTypeUnconfined},
			{Type: corev1.AppArmorProfileTypeLocalhost, LocalhostProfile: ptr.To("mine")},
		}[r.IntN(4)]
	}
	selinux := func() *corev1.SELinuxOptions {
		return []*corev1.SELinuxOptions{nil, {User: "u", Role: "r", Type: "t", Level: "s0"}}[r.IntN(2)]
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "1"}}
	if one(2) {
		pod.Labels, pod.Annotations = map[string]string{"app": "web"}, map[string]string{"note": "x"}
	}
	spec := &pod.Spec
	spec.HostNetwork, spec.HostIPC, spec.HostPID = one(4), one(4), one(4)
	if !spec.HostPID {
		spec.ShareProcessNamespace = flag()
	}
	if one(2) {
		spec.TerminationGracePeriodSeconds = ptr.To[int64](30)
	}
	if one(4) {
		spec.Overhead = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("64Mi")}
	}
	if one(4) {
		spec.Resources = &corev1.ResourceRequirements{Limits: list(), Requests: list()}
	}
	spec.SecurityContext = &corev1.PodSecurityContext{
		RunAsUser: id(), RunAsGroup: id(), FSGroup: id(), RunAsNonRoot: flag(), SeccompProfile: seccomp(), AppArmorProfile: apparmor(), SELinuxOptions: selinux(),
	}
	if one(2) {
		spec.SecurityContext.SupplementalGroups = []int64{3, 4}
		spec.SecurityContext.SupplementalGroupsPolicy = ptr.To(corev1.SupplementalGroupsPolicyStrict)
	}
	if one(2) {
		spec.SecurityContext.Sysctls = []corev1.Sysctl{{Name: "kernel/shm_rmid_forced", Value: "1"}, {Name: "net.ipv4.tcp_syncookies", Value: "1"}}
	}
	for i := range 1 + r.IntN(2) {
		c := corev1.Container{
			Name: fmt.Sprintf("c%d", i), Image: kubelettest.Image, ImagePullPolicy: corev1.PullIfNotPresent, WorkingDir: "/tmp",
			Stdin: one(2), StdinOnce: one(2), TTY: one(2), TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
			Resources: corev1.ResourceRequirements{Limits: list(), Requests: list()},
		}
		if one(2) {
			c.Command, c.Args = []string{"sh", "-c", "echo $(WHO) $(NOBODY) $$(WHO)"}, []string{"$(WHO)"}
		}
		if one(2) {
			c.Ports = []corev1.ContainerPort{{ContainerPort: 80, Protocol: corev1.ProtocolTCP}, {ContainerPort: 53, HostPort: 5353, HostIP: "127.0.0.1", Protocol: corev1.ProtocolUDP}}
		}
		if one(3) {
			c.Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"true"}}}}
		}
		if one(2) {
			c.SecurityContext = &corev1.SecurityContext{
				RunAsUser: id(), RunAsGroup: id(), RunAsNonRoot: flag(), Privileged: flag(), ReadOnlyRootFilesystem: flag(), AllowPrivilegeEscalation: flag(),
				SeccompProfile: seccomp(), AppArmorProfile: apparmor(), SELinuxOptions: selinux(),
			}
			if one(2) {
				c.SecurityContext.Capabilities = &corev1.Capabilities{Add: []corev1.Capability{"NET_ADMIN"}, Drop: []corev1.Capability{"ALL"}}
			}
			if one(3) {
				c.SecurityContext.ProcMount = ptr.To(corev1.UnmaskedProcMount)
			}
		}
		spec.Containers = append(spec.Containers, c)
	}
	return pod
}
