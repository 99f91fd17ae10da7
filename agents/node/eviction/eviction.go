// Package eviction keeps a node from running out of memory, disk and processes, as the kubelet does: below its thresholds the node is under
// pressure, which its conditions tell and which pods are refused for; what is removed first is what nobody uses, and then pods are
// ended, one at a time, those first that use more than they requested. Pods that put more on the disk than they may are ended, too.
//
// What is decided is decided by functions of what was measured, of what is remembered and of the time. Pods' figures, which are dear, are
// asked for only when there is something to decide about pods.
package eviction

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/client-go/tools/record"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"
	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
	"k8s.io/kubernetes/pkg/apis/core/v1/helper/qos"
	"k8s.io/kubernetes/pkg/features"
	upstream "k8s.io/kubernetes/pkg/kubelet/eviction"
	"k8s.io/kubernetes/pkg/kubelet/eviction/api"
	"k8s.io/kubernetes/pkg/kubelet/lifecycle"
	kubetypes "k8s.io/kubernetes/pkg/kubelet/types"

	"github.com/rowlock-io/rowlock/agents/node/pause"
	"github.com/rowlock-io/rowlock/agents/node/podstatus"
)

// Policy is what is to stay free.
type Policy struct {
	// Thresholds are those that Parse read; none: nothing is looked at.
	Thresholds []api.Threshold
	// Transition is for how long the node is under pressure after it was seen so.
	Transition time.Duration
	// MaxGrace is how many seconds a pod has at most that a soft threshold ends; negative: as many as its own.
	MaxGrace int64
	// Limits: pods that put more on the disk than they may are ended.
	Limits bool
}

// Config is what a Manager needs.
type Config struct {
	Policy
	// Measure measures the node, and also its pods when asked to.
	Measure func(ctx context.Context, pods bool) (*statsapi.Summary, error)
	// Layout says where images and containers are. It is asked until it knows.
	Layout func(context.Context) (Layout, error)
	// Pods are those that take up room.
	Pods func() []*corev1.Pod
	// Kill ends a pod and waits for that. grace: nil is the pod's own.
	Kill func(ctx context.Context, pod *corev1.Pod, why *podstatus.Evicted, grace *int64) error
	// Finished: nothing is left of the pod.
	Finished func(types.UID) bool
	// RemoveContainers and RemoveImages remove those that nobody uses.
	RemoveContainers, RemoveImages func(context.Context) error
	// Changed is called when the node is under another pressure than before.
	Changed func()
	// Node is what events are about that are about no pod.
	Node   runtime.Object
	Events record.EventRecorder
	Log    *slog.Logger
}

// Manager evicts.
type Manager struct {
	Config
	// Evictions counts evicted pods by what there was too little of.
	Evictions *prometheus.CounterVec

	// Of the one who runs.
	layout     *Layout // nil: not known yet
	thresholds []api.Threshold
	state      state

	mu       sync.RWMutex
	pressure []corev1.NodeConditionType // sorted
}

// New makes one that does nothing before Run.
func New(cfg Config) *Manager {
	return &Manager{Config: cfg, Evictions: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "kubelet_evictions", Help: "Cumulative number of pod evictions by eviction signal",
	}, []string{"eviction_signal"})}
}

// Times; the kubelet's.
const (
	every       = 10 * time.Second
	cleanUp     = 30 * time.Second // how long is waited for what a pod used
	cleanUpPoll = time.Second
)

// Run looks after the node until ctx ends.
func (m *Manager) Run(ctx context.Context) error {
	if len(m.Thresholds) == 0 && !m.Limits {
		<-ctx.Done()
		return nil
	}
	for {
		evicted, err := m.look(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			m.Log.Warn("It was not looked whether the node has enough of everything", "error", err)
		case len(evicted) > 0: // then there may be enough
			m.settle(ctx, evicted)
			continue
		}
		if !pause.For(ctx, every) {
			return nil
		}
	}
}

// settle waits until what pods used is given back.
func (m *Manager) settle(ctx context.Context, pods []*corev1.Pod) {
	for waited := time.Duration(0); waited < cleanUp; waited += cleanUpPoll {
		if !pause.For(ctx, cleanUpPoll) || !slices.ContainsFunc(pods, func(p *corev1.Pod) bool { return !m.Finished(p.UID) }) {
			return
		}
	}
	m.Log.Warn("What evicted pods used was not given back in time", "pods", len(pods))
}

// look looks once, does what is to be done, and returns the pods that it ended.
func (m *Manager) look(ctx context.Context) ([]*corev1.Pod, error) {
	if err := m.find(ctx); err != nil {
		return nil, err
	}
	pods := m.Pods()
	mayExceed := m.Limits && slices.ContainsFunc(pods, limited)
	measured, err := m.Measure(ctx, mayExceed)
	if err != nil {
		return nil, err
	}
	seen := observe(&measured.Node)
	pressure, due := m.state.look(m.thresholds, seen, m.Transition, time.Now())
	m.set(pressure)
	if mayExceed {
		if evicted := m.evictExceeding(ctx, pods, usageOf(measured.Pods)); len(evicted) > 0 {
			return evicted, nil
		}
	}
	if len(due) == 0 {
		return nil, nil
	}
	starved := about(&due[0])
	m.Log.Warn("The node has too little of something", "signal", starved.name, "resource", starved.resource)
	m.Events.Eventf(m.Node, corev1.EventTypeWarning, "EvictionThresholdMet", "Attempting to reclaim %s", starved.resource)
	removable := m.layout.reclaim(starved.name)
	m.remove(ctx, removable)
	if removable.any() || !mayExceed {
		if measured, err = m.Measure(ctx, true); err != nil {
			return nil, fmt.Errorf("measure before eviction: %w", err)
		}
	}
	if removable.any() && resolved(m.thresholds, observe(&measured.Node)) {
		m.Log.Info("The node has enough again, and no pod was evicted", "resource", starved.resource)
		return nil, nil
	}
	if pods = m.Pods(); len(pods) == 0 {
		m.Log.Warn("The node has too little of something, and no pods to evict", "resource", starved.resource)
	}
	for _, v := range m.layout.victims(pods, usageOf(measured.Pods), due, seen, m.MaxGrace) {
		if m.evict(ctx, &v) {
			return []*corev1.Pod{v.pod}, nil
		}
	}
	return nil, nil
}

// find finds out about the file systems.
func (m *Manager) find(ctx context.Context) error {
	if m.layout != nil {
		return nil
	}
	layout, err := m.Layout(ctx)
	if err != nil {
		return fmt.Errorf("find the file systems of images and containers: %w", err)
	}
	thresholds, ignored := layout.on(m.Thresholds)
	if ignored != nil {
		m.Log.Warn("A threshold means nothing on this node", "error", ignored)
	}
	m.layout, m.thresholds = &layout, thresholds
	return nil
}

// remove removes what nobody uses.
func (m *Manager) remove(ctx context.Context, what reclaim) {
	try := func(do bool, remove func(context.Context) error) {
		if !do {
			return
		}
		if err := remove(ctx); err != nil && ctx.Err() == nil {
			m.Log.Warn("What nobody uses was not all removed", "error", err)
		}
	}
	try(what.containers, m.RemoveContainers)
	try(what.images, m.RemoveImages)
}

func (m *Manager) evictExceeding(ctx context.Context, pods []*corev1.Pod, of usage) (evicted []*corev1.Pod) {
	for _, pod := range pods {
		if v := m.layout.overLimit(pod, of[pod.UID]); v != nil && m.evict(ctx, v) {
			evicted = append(evicted, pod)
		}
	}
	return evicted
}

// evict ends a pod, unless it is one that the node, or the cluster, cannot do without.
func (m *Manager) evict(ctx context.Context, v *victim) bool {
	name := v.pod.Namespace + "/" + v.pod.Name
	if kubetypes.IsCriticalPod(v.pod) {
		m.Log.Warn("A critical pod was not evicted", "pod", name, "podUID", v.pod.UID)
		return false
	}
	m.Events.AnnotatedEventf(v.pod, v.annotations, corev1.EventTypeWarning, upstream.Reason, "%s", v.message)
	m.Evictions.WithLabelValues(v.signal).Inc()
	err := m.Kill(ctx, v.pod, &podstatus.Evicted{Reason: upstream.Reason, Message: v.message, Condition: v.condition}, v.grace)
	if err != nil {
		m.Log.Warn("Evicted a pod that did not end in time", "pod", name, "podUID", v.pod.UID, "signal", v.signal, "error", err)
	} else {
		m.Log.Info("Evicted a pod", "pod", name, "podUID", v.pod.UID, "signal", v.signal)
	}
	return true
}

func (m *Manager) set(pressure []corev1.NodeConditionType) {
	m.mu.Lock()
	before := m.pressure
	m.pressure = pressure
	m.mu.Unlock()
	if !slices.Equal(before, pressure) && m.Changed != nil {
		m.Changed()
	}
}

// Pressure is what the node has too little of.
func (m *Manager) Pressure() []corev1.NodeConditionType {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.pressure
}

// Admit refuses pods while the node is under pressure: all but critical ones, or when it is of memory alone, those that request none and
// do not tolerate it.
func (m *Manager) Admit(attributes *lifecycle.PodAdmitAttributes) lifecycle.PodAdmitResult {
	pressure, pod := m.Pressure(), attributes.Pod
	if len(pressure) == 0 || kubetypes.IsCriticalPod(pod) {
		return lifecycle.PodAdmitResult{Admit: true}
	}
	if slices.Equal(pressure, []corev1.NodeConditionType{corev1.NodeMemoryPressure}) {
		taint := &corev1.Taint{Key: corev1.TaintNodeMemoryPressure, Effect: corev1.TaintEffectNoSchedule}
		if qos.GetPodQOS(pod) != corev1.PodQOSBestEffort || corev1helpers.TolerationsTolerateTaint(
			logr.Discard(), pod.Spec.Tolerations, taint, utilfeature.DefaultFeatureGate.Enabled(features.TaintTolerationComparisonOperators)) {
			return lifecycle.PodAdmitResult{Admit: true}
		}
	}
	return lifecycle.PodAdmitResult{Reason: upstream.Reason, Message: fmt.Sprintf("The node had condition: %v. ", pressure)}
}
