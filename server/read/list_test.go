package read_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apistorage "k8s.io/apiserver/pkg/storage"

	"github.com/rowlock-io/rowlock/server/read"
	"github.com/rowlock-io/rowlock/storage/cache"
)

// TestGzip: large bodies are compressed for those who take it, small ones are not, as upstream does.
func TestGzip(t *testing.T) {
	t.Parallel()
	c, h := newCluster(t, read.Config{})
	c.fill(t)
	c.big(t, 400)
	c.put(t, "configmaps", stored(configMap("default", "large", nil, strings.Repeat("large", 40_000))))
	server, oracle := c.servers(t, h)
	for _, path := range []string{
		"/api/v1/namespaces/load/configmaps",
		"/api/v1/namespaces/load/configmaps?limit=90",
		"/api/v1/namespaces/load/configmaps?labelSelector=tier%3Dgold",
		"/api/v1/namespaces/default/configmaps/large",
		"/api/v1/namespaces/default/configmaps/cm-01",
	} {
		for _, accept := range []string{asJSON, asProtobuf} {
			for _, encoding := range []string{"gzip", "deflate, gzip", "gzip;q=1", "br", ""} {
				t.Run(path+" "+accept+" "+encoding, func(t *testing.T) {
					header := map[string]string{"Accept": accept, "Accept-Encoding": encoding}
					want, _ := fetch(t, oracle, path, header)
					got, _ := fetch(t, server, path, header)
					if want.Header.Get("Content-Encoding") == "gzip" {
						want.Body = gunzip(t, want.Body)
						got.Body = gunzip(t, got.Body)
					}
					if diff := cmp.Diff(want, got); diff != "" {
						t.Errorf("-upstream +bytes:\n%.2000s", diff)
					}
				})
			}
		}
	}
}

// TestGzipOfChangingLists: lists that are put together from what was compressed before are what they would be anew.
func TestGzipOfChangingLists(t *testing.T) {
	t.Parallel()
	for _, bound := range []int64{1, 40_000, 0} {
		t.Run(fmt.Sprint(bound), func(t *testing.T) {
			t.Parallel()
			c, h := newCluster(t, read.Config{CompressedBytes: bound})
			c.big(t, 700)
			server, oracle := c.servers(t, h)
			for round := range 6 {
				for _, path := range []string{"/api/v1/configmaps", "/api/v1/configmaps?limit=300", "/api/v1/configmaps?labelSelector=shard+notin+(3,4)"} {
					for _, accept := range []string{asJSON, asProtobuf} {
						header := map[string]string{"Accept": accept, "Accept-Encoding": "gzip"}
						want, _ := fetch(t, oracle, path, header)
						got, _ := fetch(t, server, path, header)
						if len(got.Body) > len(want.Body)*3/2 {
							t.Errorf("round %d %s: %d bytes compressed, upstream %d", round, path, len(got.Body), len(want.Body))
						}
						want.Body, got.Body = gunzip(t, want.Body), gunzip(t, got.Body)
						if diff := cmp.Diff(want, got); diff != "" {
							t.Fatalf("round %d %s: -upstream +bytes:\n%.2000s", round, path, diff)
						}
					}
				}
				c.remove(t, "configmaps", "load", fmt.Sprintf("cm-%05d", round*100+7))
				c.put(t, "configmaps", stored(configMap("load", fmt.Sprintf("cm-%05d", round*100+9), nil, "changed")))
				c.put(t, "configmaps", stored(configMap("load", fmt.Sprintf("cm-%05d-new", round*100), nil, strings.Repeat("n", 90_000))))
			}
		})
	}
}

func gunzip(t *testing.T, body string) string {
	t.Helper()
	r, err := gzip.NewReader(strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// TestAnyStateInOnePiece: with resourceVersion=0 kube-apiserver ignores the limit, and reflectors count on that.
func TestAnyStateInOnePiece(t *testing.T) {
	t.Parallel()
	c, h := newCluster(t, read.Config{})
	c.fill(t)
	server, oracle := c.servers(t, h)
	want, _ := fetch(t, oracle, "/api/v1/configmaps?resourceVersion=0", nil)
	got, way := fetch(t, server, "/api/v1/configmaps?resourceVersion=0&limit=4", nil)
	if diff := cmp.Diff(want, got); diff != "" || way != "bytes" {
		t.Errorf("answered by %q, -upstream without limit +bytes:\n%s", way, diff)
	}
}

// TestCompacted: what is gone is told in upstream's words, and a paged list can be gone on with in the present.
func TestCompacted(t *testing.T) {
	t.Parallel()
	c, h := newClusterWith(t, read.Config{}, cache.Config{RingEntries: 1})
	c.fill(t)
	server, oracle := c.servers(t, h)
	first, _ := fetch(t, server, "/api/v1/configmaps?limit=4", nil)
	token := continueOf(t, first)
	for i := range 300 { // beyond what a chunk of history holds
		c.put(t, "configmaps", stored(configMap("default", "cm-01", nil, fmt.Sprint(i))))
	}
	last := c.put(t, "configmaps", stored(configMap("default", "zz-new", nil, "")))
	if err := c.store.Compact(t.Context(), last-1); err != nil {
		t.Fatal(err)
	}
	paths := []string{
		"/api/v1/configmaps?limit=4&continue=" + token,
		"/api/v1/configmaps?resourceVersion=10&resourceVersionMatch=Exact",
		"/api/v1/configmaps?resourceVersion=10&limit=4",
		"/api/v1/namespaces/default/configmaps?resourceVersion=10&resourceVersionMatch=Exact&fieldSelector=metadata.name%3Dcm-01",
		"/api/v1/configmaps?watch=true&resourceVersion=10",
		"/api/v1/configmaps?watch=true&resourceVersion=10&sendInitialEvents=false&resourceVersionMatch=NotOlderThan",
	}
	for _, path := range paths {
		for _, accept := range []string{asJSON, asProtobuf} {
			t.Run(path+" "+accept, func(t *testing.T) {
				header := map[string]string{"Accept": accept}
				want, _ := fetch(t, oracle, path, header)
				got, way := fetch(t, server, path, header)
				if diff := cmp.Diff(want, got); diff != "" || way != "bytes" {
					t.Errorf("answered by %q, -upstream +bytes:\n%s", way, diff)
				}
				if got.Status != http.StatusGone && !strings.Contains(got.Body, "Expired") {
					t.Errorf("status %d, body %q", got.Status, got.Body)
				}
			})
		}
	}
	gone, _ := fetch(t, server, paths[0], nil)
	next := continueOfStatus(t, gone.Body)
	compare(t, server, oracle, "/api/v1/configmaps?limit=100&continue="+next, map[string]string{"Accept": asJSON}, true)
	rest, _ := fetch(t, server, "/api/v1/configmaps?limit=100&continue="+next, nil)
	if !strings.Contains(rest.Body, "zz-new") || strings.Contains(rest.Body, `"name":"cm-01"`) {
		t.Errorf("the rest of the list is not what is behind its first page: %s", rest.Body)
	}
}

// FuzzContinue compares answers to tokens of any content, and of any text.
func FuzzContinue(f *testing.F) {
	c, h := newCluster(f, read.Config{})
	at := int64(c.fill(f))
	server, oracle := c.servers(f, h)
	for _, start := range []string{"default/cm-03\x00", "default/cm-03", "default", "default/", "cm-03\x00", "kube-system/\x00", "a/b/c", "../x", "ü", "z"} {
		f.Add(start, at, "")
		f.Add(start, int64(20), "")
		f.Add(start, int64(-1), "")
		f.Add(start, int64(0), "")
	}
	f.Add("", int64(0), "bm9uc2Vuc2U")
	f.Add("", int64(0), "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6NSwic3RhcnQiOiJhIn0")
	f.Fuzz(func(t *testing.T, start string, rev int64, raw string) {
		token := raw
		if start != "" {
			var err error
			if token, err = apistorage.EncodeContinue("/"+start, "/", rev); err != nil {
				t.Skip()
			}
		}
		for _, path := range []string{"/api/v1/configmaps", "/api/v1/namespaces/default/configmaps", "/api/v1/namespaces"} {
			path += "?limit=3&continue=" + queryEscape(token)
			want, _ := fetch(t, oracle, path, nil)
			got, _ := fetch(t, server, path, nil)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("%s: -upstream +bytes:\n%s", path, diff)
			}
		}
	})
}

// FuzzSelectors compares answers to selectors of any text.
func FuzzSelectors(f *testing.F) {
	c, h := newCluster(f, read.Config{})
	c.fill(f)
	server, oracle := c.servers(f, h)
	for _, s := range [][2]string{
		{"app=web", "metadata.name=cm-01"},
		{"n in (1,2)", "metadata.namespace!=default"},
		{"!app,n", ""},
		{"n<5", "metadata.name=,metadata.namespace="},
		{"a/b=c", "metadata.name!=x,metadata.name=cm-01"},
		{"=", "\\="},
		{"", "metadata.name==cm-01"},
	} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, label, field string) {
		for _, path := range []string{"/api/v1/configmaps", "/api/v1/namespaces/default/configmaps"} {
			path += "?labelSelector=" + queryEscape(label) + "&fieldSelector=" + queryEscape(field)
			want, _ := fetch(t, oracle, path, nil)
			got, _ := fetch(t, server, path, nil)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("%s: -upstream +bytes:\n%s", path, diff)
			}
		}
	})
}

// TestUnreadable: an object that cannot be read makes an error, not half a list.
func TestUnreadable(t *testing.T) {
	t.Parallel()
	c, h := newCluster(t, read.Config{})
	c.fill(t)
	c.putRaw(t, "configmaps", "default", "zz-broken", []byte(`{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":`))
	server, oracle := c.servers(t, h)
	for _, path := range []string{"/api/v1/configmaps", "/api/v1/namespaces/default/configmaps/zz-broken", "/api/v1/configmaps?labelSelector=a%3Db"} {
		for _, accept := range []string{asJSON, asProtobuf} {
			want, _ := fetch(t, oracle, path, map[string]string{"Accept": accept})
			got, way := fetch(t, server, path, map[string]string{"Accept": accept})
			if got.Status != want.Status || got.Status != http.StatusInternalServerError || way != "bytes" {
				t.Errorf("%s %s: status %d by %q, upstream %d", path, accept, got.Status, way, want.Status)
			}
			if !bytes.Contains([]byte(got.Body), []byte("InternalError")) {
				t.Errorf("%s %s: body %.300q", path, accept, got.Body)
			}
		}
	}
}

// TestStoredOtherwise: an object whose bytes do not begin like those of its kind (they were stored in another version,
// or by other hands) is encoded anew, and looks like all others.
func TestStoredOtherwise(t *testing.T) {
	t.Parallel()
	c, h := newCluster(t, read.Config{})
	rv := c.fill(t)
	server, oracle := c.servers(t, h)
	path := fmt.Sprintf("/api/v1/configmaps?watch=true&resourceVersion=%d", rv)
	header := map[string]string{"Accept": asJSON}
	want, got := open(t, oracle, path, header), open(t, server, path, header)
	c.putRaw(t, "configmaps", "default", "cm-odd",
		[]byte(`{ "apiVersion":"v1","data":{"key":"x"}, "kind":"ConfigMap","metadata":{"labels":{"app":"odd"},"name":"cm-odd","namespace":"default"}}`))
	c.script(t)
	if diff := cmp.Diff(want.read(t), got.read(t)); diff != "" {
		t.Errorf("-upstream +bytes:\n%s", diff)
	}
	for _, path := range []string{"/api/v1/configmaps", "/api/v1/namespaces/default/configmaps/cm-odd", "/api/v1/configmaps?labelSelector=app%3Dodd"} {
		for _, accept := range []string{asJSON, asProtobuf} {
			compare(t, server, oracle, path, map[string]string{"Accept": accept}, true)
		}
	}
}
