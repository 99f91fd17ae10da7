package aggregation

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	apiregistration "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/rowlock-io/rowlock/server/discovery"
)

// backend is the server behind one APIService. Its spec does not change: another spec is another backend.
type backend struct {
	a    *Aggregator
	name string
	uid  types.UID
	spec apiregistration.APIServiceSpec
	log  *slog.Logger

	available atomic.Bool // what the APIService's status says
	wake      chan struct{}
	cancel    context.CancelFunc

	mu       sync.Mutex
	shown    *tls.Certificate // that rt shows
	rt       *http.Transport
	describe discovery.Version // what the server said last

	openAPI             openAPI // of run alone, as are
	discovered, written int64   // weights of describe and openAPI
}

func newBackend(a *Aggregator, service *apiregistration.APIService) *backend {
	b := &backend{a: a, name: service.Name, uid: service.UID, spec: *service.Spec.DeepCopy(), log: a.cfg.Log, wake: make(chan struct{}, 1)}
	b.describe = b.nothing()
	return b
}

func (b *backend) groupVersion() schema.GroupVersion {
	return schema.GroupVersion{Group: b.spec.Group, Version: b.spec.Version}
}

func (b *backend) port() int32 {
	if b.spec.Service.Port == nil {
		return 443
	}
	return *b.spec.Service.Port
}

// itself tells whether the server behind would be this one, by the Service that stands for it. It has nothing more to say
// about the version than to ask the server behind.
func (b *backend) itself() bool {
	return b.spec.Service.Namespace == corev1.NamespaceDefault && b.spec.Service.Name == "kubernetes" && b.port() == 443
}

var errItself = errors.New("service/kubernetes in \"default\" is this server itself, which has no other server for this version")

func (b *backend) locate() (*url.URL, error) {
	if b.itself() {
		return nil, errItself
	}
	return b.a.cfg.Resolver.ResolveEndpoint(b.spec.Service.Namespace, b.spec.Service.Name, b.port())
}

// roundTripper is the way to the server. It is made anew with each new certificate, so that no connection outlives the one
// it was made with by more than its last request.
func (b *backend) roundTripper() (*http.Transport, error) {
	pair, err := b.a.certificate.current()
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.rt != nil && b.shown == pair {
		return b.rt, nil
	}
	cfg := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ServerName:         b.spec.Service.Name + "." + b.spec.Service.Namespace + ".svc",
		InsecureSkipVerify: b.spec.InsecureSkipTLSVerify, //nolint:gosec // the user's choice
		// Shown whichever authorities the server says it knows, as upstream does.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return pair, nil },
	}
	if len(b.spec.CABundle) > 0 {
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(b.spec.CABundle) {
			return nil, errors.New("unable to load root certificates: unable to parse bytes as PEM block")
		}
	}
	old := b.rt
	b.rt, b.shown = b.a.cfg.Dialer.Transport(cfg), pair
	if dial := b.a.cfg.Dial; dial != nil {
		b.rt.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			return dial(ctx, b.spec.Service.Namespace, b.spec.Service.Name, network, address)
		}
	}
	if old != nil {
		old.CloseIdleConnections()
	}
	return b.rt, nil
}

// close forgets idle connections.
func (b *backend) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.rt != nil {
		b.rt.CloseIdleConnections()
	}
}

// poke has the backend looked at again.
func (b *backend) poke() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}
