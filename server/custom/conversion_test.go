package custom_test

import (
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/rowlock-io/rowlock/server/controlplane"
	"github.com/rowlock-io/rowlock/server/servertest"
)

// converter is a webhook that keeps the color in spec in v1 and at the top in v2.
func converter(t *testing.T, calls *atomic.Int64) *httptest.Server {
	t.Helper()
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		calls.Add(1)
		body, err := io.ReadAll(req.Body)
		var review apiextensions.ConversionReview
		if err == nil {
			err = json.Unmarshal(body, &review)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		resp := &apiextensions.ConversionResponse{UID: review.Request.UID, Result: metav1.Status{Status: metav1.StatusSuccess}}
		for _, raw := range review.Request.Objects {
			u := &unstructured.Unstructured{}
			if err := u.UnmarshalJSON(raw.Raw); err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			if strings.HasSuffix(review.Request.DesiredAPIVersion, "/v2") {
				color, _, _ := unstructured.NestedString(u.Object, "spec", "color")
				unstructured.RemoveNestedField(u.Object, "spec", "color")
				u.Object["paint"] = color
			} else {
				_ = unstructured.SetNestedField(u.Object, u.Object["paint"], "spec", "color")
				delete(u.Object, "paint")
			}
			u.SetAPIVersion(review.Request.DesiredAPIVersion)
			resp.ConvertedObjects = append(resp.ConvertedObjects, runtime.RawExtension{Object: u})
		}
		review.Request, review.Response = nil, resp
		_ = json.NewEncoder(w).Encode(review)
	}))
	t.Cleanup(s.Close)
	return s
}

func certificateOf(s *httptest.Server) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
}

// converted gives a definition a second version, which a webhook converts.
func converted(crd *apiextensions.CustomResourceDefinition, hook *httptest.Server) {
	v2 := crd.Spec.Versions[0].DeepCopy()
	v2.Name, v2.Storage, v2.SelectableFields = "v2", false, nil
	v2.AdditionalPrinterColumns = nil
	spec := v2.Schema.OpenAPIV3Schema.Properties["spec"]
	delete(spec.Properties, "color")
	v2.Schema.OpenAPIV3Schema.Properties["spec"] = spec
	v2.Schema.OpenAPIV3Schema.Properties["paint"] = apiextensions.JSONSchemaProps{Type: "string", Default: &apiextensions.JSON{Raw: []byte(`"green"`)}}
	crd.Spec.Versions = append(crd.Spec.Versions, *v2)
	url := hook.URL + "/convert"
	crd.Spec.Conversion = &apiextensions.CustomResourceConversion{
		Strategy: apiextensions.WebhookConverter,
		Webhook: &apiextensions.WebhookConversion{
			ClientConfig:             &apiextensions.WebhookClientConfig{URL: &url, CABundle: certificateOf(hook)},
			ConversionReviewVersions: []string{"v1"},
		},
	}
}

// A webhook converts between versions, and is not asked about reads of the stored one.
func TestConversion(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	hook := converter(t, &calls)
	c := start(t, servertest.Config{Plane: func(cfg *controlplane.Config) { cfg.Outbound.AllowLoopback = true }})
	c.define(widgets)
	c.change("widgets.example.com", func(crd *apiextensions.CustomResourceDefinition) { converted(crd, hook) })
	v2 := c.dynamic.Resource(widgetsResource.GroupResource().WithVersion("v2")).Namespace("default")
	made, err := v2.Create(t.Context(), object(t, "{apiVersion: example.com/v2, kind: Widget, metadata: {name: a}, spec: {replicas: 2}}"), metav1.CreateOptions{})
	if err != nil || made.Object["paint"] != "green" || specOf(t, made) != `{"replicas":2}` {
		t.Fatalf("created in v2: %v, %v", made, err)
	}
	before := calls.Load()
	got, err := c.widgets().Get(t.Context(), "a", metav1.GetOptions{})
	if err != nil || specOf(t, got) != `{"color":"green","replicas":2}` {
		t.Fatalf("read in v1: %v, %v", got, err)
	}
	if calls.Load() != before {
		t.Error("the webhook was asked about a read of the stored version")
	}
	list, err := v2.List(t.Context(), metav1.ListOptions{})
	if err != nil || len(list.Items) != 1 || list.Items[0].Object["paint"] != "green" {
		t.Errorf("listed in v2: %v, %v", list, err)
	}
	w, err := v2.Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	if e := <-w.ResultChan(); e.Object.(*unstructured.Unstructured).Object["paint"] != "green" {
		t.Errorf("watched in v2: %v", e)
	}
	hook.Close()
	if _, err := c.widgets().List(t.Context(), metav1.ListOptions{}); err != nil {
		t.Errorf("stored version without the webhook: %v", err)
	}
	if _, err := c.widgets().Create(t.Context(), widget(t, "late", "{}"), metav1.CreateOptions{}); err != nil {
		t.Errorf("stored version without the webhook: %v", err)
	}
	if _, err := v2.Get(t.Context(), "late", metav1.GetOptions{}); err == nil || !strings.Contains(err.Error(), "conversion webhook for example.com/v1, Kind=Widget failed") {
		t.Errorf("other version without the webhook: %v", err)
	}
}

// A conversion webhook at an address that only the operator's business is at is never asked.
func TestConversionWebhooksOnLoopback(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	hook := converter(t, &calls)
	c := start(t, servertest.Config{})
	c.define(widgets)
	c.change("widgets.example.com", func(crd *apiextensions.CustomResourceDefinition) { converted(crd, hook) })
	v2 := c.dynamic.Resource(widgetsResource.GroupResource().WithVersion("v2")).Namespace("default")
	if _, err := v2.Create(t.Context(), object(t, "{apiVersion: example.com/v2, kind: Widget, metadata: {name: a}, spec: {replicas: 2}}"), metav1.CreateOptions{}); err == nil {
		t.Error("converted")
	}
	if calls.Load() != 0 {
		t.Errorf("the webhook was asked %d times", calls.Load())
	}
}
