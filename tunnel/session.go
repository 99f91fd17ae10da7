package tunnel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/net/http2"
)

// Errors of Open after which another try, over this or another connection, would end the same way.
var (
	// ErrFull: the connection has as many streams as it may have.
	ErrFull = errors.New("the node has too many connections over its tunnel")
	// ErrNode: the agent is there and could not reach the node's API.
	ErrNode = errors.New("the node's agent could not connect to the node's API")
)

// Session is the server's end of a tunnel. It is safe for concurrent use.
type Session struct {
	client *http2.ClientConn
	conn   *noticed
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
func Accept(conn net.Conn) (*Session, error) {
	transport, err := http2.ConfigureTransports(&http.Transport{
		DisableCompression: true, HTTP2: &http.HTTP2Config{MaxReceiveBufferPerStream: streamWindow},
	})
	if err != nil {
		return nil, err
	}
	transport.ReadIdleTimeout, transport.PingTimeout = pingServer, pingTimeout
	s := &Session{conn: &noticed{Conn: conn, done: make(chan struct{})}}
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
func (s *Session) Streams() int {
	state := s.client.State()
	return state.StreamsActive + state.StreamsReserved + state.StreamsPending
}

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

// Open connects to the node's API. ctx bounds the opening only.
func (s *Session) Open(ctx context.Context) (net.Conn, error) {
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
	resp, err := s.send(lasting, streamPath, body)
	if !opened() && err == nil { // too late
		_ = resp.Body.Close()
		err = ctx.Err()
	}
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%w: %w", ErrNode, refusal(resp))
		_ = resp.Body.Close()
	}
	if err != nil {
		cancel()
		_ = toNode.CloseWithError(err)
		return nil, err
	}
	near, far := net.Pipe()
	go carry(far, toNode, resp.Body, cancel)
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
