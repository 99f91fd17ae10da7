package node

import (
	"context"
	goruntime "runtime"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rowlock-io/rowlock/agents/node/cgroup"
	"github.com/rowlock-io/rowlock/agents/node/cri"
	"github.com/rowlock-io/rowlock/agents/node/runtime"
)

// cgroupPeriod is how often cgroups are looked after that nobody tells of.
const cgroupPeriod = time.Minute

func cgroupVersion() int {
	if cri.CgroupV2() {
		return 2
	}
	return 1
}

// podCgroups are pods', within those of their classes, which have what their pods have together.
type podCgroups struct {
	*cgroup.Manager
	active func() []*corev1.Pod
	done   func(operation string, took time.Duration)
}

func (c podCgroups) Ensure(pod *corev1.Pod) error {
	pods := slices.DeleteFunc(c.active(), func(other *corev1.Pod) bool { return other.UID == pod.UID })
	if err := c.SetQoS(append(pods, pod)); err != nil {
		return err
	}
	began, operation := time.Now(), "create"
	if c.Exists(pod) {
		operation = "update"
	}
	err := c.Manager.Ensure(pod)
	c.done(operation, time.Since(began))
	return err
}

func (c podCgroups) Remove(ctx context.Context, uid types.UID) error {
	began := time.Now()
	err := c.Manager.Remove(ctx, uid)
	c.done("destroy", time.Since(began))
	return err
}

func (a *Agent) makeCgroups() error {
	found, err := cgroup.Find()
	if err != nil {
		return err
	}
	a.cgroups, err = cgroup.New(cgroup.Config{
		Log: a.cfg.Log, Hierarchies: found, Systemd: a.runtime.CgroupDriver() == runtime.Systemd, Root: a.cfg.CgroupRoot,
		NoCPUQuota: a.cfg.NoCPUQuota, PodPids: a.cfg.PodPids,
	})
	if err != nil {
		return err
	}
	return a.cgroups.Setup(a.forPods())
}

// forPods is what all pods have together: what the machine has, without what is reserved.
func (a *Agent) forPods() corev1.ResourceList {
	all := corev1.ResourceList{
		corev1.ResourceCPU:    *resource.NewQuantity(int64(goruntime.NumCPU()), resource.DecimalSI),
		corev1.ResourceMemory: *resource.NewQuantity(memoryCapacity(), resource.BinarySI),
	}
	for name, q := range all {
		q.Sub(a.cfg.Reserved[name])
		all[name] = q
	}
	return all
}

// keepCgroups gives classes what their pods have together, and removes what is left of pods that are gone.
func (a *Agent) keepCgroups(ctx context.Context) error {
	tick := time.NewTicker(cgroupPeriod)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := a.cgroups.SetQoS(a.workers.Active()); err != nil {
			a.cfg.Log.Warn("Cgroups of pods' classes were not updated", "error", err)
		}
		there, err := a.cgroups.Pods()
		if err != nil {
			a.cfg.Log.Warn("Cgroups of pods were not listed", "error", err)
		}
		for _, uid := range there {
			if a.workers.Known(uid) || a.has(uid) {
				continue
			}
			if err := a.cgroups.Remove(ctx, uid); err != nil {
				a.cfg.Log.Warn("Cgroup of a pod that is gone was not removed", "podUID", uid, "error", err)
			}
		}
	}
}

// podCgroup is a pod's, below where cgroups are mounted; "": it is not known.
func (a *Agent) podCgroup(uid types.UID) string {
	if a.cgroups == nil {
		return ""
	}
	for _, pod := range a.source.Pods() {
		if pod.UID == uid {
			if parent, err := a.cgroups.Parent(pod); err == nil {
				return parent
			}
		}
	}
	return ""
}
