package tunnels

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"time"

	utilnet "k8s.io/apimachinery/pkg/util/net"
)

// ways are transports to one node over one tunnel. They are the node's alone: transports know connections by address, and an address
// behind a router is many nodes'.
type ways struct {
	tunnel               string // its id
	verified, unverified *http.Transport
	pods, ports          *http.Transport // to pods, and to those and others that listen at the node's own address; nil: nobody has asked yet
}

// As those to nodes without tunnels have it.
const (
	handshakeTimeout = 10 * time.Second
	idlePerHost      = 25
	idleTimeout      = 90 * time.Second
	maxHeaderBytes   = 1 << 20
)

// Transports reach a node over its tunnel; the second demands no certificate. ok is false for a node that has none.
func (t *Tunnels) Transports(node string) (verified, unverified http.RoundTripper, ok bool) {
	t.to(node, func(w *ways) { verified, unverified, ok = w.verified, w.unverified, true })
	return verified, unverified, ok
}

// to has f look at the ways to a node, if it has a tunnel.
func (t *Tunnels) to(node string, f func(*ways)) {
	own, other, ok := t.place(node)
	id := other.ID
	if own != nil {
		id = own.id
	}
	var old []*ways
	defer func() { closeIdle(old) }()
	t.mu.Lock()
	defer t.mu.Unlock()
	w := t.ways[node]
	if w != nil && ok && w.tunnel == id {
		f(w)
		return
	}
	old = t.takeWaysLocked(old, node)
	if !ok || t.closed {
		return
	}
	if time.Since(t.aired) > sweepEvery { // of tunnels elsewhere nobody says when they end
		t.aired = time.Now()
		for name := range t.ways {
			if !t.exists(name) {
				old = t.takeWaysLocked(old, name)
			}
		}
	}
	w = &ways{tunnel: id, verified: t.way(node, t.is(node)), unverified: t.way(node, nil)}
	t.ways[node] = w
	f(w)
}

// takeWaysLocked lets go of what leads to a node; it is added to those that are to be closed.
func (t *Tunnels) takeWaysLocked(to []*ways, node string) []*ways {
	w := t.ways[node]
	if w == nil {
		return to
	}
	delete(t.ways, node)
	return append(to, w)
}

// closeIdle leaves answers that are under way alone. It may have to wait for a node to take its leave.
func closeIdle(all []*ways) {
	for _, w := range all {
		for _, rt := range []*http.Transport{w.verified, w.unverified, w.pods, w.ports} {
			if rt != nil {
				rt.CloseIdleConnections()
			}
		}
	}
}

func (t *Tunnels) way(node string, verify func(tls.ConnectionState) error) *http.Transport {
	return transport(
		func(ctx context.Context, network, address string) (net.Conn, error) {
			return t.dial(ctx, node, network, address, target{})
		},
		&tls.Config{ //nolint:gosec // who it is, is judged by verify: it was called by its name, not by its address
			MinVersion: tls.VersionTLS12, InsecureSkipVerify: true, VerifyConnection: verify, GetClientCertificate: t.cfg.Shown,
		})
}

func transport(dial func(ctx context.Context, network, address string) (net.Conn, error), cfg *tls.Config) *http.Transport {
	return utilnet.SetTransportDefaults(&http.Transport{
		Proxy: func(*http.Request) (*url.URL, error) { return nil, nil }, DialContext: dial, TLSClientConfig: cfg,
		TLSHandshakeTimeout: handshakeTimeout, MaxIdleConnsPerHost: idlePerHost, IdleConnTimeout: idleTimeout, MaxResponseHeaderBytes: maxHeaderBytes,
	})
}

// is demands a serving certificate of a node's, from the cluster's authority, by the name of the node: as the signer
// kubernetes.io/kubelet-serving has it.
func (t *Tunnels) is(node string) func(tls.ConnectionState) error {
	return func(state tls.ConnectionState) error {
		if len(state.PeerCertificates) == 0 {
			return errors.New("the node showed no certificate")
		}
		leaf, between := state.PeerCertificates[0], x509.NewCertPool()
		for _, c := range state.PeerCertificates[1:] {
			between.AddCert(c)
		}
		_, err := leaf.Verify(x509.VerifyOptions{
			Roots: t.cfg.Authority.Pool(), Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		})
		if err != nil {
			return &tls.CertificateVerificationError{UnverifiedCertificates: state.PeerCertificates, Err: err}
		}
		if name := leaf.Subject.CommonName; name != "system:node:"+node || !slices.Contains(leaf.Subject.Organization, "system:nodes") {
			return &tls.CertificateVerificationError{
				UnverifiedCertificates: state.PeerCertificates, Err: fmt.Errorf("the certificate is of %q, not of node %q", name, node),
			}
		}
		return nil
	}
}
