package filters_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
	auditapi "k8s.io/apiserver/pkg/apis/audit"
	"k8s.io/apiserver/pkg/audit/policy"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/server"
	genericfilters "k8s.io/apiserver/pkg/server/filters"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/component-base/tracing"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/api/legacyscheme"

	"github.com/rowlock-io/rowlock/server/filters"
)

// events is a sink that keeps what it is given.
type events struct {
	mu   sync.Mutex
	kept []auditapi.Event
	full bool // refuses everything
}

func (e *events) ProcessEvents(given ...*auditapi.Event) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, event := range given {
		e.kept = append(e.kept, *event.DeepCopy())
	}
	return !e.full
}

func (e *events) Run(<-chan struct{}) error { return nil }
func (e *events) Shutdown()                 {}
func (e *events) String() string            { return "kept" }

// take returns the events without what differs between two requests.
func (e *events) take() []auditapi.Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	kept := e.kept
	e.kept = nil
	for i := range kept {
		if kept[i].AuditID != "chosen" {
			kept[i].AuditID = types.UID("some")
		}
		kept[i].RequestReceivedTimestamp, kept[i].StageTimestamp = metav1.MicroTime{}, metav1.MicroTime{}
		if s := kept[i].ResponseStatus; s != nil { // the stack of a panic
			s.Message, _, _ = strings.Cut(s.Message, "\n")
		}
	}
	return kept
}

// whom believes the user's name in the Authorization header.
func whom(req *http.Request) (*authenticator.Response, bool, error) {
	name, ok := strings.CutPrefix(req.Header.Get("Authorization"), "Bearer ")
	switch {
	case !ok:
		return &authenticator.Response{User: &user.DefaultInfo{Name: user.Anonymous, Groups: []string{user.AllUnauthenticated}}}, true, nil
	case name == "wrong":
		return nil, false, errors.New("bad token")
	}
	return &authenticator.Response{User: &user.DefaultInfo{Name: name, UID: "7", Groups: []string{"devs"}, Extra: map[string][]string{"a": {"b", "c"}}}}, true, nil
}

// whether lets admin do everything and others nothing.
func whether(_ context.Context, attr authorizer.Attributes) (authorizer.Decision, string, error) {
	if attr.GetUser().GetName() == "admin" {
		return authorizer.DecisionAllow, "is admin", nil
	}
	return authorizer.DecisionNoOpinion, "is not admin", nil
}

// answer is a handler whose behaviour the path says.
func answer(w http.ResponseWriter, req *http.Request) {
	switch {
	case strings.HasSuffix(req.URL.Path, "/panics"):
		panic("on purpose")
	case strings.HasSuffix(req.URL.Path, "/aborts"):
		_, _ = w.Write([]byte("half"))
		panic(http.ErrAbortHandler)
	case strings.HasSuffix(req.URL.Path, "/silent"):
	case strings.HasSuffix(req.URL.Path, "/fails"):
		http.Error(w, "no", http.StatusTeapot)
	case req.URL.Query().Has("watch"):
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		_, _ = w.Write([]byte("one"))
		_, _ = w.Write([]byte("two"))
	default:
		_, _ = w.Write([]byte("ok"))
	}
}

func TestMain(m *testing.M) {
	utilruntime.ReallyCrash = false // as kube-apiserver has it
	klog.SetLogger(logr.Discard())
	os.Exit(m.Run())
}

// TestAuditedAsUpstream passes requests through this chain and through kube-apiserver's own, and compares what is recorded.
func TestAuditedAsUpstream(t *testing.T) {
	t.Parallel()
	longRunning := genericfilters.BasicLongRunningRequestCheck(sets.NewString("watch", "proxy"), sets.NewString("attach", "exec", "proxy", "log", "portforward"))
	chains := func(full bool, rules ...auditapi.PolicyRule) (ours, theirs http.Handler, oursKept, theirsKept *events) {
		evaluator := policy.NewPolicyRuleEvaluator(&auditapi.Policy{Rules: rules})
		oursKept, theirsKept = &events{full: full}, &events{full: full}
		ours = filters.New(http.HandlerFunc(answer), filters.Config{
			Authenticator: authenticator.RequestFunc(whom), Authorizer: authorizer.AuthorizerFunc(whether), Serializer: legacyscheme.Codecs,
			Timeout: time.Minute, Log: slog.New(slog.DiscardHandler), AuditSink: oursKept, AuditPolicy: evaluator,
		})
		c := server.NewConfig(legacyscheme.Codecs)
		c.Authentication.Authenticator, c.Authorization.Authorizer = authenticator.RequestFunc(whom), authorizer.AuthorizerFunc(whether)
		c.AuditBackend, c.AuditPolicyRuleEvaluator = theirsKept, evaluator
		c.LongRunningFunc, c.RequestTimeout = longRunning, time.Minute
		c.RequestInfoResolver = server.NewRequestInfoResolver(c)
		c.FeatureGate = utilfeature.DefaultFeatureGate
		c.TracerProvider = tracing.NewNoopTracerProvider()
		c.MaxRequestsInFlight, c.MaxMutatingRequestsInFlight = 0, 0
		theirs = server.DefaultBuildHandlerChain(http.HandlerFunc(answer), c)
		return ours, theirs, oursKept, theirsKept
	}
	everything := auditapi.PolicyRule{Level: auditapi.LevelMetadata}
	policies := map[string][]auditapi.PolicyRule{
		"everything":   {everything},
		"whole":        {{Level: auditapi.LevelRequestResponse, OmitManagedFields: new(bool)}},
		"some stages":  {{Level: auditapi.LevelRequest, OmitStages: []auditapi.Stage{auditapi.StageRequestReceived, auditapi.StageResponseStarted}}},
		"no panics":    {{Level: auditapi.LevelMetadata, OmitStages: []auditapi.Stage{auditapi.StagePanic}}},
		"nobody known": {{Level: auditapi.LevelNone, Users: []string{"admin", "alice"}}, everything},
		"nothing":      {{Level: auditapi.LevelNone}},
	}
	type request struct {
		method, path, who string
		header            http.Header
	}
	requests := []request{
		{method: "GET", path: "/api/v1/namespaces/n/pods/p"},
		{method: "GET", path: "/api/v1/namespaces/n/pods/p", who: "admin"},
		{method: "GET", path: "/api/v1/namespaces/n/pods/p", who: "alice"},
		{method: "GET", path: "/api/v1/namespaces/n/pods/p", who: "wrong"},
		{method: "GET", path: "/api/v1/namespaces/n/pods/p?timeout=never", who: "admin"},
		{method: "GET", path: "/api/v1/namespaces/n/pods/p?timeout=-1s", who: "alice"},
		{method: "GET", path: "/version", who: "admin"},
		{method: "GET", path: "/version", who: "wrong", header: http.Header{"Audit-Id": {"chosen"}}},
		{method: "HEAD", path: "/healthz", who: "admin", header: http.Header{"User-Agent": {strings.Repeat("long ", 400)}}},
		{method: "GET", path: "/apis/apps/v1/deployments?watch=true", who: "admin"},
		{method: "GET", path: "/apis/apps/v1/deployments?watch=true", who: "wrong"},
		{method: "GET", path: "/apis/apps/v1/watch/deployments/silent", who: "admin"},
		{method: "POST", path: "/api/v1/namespaces/n/pods/p/exec?command=sh", who: "admin"},
		{method: "POST", path: "/api/v1/namespaces/n/pods", who: "admin", header: http.Header{"X-Forwarded-For": {"192.0.2.1, 192.0.2.2"}, "X-Real-Ip": {"192.0.2.3"}}},
		{method: "PUT", path: "/api/v1/namespaces/n/pods/p/status", who: "alice"},
		{method: "PATCH", path: "/api/v1/namespaces/n/pods/panics", who: "admin"},
		{method: "GET", path: "/api/v1/namespaces/n/pods/panics?watch=true", who: "admin"},
		{method: "DELETE", path: "/api/v1/namespaces/n/pods/aborts", who: "admin"},
		{method: "DELETE", path: "/api/v1/namespaces/n/pods/silent", who: "admin"},
		{method: "GET", path: "/silent", who: "admin"},
		{method: "GET", path: "/fails", who: "admin"},
		{method: "GET", path: "/apis/no.such/v1/things/fails", who: "admin"},
		{method: "DELETE", path: "/api/v1/namespaces/n/pods", who: "admin", header: http.Header{
			"Impersonate-User": {"bob"}, "Impersonate-Group": {"one", "two"}, "Impersonate-Uid": {"9"}, "Impersonate-Extra-Why": {"test"},
		}},
		{method: "DELETE", path: "/api/v1/namespaces/n/pods", who: "admin", header: http.Header{"Impersonate-User": {"admin"}}},
		{method: "DELETE", path: "/api/v1/namespaces/n/pods", who: "alice", header: http.Header{"Impersonate-User": {"admin"}}},
		{method: "GET", path: "/api/v1/namespaces/n/pods", who: "admin", header: http.Header{"Impersonate-Group": {"of nobody"}}},
	}
	send := func(h http.Handler, r request) (status int, header http.Header) {
		req := httptest.NewRequestWithContext(t.Context(), r.method, r.path, nil)
		req.Header = r.header.Clone()
		if req.Header == nil {
			req.Header = http.Header{}
		}
		if r.who != "" {
			req.Header.Set("Authorization", "Bearer "+r.who)
		}
		w := httptest.NewRecorder()
		defer func() {
			if p := recover(); p != nil && p != http.ErrAbortHandler {
				panic(p)
			}
			status, header = w.Code, w.Result().Header
			if header.Get("Audit-Id") != "chosen" {
				header.Set("Audit-Id", "some")
			}
		}()
		h.ServeHTTP(w, req)
		return status, header
	}
	for name, rules := range policies {
		for _, full := range []bool{false, true} {
			ours, theirs, oursKept, theirsKept := chains(full, rules...)
			total := 0
			for _, r := range requests {
				status, header := send(ours, r)
				wantStatus, wantHeader := send(theirs, r)
				what := name + ": " + r.method + " " + r.path + " by " + r.who
				if status != wantStatus || header.Get("Audit-Id") != wantHeader.Get("Audit-Id") {
					t.Errorf("%s, full %v: %d %v, want %d %v", what, full, status, header, wantStatus, wantHeader)
				}
				got, want := oursKept.take(), theirsKept.take()
				total += len(want)
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%s, full %v: events (-want +got)\n%s", what, full, diff)
				}
			}
			if recorded := name != "nothing"; recorded != (total > 0) {
				t.Errorf("%s: %d events", name, total)
			}
		}
	}
}
