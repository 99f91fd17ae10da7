package adapter

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/rowlock-io/rowlock/storage"
)

const tracerName = "github.com/rowlock-io/rowlock/schema/adapter"

// span begins a span for a call, where requests are traced and this one is sampled. The result ends it.
func (s *Store) span(ctx context.Context, name string, key storage.Key) (context.Context, func()) {
	if !s.Traced {
		return ctx, func() {}
	}
	above := trace.SpanFromContext(ctx)
	if !above.IsRecording() {
		return ctx, func() {}
	}
	ctx, span := above.TracerProvider().Tracer(tracerName).Start(ctx, name, trace.WithAttributes(
		attribute.String("resource", key.Resource), attribute.String("namespace", key.Namespace), attribute.String("name", key.Name)))
	return ctx, func() { span.End() }
}
