package write

import (
	"net/http"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/endpoints/metrics"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/component-base/tracing"
	"k8s.io/klog/v2" //nolint:depguard // it is asked for its verbosity: upstream logs slow requests through it
)

const (
	slow         = 500 * time.Millisecond // requests that took longer are logged with their steps,
	slowLevel    = 2                      // at this verbosity
	maxUserAgent = 1024
)

// span records the steps of a request that is traced, or would be logged if it were slow; nil: of none.
type span struct{ of *tracing.Span }

// start returns the request with its span.
func (h *Handlers) start(req *http.Request, name string) (*http.Request, *span) {
	ctx := req.Context()
	if (!h.cfg.Traced || !trace.SpanFromContext(ctx).IsRecording()) && !klog.V(slowLevel).Enabled() {
		return req, nil
	}
	ctx, s := tracing.Start(ctx, name, facts(req)...)
	return req.WithContext(ctx), &span{s}
}

func (s *span) event(name string) {
	if s != nil {
		s.of.AddEvent(name)
	}
}

// sized is an event about some bytes, and about what went wrong with them.
func (s *span) sized(name string, size int, err error) {
	if s == nil {
		return
	}
	attributes := []attribute.KeyValue{attribute.Int("len", size)}
	if err != nil {
		attributes = append(attributes, attribute.String("err", err.Error()))
	}
	s.of.AddEvent(name, attributes...)
}

func (s *span) end() {
	if s != nil {
		s.of.End(slow)
	}
}

// facts are the attributes that upstream gives the span of a request.
func facts(req *http.Request) []attribute.KeyValue {
	ctx := req.Context()
	info, ok := request.RequestInfoFrom(ctx)
	if !ok {
		info = &request.RequestInfo{}
	}
	client := "unknown"
	if ip := utilnet.GetClientIP(req); ip != nil {
		client = ip.String()
	}
	agent := utilnet.GetHTTPClient(req)
	if len(agent) > maxUserAgent {
		agent = agent[:maxUserAgent] + "...TRUNCATED"
	}
	return []attribute.KeyValue{
		attribute.String("accept", req.Header.Get("Accept")),
		attribute.String("audit-id", audit.GetAuditIDTruncated(ctx)),
		attribute.String("client", client),
		attribute.String("api-group", info.APIGroup),
		attribute.String("api-version", info.APIVersion),
		attribute.String("name", info.Name),
		attribute.String("subresource", info.Subresource),
		attribute.String("namespace", info.Namespace),
		attribute.String("protocol", req.Proto),
		attribute.String("resource", info.Resource),
		attribute.String("scope", metrics.CleanScope(info)),
		attribute.String("url", req.URL.Path),
		attribute.String("user-agent", agent),
		attribute.String("verb", metrics.NormalizedVerb(req)),
	}
}
