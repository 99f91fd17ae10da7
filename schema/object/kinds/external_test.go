package kinds

import (
	"math/rand"
	"reflect"
	"runtime"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"k8s.io/apimachinery/pkg/api/apitesting/fuzzer"
	"k8s.io/apimachinery/pkg/api/meta"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	apitesting "k8s.io/kubernetes/pkg/api/testing"

	"github.com/rowlock-io/rowlock/schema/object"
)

// TestExternal: what informers of the process hold is what client-go would have decoded from the reply, but for the
// managed fields and for lists and maps that are empty instead of nil; whether or not somebody has decoded the object before.
func TestExternal(t *testing.T) {
	source := rand.New(rand.NewSource(1))
	for _, gvk := range stored(t) {
		if !scheme.Scheme.Recognizes(gvk) {
			continue
		}
		t.Run(gvk.String(), func(t *testing.T) {
			codec := codecOf(t, gvk)
			filler := fuzzer.FuzzerFor(apitesting.FuzzerFuncs, rand.NewSource(source.Int63()), legacyscheme.Codecs)
			for range 10 {
				plain, err := codec.Encode(randomly(t, codec, filler))
				if err != nil {
					t.Fatal(err)
				}
				view := viewOf(codec, plain)
				data, off, err := view.JSON()
				if err != nil {
					t.Fatal(err)
				}
				want, err := apiruntime.Decode(scheme.Codecs.WithoutConversion().DecoderToVersion(
					decoderOf(t), gvk.GroupVersion()), object.AppendJSON(nil, data, off, revision))
				if err != nil {
					t.Fatal(err)
				}
				m, err := meta.Accessor(want)
				if err != nil {
					t.Fatal(err)
				}
				m.SetManagedFields(nil)
				for _, decoded := range []bool{false, true} {
					view := viewOf(codec, plain)
					var internal apiruntime.Object
					if decoded {
						if internal, err = view.Object(); err != nil {
							t.Fatal(err)
						}
					}
					before := copyOf(internal)
					got, err := view.External()
					if err != nil {
						t.Fatal(err)
					}
					if d := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmp.Exporter(func(reflect.Type) bool { return true })); d != "" {
						t.Fatalf("decoded before: %v; -client-go +ours:\n%s", decoded, d)
					}
					if again, err := view.External(); err != nil || again != got {
						t.Fatalf("decoded before: %v; a second object was made (%v)", decoded, err)
					}
					if !reflect.DeepEqual(before, copyOf(internal)) {
						t.Fatal("the decoded object was changed")
					}
					runtime.KeepAlive(internal)
				}
			}
		})
	}
}

func copyOf(obj apiruntime.Object) apiruntime.Object {
	if obj == nil {
		return nil
	}
	return obj.DeepCopyObject()
}

func decoderOf(t *testing.T) apiruntime.Decoder {
	t.Helper()
	info, ok := apiruntime.SerializerInfoForMediaType(scheme.Codecs.SupportedMediaTypes(), apiruntime.ContentTypeJSON)
	if !ok {
		t.Fatal("client-go has no JSON")
	}
	return info.Serializer
}

// TestExternalIsWeak: nobody holds an object that informers have let go.
func TestExternalIsWeak(t *testing.T) {
	gvk := schema.GroupVersionKind{Version: "v1", Kind: "Pod"}
	codec := codecOf(t, gvk)
	plain, err := codec.Encode(codec.Config().New())
	if err != nil {
		t.Fatal(err)
	}
	view := viewOf(codec, plain)
	obj, err := view.External()
	if err != nil {
		t.Fatal(err)
	}
	gone := make(chan struct{})
	runtime.SetFinalizer(obj, func(any) { close(gone) })
	runtime.GC()
	if again, err := view.External(); err != nil || again != obj {
		t.Fatalf("got another object while the first is held (%v)", err)
	}
	obj = nil
	for range 10 {
		runtime.GC()
		select {
		case <-gone:
			if _, err := view.External(); err != nil {
				t.Fatal(err)
			}
			return
		default:
			runtime.Gosched()
		}
	}
	t.Error("an object that nobody holds is kept")
}
