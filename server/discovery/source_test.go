package discovery

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/endpoints/discovery/aggregated"
	apiregistration "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	"k8s.io/kube-aggregator/pkg/apis/apiregistration/v1/helper"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
)

const (
	asGroups   = "application/json"
	asDocument = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
)

func newDocuments() *Documents {
	d := &Documents{serializer: legacyscheme.Codecs, sources: map[string]source{}, aggregated: aggregated.NewResourceManager("apis")}
	d.current.Store(&content{})
	d.root = aggregated.WrapAggregatedDiscoveryToHandler(http.HandlerFunc(d.serveRoot), d.aggregated, d.aggregated)
	return d
}

func describe(group, name string, priority, versionPriority int32, plural string) Version {
	return Version{
		GroupVersion: schema.GroupVersion{Group: group, Version: name}, GroupPriority: priority, VersionPriority: versionPriority,
		Resources: []metav1.APIResource{{Name: plural, SingularName: plural, Kind: "K", Verbs: metav1.Verbs{"get"}}},
	}
}

func get(t *testing.T, h http.Handler, accept, etag string, into any) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	req := httptest.NewRequest(http.MethodGet, "/apis", nil)
	req.Header.Set("Accept", accept)
	if etag != "" {
		req.Header.Set("If-None-Match", etag)
	}
	h.ServeHTTP(w, req)
	if into != nil {
		if err := json.Unmarshal(w.Body.Bytes(), into); err != nil {
			t.Fatalf("%v: %s", err, w.Body)
		}
	}
	return w
}

func names(t *testing.T, d *Documents) (older, document [][]string) {
	t.Helper()
	var groups metav1.APIGroupList
	get(t, d.Root(), asGroups, "", &groups)
	for _, g := range groups.Groups {
		line := []string{g.Name}
		for _, v := range g.Versions {
			line = append(line, v.Version)
		}
		older = append(older, line)
	}
	var list apidiscoveryv2.APIGroupDiscoveryList
	get(t, d.Root(), asDocument, "", &list)
	for _, g := range list.Items {
		line := []string{g.Name}
		for _, v := range g.Versions {
			line = append(line, v.Version)
		}
		document = append(document, line)
	}
	return older, document
}

// Groups and versions stand where kube-aggregator puts the APIServices that describe them.
func TestOrder(t *testing.T) {
	versions := []Version{
		describe("b.example.com", "v1beta1", 1000, 100, "bs"),
		describe("b.example.com", "v1", 1000, 100, "bs"),
		describe("b.example.com", "v10", 1000, 100, "bs"),
		describe("a.example.com", "v2", 1000, 100, "as"),
		describe("z.example.com", "v1alpha1", 17000, 1, "zs"),
		describe("z.example.com", "v1", 10, 5, "zs"),
		describe("apps", "v1", 17800, 15, "deployments"),
	}
	d := newDocuments()
	if err := d.Set("some", RankCustom, versions); err != nil {
		t.Fatal(err)
	}
	var services []*apiregistration.APIService
	for _, v := range versions {
		services = append(services, &apiregistration.APIService{
			ObjectMeta: metav1.ObjectMeta{Name: v.GroupVersion.Version + "." + v.GroupVersion.Group},
			Spec: apiregistration.APIServiceSpec{
				Group: v.GroupVersion.Group, Version: v.GroupVersion.Version, GroupPriorityMinimum: v.GroupPriority, VersionPriority: v.VersionPriority,
			},
		})
	}
	var want [][]string
	for _, group := range helper.SortedByGroupAndVersion(services) {
		line := []string{group[0].Spec.Group}
		for _, s := range group {
			line = append(line, s.Spec.Version)
		}
		want = append(want, line)
	}
	older, document := names(t, d)
	if diff := cmp.Diff(want, older); diff != "" {
		t.Errorf("older form (-kube-aggregator +ours):\n%s", diff)
	}
	// The aggregated form differs in how groups of one priority are ordered: by their own name.
	want = [][]string{{"apps", "v1"}, {"z.example.com", "v1", "v1alpha1"}, {"a.example.com", "v2"}, {"b.example.com", "v10", "v1", "v1beta1"}}
	if diff := cmp.Diff(want, document); diff != "" {
		t.Errorf("aggregated form:\n%s", diff)
	}
}

// Sources come, change and go, and everything that is served follows.
func TestSources(t *testing.T) {
	d := newDocuments()
	set := func(name string, rank Rank, versions ...Version) {
		t.Helper()
		if err := d.Set(name, rank, versions); err != nil {
			t.Fatal(err)
		}
	}
	resources := func(group, name string) []string {
		h := d.Version(schema.GroupVersion{Group: group, Version: name})
		if h == nil {
			return nil
		}
		var list metav1.APIResourceList
		get(t, h, asGroups, "", &list)
		var names []string
		for _, r := range list.APIResources {
			names = append(names, r.Name)
		}
		return names
	}
	set(builtin, RankBuiltin, describe("apps", "v1", 17800, 15, "deployments"))
	first := get(t, d.Root(), asDocument, "", nil).Header().Get("ETag")

	set("custom", RankCustom, describe("example.com", "v1", 1000, 100, "widgets"), describe("apps", "v1", 1000, 100, "forgeries"))
	set("remote", RankAggregated, describe("example.com", "v1", 100, 100, "others"), describe("example.com", "v2", 100, 100, "others"))
	for _, c := range []struct {
		group, version string
		want           []string
	}{
		{"apps", "v1", []string{"deployments"}},
		{"example.com", "v1", []string{"others"}},
		{"example.com", "v2", []string{"others"}},
		{"example.com", "v3", nil},
	} {
		if got := resources(c.group, c.version); !slices.Equal(got, c.want) {
			t.Errorf("%s/%s has %v, want %v", c.group, c.version, got, c.want)
		}
	}
	paths := d.Paths()
	slices.Sort(paths)
	if diff := cmp.Diff([]string{"/apis/apps", "/apis/apps/v1", "/apis/example.com", "/apis/example.com/v1", "/apis/example.com/v2"}, paths); diff != "" {
		t.Error(diff)
	}
	var g metav1.APIGroup
	get(t, d.Group("example.com"), asGroups, "", &g)
	if len(g.Versions) != 2 || g.PreferredVersion.Version != "v2" {
		t.Errorf("group is %+v", g)
	}
	w := get(t, d.Root(), asDocument, first, nil)
	second := w.Header().Get("ETag")
	if w.Code != http.StatusOK || second == first {
		t.Errorf("the document changed, but its answer is %d, ETag %s", w.Code, second)
	}
	if w := get(t, d.Root(), asDocument, second, nil); w.Code != http.StatusNotModified {
		t.Errorf("unchanged document answers %d", w.Code)
	}

	d.Remove("remote")
	if got := resources("example.com", "v1"); !slices.Equal(got, []string{"widgets"}) {
		t.Errorf("without the aggregated server v1 has %v", got)
	}
	if resources("example.com", "v2") != nil {
		t.Error("v2 outlived its source")
	}
	d.Remove("custom")
	if d.Group("example.com") != nil {
		t.Error("group outlived its sources")
	}
	older, document := names(t, d)
	want := [][]string{{"apps", "v1"}}
	if diff := cmp.Diff([][][]string{want, want}, [][][]string{older, document}); diff != "" {
		t.Error(diff)
	}
	if got := get(t, d.Root(), asDocument, "", nil).Header().Get("ETag"); got != first {
		t.Errorf("the same document has ETag %s, was %s", got, first)
	}
}
