package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"
	"k8s.io/kubernetes/pkg/kubelet/events"

	"github.com/rowlock-io/rowlock/agents/node/env"
	"github.com/rowlock-io/rowlock/agents/node/hook"
	"github.com/rowlock-io/rowlock/agents/node/image"
	"github.com/rowlock-io/rowlock/agents/node/observe"
	"github.com/rowlock-io/rowlock/agents/node/podstatus"
	"github.com/rowlock-io/rowlock/agents/node/register"
	"github.com/rowlock-io/rowlock/agents/node/stats"
	"github.com/rowlock-io/rowlock/agents/node/worker"
)

// observer tells workers what the runtime has.
type observer struct{ *observe.Observer }

func (o observer) Pods() []worker.Found {
	pods, _ := o.Observer.Pods()
	found := make([]worker.Found, 0, len(pods))
	for _, p := range pods {
		found = append(found, worker.Found{UID: p.UID, Namespace: p.Namespace, Name: p.Name})
	}
	return found
}

// images has them pulled for workers.
type images struct{ *image.Manager }

func (i images) Ensure(ctx context.Context, pod *corev1.Pod, c *corev1.Container, sandbox *runtimeapi.PodSandboxConfig) (worker.Image, error) {
	got, err := i.Manager.Ensure(ctx, pod, c, sandbox)
	return worker.Image(got), err
}

// volumeImages has images of volumes pulled.
type volumeImages struct{ *Agent }

func (v volumeImages) ImageVolume(ctx context.Context, pod *corev1.Pod, of *corev1.Volume) (*runtimeapi.ImageSpec, error) {
	sandbox := &runtimeapi.PodSandboxConfig{ // whom the image is pulled for
		Metadata: &runtimeapi.PodSandboxMetadata{Name: pod.Name, Namespace: pod.Namespace, Uid: string(pod.UID)},
		Labels:   pod.Labels, Annotations: pod.Annotations,
	}
	return v.images.Volume(ctx, pod, of.Image, sandbox)
}

// hooks runs them for workers.
type hooks struct{ *hook.Runner }

func (h hooks) PostStart(ctx context.Context, pod *corev1.Pod, c *corev1.Container, id kubecontainer.ContainerID, ips []string) error {
	return h.Runner.PostStart(ctx, hook.Container{Pod: pod, Spec: c, ID: id, IPs: ips})
}

func (h hooks) PreStop(
	ctx context.Context, pod *corev1.Pod, c *corev1.Container, id kubecontainer.ContainerID, ips []string, grace time.Duration,
) time.Duration {
	return h.Runner.PreStop(ctx, hook.Container{Pod: pod, Spec: c, ID: id, IPs: ips}, grace)
}

// environment is what pods find around them.
type environment struct{ *Agent }

func (e environment) Sandbox(ctx context.Context, pod *corev1.Pod) (string, *runtimeapi.DNSConfig, error) {
	hostname, err := env.KernelHostname(pod, e.cfg.ClusterDomain)
	if err != nil {
		return "", nil, err
	}
	dns, err := e.dns.Config(ctx, pod)
	return hostname, dns, err
}

func (e environment) Variables(ctx context.Context, pod *corev1.Pod, c *corev1.Container, ips []string) ([]kubecontainer.EnvVar, error) {
	return env.Make(ctx, pod, c, ips, &env.Sources{
		Objects: e.objects, Services: e.services, NodeIPs: e.nodeIPs, Allocatable: e.allocatable, VolumePath: e.volumePath,
	})
}

func (e environment) Hosts(pod *corev1.Pod, ips []string) ([]byte, error) {
	return env.Hosts(pod, ips, e.cfg.ClusterDomain)
}

// classes are RuntimeClasses: which handler each names is asked when a pod needs it, and remembered for when the API is away.
type classes struct {
	client kubernetes.Interface

	mu    sync.Mutex
	known map[string]string
	asked map[string]time.Time
}

// classAge is for how long an answer is good.
const classAge = 30 * time.Second

// classTimeout bounds the wait for one.
const classTimeout = 5 * time.Second

func (c *classes) handler(ctx context.Context, pod *corev1.Pod) (string, error) {
	if pod.Spec.RuntimeClassName == nil || *pod.Spec.RuntimeClassName == "" {
		return "", nil
	}
	name := *pod.Spec.RuntimeClassName
	c.mu.Lock()
	handler, known := c.known[name]
	fresh := known && time.Since(c.asked[name]) < classAge
	c.mu.Unlock()
	if fresh {
		return handler, nil
	}
	ctx, cancel := context.WithTimeout(ctx, classTimeout) // a server that hangs must not have pods wait
	defer cancel()
	class, err := c.client.NodeV1().RuntimeClasses().Get(ctx, name, metav1.GetOptions{})
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.asked == nil {
		c.asked = map[string]time.Time{}
	}
	c.asked[name] = time.Now()
	switch {
	case err == nil:
		c.known[name] = class.Handler
		return class.Handler, nil
	case apierrors.IsNotFound(err):
		delete(c.known, name)
		return "", err
	case known:
		return handler, nil
	}
	return "", fmt.Errorf("failed to lookup RuntimeClass %s: %w", name, err)
}

// recursiveReadOnly tells whether a pod's read-only mounts can be so with all that is mounted below.
func (a *Agent) recursiveReadOnly(pod *corev1.Pod) bool {
	handler, err := a.classes.handler(context.Background(), pod)
	return err == nil && a.handlerReadOnly(handler)
}

func (a *Agent) handlerReadOnly(name string) bool {
	h, ok := a.runtime.Handler(name)
	return ok && h.RecursiveReadOnlyMounts
}

// ready says why the node is not ready.
func (a *Agent) ready() []error {
	why := append(a.health.Errors(), a.observer.Healthy(), a.shutdown.Err())
	if a.network != nil && a.health.Network() != nil {
		why = append(why, a.network.Problem()) // which the runtime cannot know of
	}
	return why
}

// turned is called when the runtime is another way than before: pods may have waited for it.
func (a *Agent) turned() {
	a.node.Poke()
	for _, pod := range a.workers.Active() {
		a.workers.Changed(pod.UID)
	}
}

// has tells whether the runtime has a pod.
func (a *Agent) has(uid types.UID) bool {
	pods, _ := a.observer.Pods()
	return slices.ContainsFunc(pods, func(p observe.Pod) bool { return p.UID == uid && (p.Running || p.Ready) })
}

// allocatable is what of the node pods may have; nil: it is not known yet.
func (a *Agent) allocatable() corev1.ResourceList {
	if node := a.node.Get(); node != nil {
		return node.Status.Allocatable
	}
	return nil
}

// nodeObject is the node as the API has it; when it cannot be asked, as it would be made.
func (a *Agent) nodeObject(ctx context.Context, fresh bool) (*corev1.Node, error) {
	known := a.node.Get()
	if known != nil && !fresh {
		return known.DeepCopy(), nil
	}
	node, err := a.client.CoreV1().Nodes().Get(ctx, a.cfg.Name, metav1.GetOptions{})
	switch {
	case err == nil && node.Status.Allocatable != nil:
		return node, nil
	case known != nil:
		return known.DeepCopy(), nil
	}
	node = &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: a.cfg.Name, Labels: map[string]string{
		corev1.LabelHostname: a.cfg.Hostname, corev1.LabelOSStable: goruntime.GOOS, corev1.LabelArchStable: goruntime.GOARCH,
	}}}
	for name, value := range a.cfg.Labels {
		node.Labels[name] = value
	}
	pods := a.cfg.MaxPods
	if pods == 0 {
		pods = register.MaxPods
	}
	node.Status.Allocatable = corev1.ResourceList{
		corev1.ResourceCPU:    *resource.NewQuantity(int64(goruntime.NumCPU()), resource.DecimalSI),
		corev1.ResourceMemory: *resource.NewQuantity(memoryCapacity(), resource.BinarySI),
		corev1.ResourcePods:   *resource.NewQuantity(int64(pods), resource.DecimalSI),
	}
	node.Status.Capacity = node.Status.Allocatable
	return node, nil
}

func (a *Agent) nodeUID(context.Context) (types.UID, error) {
	if node := a.node.Get(); node != nil {
		return node.UID, nil
	}
	return "", errors.New("the node is not registered yet")
}

// leastKill is how long a pod has at least to be killed in.
const leastKill = 10 * time.Second

// kill ends a pod to make room for another, and waits for that.
func (a *Agent) kill(pod *corev1.Pod, _ bool, grace *int64, set func(*corev1.PodStatus)) error {
	status := pod.Status.DeepCopy()
	if set != nil {
		set(status)
	}
	why := &podstatus.Evicted{Reason: status.Reason, Message: status.Message}
	for i := range status.Conditions {
		if status.Conditions[i].Type == corev1.DisruptionTarget {
			why.Condition = &status.Conditions[i]
		}
	}
	return a.end(context.Background(), pod, why, grace)
}

// end ends a pod that the node cannot keep, and waits for that.
func (a *Agent) end(ctx context.Context, pod *corev1.Pod, why *podstatus.Evicted, grace *int64) error {
	seconds := int64(0)
	switch {
	case grace != nil:
		seconds = *grace
	case pod.Spec.TerminationGracePeriodSeconds != nil:
		seconds = *pod.Spec.TerminationGracePeriodSeconds
	}
	timer := time.NewTimer(max(time.Duration(seconds+seconds/2)*time.Second, leastKill))
	defer timer.Stop()
	select {
	case <-a.workers.Kill(pod.UID, why, grace):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		a.events.Event(pod, corev1.EventTypeWarning, events.ExceededGracePeriod, "Container runtime did not kill the pod within specified grace period.")
		return errors.New("timeout waiting to kill pod")
	}
}

// memoryCapacity is the machine's, in bytes.
func memoryCapacity() int64 {
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) >= 2 && fields[0] == "MemTotal:" {
			n, err := strconv.ParseInt(fields[1], 10, 64)
			if err != nil {
				return 0
			}
			return n << 10
		}
	}
	return 0
}

// volumePath is the directory of a pod's emptyDir, which files with variables are read from (KEP-3721).
func (a *Agent) volumePath(pod *corev1.Pod, volume string) (string, bool) {
	path := filepath.Join(a.cfg.DataDir, "pods", string(pod.UID), "volumes", "kubernetes.io~empty-dir", volume)
	info, err := os.Lstat(path)
	return path, err == nil && info.IsDir()
}

// measured are the volumes of a pod that hold something of its own.
func (a *Agent) measured(pod types.UID) []stats.Volume {
	var volumes []stats.Volume
	for _, place := range a.volumes.Places(pod) {
		volumes = append(volumes, stats.Volume{Name: place.Name, Path: place.Path, Local: place.Local})
	}
	return volumes
}
