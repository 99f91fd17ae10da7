package tunnel_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rowlock-io/rowlock/tunnel"
)

// A stream leads to the pod that was named, and to nothing that the node does not know to be one.
func TestPod(t *testing.T) {
	t.Parallel()
	its := netip.MustParseAddrPort("[fd00::7]:8080")
	session, _ := pair(t, tunnel.Node{
		Dial: api(t, func(c net.Conn) { _, _ = io.WriteString(c, "the node's API") }),
		DialPod: func(ctx context.Context, at netip.AddrPort) (net.Conn, error) {
			switch at {
			case its:
				return inMemory(func(c net.Conn) { _, _ = io.WriteString(c, "the pod") })(ctx)
			case netip.AddrPortFrom(its.Addr(), 1):
				return nil, errors.New("connection refused")
			}
			return nil, fmt.Errorf("%w: %s", tunnel.ErrRefused, at)
		},
	})
	conn, err := session.OpenPod(t.Context(), its)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(conn); err != nil || string(got) != "the pod" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := session.OpenPod(t.Context(), netip.AddrPortFrom(its.Addr(), 1)); !errors.Is(err, tunnel.ErrNode) {
		t.Errorf("a pod where nobody listens: %v", err)
	}
	for _, at := range []netip.AddrPort{netip.MustParseAddrPort("169.254.169.254:80"), {}} {
		if _, err := session.OpenPod(t.Context(), at); !errors.Is(err, tunnel.ErrRefused) {
			t.Errorf("%s: %v", at, err)
		}
	}
	without, _ := pair(t, tunnel.Node{Dial: api(t, echo)})
	if _, err := without.OpenPod(t.Context(), its); !errors.Is(err, tunnel.ErrRefused) {
		t.Errorf("an agent that knows no pods: %v", err)
	}
}

// Who has connections to pods leaves some for the node's API.
func TestBoundOfPods(t *testing.T) {
	t.Parallel()
	session, _ := pair(t, tunnel.Node{
		Dial:    api(t, echo),
		DialPod: func(ctx context.Context, _ netip.AddrPort) (net.Conn, error) { return inMemory(echo)(ctx) },
	})
	var pods []net.Conn
	for len(pods) < 1000 {
		conn, err := session.OpenPod(t.Context(), netip.MustParseAddrPort("10.0.0.1:80"))
		if err != nil {
			if !errors.Is(err, tunnel.ErrFull) {
				t.Fatal(err)
			}
			break
		}
		pods = append(pods, conn)
	}
	if len(pods) != 150 {
		t.Errorf("%d connections to pods", len(pods))
	}
	for range 50 {
		open(t, session)
	}
	if _, err := session.Open(t.Context()); !errors.Is(err, tunnel.ErrFull) {
		t.Errorf("one more than there may be: %v", err)
	}
	waited := make(chan error, 1)
	go func() { // one that comes a moment too early
		conn, err := session.Open(t.Context())
		if err == nil {
			_ = conn.Close()
		}
		waited <- err
	}()
	time.Sleep(100 * time.Millisecond)
	for _, conn := range pods {
		_ = conn.Close()
	}
	if err := <-waited; err != nil {
		t.Errorf("when others end: %v", err)
	}
	for session.Streams() > 50 {
		time.Sleep(time.Millisecond)
	}
	if conn, err := session.OpenPod(t.Context(), netip.MustParseAddrPort("10.0.0.1:80")); err != nil {
		t.Errorf("after others have ended: %v", err)
	} else {
		_ = conn.Close()
	}
}

// Memory does not grow with what goes over a stream.
func TestGigabytes(t *testing.T) { //nolint:paralleltest // it looks at the memory of the process
	if testing.Short() {
		t.Skip("two gigabytes")
	}
	const size = 1 << 30
	var heard atomic.Int64
	session, _ := pair(t, tunnel.Node{Dial: api(t, func(c net.Conn) {
		n, _ := io.CopyN(io.Discard, c, size)
		heard.Store(n)
		_, _ = io.CopyN(c, zeroes{}, size)
	})})
	conn := open(t, session)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := io.CopyN(conn, zeroes{}, size); err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(io.Discard, conn)
	if err != nil || n != size || heard.Load() != size {
		t.Errorf("%d bytes there, %d back, %v", heard.Load(), n, err)
	}
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 128<<20 {
		t.Errorf("%d MB were allocated", used>>20)
	} else {
		t.Logf("%d MB were allocated, of which are in use %d", used>>20, int64(after.HeapInuse-before.HeapInuse)>>20)
	}
}

type zeroes struct{}

func (zeroes) Read(p []byte) (int, error) { return len(p), nil }
