package controlplane

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"sync/atomic"

	"k8s.io/client-go/informers"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	netutils "k8s.io/utils/net"

	"github.com/rowlock-io/rowlock/schema/adapter"
	"github.com/rowlock-io/rowlock/schema/catalogue"
	"github.com/rowlock-io/rowlock/schema/fieldmanager"
	"github.com/rowlock-io/rowlock/schema/object"
	"github.com/rowlock-io/rowlock/schema/openapi"
	"github.com/rowlock-io/rowlock/server/aggregation"
	"github.com/rowlock-io/rowlock/server/bootstrap"
	"github.com/rowlock-io/rowlock/server/discovery"
	"github.com/rowlock-io/rowlock/server/encryption"
	"github.com/rowlock-io/rowlock/server/fairness"
	"github.com/rowlock-io/rowlock/server/filters"
	"github.com/rowlock-io/rowlock/server/health"
	"github.com/rowlock-io/rowlock/server/inform"
	"github.com/rowlock-io/rowlock/server/nodemetrics"
	"github.com/rowlock-io/rowlock/server/pki"
	"github.com/rowlock-io/rowlock/server/read"
	"github.com/rowlock-io/rowlock/server/resources"
	"github.com/rowlock-io/rowlock/server/tracing"
	"github.com/rowlock-io/rowlock/server/tunnels"
	"github.com/rowlock-io/rowlock/storage/cache"
	"github.com/rowlock-io/rowlock/storage/commit"
)

// ControlPlane is one cluster's API.
type ControlPlane struct {
	cfg       Config
	identity  *pki.Identity
	keys      *encryption.Keys // of what is encrypted at rest
	serviceIP net.IP
	backend   adapter.Backend
	catalogue *catalogue.Catalogue
	owners    *fieldmanager.Factory
	customs
	clients   *clients
	informers informers.SharedInformerFactory
	resources inform.Resources
	backends  *backends
	remotes   *aggregation.Aggregator
	figures   *nodemetrics.Handler
	tunnels   *tunnels.Tunnels
	late      lateInformers
	access    *access
	bootstrap bootstrap.Config
	checks    *health.Checks
	fairness  *fairness.Fairness
	handler   http.Handler
	agents    http.Handler // of requests that Inside.As makes
	informed  atomic.Bool  // informers have synced
	// bootstrapped is closed when the objects that every cluster has are there.
	bootstrapped chan struct{}
	serving      context.Context // done when watches have to end
	endWatch     context.CancelFunc
	acting       context.Context // done when agents have to stop
	stopActing   context.CancelFunc
	stopped      chan struct{} // closed when Run ends: admission plug-ins watch it
}

// Open reads or makes the cluster's identity and builds its parts. Run makes them work.
func Open(ctx context.Context, cfg Config) (*ControlPlane, error) {
	cfg = cfg.withDefaults()
	countRequests()
	identity, err := pki.Load(ctx, cfg.Store, cfg.Keys)
	if err != nil {
		return nil, fmt.Errorf("cluster %s: identity: %w", cfg.Name, err)
	}
	serviceIP, err := firstAddress(cfg.ServiceRange)
	if err != nil {
		return nil, err
	}
	c := &ControlPlane{cfg: cfg, identity: identity, serviceIP: serviceIP, stopped: make(chan struct{}), bootstrapped: make(chan struct{})}
	c.serving, c.endWatch = context.WithCancel(context.Background())
	c.acting, c.stopActing = context.WithCancel(context.Background())
	c.openStorage()
	if err := c.openKeys(ctx); err != nil {
		return nil, err
	}
	if err := c.build(); err != nil {
		return nil, fmt.Errorf("cluster %s: %w", cfg.Name, err)
	}
	return c, nil
}

func (c *ControlPlane) openStorage() {
	m := c.cfg.Metrics
	ca := cache.New(cache.Config{Store: c.cfg.Store, RingBytes: c.cfg.RecentBytes, Budget: c.cfg.Objects, Trace: tracing.Question(c.cfg.Record.Tracer, "Ask the database for the present"), Log: c.cfg.Log, Metrics: m.cache})
	committer := commit.New(c.cfg.Store, commit.Config{Applied: ca.Apply, Trace: tracing.Transaction(c.cfg.Record.Tracer, "Commit to the database"), Log: c.cfg.Log, Metrics: m.commit})
	c.backend = adapter.Backend{Store: c.cfg.Store, Cache: ca, Committer: committer, Traced: c.cfg.Record.Tracer != nil}
	if !c.cfg.Replicas {
		c.backend.First = &adapter.First{}
	}
}

func (c *ControlPlane) build() error {
	var err error
	if c.clients, err = newClients(c.cfg.Record, c.backend.First); err != nil {
		return fmt.Errorf("clients: %w", err)
	}
	c.informers = c.resources.NewFactory(c.clients.kube, 0)
	c.backends = newBackends(c)
	if c.access, err = newAccess(c); err != nil {
		return err
	}
	c.hot = object.NewHot(c.cfg.DecodedBytes)
	if c.catalogue, err = c.newCatalogue(); err != nil {
		return err
	}
	if err := c.resources.Complete(c.backend, c.catalogue.Codecs()); err != nil {
		return err
	}
	chain, err := c.newAdmission()
	if err != nil {
		return err
	}
	c.owners, err = fieldmanager.New(fieldmanager.Config{Groups: c.catalogue.Groups(), Log: c.cfg.Log})
	if err != nil {
		return err
	}
	reader := read.New(read.Config{Serializer: legacyscheme.Codecs, Serving: c.serving, Observe: watchSizes, CompressedBytes: c.cfg.CompressedBytes, Log: c.cfg.Log})
	handler := resources.New(resources.Config{
		Catalogue: c.catalogue, Admission: chain, Authorizer: c.access.authorizer, FieldManagers: c.owners,
		Reader:              reader,
		Cache:               c.backend.Cache,
		Traced:              c.cfg.Record.Tracer != nil,
		Serializer:          legacyscheme.Codecs,
		MaxRequestBodyBytes: maxBodyBytes,
		MinRequestTimeout:   minRequestTimeout,
	}, newEquivalents())
	documents, err := discovery.New(c.catalogue, c.addresses(), legacyscheme.Codecs)
	if err != nil {
		return err
	}
	described, err := openapi.New(openapi.Config{Groups: c.catalogue.Groups(), Built: debug.FreeOSMemory, Logger: c.cfg.Log})
	if err != nil {
		return err
	}
	c.custom = c.newCustom(chain, reader, documents, described)
	c.remotes = newAggregator(c, documents, described)
	c.figures = newFigures(c, documents, described)
	c.checks = &health.Checks{Store: c.cfg.Store, Loaded: c.backend.Cache.Ready(), Synced: c.informed.Load, Defined: c.defined.Load, Routed: c.remotes.Synced(), Plugins: c.cfg.Encryption.Checks()}
	c.newFairness()
	routes := c.routes(handler, documents, described)
	chainConfig := filters.Config{
		Authenticator: c.access.Request, Authorizer: c.access.authorizer, Audiences: c.access.APIAudiences,
		FrontProxy: c.access.operatorProxy(), Serializer: legacyscheme.Codecs, Timeout: c.cfg.RequestTimeout, Log: c.cfg.Log,
	}
	chainConfig.Fair, chainConfig.Hints, chainConfig.Ending = c.fairness.Filter, c.cfg.Hints, ending{c.serving.Done()}
	chainConfig = c.cfg.Record.into(chainConfig, c.cfg.Name)
	c.clients.late.set(filters.Loopback(routes, chainConfig))
	c.backends.self.handler.set(filters.Loopback(c.behind(), chainConfig))
	c.handler = filters.New(routes, chainConfig)
	c.agents = filters.Agent(routes, chainConfig)
	c.newBootstrap()
	return nil
}

func (c *ControlPlane) newCatalogue() (*catalogue.Catalogue, error) {
	longest, extended := c.tokenLifetimes()
	own := pki.NewShown(c.identity.ClusterCA, pki.Client{User: kubeletUser})
	verified, unverified := newKubelets(c.backends, c.identity.ClusterCA, own)
	c.tunnels = newTunnels(c, own)
	return catalogue.New(catalogue.Config{
		Backend: c.backend, Transform: c.transformer, Hot: c.hot, Client: c.clients.kube, Informers: c.informers,
		Authenticator: c.access.Request, Authorizer: c.access.authorizer, Rules: c.access.authorizer, Audiences: c.access.APIAudiences,
		ServiceAccountIssuer: c.access.issuer.Tokens, TokenMaxExpiration: longest, ExtendTokens: !c.cfg.Access.ShortTokens, TokenExtension: extended,
		Versions: c.cfg.Versions, EventTTL: c.cfg.EventTTL, ServiceRange: c.cfg.ServiceRange, NodePortRange: c.cfg.NodePortRange,
		NodeTransport: c.backends.nodes, Kubelet: c.backends.kubelet(),
		KubeletTransport: verified, UnverifiedKubelets: unverified, Tunnelled: c.tunnels.Transports, TunnelledPods: c.tunnels.Pods,
	})
}

func (c *ControlPlane) newBootstrap() {
	service := bootstrap.ServiceConfig{IP: c.serviceIP, Advertise: c.cfg.Advertise, Port: c.cfg.Port}
	if c.cfg.Replicas {
		service.Leases = newReplicaLeases(c.backend)
	}
	c.bootstrap = bootstrap.Config{
		Client: c.clients.kube, Aggregator: c.clients.aggregator, Informers: c.informers, Catalogue: c.catalogue,
		RBAC: c.access.bootstrap, First: c.backend.First, ServiceRange: c.cfg.ServiceRange,
		Service: bootstrap.NewService(service, c.clients.kube, c.informers),
		Trust: bootstrap.Trust{
			ClientCA: c.identity.ClusterCA.Bundle(), RequestHeaderCA: c.identity.FrontProxyCA.Bundle(), ProxyName: pki.FrontProxy().User,
		},
		Joining: bootstrap.Joining{CA: c.identity.ClusterCA.Bundle(), Server: c.reachedAt()},
		Log:     c.cfg.Log,
	}
	c.bootstrap.Inform()
}

// reachedAt is where machines that join reach this server, as far as it knows.
func (c *ControlPlane) reachedAt() string {
	host := "127.0.0.1"
	if c.cfg.Advertise != nil {
		host = c.cfg.Advertise.String()
	}
	return "https://" + net.JoinHostPort(host, strconv.Itoa(c.cfg.Port)) + c.cfg.Path
}

// firstAddress is the cluster IP of the `kubernetes` Service.
func firstAddress(r net.IPNet) (net.IP, error) {
	ip, err := netutils.GetIndexedIP(&r, 1)
	if err != nil {
		return nil, fmt.Errorf("service range %s: %w", r.String(), err)
	}
	return ip, nil
}

// Identity is what the cluster's certificates and tokens are made from.
func (c *ControlPlane) Identity() *pki.Identity { return c.identity }

// Handler answers the cluster's API at the root of its paths.
func (c *ControlPlane) Handler() http.Handler { return c.handler }

// ServiceIP is the cluster IP of the `kubernetes` Service.
func (c *ControlPlane) ServiceIP() net.IP { return c.serviceIP }

// Bootstrapped is closed when the cluster has the objects that every cluster has.
func (c *ControlPlane) Bootstrapped() <-chan struct{} { return c.bootstrapped }

// Cool lets go of what is kept only so that it need not be made or read again.
func (c *ControlPlane) Cool() {
	c.hot.Cool()
	c.owners.Cool()
	c.custom.Cool()
	c.backend.Cache.Cool()
}

// Checks are the cluster's health checks.
func (c *ControlPlane) Checks() *health.Checks { return c.checks }
