package server_test

import (
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/rowlock-io/rowlock/server/servertest"
	"github.com/rowlock-io/rowlock/storage/memory"
)

func createValidating(t *testing.T, client kubernetes.Interface, hooks ...admissionregistrationv1.ValidatingWebhook) {
	t.Helper()
	must[any](t)(client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Create(t.Context(), validatingConfiguration(hooks...), metav1.CreateOptions{}))
}

func createMutating(t *testing.T, client kubernetes.Interface, hooks ...admissionregistrationv1.MutatingWebhook) {
	t.Helper()
	must[any](t)(client.AdmissionregistrationV1().MutatingWebhookConfigurations().Create(t.Context(), mutatingConfiguration(hooks...), metav1.CreateOptions{}))
}

func TestWebhooksHoldForTheNextWrite(t *testing.T) {
	t.Parallel()
	client := servertest.Start(t, localHooks()).Client(t, servertest.Default)
	change := newHook(t, func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		return patched(`[{"op":"add","path":"/data","value":{"from":"webhook"}}]`)
	})
	check := newHook(t, func(r *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		if !strings.Contains(string(r.Object.Raw), `"from":"webhook"`) {
			return &admissionv1.AdmissionResponse{Result: &metav1.Status{Message: "not changed before it was checked"}}
		}
		return &admissionv1.AdmissionResponse{Allowed: r.Name != "bad", Result: &metav1.Status{Message: "bad name", Code: 418}}
	})
	createMutating(t, client, mutatingHook(change.client(), rulesFor("", "v1", "configmaps")))
	createValidating(t, client, validatingHook(check.client(), rulesFor("", "v1", "configmaps")))
	made, err := makeConfigMap(t.Context(), client, "good", nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"from": "webhook"}, made.Data); diff != "" {
		t.Error(diff)
	}
	_, err = makeConfigMap(t.Context(), client, "bad", nil)
	wantDenied(t, err, `admission webhook "check.example.com" denied the request: bad name`)
	if status, ok := err.(apierrors.APIStatus); !ok || status.Status().Code != 418 {
		t.Errorf("answered %v", err)
	}
	first := check.requests()[0]
	if first.UserInfo.Username != "admin" || first.Operation != admissionv1.Create || first.Namespace != "default" || first.RequestKind.Kind != "ConfigMap" {
		t.Errorf("asked with %+v", first)
	}
}

func TestWebhookHoldsForTheFirstWriteAfterAStart(t *testing.T) {
	t.Parallel()
	db := memory.New()
	cfg := localHooks()
	cfg.Database = db
	first, err := servertest.Open(t.Context(), t.TempDir(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	deny := newHook(t, func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		return &admissionv1.AdmissionResponse{}
	})
	createValidating(t, first.Client(t, servertest.Default), validatingHook(deny.client(), rulesFor("", "v1", "configmaps", admissionregistrationv1.Create)))
	if err := first.Stop(); err != nil {
		t.Fatal(err)
	}
	cfg.Keys = first.Keys
	_, err = makeConfigMap(t.Context(), servertest.Start(t, cfg).Client(t, servertest.Default), "any", nil)
	wantDenied(t, err, `admission webhook "check.example.com" denied the request`)
}

func TestWebhookFailurePolicies(t *testing.T) {
	t.Parallel()
	stuck := make(chan struct{})
	slow := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		select {
		case <-stuck:
		case <-req.Context().Done():
		}
	}))
	t.Cleanup(slow.Close)
	t.Cleanup(func() { close(stuck) })
	for name, c := range map[string]struct {
		policy admissionregistrationv1.FailurePolicyType
		words  string
	}{
		"fail":   {admissionregistrationv1.Fail, `failed calling webhook "check.example.com": failed to call webhook: Post "`},
		"ignore": {admissionregistrationv1.Ignore, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := servertest.Start(t, localHooks()).Client(t, servertest.Default)
			h := validatingHook(clientOf(slow), rulesFor("", "v1", "configmaps"))
			h.FailurePolicy, h.TimeoutSeconds = &c.policy, ptr(int32(1))
			createValidating(t, client, h)
			_, err := makeConfigMap(t.Context(), client, "any", nil)
			if c.words == "" && err != nil {
				t.Error(err)
			}
			if c.words != "" {
				wantDenied(t, err, c.words, "?timeout=1s", "context deadline exceeded")
			}
		})
	}
}

func TestWebhookWithSideEffectsFailsDryRun(t *testing.T) {
	t.Parallel()
	client := servertest.Start(t, localHooks()).Client(t, servertest.Default)
	h := newHook(t, func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse { return nil })
	some := mutatingHook(h.client(), rulesFor("", "v1", "configmaps"))
	some.SideEffects = ptr(admissionregistrationv1.SideEffectClassNoneOnDryRun)
	createMutating(t, client, some)
	dry := metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}
	obj := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "any"}}
	must[any](t)(client.CoreV1().ConfigMaps("default").Create(t.Context(), obj, dry))
	if asked := h.requests(); len(asked) != 1 || !*asked[0].DryRun {
		t.Errorf("asked with %+v", asked)
	}
	if _, err := client.CoreV1().ConfigMaps("default").Get(t.Context(), "any", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("a dry run left something: %v", err)
	}
}

func TestWebhookMatchesEquivalentResources(t *testing.T) {
	t.Parallel()
	client := servertest.Start(t, localHooks()).Client(t, servertest.Default)
	h := newHook(t, func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse { return nil })
	exact := validatingHook(h.client(), rulesFor("", "v1", "events"))
	exact.Name, exact.MatchPolicy = "exact.example.com", ptr(admissionregistrationv1.Exact)
	createValidating(t, client, exact, validatingHook(h.client(), rulesFor("", "v1", "events")))
	must[any](t)(client.EventsV1().Events("default").Create(t.Context(), &eventsv1.Event{
		ObjectMeta: metav1.ObjectMeta{Name: "e"}, EventTime: metav1.NowMicro(), Type: "Normal", Reason: "r", Action: "a",
		ReportingController: "example.com/c", ReportingInstance: "i", Regarding: corev1.ObjectReference{Namespace: "default"},
	}, metav1.CreateOptions{}))
	asked := h.requests()
	if len(asked) != 1 {
		t.Fatalf("asked %d times, want once: not the exact one", len(asked))
	}
	if asked[0].Kind.Group != "" || asked[0].RequestKind.Group != "events.k8s.io" {
		t.Errorf("asked about %v for a request about %v", asked[0].Kind, asked[0].RequestKind)
	}
}

func TestWebhooksAreInvokedAgainAfterChanges(t *testing.T) {
	t.Parallel()
	client := servertest.Start(t, localHooks()).Client(t, servertest.Default)
	first := newHook(t, func(r *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		if strings.Contains(string(r.Object.Raw), `"second":`) {
			return patched(`[{"op":"add","path":"/data/first","value":"saw second"}]`)
		}
		return patched(`[{"op":"add","path":"/data","value":{"first":"alone"}}]`)
	})
	second := newHook(t, func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		return patched(`[{"op":"add","path":"/data/second","value":"here"}]`)
	})
	a, b := mutatingHook(first.client(), rulesFor("", "v1", "configmaps")), mutatingHook(second.client(), rulesFor("", "v1", "configmaps"))
	a.ReinvocationPolicy, b.Name = ptr(admissionregistrationv1.IfNeededReinvocationPolicy), "second.example.com"
	b.MatchConditions = []admissionregistrationv1.MatchCondition{{Name: "named", Expression: `object.metadata.name.startsWith("x")`}}
	createMutating(t, client, a, b)
	for name, want := range map[string]map[string]string{
		"x-two": {"first": "saw second", "second": "here"},
		"one":   {"first": "alone"},
	} {
		made, err := makeConfigMap(t.Context(), client, name, nil)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, made.Data); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestWebhookWarnings(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, localHooks())
	h := newHook(t, func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		return &admissionv1.AdmissionResponse{Allowed: true, Warnings: []string{"mind the gap", strings.Repeat("x", 1<<20)}}
	})
	createValidating(t, s.Client(t, servertest.Default), validatingHook(h.client(), rulesFor("", "v1", "configmaps")))
	resp := wire.Send(t, s.URL, servertest.Request{
		Method: "POST", Path: "/api/v1/namespaces/default/configmaps", Token: servertest.AdminToken,
		Header: http.Header{"Content-Type": {"application/json"}}, Body: `{"metadata":{"name":"any"}}`,
	})
	got := resp.Header.Values("Warning")
	if len(got) != 2 || got[0] != `299 - "mind the gap"` || len(got[1]) > 8<<10 {
		t.Errorf("status %d, %d warnings, the first is %.100q", resp.Status, len(got), strings.Join(got, " "))
	}
}

// Configurations of webhooks and policies are beyond the reach of webhooks, or nobody could take a bad one away.
func TestWebhooksAreNotAskedAboutWebhooks(t *testing.T) {
	t.Parallel()
	client := servertest.Start(t, localHooks()).Client(t, servertest.Default)
	h := newHook(t, func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		return &admissionv1.AdmissionResponse{}
	})
	createValidating(t, client, validatingHook(h.client(), rulesFor("*", "*", "*")))
	createMutating(t, client)
	api := client.AdmissionregistrationV1()
	if err := api.MutatingWebhookConfigurations().Delete(t.Context(), "change", metav1.DeleteOptions{}); err != nil {
		t.Error(err)
	}
	if err := api.ValidatingWebhookConfigurations().Delete(t.Context(), "check", metav1.DeleteOptions{}); err != nil {
		t.Error(err)
	}
	must[any](t)(makeConfigMap(t.Context(), client, "free-again", nil))
}

func TestWebhookOnLoopbackIsNotCalled(t *testing.T) {
	t.Parallel()
	client := servertest.Start(t, servertest.Config{}).Client(t, servertest.Default)
	h := newHook(t, func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse { return nil })
	createValidating(t, client, validatingHook(h.client(), rulesFor("", "v1", "configmaps")))
	_, err := makeConfigMap(t.Context(), client, "any", nil)
	wantDenied(t, err, `failed calling webhook "check.example.com"`, "address not allowed")
	if n := len(h.requests()); n != 0 {
		t.Errorf("called %d times", n)
	}
}

func TestWebhookRedirectIsNotFollowed(t *testing.T) {
	t.Parallel()
	client := servertest.Start(t, localHooks()).Client(t, servertest.Default)
	aim := newHook(t, func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse { return nil })
	for _, code := range []int{http.StatusMovedPermanently, http.StatusFound, http.StatusTemporaryRedirect, http.StatusPermanentRedirect} {
		from := httptest.NewTLSServer(http.RedirectHandler(aim.URL+"/hook", code))
		t.Cleanup(from.Close)
		createValidating(t, client, validatingHook(clientOf(from), rulesFor("", "v1", "configmaps")))
		_, err := makeConfigMap(t.Context(), client, "any", nil)
		wantDenied(t, err, `failed calling webhook "check.example.com"`)
		if n := len(aim.requests()); n != 0 {
			t.Errorf("%d was followed", code)
		}
		if err := client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Delete(t.Context(), "check", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		await(t, "the webhook is forgotten", func() bool {
			_, err := client.CoreV1().ConfigMaps("default").Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "any"}}, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
			return err == nil
		})
	}
}

// A webhook's patch of some hundred bytes that doubles the object again and again must not fill the memory.
func TestWebhookPatchThatCopiesWithoutEndIsRefused(t *testing.T) {
	t.Parallel()
	client := servertest.Start(t, localHooks()).Client(t, servertest.Default)
	bomb := `[{"op":"add","path":"/data","value":{"a":"` + strings.Repeat("x", 100<<10) + `"}}`
	for range 40 {
		bomb += `,{"op":"copy","from":"/data","path":"/data/b"}`
	}
	h := newHook(t, func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse { return patched(bomb + "]") })
	createMutating(t, client, mutatingHook(h.client(), rulesFor("", "v1", "configmaps")))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := makeConfigMap(t.Context(), client, "any", nil)
	runtime.ReadMemStats(&after)
	wantDenied(t, err, "the accumulated size increase of copy is")
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 1<<30 {
		t.Errorf("took %d bytes", grown)
	}
}

func TestWebhookAnswerWithoutEndIsCutOff(t *testing.T) {
	t.Parallel()
	client := servertest.Start(t, localHooks()).Client(t, servertest.Default)
	var sent atomic.Int64
	endless := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		chunk := []byte(strings.Repeat(" ", 1<<20))
		for range 1 << 10 {
			n, err := w.Write(chunk)
			if sent.Add(int64(n)); err != nil {
				return
			}
		}
	}))
	t.Cleanup(endless.Close)
	createMutating(t, client, mutatingHook(clientOf(endless), rulesFor("", "v1", "configmaps")))
	_, err := makeConfigMap(t.Context(), client, "any", nil)
	wantDenied(t, err, `failed calling webhook "change.example.com"`, "too large")
	if sent.Load() > 100<<20 {
		t.Errorf("read %d bytes", sent.Load())
	}
}
