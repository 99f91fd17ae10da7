package custom_test

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/discovery"

	"github.com/rowlock-io/rowlock/server/controlplane"
	"github.com/rowlock-io/rowlock/server/servertest"
)

// Discovery and OpenAPI, in all forms, tell of a definition soon after it is established, and no more soon after its
// end.
func TestPublished(t *testing.T) {
	t.Parallel()
	c := start(t, servertest.Config{})
	client, err := discovery.NewDiscoveryClientForConfig(c.server.Config(servertest.Default, servertest.AdminToken))
	if err != nil {
		t.Fatal(err)
	}
	wire := servertest.NewWire()
	defer wire.Close()
	get := func(path string) string {
		r := wire.Send(t, c.server.URL, servertest.Request{Method: http.MethodGet, Path: path, Token: servertest.AdminToken})
		if r.Status != http.StatusOK {
			return ""
		}
		return r.Body
	}
	get("/openapi/v3") // which builds the documents of everything that is built in
	v2 := get("/openapi/v2")
	if v2 == "" || strings.Contains(v2, "com.example.v1.Widget") {
		t.Fatal("no OpenAPI v2 before")
	}
	c.define(widgets)
	c.eventually("publication", func(context.Context) (bool, error) {
		return get("/apis/example.com/v1") != "" && strings.Contains(get("/openapi/v3"), "apis/example.com/v1"), nil
	})
	_, lists, err := client.ServerGroupsAndResources()
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, list := range lists {
		if list.GroupVersion == "example.com/v1" {
			for _, r := range list.APIResources {
				found = append(found, r.Name+" "+r.Kind+" "+strings.Join(r.ShortNames, ","))
			}
		}
	}
	slices.Sort(found)
	if got := strings.Join(found, "; "); got != "widgets Widget wd; widgets/scale Scale ; widgets/status Widget " {
		t.Errorf("aggregated discovery has %q", got)
	}
	var older metav1.APIResourceList
	if err := json.Unmarshal([]byte(get("/apis/example.com/v1")), &older); err != nil || len(older.APIResources) != 3 ||
		older.APIResources[0].StorageVersionHash == "" || older.APIResources[0].SingularName != "widget" {
		t.Errorf("older discovery has %+v, %v", older, err)
	}
	if v2 := get("/openapi/v2"); !strings.Contains(v2, "com.example.v1.Widget") || !strings.Contains(v2, "io.k8s.api.core.v1.Pod") {
		t.Error("OpenAPI v2 does not have it")
	}
	if v3 := get("/openapi/v3/apis/example.com/v1"); !strings.Contains(v3, "com.example.v1.Widget") || !strings.Contains(v3, "specReplicasPath") && !strings.Contains(v3, "/scale") {
		t.Error("OpenAPI v3 does not have it")
	}
	if root := get("/"); !strings.Contains(root, "/apis/example.com/v1") {
		t.Error("the index of paths does not have it")
	}
	if err := c.defs.ApiextensionsV1().CustomResourceDefinitions().Delete(t.Context(), "widgets.example.com", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.gone("widgets.example.com")
	c.eventually("retraction", func(context.Context) (bool, error) {
		return get("/apis/example.com/v1") == "" && get("/apis/example.com") == "" && !strings.Contains(get("/openapi/v3"), "example.com") &&
			!strings.Contains(get("/apis"), "example.com") && get("/openapi/v3/apis/example.com/v1") == "", nil
	})
	if strings.Contains(get("/openapi/v2"), "com.example.v1.Widget") {
		t.Error("OpenAPI v2 still has it")
	}
}

// Protobuf is refused as upstream does, field validation is done as asked, tables have the columns of the definition, and
// requests are counted.
func TestWire(t *testing.T) {
	t.Parallel()
	c := start(t, servertest.Config{Plane: func(cfg *controlplane.Config) { cfg.Operator = true }})
	c.define(widgets)
	wire := servertest.NewWire()
	defer wire.Close()
	const path = "/apis/example.com/v1/namespaces/default/widgets"
	send := func(method, path, accept, contentType, body string) *servertest.Response {
		return wire.Send(t, c.server.URL, servertest.Request{
			Method: method, Path: path, Token: servertest.AdminToken, Body: body, Header: http.Header{"Accept": {accept}, "Content-Type": {contentType}},
		})
	}
	const js, pb = "application/json", "application/vnd.kubernetes.protobuf"
	body := func(name, spec string) string {
		return `{"apiVersion":"example.com/v1","kind":"Widget","metadata":{"name":"` + name + `"},"spec":` + spec + `}`
	}
	for _, r := range []struct {
		what, method, path, accept, contentType, body string
		status                                        int
		contains                                      string
	}{
		{"create", "POST", path, js, js, body("a", `{}`), 201, `"color":"red"`},
		{"protobuf in", "POST", path, js, pb, "k8s\x00", 415, ""},
		{"protobuf out", "GET", path + "/a", pb, "", "", 406, ""},
		{"protobuf or JSON", "GET", path + "/a", pb + "," + js, "", "", 200, `{"apiVersion":"example.com/v1"`},
		{"list, protobuf or JSON", "GET", path, pb + "," + js, "", "", 200, `{"apiVersion":"example.com/v1","items":[`},
		{"yaml", "GET", path + "/a", "application/yaml", "", "", 200, "apiVersion: example.com/v1"},
		{"strategic merge", "PATCH", path + "/a", js, "application/strategic-merge-patch+json", "{}", 415, ""},
		{"strict", "POST", path + "?fieldValidation=Strict", js, js, body("b", `{"odd":1}`), 400, `unknown field \"spec.odd\"`},
		{"warn", "POST", path + "?fieldValidation=Warn", js, js, body("b", `{"odd":1}`), 201, ""},
		{"invalid", "POST", path, js, js, body("c", `{"replicas":"x"}`), 422, "spec.replicas in body must be of type integer"},
		{"table", "GET", path, js + ";as=Table;v=v1;g=meta.k8s.io", "", "", 200, `"columnDefinitions":[{"name":"Name"`},
		{"table's columns", "GET", path, js + ";as=Table;v=v1;g=meta.k8s.io", "", "", 200, `"cells":["a","red"`},
		{"metadata only", "GET", path, js + ";as=PartialObjectMetadataList;v=v1;g=meta.k8s.io", "", "", 200, `"kind":"PartialObjectMetadataList"`},
		{"metadata only, protobuf", "GET", path, pb + ";as=PartialObjectMetadataList;v=v1;g=meta.k8s.io", "", "", 200, "k8s\x00"},
		{"other name", "GET", "/apis/example.com/v1/namespaces/default/gadgets", js, "", "", 404, "404 page not found"},
		{"other version", "GET", "/apis/example.com/v7/namespaces/default/widgets", js, "", "", 404, "404 page not found"},
		{"unknown group", "GET", "/apis/example.org/v1/widgets", js, "", "", 404, "404 page not found"},
		{"no such subresource", "GET", path + "/a/log", js, "", "", 404, `"reason":"NotFound"`},
	} {
		got := send(r.method, r.path, r.accept, r.contentType, r.body)
		if got.Status != r.status || !strings.Contains(got.Body, r.contains) {
			t.Errorf("%s: %d %s", r.what, got.Status, got.Body)
		}
		if r.what == "warn" && !strings.Contains(got.Header.Get("Warning"), `unknown field \"spec.odd\"`) {
			t.Errorf("warning is %q", got.Header.Get("Warning"))
		}
	}
	counted := send("GET", "/metrics", "", "", "").Body
	for _, labels := range []string{
		`code="200",component="apiserver",dry_run="",group="example.com",resource="widgets",scope="resource",subresource="",verb="GET",version="v1"`,
		`code="200",component="apiserver",dry_run="",group="example.com",resource="widgets",scope="namespace",subresource="",verb="LIST",version="v1"`,
		`code="201",component="apiserver",dry_run="",group="example.com",resource="widgets",scope="resource",subresource="",verb="POST",version="v1"`,
	} {
		if !strings.Contains(counted, "apiserver_request_total{"+labels) {
			t.Errorf("not counted: %s", labels)
		}
	}
}
