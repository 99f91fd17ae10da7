package node

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rowlock-io/rowlock/agents/node/gc"
	"github.com/rowlock-io/rowlock/agents/node/worker"
)

// wanted says which pods' leavings are kept.
type wanted struct{ *Agent }

// Known: workers say that they may know any pod until they know all; the one without a UID is none.
func (w wanted) Known() bool { return !w.workers.Known("") }

func (w wanted) Gone(uid types.UID) bool { return !w.workers.Known(uid) }

func (w wanted) Over(uid types.UID) bool {
	phase, known := w.workers.Phase(uid)
	return w.Known() && (!known || phase >= worker.Terminated)
}

// reference is the node, as events name it: a kubelet's are found by the name.
func (a *Agent) reference() *corev1.ObjectReference {
	return &corev1.ObjectReference{Kind: "Node", Name: a.cfg.Name, UID: types.UID(a.cfg.Name)}
}

// makeGarbage makes what removes containers, images and logs that nobody needs any more.
func (a *Agent) makeGarbage() (err error) {
	c := gc.Config{
		Log: a.cfg.Log, Runtime: a.runtime.Service(), Images: a.runtime.Images(), Pods: wanted{a}, Reports: a.observer.Reports,
		PodLogs: a.cfg.PodLogs, Links: a.cfg.ContainerLogs, Recorder: a.events,
		Node: a.reference(), ImagesRemoved: a.images.Prune,
	}
	c.Containers, c.Image, c.Logs = a.cfg.Keep.Containers, a.cfg.Keep.Images, a.cfg.Keep.Logs
	a.garbage, err = gc.New(c)
	return err
}
