package filters_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/warning"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	_ "k8s.io/kubernetes/pkg/apis/core/install" // errors are of its group

	"github.com/rowlock-io/rowlock/server/filters"
)

type never struct{}

func (never) ShuttingDown() <-chan struct{} { return nil }

func chain(handler http.HandlerFunc) http.Handler {
	return filters.New(handler, filters.Config{
		Authenticator: authenticator.RequestFunc(whom), Authorizer: authorizer.AuthorizerFunc(whether), Serializer: legacyscheme.Codecs,
		Timeout: time.Minute, Log: slog.New(slog.DiscardHandler), Audiences: authenticator.Audiences{"us"}, Ending: never{},
	})
}

// asAdmin sends a get as who may do everything.
func asAdmin(h http.Handler, path string) *httptest.ResponseRecorder {
	req := httptest.NewRequest(http.MethodGet, path, http.NoBody)
	req.Header.Set("Authorization", "Bearer admin")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, req)
	return w
}

// TestFacts asks in a handler what upstream's handlers and plug-ins ask of a request's context.
func TestFacts(t *testing.T) {
	t.Parallel()
	uuid := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	for _, query := range []string{"", "?timeout=30s", "?a=%20"} {
		began := time.Now()
		var id string
		w := asAdmin(chain(func(w http.ResponseWriter, req *http.Request) {
			ctx, cancel := context.WithCancel(req.Context())
			defer cancel()
			if info, ok := request.RequestInfoFrom(ctx); !ok || info.Resource != "pods" || info.Namespace != "a" || info.Verb != "get" {
				t.Errorf("request info: %+v, %v", info, ok)
			}
			if at, ok := request.ReceivedTimestampFrom(ctx); !ok || at.Before(began) || at.After(time.Now()) {
				t.Errorf("received %v, %v", at, ok)
			}
			if u, ok := request.UserFrom(ctx); !ok || u.GetName() != "admin" {
				t.Errorf("user %v, %v", u, ok)
			}
			if a, ok := authenticator.AudiencesFrom(ctx); !ok || len(a) != 1 || a[0] != "us" {
				t.Errorf("audiences %v, %v", a, ok)
			}
			if request.ServerShutdownSignalFrom(ctx) != (never{}) {
				t.Error("nobody tells watches to end")
			}
			if at, ok := ctx.Deadline(); !ok || at.Sub(began) > time.Minute+time.Second || (query == "?timeout=30s") != (at.Sub(began) < 40*time.Second) {
				t.Errorf("%q: deadline %v after %v, %v", query, at, began, ok)
			}
			chosen, ok := audit.AuditIDFrom(ctx)
			if id = string(chosen); !ok || !uuid.MatchString(id) {
				t.Errorf("audit id %q, %v", chosen, ok)
			}
			if audit.AuditContextFrom(ctx).Enabled() {
				t.Error("annotations are kept that nobody reads")
			}
			trackers, ok := request.LatencyTrackersFrom(ctx)
			if !ok {
				t.Fatal("nobody tracks latency")
			}
			for range 2 {
				request.TrackStorageLatency(ctx, time.Second)
				request.TrackAPFQueueWaitLatency(ctx, time.Minute)
			}
			if got := [...]time.Duration{trackers.StorageTracker.GetLatency(), trackers.APFQueueWaitTracker.GetLatency()}; got != [...]time.Duration{2 * time.Second, time.Minute} {
				t.Errorf("latency: %v", got)
			}
			warning.AddWarning(ctx, "", "beware")
			warning.AddWarning(ctx, "", "beware")
			w.WriteHeader(http.StatusTeapot)
		}), "/api/v1/namespaces/a/pods/b"+query)
		if w.Code != http.StatusTeapot || len(w.Header().Values("Warning")) != 1 || w.Header().Get("Audit-Id") != id || w.Header().Get("Cache-Control") != "no-cache, private" {
			t.Errorf("%q: %d %v, id %q", query, w.Code, w.Header(), id)
		}
	}
}

// TestGiantSelectorsAreNotParsed sends selectors that would hold a processor for seconds, and ones that clients send.
func TestGiantSelectorsAreNotParsed(t *testing.T) {
	t.Parallel()
	var values strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&values, "name-of-some-%d,", i)
	}
	for name, c := range map[string]struct {
		selector string
		want     string
	}{
		"many values":         {selector: "a in (" + values.String() + "z)"},
		"a thousand":          {selector: strings.Repeat("a=b,", 999) + "c"},
		"many requirements":   {strings.Repeat("a,", 1000) + "a", "Too many: 1001: must have at most 1000 items"},
		"long":                {"a in (" + strings.Repeat("name,", 60_000) + "z)", "Too long: may not be more than 262144 bytes"},
		"nothing but symbols": {strings.Repeat("!", 40_000), "Too many: 40000: must have at most 32768 items"},
		"open for ever":       {"a in (" + strings.Repeat(",", 40_000), "Too many: 40001: must have at most 32768 items"},
	} {
		for _, key := range []string{"labelSelector", "fieldSelector", "label%53elector"} {
			called := false
			w := asAdmin(chain(func(http.ResponseWriter, *http.Request) { called = true }), "/api/v1/pods?limit=1&"+key+"="+url.QueryEscape(c.selector))
			refused := w.Code == http.StatusBadRequest && strings.Contains(w.Body.String(), c.want)
			if c.want != "" && (called || !refused) || c.want == "" && !called {
				t.Errorf("%s, %s: %d %.200s", name, key, w.Code, w.Body)
			}
		}
	}
}
