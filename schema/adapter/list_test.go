package adapter_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/apis/example"
	apistorage "k8s.io/apiserver/pkg/storage"

	"github.com/rowlock-io/rowlock/schema/adapter"
	"github.com/rowlock-io/rowlock/schema/object"
)

func names(list *example.PodList) []string {
	out := []string{}
	for i := range list.Items {
		out = append(out, list.Items[i].Namespace+"/"+list.Items[i].Name)
	}
	return out
}

// TestPages reads a collection in pages of every size while it changes: all pages show the first one's state, over
// namespaces whose names are in another order as path prefixes than they are as words.
func TestPages(t *testing.T) {
	t.Parallel()
	h := newHarness(t, memoryDatabase(t), 2)
	for _, ns := range []string{"a", "a-b", "a.b", "b"} {
		for i := range 3 {
			mustCreate(t, h, newPod(ns, fmt.Sprint("p", i)))
		}
	}
	const objects = 12
	for limit := int64(1); limit <= objects+1; limit++ {
		want := allNames(t, h)
		if len(want) != objects {
			t.Fatalf("%d objects, want %d", len(want), objects)
		}
		if diff := cmp.Diff(want, inPages(t, h, limit, len(want))); diff != "" {
			t.Fatalf("limit %d (-want +got):\n%s", limit, diff)
		}
	}
}

func inPages(t *testing.T, h *harness, limit int64, total int) []string {
	t.Helper()
	got, first := []string{}, ""
	opts := apistorage.ListOptions{Recursive: true, Predicate: apistorage.Everything}
	opts.Predicate.Limit = limit
	for {
		list := &example.PodList{}
		if err := h.GetList(t.Context(), "/pods", opts, list); err != nil {
			t.Fatal(err)
		}
		if first == "" {
			first = list.ResourceVersion
		}
		if list.ResourceVersion != first {
			t.Fatalf("page at %s, the first one was at %s", list.ResourceVersion, first)
		}
		got = append(got, names(list)...)
		if opts.Predicate.Continue = list.Continue; list.Continue == "" {
			return got
		}
		if left := total - len(got); list.RemainingItemCount == nil || *list.RemainingItemCount != int64(left) {
			t.Fatalf("remainingItemCount %v, want %d", list.RemainingItemCount, left)
		}
		// None of this is to be seen in the pages to come.
		extra := mustCreate(t, h, newPod("b", "passing"))
		if err := h.Delete(t.Context(), podKey(extra), &example.Pod{}, nil, apistorage.ValidateAllObjectFunc, nil, apistorage.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		if len(got) > total {
			t.Fatalf("the list does not end: %v", got)
		}
	}
}

func allNames(t *testing.T, h *harness) []string {
	t.Helper()
	list := &example.PodList{}
	if err := h.GetList(t.Context(), "/pods", apistorage.ListOptions{Recursive: true, Predicate: apistorage.Everything}, list); err != nil {
		t.Fatal(err)
	}
	return names(list)
}

// TestForeignTokens takes continue tokens as other servers make them: the key in them need not end in a NUL.
func TestForeignTokens(t *testing.T) {
	t.Parallel()
	h := newHarness(t, memoryDatabase(t), 1)
	for _, name := range []string{"a", "b", "c"} {
		mustCreate(t, h, newPod("ns", name))
	}
	for start, want := range map[string][]string{
		"ns/b":          {"ns/b", "ns/c"},
		"ns/b\x00":      {"ns/c"},
		"ns/bb":         {"ns/c"},
		"ns/z\x00":      {},
		"ns":            {"ns/a", "ns/b", "ns/c"},
		"ns/gone/x\x00": {},
	} {
		token, err := apistorage.EncodeContinue("/pods/"+start, "/pods/", -1)
		if err != nil {
			t.Fatal(err)
		}
		opts := apistorage.ListOptions{Recursive: true, Predicate: apistorage.Everything}
		opts.Predicate.Continue = token
		list := &example.PodList{}
		if err := h.GetList(t.Context(), "/pods", opts, list); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, names(list)); diff != "" {
			t.Errorf("from %q (-want +got):\n%s", start, diff)
		}
	}
}

// TestEmptyCluster lists before anything was ever written: a watch from what the list says misses nothing.
func TestEmptyCluster(t *testing.T) {
	t.Parallel()
	b := startBackend(t, memoryDatabase(t)(t))
	s := adapter.New(b, object.NewCodec(exampleConfig()), "/pods")
	list := &example.PodList{}
	everything := apistorage.ListOptions{Recursive: true, Predicate: apistorage.Everything}
	if err := s.GetList(t.Context(), "/pods", everything, list); err != nil {
		t.Fatal(err)
	}
	pod := mustCreate(t, s, newPod("ns", "a"))
	if everything.ResourceVersion = list.ResourceVersion; list.ResourceVersion == "0" {
		t.Fatal("an empty cluster has no resourceVersion to watch from")
	}
	w, err := s.Watch(t.Context(), "/pods", everything)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	if e := <-w.ResultChan(); e.Type != watch.Added || e.Object.(*example.Pod).ResourceVersion != pod.ResourceVersion {
		t.Errorf("event %v", e)
	}
}

// TestSharedObjects has callers change what they may of what they were given, at the same time: nobody sees it.
func TestSharedObjects(t *testing.T) {
	t.Parallel()
	h := newHarness(t, memoryDatabase(t), 1)
	want := mustCreate(t, h, newPod("ns", "a"))
	done := make(chan error)
	for range 8 {
		go func() {
			var err error
			for range 50 {
				list := &example.PodList{}
				opts := apistorage.ListOptions{Recursive: true, Predicate: apistorage.SelectionPredicate{
					Label: labels.Everything(), Field: fields.OneTermEqualSelector("spec.nodeName", ""),
				}}
				if err = h.GetList(t.Context(), "/pods", opts, list); err != nil || len(list.Items) != 1 {
					break
				}
				got := &list.Items[0]
				if diff := cmp.Diff(want, got); diff != "" {
					err = fmt.Errorf("-want +got:\n%s", diff)
					break
				}
				got.Kind, got.ResourceVersion, got.Labels = "changed", "changed", map[string]string{"changed": "changed"}
				got.CreationTimestamp = metav1.NewTime(time.Unix(0, 0))
			}
			done <- err
		}()
	}
	for range 8 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
