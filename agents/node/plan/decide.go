package plan

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	podutil "k8s.io/kubernetes/pkg/api/v1/pod"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"
	"k8s.io/kubernetes/pkg/kubelet/kuberuntime/util"
	"k8s.io/kubernetes/pkg/kubelet/prober/results"
)

// Decide says what is to be done for a pod that shall run.
func Decide(p Pod) []Action {
	changed, attempt, previous := util.PodSandboxChanged(p.Want, p.Have)
	switch {
	case changed && p.RestartAll: // they are removed when there is a sandbox again
		return append(p.purge([]Action{StopPod{}}), CreateSandbox{Attempt: attempt, Changed: previous != ""})
	case changed:
		return p.begin(attempt, previous)
	case p.RestartAll:
		return p.removeAll()
	}
	d := &decision{Pod: p}
	for i := range p.Want.Spec.EphemeralContainers {
		c := &p.Want.Spec.EphemeralContainers[i]
		if p.newest(c.Name) == nil { // they are started once, and also before the pod is initialized
			d.start(Container{(*corev1.Container)(&c.EphemeralContainerCommon), podutil.EphemeralContainers}, c.TargetContainerName, false)
		}
	}
	ephemeral := d.starts
	d.starts = nil
	initialized := d.initialize()
	init := d.starts
	d.starts = nil
	if d.over || initialized && !d.run() { // sidecars do not keep a pod alive, nor do those who look at it
		return append([]Action{StopPod{}}, d.prunes()...)
	}
	actions := append(d.stops, d.prunes()...)
	actions = append(actions, ephemeral...)
	actions = append(actions, init...)
	if blocked(init) {
		return actions
	}
	actions = append(actions, d.resizes()...)
	return append(actions, d.starts...)
}

// decision collects, in the order in which it is looked at.
type decision struct {
	Pod
	stops   []Action
	starts  []Action
	resized []resize
	restart bool // a container is restarted to have other resources
	over    bool // initialization has failed for good
}

// begin makes a sandbox, the first or one in the place of another, unless the pod is done.
func (p *Pod) begin(attempt uint32, previous string) []Action {
	actions := []Action{StopPod{}}
	if p.Want.Spec.RestartPolicy == corev1.RestartPolicyNever && attempt != 0 && len(p.Have.ContainerStatuses) != 0 {
		return append(actions, p.prunes()...)
	}
	d := &decision{Pod: *p}
	for i := range p.Want.Spec.Containers {
		c := &p.Want.Spec.Containers[i]
		if runsOnce(p.Want, c) {
			if s := p.newest(c.Name); s != nil && s.State == kubecontainer.ContainerStateExited && s.ExitCode == 0 {
				continue
			}
		}
		d.start(Container{c, podutil.Containers}, "", false)
	}
	if len(d.starts) == 0 && p.anyContainer() {
		return append(actions, p.prunes()...)
	}
	actions = p.purge(actions)
	if len(p.Want.Spec.InitContainers) > 0 {
		d.starts = nil
		d.startInit(0)
	}
	actions = append(actions, CreateSandbox{Attempt: attempt, Changed: previous != ""})
	return append(actions, d.starts...)
}

// purge removes init containers: they run again, and are not to be taken for done.
func (p *Pod) purge(actions []Action) []Action {
	for i := range p.Want.Spec.InitContainers {
		for _, s := range p.Have.ContainerStatuses {
			if s.Name == p.Want.Spec.InitContainers[i].Name {
				actions = append(actions, RemoveContainer{ID: s.ID})
			}
		}
	}
	return actions
}

// runsOnce: success is for good.
func runsOnce(pod *corev1.Pod, c *corev1.Container) bool {
	if c.RestartPolicy != nil {
		return *c.RestartPolicy == corev1.ContainerRestartPolicyOnFailure
	}
	return pod.Spec.RestartPolicy == corev1.RestartPolicyOnFailure
}

// anyContainer tells whether one that is no init container was made, so that the pod had been initialized.
func (p *Pod) anyContainer() bool {
	for i := range p.Want.Spec.Containers {
		if s := p.newest(p.Want.Spec.Containers[i].Name); s != nil && s.State != kubecontainer.ContainerStateUnknown {
			return true
		}
	}
	return false
}

// run decides about the containers of a pod that is initialized. It tells whether any of them is to run.
func (d *decision) run() bool {
	alive := false
	for i := range d.Want.Spec.Containers {
		c := Container{&d.Want.Spec.Containers[i], podutil.Containers}
		s := d.newest(c.Spec.Name)
		if s == nil || s.State != kubecontainer.ContainerStateRunning {
			if shouldRestart(d.Want, c.Spec, s) {
				if s != nil && s.State == kubecontainer.ContainerStateUnknown {
					d.stop(c, s, Unknown, fmt.Sprintf("Container is in %q state, try killing it before restart", s.State))
				}
				d.start(c, "", false)
				alive = true
			}
			continue
		}
		reason, message, restart := d.dislikes(c, s)
		if message == "" {
			alive = true
			continue
		}
		d.stop(c, s, reason, message)
		if restart {
			d.start(c, "", false)
			alive = true
		}
	}
	return alive
}

// dislikes says why a container that runs must not go on; message "": it may.
func (d *decision) dislikes(c Container, s *kubecontainer.Status) (reason Reason, message string, restart bool) {
	restart = d.Want.Spec.RestartPolicy != corev1.RestartPolicyNever
	if c.Spec.RestartPolicy != nil { // its rules are about exit codes, of which there is none yet
		restart = *c.Spec.RestartPolicy != corev1.ContainerRestartPolicyNever
	}
	again := ""
	if restart {
		again = ", will be restarted"
	}
	probes := d.Probes[s.ID.ID]
	switch {
	case kubecontainer.HashContainer(c.Spec) != s.Hash:
		return "", fmt.Sprintf("Container %s definition changed, will be restarted", c.Spec.Name), true
	case failed(probes.Liveness):
		return Liveness, fmt.Sprintf("Container %s failed liveness probe%s", c.Spec.Name, again), restart
	case failed(probes.Startup):
		return Startup, fmt.Sprintf("Container %s failed startup probe%s", c.Spec.Name, again), restart
	case !d.resize(c, s):
		return "", fmt.Sprintf("Container %s resize requires restart", c.Spec.Name), true
	}
	return "", "", false
}

func failed(r *results.Result) bool { return r != nil && *r == results.Failure }

// shouldRestart: a container that does not run is started, for the first time or again.
func shouldRestart(pod *corev1.Pod, c *corev1.Container, s *kubecontainer.Status) bool {
	switch {
	case pod.DeletionTimestamp != nil:
		return false
	case s == nil, s.State != kubecontainer.ContainerStateExited:
		return true
	}
	return podutil.ContainerShouldRestart(*c, pod.Spec, int32(s.ExitCode))
}

func (d *decision) stop(c Container, s *kubecontainer.Status, reason Reason, message string) {
	d.stops = append(d.stops, StopContainer{Container: c, ID: s.ID, Reason: reason, Message: message, Grace: Grace(d.Want, c.Spec, reason)})
}

// start starts a container, or waits until it may be started again.
func (d *decision) start(c Container, target string, needed bool) {
	action := StartContainer{Container: c, Target: target, Needed: needed}
	if s := d.newest(c.Spec.Name); s != nil {
		action.Restarts = s.RestartCount + 1
	}
	for _, s := range d.Have.ContainerStatuses {
		if s.Name == c.Spec.Name && s.State == kubecontainer.ContainerStateExited {
			action.Exited = s.FinishedAt
			if wait, ok := d.Backoffs.wait(d.Want, c, s.FinishedAt, d.Now); ok {
				wait.Needed = needed
				d.starts = append(d.starts, wait)
				return
			}
			break
		}
	}
	d.starts = append(d.starts, action)
}

// prunes remove all but the last attempt of init containers.
func (p *Pod) prunes() []Action {
	var actions []Action
	for i := range p.Want.Spec.InitContainers {
		seen := false
		for _, s := range p.Have.ContainerStatuses {
			if s.Name != p.Want.Spec.InitContainers[i].Name || s.State != kubecontainer.ContainerStateExited && s.State != kubecontainer.ContainerStateUnknown {
				continue
			}
			if seen {
				actions = append(actions, RemoveContainer{ID: s.ID})
			}
			seen = true
		}
	}
	return actions
}

// blocked: an init container that others need has to wait.
func blocked(starts []Action) bool {
	for _, a := range starts {
		if wait, ok := a.(Wait); ok && wait.Needed {
			return true
		}
	}
	return false
}

// removeAll removes all attempts of all containers; those whose exit demanded it last, for whoever is interrupted to see it again.
func (p *Pod) removeAll() []Action {
	var victims, sources []Action
	for _, of := range []struct {
		containers []corev1.Container
		kind       podutil.ContainerType
	}{{p.Want.Spec.Containers, podutil.Containers}, {p.Want.Spec.InitContainers, podutil.InitContainers}} {
		for i := range of.containers {
			c := Container{&of.containers[i], of.kind}
			for _, s := range p.Have.ContainerStatuses {
				remove := RemoveContainer{ID: s.ID, KeepLog: true}
				switch {
				case s.Name != c.Spec.Name:
				case s.State != kubecontainer.ContainerStateExited:
					victims = append(victims, StopContainer{Container: c, ID: s.ID, Reason: RestartAll, Message: "killing"}, remove)
				case demandsAll(c.Spec, s):
					sources = append(sources, remove)
				default:
					victims = append(victims, remove)
				}
			}
		}
	}
	return append(victims, sources...)
}

func demandsAll(c *corev1.Container, s *kubecontainer.Status) bool {
	rule, ok := podutil.FindMatchingContainerRestartRule(*c, int32(s.ExitCode))
	return ok && rule.Action == corev1.ContainerRestartRuleActionRestartAllContainers
}
