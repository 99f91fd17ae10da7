package resources

import (
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"k8s.io/apiserver/pkg/endpoints/request"

	"github.com/rowlock-io/rowlock/server/read"
)

const tracerName = "github.com/rowlock-io/rowlock/server/resources"

// attempt is a try to answer from bytes.
type attempt func(*read.Handler, http.ResponseWriter, *http.Request, *request.RequestInfo, *read.Resource) bool

// traced gives attempts a span, beside those that upstream's handlers make. The span of a refused one says so.
func (h *Handler) traced(try attempt) attempt {
	if !h.cfg.Traced {
		return try
	}
	return func(reader *read.Handler, w http.ResponseWriter, req *http.Request, info *request.RequestInfo, res *read.Resource) bool {
		above := trace.SpanFromContext(req.Context())
		if !above.IsRecording() || info.Verb == "watch" {
			return try(reader, w, req, info, res)
		}
		ctx, span := above.TracerProvider().Tracer(tracerName).Start(req.Context(), "Answer "+info.Verb+" from bytes")
		defer span.End()
		done := try(reader, w, req.WithContext(ctx), info, res)
		span.SetAttributes(attribute.Bool("answered", done))
		return done
	}
}
