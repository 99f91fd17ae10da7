package register

import (
	"context"
	"errors"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/rowlock-io/rowlock/agents/node/runtime"
)

// How often the runtime is asked how it is, as by kubelets, and when it was not in order the last time.
const (
	healthPeriod = 5 * time.Second
	illPeriod    = time.Second
)

// healthTimeout bounds the wait for the runtime's answer.
const healthTimeout = 10 * time.Second

// downAfter is for how long a runtime that does not answer is taken to be as it was, as by kubelets: its pods run on while it is restarted,
// and would lose their traffic if the node were not ready.
const downAfter = 30 * time.Second

// Health is how a node's container runtime is, as last heard.
type Health struct {
	runtime *runtime.Runtime
	ask     func(context.Context) runtime.Conditions
	changed func()

	mu    sync.Mutex
	last  runtime.Conditions // of when it answered, or is long since down
	heard time.Time          // when it last answered; zero: it has not yet
	asked bool
}

// NewHealth is that of a runtime. changed is called when something is another way than before.
func NewHealth(rt *runtime.Runtime, changed func()) *Health {
	return &Health{runtime: rt, ask: rt.Conditions, changed: changed}
}

// Run asks the runtime until ctx ends.
func (h *Health) Run(ctx context.Context) error {
	before := ""
	for {
		asking, cancel := context.WithTimeout(ctx, healthTimeout)
		conditions := h.ask(asking)
		cancel()
		if ctx.Err() != nil {
			return nil
		}
		turned := h.take(conditions, time.Now())
		now := text(conditions)
		if turned || now != before { // pods wait also for a runtime that was away for a moment
			h.changed()
		}
		before = now
		period := healthPeriod
		if text(conditions) != "" {
			period = illPeriod
		}
		select {
		case <-time.After(period):
		case <-ctx.Done():
			return nil
		}
	}
}

// take takes over what the runtime answered, or that it did not. It tells whether something is another way than before.
func (h *Health) take(conditions runtime.Conditions, now time.Time) (turned bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case conditions.Down == nil:
		h.heard = now
	case !h.heard.IsZero() && now.Sub(h.heard) < downAfter:
		return false
	}
	turned = !h.asked || text(conditions) != text(h.last)
	h.last, h.asked = conditions, true
	return turned
}

// text is what is wrong.
func text(c runtime.Conditions) string {
	if err := errors.Join(c.RuntimeErr(), c.NetworkErr()); err != nil {
		return err.Error()
	}
	return ""
}

// Errors are why the node is not ready, as Config.Ready has them.
func (h *Health) Errors() []error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.asked {
		return []error{errors.New("container runtime status check may not have completed yet")}
	}
	return []error{h.last.RuntimeErr(), h.last.NetworkErr()}
}

// Known tells whether the runtime has been asked.
func (h *Health) Known() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.asked
}

// Network is why pods cannot have a network of their own; nil: they can.
func (h *Health) Network() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.asked {
		return errors.New("container runtime status check may not have completed yet")
	}
	return h.last.NetworkErr()
}

// Runtime is what the node's status says of it.
func (h *Health) Runtime() Runtime {
	rt := Runtime{Name: h.runtime.Name(), Version: h.runtime.Version()}
	for _, one := range h.runtime.Handlers() {
		rt.Handlers = append(rt.Handlers, corev1.NodeRuntimeHandler{Name: one.Name, Features: &corev1.NodeRuntimeHandlerFeatures{
			RecursiveReadOnlyMounts: &one.RecursiveReadOnlyMounts, UserNamespaces: &one.UserNamespaces,
		}})
	}
	groups := h.runtime.Features().SupplementalGroupsPolicy
	rt.Features = &corev1.NodeFeatures{SupplementalGroupsPolicy: &groups}
	return rt
}

// Images lists what the runtime has.
func (h *Health) Images(ctx context.Context) ([]Image, error) {
	all, err := h.runtime.Images().ListImages(ctx, &runtimeapi.ImageFilter{})
	if err != nil {
		return nil, err
	}
	var images []Image
	for _, i := range all {
		images = append(images, Image{Digests: i.GetRepoDigests(), Tags: i.GetRepoTags(), Size: int64(i.GetSize())}) //nolint:gosec // images are not that large
	}
	return images, nil
}
