package tunnel_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/rowlock-io/rowlock/tunnel"
)

// api is a node's own server: each connection is for the test to serve.
func api(t *testing.T, serve func(net.Conn)) func(context.Context) (net.Conn, error) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer conn.Close()
				serve(conn)
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		serving.Wait()
	})
	return func(ctx context.Context) (net.Conn, error) {
		var dialer net.Dialer
		return dialer.DialContext(ctx, "tcp", listener.Addr().String())
	}
}

// pair makes a tunnel to a node. between is the agent's connection.
func pair(t *testing.T, node tunnel.Node) (session *tunnel.Session, between net.Conn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	between, err = net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if node.Leave == nil {
		node.Leave = func() {}
	}
	node.Log = slog.New(slog.DiscardHandler)
	var serving sync.WaitGroup
	serving.Go(func() { node.Serve(context.Background(), between) })
	session, err = tunnel.Accept(conn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		session.Close()
		serving.Wait()
	})
	return session, between
}

func open(t *testing.T, s *tunnel.Session) net.Conn {
	t.Helper()
	conn, err := s.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func echo(c net.Conn) { _, _ = io.Copy(c, c) }

// What goes over a stream arrives on the other side, all of it and in order, both ways at once.
func TestStream(t *testing.T) {
	t.Parallel()
	session, _ := pair(t, tunnel.Node{Dial: api(t, echo)})
	var streams sync.WaitGroup
	for i := range 20 {
		conn := open(t, session)
		streams.Go(func() {
			sent := bytes.Repeat([]byte{byte(i), 1, 2, 3, 4, 5, 6}, 300_000) // beyond every window
			go func() { _, _ = conn.Write(sent) }()
			got := make([]byte, len(sent))
			if _, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, sent) {
				t.Errorf("stream %d: %v, equal: %v", i, err, bytes.Equal(got, sent))
			}
		})
	}
	streams.Wait()
}

// What was written before a side closed its end arrives.
func TestCloseLosesNothing(t *testing.T) {
	t.Parallel()
	for range 20 {
		heard := make(chan int64, 1)
		session, _ := pair(t, tunnel.Node{Dial: api(t, func(c net.Conn) {
			n, _ := io.Copy(io.Discard, c)
			heard <- n
		})})
		conn := open(t, session)
		if _, err := conn.Write(make([]byte, 100_000)); err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
		if n := <-heard; n != 100_000 {
			t.Fatalf("the node heard %d bytes of 100000", n)
		}
	}
	session, _ := pair(t, tunnel.Node{Dial: api(t, func(c net.Conn) { _, _ = c.Write(make([]byte, 3_000_000)) })})
	if got, err := io.ReadAll(open(t, session)); err != nil || len(got) != 3_000_000 {
		t.Errorf("the server heard %d bytes of 3000000, %v", len(got), err)
	}
}

// Streams that nobody reads on one side or the other hold up no other stream.
func TestSlowReaders(t *testing.T) {
	t.Parallel()
	session, _ := pair(t, tunnel.Node{Dial: api(t, func(c net.Conn) {
		role := make([]byte, 1)
		if _, err := io.ReadFull(c, role); err != nil {
			return
		}
		switch role[0] {
		case 'w': // says more than anybody reads
			for {
				if _, err := c.Write(make([]byte, 64<<10)); err != nil {
					return
				}
			}
		case 'n': // reads nothing
			<-t.Context().Done()
		default:
			echo(c)
		}
	})})
	for i := range 60 {
		conn := open(t, session)
		if _, err := io.WriteString(conn, "wn"[i%2:i%2+1]); err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = conn.Write(make([]byte, 8<<20)) }() // stuck soon
	}
	for range 3 {
		conn := open(t, session)
		if _, err := io.WriteString(conn, "ehello"); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 5)
		if _, err := io.ReadFull(conn, got); err != nil || string(got) != "hello" {
			t.Errorf("beside streams that nobody reads: %q, %v", got, err)
		}
	}
}

// A connection has so many streams and no more; one that has ended makes room.
func TestBound(t *testing.T) {
	t.Parallel()
	session, _ := pair(t, tunnel.Node{Dial: api(t, echo)})
	var all []net.Conn
	for len(all) < 1000 {
		conn, err := session.Open(t.Context())
		if err != nil {
			if !errors.Is(err, tunnel.ErrFull) {
				t.Fatal(err)
			}
			break
		}
		all = append(all, conn)
	}
	if len(all) != 200 || session.Streams() != 200 {
		t.Errorf("there are %d streams, and the session says %d", len(all), session.Streams())
	}
	for _, conn := range all {
		_ = conn.Close()
	}
	for session.Streams() > 0 {
		time.Sleep(time.Millisecond)
	}
	open(t, session)
}

// A node whose API does not answer is told apart from a tunnel that does not work.
func TestNodeWithoutAPI(t *testing.T) {
	t.Parallel()
	session, between := pair(t, tunnel.Node{Dial: func(context.Context) (net.Conn, error) { return nil, errors.New("nobody listens") }})
	if _, err := session.Open(t.Context()); !errors.Is(err, tunnel.ErrNode) {
		t.Errorf("open: %v", err)
	}
	_ = between.Close()
	<-session.Done()
	if _, err := session.Open(t.Context()); err == nil || errors.Is(err, tunnel.ErrNode) || errors.Is(err, tunnel.ErrFull) {
		t.Errorf("open over a tunnel that has ended: %v", err)
	}
}

// Streams end with the connection under them, on both sides.
func TestCut(t *testing.T) {
	t.Parallel()
	ended := make(chan struct{})
	session, between := pair(t, tunnel.Node{Dial: api(t, func(c net.Conn) {
		echo(c)
		close(ended)
	})})
	conn := open(t, session)
	if _, err := io.WriteString(conn, "x"); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	_ = between.Close()
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("a stream goes on without its connection")
	}
	<-ended
	<-session.Done()
}

// An open that is given up leaves no stream.
func TestOpenGivenUp(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{})
	session, _ := pair(t, tunnel.Node{Dial: func(ctx context.Context) (net.Conn, error) {
		close(asked)
		<-ctx.Done()
		return nil, ctx.Err()
	}})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-asked
		cancel()
	}()
	if _, err := session.Open(ctx); err == nil {
		t.Fatal("there is a connection to nobody")
	}
	for session.Streams() > 0 {
		time.Sleep(time.Millisecond)
	}
}

// A server that is about to end says so, and streams go on.
func TestLeave(t *testing.T) {
	t.Parallel()
	left := make(chan struct{}, 1)
	session, _ := pair(t, tunnel.Node{Dial: api(t, echo), Leave: func() { left <- struct{}{} }})
	conn := open(t, session)
	if err := session.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-left
	if _, err := io.WriteString(conn, "x"); err != nil {
		t.Error(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		t.Error(err)
	}
}

// Deadlines are those of a connection: what is late fails, and later tries do not.
func TestDeadline(t *testing.T) {
	t.Parallel()
	session, _ := pair(t, tunnel.Node{Dial: api(t, echo)})
	conn := open(t, session)
	_ = conn.SetReadDeadline(time.Unix(1, 0))
	var timeout net.Error
	if _, err := conn.Read(make([]byte, 1)); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("read after the deadline: %v", err)
	}
	_ = conn.SetReadDeadline(time.Time{})
	if _, err := io.WriteString(conn, "x"); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		t.Error(err)
	}
}
