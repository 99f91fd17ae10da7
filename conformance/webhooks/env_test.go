package webhooks

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"

	"github.com/rowlock-io/rowlock/conformance/harness"
)

// env is what one test gets: a server and a webhook shared with the others, and a namespace whose objects its webhooks see.
type env struct {
	server    *harness.Server
	config    *rest.Config
	client    kubernetes.Interface
	ca        []byte // of the webhook
	namespace string
}

// TestWebhooks runs the tests, by the names of upstream's.
func TestWebhooks(t *testing.T) {
	t.Parallel()
	tests := map[string]func(*testing.T, env){
		"should include webhook resources in discovery documents":                                     discovery,
		"should be able to deny pod and configmap creation":                                           denyCreation,
		"should be able to deny attaching pod":                                                        denyAttach,
		"should unconditionally reject operations on fail closed webhook":                             failClosed,
		"should mutate configmap":                                                                     mutateConfigMap,
		"should mutate pod and apply defaults after mutation":                                         mutatePod,
		"should not be able to mutate or prevent deletion of webhook configuration objects":           configurations,
		"should honor timeout":                                                                        timeouts,
		"patching/updating a validating webhook should work":                                          changeValidating,
		"patching/updating a mutating webhook should work":                                            changeMutating,
		"listing validating webhooks should work":                                                     listValidating,
		"listing mutating webhooks should work":                                                       listMutating,
		"should be able to create and update validating webhook configurations with match conditions": conditionsOfValidating,
		"should be able to create and update mutating webhook configurations with match conditions":   conditionsOfMutating,
		"should reject validating webhook configurations with invalid match conditions":               invalidConditionsOfValidating,
		"should reject mutating webhook configurations with invalid match conditions":                 invalidConditionsOfMutating,
		"should mutate everything except 'skip-me' configmaps":                                        skipMe,
		"should be able to deny custom resource creation, update and deletion":                        denyCustom,
		"should mutate custom resource":                                                               mutateCustom,
		"should mutate custom resource with different stored version":                                 mutateStored,
		"should mutate custom resource with pruning":                                                  mutatePruned,
		"should deny crd creation":                                                                    denyCRD,
		"should be able to convert from CR v1 to CR v2":                                               convertOne,
		"should be able to convert a non homogeneous list of CRs":                                     convertList,
		"a quota counts custom resources":                                                             quotaOnCustom,
		"a policy with custom resources as parameters":                                                policyOnCustom,
		"a dry run calls only webhooks without side effects":                                          dryRun,
	}
	harness.Only(t, func(t *testing.T, target harness.Target) {
		server := target.NewCluster(t).StartServer(t)
		client := server.Client(t)
		ca := startHooks(t, client)
		var number int
		for name, test := range tests {
			number++
			namespace := fmt.Sprint("test-", number)
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				e := env{server: server, config: server.Config(t), client: client, ca: ca, namespace: namespace}
				harness.NewNamespace(t, client, e.namespace)
				test(t, e)
			})
		}
	}, harness.SQLite, harness.OnPostgres)
}

// calls is the configuration of a client that calls the webhook at a path.
func (e env) calls(path string) admissionregistrationv1.WebhookClientConfig {
	return admissionregistrationv1.WebhookClientConfig{CABundle: e.ca, Service: &admissionregistrationv1.ServiceReference{
		Namespace: hooksNamespace, Name: hooksService, Path: ptr.To("/" + path), Port: ptr.To(int32(hooksPort)),
	}}
}

func (e env) here() *metav1.LabelSelector { return selects(e.namespace) }

func selects(namespace string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: namespace}}
}

func on(group, resource string, ops ...admissionregistrationv1.OperationType) []admissionregistrationv1.RuleWithOperations {
	return []admissionregistrationv1.RuleWithOperations{{
		Operations: ops, Rule: admissionregistrationv1.Rule{APIGroups: []string{group}, APIVersions: []string{"*"}, Resources: []string{resource}},
	}}
}

// validating is a webhook for the namespace of the test.
func (e env) validating(name, path string, rules []admissionregistrationv1.RuleWithOperations) admissionregistrationv1.ValidatingWebhook {
	return admissionregistrationv1.ValidatingWebhook{
		Name: name + ".k8s.io", ClientConfig: e.calls(path), Rules: rules, NamespaceSelector: e.here(),
		SideEffects: ptr.To(admissionregistrationv1.SideEffectClassNone), AdmissionReviewVersions: []string{"v1", "v1beta1"},
	}
}

func (e env) mutating(name, path string, rules []admissionregistrationv1.RuleWithOperations) admissionregistrationv1.MutatingWebhook {
	v := e.validating(name, path, rules)
	return admissionregistrationv1.MutatingWebhook{
		Name: v.Name, ClientConfig: v.ClientConfig, Rules: v.Rules, NamespaceSelector: v.NamespaceSelector, SideEffects: v.SideEffects, AdmissionReviewVersions: v.AdmissionReviewVersions,
	}
}

// marker denies every config map of a namespace beside the test's: it tells when the configuration with it is in force.
func (e env) marker() string { return e.namespace + "-markers" }

func (e env) registerValidating(t *testing.T, hooks ...admissionregistrationv1.ValidatingWebhook) *admissionregistrationv1.ValidatingWebhookConfiguration {
	t.Helper()
	marker := e.validating("marker", "deny", on("", "configmaps", admissionregistrationv1.Create))
	marker.NamespaceSelector = selects(e.marker())
	made := create(t, e.client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Create, &admissionregistrationv1.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: e.namespace}, Webhooks: append(hooks, marker),
	})
	t.Cleanup(func() {
		_ = e.client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Delete(context.Background(), e.namespace, metav1.DeleteOptions{})
	})
	e.awaitMarker(t)
	return made
}

func (e env) registerMutating(t *testing.T, hooks ...admissionregistrationv1.MutatingWebhook) *admissionregistrationv1.MutatingWebhookConfiguration {
	t.Helper()
	marker := e.mutating("marker", "deny", on("", "configmaps", admissionregistrationv1.Create))
	marker.NamespaceSelector = selects(e.marker())
	made := create(t, e.client.AdmissionregistrationV1().MutatingWebhookConfigurations().Create, &admissionregistrationv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: e.namespace}, Webhooks: append(hooks, marker),
	})
	t.Cleanup(func() {
		_ = e.client.AdmissionregistrationV1().MutatingWebhookConfigurations().Delete(context.Background(), e.namespace, metav1.DeleteOptions{})
	})
	e.awaitMarker(t)
	return made
}

func (e env) awaitMarker(t *testing.T) {
	t.Helper()
	if err := harness.CreateNamespace(t.Context(), e.client, e.marker()); err != nil && !strings.Contains(err.Error(), "already exists") {
		t.Fatal(err)
	}
	await(t, "the marker is denied", func() bool {
		_, err := e.dry(t, e.marker(), "marker", nil)
		return err != nil && strings.Contains(err.Error(), "denies all requests")
	})
}

// dry creates a config map in a dry run.
func (e env) dry(t *testing.T, namespace, name string, data map[string]string) (*corev1.ConfigMap, error) {
	t.Helper()
	return e.client.CoreV1().ConfigMaps(namespace).Create(t.Context(), newConfigMap(name, data), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
}

func newConfigMap(name string, data map[string]string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: data}
}

func newPod(name, container string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: container, Image: "image"}}}}
}

func create[T any](t *testing.T, call func(context.Context, T, metav1.CreateOptions) (T, error), obj T) T {
	t.Helper()
	made, err := call(t.Context(), obj, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return made
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

// await waits for what happens soon. The bound is only for tests that fail.
func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}
