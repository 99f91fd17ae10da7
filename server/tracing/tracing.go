// Package tracing tells an OpenTelemetry collector where the time of requests goes. Configuration, sampling and the spans of
// filters, handlers, admission and webhooks are upstream's; here are those of storage.
//
// Promises:
//
//   - Without a configuration nothing is asked or allocated for a request: every hook is nil.
//   - A request that is not sampled has no spans here.
package tracing

import (
	"context"
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/options"
	"k8s.io/component-base/tracing"
)

// ClusterAttribute names the cluster in the span of a request.
const ClusterAttribute = "rowlock.io/cluster"

const tracerName = "github.com/rowlock-io/rowlock/server/tracing"

// Provider makes spans and sends them. Shutdown sends those that wait.
type Provider = tracing.TracerProvider

// Open returns nil when nothing is to be traced. instance tells replicas apart.
func Open(o *options.TracingOptions, instance string) (Provider, error) {
	var applied server.Config
	applied.APIServerID = instance
	if err := o.ApplyTo(nil, &applied); err != nil {
		return nil, err
	}
	return applied.TracerProvider, nil
}

// Question returns what is told of each question that storage asks the database for a request, and returns what is told of
// its end; nil when there is no provider.
func Question(p Provider, name string) func(context.Context) func(error) {
	if p == nil {
		return nil
	}
	return func(ctx context.Context) func(error) { return begin(ctx, name) }
}

// Transaction is Question for transactions of so many ops, of which the request's is one.
func Transaction(p Provider, name string) func(context.Context, int) func(error) {
	if p == nil {
		return nil
	}
	return func(ctx context.Context, ops int) func(error) { return begin(ctx, name, attribute.Int("ops", ops)) }
}

// begin begins a span below that of the request; nil when the request is not traced.
func begin(ctx context.Context, name string, attributes ...attribute.KeyValue) func(error) {
	above := trace.SpanFromContext(ctx)
	if !above.IsRecording() {
		return nil
	}
	_, span := above.TracerProvider().Tracer(tracerName).Start(ctx, name, trace.WithAttributes(attributes...))
	return func(err error) {
		if err != nil {
			span.RecordError(err)
			span.SetStatus(codes.Error, "")
		}
		span.End()
	}
}

// OfCluster says in the span of each request which cluster it is for.
func OfCluster(handler http.Handler, name string) http.Handler {
	cluster := attribute.String(ClusterAttribute, name)
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		trace.SpanFromContext(req.Context()).SetAttributes(cluster)
		handler.ServeHTTP(w, req)
	})
}
