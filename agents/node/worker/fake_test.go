package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/record"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	kubeletconfig "k8s.io/kubernetes/pkg/kubelet/apis/config"
	"k8s.io/kubernetes/pkg/kubelet/cm"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"

	"github.com/rowlock-io/rowlock/agents/node/cri"
	"github.com/rowlock-io/rowlock/agents/node/plan"
	"github.com/rowlock-io/rowlock/agents/node/podstatus"
)

// machine is a runtime, and all else that workers need, in memory. Time is the bubble's.
type machine struct {
	mu         sync.Mutex
	calls      []string
	next       int
	sandboxes  []*runtimeapi.PodSandboxStatus
	containers []cri.Reported
	// life is how long a container runs, and how it ends; less than nothing: until it is stopped, which takes as long.
	life func(name string, attempt int) (time.Duration, int32)
	// fail is asked before each call.
	fail    func(call string) error
	changed func(types.UID)

	image   func(c *corev1.Container) error
	volumes map[types.UID]bool
	preStop func(ctx context.Context) time.Duration
	probes  map[string]podstatus.Probes
	cgroups map[types.UID]*cm.ResourceConfig
	used    uint64 // of memory, by each container
	givens  map[types.UID]Given
}

func newMachine() *machine {
	return &machine{
		life:    func(string, int) (time.Duration, int32) { return -1, 0 },
		fail:    func(string) error { return nil },
		changed: func(types.UID) {},
		image:   func(*corev1.Container) error { return nil },
		volumes: map[types.UID]bool{}, cgroups: map[types.UID]*cm.ResourceConfig{}, givens: map[types.UID]Given{},
	}
}

func (m *machine) call(format string, args ...any) error {
	call := fmt.Sprintf(format, args...)
	m.calls = append(m.calls, call)
	return m.fail(call)
}

func (m *machine) id() string { m.next++; return fmt.Sprintf("id-%d", m.next) }

func (m *machine) RunPodSandbox(_ context.Context, config *runtimeapi.PodSandboxConfig, _ string) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.call("run sandbox %s", config.Metadata.Name); err != nil {
		return "", err
	}
	s := &runtimeapi.PodSandboxStatus{
		Id: m.id(), Metadata: config.Metadata, State: runtimeapi.PodSandboxState_SANDBOX_READY, CreatedAt: time.Now().UnixNano(),
		Network: &runtimeapi.PodSandboxNetworkStatus{Ip: "10.0.0.1"}, Linux: &runtimeapi.LinuxPodSandboxStatus{Namespaces: &runtimeapi.Namespace{
			Options: config.Linux.SecurityContext.NamespaceOptions,
		}},
	}
	m.sandboxes = append(m.sandboxes, s)
	return s.Id, nil
}

func (m *machine) PodSandboxStatus(_ context.Context, id string, _ bool) (*runtimeapi.PodSandboxStatusResponse, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return &runtimeapi.PodSandboxStatusResponse{Status: m.sandbox(id)}, nil
}

func (m *machine) sandbox(id string) *runtimeapi.PodSandboxStatus {
	i := slices.IndexFunc(m.sandboxes, func(s *runtimeapi.PodSandboxStatus) bool { return s.Id == id })
	if i < 0 {
		return nil
	}
	return m.sandboxes[i]
}

func (m *machine) StopPodSandbox(_ context.Context, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.sandbox(id)
	if err := m.call("stop sandbox %s", s.Metadata.Name); err != nil {
		return err
	}
	s.State, s.Network = runtimeapi.PodSandboxState_SANDBOX_NOTREADY, nil
	return nil
}

func (m *machine) RemovePodSandbox(_ context.Context, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	_ = m.call("remove sandbox %s", m.sandbox(id).Metadata.Name)
	m.sandboxes = slices.DeleteFunc(m.sandboxes, func(s *runtimeapi.PodSandboxStatus) bool { return s.Id == id })
	m.containers = slices.DeleteFunc(m.containers, func(c cri.Reported) bool { return c.Sandbox == id })
	return nil
}

func (m *machine) CreateContainer(_ context.Context, sandbox string, config *runtimeapi.ContainerConfig, _ *runtimeapi.PodSandboxConfig) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.call("create %s %d", config.Metadata.Name, config.Metadata.Attempt); err != nil {
		return "", err
	}
	c := cri.Reported{Sandbox: sandbox, ContainerStatus: &runtimeapi.ContainerStatus{
		Id: m.id(), Metadata: config.Metadata, State: runtimeapi.ContainerState_CONTAINER_CREATED, CreatedAt: time.Now().UnixNano() + int64(m.next),
		Image: config.Image, ImageRef: "ref", Labels: config.Labels, Annotations: config.Annotations,
	}}
	m.containers = append(m.containers, c)
	return c.Id, nil
}

func (m *machine) container(id string) *runtimeapi.ContainerStatus {
	i := slices.IndexFunc(m.containers, func(c cri.Reported) bool { return c.Id == id })
	if i < 0 {
		return nil
	}
	return m.containers[i].ContainerStatus
}

func (m *machine) StartContainer(_ context.Context, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.container(id)
	if err := m.call("start %s", c.Metadata.Name); err != nil {
		return err
	}
	c.State, c.StartedAt = runtimeapi.ContainerState_CONTAINER_RUNNING, time.Now().UnixNano()
	if d, code := m.life(c.Metadata.Name, int(c.Metadata.Attempt)); d >= 0 {
		time.AfterFunc(d, func() { m.exit(id, code) })
	}
	return nil
}

func (m *machine) exit(id string, code int32) {
	m.mu.Lock()
	c := m.container(id)
	if c == nil || c.State != runtimeapi.ContainerState_CONTAINER_RUNNING {
		m.mu.Unlock()
		return
	}
	c.State, c.ExitCode, c.FinishedAt = runtimeapi.ContainerState_CONTAINER_EXITED, code, time.Now().UnixNano()
	c.Reason = "Completed"
	if code != 0 {
		c.Reason = "Error"
	}
	uid := m.podOf(id)
	m.mu.Unlock()
	m.changed(uid)
}

func (m *machine) podOf(id string) types.UID {
	for _, c := range m.containers {
		if c.Id == id {
			return types.UID(m.sandbox(c.Sandbox).Metadata.Uid)
		}
	}
	return ""
}

func (m *machine) StopContainer(ctx context.Context, id string, seconds int64) error {
	m.mu.Lock()
	c := m.container(id)
	if err := m.call("stop %s %d", c.Metadata.Name, seconds); err != nil {
		m.mu.Unlock()
		return err
	}
	life, _ := m.life(c.Metadata.Name, int(c.Metadata.Attempt))
	m.mu.Unlock()
	select {
	case <-time.After(min(-life, time.Duration(seconds)*time.Second)):
		m.exit(id, 137)
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (m *machine) RemoveContainer(_ context.Context, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	_ = m.call("remove %s", m.container(id).Metadata.Name)
	m.containers = slices.DeleteFunc(m.containers, func(c cri.Reported) bool { return c.Id == id })
	return nil
}

func (m *machine) UpdateContainerResources(_ context.Context, id string, r *runtimeapi.ContainerResources) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.call("resize %s %d", m.container(id).Metadata.Name, r.Linux.CpuQuota)
}

func (m *machine) UpdatePodSandboxResources(context.Context, *runtimeapi.UpdatePodSandboxResourcesRequest) (*runtimeapi.UpdatePodSandboxResourcesResponse, error) {
	return &runtimeapi.UpdatePodSandboxResourcesResponse{}, nil
}

func (m *machine) ContainerStats(_ context.Context, id string) (*runtimeapi.ContainerStats, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !slices.ContainsFunc(m.containers, func(c cri.Reported) bool { return c.Id == id && c.State == runtimeapi.ContainerState_CONTAINER_RUNNING }) {
		return nil, errors.New("unexpected metrics response: []")
	}
	return &runtimeapi.ContainerStats{Memory: &runtimeapi.MemoryUsage{UsageBytes: &runtimeapi.UInt64Value{Value: m.used}}}, nil
}

// Report knows nothing that was not asked for.
func (m *machine) Report(uid types.UID) *cri.Report { return nil }

func (m *machine) Refresh(_ context.Context, uid types.UID) (*cri.Report, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.fail("refresh"); err != nil {
		return nil, err
	}
	r := &cri.Report{Runtime: "fake", At: time.Now()}
	for _, s := range m.sandboxes {
		if s.Metadata.Uid != string(uid) {
			continue
		}
		sandbox := &runtimeapi.PodSandboxStatus{
			Id: s.Id, Metadata: s.Metadata, State: s.State, CreatedAt: s.CreatedAt, Network: s.Network, Linux: s.Linux,
		}
		r.Sandboxes = append(r.Sandboxes, sandbox)
		for _, c := range m.containers {
			if c.Sandbox == s.Id {
				status := &runtimeapi.ContainerStatus{
					Id: c.Id, Metadata: c.Metadata, State: c.State, CreatedAt: c.CreatedAt, StartedAt: c.StartedAt, FinishedAt: c.FinishedAt,
					ExitCode: c.ExitCode, Image: c.Image, ImageRef: c.ImageRef, Reason: c.Reason, Labels: c.Labels, Annotations: c.Annotations,
				}
				r.Containers = append(r.Containers, cri.Reported{ContainerStatus: status, Sandbox: c.Sandbox})
			}
		}
	}
	return r, nil
}

func (m *machine) Pods() []Found {
	m.mu.Lock()
	defer m.mu.Unlock()
	var found []Found
	for _, s := range m.sandboxes {
		found = append(found, Found{UID: types.UID(s.Metadata.Uid), Namespace: s.Metadata.Namespace, Name: s.Metadata.Name})
	}
	return found
}

// asked are the calls so far.
func (m *machine) asked() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.calls)
}

type images struct{ *machine }

func (i images) Ensure(_ context.Context, _ *corev1.Pod, c *corev1.Container, _ *runtimeapi.PodSandboxConfig) (Image, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return Image{Ref: "ref"}, i.image(c)
}

type environment struct{}

func (environment) Sandbox(_ context.Context, pod *corev1.Pod) (string, *runtimeapi.DNSConfig, error) {
	return pod.Name, nil, nil
}

func (environment) Variables(context.Context, *corev1.Pod, *corev1.Container, []string) ([]kubecontainer.EnvVar, error) {
	return nil, nil
}

func (environment) Hosts(*corev1.Pod, []string) ([]byte, error) { return nil, nil }

type volumes struct{ *machine }

func (v volumes) Setup(_ context.Context, pod *corev1.Pod) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.machine.volumes[pod.UID] = true
	return nil
}

func (v volumes) Mounts(context.Context, *corev1.Pod, *corev1.Container, []kubecontainer.EnvVar) ([]*runtimeapi.Mount, error) {
	return nil, nil
}

func (v volumes) Hosts(*corev1.Pod, *corev1.Container, []byte) (*runtimeapi.Mount, error) {
	return nil, nil
}

func (v volumes) TerminationLog(*corev1.Pod, *corev1.Container) (*runtimeapi.Mount, error) {
	return nil, nil
}
func (v volumes) Groups(*corev1.Pod) []int64 { return nil }
func (v volumes) TearDown(_ context.Context, uid types.UID) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, c := range v.containers {
		if c.State == runtimeapi.ContainerState_CONTAINER_RUNNING && v.podOf(c.Id) == uid {
			return errors.New("volumes are in use")
		}
	}
	delete(v.machine.volumes, uid)
	return nil
}
func (v volumes) Remove(context.Context, types.UID) error             { return nil }
func (v volumes) Orphans(context.Context, func(types.UID) bool) error { return nil }

type objects struct{}

func (objects) Use(*corev1.Pod)     {}
func (objects) Release(*corev1.Pod) {}

type hooks struct{ *machine }

func (h hooks) PostStart(context.Context, *corev1.Pod, *corev1.Container, kubecontainer.ContainerID, []string) error {
	return nil
}

func (h hooks) PreStop(ctx context.Context, _ *corev1.Pod, c *corev1.Container, _ kubecontainer.ContainerID, _ []string, grace time.Duration) time.Duration {
	h.mu.Lock()
	_ = h.call("preStop %s", c.Name)
	h.mu.Unlock()
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	h.preStop(ctx)
	return time.Since(began)
}

type probes struct{ *machine }

func (p probes) Set(*corev1.Pod, *corev1.PodStatus)           {}
func (p probes) Terminate(types.UID)                          {}
func (p probes) Forget(types.UID)                             {}
func (p probes) Plan(types.UID) map[string]plan.Probes        { return nil }
func (p probes) Status(types.UID) map[string]podstatus.Probes { return p.machine.probes }

type cgroups struct{ *machine }

func (g cgroups) Exists(pod *corev1.Pod) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.machine.cgroups[pod.UID] != nil
}

func (g cgroups) Ensure(pod *corev1.Pod) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.machine.cgroups[pod.UID] = cm.ResourceConfigForPod(pod, true, cm.QuotaPeriod, false, kubeletconfig.NoneMemoryReservationPolicy)
	return nil
}

func (g cgroups) Current(pod *corev1.Pod) (*cm.ResourceConfig, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.machine.cgroups[pod.UID], nil
}

func (g cgroups) MemoryUsage(*corev1.Pod) (int64, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return int64(g.used), nil
}
func (g cgroups) Parent(*corev1.Pod) (string, error) { return "parent", nil }
func (g cgroups) Remove(_ context.Context, uid types.UID) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.machine.cgroups, uid)
	return nil
}

type givens struct{ *machine }

func (g givens) Load(uid types.UID) (Given, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	given := g.machine.givens[uid]
	given.Containers = maps.Clone(given.Containers)
	return given, nil
}

func (g givens) Save(uid types.UID, given Given) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	given.Containers = maps.Clone(given.Containers)
	g.machine.givens[uid] = given
	return nil
}

// node is one with an agent, and the API that it speaks to.
type node struct {
	*machine
	t       *testing.T
	client  *fake.Clientset
	events  *record.FakeRecorder
	workers *Workers
	stop    func()
}

// bubble runs a test where time passes when nothing else does.
func bubble(t *testing.T, test func(t *testing.T, n *node)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := &node{machine: newMachine(), t: t, client: fake.NewClientset()}
		n.start()
		defer func() { n.stop() }()
		test(t, n)
	})
}

// start starts an agent.
func (n *node) start() {
	n.events = record.NewFakeRecorder(1000)
	logs := n.t.TempDir()
	n.workers = New(Config{
		Node: &cri.Node{PodLogs: logs, MemoryCapacity: 8 << 30}, RuntimeName: "fake", Runtime: n.machine, Observer: n.machine, Images: images{n.machine},
		Environment: environment{}, Volumes: volumes{n.machine}, Objects: objects{}, Hooks: hooks{n.machine}, Probes: probes{n.machine},
		Cgroups: cgroups{n.machine}, Givens: givens{n.machine}, NetworkReady: func() error { return nil },
		NodeIPs: func() []netip.Addr { return []netip.Addr{netip.MustParseAddr("192.0.2.1")} },
		API:     n.api, Client: n.client, Events: n.events, Log: slog.New(slog.NewTextHandler(output(), nil)),
	})
	n.machine.changed = n.workers.Changed
	ctx, cancel := context.WithCancel(n.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := n.workers.Run(ctx); err != nil {
			n.t.Error(err)
		}
	}()
	n.stop = func() { cancel(); <-done }
}

func output() io.Writer {
	if testing.Verbose() {
		return os.Stderr
	}
	return io.Discard
}

// api is the pod as the API has it.
func (n *node) api(uid types.UID) *corev1.Pod {
	pods, err := n.client.Tracker().List(corev1.SchemeGroupVersion.WithResource("pods"), corev1.SchemeGroupVersion.WithKind("Pod"), "default")
	if err != nil {
		return nil
	}
	for _, pod := range pods.(*corev1.PodList).Items {
		if pod.UID == uid {
			return &pod
		}
	}
	return nil
}

// pod is in the API and wanted.
func (n *node) pod(name string, change func(*corev1.Pod)) *corev1.Pod {
	n.t.Helper()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID("uid-" + name), Generation: 1},
		Spec: corev1.PodSpec{
			Containers: []corev1.Container{{Name: "c", Image: "image"}}, RestartPolicy: corev1.RestartPolicyAlways,
			TerminationGracePeriodSeconds: new(int64),
		},
		Status: corev1.PodStatus{Phase: corev1.PodPending},
	}
	*pod.Spec.TerminationGracePeriodSeconds = 30
	if change != nil {
		change(pod)
	}
	made, err := n.client.CoreV1().Pods("default").Create(n.t.Context(), pod, metav1.CreateOptions{})
	if err != nil {
		n.t.Fatal(err)
	}
	n.workers.Set(made)
	return made
}

// delete is what the API does with a delete: it waits for the node.
func (n *node) delete(uid types.UID, grace int64) {
	n.t.Helper()
	pod := n.api(uid).DeepCopy()
	now := metav1.Now()
	pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds = &now, &grace
	if err := n.client.Tracker().Update(corev1.SchemeGroupVersion.WithResource("pods"), pod, "default"); err != nil {
		n.t.Fatal(err)
	}
	n.workers.Set(pod)
}

// after lets time pass, and what is then due be done.
func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}
