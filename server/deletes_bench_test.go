package server_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/rowlock-io/rowlock/server/servertest"
)

// BenchmarkDeletes measures deletions through all filters and in memory, as an administrator. What is deleted is made while the
// clock stands. Of collections an operation is the whole collection.
func BenchmarkDeletes(b *testing.B) {
	s := servertest.Start(b, servertest.Config{})
	plane, release, err := s.Clusters.Acquire(b.Context(), servertest.Default)
	if err != nil {
		b.Fatal(err)
	}
	defer release()
	send := func(b *testing.B, method, path, body string) {
		b.Helper()
		req := httptest.NewRequest(method, path, strings.NewReader(body))
		req.Header.Set("Authorization", "Bearer "+servertest.AdminToken)
		req.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		plane.Handler().ServeHTTP(w, req)
		if w.Code >= http.StatusBadRequest {
			b.Fatal(w.Code, w.Body)
		}
	}
	send(b, http.MethodPost, "/api/v1/namespaces/default/serviceaccounts", `{"metadata":{"name":"default"}}`)
	const maps, pods = "/api/v1/namespaces/default/configmaps", "/api/v1/namespaces/default/pods"
	configMap := func(name string) string {
		return fmt.Sprintf(`{"metadata":{"name":%q,"labels":{"bench":"delete"}},"data":{"payload":%q}}`, name, strings.Repeat("x", 1024))
	}
	seq := 0
	for _, bm := range []struct {
		name, path string
		n          int // objects; 0: one, by its name
		body       func(name string) string
	}{
		{"configmap", maps, 0, configMap},
		{"pod", pods, 0, webPod},
		{"configmaps", maps, 1000, configMap},
		{"pods", pods, 200, webPod},
	} {
		b.Run(bm.name, func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				b.StopTimer()
				path := bm.path
				for range max(bm.n, 1) {
					seq++
					name := fmt.Sprint("del-", seq)
					send(b, http.MethodPost, bm.path, bm.body(name))
					if bm.n == 0 {
						path = bm.path + "/" + name
					}
				}
				if bm.n > 0 {
					path += "?labelSelector=bench%3Ddelete"
					if bm.path == pods {
						path = bm.path
					}
				}
				b.StartTimer()
				send(b, http.MethodDelete, path, "")
			}
		})
	}
}
