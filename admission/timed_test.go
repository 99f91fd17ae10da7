package admission

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime/schema"
	upstream "k8s.io/apiserver/pkg/admission"
	admissionmetrics "k8s.io/apiserver/pkg/admission/metrics"
	"k8s.io/component-base/metrics/legacyregistry"
)

// refuser is a plug-in that refuses what is named so.
type refuser struct{ *upstream.Handler }

func (r refuser) Admit(_ context.Context, a upstream.Attributes, _ upstream.ObjectInterfaces) error {
	if a.GetName() == "refused" {
		return errors.New("refused")
	}
	return nil
}

func (r refuser) Validate(ctx context.Context, a upstream.Attributes, o upstream.ObjectInterfaces) error {
	return r.Admit(ctx, a, o)
}

// TestTimes compares what is counted with what upstream's decorator counts.
func TestTimes(t *testing.T) {
	t.Parallel()
	plugin := refuser{upstream.NewHandler(upstream.Create, upstream.Update, upstream.Delete, upstream.Connect)}
	counted := map[string]map[string]uint64{}
	for name, decorate := range map[string]func(upstream.Interface, string) upstream.Interface{
		"times-ours": withTimes, "times-upstream": admissionmetrics.WithControllerMetrics,
	} {
		decorated := decorate(plugin, name)
		for i, op := range []upstream.Operation{upstream.Create, upstream.Update, upstream.Delete, upstream.Connect, "OTHER"} {
			for range i + 2 {
				for _, object := range []string{"let-pass", "refused"} {
					a := upstream.NewAttributesRecord(nil, nil, schema.GroupVersionKind{}, "", object, schema.GroupVersionResource{}, "", op, nil, false, nil)
					if err := decorated.(upstream.MutationInterface).Admit(t.Context(), a, nil); (err != nil) != (object == "refused") {
						t.Fatalf("Admit of %q: %v", object, err)
					}
					_ = decorated.(upstream.ValidationInterface).Validate(t.Context(), a, nil)
				}
			}
		}
		counted[name] = samples(t, name)
	}
	if len(counted["times-upstream"]) != 20 {
		t.Errorf("upstream counts %d series, expected 20", len(counted["times-upstream"]))
	}
	if d := cmp.Diff(counted["times-upstream"], counted["times-ours"]); d != "" {
		t.Errorf("(-upstream +ours):\n%s", d)
	}
}

// samples returns how often each series of a plug-in was observed.
func samples(t *testing.T, plugin string) map[string]uint64 {
	t.Helper()
	families, err := legacyregistry.DefaultGatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]uint64{}
	for _, family := range families {
		if family.GetName() != "apiserver_admission_controller_admission_duration_seconds" {
			continue
		}
		for _, m := range family.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if labels["name"] == plugin {
				delete(labels, "name")
				found[fmt.Sprint(labels)] = m.GetHistogram().GetSampleCount()
			}
		}
	}
	return found
}
