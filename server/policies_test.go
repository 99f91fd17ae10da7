package server_test

import (
	"context"
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"

	"github.com/rowlock-io/rowlock/server/servertest"
	"github.com/rowlock-io/rowlock/storage/memory"
)

// parse reads the YAML of one object.
func parse[T any](t *testing.T, doc string) *T {
	t.Helper()
	var obj T
	if err := yaml.UnmarshalStrict([]byte(doc), &obj); err != nil {
		t.Fatal(err)
	}
	return &obj
}

func must[T any](t *testing.T) func(T, error) T {
	t.Helper()
	return func(obj T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return obj
	}
}

const nothingNamedEvil = `
metadata: {name: nothing-named-evil}
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [configmaps]}]
  matchConditions: [{name: not-free, expression: "!has(object.metadata.labels) || !('free' in object.metadata.labels)"}]
  variables: [{name: lower, expression: object.metadata.name.lowerAscii()}]
  validations:
  - expression: "!variables.lower.contains('evil')"
    messageExpression: "'no evil: ' + variables.lower"
    reason: Invalid
`

func bindingOf(policy string, actions ...admissionregistrationv1.ValidationAction) *admissionregistrationv1.ValidatingAdmissionPolicyBinding {
	if len(actions) == 0 {
		actions = []admissionregistrationv1.ValidationAction{admissionregistrationv1.Deny}
	}
	return &admissionregistrationv1.ValidatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: policy},
		Spec:       admissionregistrationv1.ValidatingAdmissionPolicyBindingSpec{PolicyName: policy, ValidationActions: actions},
	}
}

func createPolicy(t *testing.T, client kubernetes.Interface, policy string, binding *admissionregistrationv1.ValidatingAdmissionPolicyBinding) {
	t.Helper()
	api := client.AdmissionregistrationV1()
	must[any](t)(api.ValidatingAdmissionPolicies().Create(t.Context(), parse[admissionregistrationv1.ValidatingAdmissionPolicy](t, policy), metav1.CreateOptions{}))
	must[any](t)(api.ValidatingAdmissionPolicyBindings().Create(t.Context(), binding, metav1.CreateOptions{}))
}

func makeConfigMap(ctx context.Context, client kubernetes.Interface, name string, labels map[string]string) (*corev1.ConfigMap, error) {
	return client.CoreV1().ConfigMaps("default").Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}, metav1.CreateOptions{})
}

// wantDenied fails the test unless err is a refusal that says all of words.
func wantDenied(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("was let pass")
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("refusal %q does not say %q", err, w)
		}
	}
}

func TestPolicyHoldsForTheNextWrite(t *testing.T) {
	t.Parallel()
	client := servertest.Start(t, servertest.Config{}).Client(t, servertest.Default)
	createPolicy(t, client, nothingNamedEvil, bindingOf("nothing-named-evil"))
	_, err := makeConfigMap(t.Context(), client, "some-evil", nil)
	wantDenied(t, err, "ValidatingAdmissionPolicy 'nothing-named-evil' with binding 'nothing-named-evil' denied request: no evil: some-evil")
	if !apierrors.IsInvalid(err) {
		t.Errorf("reason is %s", apierrors.ReasonForError(err))
	}
	must[any](t)(makeConfigMap(t.Context(), client, "good", nil))
	must[any](t)(makeConfigMap(t.Context(), client, "free-evil", map[string]string{"free": ""}))
}

func TestPolicyHoldsForTheFirstWriteAfterAStart(t *testing.T) {
	t.Parallel()
	db := memory.New()
	dir := t.TempDir()
	first, err := servertest.Open(t.Context(), dir, servertest.Config{Database: db})
	if err != nil {
		t.Fatal(err)
	}
	createPolicy(t, first.Client(t, servertest.Default), nothingNamedEvil, bindingOf("nothing-named-evil"))
	if err := first.Stop(); err != nil {
		t.Fatal(err)
	}
	again := servertest.Start(t, servertest.Config{Database: db, Keys: first.Keys})
	_, err = makeConfigMap(t.Context(), again.Client(t, servertest.Default), "evil", nil)
	wantDenied(t, err, "no evil: evil")
}

func TestPolicyWarns(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Config{})
	createPolicy(t, s.Client(t, servertest.Default), nothingNamedEvil, bindingOf("nothing-named-evil", admissionregistrationv1.Warn))
	resp := wire.Send(t, s.URL, servertest.Request{
		Method: "POST", Path: "/api/v1/namespaces/default/configmaps", Token: servertest.AdminToken,
		Header: map[string][]string{"Content-Type": {"application/json"}}, Body: `{"metadata":{"name":"evil"}}`,
	})
	if want := `299 - "Validation failed for ValidatingAdmissionPolicy 'nothing-named-evil' with binding 'nothing-named-evil': no evil: evil"`; resp.Status != 201 || resp.Header.Get("Warning") != want {
		t.Errorf("status %d, warning %q, want %q", resp.Status, resp.Header.Get("Warning"), want)
	}
}

const limitedByParams = `
metadata: {name: limited}
spec:
  failurePolicy: Fail
  paramKind: {apiVersion: v1, kind: ConfigMap}
  matchConstraints:
    resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [secrets]}]
  validations: [{expression: "size(object.metadata.name) <= int(params.data.max)", messageExpression: "'longer than ' + params.data.max"}]
`

// Upstream keeps the informer of a parameter kind that went out of use, stopped; policies that come later must see the
// parameters of their time.
func TestPolicyParametersAreFreshAfterAPause(t *testing.T) {
	t.Parallel()
	client := servertest.Start(t, servertest.Config{}).Client(t, servertest.Default)
	api := client.AdmissionregistrationV1()
	limit := must[*corev1.ConfigMap](t)(makeConfigMap(t.Context(), client, "limit", nil))
	secret := func(name string) error {
		_, err := client.CoreV1().Secrets("default").Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return err
	}
	for _, max := range []string{"3", "6"} {
		limit.Data = map[string]string{"max": max}
		limit = must[*corev1.ConfigMap](t)(client.CoreV1().ConfigMaps("default").Update(t.Context(), limit, metav1.UpdateOptions{}))
		binding := bindingOf("limited")
		deny := admissionregistrationv1.DenyAction
		binding.Spec.ParamRef = &admissionregistrationv1.ParamRef{Name: "limit", Namespace: "default", ParameterNotFoundAction: &deny}
		createPolicy(t, client, limitedByParams, binding)
		long := strings.Repeat("x", 7)
		await(t, "the policy holds with the new parameter", func() bool {
			err := secret(long)
			return err != nil && strings.Contains(err.Error(), "longer than "+max)
		})
		if err := secret("abc"); err != nil {
			t.Error(err)
		}
		if err := api.ValidatingAdmissionPolicyBindings().Delete(t.Context(), "limited", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := api.ValidatingAdmissionPolicies().Delete(t.Context(), "limited", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := secret(long); err != nil {
			t.Error("the policy holds after it is gone:", err)
		}
		// Another policy keeps the plug-in going, so that it sees that nobody has parameters.
		createPolicy(t, client, nothingNamedEvil, bindingOf("nothing-named-evil"))
		await(t, "the policies were read again", func() bool {
			_, err := client.CoreV1().ConfigMaps("default").Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "evil"}}, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
			return err != nil
		})
		if err := api.ValidatingAdmissionPolicyBindings().Delete(t.Context(), "nothing-named-evil", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := api.ValidatingAdmissionPolicies().Delete(t.Context(), "nothing-named-evil", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

const webDeployment = `
metadata: {name: web}
spec:
  selector: {matchLabels: {a: b}}
  template:
    metadata: {labels: {a: b}}
    spec: {containers: [{name: c, image: i}]}
`

const labelled = `
metadata: {name: labelled}
spec:
  failurePolicy: Fail
  reinvocationPolicy: IfNeeded
  matchConstraints:
    resourceRules: [{apiGroups: [apps], apiVersions: [v1], operations: [CREATE], resources: [deployments]}]
  variables: [{name: app, expression: object.metadata.name + '-app'}]
  mutations:
  - patchType: ApplyConfiguration
    applyConfiguration: {expression: 'Object{metadata: Object.metadata{labels: {"app": variables.app}}, spec: Object.spec{replicas: 7}}'}
  - patchType: JSONPatch
    jsonPatch: {expression: '[JSONPatch{op: "add", path: "/metadata/annotations", value: {"was": string(object.spec.replicas)}}]'}
`

func TestMutatingPolicyHoldsForTheNextWrite(t *testing.T) {
	t.Parallel()
	client := servertest.Start(t, servertest.Config{}).Client(t, servertest.Default)
	api := client.AdmissionregistrationV1()
	must[any](t)(api.MutatingAdmissionPolicies().Create(t.Context(), parse[admissionregistrationv1.MutatingAdmissionPolicy](t, labelled), metav1.CreateOptions{}))
	must[any](t)(api.MutatingAdmissionPolicyBindings().Create(t.Context(), &admissionregistrationv1.MutatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "labelled"},
		Spec:       admissionregistrationv1.MutatingAdmissionPolicyBindingSpec{PolicyName: "labelled"},
	}, metav1.CreateOptions{}))
	made, err := client.AppsV1().Deployments("default").Create(t.Context(), parse[appsv1.Deployment](t, webDeployment), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if made.Labels["app"] != "web-app" || *made.Spec.Replicas != 7 || made.Annotations["was"] != "7" {
		t.Errorf("labels %v, annotations %v, %d replicas", made.Labels, made.Annotations, *made.Spec.Replicas)
	}
}
