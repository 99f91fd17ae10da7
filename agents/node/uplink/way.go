package uplink

import (
	"bytes"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"time"

	"k8s.io/client-go/rest"
)

// way is how one connection to the server is made. client-go's own transports close their connections when a certificate was
// renewed, and with the tunnel all that goes over it would end.
type way struct {
	base        *http.Transport
	transport   http.RoundTripper
	certificate func(*tls.CertificateRequestInfo) (*tls.Certificate, error) // nil: the node has none

	mu    sync.Mutex
	shown *tls.Certificate
}

const handshakeTimeout = 10 * time.Second

// newWay reads what the server is known by anew, and what the node shows when it is asked.
func (u *Uplink) newWay() (*way, error) {
	cfg, err := rest.TLSConfigFor(u.api)
	if err != nil {
		return nil, err
	}
	w := &way{base: &http.Transport{
		Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{}).DialContext, TLSClientConfig: cfg, TLSHandshakeTimeout: handshakeTimeout,
	}}
	if u.api.Proxy != nil {
		w.base.Proxy = u.api.Proxy
	}
	if u.api.Dial != nil {
		w.base.DialContext = u.api.Dial
	}
	if cfg != nil && cfg.GetClientCertificate != nil {
		w.certificate = cfg.GetClientCertificate
		cfg.GetClientCertificate = w.show
	}
	w.transport, err = rest.HTTPWrappersForConfig(u.api, w.base)
	return w, err
}

func (w *way) show(info *tls.CertificateRequestInfo) (*tls.Certificate, error) {
	cert, err := w.certificate(info)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.shown = cert
	return cert, err
}

// renewed tells whether the node would show another certificate now.
func (w *way) renewed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.shown == nil || len(w.shown.Certificate) == 0 {
		return false
	}
	now, err := w.certificate(&tls.CertificateRequestInfo{})
	return err == nil && len(now.Certificate) > 0 && !bytes.Equal(now.Certificate[0], w.shown.Certificate[0])
}

// close lets go of what was not upgraded.
func (w *way) close() { w.base.CloseIdleConnections() }
