package custom_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/rowlock-io/rowlock/server/controlplane"
	"github.com/rowlock-io/rowlock/server/servertest"
)

// A conversion webhook that fails, answers nonsense, turns objects into others or never answers is an error of the
// requests that need it, in upstream's words and in bounded time. The stored version goes on.
func TestFailingConversionWebhooks(t *testing.T) {
	t.Parallel()
	changed := func(change func(u *unstructured.Unstructured)) func(http.ResponseWriter, *http.Request, *apiextensions.ConversionReview) {
		return func(w http.ResponseWriter, _ *http.Request, review *apiextensions.ConversionReview) {
			resp := &apiextensions.ConversionResponse{UID: review.Request.UID, Result: metav1.Status{Status: metav1.StatusSuccess}}
			for _, raw := range review.Request.Objects {
				u := &unstructured.Unstructured{}
				if err := u.UnmarshalJSON(raw.Raw); err != nil {
					http.Error(w, err.Error(), http.StatusBadRequest)
					return
				}
				u.SetAPIVersion(review.Request.DesiredAPIVersion)
				change(u)
				resp.ConvertedObjects = append(resp.ConvertedObjects, runtime.RawExtension{Object: u})
			}
			review.Request, review.Response = nil, resp
			_ = json.NewEncoder(w).Encode(review)
		}
	}
	for _, tt := range []struct {
		name, want string
		answer     func(http.ResponseWriter, *http.Request, *apiextensions.ConversionReview)
	}{
		{"error", "the server could not find the requested resource", func(w http.ResponseWriter, _ *http.Request, _ *apiextensions.ConversionReview) {
			http.Error(w, "no", http.StatusNotFound)
		}},
		{"nonsense", "conversion webhook for example.com/v1, Kind=Widget failed: ", func(w http.ResponseWriter, _ *http.Request, _ *apiextensions.ConversionReview) {
			_, _ = w.Write([]byte("<html>"))
		}},
		{"refusal", "cannot be expressed", func(w http.ResponseWriter, _ *http.Request, review *apiextensions.ConversionReview) {
			review.Response = &apiextensions.ConversionResponse{
				UID: review.Request.UID, Result: metav1.Status{Status: metav1.StatusFailure, Message: "cannot be expressed"},
			}
			review.Request = nil
			_ = json.NewEncoder(w).Encode(review)
		}},
		{"nothing", "returned 0 objects, expected 1", func(w http.ResponseWriter, _ *http.Request, review *apiextensions.ConversionReview) {
			review.Response = &apiextensions.ConversionResponse{UID: review.Request.UID, Result: metav1.Status{Status: metav1.StatusSuccess}}
			review.Request = nil
			_ = json.NewEncoder(w).Encode(review)
		}},
		{"another name", "must have the same name", changed(func(u *unstructured.Unstructured) { u.SetName("b") })},
		{"another namespace", "must have the same namespace", changed(func(u *unstructured.Unstructured) { u.SetNamespace("kube-system") })},
		{"another UID", "must have the same UID", changed(func(u *unstructured.Unstructured) { u.SetUID("0") })},
		{"another kind", "invalid kind", changed(func(u *unstructured.Unstructured) { u.SetKind("Gadget") })},
		{"another version", "invalid groupVersion", changed(func(u *unstructured.Unstructured) { u.SetAPIVersion("example.com/v3") })},
		{"no answer", "?timeout=5s", func(_ http.ResponseWriter, req *http.Request, _ *apiextensions.ConversionReview) {
			<-req.Context().Done()
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			hook := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				var review apiextensions.ConversionReview
				if err := json.NewDecoder(req.Body).Decode(&review); err != nil {
					http.Error(w, err.Error(), http.StatusBadRequest)
					return
				}
				tt.answer(w, req, &review)
			}))
			defer hook.Close()
			c := start(t, servertest.Config{Plane: func(cfg *controlplane.Config) {
				cfg.Outbound.AllowLoopback = true
				if tt.name == "no answer" {
					cfg.RequestTimeout = 10 * time.Second
				}
			}})
			c.define(widgets)
			if _, err := c.widgets().Create(t.Context(), widget(t, "a", "{}"), metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			c.change("widgets.example.com", func(crd *apiextensions.CustomResourceDefinition) { converted(crd, hook) })
			v2 := c.dynamic.Resource(widgetsResource.GroupResource().WithVersion("v2")).Namespace("default")
			if got, err := v2.Get(t.Context(), "a", metav1.GetOptions{}); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("read: %v, %v; want %q", got, err, tt.want)
			}
			if _, err := v2.Patch(t.Context(), "a", "application/merge-patch+json", []byte(`{"spec":{"replicas":3}}`), metav1.PatchOptions{}); err == nil {
				t.Error("patched")
			}
			got, err := c.widgets().Get(t.Context(), "a", metav1.GetOptions{})
			if err != nil || specOf(t, got) != `{"color":"red","replicas":1}` {
				t.Errorf("stored version: %v, %v", got, err)
			}
		})
	}
}
