package openapi

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	genericapiserver "k8s.io/apiserver/pkg/server"
	openapicommon "k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/handler3"
	generatedopenapi "k8s.io/kubernetes/pkg/generated/openapi"

	"github.com/rowlock-io/rowlock/schema/internal/upstream"
	"github.com/rowlock-io/rowlock/schema/reference"
)

func newService(t testing.TB, cfg Config) *Service {
	t.Helper()
	groups, err := upstream.Groups()
	if err != nil {
		t.Fatal(err)
	}
	cfg.Groups = groups
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// newSmallService describes few groups, for tests of how documents are served.
func newSmallService(t testing.TB, cfg Config) *Service {
	t.Helper()
	groups, err := upstream.Groups()
	if err != nil {
		t.Fatal(err)
	}
	cfg.Groups = slices.DeleteFunc(groups, func(g *genericapiserver.APIGroupInfo) bool {
		return !slices.Contains([]string{"batch", "node.k8s.io"}, g.PrioritizedVersions[0].Group)
	})
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// serve routes a GET as the server does. Headers come in pairs.
func serve(s *Service, target string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, target, nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	switch {
	case r.URL.Path == "/openapi/v2":
		s.ServeV2(w, r)
	case r.URL.Path == "/openapi/v3":
		s.ServeV3Index(w, r)
	default:
		s.ServeV3(w, r)
	}
	return w
}

func index(t *testing.T, s *Service) map[string]string {
	t.Helper()
	w := serve(s, "/openapi/v3")
	if w.Code != http.StatusOK {
		t.Fatalf("index answered %d", w.Code)
	}
	var doc handler3.OpenAPIV3Discovery
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	urls := map[string]string{}
	for name, d := range doc.Paths {
		urls[name] = d.ServerRelativeURL
	}
	return urls
}

// TestEqualsKubeAPIServer compares every document with what a kube-apiserver answered.
func TestEqualsKubeAPIServer(t *testing.T) {
	t.Parallel()
	s := newService(t, Config{})
	want, err := reference.OpenAPIV3Paths()
	if err != nil {
		t.Fatal(err)
	}
	urls := index(t, s)
	if d := cmp.Diff(want, slices.Sorted(maps.Keys(urls))); d != "" {
		t.Errorf("index (-kube-apiserver +ours):\n%s", d)
	}
	for _, name := range want {
		w := serve(s, urls[name])
		if w.Code != http.StatusOK {
			t.Errorf("GET %s answered %d", urls[name], w.Code)
			continue
		}
		diff, err := reference.DiffOpenAPIV3(name, w.Body.Bytes())
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, d := range diff {
			t.Errorf("%s: %s", name, d)
		}
	}
	diff, err := reference.DiffOpenAPIV2(serve(s, "/openapi/v2").Body.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range diff {
		t.Errorf("v2: %s", d)
	}
}

// TestLazy checks that definitions are made only when a document is asked for, and are garbage afterwards.
func TestLazy(t *testing.T) {
	t.Parallel()
	var calls, built atomic.Int32
	s := newSmallService(t, Config{Built: func() { built.Add(1) }, Definitions: func(ref openapicommon.ReferenceCallback) map[string]openapicommon.OpenAPIDefinition {
		calls.Add(1)
		return generatedopenapi.GetOpenAPIDefinitions(ref)
	}})
	steps := []struct {
		target string
		most   int32 // calls so far
		built  int32 // requests that built something so far
	}{
		{"/openapi/v3/api", 1, 1},
		{"/openapi/v3", 2, 2},
		{"/openapi/v3/apis/batch/v1", 2, 2},
		{"/openapi/v2", 3, 3},
		{"/openapi/v2", 3, 3},
	}
	if n := calls.Load(); n != 0 {
		t.Fatalf("definitions were made %d times before the first request", n)
	}
	for _, step := range steps {
		if w := serve(s, step.target); w.Code != http.StatusOK {
			t.Fatalf("GET %s answered %d", step.target, w.Code)
		}
		if n := calls.Load(); n < 1 || n > step.most {
			t.Errorf("after GET %s definitions were made %d times, want at most %d", step.target, n, step.most)
		}
		if n := built.Load(); n != step.built {
			t.Errorf("after GET %s the hook was called %d times, want %d", step.target, n, step.built)
		}
	}
	b, err := newBuiltins(Config{Definitions: generatedopenapi.GetOpenAPIDefinitions})
	if err != nil {
		t.Fatal(err)
	}
	release := b.keep()
	runtime.GC()
	if held := b.v3Config.Value(); held == nil || b.sharedV3Config() != held {
		t.Error("the definitions are not shared while somebody builds from them")
	}
	release()
	runtime.GC()
	if b.v3Config.Value() != nil {
		t.Error("the definitions outlive those who build from them")
	}
}

func TestConcurrentRequests(t *testing.T) {
	t.Parallel()
	s := newSmallService(t, Config{})
	targets := []string{"/openapi/v3", "/openapi/v3/api", "/openapi/v3/apis/batch/v1", "/openapi/v2"}
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			target := targets[i%len(targets)]
			if w := serve(s, target); w.Code != http.StatusOK || w.Body.Len() == 0 {
				t.Errorf("GET %s answered %d with %d bytes", target, w.Code, w.Body.Len())
			}
		})
	}
	wg.Wait()
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	groups, err := upstream.Groups()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		groups []*genericapiserver.APIGroupInfo
		want   string
	}{
		{"group twice", append(slices.Clone(groups), groups[3]), "comes twice"},
		{"no versions", []*genericapiserver.APIGroupInfo{{}}, "no versions"},
	} {
		if _, err := New(Config{Groups: tt.groups}); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want one with %q", tt.name, err, tt.want)
		}
	}
}
