package fieldmanager

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	upstream "k8s.io/apiserver/pkg/endpoints/handlers/fieldmanager"
	"k8s.io/apiserver/pkg/warning"
	api "k8s.io/kubernetes/pkg/apis/core"
)

// mutator is an admission plug-in that changes managedFields.
type mutator func(pod *api.Pod)

func (mutator) Handles(admission.Operation) bool { return true }

func (m mutator) Admit(_ context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	m(a.GetObject().(*api.Pod))
	return nil
}

type warnings []string

func (w *warnings) AddWarning(_, text string) { *w = append(*w, text) }

// TestAdmissionEqualsUpstream has plug-ins leave managedFields alone, change them well and badly.
func TestAdmissionEqualsUpstream(t *testing.T) {
	t.Parallel()
	entry := func(raw string) metav1.ManagedFieldsEntry {
		return metav1.ManagedFieldsEntry{
			Manager: "a", Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: "v1", FieldsType: "FieldsV1",
			FieldsV1: &metav1.FieldsV1{Raw: []byte(raw)},
		}
	}
	for _, tt := range []struct {
		name   string
		change mutator
		warned bool
	}{
		{"nothing", func(*api.Pod) {}, false},
		{"labels", func(p *api.Pod) { p.Labels = map[string]string{"a": "b"} }, false},
		{"removed", func(p *api.Pod) { p.ManagedFields = nil }, false},
		{"fewer", func(p *api.Pod) { p.ManagedFields = p.ManagedFields[1:] }, false},
		{"one more", func(p *api.Pod) { p.ManagedFields = append(p.ManagedFields, entry(`{"f:spec":{}}`)) }, false},
		{"one more that is not JSON", func(p *api.Pod) { p.ManagedFields = append(p.ManagedFields, entry(`{"f:spec"`)) }, true},
		{"in place", func(p *api.Pod) { p.ManagedFields[0].Operation = "Steal" }, true},
		{"no version", func(p *api.Pod) { p.ManagedFields[1].APIVersion = "" }, true},
		{"no type", func(p *api.Pod) { p.ManagedFields[1].FieldsType = "" }, true},
		{"another type", func(p *api.Pod) { p.ManagedFields[1].FieldsType = "FieldsV2" }, true},
		{"no fields", func(p *api.Pod) { p.ManagedFields[1].FieldsV1 = nil }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			run := func(a admission.Interface) (*api.Pod, warnings) {
				pod := &api.Pod{ObjectMeta: metav1.ObjectMeta{ManagedFields: []metav1.ManagedFieldsEntry{entry(`{"f:a":{}}`), entry(`{"f:b":{}}`)}}}
				var said warnings
				attrs := admission.NewAttributesRecord(pod, nil, schema.GroupVersionKind{Version: "v1", Kind: "Pod"}, "ns", "p",
					schema.GroupVersionResource{Version: "v1", Resource: "pods"}, "", admission.Create, nil, false, nil)
				if err := a.(admission.MutationInterface).Admit(warning.WithWarningRecorder(t.Context(), &said), attrs, nil); err != nil {
					t.Fatal(err)
				}
				return pod, said
			}
			got, said := run((&Factory{common: common{sets: &sets{}}}).Admission(tt.change))
			want, wanted := run(upstream.NewManagedFieldsValidatingAdmissionController(tt.change))
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("object (-upstream +ours):\n%s", d)
			}
			if d := cmp.Diff(wanted, said); d != "" {
				t.Errorf("warnings (-upstream +ours):\n%s", d)
			}
			if (len(said) > 0) != tt.warned {
				t.Errorf("warned %q", said)
			}
		})
	}
}
