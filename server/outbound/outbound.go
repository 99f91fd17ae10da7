// Package outbound connects a cluster to servers that its users name: webhooks, aggregated API servers, and what the proxy
// subresources of nodes, pods and services reach.
//
// A user's word decides where these connections go, so that by default they may not end where only the operator has
// business: at this machine itself, on its links (where clouds keep the credentials of machines), or at no single host at
// all. That is judged by the address a socket is about to be connected to, after every name was resolved: a name that
// resolves differently the second time, an ExternalName service, or an address hidden in another one gains nothing.
//
// Connections go straight to where they are meant to go: a proxy of the process's environment would resolve names by
// itself, out of sight. Redirects are never followed.
package outbound

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"syscall"
	"time"

	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/transport"
)

// Config says where connections may go.
type Config struct {
	// AllowLoopback lets them end at this machine's loopback addresses, for development.
	AllowLoopback bool
	// Tenant tells that the users are not the operator's own: they do not reach this machine by its other addresses either.
	Tenant bool
	// Denied are networks of the operator that Tenants do not reach; whole ones, of IPv4 or IPv6.
	Denied []netip.Prefix
}

// Dialer makes the connections. It is safe for concurrent use.
type Dialer struct {
	cfg    Config
	dialer net.Dialer
	holder *transport.DialHolder
	own    func() ([]net.Addr, error) // this machine's addresses, which may change

	answers budget // of webhooks
}

// As upstream's dialers have it.
const (
	dialTimeout = 30 * time.Second
	keepAlive   = 30 * time.Second

	handshakeTimeout = 10 * time.Second
	idlePerHost      = 25
	maxHeaderBytes   = 1 << 20
)

// ErrAddress is wrapped by errors of connections that were not tried because of their address.
var ErrAddress = errors.New("address not allowed")

// NewDialer returns a dialer.
func NewDialer(cfg Config) *Dialer {
	d := &Dialer{cfg: cfg, own: net.InterfaceAddrs, answers: budget{max: maxWebhookAnswers, free: smallAnswer}}
	d.dialer = net.Dialer{Timeout: dialTimeout, KeepAlive: keepAlive, ControlContext: d.control}
	d.holder = &transport.DialHolder{Dial: d.DialContext}
	return d
}

// DialContext connects to an address over TCP. Of a name's addresses those that are not allowed are passed over.
func (d *Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := d.dialer.DialContext(ctx, network, address)
	if err != nil && d.cfg.Tenant {
		err = withoutResolver(network, err)
	}
	return conn, err
}

// Holder is DialContext as client-go takes it, one and the same at each call.
func (d *Dialer) Holder() *transport.DialHolder { return d.holder }

// control sees each address right before the socket is connected to it.
func (d *Dialer) control(_ context.Context, network, address string, _ syscall.RawConn) error {
	switch network {
	case "tcp", "tcp4", "tcp6":
	default:
		return fmt.Errorf("%w: network %s", ErrAddress, network)
	}
	// A host that was left out, which would mean this machine, does not parse.
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: %q", ErrAddress, address)
	}
	if err := d.cfg.Check(at.Addr()); err != nil || !d.cfg.Tenant {
		return err
	}
	return d.notOwn(at.Addr())
}

// notOwn refuses addresses of this machine that Check knows nothing of: what listens there is the operator's.
func (d *Dialer) notOwn(addr netip.Addr) error {
	addr = addr.Unmap().WithZone("")
	if addr.IsLoopback() {
		return nil // Check has allowed it
	}
	all, err := d.own()
	if err != nil {
		return fmt.Errorf("%w: this machine's are not known: %w", ErrAddress, err)
	}
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok && n.IP.Equal(addr.AsSlice()) {
			return fmt.Errorf("%w: %s is the server's own address", ErrAddress, addr)
		}
	}
	return nil
}

// Transport returns an HTTP transport that dials with d, in HTTP/2 where the other side speaks it.
func (d *Dialer) Transport(cfg *tls.Config) *http.Transport {
	return utilnet.SetTransportDefaults(&http.Transport{
		Proxy: noProxy, DialContext: d.DialContext, TLSClientConfig: cfg,
		TLSHandshakeTimeout: handshakeTimeout, MaxIdleConnsPerHost: idlePerHost, MaxResponseHeaderBytes: maxHeaderBytes,
	})
}

// noProxy is for transports: see the package's comment.
func noProxy(*http.Request) (*url.URL, error) { return nil, nil }
