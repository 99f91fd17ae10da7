package custom_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"k8s.io/apiextensions-apiserver/pkg/apihelpers"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/utils/ptr"

	"github.com/rowlock-io/rowlock/server/controlplane"
	"github.com/rowlock-io/rowlock/server/servertest"
)

// A rule that could cost too much is refused with its definition.
func TestExpensiveRulesAreRefused(t *testing.T) {
	t.Parallel()
	c := start(t, servertest.Config{})
	crd := definition(t, widgets)
	spec := crd.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"]
	text := apiextensions.JSONSchemaProps{Type: "string"}
	list := apiextensions.JSONSchemaProps{Type: "array", Items: &apiextensions.JSONSchemaPropsOrArray{Schema: &text}}
	list.XValidations = apiextensions.ValidationRules{{Rule: "self.all(a, self.all(b, self.all(c, a + b != c)))"}}
	spec.Properties["words"] = list
	_, err := c.defs.ApiextensionsV1().CustomResourceDefinitions().Create(t.Context(), crd, metav1.CreateOptions{})
	const want = "estimated rule cost exceeds budget by factor of more than 100x (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
	if !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), want) {
		t.Errorf("unbounded: %v", err)
	}
	text.MaxLength = ptr.To[int64](4)
	list.MaxItems = ptr.To[int64](4)
	spec.Properties["words"] = list
	if _, err := c.defs.ApiextensionsV1().CustomResourceDefinitions().Create(t.Context(), crd, metav1.CreateOptions{}); err != nil {
		t.Errorf("bounded: %v", err)
	}
}

// Definitions in Kubernetes' own groups need an approval, and say in a condition what it is.
func TestAPIApprovalPolicy(t *testing.T) {
	t.Parallel()
	c := start(t, servertest.Config{})
	approved := func(plural, annotation string) *apiextensions.CustomResourceDefinition {
		crd := definition(t, strings.NewReplacer("example.com", "example.k8s.io", "widget", plural, "Widget", strings.ToUpper(plural[:1])+plural[1:],
			"wd", plural[:2]).Replace(widgets))
		if annotation != "" {
			crd.Annotations = map[string]string{apiextensions.KubeAPIApprovedAnnotation: annotation}
		}
		return crd
	}
	defs := c.defs.ApiextensionsV1().CustomResourceDefinitions()
	if _, err := defs.Create(t.Context(), approved("none", ""), metav1.CreateOptions{}); !apierrors.IsInvalid(err) ||
		!strings.Contains(err.Error(), "protected groups must have approval annotation") {
		t.Errorf("without approval: %v", err)
	}
	for plural, tt := range map[string]struct {
		annotation, reason string
		status             apiextensions.ConditionStatus
	}{
		"good": {"https://github.com/kubernetes/kubernetes/pull/1", "ApprovedAnnotation", apiextensions.ConditionTrue},
		"test": {"unapproved, a test", "UnapprovedAnnotation", apiextensions.ConditionFalse},
	} {
		crd, err := defs.Create(t.Context(), approved(plural, tt.annotation), metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		c.eventually("condition of "+plural, func(ctx context.Context) (bool, error) {
			got, err := defs.Get(ctx, crd.Name, metav1.GetOptions{})
			if err != nil {
				return false, err
			}
			cond := apihelpers.FindCRDCondition(got, apiextensions.KubernetesAPIApprovalPolicyConformant)
			return cond != nil && cond.Status == tt.status && cond.Reason == tt.reason, nil
		})
	}
}

// Of two definitions that want one name the first has it, until it goes.
func TestNamesInConflict(t *testing.T) {
	t.Parallel()
	c := start(t, servertest.Config{})
	c.define(widgets)
	other := definition(t, strings.ReplaceAll(strings.ReplaceAll(widgets, "widgets", "gadgets"), "singular: widget", "singular: gadget"))
	other.Spec.Names.ShortNames = nil
	defs := c.defs.ApiextensionsV1().CustomResourceDefinitions()
	if _, err := defs.Create(t.Context(), other, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.eventually("refusal", func(ctx context.Context) (bool, error) {
		crd, err := defs.Get(ctx, other.Name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		cond := apihelpers.FindCRDCondition(crd, apiextensions.NamesAccepted)
		return cond != nil && cond.Status == apiextensions.ConditionFalse && strings.Contains(cond.Reason, "KindConflict") &&
			strings.Contains(cond.Message, `is already in use`) && !apihelpers.IsCRDConditionTrue(crd, apiextensions.Established), nil
	})
	gadgets := c.dynamic.Resource(widgetsResource.GroupVersion().WithResource("gadgets")).Namespace("default")
	if _, err := gadgets.List(t.Context(), metav1.ListOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("served without its names: %v", err)
	}
	if err := defs.Delete(t.Context(), "widgets.example.com", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.await(other.Name, apiextensions.Established)
	if _, err := gadgets.List(t.Context(), metav1.ListOptions{}); err != nil {
		t.Errorf("not served with its names: %v", err)
	}
}

// Rules that compare with the object before hold for changes; rules that came later hold for what is changed.
func TestRulesRatchet(t *testing.T) {
	t.Parallel()
	c := start(t, servertest.Config{})
	c.define(widgets)
	if _, err := c.widgets().Create(t.Context(), widget(t, "a", "{replicas: 5}"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.change("widgets.example.com", func(crd *apiextensions.CustomResourceDefinition) {
		spec := crd.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"]
		replicas := spec.Properties["replicas"]
		replicas.XValidations = apiextensions.ValidationRules{
			{Rule: "self >= oldSelf", Message: "may not shrink"}, {Rule: "self != 5 && self != 7", Message: "neither 5 nor 7"},
		}
		spec.Properties["replicas"] = replicas
	})
	for _, step := range []struct{ patch, want string }{
		{`{"metadata":{"labels":{"a":"b"}}}`, ""},
		{`{"spec":{"color":"blue"}}`, ""},
		{`{"spec":{"replicas":4}}`, "may not shrink"},
		{`{"spec":{"replicas":7}}`, "neither 5 nor 7"},
		{`{"spec":{"replicas":8}}`, ""},
		{`{"spec":{"replicas":6}}`, "may not shrink"},
	} {
		_, err := c.widgets().Patch(t.Context(), "a", types.MergePatchType, []byte(step.patch), metav1.PatchOptions{})
		if step.want == "" && err != nil || step.want != "" && (!apierrors.IsInvalid(err) || !strings.Contains(err.Error(), step.want)) {
			t.Errorf("%s: %v, want %q", step.patch, err, step.want)
		}
	}
}

// A version in which objects may be stored stays in the definition until its status says that none are.
func TestStoredVersionsAreKept(t *testing.T) {
	t.Parallel()
	c := start(t, servertest.Config{})
	c.define(widgets)
	defs := c.defs.ApiextensionsV1().CustomResourceDefinitions()
	c.change("widgets.example.com", func(crd *apiextensions.CustomResourceDefinition) {
		v2 := *crd.Spec.Versions[0].DeepCopy()
		v2.Name = "v2"
		crd.Spec.Versions[0].Storage = false
		crd.Spec.Versions = append(crd.Spec.Versions, v2)
	})
	withoutV1 := func() error {
		crd, err := defs.Get(t.Context(), "widgets.example.com", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		crd.Spec.Versions = crd.Spec.Versions[1:]
		_, err = defs.Update(t.Context(), crd, metav1.UpdateOptions{})
		return err
	}
	if err := withoutV1(); !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "status.storedVersions[0]") {
		t.Errorf("removed a stored version: %v", err)
	}
	crd, err := defs.Get(t.Context(), "widgets.example.com", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	crd.Status.StoredVersions = []string{"v2"}
	if _, err := defs.UpdateStatus(t.Context(), crd, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := withoutV1(); err != nil {
		t.Errorf("removed a version that is not stored: %v", err)
	}
}

// A conversion webhook that never answers ends the watches that need it in bounded time, and holds up no others.
func TestConversionWebhookHangsDuringWatch(t *testing.T) {
	t.Parallel()
	hook := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		_ = json.NewDecoder(req.Body).Decode(&apiextensions.ConversionReview{}) // so that the end of the connection is noticed
		<-req.Context().Done()
	}))
	defer hook.Close()
	c := start(t, servertest.Config{Plane: func(cfg *controlplane.Config) {
		cfg.Outbound.AllowLoopback = true
		cfg.RequestTimeout = 6 * time.Second
	}})
	c.define(widgets)
	c.change("widgets.example.com", func(crd *apiextensions.CustomResourceDefinition) { converted(crd, hook) })
	list, err := c.widgets().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	from := metav1.ListOptions{ResourceVersion: list.GetResourceVersion()}
	needs, err := c.dynamic.Resource(widgetsResource.GroupResource().WithVersion("v2")).Namespace("default").Watch(t.Context(), from)
	if err != nil {
		t.Fatal(err)
	}
	defer needs.Stop()
	plain, err := c.widgets().Watch(t.Context(), from)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Stop()
	for _, name := range []string{"a", "b"} {
		if _, err := c.widgets().Create(t.Context(), widget(t, name, "{}"), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		if e := <-plain.ResultChan(); e.Type != watch.Added {
			t.Errorf("the watch of the stored version tells %v", e)
		}
	}
	deadline := time.After(time.Minute)
	for {
		select {
		case e, open := <-needs.ResultChan():
			if !open {
				return
			}
			if e.Type != watch.Error {
				t.Fatalf("the watch tells %v", e)
			}
		case <-deadline:
			t.Fatal("the watch goes on")
		}
	}
}
