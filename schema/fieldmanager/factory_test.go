package fieldmanager

import (
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/registry/rest"
	openapicommon "k8s.io/kube-openapi/pkg/common"
	api "k8s.io/kubernetes/pkg/apis/core"
	generatedopenapi "k8s.io/kubernetes/pkg/generated/openapi"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"github.com/rowlock-io/rowlock/schema/internal/upstream"
)

// TestLazy checks that making field managers builds nothing and that many first writes build the models once.
func TestLazy(t *testing.T) {
	t.Parallel()
	groups, err := upstream.Groups()
	if err != nil {
		t.Fatal(err)
	}
	var calls atomic.Int32
	f, err := New(Config{Groups: groups, Definitions: func(ref openapicommon.ReferenceCallback) map[string]openapicommon.OpenAPIDefinition {
		calls.Add(1)
		return generatedopenapi.GetOpenAPIDefinitions(ref)
	}})
	if err != nil {
		t.Fatal(err)
	}
	m, err := f.Manager(corev1.SchemeGroupVersion.WithKind("ConfigMap"), api.SchemeGroupVersion, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if n := calls.Load(); n != 0 {
		t.Errorf("definitions were made %d times before the first write", n)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			obj, err := m.Update(&api.ConfigMap{}, &api.ConfigMap{Data: map[string]string{"a": "b"}}, "me")
			if err != nil {
				t.Error(err)
				return
			}
			got := obj.(*api.ConfigMap).ManagedFields
			if len(got) != 1 || string(got[0].FieldsV1.Raw) != `{"f:data":{".":{},"f:a":{}}}` {
				t.Errorf("managedFields %v", got)
			}
		})
	}
	wg.Wait()
	if err := f.Build(); err != nil {
		t.Error(err)
	}
	if n := calls.Load(); n != 1 {
		t.Errorf("definitions were made %d times, want once", n)
	}
}

// TestExceptions lists the kinds whose Go type can hold what their model refuses. A kind that joins the list costs its
// writers validation; one that leaves it wrongly would be written without managedFields by upstream and not by us.
func TestExceptions(t *testing.T) {
	t.Parallel()
	f := sharedFixture(t).factory
	m, err := f.models()
	if err != nil {
		t.Fatal(err)
	}
	var got, generic []string
	for gvk, model := range m.kinds {
		i := slices.IndexFunc(f.schemes, func(s *runtime.Scheme) bool { return s.Recognizes(gvk) })
		obj, err := f.schemes[i].New(gvk)
		if err != nil {
			t.Fatal(err)
		}
		if !m.trusts(reflect.TypeOf(obj), model) {
			got = append(got, gvk.Kind)
		} else if m.outlineOf(reflect.TypeOf(obj), model) == nil {
			generic = append(generic, gvk.Kind)
		}
	}
	slices.Sort(got)
	// Keys that may be absent: the name of a secret, the type of a condition, the shareID of a device.
	want := []string{"FlowSchema", "PriorityLevelConfiguration", "ResourceClaim", "ServiceAccount"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("kinds that are validated (-want +got):\n%s", d)
	}
	// Its data are of any sort. All others are compared without generic values.
	if d := cmp.Diff([]string{"ControllerRevision"}, generic); d != "" {
		t.Errorf("kinds that are compared as generic values (-want +got):\n%s", d)
	}
}

// TestInvalidObject writes what an exception is for.
func TestInvalidObject(t *testing.T) {
	t.Parallel()
	e := sharedFixture(t).endpoint(t, "v1 serviceaccounts")
	nameless := &api.ServiceAccount{Secrets: []api.ObjectReference{{Kind: "Secret"}}}
	for _, m := range []interface {
		Update(live, obj runtime.Object, manager string) (runtime.Object, error)
	}{e.ours, e.stock} {
		_, err := m.Update(&api.ServiceAccount{}, nameless.DeepCopy(), "me")
		if err == nil || !strings.Contains(err.Error(), "name") {
			t.Errorf("error %v, want one about the missing name", err)
		}
	}
}

func TestUnknownKindIsRefused(t *testing.T) {
	t.Parallel()
	f := sharedFixture(t).factory
	gv := schema.GroupVersion{Group: "example.com", Version: "v1"}
	if _, err := f.Manager(gv.WithKind("Widget"), gv, "", nil); err == nil {
		t.Error("a field manager of an unknown kind was made")
	}
}

// TestSharedObjectsStay checks that objects handed to a field manager, which the cache may share, are not changed but
// for the managedFields of the new one.
func TestSharedObjectsStay(t *testing.T) {
	t.Parallel()
	e := sharedFixture(t).endpoint(t, "apps/v1 deployments")
	p := newPlayer(t, e, 1, &tally{})
	live := p.fill()
	created, err := e.ours.Update(mustNew(t, e), live, "creator")
	if err != nil {
		t.Fatal(err)
	}
	before := created.DeepCopyObject()
	p.live = created
	changed := p.changed()
	want := changed.DeepCopyObject()
	got, err := e.ours.Update(created, changed, "updater")
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(created, before) {
		t.Error("the live object was changed")
	}
	for _, obj := range []runtime.Object{got, want} {
		accessor, err := meta.Accessor(obj)
		if err != nil {
			t.Fatal(err)
		}
		accessor.SetManagedFields(nil)
	}
	if !reflect.DeepEqual(got, want) {
		t.Error("more than managedFields was changed in the new object")
	}
}

func mustNew(t *testing.T, e endpoint) runtime.Object {
	t.Helper()
	return mustNewOf(t, e, e.hub)
}

func mustNewOf(t *testing.T, e endpoint, gv schema.GroupVersion) runtime.Object {
	t.Helper()
	obj, err := e.scheme.New(gv.WithKind(e.kind.Kind))
	if err != nil {
		t.Fatal(err)
	}
	return obj
}

// resetter is a storage that tells which fields it resets.
type resetter struct{ rest.Storage }

func (resetter) GetResetFields() map[fieldpath.APIVersion]*fieldpath.Set {
	return map[fieldpath.APIVersion]*fieldpath.Set{"v1": fieldpath.NewSet(fieldpath.MakePathOrDie("status"))}
}

// filterer tells it as a filter.
type filterer struct{ rest.Storage }

func (filterer) GetResetFieldsFilter() map[fieldpath.APIVersion]fieldpath.Filter {
	return map[fieldpath.APIVersion]fieldpath.Filter{"v2": fieldpath.NewExcludeSetFilter(fieldpath.NewSet())}
}

type both struct {
	resetter
	filterer
}

func (both) New() runtime.Object { return &metav1.Status{} }
func (both) Destroy()            {}

func TestResetFields(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		storage rest.Storage
		want    fieldpath.APIVersion // the version that has a filter
		fails   bool
	}{
		{"fields", resetter{}, "v1", false},
		{"filter", filterer{}, "v2", false},
		{"neither", struct{ rest.Storage }{}, "", false},
		{"both", both{}, "", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := ResetFields(tt.storage)
			if (err != nil) != tt.fails {
				t.Fatalf("error %v", err)
			}
			if _, ok := got[tt.want]; ok != (tt.want != "") {
				t.Errorf("filters %v, want one of %q", got, tt.want)
			}
		})
	}
}
