package read_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rowlock-io/rowlock/server/read"
)

// sentinel is in the last event that every watch of the table sees.
const sentinel = "the-end-of-the-script"

// stream is a watch being read.
type stream struct {
	answer
	way    string
	proto  bool
	body   *bufio.Reader
	cancel context.CancelFunc
}

func open(t testing.TB, server *httptest.Server, path string, header map[string]string) *stream {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableCompression: true, DisableKeepAlives: true}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); resp.Body.Close() })
	s := &stream{body: bufio.NewReader(resp.Body), cancel: cancel, way: resp.Header.Get(wayHeader)}
	resp.Header.Del(wayHeader)
	resp.Header.Del("Date")
	s.Status, s.Header = resp.StatusCode, resp.Header
	s.proto = strings.HasPrefix(resp.Header.Get("Content-Type"), asProtobuf)
	return s
}

// frame reads one event as it came over the wire; io.EOF at a clean end.
func (s *stream) frame() (string, error) {
	if !s.proto {
		return s.body.ReadString('\n')
	}
	var head [4]byte
	if _, err := io.ReadFull(s.body, head[:]); err != nil {
		return "", err
	}
	data := make([]byte, binary.BigEndian.Uint32(head[:]))
	_, err := io.ReadFull(s.body, data)
	return string(head[:]) + string(data), err
}

// read reads up to the sentinel or the end of the stream.
func (s *stream) read(t testing.TB) []string {
	t.Helper()
	var all []string
	for {
		f, err := s.frame()
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatalf("after %d frames: %v", len(all), err)
		}
		if all = append(all, f); strings.Contains(f, sentinel) {
			return all
		}
	}
}

var watches = []struct {
	path   string // RV stands for the revision after the cluster was filled
	header map[string]string
	other  bool
}{
	{path: "/api/v1/configmaps?watch=true&resourceVersion=RV"},
	{path: "/api/v1/configmaps?watch=1&resourceVersion=RV&allowWatchBookmarks=true"},
	{path: "/api/v1/configmaps?watch=true&resourceVersion=RV&timeoutSeconds=600"},
	{path: "/api/v1/configmaps?watch=true&resourceVersion=RV&labelSelector=half%3D1"},
	{path: "/api/v1/configmaps?watch=true&resourceVersion=RV&labelSelector=app%3Dweb,half+notin+(0)"},
	{path: "/api/v1/configmaps?watch=true&resourceVersion=RV&fieldSelector=metadata.name%3Dcm-03"},
	{path: "/api/v1/configmaps?watch=true&resourceVersion=RV&fieldSelector=metadata.namespace%3Ddefault"},
	{path: "/api/v1/configmaps?watch=true&resourceVersion=RV", header: map[string]string{"User-Agent": "curl/8"}},
	{path: "/api/v1/configmaps?watch=true&resourceVersion=RV", header: map[string]string{"Accept": asJSON + ";stream=watch"}},
	{path: "/api/v1/configmaps?watch=true&resourceVersion=RV", header: map[string]string{"Accept": asProtobuf + ";stream=watch"}},
	{path: "/api/v1/configmaps?watch=true&resourceVersion=RV&pretty=true"},
	{path: "/api/v1/configmaps?watch=true&resourceVersion=7"},
	{path: "/api/v1/configmaps?watch=true"},
	{path: "/api/v1/configmaps?watch=true&allowWatchBookmarks=true"},
	{path: "/api/v1/configmaps?watch=true&resourceVersion=0"},
	{path: "/api/v1/configmaps?watch=true&resourceVersion=0&allowWatchBookmarks=true&labelSelector=half%3D1"},
	{path: "/api/v1/configmaps?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"},
	{path: "/api/v1/configmaps?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&resourceVersion=RV&allowWatchBookmarks=true"},
	{path: "/api/v1/configmaps?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"},
	{path: "/api/v1/configmaps?watch=true&sendInitialEvents=false&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"},
	{path: "/api/v1/configmaps?watch=true&sendInitialEvents=false&resourceVersionMatch=NotOlderThan&resourceVersion=RV"},
	{path: "/api/v1/configmaps?watch=true&resourceVersion=1000000"},
	{path: "/api/v1/configmaps?watch=true&resourceVersion=1000000&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"},
	{path: "/api/v1/configmaps?watch=true&resourceVersion=x", other: true},
	{path: "/api/v1/configmaps?watch=true&resourceVersionMatch=Exact", other: true},
	{path: "/api/v1/configmaps?watch=true&sendInitialEvents=true", other: true},
	{path: "/api/v1/configmaps?watch=true&fieldSelector=no.such%3Dfield", other: true},
	{path: "/api/v1/configmaps?watch=true&resourceVersion=RV&continue=what&limit=3"},
	{path: "/api/v1/configmaps?watch=true&resourceVersion=RV", header: map[string]string{"Accept": asJSON + ";as=Table;g=meta.k8s.io;v=v1"}, other: true},
	{path: "/api/v1/configmaps?watch=true&resourceVersion=RV", header: map[string]string{"Accept": asJSON + ";as=PartialObjectMetadata;g=meta.k8s.io;v=v1"}, other: true},
	{path: "/api/v1/configmaps?watch=true", header: map[string]string{"Accept": "application/yaml"}, other: true},
	{path: "/api/v1/namespaces/default/configmaps?watch=true&resourceVersion=RV"},
	{path: "/api/v1/namespaces/default/configmaps?watch=true&allowWatchBookmarks=true&fieldSelector=metadata.name%3Dcm-03"},
	{path: "/api/v1/namespaces/default/configmaps?watch=true&resourceVersion=RV&fieldSelector=metadata.name!%3Dcm-04"},
	{path: "/api/v1/watch/namespaces/default/configmaps/cm-03?resourceVersion=RV", other: true},
	{path: "/api/v1/pods?watch=true&resourceVersion=RV&fieldSelector=spec.nodeName%3Dnode-1"},
	{path: "/api/v1/pods?watch=true&allowWatchBookmarks=true&fieldSelector=spec.nodeName%3Dnode-1"},
	{path: "/api/v1/namespaces?watch=true&allowWatchBookmarks=true"},
	{path: "/api/v1/namespaces?watch=true&resourceVersion=RV&fieldSelector=metadata.name%3Dkube-system"},
}

// script makes every kind of change, into and out of the table's selectors.
func (c *cluster) script(t testing.TB) {
	t.Helper()
	odd, even := map[string]string{"app": "web", "half": "1"}, map[string]string{"app": "web", "half": "0"}
	c.put(t, "configmaps", stored(configMap("default", "new", odd, "created")))
	c.put(t, "configmaps", stored(configMap("default", "new", even, "leaves")))
	c.put(t, "configmaps", stored(configMap("default", "new", even, "elsewhere")))
	c.put(t, "configmaps", stored(configMap("default", "new", odd, "enters")))
	c.put(t, "configmaps", stored(configMap("kube-system", "cm-03", even, "namesake")))
	c.remove(t, "configmaps", "default", "new")
	c.remove(t, "configmaps", "default", "cm-04")
	c.remove(t, "configmaps", "default", "cm-03")
	c.put(t, "configmaps", stored(configMap("default", "cm-03", odd, "again")))
	c.put(t, "pods", stored(pod("default", "pod-01", "node-2", odd)))
	c.put(t, "pods", stored(pod("default", "pod-02", "node-1", odd)))
	c.remove(t, "pods", "default", "pod-02")
	last := map[string]string{"app": "web", "half": "1", "note": sentinel} // labels are in every form of an object
	c.put(t, "configmaps", stored(configMap("default", "cm-03", last, "last")))
	c.put(t, "pods", stored(pod("default", "pod-04", "node-1", last)))
	ns := namespace("kube-system")
	ns.Labels = last
	c.put(t, "namespaces", stored(ns))
}

// TestWatchSameAsUpstream compares all frames of a watch with upstream's, byte for byte.
func TestWatchSameAsUpstream(t *testing.T) {
	t.Parallel()
	c, h := newCluster(t, read.Config{})
	rv := fmt.Sprint(c.fill(t))
	bytes, oracle := c.servers(t, h)
	type pair struct {
		name      string
		other     bool
		want, got *stream
	}
	var pairs []pair
	for _, tt := range watches {
		for _, accept := range []string{asJSON, asProtobuf} {
			header := map[string]string{"Accept": accept, "User-Agent": "test"}
			for k, v := range tt.header {
				header[k] = v
			}
			if tt.header["Accept"] != "" && accept != asJSON {
				continue
			}
			path := strings.ReplaceAll(tt.path, "RV", rv)
			pairs = append(pairs, pair{
				name: tt.path + " " + header["Accept"], other: tt.other,
				want: open(t, oracle, path, header), got: open(t, bytes, path, header),
			})
		}
	}
	c.script(t)
	for _, p := range pairs {
		t.Run(p.name, func(t *testing.T) {
			if (p.got.way == "bytes") == p.other {
				t.Errorf("answered by %q, from bytes wanted: %v", p.got.way, !p.other)
			}
			if diff := cmp.Diff(p.want.answer, p.got.answer); diff != "" {
				t.Errorf("-upstream +bytes:\n%s", diff)
			}
			if p.want.Status != http.StatusOK {
				return
			}
			want, got := p.want.read(t), p.got.read(t)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-upstream +bytes:\n%s", diff)
			}
			if len(want) == 0 {
				t.Error("the watch saw nothing")
			}
		})
	}
}
