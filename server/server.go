// Package server hosts control planes behind one listener. The default cluster answers at the root; every cluster
// answers at /clusters/<name>/. A cluster is opened at its first request and closed when nobody has asked for it for a
// while.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"golang.org/x/net/http2"

	"github.com/rowlock-io/rowlock/server/pki"
)

// Config is what a server is made from.
type Config struct {
	Listener net.Listener // of TCP; the server closes it
	Serving  *pki.Serving // the certificate that clients see
	Clusters *Clusters
	Default  string // the cluster at the root
	// Domain is the DNS suffix below which each cluster has a host name of its own, <cluster>.<Domain>; empty: none has.
	Domain string
	TLS    TLS

	// HeaderTimeout bounds the wait for a handshake and for the header of a request; 0: 32 s.
	HeaderTimeout time.Duration
	// ShutdownDelay is how long a server that is told to stop goes on as before, but for /readyz, so that balancers notice.
	ShutdownDelay time.Duration
	// DrainTimeout bounds the wait for requests that are under way.
	DrainTimeout time.Duration
	Log          *slog.Logger
}

// Server serves the clusters.
type Server struct {
	cfg   Config
	hosts *hosts
	certs *certificates // of the operator; nil: none
	http  *http.Server
}

// Bounds of what a client may make the server wait for or remember before it is known.
const (
	readHeaderTimeout = 32 * time.Second
	idleTimeout       = 3 * time.Minute
	maxHeaderBytes    = 1 << 20
	stalledWrite      = time.Minute // of an HTTP/2 connection that takes no byte
	maxStreams        = 1000        // of one connection; clients with many watches open few connections
)

// New returns a server that Run starts.
func New(cfg Config) (*Server, error) {
	if cfg.HeaderTimeout == 0 {
		cfg.HeaderTimeout = readHeaderTimeout
	}
	s := &Server{cfg: cfg, hosts: &hosts{
		domain: strings.ToLower(strings.Trim(cfg.Domain, ".")), clusters: cfg.Clusters, fallback: cfg.Serving, serving: map[string]servingOf{},
	}}
	s.http = &http.Server{
		Handler:           http.HandlerFunc(s.route),
		ReadHeaderTimeout: cfg.HeaderTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ConnContext:       gather,
		TLSConfig:         cfg.TLS.base(),
		ErrorLog:          slog.NewLogLogger(newConnectionErrors(cfg.Log), slog.LevelDebug),
	}
	var err error
	if s.certs, err = cfg.TLS.open(cfg.Serving); err != nil {
		return nil, err
	}
	s.http.TLSConfig.GetCertificate = s.hosts.getCertificate
	if s.certs != nil {
		s.http.TLSConfig.GetConfigForClient = s.configForClient
	}
	err = http2.ConfigureServer(s.http, &http2.Server{MaxConcurrentStreams: maxStreams, IdleTimeout: idleTimeout})
	if err != nil {
		return nil, fmt.Errorf("configure HTTP/2: %w", err)
	}
	boundStalls(s.http)
	return s, nil
}

// Run serves until ctx ends, then stops in order: not ready, the delay, no new connections, watches end, requests drain,
// clusters close.
func (s *Server) Run(ctx context.Context) error {
	if s.certs != nil {
		following, stop := context.WithCancel(context.WithoutCancel(ctx)) // connections come until the listener is closed
		followed := make(chan struct{})
		go func() {
			defer close(followed)
			s.certs.run(following)
		}()
		defer func() {
			stop()
			<-followed
		}()
	}
	served := make(chan error, 1)
	go func() { served <- s.http.ServeTLS(stallable{gatherer{s.cfg.Listener}, stalledWrite}, "", "") }()
	select {
	case err := <-served:
		return errors.Join(fmt.Errorf("serve: %w", err), s.cfg.Clusters.Close())
	case <-ctx.Done():
	}
	s.cfg.Log.Info("Stopping", "delay", s.cfg.ShutdownDelay)
	s.cfg.Clusters.stopReady()
	if s.cfg.ShutdownDelay > 0 {
		time.Sleep(s.cfg.ShutdownDelay)
	}
	s.cfg.Clusters.endWatches()
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.DrainTimeout)
	defer cancel()
	err := s.http.Shutdown(drain)
	if errors.Is(err, context.DeadlineExceeded) {
		s.cfg.Log.Warn("Some requests did not end in time and were cut", "timeout", s.cfg.DrainTimeout)
		err = s.http.Close()
	}
	if ended := <-served; !errors.Is(ended, http.ErrServerClosed) {
		err = errors.Join(err, ended)
	}
	return errors.Join(err, s.cfg.Clusters.Close())
}
