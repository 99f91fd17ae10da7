package simulation

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/ptr"
)

// orphanPeriod is how often it is looked for a node that a pod is bound to and that is not known yet.
const orphanPeriod = time.Second

// pods takes the pods on simulated nodes through their phases.
type pods struct {
	client    kubernetes.Interface
	lister    corelisters.PodLister
	nodes     corelisters.NodeLister
	queue     queue[types.NamespacedName]
	addresses *addresses
	jobTime   time.Duration
	log       *slog.Logger
}

func newPods(cfg Config, lister corelisters.PodLister, nodes corelisters.NodeLister) *pods {
	return &pods{
		client: cfg.Client, lister: lister, nodes: nodes, queue: newQueue[types.NamespacedName](), addresses: newAddresses(cfg.Ranges),
		jobTime: cfg.JobTime, log: cfg.Log,
	}
}

func ended(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

func (p *pods) changed(obj any) {
	pod, ok := obj.(*corev1.Pod)
	if !ok || pod.Spec.NodeName == "" {
		return
	}
	switch {
	case ended(pod):
		p.addresses.release(pod.UID)
	case !pod.Spec.HostNetwork: // whose node it is does not matter: two pods do not have the same address
		p.addresses.reserve(pod.UID, podAddresses(pod))
	}
	if node, err := p.nodes.Get(pod.Spec.NodeName); err == nil && !simulated(node) || ended(pod) && pod.DeletionTimestamp == nil {
		return
	}
	p.queue.Add(types.NamespacedName{Namespace: pod.Namespace, Name: pod.Name})
}

func (p *pods) deleted(obj any) {
	if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = gone.Obj
	}
	if pod, ok := obj.(*corev1.Pod); ok {
		p.addresses.release(pod.UID)
	}
}

// all looks at every pod of a node.
func (p *pods) all(node string) {
	all, err := p.lister.List(labels.Everything())
	if err != nil {
		return // not of a lister that is an index in memory
	}
	for _, pod := range all {
		if pod.Spec.NodeName == node {
			p.changed(pod)
		}
	}
}

func podAddresses(pod *corev1.Pod) []netip.Addr {
	var all []netip.Addr
	for _, ip := range pod.Status.PodIPs {
		if addr, err := netip.ParseAddr(ip.IP); err == nil {
			all = append(all, addr)
		}
	}
	return all
}

// act does what a pod's kubelet has to do by now.
func (p *pods) act(ctx context.Context, key types.NamespacedName) error {
	pod, err := p.lister.Pods(key.Namespace).Get(key.Name)
	if err != nil {
		return nil //nolint:nilerr // it is gone
	}
	node, err := p.nodes.Get(pod.Spec.NodeName)
	switch {
	case err != nil:
		p.queue.AddAfter(key, orphanPeriod)
		return nil
	case !simulated(node):
		return nil
	}
	err = p.step(ctx, pod, node)
	if apierrors.IsNotFound(err) {
		p.addresses.release(pod.UID)
		return nil
	}
	if err != nil && ctx.Err() == nil && !apierrors.IsConflict(err) {
		p.log.Warn("A simulated pod could not go on", "pod", key.String(), "err", err)
	}
	return err
}

// step writes what is next for a pod, if anything.
func (p *pods) step(ctx context.Context, pod *corev1.Pod, node *corev1.Node) error {
	if pod.DeletionTimestamp != nil {
		return p.remove(ctx, pod, node)
	}
	if ended(pod) {
		return nil
	}
	key := types.NamespacedName{Namespace: pod.Namespace, Name: pod.Name}
	if deadline := pod.Spec.ActiveDeadlineSeconds; deadline != nil {
		left := remaining(pod, time.Duration(*deadline)*time.Second)
		if left <= 0 {
			return p.report(ctx, pod, node, overdue)
		}
		p.queue.AddAfter(key, left)
	}
	if !ofJob(pod) {
		return p.report(ctx, pod, node, running)
	}
	if left := remaining(pod, p.jobTime); left > 0 {
		p.queue.AddAfter(key, left)
		return p.report(ctx, pod, node, running)
	}
	return p.report(ctx, pod, node, succeeded)
}

// remaining is how much of a time is left that began when the pod did.
func remaining(pod *corev1.Pod, of time.Duration) time.Duration {
	if pod.Status.StartTime == nil {
		return of
	}
	return time.Until(pod.Status.StartTime.Add(of))
}

func ofJob(pod *corev1.Pod) bool {
	owner := metav1.GetControllerOf(pod)
	return owner != nil && owner.Kind == "Job"
}

// remove ends a pod that is to go. Who keeps it by a finalizer sees that it has ended.
func (p *pods) remove(ctx context.Context, pod *corev1.Pod, node *corev1.Node) error {
	if !ended(pod) && len(pod.Finalizers) > 0 {
		return p.report(ctx, pod, node, failed) // and goes on when that is seen
	}
	if pod.DeletionGracePeriodSeconds != nil && *pod.DeletionGracePeriodSeconds == 0 {
		return nil // its finalizers are what is waited for
	}
	return p.client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{
		GracePeriodSeconds: ptr.To(int64(0)), Preconditions: metav1.NewUIDPreconditions(string(pod.UID)),
	})
}

// report writes a pod's status when it is not what it should be.
func (p *pods) report(ctx context.Context, pod *corev1.Pod, node *corev1.Node, to state) error {
	at := place{hosts: nodeAddresses(node)}
	switch {
	case pod.Spec.HostNetwork:
		at.pods = at.hosts
	case len(pod.Status.PodIPs) == 0:
		addrs, err := p.addresses.assign(pod.UID)
		if err != nil {
			return err
		}
		for _, a := range addrs {
			at.pods = append(at.pods, a.String())
		}
	}
	status := podStatus(pod, at, to, metav1.Now())
	if equality.Semantic.DeepEqual(&status, &pod.Status) {
		return nil
	}
	updated := *pod // which is shared, as all that informers give
	updated.Status = status
	_, err := p.client.CoreV1().Pods(pod.Namespace).UpdateStatus(ctx, &updated, metav1.UpdateOptions{})
	return err
}

func nodeAddresses(node *corev1.Node) []string {
	var all []string
	for _, a := range node.Status.Addresses {
		if a.Type == corev1.NodeInternalIP {
			all = append(all, a.Address)
		}
	}
	return all
}
