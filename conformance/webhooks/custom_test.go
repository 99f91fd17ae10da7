package webhooks

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/utils/ptr"
)

// customKind is a CRD of the test's own, with versions v1, which is stored, and v2.
type customKind struct {
	e     env
	crd   *apiextensionsv1.CustomResourceDefinition
	crds  clientset.Interface
	group string
}

func object(properties map[string]apiextensionsv1.JSONSchemaProps) apiextensionsv1.JSONSchemaProps {
	return apiextensionsv1.JSONSchemaProps{Type: "object", Properties: properties}
}

var anything = apiextensionsv1.JSONSchemaProps{Type: "object", XPreserveUnknownFields: ptr.To(true)}

func newKind(t *testing.T, e env, change ...func(*apiextensionsv1.CustomResourceDefinition)) customKind {
	t.Helper()
	crds, err := clientset.NewForConfig(e.config)
	if err != nil {
		t.Fatal(err)
	}
	k := customKind{e: e, crds: crds, group: e.namespace + ".example.com"}
	version := func(name string, stored bool) apiextensionsv1.CustomResourceDefinitionVersion {
		return apiextensionsv1.CustomResourceDefinitionVersion{
			Name: name, Served: true, Storage: stored,
			Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: ptr.To(anything)},
		}
	}
	k.crd = &apiextensionsv1.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{Name: "things." + k.group},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{
			Group: k.group, Scope: apiextensionsv1.NamespaceScoped,
			Names:    apiextensionsv1.CustomResourceDefinitionNames{Plural: "things", Singular: "thing", Kind: "Thing", ListKind: "ThingList"},
			Versions: []apiextensionsv1.CustomResourceDefinitionVersion{version("v1", true), version("v2", false)},
		},
	}
	for _, f := range change {
		f(k.crd)
	}
	api := crds.ApiextensionsV1().CustomResourceDefinitions()
	create(t, api.Create, k.crd)
	k.awaitServed(t)
	return k
}

func (k customKind) awaitServed(t *testing.T) {
	t.Helper()
	await(t, "the custom resource is served", func() bool {
		_, err := k.client(t, "v1").List(t.Context(), metav1.ListOptions{})
		return err == nil
	})
}

func (k customKind) client(t *testing.T, version string) dynamic.ResourceInterface {
	t.Helper()
	client, err := dynamic.NewForConfig(k.e.config)
	if err != nil {
		t.Fatal(err)
	}
	return client.Resource(schema.GroupVersionResource{Group: k.group, Version: version, Resource: "things"}).Namespace(k.e.namespace)
}

func (k customKind) thing(version, name string, fields map[string]any) *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": k.group + "/" + version, "kind": "Thing", "metadata": map[string]any{"name": name, "namespace": k.e.namespace},
	}}
	for key, value := range fields {
		u.Object[key] = value
	}
	return u
}

func data(pairs ...string) map[string]any {
	d := map[string]any{}
	for i := 0; i < len(pairs); i += 2 {
		d[pairs[i]] = pairs[i+1]
	}
	return map[string]any{"data": d}
}

func denyCustom(t *testing.T, e env) {
	k := newKind(t, e)
	e.registerValidating(t, e.validating("deny-things", "data", on(k.group, "things", "CREATE", "UPDATE", "DELETE")))
	api := k.client(t, "v1")
	_, err := api.Create(t.Context(), k.thing("v1", "bad", data("webhook-e2e-test", "webhook-disallow")), metav1.CreateOptions{})
	wantDenied(t, err, "the object contains unwanted key and value")
	made, err := api.Create(t.Context(), k.thing("v1", "kept", data("webhook-e2e-test", "webhook-nondeletable")), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	put := made.DeepCopy()
	put.Object["data"] = map[string]any{"webhook-e2e-test": "webhook-disallow"}
	_, err = api.Update(t.Context(), put, metav1.UpdateOptions{})
	wantDenied(t, err, "the object contains unwanted key and value")
	_, err = api.Patch(t.Context(), "kept", types.MergePatchType, []byte(`{"data":{"webhook-e2e-test":"webhook-disallow"}}`), metav1.PatchOptions{})
	wantDenied(t, err, "the object contains unwanted key and value")
	wantDenied(t, api.Delete(t.Context(), "kept", metav1.DeleteOptions{}), "cannot be deleted")
	if _, err := api.Patch(t.Context(), "kept", types.MergePatchType, []byte(`{"data":{"webhook-e2e-test":null}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := api.Delete(t.Context(), "kept", metav1.DeleteOptions{}); err != nil {
		t.Error(err)
	}
}

func (e env) mutateThings(t *testing.T, k customKind) {
	t.Helper()
	rules := on(k.group, "things", "CREATE", "UPDATE")
	e.registerMutating(t, e.mutating("stage-1", "mutate-data", rules), e.mutating("stage-2", "mutate-data", rules))
}

var mutatedTwice = map[string]any{"mutation-start": "yes", "mutation-stage-1": "yes", "mutation-stage-2": "yes"}

func mutateCustom(t *testing.T, e env) {
	k := newKind(t, e)
	e.mutateThings(t, k)
	got, err := k.client(t, "v1").Create(t.Context(), k.thing("v1", "any", data("mutation-start", "yes")), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(mutatedTwice, got.Object["data"]); diff != "" {
		t.Error(diff)
	}
}

// mutateStored changes the stored version while an object of the other one is there, and mutates that.
func mutateStored(t *testing.T, e env) {
	k := newKind(t, e)
	e.mutateThings(t, k)
	api := k.client(t, "v1")
	if _, err := api.Create(t.Context(), k.thing("v1", "any", data()), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	crds := k.crds.ApiextensionsV1().CustomResourceDefinitions()
	if _, err := crds.Patch(t.Context(), k.crd.Name, types.JSONPatchType, []byte(
		`[{"op":"replace","path":"/spec/versions/0/storage","value":false},{"op":"replace","path":"/spec/versions/1/storage","value":true}]`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	await(t, "v2 is stored", func() bool {
		crd, err := crds.Get(t.Context(), k.crd.Name, metav1.GetOptions{})
		return err == nil && slices.Contains(crd.Status.StoredVersions, "v2")
	})
	for _, version := range []string{"v2", "v1"} {
		got, err := k.client(t, version).Patch(t.Context(), "any", types.MergePatchType, []byte(`{"data":{"mutation-start":"yes"}}`), metav1.PatchOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(mutatedTwice, got.Object["data"]); diff != "" || got.GetAPIVersion() != k.group+"/"+version {
			t.Errorf("%s: %s", got.GetAPIVersion(), diff)
		}
		if _, err := k.client(t, version).Patch(t.Context(), "any", types.MergePatchType, []byte(`{"data":null}`), metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

// mutatePruned: what a webhook adds beyond the schema is pruned.
func mutatePruned(t *testing.T, e env) {
	k := newKind(t, e, func(crd *apiextensionsv1.CustomResourceDefinition) {
		text := apiextensionsv1.JSONSchemaProps{Type: "string"}
		for i := range crd.Spec.Versions {
			crd.Spec.Versions[i].Schema.OpenAPIV3Schema = ptr.To(object(map[string]apiextensionsv1.JSONSchemaProps{
				"data": object(map[string]apiextensionsv1.JSONSchemaProps{"mutation-start": text, "mutation-stage-1": text}),
			}))
		}
	})
	e.mutateThings(t, k)
	got, err := k.client(t, "v1").Create(t.Context(), k.thing("v1", "any", data("mutation-start", "yes")), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]any{"mutation-start": "yes", "mutation-stage-1": "yes"}, got.Object["data"]); diff != "" {
		t.Error(diff)
	}
}

func denyCRD(t *testing.T, e env) {
	hook := e.validating("deny-crds", "crds", on("apiextensions.k8s.io", "customresourcedefinitions", "CREATE"))
	hook.NamespaceSelector, hook.ObjectSelector = nil, &metav1.LabelSelector{MatchLabels: map[string]string{"of": e.namespace}}
	e.registerValidating(t, hook)
	crds, err := clientset.NewForConfig(e.config)
	if err != nil {
		t.Fatal(err)
	}
	group := e.namespace + ".example.com"
	_, err = crds.ApiextensionsV1().CustomResourceDefinitions().Create(t.Context(), &apiextensionsv1.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{Name: "things." + group, Labels: map[string]string{"webhook-e2e-test": "webhook-disallow", "of": e.namespace}},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{
			Group: group, Scope: apiextensionsv1.NamespaceScoped,
			Names: apiextensionsv1.CustomResourceDefinitionNames{Plural: "things", Kind: "Thing"},
			Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{
				Name: "v1", Served: true, Storage: true, Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: ptr.To(anything)},
			}},
		},
	}, metav1.CreateOptions{})
	wantDenied(t, err, "the crd contains unwanted label")
}

// converted makes the kind's versions differ: v1 has hostPort, v2 has host and port, and the webhook converts.
func converted(e env) func(*apiextensionsv1.CustomResourceDefinition) {
	text := apiextensionsv1.JSONSchemaProps{Type: "string"}
	client := e.calls("convert")
	return func(crd *apiextensionsv1.CustomResourceDefinition) {
		crd.Spec.Versions[0].Schema.OpenAPIV3Schema = ptr.To(object(map[string]apiextensionsv1.JSONSchemaProps{"hostPort": text}))
		crd.Spec.Versions[1].Schema.OpenAPIV3Schema = ptr.To(object(map[string]apiextensionsv1.JSONSchemaProps{"host": text, "port": text}))
		crd.Spec.Conversion = &apiextensionsv1.CustomResourceConversion{
			Strategy: apiextensionsv1.WebhookConverter,
			Webhook: &apiextensionsv1.WebhookConversion{
				ConversionReviewVersions: []string{"v1"},
				ClientConfig: &apiextensionsv1.WebhookClientConfig{CABundle: client.CABundle, Service: &apiextensionsv1.ServiceReference{
					Namespace: client.Service.Namespace, Name: client.Service.Name, Path: client.Service.Path, Port: client.Service.Port,
				}},
			},
		}
	}
}

// convertOne reads an object in the version that it was not written in.
func convertOne(t *testing.T, e env) {
	k := newKind(t, e, converted(e))
	if _, err := k.client(t, "v1").Create(t.Context(), k.thing("v1", "any", map[string]any{"hostPort": "localhost:8080"}), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	got, err := k.client(t, "v2").Get(t.Context(), "any", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got.Object["host"] != "localhost" || got.Object["port"] != "8080" || got.Object["hostPort"] != nil {
		t.Errorf("v2 is %v", got.Object)
	}
	got.Object["port"] = "9090"
	if _, err := k.client(t, "v2").Update(t.Context(), got, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	back, err := k.client(t, "v1").Get(t.Context(), "any", metav1.GetOptions{})
	if err != nil || back.Object["hostPort"] != "localhost:9090" {
		t.Errorf("v1 is %v, %v", back, err)
	}
}

// convertList lists objects that were written in two versions, in each of them.
func convertList(t *testing.T, e env) {
	k := newKind(t, e, converted(e))
	if _, err := k.client(t, "v1").Create(t.Context(), k.thing("v1", "one", map[string]any{"hostPort": "a:1"}), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := k.crds.ApiextensionsV1().CustomResourceDefinitions().Patch(t.Context(), k.crd.Name, types.JSONPatchType, []byte(
		`[{"op":"replace","path":"/spec/versions/0/storage","value":false},{"op":"replace","path":"/spec/versions/1/storage","value":true}]`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	await(t, "the second is written as v2", func() bool {
		_, err := k.client(t, "v2").Create(t.Context(), k.thing("v2", "two", map[string]any{"host": "b", "port": "2"}), metav1.CreateOptions{})
		return err == nil || apierrors.IsAlreadyExists(err)
	})
	for version, want := range map[string]string{"v1": `[{"hostPort":"a:1"},{"hostPort":"b:2"}]`, "v2": `[{"host":"a","port":"1"},{"host":"b","port":"2"}]`} {
		list, err := k.client(t, version).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var got []map[string]any
		for _, item := range list.Items {
			fields := map[string]any{}
			for _, f := range []string{"hostPort", "host", "port"} {
				if v, ok := item.Object[f]; ok {
					fields[f] = v
				}
			}
			got = append(got, fields)
		}
		text, err := json.Marshal(got)
		if err != nil || string(text) != want {
			t.Errorf("%s: %s, want %s (%v)", version, text, want, err)
		}
	}
}

// policyOnCustom: policies see custom resources, and take them as parameters.
func policyOnCustom(t *testing.T, e env) {
	k := newKind(t, e)
	if _, err := k.client(t, "v1").Create(t.Context(), k.thing("v1", "limits", map[string]any{"max": int64(3)}), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	api := e.client.AdmissionregistrationV1()
	create(t, api.ValidatingAdmissionPolicies().Create, &admissionregistrationv1.ValidatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: e.namespace},
		Spec: admissionregistrationv1.ValidatingAdmissionPolicySpec{
			ParamKind: &admissionregistrationv1.ParamKind{APIVersion: k.group + "/v1", Kind: "Thing"},
			MatchConstraints: &admissionregistrationv1.MatchResources{ResourceRules: []admissionregistrationv1.NamedRuleWithOperations{
				{RuleWithOperations: on(k.group, "things", "CREATE")[0]},
			}},
			Validations: []admissionregistrationv1.Validation{{Expression: "size(object.metadata.name) <= params.max", Message: "name too long"}},
		},
	})
	create(t, api.ValidatingAdmissionPolicyBindings().Create, &admissionregistrationv1.ValidatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: e.namespace},
		Spec: admissionregistrationv1.ValidatingAdmissionPolicyBindingSpec{
			PolicyName: e.namespace, ValidationActions: []admissionregistrationv1.ValidationAction{admissionregistrationv1.Deny},
			ParamRef:       &admissionregistrationv1.ParamRef{Name: "limits", Namespace: e.namespace, ParameterNotFoundAction: ptr.To(admissionregistrationv1.DenyAction)},
			MatchResources: &admissionregistrationv1.MatchResources{NamespaceSelector: e.here()},
		},
	})
	await(t, "the policy is in force", func() bool {
		_, err := k.client(t, "v1").Create(t.Context(), k.thing("v1", "long", nil), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if err != nil && !apierrors.IsForbidden(err) && !apierrors.IsInvalid(err) {
			t.Fatal(err)
		}
		return apierrors.IsInvalid(err)
	})
	if _, err := k.client(t, "v1").Create(t.Context(), k.thing("v1", "few", nil), metav1.CreateOptions{}); err != nil {
		t.Error(err)
	}
}

// quotaOnCustom: quotas count custom resources, and have no more of them.
func quotaOnCustom(t *testing.T, e env) {
	k := newKind(t, e)
	counted := corev1.ResourceName("count/things." + k.group)
	api := e.client.CoreV1().ResourceQuotas(e.namespace)
	quota := create(t, api.Create, &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Name: "few"}, Spec: corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{counted: resource.MustParse("2")}},
	})
	// What is there already is for a controller to count.
	quota.Status = corev1.ResourceQuotaStatus{Hard: quota.Spec.Hard, Used: corev1.ResourceList{counted: resource.MustParse("1")}}
	if _, err := api.UpdateStatus(t.Context(), quota, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	await(t, "the quota is charged", func() bool {
		_, err := k.client(t, "v1").Create(t.Context(), k.thing("v1", "first", nil), metav1.CreateOptions{})
		if err != nil {
			return false // until the usage is known
		}
		now, err := api.Get(t.Context(), "few", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if used := now.Status.Used[counted]; used.Value() == 2 {
			return true
		}
		if err := k.client(t, "v1").Delete(t.Context(), "first", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		return false
	})
	_, err := k.client(t, "v1").Create(t.Context(), k.thing("v1", "second", nil), metav1.CreateOptions{})
	wantDenied(t, err, "exceeded quota: few", "used: "+string(counted)+"=2")
}
