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

// Health is how a node's container runtime is, as last heard.
type Health struct {
	runtime *runtime.Runtime
	changed func()

	mu    sync.Mutex
	last  runtime.Conditions
	asked bool
}

// NewHealth is that of a runtime. changed is called when something is another way than before.
func NewHealth(rt *runtime.Runtime, changed func()) *Health {
	return &Health{runtime: rt, changed: changed}
}

// Run asks the runtime until ctx ends.
func (h *Health) Run(ctx context.Context) error {
	for {
		asking, cancel := context.WithTimeout(ctx, healthTimeout)
		conditions := h.runtime.Conditions(asking)
		cancel()
		if ctx.Err() != nil {
			return nil
		}
		h.mu.Lock()
		turned := !h.asked || text(conditions) != text(h.last)
		h.last, h.asked = conditions, true
		h.mu.Unlock()
		if turned {
			h.changed()
		}
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
