// Package kubelettest runs upstream's own manager of pods, the kubelet's, over a runtime that writes down what it is asked for. Tests
// compare the agent's decisions and its calls with it.
package kubelettest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	cadvisor "github.com/google/cadvisor/info/v1"
	"go.opentelemetry.io/otel/trace/noop"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/flowcontrol"
	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	critest "k8s.io/cri-api/pkg/apis/testing"
	kubeletconfig "k8s.io/kubernetes/pkg/kubelet/apis/config"
	"k8s.io/kubernetes/pkg/kubelet/cm"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"
	containertest "k8s.io/kubernetes/pkg/kubelet/container/testing"
	"k8s.io/kubernetes/pkg/kubelet/kuberuntime"
	"k8s.io/kubernetes/pkg/kubelet/logs"
	"k8s.io/kubernetes/pkg/kubelet/prober/results"
	"k8s.io/utils/ptr"
)

// MemoryCapacity is the node's, in bytes.
const MemoryCapacity = 8 << 30

// Image is there, and its processes are root's.
const Image = "image"

// Kubelet is upstream's.
type Kubelet struct {
	// Root and Logs are its directories.
	Root, Logs string
	// Helper says what the rest of a kubelet would.
	Helper *Helper

	manager           kuberuntime.KubeGenericRuntime
	recorded          *runtime
	liveness, startup results.Manager
}

// Helper is upstream's fake, with a cgroup and options of one's own.
type Helper struct {
	containertest.FakeRuntimeHelper
	Options      kubecontainer.RunContainerOptions
	CgroupParent string
	Groups       []int64
}

// GenerateRunContainerOptions returns Options.
func (h *Helper) GenerateRunContainerOptions(context.Context, *corev1.Pod, *corev1.Container, string, []string, kubecontainer.ImageVolumes) (*kubecontainer.RunContainerOptions, func(), error) {
	opts := h.Options
	return &opts, nil, nil
}

// GetPodCgroupParent returns CgroupParent.
func (h *Helper) GetPodCgroupParent(*corev1.Pod) string { return h.CgroupParent }

// GetExtraSupplementalGroupsForPod returns Groups.
func (h *Helper) GetExtraSupplementalGroupsForPod(*corev1.Pod) []int64 { return h.Groups }

// Asked is what a runtime was asked for.
type Asked struct {
	// Calls are in order; stops that are done side by side are sorted.
	Calls      []string
	Sandboxes  []*runtimeapi.PodSandboxConfig
	Containers []*runtimeapi.ContainerConfig
}

type going struct{}

func (going) IsPodTerminationRequested(types.UID) bool         { return false }
func (going) ShouldPodContentBeRemoved(types.UID) bool         { return false }
func (going) ShouldPodRuntimeBeRemoved(types.UID) bool         { return false }
func (going) RecordImageStartedPulling(types.UID)              {}
func (going) RecordImageFinishedPulling(types.UID)             {}
func (going) RecordInitContainerStarted(types.UID, time.Time)  {}
func (going) RecordInitContainerFinished(types.UID, time.Time) {}

// New starts one, in directories of the test's.
func New(t testing.TB) *Kubelet {
	t.Helper()
	k := &Kubelet{
		Root: t.TempDir(), Logs: t.TempDir(), Helper: &Helper{}, recorded: &runtime{},
		liveness: results.NewManager(), startup: results.NewManager(),
	}
	images := critest.NewFakeImageService()
	images.SetFakeImages([]string{Image})
	var err error
	k.manager, _, err = kuberuntime.NewKubeGenericRuntimeManager(
		t.Context(), &record.FakeRecorder{}, k.liveness, results.NewManager(), k.startup, k.Root, k.Logs,
		&cadvisor.MachineInfo{MemoryCapacity: MemoryCapacity}, going{}, 110, &containertest.FakeOS{}, k.Helper, nil,
		flowcontrol.NewBackOff(time.Second, time.Minute), false, nil, 0, 0,
		string(kubeletconfig.NeverVerify), nil, "", "", ptr.To(true), true, metav1.Duration{Duration: 100 * time.Millisecond},
		k.recorded, images, cm.NewFakeContainerManager(), logs.NewStubContainerLogManager(), nil, false, "",
		func() corev1.ResourceList { return nil }, 0, kubeletconfig.NoneMemoryReservationPolicy, going{}, noop.NewTracerProvider(), nil, nil, going{},
	)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// Probed is what probes of a container found; nil: nothing yet.
func (k *Kubelet) Probed(pod *corev1.Pod, id kubecontainer.ContainerID, liveness, startup *results.Result) {
	for manager, result := range map[results.Manager]*results.Result{k.liveness: liveness, k.startup: startup} {
		manager.Remove(id)
		if result != nil {
			manager.Set(id, *result, pod)
			<-manager.Updates() // or the next one waits
		}
	}
}

// Sync has it do for a pod what is to be done, and returns what it asked for.
func (k *Kubelet) Sync(ctx context.Context, pod *corev1.Pod, have *kubecontainer.PodStatus, backoff *flowcontrol.Backoff, restartAll bool) Asked {
	k.recorded.asked, k.recorded.have = Asked{}, have
	k.manager.SyncPod(ctx, pod, have, nil, backoff, restartAll)
	k.recorded.mu.Lock()
	defer k.recorded.mu.Unlock()
	return k.recorded.asked
}

// runtime does nothing but write down.
type runtime struct {
	internalapi.RuntimeService
	have *kubecontainer.PodStatus

	mu    sync.Mutex
	asked Asked
}

func (r *runtime) call(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked.Calls = append(r.asked.Calls, fmt.Sprintf(format, args...))
}

// Sorted sorts the stops in a row and the removals in a row, which are in no order.
func Sorted(calls []string) []string {
	calls = slices.Clone(calls)
	verb := func(i int) string { return strings.SplitN(calls[i], " ", 2)[0] }
	for i, j := 0, 0; i < len(calls); i = j {
		for j = i + 1; j < len(calls) && verb(j) == verb(i); j++ {
		}
		if verb(i) == "stop" || verb(i) == "remove" {
			slices.Sort(calls[i:j])
		}
	}
	return calls
}

func (r *runtime) Version(context.Context, string) (*runtimeapi.VersionResponse, error) {
	return &runtimeapi.VersionResponse{Version: "0.1.0", RuntimeName: "fake", RuntimeVersion: "1", RuntimeApiVersion: "v1"}, nil
}

func (r *runtime) RunPodSandbox(_ context.Context, config *runtimeapi.PodSandboxConfig, _ string) (string, error) {
	r.call("sandbox %d", config.Metadata.Attempt)
	r.asked.Sandboxes = append(r.asked.Sandboxes, config)
	return "sandbox", nil
}

func (r *runtime) PodSandboxStatus(context.Context, string, bool) (*runtimeapi.PodSandboxStatusResponse, error) {
	return &runtimeapi.PodSandboxStatusResponse{Status: &runtimeapi.PodSandboxStatus{
		Metadata: &runtimeapi.PodSandboxMetadata{}, Network: &runtimeapi.PodSandboxNetworkStatus{Ip: "10.0.0.1"},
	}}, nil
}

func (r *runtime) StopPodSandbox(_ context.Context, id string) error {
	r.call("stop sandbox %s", id)
	return nil
}

func (r *runtime) CreateContainer(_ context.Context, _ string, config *runtimeapi.ContainerConfig, _ *runtimeapi.PodSandboxConfig) (string, error) {
	r.call("start %s %d", config.Metadata.Name, config.Metadata.Attempt)
	r.asked.Containers = append(r.asked.Containers, config)
	return config.Metadata.Name, nil
}

func (r *runtime) StartContainer(context.Context, string) error { return nil }

func (r *runtime) StopContainer(_ context.Context, id string, grace int64) error {
	r.call("stop %s %d", id, grace)
	return nil
}

func (r *runtime) RemoveContainer(_ context.Context, id string) error {
	if call := "remove " + id; !slices.Contains(r.asked.Calls, call) { // some are removed twice
		r.call("%s", call)
	}
	return nil
}

func (r *runtime) ContainerStatus(_ context.Context, id string, _ bool) (*runtimeapi.ContainerStatusResponse, error) {
	return &runtimeapi.ContainerStatusResponse{Status: &runtimeapi.ContainerStatus{Id: id, Metadata: &runtimeapi.ContainerMetadata{}}}, nil
}

func (r *runtime) UpdateContainerResources(_ context.Context, id string, _ *runtimeapi.ContainerResources) error {
	r.call("resize %s", id)
	return nil
}

func (r *runtime) Close(context.Context) error { return nil }
