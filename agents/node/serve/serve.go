package serve

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// Bounds of what a client may cost. Streams and logs that are followed have none on their whole length.
const (
	headerTime   = 10 * time.Second // also of the TLS handshake
	idleTime     = 90 * time.Second
	bodyTime     = time.Minute   // nothing that is asked for has a body
	answerTime   = time.Minute   // of what is not followed
	stalledTime  = 4 * time.Hour // of a reader of logs that takes nothing: somebody's pager
	headerBytes  = 1 << 20       // commands are in the address
	drainTime    = 5 * time.Second
	http2Streams = 250
)

// Server is the node's API.
type Server struct {
	cfg     Config
	handler http.Handler

	requests sync.WaitGroup
	mu       sync.Mutex
	open     map[net.Conn]struct{}
	closed   bool
}

// New makes the server; Run starts it.
func New(cfg Config) (*Server, error) {
	s := &Server{cfg: cfg, open: map[net.Conn]struct{}{}}
	guard, err := newGuard(cfg)
	if err != nil {
		return nil, err
	}
	s.handler = s.counted(guard.protect(s.routes()))
	if cfg.Requests != nil {
		s.handler = cfg.Requests(s.handler)
	}
	return s, nil
}

// ServeHTTP serves one request, whichever way it came.
func (s *Server) ServeHTTP(w http.ResponseWriter, req *http.Request) { s.handler.ServeHTTP(w, req) }

// Run serves on a listener until ctx ends; then requests have some seconds, and streams end.
func (s *Server) Run(ctx context.Context, listener net.Listener) error {
	base, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	server := &http.Server{
		Handler:           s,
		TLSConfig:         &tls.Config{MinVersion: tls.VersionTLS12, ClientAuth: tls.RequestClientCert, GetCertificate: s.cfg.Certificate},
		ReadHeaderTimeout: headerTime, ReadTimeout: bodyTime, WriteTimeout: answerTime, IdleTimeout: idleTime, MaxHeaderBytes: headerBytes,
		HTTP2:       &http.HTTP2Config{MaxConcurrentStreams: http2Streams},
		BaseContext: func(net.Listener) context.Context { return base },
		ErrorLog:    slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug),
	}
	done := make(chan error, 1)
	go func() { done <- server.ServeTLS(tracked{listener, s}, "", "") }()
	select {
	case err := <-done:
		stop()
		s.closeAll()
		s.requests.Wait()
		return err
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(base, drainTime)
	defer cancel()
	go func() { // what is followed has no end of its own
		select {
		case <-time.After(drainTime / 5):
		case <-drain.Done():
		}
		stop()
	}()
	err := server.Shutdown(drain)
	stop()
	_ = server.Close()
	s.closeAll()
	if ended := <-done; err == nil && !errors.Is(ended, http.ErrServerClosed) {
		err = ended
	}
	s.requests.Wait()
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		err = nil // those that were cut off know
	}
	return err
}

// counted has Run wait for requests, also for those whose connections are streams now, of which net/http knows nothing any more.
func (s *Server) counted(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			http.Error(w, "the node's agent is stopping", http.StatusServiceUnavailable)
			return
		}
		s.requests.Add(1)
		s.mu.Unlock()
		defer s.requests.Done()
		next.ServeHTTP(w, req)
	})
}

func (s *Server) closeAll() {
	s.mu.Lock()
	s.closed = true
	open := s.open
	s.open = map[net.Conn]struct{}{}
	s.mu.Unlock()
	for c := range open {
		_ = c.Close()
	}
}

// tracked knows the connections that it accepted and that are open.
type tracked struct {
	net.Listener
	server *Server
}

func (t tracked) Accept() (net.Conn, error) {
	conn, err := t.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &trackedConn{Conn: conn, server: t.server}
	t.server.mu.Lock()
	defer t.server.mu.Unlock()
	t.server.open[c] = struct{}{}
	return c, nil
}

type trackedConn struct {
	net.Conn
	server *Server
}

func (c *trackedConn) Close() error {
	c.server.mu.Lock()
	delete(c.server.open, c)
	c.server.mu.Unlock()
	return c.Conn.Close()
}
