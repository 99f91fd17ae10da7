package source

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/record"
	"k8s.io/kubernetes/pkg/kubelet/eviction"
	"k8s.io/kubernetes/pkg/kubelet/lifecycle"
	"k8s.io/kubernetes/pkg/kubelet/preemption"
	"k8s.io/kubernetes/pkg/kubelet/sysctl"
	schedulerframework "k8s.io/kubernetes/pkg/scheduler/framework"
	"k8s.io/kubernetes/pkg/security/apparmor"
)

// Rules are what a node asks of pods.
type Rules struct {
	// Node is the node's object; fresh: as the API has it now.
	Node func(ctx context.Context, fresh bool) (*corev1.Node, error)
	// UnsafeSysctls are those that pods may set though they reach beyond the pod.
	UnsafeSysctls []string
	// Active are pods that take up room.
	Active func() []*corev1.Pod
	// Kill ends a pod to make room for a critical one.
	Kill eviction.KillPodFunc
	// First are asked before all others.
	First  []lifecycle.PodAdmitHandler
	Last   lifecycle.PodAdmitHandler // nil: there is none
	Events record.EventRecorder
}

// nodeTimeout bounds the question for the node's object.
const nodeTimeout = 10 * time.Second

// Admission makes the function that says why a pod cannot be on the node. The rules, reasons and words are upstream's.
func Admission(r Rules) (func(pod *corev1.Pod, others []*corev1.Pod, there bool) (reason, message string), error) {
	allowed, err := sysctl.NewAllowlist(append(sysctl.SafeSysctlAllowlist(context.Background()), r.UnsafeSysctls...))
	if err != nil {
		return nil, fmt.Errorf("allowed sysctls: %w", err)
	}
	node := func(ctx context.Context, cached bool) (*corev1.Node, error) {
		ctx, cancel := context.WithTimeout(ctx, nodeTimeout)
		defer cancel()
		return r.Node(ctx, !cached)
	}
	devices := func(*schedulerframework.NodeInfo, *lifecycle.PodAdmitAttributes) error { return nil } // there are none
	handlers := append(slices.Clone(r.First),
		allowed,
		lifecycle.NewPredicateAdmitHandler(node, preemption.NewCriticalPodAdmissionHandler(r.Active, r.Kill, r.Events), devices),
		lifecycle.NewAppArmorAdmitHandler(apparmor.NewValidator()),
		lifecycle.NewPodFeaturesAdmitHandler(),
	)
	if r.Last != nil {
		handlers = append(handlers, r.Last)
	}
	return func(pod *corev1.Pod, others []*corev1.Pod, there bool) (reason, message string) {
		attributes := &lifecycle.PodAdmitAttributes{Pod: pod, OtherPods: others, Operation: lifecycle.AddOperation}
		if there {
			attributes.Operation = lifecycle.ResizeOperation
		}
		for _, h := range handlers {
			if result := h.Admit(attributes); !result.Admit {
				return result.Reason, result.Message
			}
		}
		return "", ""
	}, nil
}
