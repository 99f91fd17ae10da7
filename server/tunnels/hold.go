package tunnels

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"strings"
	"time"

	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/kubernetes/pkg/auth/nodeidentifier"

	"github.com/rowlock-io/rowlock/storage"
	"github.com/rowlock-io/rowlock/tunnel"
)

// How often a tunnel is looked at: whether its node and its record are still there, and whether it is to end.
const (
	keepEvery = 15 * time.Second
	endEvery  = time.Second // of one that has become old
)

// ServeHTTP answers below tunnel.Prefix.
func (t *Tunnels) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	kind, node, _ := strings.Cut(strings.TrimPrefix(req.URL.Path, tunnel.Prefix), "/")
	who, ok := request.UserFrom(req.Context())
	switch {
	case !ok:
		http.Error(w, "nobody is known to ask", http.StatusForbidden)
	case kind == "nodes" && node != "":
		t.serveNode(w, req, who, node)
	case kind == "streams" && node != "":
		t.serveServer(w, req, who, node)
	default:
		http.Error(w, "404 page not found", http.StatusNotFound)
	}
}

// serveNode holds a node's tunnel until it ends.
func (t *Tunnels) serveNode(w http.ResponseWriter, req *http.Request, who user.Info, node string) {
	if own, is := nodeidentifier.NewDefaultNodeIdentifier().NodeIdentity(who); !is || own != node {
		http.Error(w, fmt.Sprintf("the tunnel of node %q may be held by that node only", node), http.StatusForbidden)
		return
	}
	if !tunnel.Asked(w, req) {
		return
	}
	if !t.exists(node) {
		http.Error(w, fmt.Sprintf("node %q does not exist yet", node), http.StatusNotFound)
		return
	}
	t.mu.Lock()
	if t.leaving {
		t.mu.Unlock()
		w.Header().Set("Retry-After", "1")
		http.Error(w, "the server is stopping", http.StatusServiceUnavailable)
		return
	}
	t.holding.Add(1)
	t.mu.Unlock()
	defer t.holding.Done()
	var expires <-chan time.Time // with the certificate that it was authorized by
	if req.TLS != nil && len(req.TLS.PeerCertificates) > 0 {
		timer := time.NewTimer(time.Until(req.TLS.PeerCertificates[0].NotAfter))
		defer timer.Stop()
		expires = timer.C
	}
	conn, err := tunnel.Upgrade(w, req)
	if err != nil {
		t.cfg.Log.Debug("A tunnel was not made", "node", node, "err", err)
		return
	}
	conn, ended := t.cfg.Metrics.tunnel(conn)
	defer ended()
	session, err := tunnel.Accept(conn)
	if err != nil {
		t.cfg.Log.Debug("A tunnel was not made", "node", node, "err", err)
		return
	}
	defer session.Close()
	h := &held{node: node, id: rand.Text(), session: session, wake: make(chan struct{})}
	if !t.add(h) {
		return
	}
	defer t.remove(h)
	t.cfg.Log.Info("Node has a tunnel", "node", node)
	t.keep(h, expires)
	t.cfg.Log.Info("Node's tunnel ended", "node", node)
}

func (t *Tunnels) exists(node string) bool {
	e, _ := t.cfg.Backend.Cache.Get(storage.Key{Resource: "nodes", Name: node})
	return e != nil
}

// add makes a tunnel the one that counts.
func (t *Tunnels) add(h *held) bool {
	if before, ok := t.recorded(h.node); ok {
		h.before = before.revision
	}
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return false
	}
	if last := t.held[h.node]; last != nil {
		last.retire()
	}
	t.held[h.node], t.all[h] = h, struct{}{}
	old := t.takeWaysLocked(nil, h.node) // so that what was kept open for the next request does not keep the last tunnel
	t.mu.Unlock()
	t.record(h)
	closeIdle(old)
	return true
}

func (t *Tunnels) remove(h *held) {
	var old []*ways
	t.mu.Lock()
	delete(t.all, h)
	if t.held[h.node] == h {
		delete(t.held, h.node)
		old = t.takeWaysLocked(old, h.node)
	}
	t.mu.Unlock()
	closeIdle(old)
	t.erase(h)
}

// keep returns when a tunnel has ended or is to end.
func (t *Tunnels) keep(h *held, expires <-chan time.Time) {
	tick := time.NewTicker(keepEvery)
	defer tick.Stop()
	wake := h.wake
	for {
		select {
		case <-h.session.Done():
			return
		case <-expires:
			return
		case <-wake:
			wake = nil
			tick.Reset(endEvery)
		case <-tick.C:
		}
		if !t.exists(h.node) {
			return
		}
		_, old := h.state()
		switch {
		case old && h.session.Streams() == 0:
			return
		case !old:
			t.confirm(h)
		}
	}
}
