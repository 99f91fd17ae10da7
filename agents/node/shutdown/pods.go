package shutdown

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"
	podutil "k8s.io/kubernetes/pkg/api/v1/pod"
	"k8s.io/kubernetes/pkg/apis/scheduling"

	"github.com/rowlock-io/rowlock/agents/node/pause"
	"github.com/rowlock-io/rowlock/agents/node/podstatus"
)

// Period is how long pods of this priority, up to the next Period's, have to end.
type Period struct {
	Priority int32
	Grace    time.Duration // whole seconds
}

// Periods are those of a node whose pods all have a time together, of which the last part is for critical ones alone.
func Periods(all, critical time.Duration) ([]Period, error) {
	switch {
	case critical > all:
		return nil, fmt.Errorf("the grace period of critical pods %v must be <= that of all %v", critical, all)
	case all != 0 && all < time.Second || critical != 0 && critical < time.Second:
		return nil, errors.New("a grace period must be either zero or otherwise >= 1 sec")
	case all == 0:
		return nil, nil
	}
	return []Period{
		{scheduling.DefaultPriorityWhenNoDefaultClassExists, (all - critical).Truncate(time.Second)},
		{scheduling.SystemCriticalPriority, critical.Truncate(time.Second)},
	}, nil
}

func sorted(periods []Period) []Period {
	periods = slices.Clone(periods)
	slices.SortFunc(periods, func(a, b Period) int { return cmp.Compare(a.Priority, b.Priority) })
	return periods
}

// longest is how long a shutdown is held up at most.
func (m *Manager) longest() (sum time.Duration) {
	for _, p := range m.Periods {
		sum += p.Grace
	}
	return sum
}

// grouped are pods by the periods that are theirs: each has that of the highest priority that is not above its own, or else the lowest.
func grouped(periods []Period, pods []*corev1.Pod) [][]*corev1.Pod {
	groups := make([][]*corev1.Pod, len(periods))
	for _, pod := range pods {
		priority := corev1helpers.PodPriority(pod)
		at, exact := slices.BinarySearchFunc(periods, priority, func(p Period, n int32) int { return cmp.Compare(p.Priority, n) })
		if !exact {
			at = max(at-1, 0)
		}
		groups[at] = append(groups[at], pod)
	}
	return groups
}

// endPods ends all pods, one group after the other.
func (m *Manager) endPods(ctx context.Context) {
	for i, pods := range grouped(m.Periods, m.Pods()) {
		if len(pods) > 0 {
			m.endGroup(ctx, m.Periods[i], pods)
		}
	}
}

const (
	reason  = "Terminated"
	message = "Pod was terminated in response to imminent node shutdown."
)

// poll is how often it is looked whether pods have given back what they used.
const poll = 100 * time.Millisecond

// endGroup ends pods at once, and waits for them, and for what they used, as long as they have.
func (m *Manager) endGroup(ctx context.Context, period Period, pods []*corev1.Pod) {
	ctx, cancel := context.WithTimeout(ctx, period.Grace)
	defer cancel()
	var wg sync.WaitGroup
	for _, pod := range pods {
		wg.Go(func() {
			grace := int64(period.Grace / time.Second)
			if own := pod.Spec.TerminationGracePeriodSeconds; own != nil {
				grace = min(grace, *own)
			}
			why := &podstatus.Evicted{Reason: reason, Message: message, Condition: &corev1.PodCondition{
				Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: corev1.PodReasonTerminationByKubelet, Message: message,
				ObservedGeneration: podutil.CalculatePodConditionObservedGeneration(&pod.Status, pod.Generation, corev1.DisruptionTarget),
			}}
			if err := m.Kill(ctx, pod, why, &grace); err != nil {
				m.Log.Warn("A pod did not end before the machine", "pod", pod.Namespace+"/"+pod.Name, "podUID", pod.UID, "error", err)
			}
		})
	}
	wg.Wait()
	for slices.ContainsFunc(pods, func(p *corev1.Pod) bool { return !m.Finished(p.UID) }) {
		if !pause.For(ctx, poll) {
			m.Log.Warn("Pods had not given back all that they used when their time was over", "pods", len(pods), "priority", period.Priority)
			return
		}
	}
}
