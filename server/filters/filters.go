// Package filters is what a request passes between the socket and its handler, in one list.
package filters

import (
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/authenticatorfactory"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	upstream "k8s.io/apiserver/pkg/endpoints/filters"
	"k8s.io/apiserver/pkg/endpoints/filters/impersonation"
	"k8s.io/apiserver/pkg/endpoints/handlers/responsewriters"
	"k8s.io/apiserver/pkg/endpoints/request"
	genericfilters "k8s.io/apiserver/pkg/server/filters"

	"github.com/rowlock-io/rowlock/server/internal/stack"
	"github.com/rowlock-io/rowlock/server/tracing"
	"github.com/rowlock-io/rowlock/tunnel"
)

// Config is what the filters of one cluster need.
type Config struct {
	Authenticator authenticator.Request
	Authorizer    authorizer.Authorizer
	Audiences     authenticator.Audiences
	FrontProxy    *authenticatorfactory.RequestHeaderConfig // its headers are taken off requests, beside the usual ones
	Serializer    runtime.NegotiatedSerializer              // of errors
	Timeout       time.Duration                             // of requests that are not long-running
	Log           *slog.Logger

	Ending request.ServerShutdownSignal // tells upstream's watches when to end; nil: never

	Hints Hints // to browsers and HTTP/2 clients

	Fair func(http.Handler) http.Handler // makes requests wait for a seat; nil: none waits

	AuditSink   audit.Sink // nil: requests are not recorded
	AuditPolicy audit.PolicyRuleEvaluator

	Tracer  tracing.Provider // nil: requests are not traced
	Cluster string           // in spans
}

// LongRunning tells which requests last as long as their client wants.
func LongRunning(req *http.Request, info *request.RequestInfo) bool {
	return longRunning(req, info) || !info.IsResourceRequest && strings.HasPrefix(info.Path, tunnel.Prefix)
}

var longRunning = genericfilters.BasicLongRunningRequestCheck(
	sets.NewString("watch", "proxy"),
	sets.NewString("attach", "exec", "proxy", "log", "portforward"),
)

// resolver reads the path of a request.
var resolver = &request.RequestInfoFactory{APIPrefixes: sets.NewString("api", "apis"), GrouplessAPIPrefixes: sets.NewString("api")}

// New wraps a handler for requests from the network. Read it from the bottom: the last filter sees a request first.
func New(handler http.Handler, cfg Config) http.Handler {
	handler = upstream.WithAuthorization(handler, cfg.Authorizer, cfg.Serializer)
	if cfg.Fair != nil {
		handler = cfg.Fair(handler)
	}
	handler = impersonation.WithConstrainedImpersonation(handler, cfg.Authorizer, cfg.Serializer)
	handler = withAudit(handler, cfg)
	handler = withTracing(handler, cfg)
	handler = upstream.WithAuthentication(handler, forUs(cfg), failedAuthentication(cfg), nil, cfg.FrontProxy)
	handler = withOrigins(handler, cfg.Hints)
	handler = withWarnings(handler)
	handler = withTimeout(handler)
	handler = withDeadline(handler, cfg)
	handler = withCacheControl(handler)
	handler = withHints(handler, cfg.Hints)
	handler = withFacts(handler, cfg, true)
	handler = WithRecovery(handler, cfg.Serializer, cfg.Log)
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Method == http.MethodGet {
			stack.GrowLittle()
		} else {
			stack.Grow()
		}
		handler.ServeHTTP(w, req)
	})
}

// Loopback wraps a handler for requests from within the process: nobody is asked who they are or whether they may.
func Loopback(handler http.Handler, cfg Config) http.Handler {
	handler = withAuditOfServer(handler, cfg)
	handler = withTracing(handler, cfg)
	handler = withWarnings(handler)
	handler = asServer(handler)
	handler = withFacts(handler, cfg, false)
	return WithRecovery(handler, cfg.Serializer, cfg.Log)
}

// WithRecovery turns a panic into an answer. It logs the stack, once for each panic and not for handlers that mean to
// abort the connection.
func WithRecovery(handler http.Handler, serializer runtime.NegotiatedSerializer, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		defer func() {
			switch r := recover(); r {
			case nil:
			case http.ErrAbortHandler:
				panic(r) // net/http resets the stream and says nothing
			default:
				log.Error("Handler panicked", "method", req.Method, "path", req.URL.Path, "panic", r, "stack", string(debug.Stack()))
				err := apierrors.NewGenericServerResponse(http.StatusInternalServerError, req.Method, schema.GroupResource{}, "",
					"This request caused apiserver to panic. Look in the logs for details.", 0, true)
				responsewriters.ErrorNegotiated(err, serializer, schema.GroupVersion{Version: "v1"}, w, req)
			}
		}()
		handler.ServeHTTP(w, req)
	})
}
