package object_test

import (
	"runtime"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/rowlock-io/rowlock/schema/object"
)

// TestWrittenDefinitionsDoNotOutgrowTheBound: decoded definitions take many times their JSON, and are counted as that also
// when they were not decoded but kept from a write. Making and deleting them took twice the bound and more.
func TestWrittenDefinitionsDoNotOutgrowTheBound(t *testing.T) {
	t.Parallel()
	const weight = 10
	cfg, _ := podConfig()
	cfg.Weight = weight
	cfg.Hot = object.NewHot(1 << 20)
	c := object.NewCodec(cfg)
	e := entry(t, c, pod("a"), 7)
	plain, err := c.Encode(pod("a"))
	if err != nil {
		t.Fatal(err)
	}
	v := c.Written(e.Key, plain)
	e.SetAux(v)
	v.Seed(pod("a"))
	v.Committed(7)
	if _, err := v.Object(); err != nil {
		t.Fatal(err)
	}
	if got, want := cfg.Hot.Bytes(), int64(weight*len(plain)); got != want {
		t.Errorf("counted as %d bytes, want %d", got, want)
	}
}

// inflating decodes everything to much more than what is stored, as a conversion webhook may.
type inflating struct {
	apiruntime.Codec
	spec any
}

func (c inflating) Decode(_ []byte, gvk *schema.GroupVersionKind, into apiruntime.Object) (apiruntime.Object, *schema.GroupVersionKind, error) {
	into.(*unstructured.Unstructured).Object = map[string]any{
		"apiVersion": "example.com/v1", "kind": "Pod", "metadata": map[string]any{"name": "a"}, "spec": c.spec,
	}
	return into, gvk, nil
}

// TestConvertedObjectsDoNotOutgrowTheBound: a conversion webhook that answered 30 MB for each small object had all of them
// kept, counted as the little that is stored.
func TestConvertedObjectsDoNotOutgrowTheBound(t *testing.T) {
	t.Parallel()
	const size, bound = 100 << 10, 1 << 20
	for name, spec := range map[string]any{
		"a long string": strings.Repeat("x", size),
		"many fields":   map[string]any{"deep": []any{strings.Repeat("x", size/2), map[string]any{strings.Repeat("y", size/2): int64(1)}}},
		"many items":    make([]any, size/16),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg, codec := podConfig()
			cfg.Hot = object.NewHot(bound)
			plain := object.NewCodec(cfg)
			cfg.Codec = inflating{codec, spec}
			cfg.New = func() apiruntime.Object { return &unstructured.Unstructured{} }
			c := object.NewCodec(cfg)
			v := c.View(entry(t, plain, pod("a"), 7))
			for range 2 {
				if _, err := v.Object(); err != nil {
					t.Fatal(err)
				}
				runtime.GC()
			}
			if got := cfg.Hot.Bytes(); got < size || got > 4*size {
				t.Errorf("counted as %d bytes, has at least %d", got, size)
			}
		})
	}
}
