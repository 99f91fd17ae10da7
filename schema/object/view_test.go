package object_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/apitesting"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apiserver/pkg/apis/example"
	examplev1 "k8s.io/apiserver/pkg/apis/example/v1"
	apistorage "k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/value"

	"github.com/rowlock-io/rowlock/schema/object"
	"github.com/rowlock-io/rowlock/storage"
	"github.com/rowlock-io/rowlock/storage/cache"
)

// counting counts decodes.
type counting struct {
	apiruntime.Codec
	decodes atomic.Int64
}

func (c *counting) Decode(data []byte, gvk *schema.GroupVersionKind, into apiruntime.Object) (apiruntime.Object, *schema.GroupVersionKind, error) {
	c.decodes.Add(1)
	return c.Codec.Decode(data, gvk, into)
}

func podConfig() (object.Config, *counting) {
	scheme := apiruntime.NewScheme()
	metav1.AddToGroupVersion(scheme, metav1.SchemeGroupVersion)
	utilruntime.Must(example.AddToScheme(scheme))
	utilruntime.Must(examplev1.AddToScheme(scheme))
	codec := &counting{Codec: apitesting.TestCodec(serializer.NewCodecFactory(scheme), examplev1.SchemeGroupVersion)}
	return object.Config{
		Resource: schema.GroupResource{Resource: "pods"},
		Codec:    codec,
		New:      func() apiruntime.Object { return &example.Pod{} },
		NewList:  func() apiruntime.Object { return &example.PodList{} },
		GetAttrs: func(obj apiruntime.Object) (labels.Set, fields.Set, error) {
			pod := obj.(*example.Pod)
			return pod.Labels, fields.Set{"metadata.name": pod.Name, "spec.nodeName": pod.Spec.NodeName}, nil
		},
		Protobuf: codec, // any encoder will do to see what is shared
	}, codec
}

func pod(name string) *example.Pod {
	return &example.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: "u", Labels: map[string]string{"app": name, "q\"\\": "é"}},
		Spec:       example.PodSpec{NodeName: "node-" + name},
	}
}

func entry(t testing.TB, c *object.Codec, obj *example.Pod, rev storage.Revision) *cache.Entry {
	t.Helper()
	key := storage.Key{Resource: "pods", Namespace: obj.Namespace, Name: obj.Name}
	plain, err := c.Encode(obj)
	if err != nil {
		t.Fatal(err)
	}
	data, err := c.Seal(t.Context(), key, plain)
	if err != nil {
		t.Fatal(err)
	}
	return cache.NewEntry(storage.Object{Key: key, Revision: rev, Data: data})
}

func bytesOf(t testing.TB, e *cache.Entry) []byte {
	t.Helper()
	data, err := e.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestObject(t *testing.T) {
	t.Parallel()
	cfg, _ := podConfig()
	c := object.NewCodec(cfg)
	in := pod("a")
	in.ResourceVersion, in.SelfLink = "99", "/x"
	e := entry(t, c, in, 7)
	if bytes.Contains(bytesOf(t, e), []byte("resourceVersion")) || bytes.Contains(bytesOf(t, e), []byte("selfLink")) || bytes.HasSuffix(bytesOf(t, e), []byte("\n")) {
		t.Fatalf("stored %q", bytesOf(t, e))
	}
	v := c.View(e)
	want := pod("a")
	want.ResourceVersion = "7"
	shared, err := v.Object()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(apiruntime.Object(want), shared); diff != "" {
		t.Errorf("Object (-want +got):\n%s", diff)
	}
	later, err := v.ObjectAt(8)
	if err != nil {
		t.Fatal(err)
	}
	own, err := v.Mutable()
	if err != nil {
		t.Fatal(err)
	}
	own.(*example.Pod).Labels["app"] = "changed"
	later.(*example.Pod).Kind = "changed"
	if diff := cmp.Diff(apiruntime.Object(want), shared); diff != "" {
		t.Errorf("a copy changed the shared object:\n%s", diff)
	}
	if got := later.(*example.Pod).ResourceVersion; got != "8" {
		t.Errorf("ObjectAt(8) has resourceVersion %s", got)
	}
}

func TestMatches(t *testing.T) {
	t.Parallel()
	everything, anyField := labels.Everything(), fields.Everything()
	tests := []struct {
		name    string
		label   labels.Selector
		field   fields.Selector
		want    bool
		decodes int64
	}{
		{"everything", everything, anyField, true, 0},
		{"nil selectors", nil, nil, true, 0},
		{"label", labels.SelectorFromSet(labels.Set{"app": "a"}), anyField, true, 0},
		{"escaped label", labels.SelectorFromSet(labels.Set{"q\"\\": "é"}), anyField, true, 0},
		{"other label", labels.SelectorFromSet(labels.Set{"app": "b"}), anyField, false, 0},
		{"nothing", labels.Nothing(), anyField, false, 0},
		{"name", everything, fields.OneTermEqualSelector("metadata.name", "a"), true, 0},
		{"not name", everything, fields.OneTermNotEqualSelector("metadata.name", "a"), false, 0},
		{"namespace", everything, fields.OneTermEqualSelector("metadata.namespace", "other"), false, 0},
		{"no field", everything, fields.Nothing(), false, 0},
		{"field", everything, fields.ParseSelectorOrDie("spec.nodeName=node-a,metadata.name=a"), true, 1},
		{"other field", everything, fields.OneTermEqualSelector("spec.nodeName", "x"), false, 1},
		{"label saves the field", labels.SelectorFromSet(labels.Set{"app": "b"}), fields.OneTermEqualSelector("spec.nodeName", "node-a"), false, 0},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			cfg, count := podConfig()
			c := object.NewCodec(cfg)
			v := c.View(entry(t, c, pod("a"), 7))
			for range 3 {
				got, err := v.Matches(&apistorage.SelectionPredicate{Label: tc.label, Field: tc.field})
				if err != nil || got != tc.want {
					t.Fatalf("Matches = %v, %v; want %v", got, err, tc.want)
				}
				runtime.GC() // what was computed must not hang on the decoded object
			}
			if got := count.decodes.Load(); got != tc.decodes {
				t.Errorf("%d decodes, want %d", got, tc.decodes)
			}
		})
	}
}

func TestAttrs(t *testing.T) {
	t.Parallel()
	cfg, _ := podConfig()
	c := object.NewCodec(cfg)
	l, f, err := c.View(entry(t, c, pod("a"), 7)).Attrs()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(labels.Set(pod("a").Labels), l); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(fields.Set{"metadata.name": "a", "spec.nodeName": "node-a"}, f); diff != "" {
		t.Errorf("fields (-want +got):\n%s", diff)
	}
}

// TestConcurrent has many look at one entry for the first time.
func TestConcurrent(t *testing.T) {
	t.Parallel()
	cfg, _ := podConfig()
	cfg.Transformer = sealing{}
	cfg.Hot = object.NewHot(1 << 20)
	c, other := object.NewCodec(cfg), object.NewCodec(cfg)
	for range 50 {
		e := entry(t, c, pod("a"), 7)
		var wg sync.WaitGroup
		for i := range 16 {
			wg.Go(func() {
				v := c.View(e)
				if i%3 == 0 {
					v = other.View(e)
				}
				for j := range 6 {
					if err := look(v, (i+j)%6); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
	}
}

func look(v *object.View, how int) error {
	switch how {
	case 0:
		obj, err := v.Object()
		if err == nil && obj.(*example.Pod).ResourceVersion != "7" {
			err = errors.New("wrong resourceVersion")
		}
		return err
	case 1:
		data, off, err := v.JSON()
		if err == nil && !bytes.Contains(object.AppendJSON(nil, data, off, 7), []byte(`"uid":"u","resourceVersion":"7",`)) {
			err = fmt.Errorf("wrong JSON: %s", data)
		}
		return err
	case 2:
		ok, err := v.Matches(&apistorage.SelectionPredicate{Label: labels.Everything(), Field: fields.OneTermEqualSelector("spec.nodeName", "node-a")})
		if err == nil && !ok {
			err = errors.New("not matched")
		}
		return err
	case 3:
		obj, err := v.Mutable()
		if err == nil {
			obj.(*example.Pod).Labels["mine"] = "mine"
		}
		return err
	case 4:
		_, err := v.Protobuf(7)
		return err
	default:
		_, err := v.ObjectAt(9)
		return err
	}
}

// sealing is an encryption that notices when bytes are moved to another key.
type sealing struct{ stale bool }

var errMoved = errors.New("sealed for another key")

func (s sealing) TransformToStorage(_ context.Context, data []byte, at value.Context) ([]byte, error) {
	return append(append(append([]byte{}, at.AuthenticatedData()...), '|'), data...), nil
}

func (s sealing) TransformFromStorage(_ context.Context, data []byte, at value.Context) ([]byte, bool, error) {
	plain, ok := bytes.CutPrefix(data, append(at.AuthenticatedData(), '|'))
	if !ok {
		return nil, false, errMoved
	}
	return plain, s.stale, nil
}

func TestSealed(t *testing.T) {
	t.Parallel()
	cfg, _ := podConfig()
	cfg.Transformer = sealing{stale: true}
	c := object.NewCodec(cfg)
	e := entry(t, c, pod("a"), 7)
	v := c.View(e)
	if plain, err := v.Plain(); err != nil || plain[0] != '{' || !v.Stale() {
		t.Fatalf("Plain = %q, %v, stale %v", plain, err, v.Stale())
	}
	moved := cache.NewEntry(storage.Object{Key: storage.Key{Resource: "pods", Namespace: "ns", Name: "b"}, Revision: 7, Data: bytesOf(t, e)})
	_, err := c.View(moved).Object()
	if !object.IsCorrupt(err) || !errors.Is(err, errMoved) {
		t.Errorf("moved bytes: %v", err)
	}
}

// TestWritten follows a View from before its commit into the cache.
func TestWritten(t *testing.T) {
	t.Parallel()
	for _, transformer := range []value.Transformer{nil, sealing{}} {
		cfg, count := podConfig()
		cfg.Transformer = transformer
		cfg.Hot = object.NewHot(1 << 20)
		c := object.NewCodec(cfg)
		e := entry(t, c, pod("a"), 7)
		plain, err := c.Encode(pod("a"))
		if err != nil {
			t.Fatal(err)
		}
		v := c.Written(e.Key, plain)
		e.SetAux(v)
		v.Committed(7)
		obj, err := v.Object()
		if err != nil || obj.(*example.Pod).ResourceVersion != "7" {
			t.Fatalf("Object = %v, %v", obj, err)
		}
		if c.View(e) != v {
			t.Fatal("the entry has another View")
		}
		runtime.GC()
		if _, err := c.View(e).Object(); err != nil {
			t.Fatal(err)
		}
		if n := count.decodes.Load(); n != 1 {
			t.Errorf("%d decodes, want 1: what was just written is kept", n)
		}
	}
}

// TestHot keeps what is used again within the bound, and nothing else.
func TestHot(t *testing.T) {
	t.Parallel()
	cfg, count := podConfig()
	cfg.Hot = object.NewHot(32 << 10)
	c := object.NewCodec(cfg)
	views := make([]*object.View, 200)
	for i := range views {
		views[i] = c.View(entry(t, c, pod(fmt.Sprint(i)), storage.Revision(i+1)))
	}
	read := func(v *object.View) {
		t.Helper()
		if _, err := v.Object(); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		for _, v := range views {
			for range 10 {
				read(views[0])
			}
			read(v)
			if got := cfg.Hot.Bytes(); got > 32<<10 {
				t.Fatalf("keeps %d bytes", got)
			}
		}
		runtime.GC()
	}
	if cfg.Hot.Bytes() < 16<<10 {
		t.Errorf("keeps only %d bytes", cfg.Hot.Bytes())
	}
	before := count.decodes.Load()
	read(views[0])
	if count.decodes.Load() != before {
		t.Error("the most used object was let go")
	}
	for _, v := range views {
		read(v)
	}
	if n := count.decodes.Load() - before; n < 50 {
		t.Errorf("only %d of 200 objects had to be decoded anew", n)
	}
}

func TestManyCodecs(t *testing.T) {
	t.Parallel()
	cfg, _ := podConfig()
	first, second := object.NewCodec(cfg), object.NewCodec(cfg)
	e := entry(t, first, pod("a"), 7)
	a, b := first.View(e), second.View(e)
	if a == b || first.View(e) != a || second.View(e) != b {
		t.Error("codecs that share an entry do not keep their Views")
	}
	for range 20 {
		if _, err := object.NewCodec(cfg).View(e).Object(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestUnstructured has callers set what they may set without the shared object noticing.
func TestUnstructured(t *testing.T) {
	t.Parallel()
	c := object.NewCodec(object.Config{
		Resource: schema.GroupResource{Group: "g", Resource: "things"},
		Codec:    apiruntime.NewCodec(unstructured.UnstructuredJSONScheme, unstructured.UnstructuredJSONScheme),
		New:      func() apiruntime.Object { return &unstructured.Unstructured{} },
	})
	e := cache.NewEntry(storage.Object{
		Key: storage.Key{Resource: "things.g", Name: "a"}, Revision: 7,
		Data: []byte(`{"apiVersion":"g/v1","kind":"Thing","metadata":{"name":"a","uid":"u"},"spec":{"x":1}}`),
	})
	v := c.View(e)
	shared, err := v.Object()
	if err != nil {
		t.Fatal(err)
	}
	for _, get := range []func() (apiruntime.Object, error){v.Assignable, func() (apiruntime.Object, error) { return v.ObjectAt(9) }} {
		obj, err := get()
		if err != nil {
			t.Fatal(err)
		}
		u := obj.(*unstructured.Unstructured)
		u.SetAPIVersion("g/v2")
		u.SetResourceVersion("10")
	}
	u := shared.(*unstructured.Unstructured)
	if u.GetAPIVersion() != "g/v1" || u.GetResourceVersion() != "7" {
		t.Errorf("shared object changed to %v", u.Object)
	}
	data, off, err := v.JSON()
	if err != nil {
		t.Fatal(err)
	}
	want := `{"apiVersion":"g/v1","kind":"Thing","metadata":{"name":"a","resourceVersion":"7","uid":"u"},"spec":{"x":1}}`
	if got := string(object.AppendJSON(nil, data, off, 7)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
