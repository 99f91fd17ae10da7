package server

import (
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/rowlock-io/rowlock/storage"
)

// clusterPrefix is the root of the paths of all clusters.
const clusterPrefix = "/clusters/"

// route finds the cluster that a request is for, and hands it the request with the cluster's part of the path cut off.
func (s *Server) route(w http.ResponseWriter, req *http.Request) {
	name, inner := s.cfg.Default, req
	own, alone := s.hosts.of(req)
	if alone {
		name = own // at its own host a cluster is the only one
	}
	if rest, ok := strings.CutPrefix(req.URL.Path, clusterPrefix); ok {
		said, _, _ := strings.Cut(rest, "/")
		switch {
		case !alone:
			name = said
			fallthrough
		case said == own: // clients that ask for the certificate of a cluster's own have its path all the same
			if inner = below(req, clusterPrefix+said); inner == nil {
				http.Error(w, "404 page not found", http.StatusNotFound)
				return
			}
		}
	}
	c, release, err := s.cfg.Clusters.Acquire(req.Context(), name)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		http.Error(w, "404 page not found", http.StatusNotFound)
		return
	case err != nil:
		s.cfg.Log.Warn("Cluster could not be opened", "cluster", name, "err", err)
		w.Header().Set("Retry-After", "1")
		http.Error(w, "the cluster is not available", http.StatusServiceUnavailable)
		return
	}
	defer release()
	c.Handler().ServeHTTP(w, inner)
}

// below cuts a prefix off a request's path; nil when the escaped path does not have it, which no client means.
func below(req *http.Request, prefix string) *http.Request {
	path, ok := strings.CutPrefix(req.URL.Path, prefix)
	if !ok {
		return nil
	}
	raw := req.URL.RawPath
	if raw != "" {
		if raw, ok = strings.CutPrefix(raw, prefix); !ok {
			return nil
		}
	}
	if path == "" {
		path = "/"
	}
	inner := *req
	inner.URL = &url.URL{}
	*inner.URL = *req.URL
	inner.URL.Path, inner.URL.RawPath = path, raw
	inner.RequestURI = inner.URL.RequestURI()
	return &inner
}
