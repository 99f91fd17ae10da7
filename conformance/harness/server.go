package harness

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"syscall"
	"testing"
	"time"
)

// readyTimeout bounds how long a server may take until /readyz is ok. It is meant for a busy machine: how fast a start
// is, is for the benchmarks to say.
const readyTimeout = 2 * time.Minute

// Server is one API server process on data that outlive it. It keeps its address and its kubeconfig through restarts.
type Server struct {
	URL        string // https://127.0.0.1:PORT
	Kubeconfig string // the file; its user may do anything
	Log        string // the file with what the server printed

	port    int
	command func() *exec.Cmd
	proc    *Process
}

// newServer describes a server that is not started yet. At the end of the test it is stopped, and its log shown if the
// test failed.
func newServer(t testing.TB, port int, kubeconfig, log string, command func() *exec.Cmd) *Server {
	s := &Server{
		URL:        fmt.Sprintf("https://127.0.0.1:%d", port),
		Kubeconfig: kubeconfig,
		Log:        log,
		port:       port,
		command:    command,
	}
	t.Cleanup(func() {
		if t.Failed() { // before the stop, which may print a lot
			t.Logf("the last lines of %s:\n%s", s.Log, tail(s.Log, 40))
		}
		if s.proc != nil {
			s.Stop(t)
		}
	})
	return s
}

// Addr is the server's host and port.
func (s *Server) Addr() string { return fmt.Sprintf("127.0.0.1:%d", s.port) }

// Signal sends the server's process a signal, and does not wait for what comes of it.
func (s *Server) Signal(t testing.TB, sig os.Signal) {
	t.Helper()
	if err := s.proc.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

// PID is the process of a server that was started.
func (s *Server) PID() int { return s.proc.cmd.Process.Pid }

// Running tells whether the server was started and not stopped.
func (s *Server) Running() bool { return s.proc != nil }

// Launch starts the server and does not wait for it.
func (s *Server) Launch(t testing.TB) {
	t.Helper()
	proc, err := Launch(s.command(), s.Log)
	if err != nil {
		t.Fatal(err)
	}
	s.proc = proc
}

// Start starts the server and waits until it is ready.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	s.Launch(t)
	s.AwaitReady(t)
}

// AwaitReady waits until /readyz answers 200, and fails the test when the server ends before.
func (s *Server) AwaitReady(t testing.TB) {
	t.Helper()
	s.AwaitReadyWithin(t, readyTimeout)
}

// AwaitReadyWithin is AwaitReady for a server that has much to read first.
func (s *Server) AwaitReadyWithin(t testing.TB, limit time.Duration) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for !s.ready() {
		if s.proc.Ended() {
			t.Fatalf("the server ended before it was ready: %v\n%s", s.proc.err, tail(s.Log, 40))
		}
		if time.Now().After(deadline) {
			t.Fatalf("the server was not ready after %v\n%s", limit, tail(s.Log, 40))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (s *Server) ready() bool {
	client := http.Client{
		Timeout: 5 * time.Second,
		Transport: &http.Transport{
			// The kubeconfig with the CA may not be written yet, and no secret is sent.
			TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
			DisableKeepAlives: true,
		},
	}
	resp, err := client.Get(s.URL + "/readyz")
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return false
	}
	_, err = os.Stat(s.Kubeconfig)
	return err == nil
}

// Stop asks the server to end, and fails the test unless it does so soon and with status 0.
func (s *Server) Stop(t testing.TB) {
	t.Helper()
	if err := s.proc.Stop(syscall.SIGTERM); err != nil {
		t.Errorf("the server ended badly on SIGTERM: %v\n%s", err, tail(s.Log, 200))
	}
	s.proc = nil
}

// Kill ends the server at once, wherever it is.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	if s.proc.Ended() {
		t.Fatalf("the server had ended before it was killed: %v\n%s", s.proc.err, tail(s.Log, 40))
	}
	_ = s.proc.Stop(syscall.SIGKILL) // "signal: killed", as asked for
	s.proc = nil
}

// Refuses starts the server and expects it to say why it cannot serve: its log comes to match why. It may then end with
// a status other than 0 or stay, but it may not become ready.
func (s *Server) Refuses(t testing.TB, why string) {
	t.Helper()
	expected := regexp.MustCompile(why)
	s.Launch(t)
	deadline := time.Now().Add(readyTimeout)
	for {
		ended := s.proc.Ended() // before the log is read, so that the last words are in it
		log, err := os.ReadFile(s.Log)
		if err != nil {
			t.Fatal(err)
		}
		if s.ready() {
			t.Fatalf("the server is ready; expected it to refuse with %q", why)
		}
		if expected.Match(log) {
			break
		}
		if ended || time.Now().After(deadline) {
			t.Fatalf("no line of the log matches %q:\n%s", why, tail(s.Log, 40))
		}
		time.Sleep(20 * time.Millisecond)
	}
	select {
	case <-s.proc.done:
		if s.proc.err == nil {
			t.Errorf("the server refused to serve, and ended with status 0")
		}
	case <-time.After(2 * time.Second):
		if s.ready() {
			t.Errorf("the server said %q, and is ready", why)
		}
		s.Stop(t)
	}
	s.proc = nil
}
