package server_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/rowlock-io/rowlock/server/servertest"
)

const webContainer = `{"name":%q,"image":%q,"command":["/bin/server"],"args":["--listen=:8080","--log-level=info"],` +
	`"ports":[{"name":"http","containerPort":8080}],` +
	`"env":[{"name":"POD_NAME","valueFrom":{"fieldRef":{"fieldPath":"metadata.name"}}},{"name":"REGION","value":"eu-north-1"}],` +
	`"resources":{"requests":{"cpu":"100m","memory":"128Mi"},"limits":{"cpu":"500m","memory":"256Mi"}},` +
	`"livenessProbe":{"httpGet":{"path":"/healthz","port":"http"},"initialDelaySeconds":10},` +
	`"readinessProbe":{"httpGet":{"path":"/readyz","port":"http"}},` +
	`"volumeMounts":[{"name":"config","mountPath":"/etc/app"}],` +
	`"securityContext":{"runAsNonRoot":true,"capabilities":{"drop":["ALL"]}}}`

// webPod is a pod of two containers as a Deployment makes it, about 2 KB.
func webPod(name string) string {
	return fmt.Sprintf(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":%q,"labels":{"app":"web","pod-template-hash":"5d4f8c7b9"}},`+
		`"spec":{"automountServiceAccountToken":false,"serviceAccountName":"default","containers":[%s,%s],`+
		`"volumes":[{"name":"config","configMap":{"name":"web-config"}}]}}`,
		name, fmt.Sprintf(webContainer, "web", "registry.example.com/web:v1"), fmt.Sprintf(webContainer, "proxy", "registry.example.com/proxy:v2"))
}

// podStatus is the patch that a kubelet sends when the containers have started.
func podStatus(seq int) string {
	var conditions, states []string
	for _, c := range []string{"Initialized", "Ready", "ContainersReady", "PodScheduled"} {
		conditions = append(conditions, fmt.Sprintf(`{"type":%q,"status":"True","lastProbeTime":null,"lastTransitionTime":"2026-01-02T03:04:05Z","message":"%d"}`, c, seq))
	}
	for _, c := range []string{"web", "proxy"} {
		states = append(states, fmt.Sprintf(`{"name":%q,"ready":true,"started":true,"restartCount":%d,"image":"registry.example.com/x","imageID":"registry.example.com/x@sha256:00",`+
			`"containerID":"containerd://00","state":{"running":{"startedAt":"2026-01-02T03:04:05Z"}},"lastState":{}}`, c, seq))
	}
	return fmt.Sprintf(`{"status":{"phase":"Running","hostIP":"192.0.2.7","podIP":"192.0.2.8","podIPs":[{"ip":"192.0.2.8"}],"startTime":"2026-01-02T03:04:05Z",`+
		`"conditions":[%s],"containerStatuses":[%s]}}`, strings.Join(conditions, ","), strings.Join(states, ","))
}

// BenchmarkWrites measures writes through all filters and into memory, as an administrator.
func BenchmarkWrites(b *testing.B) {
	s := servertest.Start(b, servertest.Config{})
	plane, release, err := s.Clusters.Acquire(b.Context(), servertest.Default)
	if err != nil {
		b.Fatal(err)
	}
	defer release()
	send := func(b *testing.B, method, path, kind, body string) {
		b.Helper()
		req := httptest.NewRequest(method, path, strings.NewReader(body))
		req.Header.Set("Authorization", "Bearer "+servertest.AdminToken)
		req.Header.Set("Content-Type", kind)
		w := httptest.NewRecorder()
		plane.Handler().ServeHTTP(w, req)
		if w.Code >= http.StatusBadRequest {
			b.Fatal(w.Code, w.Body)
		}
	}
	const (
		pods, one = "/api/v1/namespaces/default/pods", "/api/v1/namespaces/default/pods/one"
		maps      = "/api/v1/namespaces/default/configmaps"
		json      = "application/json"
		strategic = "application/strategic-merge-patch+json"
	)
	send(b, http.MethodPost, "/api/v1/namespaces/default/serviceaccounts", json, `{"metadata":{"name":"default"}}`)
	send(b, http.MethodPost, pods, json, webPod("one"))
	send(b, http.MethodPatch, one+"/status", strategic, podStatus(0))
	seq := 0
	for _, bm := range []struct {
		name, method, path, kind string
		body                     func() string
	}{
		{"configmap create", http.MethodPost, maps, json, func() string {
			return fmt.Sprintf(`{"metadata":{"name":"cm-%d","labels":{"app":"bench"}},"data":{"payload":%q}}`, seq, strings.Repeat("x", 1024))
		}},
		{"configmap update", http.MethodPut, maps + "/cm-1", json, func() string {
			return fmt.Sprintf(`{"metadata":{"name":"cm-1","labels":{"app":"bench"}},"data":{"payload":%q,"seq":"%d"}}`, strings.Repeat("x", 1024), seq)
		}},
		{"pod create", http.MethodPost, pods, json, func() string { return webPod(fmt.Sprintf("pod-%d", seq)) }},
		{"pod status strategic", http.MethodPatch, one + "/status", strategic, func() string { return podStatus(seq) }},
		{"pod labels strategic", http.MethodPatch, one, strategic, func() string { return fmt.Sprintf(`{"metadata":{"labels":{"strategic":"v%d"}}}`, seq) }},
		{"pod labels merge", http.MethodPatch, one, "application/merge-patch+json", func() string { return fmt.Sprintf(`{"metadata":{"labels":{"merge":"v%d"}}}`, seq) }},
		{"pod labels apply", http.MethodPatch, one + "?fieldManager=bench-apply&force=true", "application/apply-patch+yaml", func() string {
			return fmt.Sprintf(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"one","labels":{"apply":"v%d"}}}`, seq)
		}},
	} {
		b.Run(strings.ReplaceAll(bm.name, " ", "-"), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				seq++
				send(b, bm.method, bm.path, bm.kind, bm.body())
			}
		})
	}
}
