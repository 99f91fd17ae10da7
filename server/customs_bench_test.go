package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/rowlock-io/rowlock/server/servertest"
)

// gadgets defines a kind that is like ConfigMap in size.
const gadgets = `{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"gadgets.example.com"},"spec":{` +
	`"group":"example.com","scope":"Namespaced","names":{"plural":"gadgets","singular":"gadget","kind":"Gadget","listKind":"GadgetList"},` +
	`"versions":[{"name":"v1","served":true,"storage":true,"subresources":{"status":{}},"schema":{"openAPIV3Schema":{"type":"object","properties":{` +
	`"spec":{"type":"object","properties":{"payload":{"type":"string","maxLength":4096},"seq":{"type":"string"},"size":{"type":"integer","default":1,"minimum":1}},` +
	`"x-kubernetes-validations":[{"rule":"self.size >= 1"}]},` +
	`"status":{"type":"object","properties":{"phase":{"type":"string"},"conditions":{"type":"array","x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["type"],` +
	`"items":{"type":"object","required":["type"],"properties":{"type":{"type":"string"},"status":{"type":"string"}}}}}}}}}}]}}`

// gadget is one with a kilobyte.
func gadget(name string, seq int) string {
	return fmt.Sprintf(`{"apiVersion":"example.com/v1","kind":"Gadget","metadata":{"name":%q,"labels":{"app":"bench"}},"spec":{"payload":%q,"seq":"%d"}}`,
		name, strings.Repeat("x", 1024), seq)
}

const countedGadgets = "/apis/example.com/v1/namespaces/default/gadgets"

// defineGadgets defines them by requests, and waits until they are served.
func defineGadgets(t testing.TB, send func(method, path, kind, body string) *httptest.ResponseRecorder) {
	t.Helper()
	if w := send(http.MethodPost, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", "application/json", gadgets); w.Code != http.StatusCreated {
		t.Fatal(w.Code, w.Body)
	}
	for range 1000 {
		if w := send(http.MethodGet, countedGadgets, "", ""); w.Code == http.StatusOK {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("the gadgets are not served")
}

// BenchmarkCustoms measures requests for custom objects through all filters and into memory, as an administrator.
func BenchmarkCustoms(b *testing.B) {
	s := servertest.Start(b, servertest.Config{})
	plane, release, err := s.Clusters.Acquire(b.Context(), servertest.Default)
	if err != nil {
		b.Fatal(err)
	}
	defer release()
	answered := func(method, path, kind, body string) *httptest.ResponseRecorder {
		req := httptest.NewRequest(method, path, strings.NewReader(body))
		req.Header.Set("Authorization", "Bearer "+servertest.AdminToken)
		if kind != "" {
			req.Header.Set("Content-Type", kind)
		}
		w := httptest.NewRecorder()
		plane.Handler().ServeHTTP(w, req)
		return w
	}
	defineGadgets(b, answered)
	send := func(b *testing.B, method, path, kind, body string) {
		b.Helper()
		if w := answered(method, path, kind, body); w.Code >= http.StatusBadRequest {
			b.Fatal(w.Code, w.Body)
		}
	}
	one := countedGadgets + "/one"
	send(b, http.MethodPost, countedGadgets, inJSON, gadget("one", 0))
	version := func(b *testing.B) string { // of the one
		b.StopTimer()
		defer b.StartTimer()
		var read struct {
			Metadata struct{ ResourceVersion string }
		}
		if err := json.Unmarshal(answered(http.MethodGet, one, "", "").Body.Bytes(), &read); err != nil {
			b.Fatal(err)
		}
		return read.Metadata.ResourceVersion
	}
	seq := 0
	for _, bm := range []struct {
		name, method, path, kind string
		body                     func(b *testing.B) string
	}{
		{"get", http.MethodGet, one, "", func(b *testing.B) string { return "" }},
		{"list", http.MethodGet, countedGadgets, "", func(b *testing.B) string { return "" }},
		{"create", http.MethodPost, countedGadgets, inJSON, func(b *testing.B) string { return gadget(fmt.Sprintf("g-%d", seq), seq) }},
		{"update", http.MethodPut, one, inJSON, func(b *testing.B) string {
			return strings.Replace(gadget("one", seq), `"metadata":{`, fmt.Sprintf(`"metadata":{"resourceVersion":%q,`, version(b)), 1)
		}},
		{"merge", http.MethodPatch, one, "application/merge-patch+json", func(b *testing.B) string { return fmt.Sprintf(`{"spec":{"seq":"%d"}}`, seq) }},
		{"status merge", http.MethodPatch, one + "/status", "application/merge-patch+json", func(b *testing.B) string { return fmt.Sprintf(`{"status":{"phase":"%d"}}`, seq) }},
		{"apply", http.MethodPatch, one + "?fieldManager=bench-apply&force=true", "application/apply-patch+yaml", func(b *testing.B) string {
			return fmt.Sprintf(`{"apiVersion":"example.com/v1","kind":"Gadget","metadata":{"name":"one","labels":{"apply":"v%d"}}}`, seq)
		}},
		{"delete", http.MethodDelete, "", "", func(b *testing.B) string { return "" }},
	} {
		b.Run(strings.ReplaceAll(bm.name, " ", "-"), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				seq++
				path := bm.path
				if path == "" {
					b.StopTimer()
					path = fmt.Sprintf("%s/d-%d", countedGadgets, seq)
					send(b, http.MethodPost, countedGadgets, inJSON, gadget(fmt.Sprintf("d-%d", seq), seq))
					b.StartTimer()
				}
				send(b, bm.method, path, bm.kind, bm.body(b))
			}
		})
	}
}
