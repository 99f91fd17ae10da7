package resources

import (
	"net/http"

	"k8s.io/apiserver/pkg/endpoints"
	"k8s.io/apiserver/pkg/endpoints/deprecation"
	"k8s.io/apiserver/pkg/warning"

	"github.com/rowlock-io/rowlock/schema"
	"github.com/rowlock-io/rowlock/schema/catalogue"
)

// metric names an endpoint in upstream's request metrics.
type metric struct {
	group, version, resource, subresource string
	deprecated                            bool
	removed                               string // the release that drops the version; empty when none is set
	override                              func(verb string) string
}

// newMetric also returns the warnings that go with every answer of a deprecated version.
func newMetric(res *catalogue.Resource, src *catalogue.Endpoint) (metric, []string) {
	gvr := src.GroupVersionResource
	m := metric{group: gvr.Group, version: gvr.Version, resource: gvr.Resource, subresource: src.Subresource}
	if o, ok := src.Storage.(endpoints.StorageMetricsOverride); ok {
		m.override = o.OverrideMetricsVerb
	}
	obj, err := res.Group.Scheme.New(src.Kind)
	if err != nil {
		return m, nil // a kind with no Go type has no life cycle
	}
	obj.GetObjectKind().SetGroupVersionKind(src.Kind)
	if !deprecation.IsDeprecated(obj, schema.Major, schema.Minor) {
		return m, nil
	}
	m.deprecated, m.removed = true, deprecation.RemovedRelease(obj)
	return m, []string{deprecation.WarningMessage(obj)}
}

func (m metric) instrument(r route, warnings []string, handler http.HandlerFunc) http.HandlerFunc {
	verb := r.verb
	if m.override != nil {
		verb = m.override(verb)
	}
	if len(warnings) > 0 {
		inner := handler
		handler = func(w http.ResponseWriter, req *http.Request) {
			for _, msg := range warnings {
				warning.AddWarning(req.Context(), "", msg)
			}
			inner(w, req)
		}
	}
	return newCounts(m, verb, r.scope).handle(handler)
}
