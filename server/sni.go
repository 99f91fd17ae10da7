package server

import (
	"crypto/tls"
	"net/http"
	"strings"
	"sync"

	"github.com/rowlock-io/rowlock/server/pki"
	"github.com/rowlock-io/rowlock/server/tunnels"
)

// hosts answers for clusters at names of their own, <cluster>.<domain> and, to other servers, <cluster>.<tunnels.Domain>, with
// certificates of each cluster's authority.
type hosts struct {
	domain   string // empty: clusters have no names outside
	clusters *Clusters
	fallback *pki.Serving // for every other name

	mu      sync.Mutex
	serving map[string]servingOf
}

// servingOf is the certificate of a cluster with one identity. It holds nothing else of the cluster, which may be closed by
// now.
type servingOf struct {
	authority string // PEM
	*pki.Serving
}

// cluster names the cluster that a TLS server name stands for.
func (h *hosts) cluster(serverName string) (string, bool) {
	serverName = strings.ToLower(strings.TrimSuffix(serverName, "."))
	name, ok := strings.CutSuffix(serverName, "."+tunnels.Domain)
	if !ok && h.domain != "" {
		name, ok = strings.CutSuffix(serverName, "."+h.domain)
	}
	return name, ok && name != "" && !strings.Contains(name, ".")
}

// getCertificate is for tls.Config.
func (h *hosts) getCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	name, ok := h.cluster(hello.ServerName)
	if !ok {
		return h.fallback.GetCertificate(hello)
	}
	plane, release, err := h.clusters.Acquire(hello.Context(), name)
	if err != nil {
		return nil, err
	}
	defer release()
	h.mu.Lock()
	defer h.mu.Unlock()
	have, authority := h.serving[name], string(plane.Identity().ClusterCA.Bundle())
	if have.authority != authority {
		names := pki.Hosts(plane.ServiceIP(), "", name+"."+tunnels.Domain)
		if h.domain != "" {
			names = append(names, name+"."+h.domain)
		}
		serving, err := pki.NewServing(plane.Identity().ClusterCA, names)
		if err != nil {
			return nil, err
		}
		have = servingOf{authority, serving}
		h.serving[name] = have
	}
	return have.GetCertificate(hello)
}

// of names the cluster of a connection: what was asked for when its certificate was chosen, which a Host header cannot
// change.
func (h *hosts) of(req *http.Request) (string, bool) {
	if req.TLS == nil {
		return "", false
	}
	return h.cluster(req.TLS.ServerName)
}

// configForClient is for tls.Config. It returns nil when a certificate of a cluster is to be shown.
func (s *Server) configForClient(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	if _, ok := s.hosts.cluster(hello.ServerName); ok {
		return nil, nil
	}
	return s.certs.configForClient(hello)
}
