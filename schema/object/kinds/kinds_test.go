package kinds

import (
	"bytes"
	"math/rand"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/apitesting/fuzzer"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	apitesting "k8s.io/kubernetes/pkg/api/testing"
	"sigs.k8s.io/randfill"

	"github.com/rowlock-io/rowlock/schema/object"
	"github.com/rowlock-io/rowlock/storage"
	"github.com/rowlock-io/rowlock/storage/cache"
)

// stored lists every version of every kind that has metadata and an internal version.
func stored(t *testing.T) []schema.GroupVersionKind {
	t.Helper()
	var kinds []schema.GroupVersionKind
	for gvk := range legacyscheme.Scheme.AllKnownTypes() {
		internal := schema.GroupVersionKind{Group: gvk.Group, Version: runtime.APIVersionInternal, Kind: gvk.Kind}
		if gvk.Version == runtime.APIVersionInternal || !legacyscheme.Scheme.Recognizes(internal) {
			continue
		}
		obj, err := legacyscheme.Scheme.New(internal)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := meta.Accessor(obj); err == nil {
			kinds = append(kinds, gvk)
		}
	}
	if len(kinds) < 100 {
		t.Fatalf("found only %d kinds", len(kinds))
	}
	return kinds
}

func encoder(t *testing.T, mediaType string, gv schema.GroupVersion) runtime.Encoder {
	t.Helper()
	info, ok := runtime.SerializerInfoForMediaType(legacyscheme.Codecs.SupportedMediaTypes(), mediaType)
	if !ok {
		t.Fatalf("no serializer for %s", mediaType)
	}
	return legacyscheme.Codecs.EncoderForVersion(info.Serializer, gv)
}

func codecOf(t *testing.T, gvk schema.GroupVersionKind) *object.Codec {
	t.Helper()
	return object.NewCodec(object.Config{
		Resource: schema.GroupResource{Group: gvk.Group, Resource: "things"},
		Codec:    legacyscheme.Codecs.LegacyCodec(gvk.GroupVersion()),
		Protobuf: encoder(t, runtime.ContentTypeProtobuf, gvk.GroupVersion()),
		Stored:   object.DecodeStored(legacyscheme.Scheme, gvk),
		External: func(obj runtime.Object) (runtime.Object, error) {
			return legacyscheme.Scheme.UnsafeConvertToVersion(obj, gvk.GroupVersion())
		},
		New: func() runtime.Object {
			obj, err := legacyscheme.Scheme.New(schema.GroupVersionKind{Group: gvk.Group, Version: runtime.APIVersionInternal, Kind: gvk.Kind})
			if err != nil {
				panic(err)
			}
			return obj
		},
		Hot: object.NewHot(1 << 20),
	})
}

const revision = 1234567

// withRevision is what upstream would encode into a reply.
func withRevision(t *testing.T, obj runtime.Object) runtime.Object {
	t.Helper()
	obj = obj.DeepCopyObject()
	m, err := meta.Accessor(obj)
	if err != nil {
		t.Fatal(err)
	}
	m.SetResourceVersion("1234567")
	m.SetSelfLink("")
	return obj
}

func viewOf(codec *object.Codec, plain []byte) *object.View {
	return codec.View(cache.NewEntry(storage.Object{
		Key: storage.Key{Resource: "things", Name: "x"}, Revision: revision, Data: plain,
	}))
}

// randomly makes an object with random content as registries write one: decoded and defaulted.
func randomly(t *testing.T, codec *object.Codec, filler *randfill.Filler) runtime.Object {
	t.Helper()
	filled := codec.Config().New()
	filler.Fill(filled)
	plain, err := codec.Encode(filled)
	if err != nil {
		t.Fatal(err)
	}
	given, err := viewOf(codec, plain).Mutable()
	if err != nil {
		t.Fatal(err)
	}
	return given
}

// TestEqualsUpstream fills objects of every kind with random content, stores them, and compares what is spliced and
// transcoded from the stored bytes with what upstream's serializers write.
func TestEqualsUpstream(t *testing.T) {
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	source := rand.New(rand.NewSource(seed))
	for _, gvk := range stored(t) {
		t.Run(gvk.String(), func(t *testing.T) {
			codec := codecOf(t, gvk)
			filler := fuzzer.FuzzerFor(apitesting.FuzzerFuncs, rand.NewSource(source.Int63()), legacyscheme.Codecs)
			for range 20 {
				obj := codec.Config().New()
				filler.Fill(obj)
				want, err := runtime.Encode(encoder(t, runtime.ContentTypeJSON, gvk.GroupVersion()), withRevision(t, obj))
				if err != nil {
					t.Fatal(err)
				}
				plain, err := codec.Encode(obj)
				if err != nil {
					t.Fatal(err)
				}
				view := viewOf(codec, plain)
				data, off, err := view.JSON()
				if err != nil {
					t.Fatalf("%v in %s", err, plain)
				}
				got := append(object.AppendJSON(nil, data, off, revision), '\n')
				if !bytes.Equal(got, want) {
					t.Fatalf("JSON differs (-upstream +ours):\n%s", cmp.Diff(string(want), string(got)))
				}
				checkProtobuf(t, codec, gvk, viewOf(codec, plain))
			}
		})
	}
}

func checkProtobuf(t *testing.T, codec *object.Codec, gvk schema.GroupVersionKind, view *object.View) {
	t.Helper()
	direct, err := view.Protobuf(revision) // of what nobody has decoded
	if err != nil {
		t.Fatal(err)
	}
	obj, err := view.Object()
	if err != nil {
		t.Fatal(err)
	}
	plain, err := view.Plain()
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := codec.Config().Stored(plain); !ok {
		t.Fatalf("not decoded as it is stored: %s", plain)
	}
	for _, at := range []storage.Revision{revision, revision + 1} {
		want := obj.DeepCopyObject()
		if at != revision {
			m, _ := meta.Accessor(want)
			m.SetResourceVersion("1234568")
		}
		wantData, err := runtime.Encode(encoder(t, runtime.ContentTypeProtobuf, gvk.GroupVersion()), want)
		if err != nil {
			t.Fatal(err)
		}
		if at == revision && !bytes.Equal(direct, wantData) {
			t.Fatalf("protobuf of what was stored differs (-upstream +ours):\n%s", cmp.Diff(wantData, direct))
		}
		again := viewOf(codec, plain)
		if _, err := again.Object(); err != nil {
			t.Fatal(err)
		}
		got, err := again.Protobuf(at)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, wantData) {
			t.Fatalf("protobuf differs (-upstream +ours):\n%s", cmp.Diff(wantData, got))
		}
	}
}
