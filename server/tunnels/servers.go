package tunnels

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"k8s.io/apiserver/pkg/authentication/user"

	"github.com/rowlock-io/rowlock/tunnel"
)

// Domain is the DNS suffix by which servers of one database ask each other for a cluster: each answers at <cluster>.<Domain> with a
// certificate of that cluster's own authority, whatever certificate it shows to others. No resolver knows it.
const Domain = "servers.rowlock.internal"

// Who one server is to another. No other client may ask for streams, administrators neither: the name is what is looked at, and the
// group lets it through before that.
const (
	serverUser  = "rowlock:server"
	serverGroup = user.SystemPrivilegedGroup
)

const (
	serverDial      = 3 * time.Second // they are in one network
	serverHandshake = 5 * time.Second
)

// errGone: a server does not have the tunnel that it is recorded to have.
var errGone = errors.New("the tunnel is not where it was")

func gone(err error) bool {
	var status *tunnel.StatusError
	return errors.As(err, &status) && status.Code == http.StatusNotFound
}

// newPeers reaches other servers. It keeps no connections: each becomes a stream.
func (t *Tunnels) newPeers() *http.Transport {
	dialer := net.Dialer{Timeout: serverDial}
	return &http.Transport{
		DialContext: dialer.DialContext, DisableKeepAlives: true, TLSHandshakeTimeout: serverHandshake, ResponseHeaderTimeout: openTime,
		TLSClientConfig: &tls.Config{
			MinVersion: tls.VersionTLS12, RootCAs: t.cfg.Authority.Pool(), ServerName: t.cfg.Cluster + "." + Domain,
			GetClientCertificate: t.shown.Certificate, NextProtos: []string{"http/1.1"},
		},
	}
}

// ask has the server that has a node's tunnel open a stream.
func (t *Tunnels) ask(ctx context.Context, at, node string, to target) (net.Conn, error) {
	from := url.URL{Scheme: "https", Host: at, Path: tunnel.StreamPath(node)}
	if to.pod.IsValid() {
		from.RawQuery = tunnel.Pod(to.pod).Encode()
	}
	conn, err := tunnel.Dial(ctx, t.peers, from.String())
	var status *tunnel.StatusError
	if errors.As(err, &status) {
		switch status.Code {
		case http.StatusTooManyRequests:
			return nil, tunnel.ErrFull
		case http.StatusBadGateway:
			return nil, fmt.Errorf("%w: %s", tunnel.ErrNode, status.Message)
		case http.StatusMisdirectedRequest:
			return nil, tunnel.ErrRefused
		}
	}
	if err != nil {
		return nil, fmt.Errorf("server %s: %w", at, err)
	}
	return timed(conn), nil
}

// timed gives a connection deadlines.
func timed(conn net.Conn) net.Conn {
	near, far := net.Pipe()
	go tunnel.Join(far, conn)
	return near
}

// serveServer opens a stream for another server, over a tunnel that this one has, and asks nobody else for it.
func (t *Tunnels) serveServer(w http.ResponseWriter, req *http.Request, who user.Info, node string) {
	if who.GetName() != serverUser || !slices.Contains(who.GetGroups(), serverGroup) {
		http.Error(w, "streams may be asked for by servers of this cluster only", http.StatusForbidden)
		return
	}
	if !tunnel.Asked(w, req) {
		return
	}
	var to target
	if pod := req.URL.Query().Get(tunnel.PodQuery); pod != "" {
		var err error
		if to.pod, err = netip.ParseAddrPort(pod); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
	}
	t.mu.Lock()
	h := t.held[node]
	t.mu.Unlock()
	if h == nil {
		http.Error(w, fmt.Sprintf("node %q has no tunnel here", node), http.StatusNotFound)
		return
	}
	ctx, cancel := context.WithTimeout(req.Context(), openTime)
	stream, err := to.open(ctx, h.session)
	cancel()
	t.cfg.Metrics.relayed(to, err)
	switch {
	case errors.Is(err, tunnel.ErrFull):
		http.Error(w, err.Error(), http.StatusTooManyRequests)
		return
	case errors.Is(err, tunnel.ErrNode):
		http.Error(w, strings.TrimPrefix(err.Error(), tunnel.ErrNode.Error()+": "), http.StatusBadGateway)
		return
	case errors.Is(err, tunnel.ErrRefused):
		http.Error(w, err.Error(), http.StatusMisdirectedRequest)
		return
	case err != nil:
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	conn, err := tunnel.Upgrade(w, req)
	if err != nil {
		_ = stream.Close()
		return
	}
	tunnel.Join(conn, stream)
}
