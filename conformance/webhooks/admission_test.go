package webhooks

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/rowlock-io/rowlock/conformance/harness"
)

func discovery(t *testing.T, e env) {
	groups, err := e.client.Discovery().ServerGroups()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(groups.Groups, func(g metav1.APIGroup) bool { return g.Name == "admissionregistration.k8s.io" })
	if i < 0 || !slices.ContainsFunc(groups.Groups[i].Versions, func(v metav1.GroupVersionForDiscovery) bool { return v.Version == "v1" }) {
		t.Fatalf("no admissionregistration.k8s.io/v1 in %v", groups.Groups)
	}
	list, err := e.client.Discovery().ServerResourcesForGroupVersion("admissionregistration.k8s.io/v1")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"mutatingwebhookconfigurations", "validatingwebhookconfigurations"} {
		if !slices.ContainsFunc(list.APIResources, func(r metav1.APIResource) bool { return r.Name == want }) {
			t.Errorf("no %s in %v", want, list.APIResources)
		}
	}
}

func denyCreation(t *testing.T, e env) {
	pods, maps := e.validating("deny-pods", "pods", on("", "pods", "CREATE")), e.validating("deny-maps", "data", on("", "configmaps", "CREATE", "UPDATE", "DELETE"))
	pods.TimeoutSeconds = ptr.To(int32(2))
	e.registerValidating(t, pods, maps)

	bad := newPod("disallowed", "webhook-disallow")
	bad.Labels = map[string]string{"webhook-e2e-test": "webhook-disallow"}
	_, err := e.client.CoreV1().Pods(e.namespace).Create(t.Context(), bad, metav1.CreateOptions{})
	wantDenied(t, err, "denied", "the pod contains unwanted label", "the pod contains unwanted container name")
	_, err = e.client.CoreV1().Pods(e.namespace).Create(t.Context(), newPod("hangs", "wait-forever"), metav1.CreateOptions{})
	wantDenied(t, err, "webhook", "deadline")
	if _, err := e.client.CoreV1().Pods(e.namespace).Get(t.Context(), "hangs", metav1.GetOptions{}); err == nil {
		t.Error("the pod whose review timed out is there")
	}

	unwanted := map[string]string{"webhook-e2e-test": "webhook-disallow"}
	api := e.client.CoreV1().ConfigMaps(e.namespace)
	_, err = api.Create(t.Context(), newConfigMap("bad", unwanted), metav1.CreateOptions{})
	wantDenied(t, err, "the object contains unwanted key and value")
	good := create(t, api.Create, newConfigMap("good", map[string]string{"admit": "this"}))
	put := good.DeepCopy()
	put.Data = unwanted
	_, err = api.Update(t.Context(), put, metav1.UpdateOptions{})
	wantDenied(t, err, "the object contains unwanted key and value")
	for kind, body := range map[types.PatchType]string{
		types.MergePatchType:          `{"data":{"webhook-e2e-test":"webhook-disallow"}}`,
		types.StrategicMergePatchType: `{"data":{"webhook-e2e-test":"webhook-disallow"}}`,
		types.JSONPatchType:           `[{"op":"add","path":"/data/webhook-e2e-test","value":"webhook-disallow"}]`,
		types.ApplyPatchType:          `{"apiVersion":"v1","kind":"ConfigMap","data":{"webhook-e2e-test":"webhook-disallow"}}`,
	} {
		opts := metav1.PatchOptions{}
		if kind == types.ApplyPatchType {
			opts.FieldManager = "test"
		}
		_, err = api.Patch(t.Context(), "good", kind, []byte(body), opts)
		wantDenied(t, err, "the object contains unwanted key and value")
	}
	create(t, api.Create, newConfigMap("kept", map[string]string{"webhook-e2e-test": "webhook-nondeletable"}))
	wantDenied(t, api.Delete(t.Context(), "kept", metav1.DeleteOptions{}), "cannot be deleted")
	wantDenied(t, api.DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{FieldSelector: "metadata.name=kept"}), "cannot be deleted")

	exempt := e.namespace + "-exempt"
	harness.NewNamespace(t, e.client, exempt)
	create(t, e.client.CoreV1().ConfigMaps(exempt).Create, newConfigMap("bad", unwanted))
}

func denyAttach(t *testing.T, e env) {
	e.registerValidating(t, e.validating("deny-attach", "attach", on("", "pods/attach", "CONNECT")))
	create(t, e.client.CoreV1().Pods(e.namespace).Create, newPod("to-be-attached-pod", "c"))
	err := e.client.CoreV1().RESTClient().Post().Namespace(e.namespace).Resource("pods").Name("to-be-attached-pod").SubResource("attach").
		Param("stdout", "true").Do(t.Context()).Error()
	wantDenied(t, err, "attaching to pod 'to-be-attached-pod' is not allowed")
}

func failClosed(t *testing.T, e env) {
	hook := e.validating("fail-closed", "allow", on("", "configmaps", "CREATE"))
	hook.ClientConfig.CABundle, hook.FailurePolicy = nil, ptr.To(admissionregistrationv1.Fail) // nobody believes its certificate
	e.registerValidating(t, hook)
	_, err := e.client.CoreV1().ConfigMaps(e.namespace).Create(t.Context(), newConfigMap("any", nil), metav1.CreateOptions{})
	wantDenied(t, err, `failed calling webhook "fail-closed.k8s.io"`)
}

func mutateConfigMap(t *testing.T, e env) {
	rules := on("", "configmaps", "CREATE")
	e.registerMutating(t, e.mutating("stage-1", "mutate-data", rules), e.mutating("stage-2", "mutate-data", rules))
	got := create(t, e.client.CoreV1().ConfigMaps(e.namespace).Create, newConfigMap("any", map[string]string{"mutation-start": "yes"}))
	want := map[string]string{"mutation-start": "yes", "mutation-stage-1": "yes", "mutation-stage-2": "yes"}
	if diff := cmp.Diff(want, got.Data); diff != "" {
		t.Error(diff)
	}
}

func mutatePod(t *testing.T, e env) {
	e.registerMutating(t, e.mutating("add-init", "mutate-pods", on("", "pods", "CREATE")))
	got := create(t, e.client.CoreV1().Pods(e.namespace).Create, newPod("webhook-to-be-mutated", "c"))
	if len(got.Spec.InitContainers) != 1 {
		t.Fatalf("init containers are %v", got.Spec.InitContainers)
	}
	c := got.Spec.InitContainers[0]
	if c.Name != "webhook-added-init-container" || c.TerminationMessagePolicy != corev1.TerminationMessageReadFile || c.ImagePullPolicy == "" {
		t.Errorf("init container is %+v", c)
	}
}

// configurations are out of the reach of webhooks.
func configurations(t *testing.T, e env) {
	rules := on("admissionregistration.k8s.io", "*", "*")
	block, change := e.validating("block", "deny", rules), e.mutating("change", "label", rules)
	block.NamespaceSelector, change.NamespaceSelector = nil, nil // they are in no namespace
	e.registerValidating(t, block)
	e.registerMutating(t, change)
	v, m := e.client.AdmissionregistrationV1().ValidatingWebhookConfigurations(), e.client.AdmissionregistrationV1().MutatingWebhookConfigurations()
	name := e.namespace + "-dummy"
	madeV := create(t, v.Create, &admissionregistrationv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: name}})
	madeM := create(t, m.Create, &admissionregistrationv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: name}})
	if madeV.Labels["added-label"] != "" || madeM.Labels["added-label"] != "" {
		t.Errorf("were changed: %v, %v", madeV.Labels, madeM.Labels)
	}
	if err := v.Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
		t.Error(err)
	}
	if err := m.Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
		t.Error(err)
	}
}

func timeouts(t *testing.T, e env) {
	for name, c := range map[string]struct {
		timeout *int32
		policy  admissionregistrationv1.FailurePolicyType
		words   string
	}{
		"shorter-fails":   {ptr.To(int32(1)), admissionregistrationv1.Fail, "deadline exceeded"},
		"shorter-ignores": {ptr.To(int32(1)), admissionregistrationv1.Ignore, ""},
		"longer":          {ptr.To(int32(2 * latency.Seconds())), admissionregistrationv1.Fail, ""},
		"default":         {nil, admissionregistrationv1.Fail, ""}, // ten seconds
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := e
			e.namespace = "timeout-" + name
			harness.NewNamespace(t, e.client, e.namespace)
			hook := e.validating("slow", "slow", on("", "configmaps", "CREATE"))
			hook.TimeoutSeconds, hook.FailurePolicy = c.timeout, &c.policy
			e.registerValidating(t, hook)
			_, err := e.client.CoreV1().ConfigMaps(e.namespace).Create(t.Context(), newConfigMap("any", nil), metav1.CreateOptions{})
			if c.words != "" {
				wantDenied(t, err, c.words)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

// dryRun is beyond upstream's list.
func dryRun(t *testing.T, e env) {
	hook := e.mutating("effects", "mutate-data", on("", "configmaps", "CREATE"))
	hook.SideEffects = ptr.To(admissionregistrationv1.SideEffectClassNoneOnDryRun)
	e.registerMutating(t, hook)
	got, err := e.dry(t, e.namespace, "any", map[string]string{"mutation-start": "yes"})
	if err != nil {
		t.Fatal(err)
	}
	if got.Data["mutation-stage-1"] != "yes" {
		t.Errorf("data is %v", got.Data)
	}
	if _, err := e.client.CoreV1().ConfigMaps(e.namespace).Get(t.Context(), "any", metav1.GetOptions{}); err == nil {
		t.Error("the dry run left an object")
	}
}
