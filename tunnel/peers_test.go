package tunnel_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/rowlock-io/rowlock/tunnel"
)

// wire is what is between an agent and a server. Once it is cut, what is sent gets lost, and nobody is told.
type wire struct {
	cut     chan struct{}
	copying sync.WaitGroup
}

// newWire returns its two ends.
func newWire() (w *wire, agent, server net.Conn) {
	w = &wire{cut: make(chan struct{})}
	agent, a := net.Pipe()
	server, b := net.Pipe()
	carry := func(to, from net.Conn) {
		buf := make([]byte, 32<<10)
		for {
			n, err := from.Read(buf)
			select {
			case <-w.cut:
				if err != nil {
					_ = from.Close()
					return
				}
				continue
			default:
			}
			if err == nil {
				_, err = to.Write(buf[:n])
			}
			if err != nil {
				_ = to.Close()
				_ = from.Close()
				return
			}
		}
	}
	w.copying.Go(func() { carry(a, b) })
	w.copying.Go(func() { carry(b, a) })
	return w, agent, server
}

// inMemory is a node's API that serves connections within the process.
func inMemory(serve func(net.Conn)) func(context.Context) (net.Conn, error) {
	return func(context.Context) (net.Conn, error) {
		near, far := net.Pipe()
		go func() {
			defer far.Close()
			serve(far)
		}()
		return near, nil
	}
}

// alone tells whether this process runs nothing but this test. If not, one has been run that does: HTTP/2's servers share channels across
// the process, which those of a test with a clock of its own must not get into.
func alone(t *testing.T) bool {
	t.Helper()
	const running = "ROWLOCK_TUNNEL_TEST"
	if os.Getenv(running) == t.Name() {
		return true
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^"+t.Name()+"$", "-test.timeout=1m") //nolint:gosec // this test
	cmd.Env = append(os.Environ(), running+"="+t.Name())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	return false
}

// Each side finds out that the other is gone though the connection was never closed, and all streams end.
func TestPeerThatIsGone(t *testing.T) {
	t.Parallel()
	if !alone(t) {
		return
	}
	synctest.Test(t, func(t *testing.T) {
		w, agent, server := newWire()
		node := tunnel.Node{Dial: inMemory(echo), Leave: func() {}, Log: slog.New(slog.DiscardHandler)}
		var nodeEnded, sessionEnded time.Time
		var ending sync.WaitGroup
		ending.Go(func() {
			node.Serve(context.Background(), agent)
			nodeEnded = time.Now()
		})
		session, err := tunnel.Accept(server)
		if err != nil {
			t.Fatal(err)
		}
		conn, err := session.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute) // nobody gives up who only has nothing to say
		if _, err := io.WriteString(conn, "x"); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		close(w.cut)
		ending.Go(func() {
			<-session.Done()
			sessionEnded = time.Now()
		})
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			t.Error("a stream goes on to nowhere")
		}
		ending.Wait()
		if took := sessionEnded.Sub(began); took > 36*time.Second {
			t.Errorf("the server noticed after %s", took)
		}
		if took := nodeEnded.Sub(began); took > 61*time.Second {
			t.Errorf("the agent noticed after %s", took)
		}
		if _, err := session.Open(t.Context()); err == nil {
			t.Error("a stream over a tunnel that has ended")
		}
		w.copying.Wait()
	})
}

// agentBy is a session with an agent of the test's making. What it sends last is read by nobody unless it reads.
func agentBy(t *testing.T, agent func(*http2.Framer, net.Conn)) (session *tunnel.Session, wait func()) {
	t.Helper()
	near, far := net.Pipe()
	var acting sync.WaitGroup
	acting.Go(func() { _, _ = io.Copy(io.Discard, far) }) // what a socket takes at the beginning
	session, err := tunnel.AcceptFor(near, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	_ = far.SetReadDeadline(time.Now())
	acting.Wait()
	_ = far.SetReadDeadline(time.Time{})
	acting.Go(func() {
		defer far.Close()
		agent(http2.NewFramer(far, far), far)
	})
	return session, func() {
		session.Close()
		_ = far.Close()
		acting.Wait()
	}
}

// An agent that sends and sends, and takes nothing itself, is given up.
func TestAgentThatNeverReads(t *testing.T) {
	t.Parallel()
	session, wait := agentBy(t, func(f *http2.Framer, _ net.Conn) {
		_ = f.WriteSettings()
		for f.WriteWindowUpdate(0, 1) == nil { // which asks for no answer
			time.Sleep(time.Millisecond)
		}
	})
	defer wait()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := session.Open(ctx); err == nil {
		t.Error("a stream to nobody")
	}
	<-session.Done()
}

// What agents send that no agent of ours does ends their own tunnel at most, and never hangs who opens a stream.
func TestAgentThatTalksNonsense(t *testing.T) {
	t.Parallel()
	headers := func(fields ...string) []byte {
		var b writer
		enc := hpack.NewEncoder(&b)
		for i := 0; i < len(fields); i += 2 {
			_ = enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
		}
		return b
	}
	for name, tt := range map[string]struct {
		say  func(*http2.Framer, net.Conn)
		goes bool // on
	}{
		"noise":            {say: func(_ *http2.Framer, c net.Conn) { _, _ = c.Write(make([]byte, 1<<16)) }},
		"HTTP/1":           {say: func(_ *http2.Framer, c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n") }},
		"a client":         {say: func(_ *http2.Framer, c net.Conn) { _, _ = io.WriteString(c, http2.ClientPreface) }},
		"no settings":      {say: func(f *http2.Framer, _ net.Conn) { _ = f.WritePing(false, [8]byte{}) }},
		"an endless frame": {say: func(_ *http2.Framer, c net.Conn) { _, _ = c.Write([]byte{0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1}) }},
		"a wrong setting": {say: func(f *http2.Framer, _ net.Conn) {
			_ = f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 31})
		}},
		"a request to the server": {goes: true, say: func(f *http2.Framer, _ net.Conn) {
			_ = f.WriteSettings()
			_ = f.WriteHeaders(http2.HeadersFrameParam{
				StreamID: 2, EndHeaders: true, EndStream: true,
				BlockFragment: headers(":method", "GET", ":scheme", "https", ":authority", "x", ":path", "/api/v1/secrets"),
			})
		}},
		"a promise": {say: func(f *http2.Framer, _ net.Conn) {
			_ = f.WriteSettings()
			_ = f.WritePushPromise(http2.PushPromiseParam{StreamID: 1, PromiseID: 2, EndHeaders: true, BlockFragment: headers(":method", "GET")})
		}},
		"data of no stream": {say: func(f *http2.Framer, _ net.Conn) {
			_ = f.WriteSettings()
			_ = f.WriteData(99, false, make([]byte, 1000))
		}},
		"too large a window": {say: func(f *http2.Framer, _ net.Conn) {
			_ = f.WriteSettings()
			_ = f.WriteWindowUpdate(0, 1<<31-1)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			session, wait := agentBy(t, func(f *http2.Framer, c net.Conn) {
				var reading sync.WaitGroup
				reading.Go(func() { _, _ = io.Copy(io.Discard, c) })
				defer reading.Wait()
				tt.say(f, c)
			})
			defer wait()
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			if !tt.goes {
				select {
				case <-session.Done():
				case <-ctx.Done():
					t.Error("the tunnel goes on")
				}
			}
			if _, err := session.Open(ctx); err == nil {
				t.Error("a stream")
			}
			if n := session.Streams(); n != 0 {
				t.Errorf("%d streams", n)
			}
		})
	}
}

type writer []byte

func (w *writer) Write(p []byte) (int, error) {
	*w = append(*w, p...)
	return len(p), nil
}

// agentThat is an agent that answers as it likes.
func agentThat(t *testing.T, server *http2.Server, answer http.HandlerFunc) *tunnel.Session {
	t.Helper()
	near, far := net.Pipe()
	var serving sync.WaitGroup
	serving.Go(func() { server.ServeConn(far, &http2.ServeConnOpts{Handler: answer}) })
	session, err := tunnel.Accept(near)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		session.Close()
		serving.Wait()
	})
	return session
}

// An agent's answers have no endless headers.
func TestAgentWithEndlessHeaders(t *testing.T) {
	t.Parallel()
	session := agentThat(t, &http2.Server{}, func(w http.ResponseWriter, _ *http.Request) {
		for i := range 1000 {
			w.Header().Set(fmt.Sprint("Header-", i), strings.Repeat("x", 1000))
		}
	})
	if _, err := session.Open(t.Context()); err == nil || session.Streams() != 0 {
		t.Errorf("%v, %d streams", err, session.Streams())
	}
}

// How many streams there may be is not for the agent to say.
func TestAgentThatTakesTooMany(t *testing.T) {
	t.Parallel()
	session := agentThat(t, &http2.Server{MaxConcurrentStreams: 100_000}, func(w http.ResponseWriter, req *http.Request) {
		_ = http.NewResponseController(w).Flush()
		<-req.Context().Done()
	})
	for range 200 {
		open(t, session)
	}
	if _, err := session.Open(t.Context()); !errors.Is(err, tunnel.ErrFull) {
		t.Errorf("one more than there may be: %v", err)
	}
}

// halfClosed is inMemory, of connections that can be closed in one direction as TCP's can, of which the other end takes no notice.
func halfClosed(serve func(net.Conn)) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		conn, err := inMemory(serve)(ctx)
		return half{conn}, err
	}
}

type half struct{ net.Conn }

func (half) CloseWrite() error { return nil }

// Who has closed his end of a stream does not wait for one who goes on to send.
func TestOneEndIsClosed(t *testing.T) {
	t.Parallel()
	if !alone(t) {
		return
	}
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan struct{})
		agent, server := net.Pipe()
		node := tunnel.Node{Leave: func() {}, Log: slog.New(slog.DiscardHandler), Dial: halfClosed(func(c net.Conn) {
			defer close(ended)
			for {
				if _, err := c.Write(make([]byte, 1000)); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		})}
		var serving sync.WaitGroup
		serving.Go(func() { node.Serve(context.Background(), agent) })
		session, err := tunnel.Accept(server)
		if err != nil {
			t.Fatal(err)
		}
		conn, err := session.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
		began := time.Now()
		<-ended
		if took := time.Since(began); took > 15*time.Second {
			t.Errorf("the node's end was closed after %s", took)
		}
		synctest.Wait()
		if n := session.Streams(); n != 0 {
			t.Errorf("%d streams", n)
		}
		session.Close()
		serving.Wait()
	})
}
