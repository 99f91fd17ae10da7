package nodemetrics

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/metrics/pkg/apis/metrics"
)

func usage(cores, bytes float64) corev1.ResourceList {
	return corev1.ResourceList{
		corev1.ResourceCPU:    *resource.NewScaledQuantity(int64(math.Round(cores*1e9)), resource.Nano),
		corev1.ResourceMemory: *resource.NewQuantity(int64(bytes), resource.BinarySI),
	}
}

// objectMeta is that of an object that is made for this one answer.
func objectMeta(namespace, name string, labels map[string]string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: labels, CreationTimestamp: metav1.Now()}
}

// selected are the selectors of a list, of which fields are those of the metadata.
func selected(opts *metainternalversion.ListOptions) (labels.Selector, fields.Selector) {
	byLabel, byField := labels.Everything(), fields.Everything()
	if opts != nil && opts.LabelSelector != nil {
		byLabel = opts.LabelSelector
	}
	if opts != nil && opts.FieldSelector != nil {
		byField = opts.FieldSelector
	}
	return byLabel, byField
}

// nodes is the storage of NodeMetrics.
type nodes struct{ *Handler }

// What upstream's installer asks of who is to be described.
type described interface {
	rest.Storage
	rest.Getter
	rest.Lister
	rest.Scoper
	rest.KindProvider
	rest.SingularNameProvider
}

var _, _ described = nodes{}, pods{}

func (nodes) New() runtime.Object     { return &metrics.NodeMetrics{} }
func (nodes) NewList() runtime.Object { return &metrics.NodeMetricsList{} }
func (nodes) Destroy()                {}
func (nodes) NamespaceScoped() bool   { return false }
func (nodes) Kind() string            { return "NodeMetrics" }
func (nodes) GetSingularName() string { return "" }

func (n nodes) List(ctx context.Context, opts *metainternalversion.ListOptions) (runtime.Object, error) {
	byLabel, byField := selected(opts)
	selector := real
	if !byLabel.Empty() {
		selector += "," + byLabel.String()
	}
	all, err := n.cfg.Kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{LabelSelector: selector, ResourceVersion: "0"})
	if err != nil {
		return nil, err
	}
	var names []string
	found := map[string]*corev1.Node{}
	for i := range all.Items {
		if node := &all.Items[i]; byField.Matches(fields.Set{"metadata.name": node.Name}) {
			names, found[node.Name] = append(names, node.Name), node
		}
	}
	slices.Sort(names)
	windows := n.figures.of(ctx, names)
	list := &metrics.NodeMetricsList{Items: []metrics.NodeMetrics{}}
	for _, name := range names {
		if m := nodeMetrics(found[name], windows); m != nil {
			list.Items = append(list.Items, *m)
		}
	}
	return list, nil
}

func (n nodes) Get(ctx context.Context, name string, _ *metav1.GetOptions) (runtime.Object, error) {
	node, err := n.cfg.Kube.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{ResourceVersion: "0"})
	if err != nil {
		return nil, err // also when there is none of this name
	}
	if node.Labels["rowlock.io/simulated"] != "true" {
		if m := nodeMetrics(node, n.figures.of(ctx, []string{name})); m != nil {
			return m, nil
		}
	}
	return nil, apierrors.NewNotFound(metrics.Resource("nodemetrics"), name) // metrics-server's word
}

// nodeMetrics are a node's; nil: they are not known.
func nodeMetrics(node *corev1.Node, windows map[string]window) *metrics.NodeMetrics {
	w, ok := windows[node.Name]
	if !ok || w.base == nil {
		return nil
	}
	cores, bytes, over, ok := used(&w.base.node, &w.last.node)
	if !ok {
		return nil
	}
	return &metrics.NodeMetrics{
		ObjectMeta: objectMeta("", node.Name, node.Labels), Timestamp: metav1.NewTime(w.last.node.at), Window: metav1.Duration{Duration: over},
		Usage: usage(cores, bytes),
	}
}

// pods is the storage of PodMetrics.
type pods struct{ *Handler }

func (pods) New() runtime.Object     { return &metrics.PodMetrics{} }
func (pods) NewList() runtime.Object { return &metrics.PodMetricsList{} }
func (pods) Destroy()                {}
func (pods) NamespaceScoped() bool   { return true }
func (pods) Kind() string            { return "PodMetrics" }
func (pods) GetSingularName() string { return "" }

func (p pods) List(ctx context.Context, opts *metainternalversion.ListOptions) (runtime.Object, error) {
	byLabel, byField := selected(opts)
	all, err := p.cfg.Kube.CoreV1().Pods(request.NamespaceValue(ctx)).List(ctx, metav1.ListOptions{
		LabelSelector: byLabel.String(), FieldSelector: "status.phase=" + string(corev1.PodRunning), ResourceVersion: "0",
	})
	if err != nil {
		return nil, err
	}
	var found []*corev1.Pod
	on := map[string]bool{}
	var names []string
	for i := range all.Items {
		pod := &all.Items[i]
		if pod.Spec.NodeName == "" || !byField.Matches(fields.Set{"metadata.name": pod.Name, "metadata.namespace": pod.Namespace}) {
			continue
		}
		found = append(found, pod)
		if !on[pod.Spec.NodeName] {
			on[pod.Spec.NodeName] = true
			names = append(names, pod.Spec.NodeName)
		}
	}
	slices.SortFunc(found, func(a, b *corev1.Pod) int {
		return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name)
	})
	windows := p.figures.of(ctx, names)
	list := &metrics.PodMetricsList{Items: []metrics.PodMetrics{}}
	for _, pod := range found {
		if m := podMetrics(pod, windows); m != nil {
			list.Items = append(list.Items, *m)
		}
	}
	return list, nil
}

func (p pods) Get(ctx context.Context, name string, _ *metav1.GetOptions) (runtime.Object, error) {
	namespace := request.NamespaceValue(ctx)
	pod, err := p.cfg.Kube.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{ResourceVersion: "0"})
	if err != nil {
		return nil, err
	}
	if pod.Spec.NodeName != "" && pod.Status.Phase == corev1.PodRunning {
		if m := podMetrics(pod, p.figures.of(ctx, []string{pod.Spec.NodeName})); m != nil {
			return m, nil
		}
	}
	return nil, apierrors.NewNotFound(metrics.Resource("podmetrics"), namespace+"/"+name)
}

// podMetrics are a pod's; nil: those of one of its containers that run are not known.
func podMetrics(pod *corev1.Pod, windows map[string]window) *metrics.PodMetrics {
	w, ok := windows[pod.Spec.NodeName]
	if !ok || w.base == nil {
		return nil
	}
	m := &metrics.PodMetrics{ObjectMeta: objectMeta(pod.Namespace, pod.Name, pod.Labels)}
	for _, statuses := range [][]corev1.ContainerStatus{pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses, pod.Status.EphemeralContainerStatuses} {
		for i := range statuses {
			if statuses[i].State.Running == nil {
				continue
			}
			key := container{pod.Namespace, pod.Name, statuses[i].Name}
			cores, bytes, over, ok := used(w.base.containers[key], w.last.containers[key])
			if !ok {
				return nil
			}
			at := metav1.NewTime(w.last.containers[key].at)
			if m.Timestamp.IsZero() || at.Before(&m.Timestamp) {
				m.Timestamp = at
			}
			m.Window.Duration = max(m.Window.Duration, over)
			m.Containers = append(m.Containers, metrics.ContainerMetrics{Name: statuses[i].Name, Usage: usage(cores, bytes)})
		}
	}
	if len(m.Containers) == 0 {
		return nil
	}
	return m
}

// ConvertToTable implements rest.TableConvertor.
func (nodes) ConvertToTable(_ context.Context, object, _ runtime.Object) (*metav1.Table, error) {
	return table(object, func(object runtime.Object) (metav1.ObjectMeta, time.Duration, corev1.ResourceList) {
		m := object.(*metrics.NodeMetrics)
		return m.ObjectMeta, m.Window.Duration, m.Usage
	})
}

// ConvertToTable implements rest.TableConvertor.
func (pods) ConvertToTable(_ context.Context, object, _ runtime.Object) (*metav1.Table, error) {
	return table(object, func(object runtime.Object) (metav1.ObjectMeta, time.Duration, corev1.ResourceList) {
		m := object.(*metrics.PodMetrics)
		var cpu, memory resource.Quantity
		for _, c := range m.Containers {
			cpu.Add(c.Usage[corev1.ResourceCPU])
			memory.Add(c.Usage[corev1.ResourceMemory])
		}
		return m.ObjectMeta, m.Window.Duration, corev1.ResourceList{corev1.ResourceCPU: cpu, corev1.ResourceMemory: memory}
	})
}

// table has metrics-server's columns.
func table(object runtime.Object, of func(runtime.Object) (metav1.ObjectMeta, time.Duration, corev1.ResourceList)) (*metav1.Table, error) {
	t := &metav1.Table{ColumnDefinitions: []metav1.TableColumnDefinition{
		{Name: "Name", Type: "string", Format: "name", Description: "Name of the resource"},
		{Name: "cpu", Type: "string", Format: "quantity"},
		{Name: "memory", Type: "string", Format: "quantity"},
		{Name: "Window", Type: "string", Format: "duration"},
	}}
	row := func(object runtime.Object) error {
		m, window, used := of(object)
		cpu, memory := used[corev1.ResourceCPU], used[corev1.ResourceMemory]
		t.Rows = append(t.Rows, metav1.TableRow{
			Cells: []any{m.Name, cpu.String(), memory.String(), window.String()}, Object: runtime.RawExtension{Object: object},
		})
		return nil
	}
	if !meta.IsListType(object) {
		return t, row(object)
	}
	if list, err := meta.ListAccessor(object); err == nil {
		t.ResourceVersion = list.GetResourceVersion()
	}
	if err := meta.EachListItem(object, row); err != nil {
		return nil, fmt.Errorf("table: %w", err)
	}
	return t, nil
}
