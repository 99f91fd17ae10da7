package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rowlock-io/rowlock/server/servertest"
)

const jsonPatch = "application/json-patch+json"

// TestTooMuch sends what is too large to be kept in a script.
func TestTooMuch(t *testing.T) {
	t.Parallel()
	server := servertest.Start(t, servertest.Config{})
	const maps, pods = "/api/v1/namespaces/default/configmaps", "/api/v1/namespaces/kube-public/pods"
	pod := `{"metadata":{"name":"p"},"spec":{"automountServiceAccountToken":false,"containers":[{"name":"c","image":"i","command":["%s"]}]}}`
	grow := `[{"op":"add","path":"/metadata/annotations","value":{"a":"` + strings.Repeat("x", 1000) + `"}}`
	for i := range 30 {
		grow += fmt.Sprintf(`,{"op":"copy","from":"/metadata/annotations","path":"/metadata/annotations/b%d"}`, i)
	}
	for _, tt := range []struct {
		name, method, path, mediaType, body string
		status                              int
		reason                              metav1.StatusReason
		message                             string
	}{
		{
			"body", "POST", maps, "", `{"metadata":{"name":"b"},"data":{"a":"` + strings.Repeat("x", 3<<20) + `"}}`,
			413, metav1.StatusReasonRequestEntityTooLarge, "Request entity too large: limit is 3145728",
		},
		{
			"data", "POST", maps, "", `{"metadata":{"name":"b"},"data":{"a":"` + strings.Repeat("x", 1<<20+1) + `"}}`,
			422, metav1.StatusReasonInvalid, "[]: Too long: may not be more than 1048576 bytes",
		},
		{
			"annotations", "POST", maps, "", `{"metadata":{"name":"b","annotations":{"a":"` + strings.Repeat("x", 1<<18+1) + `"}}}`,
			422, metav1.StatusReasonInvalid, "metadata.annotations: Too long: may not be more than 262144 bytes",
		},
		{
			"operations", "PATCH", "/api/v1/namespaces/default", jsonPatch, "[" + strings.Repeat(`{"op":"test","path":"/kind","value":"Namespace"},`, 10000) + `{"op":"test","path":"/kind","value":"Namespace"}]`,
			413, metav1.StatusReasonRequestEntityTooLarge, "The allowed maximum operations in a JSON patch is 10000, got 10001",
		},
		{
			"copies", "PATCH", "/api/v1/namespaces/default", jsonPatch, grow + "]",
			422, metav1.StatusReasonInvalid, "the server rejected our request due to an error in our request",
		},
		{
			"depth", "POST", maps, "", strings.Repeat(`{"a":`, 20000) + "1" + strings.Repeat("}", 20000),
			400, metav1.StatusReasonBadRequest, "exceeded max depth",
		},
		{"large but allowed", "POST", pods, "", fmt.Sprintf(pod, strings.Repeat("x", 2<<20)), 201, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := servertest.Request{Method: tt.method, Path: tt.path, Body: tt.body, Token: servertest.AdminToken, Header: http.Header{"Content-Type": {"application/json"}}}
			if tt.path == pods { // no service account is made without controllers
				wire.Send(t, server.URL, servertest.Request{
					Method: "POST", Path: "/api/v1/namespaces/kube-public/serviceaccounts", Token: servertest.AdminToken,
					Header: r.Header, Body: `{"metadata":{"name":"default"}}`,
				})
			}
			if tt.mediaType != "" {
				r.Header = http.Header{"Content-Type": {tt.mediaType}}
			}
			resp := wire.Send(t, server.URL, r)
			var status struct { // of an object that was made it has nothing
				Reason  metav1.StatusReason
				Message string
			}
			if err := json.Unmarshal([]byte(resp.Body), &status); err != nil {
				t.Fatal(err)
			}
			if resp.Status != tt.status || status.Reason != tt.reason || !strings.Contains(status.Message, tt.message) {
				t.Errorf("%d %s %q", resp.Status, status.Reason, brief(status.Message))
			}
		})
	}
	t.Run("object", func(t *testing.T) { growObject(t, server, pods+"/p") })
}

// growObject patches the pod until it is larger than the store takes.
func growObject(t *testing.T, server *servertest.Server, path string) {
	for i := range 8 {
		condition := fmt.Sprintf(`{"type":"example.com/%d","status":"True","message":"%s"}`, i, strings.Repeat("y", 2<<20))
		patch := `[{"op":"add","path":"/status/conditions/-","value":` + condition + `}]`
		if i == 0 {
			patch = `[{"op":"add","path":"/status/conditions","value":[` + condition + `]}]`
		}
		resp := wire.Send(t, server.URL, servertest.Request{
			Method: "PATCH", Path: path + "/status", Token: servertest.AdminToken, Header: http.Header{"Content-Type": {jsonPatch}}, Body: patch,
		})
		switch resp.Status {
		case http.StatusOK:
			continue
		case http.StatusRequestEntityTooLarge:
			if !strings.Contains(resp.Body, `"reason":"RequestEntityTooLarge"`) || i == 0 {
				t.Errorf("patch %d: %s", i, brief(resp.Body))
			}
			return
		}
		t.Fatalf("patch %d: %d %s", i, resp.Status, brief(resp.Body))
	}
	t.Error("the object has no bound")
}
