// Package runtime is the container runtime that a node has, over the Container Runtime Interface v1: which one it is, what it can, and
// whether it is in order. Which calls are made to it, and when, others say.
package runtime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	criclient "k8s.io/cri-client/pkg"
)

// Drivers of cgroups: who makes them.
const (
	Cgroupfs = "cgroupfs"
	Systemd  = "systemd"
)

// DefaultTimeout is for calls that have no bound of their own.
const DefaultTimeout = 2 * time.Minute

// Options are how a runtime is reached.
type Options struct {
	Log *slog.Logger
	// Timeout is for calls that have none of their own; 0: DefaultTimeout.
	Timeout time.Duration
	// Answer is how long one that is there may take for its first answer; 0: ten seconds.
	Answer time.Duration
	// Wait is how long Dial waits for one that is not there yet; 0: it does not.
	Wait time.Duration
	// ImageEndpoint is that of the image service; "": the runtime's.
	ImageEndpoint string
	// CgroupDriver is that of a runtime that does not tell it; "": Cgroupfs.
	CgroupDriver string
	// Around and AroundImages are put before the services, so that all calls go through them; nil: nothing is.
	Around       func(internalapi.RuntimeService) internalapi.RuntimeService
	AroundImages func(internalapi.ImageManagerService) internalapi.ImageManagerService
}

// Handler is what a runtime handler can, which a RuntimeClass names. The one with no name is the default.
type Handler struct {
	Name                    string
	RecursiveReadOnlyMounts bool
	UserNamespaces          bool
}

// Features are what the runtime can, whichever the handler.
type Features struct {
	SupplementalGroupsPolicy  bool
	UserNamespacesHostNetwork bool
}

// Runtime is one that has been reached. It may be restarted, and be another version then: Conditions finds that out.
type Runtime struct {
	log     *slog.Logger
	service internalapi.RuntimeService
	images  internalapi.ImageManagerService
	name    string
	driver  string

	mu       sync.Mutex
	version  string
	handlers []Handler
	features Features
}

// Dial reaches the runtime at an endpoint, like unix:///run/containerd/containerd.sock. Its errors are ErrMissing, ErrHangs, ErrOld, or
// others.
func Dial(ctx context.Context, endpoint string, o Options) (*Runtime, error) {
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Answer <= 0 {
		o.Answer = 10 * time.Second
	}
	if o.CgroupDriver == "" {
		o.CgroupDriver = Cgroupfs
	}
	until := time.Now().Add(o.Wait)
	for first := true; ; first = false {
		r, err := dial(ctx, endpoint, o)
		if err == nil || !errors.Is(err, ErrMissing) && !errors.Is(err, ErrHangs) || !time.Now().Before(until) {
			return r, err
		}
		if first {
			o.Log.Info("Waited for the container runtime", "endpoint", endpoint, "error", err)
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(min(500*time.Millisecond, time.Until(until))):
		}
	}
}

func dial(ctx context.Context, endpoint string, o Options) (*Runtime, error) {
	answer, cancel := context.WithTimeout(ctx, o.Answer)
	defer cancel()
	if err := there(endpoint); err != nil {
		return nil, err
	}
	service, err := criclient.NewRemoteRuntimeService(answer, endpoint, o.Timeout, nil, false)
	if err != nil {
		return nil, explain(answer, endpoint, o.Answer, err)
	}
	if o.Around != nil {
		service = o.Around(service)
	}
	r := &Runtime{log: o.Log, service: service}
	if o.ImageEndpoint == "" {
		o.ImageEndpoint = endpoint
	}
	if r.images, err = criclient.NewRemoteImageService(answer, o.ImageEndpoint, o.Timeout, nil, false); err != nil {
		_ = service.Close(ctx)
		return nil, explain(answer, o.ImageEndpoint, o.Answer, err)
	}
	if o.AroundImages != nil {
		r.images = o.AroundImages(r.images)
	}
	if err := r.learn(answer, o.CgroupDriver); err != nil {
		return nil, errors.Join(explain(answer, endpoint, o.Answer, err), r.Close(ctx))
	}
	o.Log.Info("Reached the container runtime", "endpoint", endpoint, "name", r.name, "version", r.version, "cgroupDriver", r.driver)
	return r, nil
}

// learn asks for all that it tells about itself.
func (r *Runtime) learn(ctx context.Context, driver string) error {
	version, err := r.service.Version(ctx, "0.1.0")
	if err != nil {
		return err
	}
	r.name, r.version = version.RuntimeName, version.RuntimeVersion
	config, err := r.service.RuntimeConfig(ctx)
	switch {
	case status.Code(err) == codes.Unimplemented: // containerd before 2
		r.driver = driver
		r.log.Info("The container runtime did not tell its cgroup driver", "assumed", driver)
	case err != nil:
		return err
	case config.GetLinux() == nil:
		r.driver = driver
	case config.Linux.CgroupDriver == runtimeapi.CgroupDriver_SYSTEMD:
		r.driver = Systemd
	default:
		r.driver = Cgroupfs
	}
	// One that is not in order is still one: who asks for its conditions hears of it.
	if state, err := r.service.Status(ctx, false); err == nil {
		r.can(state)
	}
	return nil
}

// Close ends the connection.
func (r *Runtime) Close(ctx context.Context) error {
	return errors.Join(r.service.Close(ctx), r.images.Close(ctx))
}

// Service is the runtime's.
func (r *Runtime) Service() internalapi.RuntimeService { return r.service }

// Images is the image service.
func (r *Runtime) Images() internalapi.ImageManagerService { return r.images }

// Name is containerd, cri-o, …; ids of containers are shown as name://id.
func (r *Runtime) Name() string { return r.name }

// CgroupDriver is Cgroupfs or Systemd.
func (r *Runtime) CgroupDriver() string { return r.driver }

// Version is the runtime's own.
func (r *Runtime) Version() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.version
}

// Handlers are those that it has, sorted by name; none: it does not tell.
func (r *Runtime) Handlers() []Handler {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.handlers
}

// Handler is the one that a RuntimeClass names; false: the runtime does not tell of it.
func (r *Runtime) Handler(name string) (Handler, bool) {
	for _, h := range r.Handlers() {
		if h.Name == name {
			return h, true
		}
	}
	return Handler{Name: name}, false
}

// Features are what it can whichever the handler.
func (r *Runtime) Features() Features {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.features
}

// String names it as a Node's nodeInfo does.
func (r *Runtime) String() string { return fmt.Sprintf("%s://%s", r.name, r.Version()) }
