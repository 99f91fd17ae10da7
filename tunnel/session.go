package tunnel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/net/http2"
)

// Errors of Open after which another try, over this or another connection, would end the same way.
var (
	// ErrFull: the connection has as many streams as it may have.
	ErrFull = errors.New("the node has too many connections over its tunnel")
	// ErrNode: the agent is there and could not reach the node's API, or the pod.
	ErrNode = errors.New("the node's agent could not connect")
	// ErrRefused: the agent connects to pods of its own node only, and this is none.
	ErrRefused = errors.New("there is no pod of the node's at this address")
)

// Session is the server's end of a tunnel. It is safe for concurrent use.
type Session struct {
	client *http2.ClientConn
	conn   *noticed
	// streams has one for each, counted here: how many the agent says to take is the agent's word. pods has those of them to pods.
	streams, pods chan struct{}
}

// noticed is a connection of which others learn that it was closed: HTTP/2 does that when it ends, for whatever reason.
type noticed struct {
	net.Conn
	once sync.Once
	done chan struct{}
}

func (c *noticed) Close() error {
	c.once.Do(func() { close(c.done) })
	return c.Conn.Close()
}

// Accept begins a session over a connection that an agent made. It ends with the connection.
func Accept(conn net.Conn) (*Session, error) { return accept(conn, writeTimeout) }

func accept(conn net.Conn, write time.Duration) (*Session, error) {
	transport, err := http2.ConfigureTransports(&http.Transport{
		DisableCompression: true, HTTP2: &http.HTTP2Config{MaxReceiveBufferPerStream: streamWindow},
	})
	if err != nil {
		return nil, err
	}
	transport.ReadIdleTimeout, transport.PingTimeout, transport.WriteByteTimeout = pingServer, pingTimeout, write
	transport.MaxHeaderListSize = maxHeader
	s := &Session{
		conn:    &noticed{Conn: conn, done: make(chan struct{})},
		streams: make(chan struct{}, maxStreams), pods: make(chan struct{}, maxPodStreams),
	}
	if s.client, err = transport.NewClientConn(s.conn); err != nil {
		_ = s.conn.Close()
		return nil, err
	}
	return s, nil
}

// Done is closed when the session has ended.
func (s *Session) Done() <-chan struct{} { return s.conn.done }

// Close ends the session and all of its streams.
func (s *Session) Close() {
	_ = s.conn.Close()
	_ = s.client.Close()
}

// Streams is how many are open.
func (s *Session) Streams() int { return len(s.streams) }

// Leave asks the agent to have another tunnel made; this one remains for the streams that it has.
func (s *Session) Leave(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, leaveTime)
	defer cancel()
	if !s.client.ReserveNewRequest() {
		return ErrFull
	}
	resp, err := s.send(ctx, leavePath, http.NoBody)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

func (s *Session) send(ctx context.Context, path string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://node"+path, body)
	if err != nil {
		return nil, err
	}
	return s.client.RoundTrip(req)
}

// Open connects to the node's API. ctx bounds the opening only. Where there are as many streams as there may be, it waits a moment for
// one of them to end.
func (s *Session) Open(ctx context.Context) (net.Conn, error) {
	return s.open(ctx, streamPath, s.streams)
}

// OpenPod connects to a pod of the node's.
func (s *Session) OpenPod(ctx context.Context, at netip.AddrPort) (net.Conn, error) {
	return s.open(ctx, podPath+"?"+Pod(at).Encode(), s.pods, s.streams)
}

func (s *Session) open(ctx context.Context, path string, places ...chan struct{}) (net.Conn, error) {
	leave, err := s.enter(ctx, places)
	if err != nil {
		return nil, err
	}
	near, err := s.begin(ctx, path, leave)
	if err != nil {
		leave()
	}
	return near, err
}

// enter takes a place of each kind.
func (s *Session) enter(ctx context.Context, places []chan struct{}) (leave func(), err error) {
	var timeout <-chan time.Time
	taken := places[:0:0]
	leave = func() {
		for _, p := range taken {
			<-p
		}
	}
	for _, p := range places {
		select {
		case p <- struct{}{}:
			taken = append(taken, p)
			continue
		default:
		}
		if timeout == nil {
			timer := time.NewTimer(fullTime)
			defer timer.Stop()
			timeout = timer.C
		}
		select {
		case p <- struct{}{}:
			taken = append(taken, p)
		case <-timeout:
			err = ErrFull
		case <-s.Done():
			err = net.ErrClosed
		case <-ctx.Done():
			err = fmt.Errorf("%w: %w", ErrFull, ctx.Err())
		}
		if err != nil {
			leave()
			return nil, err
		}
	}
	return leave, nil
}

// begin begins a stream; ended is called when one that was begun has ended.
func (s *Session) begin(ctx context.Context, path string, ended func()) (net.Conn, error) {
	if !s.client.ReserveNewRequest() {
		select {
		case <-s.Done():
			return nil, net.ErrClosed
		default:
		}
		if state := s.client.State(); state.Closed || state.Closing {
			return nil, net.ErrClosed
		}
		return nil, ErrFull
	}
	body, toNode := io.Pipe()
	lasting, cancel := context.WithCancel(context.WithoutCancel(ctx))
	opened := context.AfterFunc(ctx, cancel)
	resp, err := s.send(lasting, path, body) //nolint:bodyclose // carry closes it
	if !opened() && err == nil {
		_ = resp.Body.Close() // too late
		err = ctx.Err()
	}
	switch {
	case err != nil:
	case resp.StatusCode == http.StatusMisdirectedRequest:
		err = ErrRefused
		_ = resp.Body.Close()
	case resp.StatusCode != http.StatusOK:
		err = fmt.Errorf("%w: %w", ErrNode, refusal(resp))
		_ = resp.Body.Close()
	}
	if err != nil {
		cancel()
		_ = toNode.CloseWithError(err)
		return nil, err
	}
	near, far := net.Pipe()
	go func() {
		defer ended()
		carry(far, toNode, resp.Body, cancel)
	}()
	return near, nil
}

// carry copies between a connection and a stream until both directions have ended. It ends with the session at the latest.
func carry(conn net.Conn, toNode *io.PipeWriter, fromNode io.ReadCloser, cancel context.CancelFunc) {
	defer cancel()
	up := make(chan struct{})
	go func() {
		defer close(up)
		_, err := io.CopyBuffer(toNode, plainReader{conn}, make([]byte, copyBuffer))
		_ = toNode.CloseWithError(err) // nil: the end, which the node hears of
		time.AfterFunc(lingerTime, cancel)
	}()
	_, err := io.CopyBuffer(plainWriter{conn}, plainReader{fromNode}, make([]byte, copyBuffer))
	if errors.Is(err, io.ErrClosedPipe) { // it was closed on this side: what was written before still gets there
		_, _ = io.Copy(io.Discard, fromNode)
	}
	_ = conn.Close()
	_ = toNode.CloseWithError(io.ErrClosedPipe)
	_ = fromNode.Close()
	<-up
}
