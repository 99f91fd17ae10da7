package encryption_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/rowlock-io/rowlock/server/servertest"
	"github.com/rowlock-io/rowlock/storage/memory"
)

// BenchmarkList lists 5,000 objects of a kilobyte: Secrets, which are encrypted at rest, cost what ConfigMaps cost. The first
// list of a server that has just started decrypts them.
func BenchmarkList(b *testing.B) {
	db := memory.New()
	s := servertest.Start(b, servertest.Config{Database: db})
	client := s.Client(b, servertest.Default)
	value := strings.Repeat("v", 700)
	for i := range 5000 {
		meta := metav1.ObjectMeta{Name: fmt.Sprintf("bench-%d", i)}
		if _, err := client.CoreV1().Secrets("default").Create(b.Context(), &corev1.Secret{ObjectMeta: meta, StringData: map[string]string{"k": value}}, metav1.CreateOptions{}); err != nil {
			b.Fatal(err)
		}
		if _, err := client.CoreV1().ConfigMaps("default").Create(b.Context(), &corev1.ConfigMap{ObjectMeta: meta, Data: map[string]string{"k": value}}, metav1.CreateOptions{}); err != nil {
			b.Fatal(err)
		}
	}
	for _, resource := range []string{"configmaps", "secrets"} {
		b.Run(resource, func(b *testing.B) {
			get := lister(b, s, resource)
			get()
			for b.Loop() {
				get()
			}
		})
	}
	b.Run("first list of secrets", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			get := lister(b, servertest.Start(b, servertest.Config{Database: db, Keys: s.Keys}), "secrets")
			b.StartTimer()
			get()
		}
	})
}

func lister(b *testing.B, s *servertest.Server, resource string) func() {
	cfg := s.Config(servertest.Default, servertest.AdminToken)
	cfg.DisableCompression = true
	client, err := rest.HTTPClientFor(cfg)
	if err != nil {
		b.Fatal(err)
	}
	return func() {
		resp, err := client.Get(cfg.Host + "/api/v1/namespaces/default/" + resource)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
			b.Fatal(resp.Status, err)
		}
		_ = resp.Body.Close()
	}
}
