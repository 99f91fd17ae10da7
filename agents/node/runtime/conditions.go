package runtime

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Condition is one that a runtime reports of itself.
type Condition struct {
	Type            string
	Status          bool
	Reason, Message string
}

// String is as the kubelet writes it.
func (c *Condition) String() string {
	if c == nil {
		return "<nil>"
	}
	return fmt.Sprintf("%s=%t reason:%s message:%s", c.Type, c.Status, c.Reason, c.Message)
}

// Conditions are whether the runtime is in order.
type Conditions struct {
	// Runtime and Network are nil when it does not tell, which is not in order.
	Runtime, Network *Condition
	// Others are what it tells besides, such as deprecations. Whether a node is ready does not depend on them.
	Others []Condition
	// Down: it could not be asked.
	Down error
}

// Conditions asks for them.
func (r *Runtime) Conditions(ctx context.Context) Conditions {
	state, err := r.service.Status(ctx, false)
	if err != nil {
		return Conditions{Down: err}
	}
	if version, err := r.service.Version(ctx, "0.1.0"); err == nil { // it may have been upgraded
		r.mu.Lock()
		r.version = version.RuntimeVersion
		r.mu.Unlock()
	}
	r.can(state)
	var c Conditions
	for _, reported := range state.GetStatus().GetConditions() {
		one := Condition{Type: reported.Type, Status: reported.Status, Reason: reported.Reason, Message: reported.Message}
		switch reported.Type {
		case runtimeapi.RuntimeReady:
			c.Runtime = &one
		case runtimeapi.NetworkReady:
			c.Network = &one
		default:
			c.Others = append(c.Others, one)
		}
	}
	return c
}

// can takes over what the runtime says it can.
func (r *Runtime) can(state *runtimeapi.StatusResponse) {
	var handlers []Handler
	for _, h := range state.GetRuntimeHandlers() {
		handlers = append(handlers, Handler{
			Name:                    h.GetName(),
			RecursiveReadOnlyMounts: h.GetFeatures().GetRecursiveReadOnlyMounts(),
			UserNamespaces:          h.GetFeatures().GetUserNamespaces(),
		})
	}
	slices.SortFunc(handlers, func(a, b Handler) int { return cmp.Compare(a.Name, b.Name) })
	r.mu.Lock()
	defer r.mu.Unlock()
	r.handlers = handlers
	r.features = Features{
		SupplementalGroupsPolicy:  state.GetFeatures().GetSupplementalGroupsPolicy(),
		UserNamespacesHostNetwork: state.GetFeatures().GetUserNamespacesHostNetwork(),
	}
}

// RuntimeErr is why no pods can run, in upstream's words; nil: they can.
func (c Conditions) RuntimeErr() error {
	switch {
	case c.Down != nil:
		return errors.New("container runtime is down")
	case c.Runtime == nil || !c.Runtime.Status:
		return fmt.Errorf("container runtime not ready: %v", c.Runtime)
	}
	return nil
}

// NetworkErr is why pods with a network of their own cannot run, in upstream's words; nil: they can.
func (c Conditions) NetworkErr() error {
	if c.Down == nil && (c.Network == nil || !c.Network.Status) {
		return fmt.Errorf("container runtime network not ready: %v", c.Network)
	}
	return nil
}
