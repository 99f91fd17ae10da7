package observe

import (
	"cmp"
	"context"
	"hash/maphash"
	"slices"
	"time"

	apitypes "k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/kubelet/pkg/types"
)

// list is what the runtime has, of all pods or of one.
type list struct {
	at   time.Time // when it was asked
	pods map[apitypes.UID]*listed
}

type listed struct {
	pod        Pod
	sum        uint64
	sandboxes  []*runtimeapi.PodSandbox // the newest first
	containers []*runtimeapi.Container
}

// add sums up states, in any order.
func (l *listed) add(seed maphash.Seed, id string, state int32) {
	var h maphash.Hash
	h.SetSeed(seed)
	_, _ = h.WriteString(id)
	_ = h.WriteByte(byte(state))
	l.sum += h.Sum64()
}

func (l *listed) sandbox(seed maphash.Seed, id string, state runtimeapi.PodSandboxState) {
	l.pod.Sandboxes = append(l.pod.Sandboxes, id)
	l.pod.Ready = l.pod.Ready || state == runtimeapi.PodSandboxState_SANDBOX_READY
	l.add(seed, id, int32(state))
}

func (l *listed) container(seed maphash.Seed, id string, state runtimeapi.ContainerState) {
	l.pod.Containers = append(l.pod.Containers, id)
	l.pod.Running = l.pod.Running || state == runtimeapi.ContainerState_CONTAINER_RUNNING
	l.add(seed, id, int32(state))
}

// list asks for everything, or for what one pod has.
func (o *Observer) list(ctx context.Context, id apitypes.UID) (list, error) {
	l := list{at: time.Now(), pods: map[apitypes.UID]*listed{}}
	var ofSandboxes *runtimeapi.PodSandboxFilter
	var ofContainers *runtimeapi.ContainerFilter
	if id != "" {
		labels := map[string]string{types.KubernetesPodUIDLabel: string(id)}
		ofSandboxes, ofContainers = &runtimeapi.PodSandboxFilter{LabelSelector: labels}, &runtimeapi.ContainerFilter{LabelSelector: labels}
	}
	// Containers first: the sandbox of one that is listed is listed too, unless it was removed.
	containers, err := o.Runtime.ListContainers(ctx, ofContainers)
	if err != nil {
		return l, err
	}
	sandboxes, err := o.Runtime.ListPodSandbox(ctx, ofSandboxes)
	if err != nil {
		return l, err
	}
	for _, s := range sandboxes {
		m := s.GetMetadata()
		p := l.pod(apitypes.UID(m.GetUid()), m.GetNamespace(), m.GetName())
		if p == nil {
			continue
		}
		p.sandboxes = append(p.sandboxes, s)
	}
	for _, c := range containers {
		p := l.pod(apitypes.UID(c.Labels[types.KubernetesPodUIDLabel]), c.Labels[types.KubernetesPodNamespaceLabel], c.Labels[types.KubernetesPodNameLabel])
		if p == nil {
			continue
		}
		p.containers = append(p.containers, c)
		p.container(o.seed, c.Id, c.State)
	}
	for _, p := range l.pods {
		slices.SortFunc(p.sandboxes, func(a, b *runtimeapi.PodSandbox) int { return cmp.Compare(b.CreatedAt, a.CreatedAt) })
		for _, s := range p.sandboxes {
			p.sandbox(o.seed, s.Id, s.State)
		}
	}
	return l, nil
}

// pod is the one with this UID; nil: it is nobody's.
func (l *list) pod(id apitypes.UID, namespace, name string) *listed {
	if id == "" {
		return nil
	}
	p := l.pods[id]
	if p == nil {
		p = &listed{pod: Pod{UID: id, Namespace: namespace, Name: name}}
		l.pods[id] = p
	}
	return p
}

// doubt is how long lists are made as if there were no events, after one has shown what no event had told.
const doubt = time.Minute

// relist asks for everything, and has pods looked at that have changed.
func (o *Observer) relist(ctx context.Context) {
	l, err := o.list(ctx, "")
	if o.Listed != nil {
		o.Listed(l.at)
	}
	if err != nil {
		o.outage(ctx, err)
		return
	}
	gone := o.compare(ctx, l)
	for _, id := range gone {
		o.Changed(id)
	}
}

// compare has pods looked at of which the list differs from what is known, and returns those that are gone.
func (o *Observer) compare(ctx context.Context, l list) (gone []apitypes.UID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.failing {
		o.failing = false
		o.Log.Info("Listed pods and containers again")
	}
	first := o.listed.IsZero()
	o.listed = l.at
	untold := false
	for id, p := range o.pods {
		if l.pods[id] == nil && p.at.Before(l.at) {
			delete(o.pods, id)
			gone = append(gone, id)
			untold = true
		}
	}
	for id, now := range l.pods {
		p := o.pods[id]
		if p != nil && (l.at.Before(p.at) || p.report != nil && p.sum == now.sum && !p.failing) {
			continue
		}
		_, busy := o.busy[id]
		if _, told := o.due[id]; !busy && !told {
			untold = true
		}
		o.look(ctx, id, now, l.at)
	}
	if untold && !first && o.settled() {
		o.doubted = time.Now().Add(doubt)
	}
	return gone
}

// outage is written down once.
func (o *Observer) outage(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.failing {
		o.Log.Warn("Pods and containers could not be listed", "error", err)
	}
	o.failing = true
}
