package server_test

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rowlock-io/rowlock/server/controlplane"
	"github.com/rowlock-io/rowlock/server/servertest"
)

const annotatingPolicy = `
metadata: {name: noted.example.com}
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [configmaps]}]
  validations: [{expression: "object.metadata.name != 'evil'", message: "is evil"}]
  auditAnnotations: [{key: name, valueExpression: "'named ' + object.metadata.name"}]
`

func TestAdmissionIsRecorded(t *testing.T) {
	t.Parallel()
	r := newRecording(t, "omitStages: [RequestReceived]\nrules: [{level: Metadata}]", nil, localHooks())
	client := r.Client(t, servertest.Default)
	createPolicy(t, client, annotatingPolicy, bindingOf("noted.example.com", admissionregistrationv1.Audit))
	h := newHook(t, func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		return &admissionv1.AdmissionResponse{Allowed: true, AuditAnnotations: map[string]string{"short": "said", "long": strings.Repeat("x", 1<<20)}}
	})
	createValidating(t, client, validatingHook(h.client(), rulesFor("", "v1", "configmaps", admissionregistrationv1.Create)))
	resp := wire.Send(t, r.URL, servertest.Request{
		Method: "POST", Path: "/api/v1/namespaces/default/configmaps", Token: servertest.AdminToken, Body: `{"metadata":{"name":"evil"}}`,
		Header: http.Header{"Content-Type": {"application/json"}, "Audit-Id": {"of-admission"}},
	})
	if resp.Status != 201 {
		t.Fatalf("%d %s", resp.Status, resp.Body)
	}
	events := r.of(t, "of-admission")
	if len(events) != 1 {
		t.Fatalf("%d events", len(events))
	}
	got := events[0].Annotations
	if n := len(got["check.example.com/long"]); n == 0 || n > 10<<10 {
		t.Errorf("a long annotation has %d bytes", n)
	}
	if failure := got["validation.policy.admission.k8s.io/validation_failure"]; !strings.Contains(failure, `"message":"is evil"`) {
		t.Errorf("validation failure is %q", failure)
	}
	want := map[string]string{"check.example.com/short": "said", "noted.example.com/name": "named evil"}
	for key := range want {
		if diff := cmp.Diff(want[key], got[key]); diff != "" {
			t.Errorf("%s: %s", key, diff)
		}
	}
}

func TestWebhookCallsBelongToTheTraceOfTheRequest(t *testing.T) {
	t.Parallel()
	provider := sdktrace.NewTracerProvider()
	cfg := localHooks()
	local := cfg.Plane
	cfg.Plane = func(c *controlplane.Config) {
		local(c)
		c.Record.Tracer = provider
	}
	s := servertest.Start(t, cfg)
	var said atomic.Pointer[string]
	h := newHook(t, func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse { return nil })
	inner := h.Config.Handler
	h.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		said.Store(ptr(req.Header.Get("Traceparent")))
		inner.ServeHTTP(w, req)
	})
	createValidating(t, s.Client(t, servertest.Default), validatingHook(h.client(), rulesFor("", "v1", "configmaps")))
	id, header := traceOf("d")
	wire.Send(t, s.URL, servertest.Request{
		Method: "POST", Path: "/api/v1/namespaces/default/configmaps", Token: servertest.AdminToken, Header: header, Body: `{"metadata":{"name":"any"}}`,
	})
	got := said.Load()
	if got == nil || !strings.HasPrefix(*got, "00-"+id+"-") || strings.Contains(*got, "-00000000000000ab-") {
		t.Errorf("the webhook was told %v, want a span of the trace %s, which is the request's", got, id)
	}
}

func TestWebhookConnectionsAreUsedAgain(t *testing.T) {
	t.Parallel()
	client := servertest.Start(t, localHooks()).Client(t, servertest.Default)
	h := newHook(t, func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse { return nil })
	var opened atomic.Int64
	counted := httptest.NewUnstartedServer(h.Config.Handler)
	counted.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			opened.Add(1)
		}
	}
	counted.StartTLS()
	t.Cleanup(counted.Close)
	createValidating(t, client, validatingHook(clientOf(counted), rulesFor("", "v1", "configmaps")))
	for _, name := range []string{"a", "b", "c", "d", "e", "f"} {
		must[any](t)(makeConfigMap(t.Context(), client, name, nil))
	}
	if n := opened.Load(); n != 1 {
		t.Errorf("%d connections for %d calls", n, len(h.requests()))
	}
}

const costlyPolicy = `
metadata: {name: costly}
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [configmaps]}]
  validations: [{expression: "object.data.all(a, object.data.all(b, object.data.all(c, object.data.all(d, a + b + c + d != 'x'))))"}]
`

// An expression that takes too long ends at its budget, not when it is done.
func TestPolicyOfEndlessCostEndsAtItsBudget(t *testing.T) {
	t.Parallel()
	client := servertest.Start(t, servertest.Config{}).Client(t, servertest.Default)
	createPolicy(t, client, costlyPolicy, bindingOf("costly"))
	obj := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "big"}, Data: map[string]string{}}
	for i := range 1000 {
		obj.Data[fmt.Sprint("key-", i)] = "v"
	}
	_, err := client.CoreV1().ConfigMaps("default").Create(t.Context(), obj, metav1.CreateOptions{})
	wantDenied(t, err, "ValidatingAdmissionPolicy 'costly'", "cost")
}

// Dashboards know the series of policies and webhooks, which appear with the first of them.
func TestAdmissionMetrics(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, localHooks())
	client := s.Client(t, servertest.Default)
	createPolicy(t, client, nothingNamedEvil, bindingOf("nothing-named-evil"))
	h := newHook(t, func(r *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		return &admissionv1.AdmissionResponse{Allowed: r.Name != "refused"}
	})
	createValidating(t, client, validatingHook(h.client(), rulesFor("", "v1", "configmaps")))
	for _, name := range []string{"fine", "refused", "evil"} {
		_, _ = makeConfigMap(t.Context(), client, name, nil)
	}
	resp := wire.Send(t, s.URL, servertest.Request{Method: "GET", Path: "/metrics", Token: servertest.AdminToken})
	for _, want := range []string{
		`apiserver_admission_webhook_admission_duration_seconds_count{name="check.example.com",operation="CREATE",rejected="true",type="validating"}`,
		`apiserver_admission_webhook_request_total{code="200",name="check.example.com",operation="CREATE",rejected="false",type="validating"}`,
		`apiserver_admission_webhook_rejection_count{error_type="no_error",name="check.example.com",operation="CREATE",rejection_code="400",type="validating"}`,
		`apiserver_validating_admission_policy_check_total{enforcement_action="deny",error_type="invalid_error",policy="nothing-named-evil",policy_binding="nothing-named-evil"}`,
		`apiserver_validating_admission_policy_check_duration_seconds_count{`,
		`apiserver_admission_controller_admission_duration_seconds_count{name="ValidatingAdmissionPolicy",operation="CREATE",rejected="true",type="validate"}`,
	} {
		if !strings.Contains(resp.Body, want) {
			name, _, _ := strings.Cut(want, "{")
			var have []string
			for line := range strings.Lines(resp.Body) {
				if strings.HasPrefix(line, name) && !strings.Contains(line, "_bucket") {
					have = append(have, line)
				}
			}
			t.Errorf("no %s in\n%s", want, strings.Join(have[:min(len(have), 10)], ""))
		}
	}
}
