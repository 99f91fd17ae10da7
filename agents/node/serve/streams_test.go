package serve_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	utilexec "k8s.io/client-go/util/exec"
	"k8s.io/streaming/pkg/httpstream"

	"github.com/rowlock-io/rowlock/agents/node/fakecri"
)

// executors are the ways in which clients run commands: upstream's two, and the WebSocket protocol before that.
func (n *node) executors(config *rest.Config, path string) map[string]remotecommand.Executor {
	n.t.Helper()
	at, err := url.Parse(n.url + path)
	if err != nil {
		n.t.Fatal(err)
	}
	spdy, err := remotecommand.NewSPDYExecutor(config, http.MethodPost, at)
	if err != nil {
		n.t.Fatal(err)
	}
	v5, err := remotecommand.NewWebSocketExecutor(config, http.MethodGet, at.String())
	if err != nil {
		n.t.Fatal(err)
	}
	v4, err := remotecommand.NewWebSocketExecutorForProtocols(config, http.MethodGet, at.String(), "v4.channel.k8s.io")
	if err != nil {
		n.t.Fatal(err)
	}
	return map[string]remotecommand.Executor{"SPDY": spdy, "WebSocket v5": v5, "WebSocket v4": v4}
}

func TestExec(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.runtime.Script("c", fakecri.Life{Exec: func(_ context.Context, p *fakecri.Process) (int32, error) {
		if _, err := fmt.Fprintf(p.Stderr, "ran %q", p.Cmd); err != nil {
			return 0, err
		}
		switch p.Cmd[0] {
		case "cat":
			_, err := io.Copy(p.Stdout, p.Stdin)
			return 0, err
		case "false":
			return 3, nil
		}
		_, err := fmt.Fprintf(p.Stdout, "terminal %v", p.TTY)
		return 0, err
	}})
	n.run(newPod("web"))
	large := strings.Repeat("0123456789abcdef", 1<<14)
	for way, e := range n.executors(n.as("admin"), "/exec/default/web/c?command=cat&command=-&input=1&output=1&error=1") {
		if way == "WebSocket v4" {
			continue // which cannot say that its input has ended
		}
		var stdout, stderr bytes.Buffer
		err := e.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdin: strings.NewReader(large), Stdout: &stdout, Stderr: &stderr})
		if err != nil || stdout.String() != large || stderr.String() != `ran ["cat" "-"]` {
			t.Errorf("%s: %v, %d bytes, %q", way, err, stdout.Len(), stderr.String())
		}
	}
	for way, e := range n.executors(n.as("admin"), "/exec/default/web/c?command=sh&tty=1&output=1&error=1") {
		var stdout bytes.Buffer
		err := e.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdout: &stdout, Tty: true})
		if err != nil || stdout.String() != "terminal true" {
			t.Errorf("%s: %v, %q", way, err, stdout.String())
		}
	}
	for way, e := range n.executors(n.as("admin"), "/exec/default/web/uid-of-web/c?command=false&output=1") {
		err := e.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdout: io.Discard})
		var exit utilexec.CodeExitError
		if !errors.As(err, &exit) || exit.Code != 3 {
			t.Errorf("%s: %v, want exit code 3", way, err)
		}
	}
	code, body := n.do(n.as("admin"), http.MethodPost, "/run/default/web/c?cmd=echo+hello")
	if code != http.StatusOK || body != `terminal falseran ["echo" "hello"]` {
		t.Errorf("run: %d %s", code, body)
	}
}

func TestStreamsThatAreRefused(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	id := n.run(newPod("web"))
	spec := newPod("idle")
	spec.Spec.Containers = append(spec.Spec.Containers, corev1.Container{Name: "later"})
	n.run(spec)
	for path, want := range map[string]struct {
		code int
		body string
	}{
		"/exec/default/web/c?command=sh":                     {http.StatusBadRequest, "you must specify at least 1 of stdin, stdout, stderr"},
		"/exec/default/db/c?command=sh&output=1":             {http.StatusNotFound, "pod does not exist"},
		"/exec/default/web/other/c?command=sh&output=1":      {http.StatusInternalServerError, `container not found ("c")`},
		"/exec/default/web/d?command=sh&output=1":            {http.StatusInternalServerError, `container not found ("d")`},
		"/exec/default/idle/later?command=sh&output=1":       {http.StatusInternalServerError, `container not found ("later")`},
		"/attach/default/db/c?output=1":                      {http.StatusNotFound, "pod does not exist"},
		"/portForward/default/db":                            {http.StatusNotFound, "pod does not exist"},
		"/portForward/default/web/other":                     {http.StatusNotFound, "pod not found"},
		"/exec/default/web/c?command=sh&output=1&no=upgrade": {http.StatusInternalServerError, "Upgrade request required"},
	} {
		if code, body := n.do(n.as("admin"), http.MethodPost, path); code != want.code || !strings.HasPrefix(body, want.body) {
			t.Errorf("%s: %d %q, want %d %q", path, code, body, want.code, want.body)
		}
	}
	n.runtime.Exit(id, 0, "")
	if code, body := n.do(n.as("admin"), http.MethodPost, "/exec/default/web/c?command=sh&output=1"); code != http.StatusInternalServerError || body != `container not found ("c")` {
		t.Errorf("of a container that has ended: %d %q", code, body)
	}
	for _, e := range n.executors(n.as("nobody"), "/exec/default/idle/c?command=sh&output=1") {
		if err := e.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdout: io.Discard}); err == nil {
			t.Error("nobody was let in")
		}
	}
}

func TestAttach(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.runtime.Script("c", fakecri.Life{Attach: func(_ context.Context, p *fakecri.Process) error {
		_, err := fmt.Fprintf(p.Stdout, "terminal %v", p.TTY)
		return err
	}})
	pod := newPod("web")
	pod.Spec.Containers[0].TTY = true
	n.run(pod)
	for way, e := range n.executors(n.as("admin"), "/attach/default/web/c?output=1&tty=1") {
		var stdout bytes.Buffer
		err := e.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdout: &stdout, Tty: true})
		if err != nil || stdout.String() != "terminal true" {
			t.Errorf("%s: %v, %q", way, err, stdout.String())
		}
	}
}

func TestPortForward(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	pod := newPod("web")
	n.run(pod)
	config := n.as("admin")
	at, err := url.Parse(n.url + "/portForward/default/web")
	if err != nil {
		t.Fatal(err)
	}
	transport, upgrader, err := spdy.RoundTripperFor(config)
	if err != nil {
		t.Fatal(err)
	}
	over, err := portforward.NewSPDYOverWebsocketDialerForStreaming(at, config)
	if err != nil {
		t.Fatal(err)
	}
	for way, dialer := range map[string]httpstream.Dialer{
		"SPDY": spdy.NewDialerForStreaming(upgrader, &http.Client{Transport: transport}, http.MethodPost, at), "WebSocket": over,
	} {
		conn, protocol, err := dialer.Dial("portforward.k8s.io")
		if err != nil {
			t.Errorf("%s: %v", way, err)
			continue
		}
		headers := http.Header{}
		headers.Set(corev1.PortHeader, "80")
		headers.Set(corev1.PortForwardRequestIDHeader, "0")
		headers.Set(corev1.StreamType, corev1.StreamTypeError)
		errs, err := conn.CreateStream(headers)
		if err != nil {
			t.Fatal(err)
		}
		_ = errs.Close() // nothing is written to it
		headers.Set(corev1.StreamType, corev1.StreamTypeData)
		data, err := conn.CreateStream(headers)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(data, "hello"); err != nil {
			t.Fatal(err)
		}
		_ = data.Close()
		got, err := io.ReadAll(data)
		wrong, _ := io.ReadAll(errs)
		if err != nil || string(got) != "hello" || len(wrong) > 0 {
			t.Errorf("%s over %s: %v, %q, %s", way, protocol, err, got, wrong)
		}
		_ = conn.Close()
	}
	pod.UID = types.UID("another") // the runtime has nothing of it
	if code, body := n.do(config, http.MethodPost, "/portForward/default/web"); code != http.StatusInternalServerError || body != `pod not found ("web_default")` {
		t.Errorf("of a pod that does not run: %d %q", code, body)
	}
}

// Streams end with the server, and it waits for them.
func TestStreamsEndWithTheServer(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	began, ended := make(chan struct{}), make(chan struct{})
	n.runtime.Script("c", fakecri.Life{Exec: func(ctx context.Context, p *fakecri.Process) (int32, error) {
		close(began)
		defer close(ended)
		_, err := io.Copy(io.Discard, p.Stdin)
		return 0, err
	}})
	n.run(newPod("web"))
	executor := n.executors(n.as("admin"), "/exec/default/web/c?command=cat&input=1&output=1")["SPDY"]
	stdin, w := io.Pipe()
	defer func() { _ = w.Close() }()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = executor.StreamWithContext(ctx, remotecommand.StreamOptions{Stdin: stdin, Stdout: io.Discard}) // whatever a client says whose server has gone
	}()
	<-began
	if err := n.stop(); err != nil {
		t.Error(err)
	}
	<-ended
	cancel()
	<-done
}
