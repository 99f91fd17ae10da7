// Package hook runs what a container wants to be done after its start and before its stop, as the kubelet does: whose runner this is.
package hook

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	_ "k8s.io/kubernetes/pkg/apis/core/install" // references to pods and their containers
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"
	"k8s.io/kubernetes/pkg/kubelet/events"
	"k8s.io/kubernetes/pkg/kubelet/lifecycle"
	httpprobe "k8s.io/kubernetes/pkg/probe/http"

	"github.com/rowlock-io/rowlock/agents/node/podstatus"
)

// Config says what a Runner works with.
type Config struct {
	Runtime  Execer
	Recorder record.EventRecorder
	Log      *slog.Logger
}

// Execer is the runtime.
type Execer interface {
	ExecSync(ctx context.Context, id string, command []string, timeout time.Duration) (stdout, stderr []byte, err error)
}

// Runner runs hooks.
type Runner struct {
	Config
	client *http.Client
	late   sync.WaitGroup
}

// New returns one that runs nothing yet.
func New(c Config) *Runner {
	return &Runner{Config: c, client: &http.Client{
		Transport: &http.Transport{
			TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // pods' certificates are their own
			DisableKeepAlives: true,                                  // a hook runs once
		},
		CheckRedirect: httpprobe.RedirectChecker(false),
	}}
}

// Container is one that runs, or did until now.
type Container struct {
	Pod  *corev1.Pod
	Spec *corev1.Container
	ID   kubecontainer.ContainerID
	// IPs are the pod's: hooks that name no host are sent to the first.
	IPs []string
}

// PostStart runs the container's hook if it has one. The error is a *podstatus.Waiting: the container is to be stopped.
func (r *Runner) PostStart(ctx context.Context, c Container) error {
	if c.Spec.Lifecycle == nil || c.Spec.Lifecycle.PostStart == nil {
		return nil
	}
	message, err := r.run(ctx, c, c.Spec.Lifecycle.PostStart)
	if err == nil {
		return nil
	}
	r.failed(c, events.FailedPostStartHook, "PostStartHook failed", err)
	return &podstatus.Waiting{Reason: "PostStartHookError", Message: message}
}

// PreStop runs the container's hook if it has one, and waits for as long as the container has to stop. It returns how long that took.
// A hook that takes longer goes on, until its container is gone or the context ends.
func (r *Runner) PreStop(ctx context.Context, c Container, grace time.Duration) time.Duration {
	if c.Spec.Lifecycle == nil || c.Spec.Lifecycle.PreStop == nil || grace <= 0 {
		return 0
	}
	began := time.Now()
	done := make(chan struct{})
	r.late.Go(func() {
		defer close(done)
		if _, err := r.run(ctx, c, c.Spec.Lifecycle.PreStop); err != nil {
			r.failed(c, events.FailedPreStopHook, "PreStopHook failed", err)
		}
	})
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-done:
	case <-ctx.Done():
	case <-timer.C:
		r.Log.Info("PreStop hook took all of the grace period", "pod", c.Pod.Namespace+"/"+c.Pod.Name, "container", c.Spec.Name, "grace", grace)
	}
	return time.Since(began)
}

// Wait waits for hooks that PreStop did not. Their contexts have ended by then.
func (r *Runner) Wait() { r.late.Wait() }

// failed records the event. What the hook has said is not in it: it may be a secret.
func (r *Runner) failed(c Container, reason, message string, err error) {
	r.Log.Info("Hook failed", "hook", message, "pod", c.Pod.Namespace+"/"+c.Pod.Name, "container", c.Spec.Name, "err", err)
	about, err := kubecontainer.GenerateContainerRef(c.Pod, c.Spec)
	if err != nil {
		r.Log.Warn("Event was about nothing", "err", err)
		return
	}
	r.Recorder.Event(about, corev1.EventTypeWarning, reason, message)
}

func (r *Runner) run(ctx context.Context, c Container, handler *corev1.LifecycleHandler) (string, error) {
	call := call{r, ctx, c.IPs}
	runner := lifecycle.NewHandlerRunner(call, call, call, r.Recorder)
	return runner.Run(logr.NewContextWithSlogLogger(ctx, r.Log), c.ID, c.Pod, c.Spec, handler)
}

// call is what one hook needs.
type call struct {
	*Runner
	ctx context.Context // requests come without one
	ips []string
}

// Do sends a request, for as long as the hook may run.
func (c call) Do(r *http.Request) (*http.Response, error) { return c.client.Do(r.WithContext(c.ctx)) }

// RunInContainer runs a command until it ends.
func (c call) RunInContainer(ctx context.Context, id kubecontainer.ContainerID, command []string, timeout time.Duration) ([]byte, error) {
	stdout, stderr, err := c.Runtime.ExecSync(ctx, id.ID, command, timeout)
	return append(stdout, stderr...), err
}

// GetPod returns nothing but what GetPodStatus wants back.
func (c call) GetPod(_ context.Context, uid types.UID) (*kubecontainer.Pod, error) {
	return &kubecontainer.Pod{ID: uid}, nil
}

// GetPodStatus tells the pod's addresses.
func (c call) GetPodStatus(_ context.Context, pod *kubecontainer.Pod) (*kubecontainer.PodStatus, error) {
	return &kubecontainer.PodStatus{ID: pod.ID, IPs: c.ips}, nil
}
