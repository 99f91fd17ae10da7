package register

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/utils/ptr"
)

// setStatus writes what the node knows of itself into its status. What it does not know of stays.
func (n *Node) setStatus(ctx context.Context, node *corev1.Node) {
	n.setAddresses(ctx, node)
	n.setResources(node)
	n.setInfo(node)
	s := &node.Status
	if n.cfg.Port != 0 {
		s.DaemonEndpoints.KubeletEndpoint.Port = n.cfg.Port
	}
	rt := n.cfg.Runtime()
	s.RuntimeHandlers, s.Features = rt.Handlers, rt.Features
	s.DeclaredFeatures = n.cfg.DeclaredFeatures
	s.Images = n.images.list(ctx, n.cfg)
	if n.cfg.VolumesInUse != nil {
		s.VolumesInUse = n.cfg.VolumesInUse()
	}
	n.setPressure(s)
	n.setReady(s)
	if schedulable := !node.Spec.Unschedulable; schedulable != n.schedulable {
		n.schedulable = schedulable
		if schedulable {
			n.statusEvent("NodeSchedulable")
		} else {
			n.statusEvent("NodeNotSchedulable")
		}
	}
}

func (n *Node) setAddresses(ctx context.Context, node *corev1.Node) {
	found, err := n.addressesOf(ctx)
	if err != nil {
		if ctx.Err() == nil {
			n.cfg.Log.Warn("The node's address could not be found out", "node", n.cfg.Name, "err", err)
		}
		return // what the Node has may still be true
	}
	n.mu.Lock()
	n.addresses = found
	n.mu.Unlock()
	node.Status.Addresses = found
}

func (n *Node) setInfo(node *corev1.Node) {
	info, rt := &node.Status.NodeInfo, n.cfg.Runtime()
	if info.BootID != "" && info.BootID != n.facts.bootID && !n.rebooted {
		n.rebooted = true
		n.event(corev1.EventTypeWarning, "Rebooted", fmt.Sprintf("Node %s has been rebooted, boot id: %s", n.cfg.Name, n.facts.bootID))
	}
	*info = corev1.NodeSystemInfo{
		MachineID: n.facts.machineID, SystemUUID: n.facts.systemUUID, BootID: n.facts.bootID,
		KernelVersion: n.facts.kernel, OSImage: n.facts.osImage, OperatingSystem: runtime.GOOS, Architecture: runtime.GOARCH,
		ContainerRuntimeVersion: cmp.Or(rt.Name, "unknown") + "://" + cmp.Or(rt.Version, "Unknown"),
		KubeletVersion:          n.cfg.Version,
	}
	if n.facts.swap != 0 {
		info.Swap = &corev1.NodeSwapStatus{Capacity: ptr.To(n.facts.swap)}
	}
}

// setResources writes what the machine has, and what of it pods may have.
func (n *Node) setResources(node *corev1.Node) {
	s := &node.Status
	if s.Capacity == nil {
		s.Capacity = corev1.ResourceList{}
	}
	if s.Allocatable == nil {
		s.Allocatable = corev1.ResourceList{}
	}
	pods := int64(n.cfg.MaxPods)
	if n.cfg.PodsPerCore > 0 {
		pods = min(pods, int64(n.facts.cpus)*int64(n.cfg.PodsPerCore))
	}
	s.Capacity[corev1.ResourceCPU] = *resource.NewMilliQuantity(int64(n.facts.cpus)*1000, resource.DecimalSI)
	s.Capacity[corev1.ResourceMemory] = *resource.NewQuantity(n.facts.memory, resource.BinarySI)
	s.Capacity[corev1.ResourcePods] = *resource.NewQuantity(pods, resource.DecimalSI)
	for name, bytes := range n.cfg.machine.hugePages() {
		s.Capacity[name] = *resource.NewQuantity(bytes, resource.BinarySI)
	}
	if bytes, err := n.cfg.machine.disk(n.cfg.DataDir); err == nil {
		s.Capacity[corev1.ResourceEphemeralStorage] = *resource.NewQuantity(bytes, resource.BinarySI)
	}
	for name := range s.Allocatable {
		if _, there := s.Capacity[name]; !there && extended(name) {
			delete(s.Allocatable, name)
		}
	}
	reserved := reserved(n.cfg.Kept(s.Capacity), n.cfg.Reserved)
	for name, all := range s.Capacity {
		rest := all.DeepCopy()
		if part, ok := reserved[name]; ok {
			rest.Sub(part)
		}
		if rest.Sign() < 0 {
			rest.Set(0)
		}
		s.Allocatable[name] = rest
	}
	memory := s.Allocatable[corev1.ResourceMemory]
	for name, all := range s.Capacity {
		if strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix) {
			memory.Sub(all)
		}
	}
	if memory.Sign() < 0 {
		memory.Set(0)
	}
	s.Allocatable[corev1.ResourceMemory] = memory
}

// Kubelet's default bounds at which pods are evicted: what is below them is not for pods.
var evictedMemory = resource.MustParse("100Mi")

const evictedDisk = 0.1

func keptByDefault(capacity corev1.ResourceList) corev1.ResourceList {
	kept := corev1.ResourceList{corev1.ResourceMemory: evictedMemory}
	if disk, ok := capacity[corev1.ResourceEphemeralStorage]; ok {
		kept[corev1.ResourceEphemeralStorage] = *resource.NewQuantity(int64(float64(disk.Value())*evictedDisk), resource.BinarySI)
	}
	return kept
}

// reserved is what pods may not have: what the operator says, and what has to stay free.
func reserved(kept, said corev1.ResourceList) corev1.ResourceList {
	all := said.DeepCopy()
	if all == nil {
		all = corev1.ResourceList{}
	}
	for name, q := range kept {
		sum := all[name]
		sum.Add(q)
		all[name] = sum
	}
	return all
}

// setPressure writes the conditions other than Ready.
func (n *Node) setPressure(s *corev1.NodeStatus) {
	var p Pressure
	if n.cfg.Pressure != nil {
		p = n.cfg.Pressure()
	}
	for _, c := range []struct {
		of        corev1.NodeConditionType
		is        bool
		bad, good string // reasons
		badly     string // messages
		well      string
	}{
		{corev1.NodeMemoryPressure, p.Memory, "HasInsufficientMemory", "HasSufficientMemory", "has insufficient memory available", "has sufficient memory available"},
		{corev1.NodeDiskPressure, p.Disk, "HasDiskPressure", "HasNoDiskPressure", "has disk pressure", "has no disk pressure"},
		{corev1.NodePIDPressure, p.PID, "HasInsufficientPID", "HasSufficientPID", "has insufficient PID available", "has sufficient PID available"},
	} {
		status, reason, message := corev1.ConditionFalse, c.good, c.well
		if c.is {
			status, reason, message = corev1.ConditionTrue, c.bad, c.badly
		}
		turned := n.setCondition(s, corev1.NodeCondition{Type: c.of, Status: status, Reason: "Kubelet" + reason, Message: "kubelet " + message})
		if turned {
			n.statusEvent("Node" + reason)
		}
	}
}

// setReady writes the condition Ready, which is the last of them.
func (n *Node) setReady(s *corev1.NodeStatus) {
	c := corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", Message: "kubelet is posting ready status"}
	var errs []error
	if n.cfg.Ready != nil {
		errs = n.cfg.Ready()
	}
	var missing []string
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourcePods, corev1.ResourceEphemeralStorage} {
		if _, there := s.Capacity[name]; !there {
			missing = append(missing, string(name))
		}
	}
	if len(missing) > 0 {
		errs = append(errs, fmt.Errorf("missing node capacity for resources: %s", strings.Join(missing, ", ")))
	}
	if err := utilerrors.NewAggregate(errs); err != nil {
		c.Status, c.Reason, c.Message = corev1.ConditionFalse, "KubeletNotReady", err.Error()
	}
	known := slices.ContainsFunc(s.Conditions, func(c corev1.NodeCondition) bool { return c.Type == corev1.NodeReady })
	if turned := n.setCondition(s, c); turned && known {
		if c.Status == corev1.ConditionTrue {
			n.statusEvent("NodeReady")
		} else {
			n.cfg.Log.Warn("The node is not ready", "node", n.cfg.Name, "reason", c.Message)
			n.statusEvent("NodeNotReady")
		}
	}
}

// setCondition writes a condition and tells whether its status is another than before.
func (n *Node) setCondition(s *corev1.NodeStatus, c corev1.NodeCondition) (turned bool) {
	now := metav1.NewTime(n.cfg.Clock.Now())
	c.LastHeartbeatTime, c.LastTransitionTime = now, now
	for i := range s.Conditions {
		if before := &s.Conditions[i]; before.Type == c.Type {
			if turned = before.Status != c.Status; !turned {
				c.LastTransitionTime = before.LastTransitionTime
			}
			*before = c
			return turned
		}
	}
	s.Conditions = append(s.Conditions, c)
	return true
}

func isReady(node *corev1.Node) bool {
	return slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}

// Bounds of the list of images.
const (
	MaxImages    = 50
	maxNames     = 5
	imagesPeriod = 30 * time.Second
)

// imagesTimeout bounds the wait for the runtime: that it hangs is to be told soon, by the status that waits for this.
const imagesTimeout = 3 * time.Second

// images remembers what the runtime said.
type images struct {
	asked time.Time
	last  []corev1.ContainerImage
}

// list is the largest images; where the runtime does not answer, what it last said.
func (i *images) list(ctx context.Context, cfg Config) []corev1.ContainerImage {
	if cfg.Images == nil {
		return nil
	}
	now := cfg.Clock.Now()
	if !i.asked.IsZero() && now.Sub(i.asked) < imagesPeriod {
		return i.last
	}
	asking, cancel := context.WithTimeout(ctx, imagesTimeout)
	defer cancel()
	all, err := cfg.Images(asking)
	if err != nil {
		i.asked = now // and else each status would wait
		if ctx.Err() == nil {
			cfg.Log.Warn("The images of the node could not be listed", "err", err)
		}
		return i.last
	}
	i.asked, i.last = now, nil
	slices.SortStableFunc(all, func(a, b Image) int { return cmp.Compare(b.Size, a.Size) })
	for _, image := range all[:min(len(all), MaxImages)] {
		names := slices.Concat(image.Digests, image.Tags)
		i.last = append(i.last, corev1.ContainerImage{Names: names[:min(len(names), maxNames)], SizeBytes: image.Size})
	}
	return i.last
}
