package read_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rowlock-io/rowlock/server/read"
	"github.com/rowlock-io/rowlock/storage/cache"
)

const (
	asJSON     = "application/json"
	asProtobuf = "application/vnd.kubernetes.protobuf"
)

// answer is what came over the wire.
type answer struct {
	Status int
	Header http.Header
	Body   string
}

func fetch(t testing.TB, server *httptest.Server, path string, header map[string]string) (a answer, way string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("User-Agent", "test")
	for k, v := range header {
		req.Header.Set(k, v)
	}
	client := &http.Client{Transport: &http.Transport{DisableCompression: true, DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("GET %s: %v", path, err)
	}
	way = resp.Header.Get(wayHeader)
	resp.Header.Del(wayHeader)
	resp.Header.Del("Date")
	return answer{Status: resp.StatusCode, Header: resp.Header, Body: string(body)}, way
}

// requests is the table of everything about reads that does not end in a watch. want says what has to be answered from
// bytes; the other requests must be left to upstream.
var requests = []struct {
	path   string
	header map[string]string
	other  bool // needs more than bytes
}{
	{path: "/api/v1/namespaces/default/configmaps/cm-01"},
	{path: "/api/v1/namespaces/default/configmaps/cm-01?resourceVersion=0"},
	{path: "/api/v1/namespaces/default/configmaps/cm-01?resourceVersion=1"},
	{path: "/api/v1/namespaces/default/configmaps/cm-01?resourceVersion=1000000"},
	{path: "/api/v1/namespaces/default/configmaps/cm-01?resourceVersion=x", other: true},
	{path: "/api/v1/namespaces/default/configmaps/cm-01?unknown=parameter"},
	{path: "/api/v1/namespaces/default/configmaps/cm-01?export=true", other: true},
	{path: "/api/v1/namespaces/default/configmaps/cm-01?pretty=true", other: true},
	{path: "/api/v1/namespaces/default/configmaps/cm-01", header: map[string]string{"User-Agent": "curl/8"}, other: true},
	{path: "/api/v1/namespaces/default/configmaps/none"},
	{path: "/api/v1/namespaces/none/configmaps/cm-01"},
	{path: "/api/v1/namespaces/default/configmaps/..%2fx", other: true},
	{path: "/api/v1/namespaces/default-2/configmaps/bare"},
	{path: "/api/v1/namespaces/default/pods/pod-03"},
	{path: "/api/v1/namespaces/default/events/ev-1"},
	{path: "/api/v1/namespaces/kube-system"},
	{path: "/api/v1/namespaces/none"},

	{path: "/api/v1/configmaps"},
	{path: "/api/v1/configmaps?resourceVersion=0"},
	{path: "/api/v1/configmaps?resourceVersion=5"},
	{path: "/api/v1/configmaps?resourceVersion=1000000"},
	{path: "/api/v1/configmaps?resourceVersion=-1", other: true},
	{path: "/api/v1/configmaps?resourceVersion=0&resourceVersionMatch=NotOlderThan"},
	{path: "/api/v1/configmaps?resourceVersion=20&resourceVersionMatch=NotOlderThan&limit=3"},
	{path: "/api/v1/configmaps?resourceVersion=20&resourceVersionMatch=Exact"},
	{path: "/api/v1/configmaps?resourceVersion=20&resourceVersionMatch=Exact&limit=3"},
	{path: "/api/v1/configmaps?resourceVersion=1000000&resourceVersionMatch=Exact"},
	{path: "/api/v1/configmaps?resourceVersion=0&resourceVersionMatch=Exact", other: true},
	{path: "/api/v1/configmaps?resourceVersion=1&resourceVersionMatch=Never", other: true},
	{path: "/api/v1/configmaps?resourceVersionMatch=Exact", other: true},
	{path: "/api/v1/configmaps?resourceVersion=20&limit=4"},
	{path: "/api/v1/configmaps?limit=4"},
	{path: "/api/v1/configmaps?limit=1000"},
	{path: "/api/v1/configmaps?limit=25"},
	{path: "/api/v1/configmaps?limit=-1"},
	{path: "/api/v1/configmaps?limit=x", other: true},
	{path: "/api/v1/configmaps?continue=nonsense", other: true},
	{path: "/api/v1/configmaps?sendInitialEvents=true", other: true},
	{path: "/api/v1/configmaps?timeoutSeconds=3"},
	{path: "/api/v1/configmaps?labelSelector=app%3Dweb"},
	{path: "/api/v1/configmaps?labelSelector=app%3Dweb,n+notin+(1,2,3)"},
	{path: "/api/v1/configmaps?labelSelector=!app"},
	{path: "/api/v1/configmaps?labelSelector=n>7"},
	{path: "/api/v1/configmaps?labelSelector=half%3D1&limit=2"},
	{path: "/api/v1/configmaps?labelSelector=none%3Dsuch"},
	{path: "/api/v1/configmaps?labelSelector=((", other: true},
	{path: "/api/v1/configmaps?fieldSelector=metadata.name%3Dcm-03"},
	{path: "/api/v1/configmaps?fieldSelector=metadata.name!%3Dcm-03"},
	{path: "/api/v1/configmaps?fieldSelector=metadata.namespace%3Ddefault"},
	{path: "/api/v1/configmaps?fieldSelector=metadata.namespace%3Ddefault&limit=3"},
	{path: "/api/v1/configmaps?fieldSelector=metadata.namespace%3Ddefault,metadata.name%3Dcm-03"},
	{path: "/api/v1/configmaps?fieldSelector=data.key%3Dx", other: true},
	{path: "/api/v1/configmaps?fieldSelector=((", other: true},
	{path: "/api/v1/configmaps", header: map[string]string{"Accept": "application/yaml"}, other: true},
	{path: "/api/v1/configmaps", header: map[string]string{"Accept": "application/cbor"}, other: true},
	{path: "/api/v1/configmaps", header: map[string]string{"Accept": "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"}, other: true},
	{path: "/api/v1/configmaps", header: map[string]string{"Accept": "text/html"}, other: true},
	{path: "/api/v1/configmaps", header: map[string]string{"Accept": "*/*"}},
	{path: "/api/v1/configmaps", header: map[string]string{"Accept": "application/*"}},
	{path: "/api/v1/configmaps", header: map[string]string{"Accept": "text/html, application/json;q=0.9"}},
	{path: "/api/v1/configmaps", header: map[string]string{"Accept": "application/vnd.kubernetes.protobuf,application/json"}},
	{path: "/api/v1/configmaps", header: map[string]string{"Accept": "application/json;pretty=1"}, other: true},

	{path: "/api/v1/namespaces/default/configmaps"},
	{path: "/api/v1/namespaces/default/configmaps?limit=5"},
	{path: "/api/v1/namespaces/none/configmaps"},
	{path: "/api/v1/namespaces/none/configmaps?limit=5"},
	{path: "/api/v1/namespaces/default/configmaps?fieldSelector=metadata.name%3Dcm-03"},
	{path: "/api/v1/namespaces/default/configmaps?fieldSelector=metadata.name%3Dcm-03&labelSelector=app%3Dnone"},
	{path: "/api/v1/namespaces/default/configmaps?fieldSelector=metadata.name%3Dcm-03&resourceVersion=20&resourceVersionMatch=Exact"},
	{path: "/api/v1/namespaces/default/configmaps?fieldSelector=metadata.name%3Dcm-03&resourceVersion=2&limit=1"},
	{path: "/api/v1/namespaces/default/configmaps?fieldSelector=metadata.name%3Dcm-03,metadata.namespace%3Dother"},
	{path: "/api/v1/namespaces/default/configmaps?fieldSelector=metadata.name%3Da%2Fb"},
	{path: "/api/v1/namespaces/default/pods?fieldSelector=spec.nodeName%3Dnode-1"},
	{path: "/api/v1/namespaces/default/pods?fieldSelector=spec.nodeName%3Dnode-1,status.phase%3DRunning&labelSelector=app%3Dweb&limit=2"},
	{path: "/api/v1/pods?fieldSelector=spec.nodeName!%3Dnode-1"},
	{path: "/api/v1/pods?fieldSelector=spec.nothing%3Dnode-1", other: true},
	{path: "/api/v1/events?fieldSelector=reason%3DKilling,involvedObject.name%3Dp"},
	{path: "/api/v1/namespaces"},
	{path: "/api/v1/namespaces?limit=2"},
	{path: "/api/v1/namespaces?fieldSelector=metadata.name%3Ddefault"},
	{path: "/api/v1/namespaces?fieldSelector=status.phase%3DActive&limit=1"},
	{path: "/api/v1/namespaces?labelSelector=kubernetes.io/metadata.name+in+(default,kube-system)"},
}

// TestSameAsUpstream compares every answer with upstream's, byte for byte.
func TestSameAsUpstream(t *testing.T) {
	t.Parallel()
	c, h := newCluster(t, read.Config{})
	c.sameAsUpstream(t, h)
}

// TestSameWhereDropped: so does a server that has next to no object's bytes in memory.
func TestSameWhereDropped(t *testing.T) {
	t.Parallel()
	budget := cache.NewBudget(2000)
	c, h := newClusterWith(t, read.Config{StreamBytes: 1000}, cache.Config{Budget: budget})
	t.Run("answers", func(t *testing.T) { c.sameAsUpstream(t, h) })
	if budget.Loads() < 100 {
		t.Errorf("%d objects were read from the store", budget.Loads())
	}
}

func (c *cluster) sameAsUpstream(t *testing.T, h *read.Handler) {
	t.Helper()
	c.fill(t)
	bytes, oracle := c.servers(t, h)
	for _, tt := range requests {
		for _, accept := range []string{asJSON, asProtobuf} {
			header := map[string]string{"Accept": accept}
			for k, v := range tt.header {
				header[k] = v
			}
			if tt.header["Accept"] != "" && accept != asJSON {
				continue
			}
			t.Run(fmt.Sprintf("%s %v", tt.path, header), func(t *testing.T) {
				t.Parallel()
				compare(t, bytes, oracle, tt.path, header, !tt.other)
			})
		}
	}
}

// compare asks both servers and follows the pages of a list to its end.
func compare(t *testing.T, bytes, oracle *httptest.Server, path string, header map[string]string, fromBytes bool) {
	t.Helper()
	for page := 0; ; page++ {
		want, _ := fetch(t, oracle, path, header)
		got, way := fetch(t, bytes, path, header)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("page %d: -upstream +bytes:\n%s", page, diff)
		}
		if (way == "bytes") != fromBytes {
			t.Fatalf("page %d answered by %q, from bytes wanted: %v", page, way, fromBytes)
		}
		next := continueOf(t, got)
		if next == "" {
			return
		}
		u, err := url.Parse(path)
		if err != nil {
			t.Fatal(err)
		}
		q := u.Query()
		if strings.Contains(q.Get("fieldSelector"), "metadata.namespace") {
			return // see scopeOf
		}
		q.Del("resourceVersion")
		q.Del("resourceVersionMatch")
		q.Set("continue", next)
		u.RawQuery = q.Encode()
		path = u.String()
	}
}

func continueOf(t *testing.T, a answer) string {
	t.Helper()
	var list metav1.PartialObjectMetadataList
	switch {
	case a.Status != http.StatusOK:
		return ""
	case a.Header.Get("Content-Type") == asJSON:
		if err := json.Unmarshal([]byte(a.Body), &list); err != nil {
			t.Fatal(err)
		}
	case a.Header.Get("Content-Type") == asProtobuf:
		obj, err := decodeProtobuf([]byte(a.Body))
		if err != nil {
			t.Fatal(err)
		}
		if l, ok := obj.(metav1.ListInterface); ok {
			return l.GetContinue()
		}
	}
	return list.Continue
}

func continueOfStatus(t *testing.T, body string) string {
	t.Helper()
	var status metav1.Status
	if err := json.Unmarshal([]byte(body), &status); err != nil {
		t.Fatal(err)
	}
	return status.Continue
}

func queryEscape(s string) string { return url.QueryEscape(s) }

func readAll(t *testing.T, r io.Reader) string {
	t.Helper()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
