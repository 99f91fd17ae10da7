// Package tunnels keeps the connections that nodes' agents make to a cluster's servers, and connects to nodes' APIs over them.
//
// A node that has a tunnel is reached over it and in no other way: its address is what it says of itself, the tunnel is what it has
// proven to be. Only the node itself may hold its tunnel; of several the last one counts, and those before it go on for the streams that
// they have. Which server has it is in the database, where there are several of them: one that does not have it asks the one that does,
// over a connection by which both know each other by the cluster's own authority. Nobody asks any further. A record that is not true
// (any more) is found out by whoever follows it, and is tried again for a while, since the agent is about to come back.
//
// Pods of such a node are reached over its tunnel as well, by the proxy subresources and for Services of webhooks and aggregated API
// servers, unless PodsDirectly says otherwise. The agent connects to addresses of its own pods and to nothing else.
//
// A cluster whose nodes have no tunnels pays for a map that is empty.
package tunnels

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apiserver/pkg/util/proxy"

	"github.com/rowlock-io/rowlock/schema/adapter"
	"github.com/rowlock-io/rowlock/server/pki"
	"github.com/rowlock-io/rowlock/storage"
	"github.com/rowlock-io/rowlock/tunnel"
)

// Config is what the tunnels of one cluster need.
type Config struct {
	Cluster string
	Backend adapter.Backend
	// Replicas: other servers have tunnels as well, and reach this one at Self, host and port.
	Replicas  bool
	Self      string
	Authority *pki.Authority
	// Shown is the certificate by which nodes know the server.
	Shown func(*tls.CertificateRequestInfo) (*tls.Certificate, error)
	// Direct connects to a node's address, where it has lost its tunnel.
	Direct func(ctx context.Context, network, address string) (net.Conn, error)
	// Pod reads a pod, and Slices a Service's endpoints, from what this server has in memory.
	Pod    func(ctx context.Context, namespace, name string) (*corev1.Pod, error)
	Slices proxy.EndpointSliceGetter
	// PodsDirectly: pods are connected to at their addresses, also those of nodes that have tunnels.
	PodsDirectly bool
	Metrics      *Metrics // nil: nothing is counted
	Log          *slog.Logger
}

// Tunnels are those of one cluster. It is safe for concurrent use.
type Tunnels struct {
	cfg   Config
	id    string // of this server
	peers *http.Transport
	shown *pki.Shown // to other servers

	mu      sync.Mutex
	held    map[string]*held   // the newest of each node
	all     map[*held]struct{} // with those that go on for their streams
	ways    map[string]*ways
	leaving bool
	closed  bool
	swept   time.Time      // when records were looked through
	aired   time.Time      // when ways were
	holding sync.WaitGroup // of serveNode
}

// held is a tunnel that this server has.
type held struct {
	node    string
	id      string
	session *tunnel.Session
	wake    chan struct{} // of its keeper, when it is not the newest any more

	before storage.Revision // of the record that was there when it came
	mu     sync.Mutex
	told   storage.Revision // of its own record; 0: there is none
	old    bool             // another one has come after it
}

func (h *held) retire() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.old {
		h.old = true
		close(h.wake)
	}
}

func (h *held) state() (told storage.Revision, old bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.told, h.old
}

// Bounds of the search for a tunnel that should be there.
const (
	openTime  = 10 * time.Second
	retryTime = 4 * time.Second
	retryWait = 50 * time.Millisecond
)

// New returns the tunnels of a cluster. There is nothing to run.
func New(cfg Config) *Tunnels {
	t := &Tunnels{cfg: cfg, id: rand.Text(), held: map[string]*held{}, all: map[*held]struct{}{}, ways: map[string]*ways{}}
	t.shown = pki.NewShown(cfg.Authority, pki.Client{User: serverUser, Groups: []string{serverGroup}})
	t.peers = t.newPeers()
	return t
}

var (
	errNone = errors.New("the node has no tunnel")
	// errLost: it had one, and nobody has it any more.
	errLost = errors.New("its tunnel")
)

// place is where a node's tunnel is. own is nil when another server has it; ok false: there is none.
func (t *Tunnels) place(node string) (own *held, other record, ok bool) {
	t.mu.Lock()
	own = t.held[node]
	t.mu.Unlock()
	if !t.cfg.Replicas {
		return own, record{}, own != nil
	}
	other, found := t.recorded(node)
	if own != nil {
		told, old := own.state()
		// A record that cannot be written does not make the tunnel worse.
		if !found || other.ID == own.id || !old && told == 0 && other.revision == own.before {
			return own, record{}, true
		}
	}
	return nil, other, found
}

// target is what a stream is to lead to. The zero value is the node's API.
type target struct {
	pod netip.AddrPort
}

func (to target) name() string {
	if to.pod.IsValid() {
		return "pod"
	}
	return "node"
}

func (to target) open(ctx context.Context, s *tunnel.Session) (net.Conn, error) {
	if to.pod.IsValid() {
		return s.OpenPod(ctx, to.pod)
	}
	return s.Open(ctx)
}

// dial connects to a node's API or to one of its pods: over its tunnel, or to its address if it has none.
func (t *Tunnels) dial(ctx context.Context, node, network, address string, to target) (net.Conn, error) {
	conn, err := t.seek(ctx, node, to)
	if errors.Is(err, errNone) {
		return t.cfg.Direct(ctx, network, address)
	}
	t.cfg.Metrics.dialled(to, err)
	if err != nil {
		return nil, fmt.Errorf("node %s: %w", node, err)
	}
	return t.cfg.Metrics.stream(conn, to), nil
}

// seek opens a stream over a node's tunnel, and looks for it for a while where it was.
func (t *Tunnels) seek(ctx context.Context, node string, to target) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, openTime)
	defer cancel()
	var failed error
	for began, wait := time.Now(), retryWait; ; wait = min(2*wait, 10*retryWait) {
		conn, err := t.try(ctx, node, to)
		switch {
		case err == nil:
			return conn, nil
		case errors.Is(err, errNone) && failed == nil:
			return nil, err
		case errors.Is(err, tunnel.ErrFull), errors.Is(err, tunnel.ErrNode), errors.Is(err, tunnel.ErrRefused):
			return nil, err
		case !errors.Is(err, errNone):
			failed = err
		}
		if time.Since(began) > retryTime || ctx.Err() != nil {
			t.distrust(node)
			return nil, fmt.Errorf("%w: %w", errLost, failed)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

// distrust removes the record of a tunnel that was not there for so long: its server may be gone for good, and the node's agent with it.
func (t *Tunnels) distrust(node string) {
	if own, other, ok := t.place(node); ok && own == nil {
		ctx, cancel := context.WithTimeout(context.Background(), recordTime)
		defer cancel()
		t.forget(ctx, node, other.revision)
	}
}

func (t *Tunnels) try(ctx context.Context, node string, to target) (net.Conn, error) {
	own, other, ok := t.place(node)
	switch {
	case !ok:
		return nil, errNone
	case own != nil:
		return to.open(ctx, own.session)
	case other.Server == t.id: // of a tunnel that has just ended, and whose record is about to
		return nil, errGone
	}
	conn, err := t.ask(ctx, other.At, node, to)
	if gone(err) {
		t.forget(ctx, node, other.revision)
	}
	return conn, err
}

// Leave has the agents make tunnels to other servers, if there are any: this one is about to end.
func (t *Tunnels) Leave() {
	if !t.cfg.Replicas {
		return
	}
	t.mu.Lock()
	t.leaving = true
	all := make([]*held, 0, len(t.held))
	for _, h := range t.held {
		all = append(all, h)
	}
	t.mu.Unlock()
	var asking sync.WaitGroup
	for _, h := range all {
		asking.Go(func() {
			if err := h.session.Leave(context.Background()); err != nil {
				t.cfg.Log.Debug("An agent was not asked to make another tunnel", "node", h.node, "err", err)
			}
		})
	}
	asking.Wait()
}

// Close ends all tunnels and waits until they are not recorded any more.
func (t *Tunnels) Close() {
	t.mu.Lock()
	t.leaving, t.closed = true, true
	for h := range t.all {
		h.session.Close()
	}
	var old []*ways
	for node := range t.ways {
		old = t.takeWaysLocked(old, node)
	}
	t.mu.Unlock()
	closeIdle(old)
	t.holding.Wait()
	t.peers.CloseIdleConnections()
}
