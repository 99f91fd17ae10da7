package controlplane

import (
	"crypto/tls"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"k8s.io/client-go/rest"

	"github.com/rowlock-io/rowlock/server/loopback"
	"github.com/rowlock-io/rowlock/server/pki"
)

// selfHost is the Service by which webhooks may be served by the cluster's own API: by an aggregated server behind it.
const selfHost = "kubernetes.default.svc"

// selfLifetime is longer than a process lives; the authority's end is before it.
const selfLifetime = 10 * 365 * 24 * time.Hour

// self answers calls of webhooks that are at the cluster's own API, which come as TLS, over connections within the process.
// It starts with the first of them.
type self struct {
	handler   lateHandler
	authority *pki.Authority

	mu       sync.Mutex
	closed   bool
	listener *loopback.Listener
	server   *http.Server
	done     chan struct{}
}

// behind is all of the API that such calls reach: the servers behind it. They come with the server's own rights, and whoever
// may register a webhook must not have these used on the cluster's own objects.
func (c *ControlPlane) behind() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		group, rest := groupOf(req.URL.Path)
		h := c.remotes.Find(group, rest)
		if h == nil || req.Method != http.MethodPost || !strings.HasPrefix(req.URL.Path, "/apis/") {
			http.Error(w, "a webhook behind the service kubernetes must be at an aggregated API server", http.StatusForbidden)
			return
		}
		h.ServeHTTP(w, req)
	})
}

// config is how webhooks' clients call it: as the server itself, as in kube-apiserver.
func (s *self) config() (*rest.Config, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener == nil {
		if s.closed {
			return nil, http.ErrServerClosed
		}
		pair, err := s.authority.IssueServing([]string{selfHost}, selfLifetime)
		if err != nil {
			return nil, err
		}
		s.listener, s.done = loopback.NewListener(), make(chan struct{})
		s.server = &http.Server{
			Handler: &s.handler, ReadHeaderTimeout: 10 * time.Second,
			TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair.TLS}},
		}
		go func() {
			defer close(s.done)
			_ = s.server.ServeTLS(s.listener, "", "") // ends when it is closed
		}()
	}
	return &rest.Config{
		Host: "https://" + selfHost, Dial: s.listener.DialContext, QPS: -1, UserAgent: userAgent,
		Proxy:           func(*http.Request) (*url.URL, error) { return nil, nil },
		TLSClientConfig: rest.TLSClientConfig{CAData: append([]byte(nil), s.authority.Bundle()...), ServerName: selfHost},
	}, nil
}

// close ends it when no request is under way any more.
func (s *self) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.server != nil {
		_ = s.server.Close()
		<-s.done
	}
}
