package server

import (
	"errors"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// TestStalledWrite: a bound connection gives up a write that nobody reads, though it was idle for long before, and one that
// is not bound does not.
func TestStalledWrite(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const after = time.Minute
		server, client := net.Pipe()
		c := &stallableConn{Conn: server, after: after}
		done := make(chan error, 1)
		write := func() { _, err := c.Write([]byte("word")); done <- err }
		read := func() {
			if _, err := client.Read(make([]byte, 4)); err != nil {
				t.Error(err)
			}
		}

		go write()
		time.Sleep(10 * after) // not bound yet
		read()
		if err := <-done; err != nil {
			t.Fatalf("not bound: %v", err)
		}

		c.bound.Store(true)
		for range 3 {
			time.Sleep(10 * after) // idle
			go write()
			time.Sleep(after / 2)
			read()
			if err := <-done; err != nil {
				t.Fatalf("after a pause: %v", err)
			}
		}
		began := time.Now()
		go write()
		if err := <-done; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("nobody reads: %v", err)
		}
		if took := time.Since(began); took < after || took > 2*after {
			t.Errorf("given up after %s", took)
		}

		if err := c.SetWriteDeadline(time.Now().Add(time.Second)); err != nil { // as TLS for its last words
			t.Fatal(err)
		}
		began = time.Now()
		go write()
		if err := <-done; !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) > time.Second {
			t.Errorf("last words: %v after %s", err, time.Since(began))
		}
		_, _ = client.Close(), server.Close()
	})
}
