package controlplane

import (
	"context"
	"fmt"
	"net/http"

	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/component-base/metrics/legacyregistry"
	"k8s.io/streaming/pkg/httpstream"

	"github.com/rowlock-io/rowlock/schema/openapi"
	"github.com/rowlock-io/rowlock/server/aggregation"
	"github.com/rowlock-io/rowlock/server/discovery"
)

func newAggregator(c *ControlPlane, documents *discovery.Documents, described *openapi.Service) *aggregation.Aggregator {
	cfg := aggregation.Config{
		Client: c.clients.aggregator, Kube: c.clients.kube, Services: c.informers.Core().V1().Services().Lister(),
		Dialer: c.backends.dialer, Dial: c.dialService, Resolver: c.backends.services, Slices: c.backends.slices,
		FrontProxy: c.identity.FrontProxyCA, Discovery: documents, OpenAPI: described, Log: c.cfg.Log,
	}
	if c.cfg.Operator {
		cfg.Metrics = c.cfg.Metrics.aggregation
	}
	return aggregation.New(cfg)
}

// CountAggregation registers the series of aggregation in upstream's registry, which a process has once.
func (m *Metrics) CountAggregation() error {
	var err error
	if m.aggregation, err = aggregation.NewMetrics(legacyregistry.Register, legacyregistry.CustomRegister); err != nil {
		return fmt.Errorf("metrics of aggregation: %w", err)
	}
	return nil
}

// runAggregation works when the Services are known.
func (c *ControlPlane) runAggregation(ctx context.Context) error {
	c.informers.WaitForCacheSyncWithContext(ctx)
	return c.remotes.Run(ctx)
}

// proxied ends watches and upgraded connections to other servers when the server stops; their clients come again elsewhere.
func (s *webServices) proxied(h http.Handler, w http.ResponseWriter, req *http.Request) {
	info, ok := request.RequestInfoFrom(req.Context())
	if ok && info.Verb == "watch" || httpstream.IsUpgradeRequest(req) {
		ctx, cancel := context.WithCancel(req.Context())
		defer cancel()
		defer context.AfterFunc(s.serving, cancel)()
		req = req.WithContext(ctx)
	}
	h.ServeHTTP(w, req)
}

// unserved answers for a group that nobody serves, once it is known that nobody does.
func (s *webServices) unserved(w http.ResponseWriter, req *http.Request) {
	select {
	case <-s.aggregator.Synced():
	case <-req.Context().Done():
		http.Error(w, "the request has been made before all known HTTP paths have been installed, please retry", http.StatusServiceUnavailable)
		return
	case <-s.serving.Done():
		http.Error(w, "the server is stopping", http.StatusServiceUnavailable)
		return
	}
	group, rest := groupOf(req.URL.Path)
	if h := s.aggregator.Find(group, rest); h != nil {
		s.proxied(h, w, req)
		return
	}
	notFound(w, req)
}
