// Package uplink keeps a node's tunnel: one connection that the agent makes to the server, as the node, and over which the server
// reaches the node's own API, wherever the node is.
//
// When the connection ends it is made again, after a time that grows with failures and is never the same for many nodes. When the server is
// about to end, another connection is made first, by a balancer to another server, and the old one goes on for the streams that it has. So
// it does when the node's certificate was renewed: the server ends a tunnel with the certificate that it was made with.
package uplink

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/rest"

	"github.com/rowlock-io/rowlock/tunnel"
)

// Config says which node's tunnel it is, and where it leads.
type Config struct {
	Node string
	// API is how the node talks to the server.
	API *rest.Config
	// Dial connects to the node's own API.
	Dial func(ctx context.Context) (net.Conn, error)
	// DialPod connects to a pod of the node's, and refuses to connect to anything else: see tunnel.Node.
	DialPod func(ctx context.Context, at netip.AddrPort) (net.Conn, error)
	// Metrics has series of the tunnel; nil: nobody wants them.
	Metrics prometheus.Registerer
	// Look is how often the node's certificate is looked at; 0: each minute.
	Look time.Duration
	Log  *slog.Logger
}

// Uplink is one node's.
type Uplink struct {
	cfg     Config
	api     *rest.Config
	url     string
	metrics *metrics
}

// Bounds of the wait before another try. Servers that know no tunnels, such as kube-apiserver, are asked again now and then: they may
// be replaced.
const (
	firstWait   = 500 * time.Millisecond
	lastWait    = 30 * time.Second
	refusedWait = 5 * time.Minute
	goodTime    = time.Minute // of a connection after which waits begin anew
	dialTime    = 30 * time.Second
	lookEvery   = time.Minute
)

// New returns an uplink that Run makes.
func New(cfg Config) (*Uplink, error) {
	own := rest.CopyConfig(cfg.API)
	own.NextProtos = []string{"http/1.1"} // the connection is taken over
	own.Timeout = 0
	if cfg.Look == 0 {
		cfg.Look = lookEvery
	}
	server, _, err := rest.DefaultServerUrlFor(own)
	if err != nil {
		return nil, err
	}
	m, err := newMetrics(cfg.Metrics)
	if err != nil {
		return nil, err
	}
	u := &Uplink{cfg: cfg, api: own, url: server.JoinPath(tunnel.Path(cfg.Node)).String(), metrics: m}
	_, err = u.newWay()
	return u, err
}

// Run keeps the tunnel until ctx ends.
func (u *Uplink) Run(ctx context.Context) {
	var serving sync.WaitGroup
	defer serving.Wait()
	for wait := firstWait; ctx.Err() == nil; {
		began := time.Now()
		left, err := u.once(ctx, &serving)
		var refused *tunnel.StatusError
		limit := lastWait
		switch {
		case ctx.Err() != nil:
			return
		case left || err == nil && time.Since(began) > goodTime:
			wait = firstWait
		case errors.As(err, &refused) && (refused.Code == http.StatusNotFound || refused.Code == http.StatusForbidden):
			limit = refusedWait
			u.cfg.Log.Debug("The server takes no tunnel", "err", err)
		case err != nil:
			u.cfg.Log.Warn("The server was not reached for the node's tunnel", "err", err, "after", wait)
		}
		select {
		case <-time.After(jittered(wait)):
		case <-ctx.Done():
		}
		wait = min(2*wait, limit)
	}
}

// jittered is somewhere from half of a time to one and a half.
func jittered(d time.Duration) time.Duration {
	return d/2 + rand.N(d) //nolint:gosec // nobody has to be unable to guess it
}

// once makes the tunnel, and returns when it has ended or, with left, when it is to be made anew.
func (u *Uplink) once(ctx context.Context, serving *sync.WaitGroup) (left bool, err error) {
	w, err := u.newWay()
	if err != nil {
		return false, err
	}
	dialling, cancel := context.WithTimeout(ctx, dialTime)
	conn, err := tunnel.Dial(dialling, w.transport, u.url)
	cancel()
	w.close()
	u.metrics.dialled(err)
	if err != nil {
		return false, err
	}
	u.cfg.Log.Info("The node has a tunnel to the server")
	leave, ended := make(chan struct{}), make(chan struct{})
	node := tunnel.Node{Dial: u.cfg.Dial, DialPod: u.cfg.DialPod, Log: u.cfg.Log, Leave: sync.OnceFunc(func() { close(leave) })}
	u.metrics.open.Inc()
	serving.Go(func() {
		defer u.metrics.open.Dec()
		defer close(ended)
		node.Serve(ctx, conn)
	})
	look := time.NewTicker(u.cfg.Look)
	defer look.Stop()
	for {
		select {
		case <-leave:
			u.cfg.Log.Info("The server is about to end; the node makes another tunnel")
			return true, nil
		case <-ended:
			return false, nil
		case <-look.C:
			if w.renewed() {
				u.cfg.Log.Info("The node's certificate was renewed; the node makes another tunnel")
				return true, nil
			}
		}
	}
}
