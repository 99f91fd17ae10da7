package probe

import (
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	_ "k8s.io/kubernetes/pkg/apis/core/install" // references to pods and their containers
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"
	"k8s.io/kubernetes/pkg/kubelet/events"
	"k8s.io/kubernetes/pkg/kubelet/prober/results"
	"k8s.io/kubernetes/pkg/kubelet/util/format"
	upstream "k8s.io/kubernetes/pkg/probe"
	execprobe "k8s.io/kubernetes/pkg/probe/exec"
	grpcprobe "k8s.io/kubernetes/pkg/probe/grpc"
	httpprobe "k8s.io/kubernetes/pkg/probe/http"
	"k8s.io/utils/exec"
)

// tries is how often a probe is tried that ends in an error, which is neither success nor failure.
const tries = 3

// question is one that is put to a container.
type question struct {
	kind      kind
	spec      *corev1.Probe
	pod       *corev1.Pod
	container *corev1.Container
	id, ip    string
}

// asker asks, by upstream's probers.
type asker struct {
	Config
	exec execprobe.Prober
	http httpprobe.Prober
	grpc grpcprobe.Prober
}

func newAsker(c Config) asker {
	return asker{c, execprobe.New(), httpprobe.New(false), grpcprobe.New()}
}

// ask puts the question and records what is to be known of the answer.
func (a *asker) ask(ctx context.Context, q question) (results.Result, error) {
	result, output, err := upstream.Unknown, "", error(nil)
	for range tries {
		if result, output, err = a.try(ctx, q); err == nil {
			break
		}
	}
	switch {
	case ctx.Err() != nil: // it is the agent that ends
		return results.Failure, context.Cause(ctx)
	case err != nil:
		a.event(q, events.ContainerUnhealthy, "%s probe errored and resulted in %s state: %s", q.kind, result, err)
		return results.Failure, err
	case result == upstream.Success:
		return results.Success, nil
	case result == upstream.Warning:
		a.event(q, events.ContainerProbeWarning, "%s probe warning: %s", q.kind, output)
		return results.Success, nil
	case result == upstream.Failure:
		a.event(q, events.ContainerUnhealthy, "%s probe failed: %s", q.kind, output)
	}
	return results.Failure, nil
}

func (a *asker) event(q question, reason, format string, args ...any) {
	about, err := kubecontainer.GenerateContainerRef(q.pod, q.container)
	if err != nil {
		a.Log.Warn("Event was about nothing", "err", err)
		return
	}
	a.Recorder.Eventf(about, corev1.EventTypeWarning, reason, format, args...)
}

func (a *asker) try(ctx context.Context, q question) (upstream.Result, string, error) {
	timeout := time.Duration(q.spec.TimeoutSeconds) * time.Second
	switch {
	case q.spec.Exec != nil:
		argv := kubecontainer.ExpandContainerCommandOnlyStatic(q.spec.Exec.Command, q.container.Env)
		return a.exec.Probe(&command{run: func() ([]byte, []byte, error) { return a.Runtime.ExecSync(ctx, q.id, argv, timeout) }})
	case q.spec.HTTPGet != nil:
		request, err := httpprobe.NewRequestForHTTPGetAction(q.spec.HTTPGet, q.container, q.ip, "probe")
		if err != nil {
			return upstream.Unknown, "", err
		}
		return a.http.Probe(request.WithContext(ctx), timeout)
	case q.spec.TCPSocket != nil:
		port, err := upstream.ResolveContainerPort(q.spec.TCPSocket.Port, q.container)
		if err != nil {
			return upstream.Unknown, "", err
		}
		host := q.spec.TCPSocket.Host
		if host == "" {
			host = q.ip
		}
		return connect(ctx, net.JoinHostPort(host, strconv.Itoa(port)), timeout)
	case q.spec.GRPC != nil:
		service := ""
		if q.spec.GRPC.Service != nil {
			service = *q.spec.GRPC.Service
		}
		return a.grpc.Probe(q.ip, service, int(q.spec.GRPC.Port), timeout)
	default:
		return upstream.Unknown, "", fmt.Errorf("missing probe handler for %s:%s", format.Pod(q.pod), q.container.Name)
	}
}

// connect is upstream's probe of TCP, which ends when the agent does.
func connect(ctx context.Context, address string, timeout time.Duration) (upstream.Result, string, error) {
	dialer := upstream.ProbeDialer()
	dialer.Timeout = timeout
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return upstream.Failure, err.Error(), nil
	}
	conn.Close()
	return upstream.Success, "", nil
}

// command is one that runs in a container, as far as upstream's prober looks at it.
type command struct {
	exec.Cmd
	run func() (stdout, stderr []byte, err error)
	out io.Writer
}

func (c *command) SetStdout(w io.Writer) { c.out = w }
func (c *command) SetStderr(io.Writer)   {} // it is in the output
func (c *command) Wait() error           { return nil }

// Start runs it to its end. What is more than upstream's prober wants is not written, and a runtime may have let through a lot.
func (c *command) Start() error {
	stdout, stderr, err := c.run()
	_, _ = c.out.Write(stdout)
	_, _ = c.out.Write(stderr)
	return err
}
