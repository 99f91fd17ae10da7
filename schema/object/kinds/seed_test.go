package kinds

import (
	"math/rand"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/apitesting/fuzzer"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/diff"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	apitesting "k8s.io/kubernetes/pkg/api/testing"

	"github.com/rowlock-io/rowlock/storage"
)

// TestSeed: an object that was not decoded after its write means the same as one that was.
func TestSeed(t *testing.T) {
	source := rand.New(rand.NewSource(1))
	for _, gvk := range stored(t) {
		t.Run(gvk.String(), func(t *testing.T) {
			codec := codecOf(t, gvk)
			filler := fuzzer.FuzzerFor(apitesting.FuzzerFuncs, rand.NewSource(source.Int63()), legacyscheme.Codecs)
			for range 10 {
				given := randomly(t, codec, filler)
				m, err := meta.Accessor(given)
				if err != nil {
					t.Fatal(err)
				}
				now := metav1.NewTime(time.Now())
				m.SetCreationTimestamp(now)
				m.SetDeletionTimestamp(&now)
				m.SetManagedFields(append(m.GetManagedFields(), metav1.ManagedFieldsEntry{Manager: "m", Time: &now}))
				plain, err := codec.Encode(given)
				if err != nil {
					t.Fatal(err)
				}
				view := codec.Written(storage.Key{Resource: "things", Name: "x"}, plain)
				view.Seed(given)
				m.SetName("changed by its owner")
				view.Committed(revision)
				seeded, err := view.Object()
				if err != nil {
					t.Fatal(err)
				}
				decoded, err := viewOf(codec, plain).Object()
				if err != nil {
					t.Fatal(err)
				}
				if !equality.Semantic.DeepEqual(seeded, decoded) {
					t.Fatalf("-decoded +seeded:\n%s", diff.Diff(decoded, seeded))
				}
			}
		})
	}
}
