package server_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/rowlock-io/rowlock/server/controlplane"
	"github.com/rowlock-io/rowlock/server/servertest"
)

// BenchmarkChain measures a get from kept bytes through all filters, by an administrator, who never waits for a seat, and
// by a user who may have to: 130 and 170 allocations.
func BenchmarkChain(b *testing.B) {
	for name, plain := range map[string]bool{"fair": false, "plain": true} {
		s := servertest.Start(b, servertest.Config{Plane: func(c *controlplane.Config) { c.Flow.Plain = plain }})
		letAlice(b, s.Client(b, servertest.Default))
		plane, release, err := s.Clusters.Acquire(b.Context(), servertest.Default)
		if err != nil {
			b.Fatal(err)
		}
		defer release()
		for who, token := range map[string]string{"admin": servertest.AdminToken, "alice": servertest.AliceToken} {
			b.Run(name+"/"+who, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					req := httptest.NewRequest(http.MethodGet, "/api/v1/namespaces/default", http.NoBody)
					req.Header.Set("Authorization", "Bearer "+token)
					w := httptest.NewRecorder()
					plane.Handler().ServeHTTP(w, req)
					if w.Code != http.StatusOK {
						b.Fatal(w.Code, w.Body)
					}
				}
			})
		}
	}
}
