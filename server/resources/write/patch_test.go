package write

import (
	"bytes"
	"context"
	"encoding/json"
	"math/rand"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	"k8s.io/apimachinery/pkg/api/apitesting/fuzzer"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/endpoints/handlers"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	apitesting "k8s.io/kubernetes/pkg/api/testing"
	_ "k8s.io/kubernetes/pkg/apis/apps/install"
	_ "k8s.io/kubernetes/pkg/apis/autoscaling/install"
	_ "k8s.io/kubernetes/pkg/apis/batch/install"
	_ "k8s.io/kubernetes/pkg/apis/core/install"
	_ "k8s.io/kubernetes/pkg/apis/networking/install"
	_ "k8s.io/kubernetes/pkg/apis/rbac/install"

	"github.com/rowlock-io/rowlock/server/resources/narrow"
)

const patchCases = 20 // of each kind and type of patch

var kinds = []schema.GroupVersionKind{
	{Version: "v1", Kind: "Pod"},
	{Version: "v1", Kind: "ConfigMap"},
	{Version: "v1", Kind: "Secret"},
	{Version: "v1", Kind: "Service"},
	{Version: "v1", Kind: "Node"},
	{Version: "v1", Kind: "Event"},
	{Version: "v1", Kind: "ServiceAccount"},
	{Group: "apps", Version: "v1", Kind: "Deployment"},
	{Group: "apps", Version: "v1", Kind: "StatefulSet"},
	{Group: "apps", Version: "v1", Kind: "ControllerRevision"},
	{Group: "batch", Version: "v1", Kind: "Job"},
	{Group: "batch", Version: "v1", Kind: "CronJob"},
	{Group: "autoscaling", Version: "v2", Kind: "HorizontalPodAutoscaler"},
	{Group: "networking.k8s.io", Version: "v1", Kind: "Ingress"},
	{Group: "rbac.authorization.k8s.io", Version: "v1", Kind: "ClusterRole"},
}

// TestPatchesEqualUpstream patches random objects with random patches, good and bad, with our handlers and upstream's.
func TestPatchesEqualUpstream(t *testing.T) {
	t.Parallel()
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	for i, kind := range kinds {
		t.Run(kind.Kind, func(t *testing.T) {
			t.Parallel()
			p := newPlayer(t, kind, seed+int64(i))
			narrowed := 0
			for n := range patchCases {
				stored, other := p.object(), p.object()
				for _, strategic := range []bool{false, true} {
					narrowed += p.compare(stored, p.patch(stored, other, strategic, n), strategic)
				}
			}
			if p.ours.shape() != nil && narrowed < patchCases/2 {
				t.Errorf("%d of %d patches were narrowed: the test shows nothing", narrowed, 2*patchCases)
			}
		})
	}
}

// player holds what patches of one kind need.
type player struct {
	t      *testing.T
	kind   schema.GroupVersionKind
	rng    *rand.Rand
	fill   func(...any)
	scope  *handlers.RequestScope
	store  *store
	ours   *Handlers
	theirs http.HandlerFunc
}

func newPlayer(t *testing.T, kind schema.GroupVersionKind, seed int64) *player {
	t.Helper()
	scheme, hub := legacyscheme.Scheme, schema.GroupVersion{Group: kind.Group, Version: runtime.APIVersionInternal}
	filler := fuzzer.FuzzerFor(apitesting.FuzzerFuncs, rand.NewSource(seed), legacyscheme.Codecs).NumElements(1, 2)
	p := &player{
		t: t, kind: kind, rng: rand.New(rand.NewSource(seed)), store: &store{hub: hub.WithKind(kind.Kind)},
		fill: func(to ...any) { filler.Fill(to[0]) },
	}
	manager, err := managedfields.NewDefaultFieldManager(managedfields.NewDeducedTypeConverter(), scheme, scheme, scheme, kind, hub, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	p.scope = &handlers.RequestScope{
		Namer:      handlers.ContextBasedNaming{Namer: meta.NewAccessor(), ClusterScoped: false},
		Serializer: legacyscheme.Codecs, ParameterCodec: legacyscheme.ParameterCodec,
		Creater: scheme, Convertor: scheme, Defaulter: scheme, Typer: scheme, UnsafeConvertor: runtime.UnsafeObjectConvertor(scheme),
		EquivalentResourceMapper: runtime.NewEquivalentResourceRegistry(),
		Resource:                 kind.GroupVersion().WithResource("things"), Kind: kind, HubGroupVersion: hub, MetaGroupVersion: metav1.SchemeGroupVersion,
		MaxRequestBodyBytes: 1 << 20, FieldManager: manager,
	}
	admit := admission.NewChainHandler()
	p.ours = New(Config{Scope: p.scope, Fields: manager, Admission: admit, Scheme: scheme})
	p.theirs = handlers.PatchResource(p.store, p.scope, admit, PatchTypes)
	return p
}

// object is a random object as one is stored: it went through JSON in its version, with defaults.
func (p *player) object() runtime.Object {
	p.t.Helper()
	hub, err := legacyscheme.Scheme.New(p.store.hub)
	if err != nil {
		p.t.Fatal(err)
	}
	p.fill(hub)
	accessor, err := meta.Accessor(hub)
	if err != nil {
		p.t.Fatal(err)
	}
	accessor.SetName("one")
	accessor.SetNamespace("space")
	accessor.SetUID("7")
	accessor.SetResourceVersion("42")
	accessor.SetManagedFields([]metav1.ManagedFieldsEntry{{
		Manager: "earlier", Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: p.kind.GroupVersion().String(), FieldsType: "FieldsV1",
		Time: &metav1.Time{Time: time.Unix(1700000000, 0).UTC()}, FieldsV1: &metav1.FieldsV1{Raw: []byte(`{"f:metadata":{"f:labels":{"f:a":{}}}}`)},
	}})
	codec := legacyscheme.Codecs.LegacyCodec(p.kind.GroupVersion())
	data, err := runtime.Encode(codec, hub)
	if err != nil {
		p.t.Fatal(err)
	}
	stored, err := runtime.Decode(codec, data)
	if err != nil {
		p.t.Fatal(err)
	}
	return stored
}

// patch leads from one object to the fields that another has, and is broken now and then.
func (p *player) patch(from, to runtime.Object, strategic bool, n int) []byte {
	p.t.Helper()
	codec := legacyscheme.Codecs.LegacyCodec(p.kind.GroupVersion())
	var docs [2][]byte
	for i, obj := range []runtime.Object{from, to} {
		data, err := runtime.Encode(codec, obj)
		if err != nil {
			p.t.Fatal(err)
		}
		docs[i] = data
	}
	patch, err := jsonpatch.CreateMergePatch(docs[0], docs[1])
	if err != nil {
		p.t.Fatal(err)
	}
	if strategic {
		like, err := legacyscheme.Scheme.New(p.kind)
		if err != nil {
			p.t.Fatal(err)
		}
		// Random lists may lack what their items are told apart by; the merge patch then does as well.
		if directed, err := strategicpatch.CreateTwoWayMergePatch(docs[0], docs[1], like); err == nil {
			patch = directed
		}
	}
	tree := map[string]any{}
	if err := json.Unmarshal(patch, &tree); err != nil {
		p.t.Fatal(err)
	}
	p.thin(tree, 2)
	p.spoil(tree, n)
	if patch, err = json.Marshal(tree); err != nil {
		p.t.Fatal(err)
	}
	if n == patchCases-1 { // a name that comes twice
		patch = append([]byte(`{"metadata":{"name":"one"},"metadata":{"labels":{"a":"1","a":"2"}}`), append([]byte(","), patch[1:]...)...)
		patch = bytes.Replace(patch, []byte(",}"), []byte("}"), 1)
	}
	return patch
}

// thin leaves out half of what is in the uppermost levels of a tree.
func (p *player) thin(tree map[string]any, levels int) {
	for name, value := range tree {
		if sub, ok := value.(map[string]any); ok && levels > 1 {
			p.thin(sub, levels-1)
		} else if p.rng.Intn(2) == 0 {
			delete(tree, name)
		}
	}
}

// spoil adds what patches may say beside values of fields.
func (p *player) spoil(tree map[string]any, n int) {
	inside := func(name string) map[string]any {
		sub, ok := tree[name].(map[string]any)
		if !ok {
			sub = map[string]any{}
			tree[name] = sub
		}
		return sub
	}
	switch n {
	case 0:
		tree["nothing"] = "known"
	case 1:
		inside("metadata")["labels"] = "no map"
	case 2:
		inside("spec")["nothing"] = map[string]any{"known": 1}
	case 3:
		tree["metadata"] = map[string]any{"$patch": "replace", "name": "one", "namespace": "space"}
	case 4:
		tree["$patch"] = "replace"
	case 5:
		tree["kind"] = "Other"
	case 6:
		tree["spec"], tree["status"], tree["data"] = nil, nil, nil
	case 7:
		inside("metadata")["managedFields"] = []any{map[string]any{}}
	case 8:
		tree["metadata"] = map[string]any{"$retainKeys": []any{"name", "labels"}, "labels": map[string]any{"a": "b"}}
	case 9:
		inside("metadata")["$deleteFromPrimitiveList/finalizers"] = []any{"kubernetes"}
		inside("metadata")["finalizers"] = []any{"a.b/c"}
	case 10:
		inside("metadata")["resourceVersion"] = "41"
	case 11:
		inside("spec")["containers"] = []any{map[string]any{"name": "new"}, map[string]any{"name": 7}}
	case 12:
		tree["spec"] = "no object"
	case 13:
		inside("metadata")["uid"] = "8"
	case 14:
		inside("metadata")["name"] = "two"
	}
}

// compare returns how many of the patches were narrowed: none or one.
func (p *player) compare(stored runtime.Object, patch []byte, strategic bool) int {
	p.t.Helper()
	query := []string{"", "?fieldValidation=Strict", "?fieldValidation=Warn"}[p.rng.Intn(3)]
	p.store.obj = stored.DeepCopyObject()
	before := p.store.obj.DeepCopyObject()
	got := p.send(p.ours.Patch(p.store, p.unexpected), patch, query, strategic)
	if diff := cmp.Diff(before, p.store.obj); diff != "" {
		p.t.Fatalf("the stored object was changed by %s (-before +after):\n%s", patch, diff)
	}
	want := p.send(p.theirs, patch, query, strategic)
	if diff := cmp.Diff(want, got); diff != "" {
		p.t.Fatalf("%s, strategic %v, %q (-theirs +ours):\n%s", patch, strategic, query, diff)
	}
	if names(patch, strategic) && p.ours.shape() != nil {
		return 1
	}
	return 0
}

// unexpected is upstream's handler where ours should answer.
func (p *player) unexpected(http.ResponseWriter, *http.Request) {
	p.t.Helper()
	p.t.Error("the request was not taken")
}

// answer is what a client gets.
type answer struct {
	Code int
	Body string
	Type []string
}

func (p *player) send(handler http.HandlerFunc, patch []byte, query string, strategic bool) answer {
	req := httptest.NewRequest(http.MethodPatch, "/things/one"+query, bytes.NewReader(patch))
	req.Header.Set("Content-Type", string(types.MergePatchType))
	if strategic {
		req.Header.Set("Content-Type", string(types.StrategicMergePatchType)+"; charset=utf-8")
	}
	req = req.WithContext(request.WithRequestInfo(audit.WithAuditContext(req.Context()), &request.RequestInfo{
		IsResourceRequest: true, Namespace: "space", Name: "one", Verb: "patch", APIGroup: p.kind.Group, APIVersion: p.kind.Version, Resource: "things",
	}))
	w := httptest.NewRecorder()
	handler(w, req)
	return answer{Code: w.Code, Body: timeless(w.Body.Bytes()), Type: w.Header().Values("Content-Type")}
}

// timeless drops the times of managed fields, which are those of the two requests.
func timeless(body []byte) string {
	var tree map[string]any
	if json.Unmarshal(body, &tree) != nil {
		return string(body)
	}
	if m, ok := tree["metadata"].(map[string]any); ok {
		entries, _ := m["managedFields"].([]any)
		for _, e := range entries {
			delete(e.(map[string]any), "time")
		}
		slices.SortFunc(entries, func(a, b any) int { // entries of one moment have no order
			x, _ := json.Marshal(a)
			y, _ := json.Marshal(b)
			return bytes.Compare(x, y)
		})
	}
	out, _ := json.Marshal(tree)
	return string(out)
}

// store is a registry of one object that takes every update.
type store struct {
	rest.Patcher
	hub schema.GroupVersionKind
	obj runtime.Object
	err error // of every write
}

// New implements rest.Patcher.
func (s *store) New() runtime.Object {
	obj, err := legacyscheme.Scheme.New(s.hub)
	if err != nil {
		panic(err)
	}
	return obj
}

// Update implements rest.Patcher.
func (s *store) Update(ctx context.Context, _ string, info rest.UpdatedObjectInfo, create rest.ValidateObjectFunc, update rest.ValidateObjectUpdateFunc,
	_ bool, _ *metav1.UpdateOptions,
) (runtime.Object, bool, error) {
	if s.err != nil {
		return nil, false, s.err
	}
	obj, err := info.UpdatedObject(ctx, s.obj)
	if err != nil {
		return nil, false, err
	}
	accessor, err := meta.Accessor(s.obj)
	if err != nil {
		return nil, false, err
	}
	if accessor.GetUID() == "" { // nothing is stored
		return obj, true, create(ctx, obj)
	}
	return obj, false, update(ctx, obj, s.obj)
}

// Destroy implements rest.Storage.
func (s *store) Destroy() {}

// names tells whether a patch is about some of the object's fields.
func names(patch []byte, strategic bool) bool {
	if !strategic {
		_, ok := narrow.Read(patch)
		return ok
	}
	var tree map[string]any
	if json.Unmarshal(patch, &tree) != nil {
		return false
	}
	_, ok := narrow.Strategic(tree)
	return ok
}
