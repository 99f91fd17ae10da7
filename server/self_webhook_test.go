package server_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	admissionregistration "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/rowlock-io/rowlock/server/servertest"
)

// TestWebhookBehindTheServerItself: an aggregated server may serve webhooks, at the Service kubernetes.default.
func TestWebhookBehindTheServerItself(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Config{Plane: withLoopback})
	sample := newSampleServer(t, s.Identity(servertest.Default).FrontProxyCA.Pool())
	register(t, s, sample)
	sample.answerWith(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		_, uid, _ := strings.Cut(string(body), `"uid":"`)
		uid, _, _ = strings.Cut(uid, `"`)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","response":{"uid":"`+uid+`","allowed":false,"status":{"message":"says wardle"}}}`)
	})
	kube := s.Client(t, servertest.Default)
	registerOwn(t, kube, wardlePath+"/reviews")
	await(t, "config maps are denied", func() bool {
		_, err := kube.CoreV1().ConfigMaps("default").Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{GenerateName: "any-"}}, metav1.CreateOptions{})
		if err != nil && !strings.Contains(err.Error(), `admission webhook "deny.example.com" denied the request: says wardle`) {
			t.Fatal(err)
		}
		return err != nil
	})
	if got := sample.got(); len(got) == 0 || got[0].Header.Get("X-Remote-User") != "system:apiserver" {
		t.Errorf("the server behind saw %+v", got)
	}
}

// TestWebhooksDoNotUseTheServersRights: a webhook that is said to be at the cluster's own objects is not called there, where
// the server may do what whoever registered it may not.
func TestWebhooksDoNotUseTheServersRights(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/api/v1/namespaces/default/configmaps", "/apis/apps/v1/namespaces/default/deployments", wardlePath + "/reviews", "/healthz", "/apis"} {
		s := servertest.Start(t, servertest.Config{})
		kube := s.Client(t, servertest.Default)
		registerOwn(t, kube, path)
		await(t, path+" is refused", func() bool {
			_, err := kube.CoreV1().ConfigMaps("default").Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{GenerateName: "any-"}}, metav1.CreateOptions{})
			if err != nil && !strings.Contains(err.Error(), "a webhook behind the service kubernetes must be at an aggregated API server") {
				t.Fatal(err)
			}
			return err != nil
		})
	}
}

// registerOwn makes a webhook at a path of the server itself that has its say about config maps.
func registerOwn(t *testing.T, kube kubernetes.Interface, path string) {
	t.Helper()
	effects, fail := admissionregistration.SideEffectClassNone, admissionregistration.Fail
	_, err := kube.AdmissionregistrationV1().ValidatingWebhookConfigurations().Create(t.Context(), &admissionregistration.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: "wardle"},
		Webhooks: []admissionregistration.ValidatingWebhook{{
			Name: "deny.example.com", SideEffects: &effects, FailurePolicy: &fail, AdmissionReviewVersions: []string{"v1"},
			ClientConfig: admissionregistration.WebhookClientConfig{
				Service: &admissionregistration.ServiceReference{Namespace: "default", Name: "kubernetes", Path: &path},
			},
			Rules: []admissionregistration.RuleWithOperations{{
				Operations: []admissionregistration.OperationType{admissionregistration.Create},
				Rule:       admissionregistration.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"configmaps"}},
			}},
		}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}
