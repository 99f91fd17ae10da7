package noderuntime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// inNetwork runs f in the network namespace of a process. Sockets that f makes stay there.
func inNetwork(pid int, f func() error) error {
	there, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return err
	}
	defer there.Close()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked unless it is as it was: the thread then ends with the goroutine
		here, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			done <- err
			return
		}
		defer here.Close()
		if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("enter the network of process %d: %w", pid, err)
			return
		}
		err = f()
		if back := unix.Setns(int(here.Fd()), unix.CLONE_NEWNET); back == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// listenIn listens in the network of a process.
func listenIn(t testing.TB, pid int, address string) net.Listener {
	t.Helper()
	var l net.Listener
	err := inNetwork(pid, func() (err error) {
		l, err = net.Listen("tcp", address)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// dialIn connects in the network of a process. The address is one of numbers: names would be looked up elsewhere.
func dialIn(ctx context.Context, pid int, address string) (net.Conn, error) {
	to, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return nil, err
	}
	var conn net.Conn
	err = inNetwork(pid, func() (err error) {
		// An address alone makes the dialer connect on this thread.
		conn, err = (&net.Dialer{FallbackDelay: -1}).DialContext(ctx, "tcp", to.String())
		return err
	})
	return conn, err
}

// forward passes connections on, until the test ends.
func forward(t testing.TB, l net.Listener, dial func(context.Context) (net.Conn, error)) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			from, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer from.Close()
				to, err := dial(ctx)
				if err != nil {
					return // as one that nobody listens for
				}
				defer to.Close()
				stop := context.AfterFunc(ctx, func() { _, _ = from.Close(), to.Close() })
				defer stop()
				var both sync.WaitGroup
				both.Go(func() { pipe(to, from) })
				both.Go(func() { pipe(from, to) })
				both.Wait()
			})
		}
	})
	t.Cleanup(func() {
		cancel()
		_ = l.Close()
		wg.Wait()
	})
}

// pipe copies what one side sends, and its end.
func pipe(to, from net.Conn) {
	_, err := io.Copy(to, from)
	if half, ok := to.(interface{ CloseWrite() error }); ok && err == nil {
		err = half.CloseWrite()
	}
	if err != nil && !errors.Is(err, net.ErrClosed) {
		_, _ = from.Close(), to.Close()
	}
}
