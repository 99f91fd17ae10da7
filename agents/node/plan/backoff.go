package plan

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/kubernetes/pkg/kubelet/util/format"
)

// Bounds of the wait before a container that exited is started again.
const (
	FirstBackoff = 10 * time.Second
	LastBackoff  = 5 * time.Minute
)

// Backoffs are those of a pod's containers, by their names. They are forgotten with the process, as a kubelet's are.
type Backoffs map[string]Backoff

// Backoff is how long a container waits, and since when it is so long.
type Backoff struct {
	Delay time.Duration
	Since time.Time
}

// forgotten: the container had run for long enough.
func (b Backoff) forgotten(exited time.Time) bool { return exited.Sub(b.Since) > 2*LastBackoff }

// Next is what to note when a container is started that exited then: it waits twice as long the next time.
func (b Backoffs) Next(name string, exited, now time.Time) {
	entry, ok := b[name]
	if !ok || entry.forgotten(exited) {
		b[name] = Backoff{FirstBackoff, now}
		return
	}
	b[name] = Backoff{min(2*entry.Delay, LastBackoff), now}
}

func (b Backoffs) wait(pod *corev1.Pod, c Container, exited, now time.Time) (Wait, bool) {
	entry, ok := b[c.Spec.Name]
	// One that exited in time to come did so by a clock that was set back since.
	if !ok || entry.forgotten(exited) || now.Sub(exited) >= entry.Delay || now.Before(exited) {
		return Wait{}, false
	}
	return Wait{
		Container: c, Until: exited.Add(entry.Delay),
		Message: fmt.Sprintf("back-off %s restarting failed container=%s pod=%s", entry.Delay, c.Spec.Name, format.Pod(pod)),
	}, true
}
