package server_test

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rowlock-io/rowlock/server/servertest"
)

// replies are objects of kinds with simple and not so simple registries.
var replies = []struct{ collection, name, body string }{
	{"/api/v1/namespaces/default/configmaps", "reply", `{"metadata":{"name":"reply"},"data":{"a":"<&>ü\u2028"},"binaryData":{"b":"AAE="}}`},
	{"/api/v1/namespaces/default/secrets", "reply", `{"metadata":{"name":"reply"},"stringData":{"a":"b"}}`},
	{"/api/v1/namespaces/replies/serviceaccounts", "default", `{"metadata":{"name":"default"}}`},
	{"/api/v1/namespaces/default/services", "reply", `{"metadata":{"name":"reply"},"spec":{"ports":[{"port":80}]}}`},
	{"/api/v1/namespaces/default/persistentvolumeclaims", "reply", `{"metadata":{"name":"reply"},"spec":{"accessModes":["ReadWriteOnce"],"resources":{"requests":{"storage":"1024Mi"}}}}`},
	{"/api/v1/namespaces/replies/pods", "reply", `{"metadata":{"name":"reply","labels":{"a":"b"}},"spec":{"serviceAccountName":"runner","containers":[{"name":"c","image":"i","resources":{"limits":{"cpu":"1000m","memory":"0.5Gi"}}}]}}`},
	{"/api/v1/namespaces", "reply", `{"metadata":{"name":"reply"}}`},
	{"/api/v1/nodes", "reply", `{"metadata":{"name":"reply"}}`},
	{"/apis/apps/v1/namespaces/default/deployments", "reply", `{"metadata":{"name":"reply"},"spec":{"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}}`},
	{"/apis/batch/v1/namespaces/default/cronjobs", "reply", `{"metadata":{"name":"reply"},"spec":{"schedule":"* * * * *","jobTemplate":{"spec":{"template":{"spec":{"restartPolicy":"Never","containers":[{"name":"c","image":"i"}]}}}}}}`},
	{"/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers", "reply", `{"metadata":{"name":"reply"},"spec":{"maxReplicas":3,"scaleTargetRef":{"kind":"Deployment","name":"d","apiVersion":"apps/v1"}}}`},
	{"/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers", "reply-2", `{"metadata":{"name":"reply-2"},"spec":{"maxReplicas":3,"scaleTargetRef":{"kind":"Deployment","name":"d","apiVersion":"apps/v1"}}}`},
	{"/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles", "reply", `{"metadata":{"name":"reply"},"rules":[{"apiGroups":[""],"resources":["pods"],"verbs":["get"]}]}`},
	{"/apis/coordination.k8s.io/v1/namespaces/default/leases", "reply", `{"metadata":{"name":"reply"},"spec":{"holderIdentity":"me","renewTime":"2026-01-02T03:04:05.123456Z"}}`},
	{"/apis/networking.k8s.io/v1/namespaces/default/ingresses", "reply", `{"metadata":{"name":"reply"},"spec":{"defaultBackend":{"service":{"name":"s","port":{"number":80}}}}}`},
}

// TestReplies: what a write answers from what it stored equals what encoding its result gives.
func TestReplies(t *testing.T) {
	client := shared.Client(t, "default").CoreV1()
	if _, err := client.Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "replies"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	runner := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "runner"}}
	if _, err := client.ServiceAccounts("replies").Create(t.Context(), runner, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	// A weight makes the way to the same encoding another: such requests are encoded anew.
	const stored, encoded = "application/json", "application/json;q=0.9"
	for _, tt := range replies {
		t.Run(tt.collection, func(t *testing.T) {
			ask := func(method, path, accept, contentType, body string) string {
				t.Helper()
				resp := wire.Send(t, shared.URL, servertest.Request{
					Method: method, Path: path, Body: body, Token: servertest.AdminToken,
					Header: http.Header{"Accept": {accept}, "Content-Type": {contentType}},
				})
				if resp.Status >= http.StatusMultipleChoices {
					t.Fatalf("%s %s: %d %s", method, path, resp.Status, resp.Body)
				}
				if got := resp.Header.Get("Content-Type"); got != "application/json" {
					t.Fatalf("%s %s: content type %q", method, path, got)
				}
				return resp.Body
			}
			same := func(what, got, want string) {
				t.Helper()
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%s: -encoded +stored:\n%s", what, diff)
				}
			}
			one := tt.collection + "/" + tt.name
			const merge = "application/merge-patch+json"
			created := ask(http.MethodPost, tt.collection, stored, "application/json", tt.body)
			same("create", created, ask(http.MethodPatch, one, encoded, merge, `{}`))
			var object map[string]any
			if err := json.Unmarshal([]byte(created), &object); err != nil {
				t.Fatal(err)
			}
			meta := object["metadata"].(map[string]any)
			meta["annotations"] = map[string]string{"x": "<y>"}
			body, err := json.Marshal(object)
			if err != nil {
				t.Fatal(err)
			}
			updated := ask(http.MethodPut, one, stored, "application/json", string(body))
			same("update", updated, ask(http.MethodPatch, one, encoded, merge, `{}`))
			patched := ask(http.MethodPatch, one, stored, merge, `{"metadata":{"labels":{"p":"q"}}}`)
			same("patch", patched, ask(http.MethodPatch, one, encoded, merge, `{}`))
			same("patch without a change", ask(http.MethodPatch, one, stored, merge, `{}`), patched)
			same("indented", ask(http.MethodPatch, one+"?pretty=true", stored, merge, `{}`), ask(http.MethodPatch, one+"?pretty=true", encoded, merge, `{}`))
			ask(http.MethodDelete, one, stored, "application/json", `{}`)
		})
	}
}
