package plan

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	podutil "k8s.io/kubernetes/pkg/api/v1/pod"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"
	"k8s.io/kubernetes/pkg/kubelet/prober/results"
)

func (d *decision) startInit(i int) {
	c := &d.Want.Spec.InitContainers[i]
	d.start(Container{c, podutil.InitContainers}, "", !podutil.IsRestartableInitContainer(c))
}

// initialize decides about init containers and sidecars, and tells whether all that the containers wait for has happened.
//
// It goes from the last to the first: the runtime may have forgotten those that are done, and the last one that it knows of
// tells that those before it are.
func (d *decision) initialize() bool {
	containers := d.Want.Spec.InitContainers
	if len(containers) == 0 {
		return true
	}
	initialized := d.containersRun()
	later := initialized // something after this one was started
	var starts []int
	for i := len(containers) - 1; i >= 0; i-- {
		c := Container{&containers[i], podutil.InitContainers}
		sidecar := podutil.IsRestartableInitContainer(c.Spec)
		s := d.newest(c.Spec.Name)
		if s == nil {
			if later && sidecar {
				starts = append(starts, i)
			}
			continue
		}
		if later && !sidecar {
			continue
		}
		var again, done bool
		if sidecar {
			again, done = d.sidecar(c, s)
		} else {
			again, done = d.once(c, s)
		}
		if d.over {
			return false
		}
		if done {
			if i == len(containers)-1 {
				initialized = true
			} else if !later {
				starts = append(starts, i+1)
			}
		}
		if again {
			starts = append(starts, i)
		}
		later = true
	}
	if !later {
		starts = append(starts, 0)
	}
	slices.Sort(starts)
	for _, i := range starts {
		d.startInit(i)
	}
	return initialized
}

// containersRun: the pod had been initialized in this sandbox. Those that have exited may have run in an earlier one.
func (d *decision) containersRun() bool {
	for i := range d.Want.Spec.Containers {
		s := d.newest(d.Want.Spec.Containers[i].Name)
		if s != nil && (s.State == kubecontainer.ContainerStateCreated || s.State == kubecontainer.ContainerStateRunning) {
			return true
		}
	}
	return false
}

// once decides about an init container that ends.
func (d *decision) once(c Container, s *kubecontainer.Status) (again, done bool) {
	switch s.State {
	case kubecontainer.ContainerStateCreated: // it could not be started
		return true, false
	case kubecontainer.ContainerStateRunning:
		d.resize(c, s)
		return false, false
	case kubecontainer.ContainerStateExited:
		if s.ExitCode == 0 {
			return false, true
		}
		d.over = !shouldRestart(d.Want, c.Spec, s)
		return !d.over, false
	default:
		restart := d.Want.Spec.RestartPolicy != corev1.RestartPolicyNever
		if c.Spec.RestartPolicy != nil {
			restart = *c.Spec.RestartPolicy != corev1.ContainerRestartPolicyNever
		}
		if d.over = !restart; restart {
			d.stop(c, s, Unknown, fmt.Sprintf("Init container is in %q state, try killing it before restart", s.State))
		}
		return restart, false
	}
}

// sidecar decides about an init container that stays. The next one waits for it until it has started.
func (d *decision) sidecar(c Container, s *kubecontainer.Status) (again, done bool) {
	switch s.State {
	case kubecontainer.ContainerStateCreated, kubecontainer.ContainerStateExited:
		return true, false
	case kubecontainer.ContainerStateRunning:
	default:
		d.stop(c, s, Unknown, fmt.Sprintf("Init container is in %q state, try killing it before restart", s.State))
		return true, false
	}
	probes := d.Probes[s.ID.ID]
	if c.Spec.StartupProbe != nil && (probes.Startup == nil || *probes.Startup != results.Success) {
		if failed(probes.Startup) {
			d.stop(c, s, Startup, fmt.Sprintf("Init container %s failed startup probe", c.Spec.Name))
			return true, false
		}
		return false, false
	}
	switch {
	case kubecontainer.HashContainer(c.Spec) != s.Hash:
		d.stop(c, s, "", fmt.Sprintf("Init container %s definition changed", c.Spec.Name))
		return true, true
	case c.Spec.LivenessProbe != nil && failed(probes.Liveness):
		d.stop(c, s, Liveness, fmt.Sprintf("Init container %s failed liveness probe", c.Spec.Name))
		return true, true
	case c.Spec.LivenessProbe != nil && probes.Liveness == nil:
		return false, true
	case !d.resize(c, s):
		d.stop(c, s, "", fmt.Sprintf("Container %s resize requires restart", c.Spec.Name))
		return true, true
	}
	return false, true
}
