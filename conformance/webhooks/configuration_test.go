package webhooks

import (
	"fmt"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// denied tells whether a config map with unwanted data is refused.
func (e env) denied(t *testing.T) bool {
	t.Helper()
	_, err := e.dry(t, e.namespace, "any", map[string]string{"webhook-e2e-test": "webhook-disallow"})
	return err != nil
}

func (e env) mutated(t *testing.T) bool {
	t.Helper()
	got, err := e.dry(t, e.namespace, "any", map[string]string{"mutation-start": "yes"})
	return err == nil && got.Data["mutation-stage-1"] == "yes"
}

func changeValidating(t *testing.T, e env) {
	made := e.registerValidating(t, e.validating("check", "data", on("", "configmaps", "CREATE")))
	if !e.denied(t) {
		t.Error("not denied at first")
	}
	api := e.client.AdmissionregistrationV1().ValidatingWebhookConfigurations()
	made.Webhooks[0].Rules[0].Operations = []admissionregistrationv1.OperationType{"UPDATE"}
	if _, err := api.Update(t.Context(), made, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	await(t, "the update takes creations out", func() bool { return !e.denied(t) })
	if _, err := api.Patch(t.Context(), made.Name, types.JSONPatchType, []byte(`[{"op":"replace","path":"/webhooks/0/rules/0/operations","value":["CREATE"]}]`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	await(t, "the patch puts creations back", func() bool { return e.denied(t) })
}

func changeMutating(t *testing.T, e env) {
	made := e.registerMutating(t, e.mutating("change", "mutate-data", on("", "configmaps", "CREATE")))
	if !e.mutated(t) {
		t.Error("not mutated at first")
	}
	api := e.client.AdmissionregistrationV1().MutatingWebhookConfigurations()
	made.Webhooks[0].Rules[0].Operations = []admissionregistrationv1.OperationType{"UPDATE"}
	if _, err := api.Update(t.Context(), made, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	await(t, "the update takes creations out", func() bool { return !e.mutated(t) })
	if _, err := api.Patch(t.Context(), made.Name, types.JSONPatchType, []byte(`[{"op":"replace","path":"/webhooks/0/rules/0/operations","value":["CREATE"]}]`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	await(t, "the patch puts creations back", func() bool { return e.mutated(t) })
}

func listValidating(t *testing.T, e env) {
	api := e.client.AdmissionregistrationV1().ValidatingWebhookConfigurations()
	labels := map[string]string{"listing": "validating"}
	for i := range 10 {
		create(t, api.Create, &admissionregistrationv1.ValidatingWebhookConfiguration{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint(e.namespace, "-", i), Labels: labels},
			Webhooks:   []admissionregistrationv1.ValidatingWebhook{e.validating("check", "data", on("", "configmaps", "CREATE"))},
		})
	}
	those := metav1.ListOptions{LabelSelector: "listing=validating"}
	list, err := api.List(t.Context(), those)
	if err != nil || len(list.Items) != 10 {
		t.Fatalf("listed %d: %v", len(list.Items), err)
	}
	await(t, "they are in force", func() bool { return e.denied(t) })
	if err := api.DeleteCollection(t.Context(), metav1.DeleteOptions{}, those); err != nil {
		t.Fatal(err)
	}
	await(t, "they are out of force", func() bool { return !e.denied(t) })
}

func listMutating(t *testing.T, e env) {
	api := e.client.AdmissionregistrationV1().MutatingWebhookConfigurations()
	labels := map[string]string{"listing": "mutating"}
	for i := range 10 {
		create(t, api.Create, &admissionregistrationv1.MutatingWebhookConfiguration{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint(e.namespace, "-", i), Labels: labels},
			Webhooks:   []admissionregistrationv1.MutatingWebhook{e.mutating("change", "mutate-data", on("", "configmaps", "CREATE"))},
		})
	}
	those := metav1.ListOptions{LabelSelector: "listing=mutating"}
	list, err := api.List(t.Context(), those)
	if err != nil || len(list.Items) != 10 {
		t.Fatalf("listed %d: %v", len(list.Items), err)
	}
	await(t, "they are in force", func() bool { return e.mutated(t) })
	if err := api.DeleteCollection(t.Context(), metav1.DeleteOptions{}, those); err != nil {
		t.Fatal(err)
	}
	await(t, "they are out of force", func() bool { return !e.mutated(t) })
}

func conditions(expressions ...string) []admissionregistrationv1.MatchCondition {
	var all []admissionregistrationv1.MatchCondition
	for i, e := range expressions {
		all = append(all, admissionregistrationv1.MatchCondition{Name: fmt.Sprint("expression-", i), Expression: e})
	}
	return all
}

// leases asks for nodes' heartbeats to be left alone, as users do.
const noLeases = `!(request.resource.group == "coordination.k8s.io" && request.resource.resource == "leases")`

func conditionsOfValidating(t *testing.T, e env) {
	hook := e.validating("check", "data", on("", "configmaps", "CREATE"))
	hook.MatchConditions = conditions(noLeases)
	made := e.registerValidating(t, hook)
	if !e.denied(t) {
		t.Error("not denied where the condition holds")
	}
	made.Webhooks[0].MatchConditions = conditions(noLeases, `object.metadata.name != "any"`)
	got, err := e.client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Update(t.Context(), made, metav1.UpdateOptions{})
	if err != nil || len(got.Webhooks[0].MatchConditions) != 2 {
		t.Fatalf("updated to %v: %v", got, err)
	}
	await(t, "the new condition holds", func() bool { return !e.denied(t) })
}

func conditionsOfMutating(t *testing.T, e env) {
	hook := e.mutating("change", "mutate-data", on("", "configmaps", "CREATE"))
	hook.MatchConditions = conditions(noLeases)
	made := e.registerMutating(t, hook)
	if !e.mutated(t) {
		t.Error("not mutated where the condition holds")
	}
	made.Webhooks[0].MatchConditions = conditions(noLeases, `object.metadata.name != "any"`)
	got, err := e.client.AdmissionregistrationV1().MutatingWebhookConfigurations().Update(t.Context(), made, metav1.UpdateOptions{})
	if err != nil || len(got.Webhooks[0].MatchConditions) != 2 {
		t.Fatalf("updated to %v: %v", got, err)
	}
	await(t, "the new condition holds", func() bool { return !e.mutated(t) })
}

func invalidConditionsOfValidating(t *testing.T, e env) {
	hook := e.validating("check", "data", on("", "configmaps", "CREATE"))
	hook.MatchConditions = conditions("... [] bad expression")
	_, err := e.client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Create(t.Context(), &admissionregistrationv1.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: e.namespace}, Webhooks: []admissionregistrationv1.ValidatingWebhook{hook},
	}, metav1.CreateOptions{})
	wantDenied(t, err, "compilation failed")
}

func invalidConditionsOfMutating(t *testing.T, e env) {
	hook := e.mutating("change", "mutate-data", on("", "configmaps", "CREATE"))
	hook.MatchConditions = conditions("... [] bad expression")
	_, err := e.client.AdmissionregistrationV1().MutatingWebhookConfigurations().Create(t.Context(), &admissionregistrationv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: e.namespace}, Webhooks: []admissionregistrationv1.MutatingWebhook{hook},
	}, metav1.CreateOptions{})
	wantDenied(t, err, "compilation failed")
}

func skipMe(t *testing.T, e env) {
	hook := e.mutating("change", "mutate-data", on("", "configmaps", "CREATE"))
	hook.MatchConditions = conditions(`object.metadata.name != "skip-me"`)
	e.registerMutating(t, hook)
	if !e.mutated(t) {
		t.Error("not mutated")
	}
	skipped := create(t, e.client.CoreV1().ConfigMaps(e.namespace).Create, newConfigMap("skip-me", map[string]string{"mutation-start": "yes"}))
	if len(skipped.Data) != 1 {
		t.Errorf("skip-me has %v", skipped.Data)
	}
}
