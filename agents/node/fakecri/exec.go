package fakecri

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	criserver "k8s.io/cri-streaming/pkg/streaming"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"
)

// running is a container that runs, or the error that it does not.
func (r *Runtime) running(id string) (*container, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.containers[id]
	switch {
	case c == nil:
		return nil, notFound(id)
	case c.status.State != runtimeapi.ContainerState_CONTAINER_RUNNING:
		return nil, status.Errorf(codes.Unknown, "container is in %s state", c.status.State)
	}
	return c, nil
}

// exec starts a process in a container, which does not outlive it.
func (r *Runtime) exec(ctx context.Context, p *Process) (int32, error) {
	c, err := r.running(p.Container)
	if err != nil {
		return 0, err
	}
	if c.life.Exec == nil {
		return 0, nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-c.ended:
			cancel()
		case <-ctx.Done():
		}
	}()
	return c.life.Exec(ctx, p)
}

func (r *runtimeServer) ExecSync(ctx context.Context, req *runtimeapi.ExecSyncRequest) (*runtimeapi.ExecSyncResponse, error) {
	limited := ctx
	if req.Timeout > 0 {
		var cancel context.CancelFunc
		limited, cancel = context.WithTimeout(ctx, time.Duration(req.Timeout)*time.Second)
		defer cancel()
	}
	var stdout, stderr bytes.Buffer
	code, err := r.exec(limited, &Process{Container: req.ContainerId, Cmd: req.Cmd, Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr})
	switch {
	case ctx.Err() != nil:
		return nil, status.FromContextError(ctx.Err()).Err()
	case limited.Err() != nil && r.Profile.ExecTimeoutIsExit:
		return &runtimeapi.ExecSyncResponse{Stderr: []byte("command timed out"), ExitCode: -1}, nil
	case limited.Err() != nil:
		return nil, status.Errorf(codes.DeadlineExceeded, "failed to exec in container: timeout %ds exceeded: context deadline exceeded", req.Timeout)
	case err != nil:
		return nil, err
	}
	return &runtimeapi.ExecSyncResponse{Stdout: stdout.Bytes(), Stderr: stderr.Bytes(), ExitCode: code}, nil
}

// Forward sets what becomes of connections to ports of pods; without, what is sent comes back.
func (r *Runtime) Forward(f func(ctx context.Context, sandbox string, port int32, stream io.ReadWriteCloser) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forward = f
}

// streaming is the HTTP server for exec, attach and port-forward, which runtimes have beside the CRI.
type streaming struct {
	criserver.Server
	http *http.Server
	done chan struct{}
}

func (s *streaming) stop() {
	_ = s.http.Close()
	<-s.done
}

// streams is the server, started when it is first needed.
func (r *Runtime) streams() (*streaming, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.streaming != nil {
		return r.streaming, nil
	}
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	config := criserver.DefaultConfig
	config.BaseURL = &url.URL{Scheme: "http", Host: listener.Addr().String(), Path: "/"}
	server, err := criserver.NewServer(config, streamer{r})
	if err != nil {
		return nil, err
	}
	s := &streaming{Server: server, http: &http.Server{Handler: server, ReadHeaderTimeout: time.Minute}, done: make(chan struct{})}
	go func() {
		defer close(s.done)
		_ = s.http.Serve(listener) // it ends by Close
	}()
	r.streaming = s
	return s, nil
}

func (r *runtimeServer) Exec(_ context.Context, req *runtimeapi.ExecRequest) (*runtimeapi.ExecResponse, error) {
	if _, err := r.running(req.ContainerId); err != nil {
		return nil, err
	}
	s, err := r.streams()
	if err != nil {
		return nil, err
	}
	return s.GetExec(req)
}

func (r *runtimeServer) Attach(_ context.Context, req *runtimeapi.AttachRequest) (*runtimeapi.AttachResponse, error) {
	if _, err := r.running(req.ContainerId); err != nil {
		return nil, err
	}
	s, err := r.streams()
	if err != nil {
		return nil, err
	}
	return s.GetAttach(req)
}

func (r *runtimeServer) PortForward(_ context.Context, req *runtimeapi.PortForwardRequest) (*runtimeapi.PortForwardResponse, error) {
	r.mu.Lock()
	sandbox := r.sandboxes[req.PodSandboxId]
	r.mu.Unlock()
	if sandbox == nil {
		return nil, status.Errorf(codes.NotFound, "failed to find sandbox %q in store: not found", req.PodSandboxId)
	}
	s, err := r.streams()
	if err != nil {
		return nil, err
	}
	return s.GetPortForward(req)
}

// streamer does what the streams are for.
type streamer struct{ *Runtime }

func (s streamer) Exec(ctx context.Context, id string, cmd []string, in io.Reader, out, errs io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize) error {
	p, done := process(id, in, out, errs, tty, resize)
	defer done()
	p.Cmd = cmd
	code, err := s.exec(ctx, p)
	if err == nil && code != 0 {
		err = utilexec.CodeExitError{Err: fmt.Errorf("error executing command %v, exit code %d", cmd, code), Code: int(code)}
	}
	return err
}

func (s streamer) Attach(ctx context.Context, id string, in io.Reader, out, errs io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize) error {
	c, err := s.running(id)
	if err != nil {
		return err
	}
	p, done := process(id, in, out, errs, tty, resize)
	defer done()
	if c.life.Attach != nil {
		return c.life.Attach(ctx, p)
	}
	select {
	case <-c.ended:
	case <-ctx.Done():
	}
	return nil
}

func (s streamer) PortForward(ctx context.Context, sandbox string, port int32, stream io.ReadWriteCloser) error {
	s.mu.Lock()
	forward := s.forward
	s.mu.Unlock()
	if forward != nil {
		return forward(ctx, sandbox, port, stream)
	}
	_, err := io.Copy(stream, stream)
	return err
}

// process has streams that can be used whether or not they were asked for. done ends what passes on sizes.
func process(id string, in io.Reader, out, errs io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize) (p *Process, done func()) {
	p = &Process{Container: id, Stdin: strings.NewReader(""), Stdout: io.Discard, Stderr: io.Discard, TTY: tty}
	if in != nil {
		p.Stdin = in
	}
	if out != nil {
		p.Stdout = out
	}
	if errs != nil {
		p.Stderr = errs
	}
	sizes, stop := make(chan Size), make(chan struct{})
	p.Resize = sizes
	go func() {
		for {
			select {
			case size, ok := <-resize:
				if !ok {
					resize = nil
					continue
				}
				select {
				case sizes <- Size{size.Width, size.Height}:
				case <-stop:
					return
				}
			case <-stop:
				return
			}
		}
	}()
	return p, func() { close(stop) }
}
