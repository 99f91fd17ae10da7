package adapter_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/apis/example"
	apistorage "k8s.io/apiserver/pkg/storage"
)

// TestBookmarks counts the bookmarks of a quiet watch: about one a minute, and one shortly before its deadline.
func TestBookmarks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newSweepWorld(t).start()
		defer r.stop()
		pod := mustCreate(t, r, newPod("ns", "a"))
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute+10*time.Second)
		defer cancel()
		began := time.Now()
		opts := apistorage.ListOptions{Recursive: true, Predicate: apistorage.Everything, ResourceVersion: pod.ResourceVersion}
		opts.Predicate.AllowWatchBookmarks = true
		w, err := r.Watch(ctx, "/pods", opts)
		if err != nil {
			t.Fatal(err)
		}
		last, bookmarks := time.Duration(0), 0
		for e := range w.ResultChan() {
			if e.Type != watch.Bookmark || e.Object.(*example.Pod).ResourceVersion != pod.ResourceVersion {
				t.Errorf("event %v", e)
			}
			at := time.Since(began)
			if at-last > time.Minute {
				t.Errorf("no bookmark from %s to %s", last, at)
			}
			last = at
			bookmarks++
		}
		if bookmarks < 5 || bookmarks > 8 || last != 5*time.Minute+8*time.Second {
			t.Errorf("%d bookmarks, the last after %s", bookmarks, last)
		}
	})
}

func TestRequestWatchProgress(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newSweepWorld(t).start()
		defer r.stop()
		first := mustCreate(t, r, newPod("ns", "a"))
		w, err := r.Watch(t.Context(), "/pods/other", apistorage.ListOptions{
			Recursive: true, Predicate: apistorage.Everything, ResourceVersion: first.ResourceVersion, ProgressNotify: true,
		})
		if err != nil {
			t.Fatal(err)
		}
		defer w.Stop()
		synctest.Wait()
		began := time.Now()
		for _, name := range []string{"b", "c", "d"} {
			pod := mustCreate(t, r, newPod("ns", name))
			if err := r.RequestWatchProgress(t.Context()); err != nil {
				t.Fatal(err)
			}
			e := <-w.ResultChan()
			if e.Type != watch.Bookmark || e.Object.(*example.Pod).ResourceVersion != pod.ResourceVersion {
				t.Errorf("event %v, want a bookmark at %s", e, pod.ResourceVersion)
			}
			synctest.Wait()
		}
		if waited := time.Since(began); waited != 0 {
			t.Errorf("waited %s", waited)
		}
	})
}

// TestSelectionChanges follows an object into and out of a selection, by label and by field.
func TestSelectionChanges(t *testing.T) {
	t.Parallel()
	for name, pred := range map[string]apistorage.SelectionPredicate{
		"label": {Label: labels.SelectorFromSet(labels.Set{"in": "yes"}), Field: fields.Everything()},
		"field": {Label: labels.Everything(), Field: fields.OneTermEqualSelector("spec.nodeName", "yes")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t, memoryDatabase(t), 2)
			pod := mustCreate(t, h, newPod("ns", "a"))
			w, err := h.stores[1].Watch(t.Context(), "/pods", apistorage.ListOptions{
				Recursive: true, Predicate: pred, ResourceVersion: pod.ResourceVersion,
			})
			if err != nil {
				t.Fatal(err)
			}
			defer w.Stop()
			set := func(to string) *example.Pod {
				out := &example.Pod{}
				err := h.GuaranteedUpdate(t.Context(), podKey(pod), out, false, nil, apistorage.SimpleUpdate(func(obj runtime.Object) (runtime.Object, error) {
					p := obj.(*example.Pod)
					p.Labels = map[string]string{"in": to}
					p.Spec.NodeName = to
					p.Generation++
					return p, nil
				}), nil)
				if err != nil {
					t.Fatal(err)
				}
				return out
			}
			for _, step := range []struct {
				to, shown string
				want      watch.EventType
			}{
				{"yes", "yes", watch.Added},
				{"yes", "yes", watch.Modified},
				{"no", "yes", watch.Deleted},
				{"no", "", ""},
				{"yes", "yes", watch.Added},
			} {
				now := set(step.to)
				if step.want == "" {
					continue
				}
				e := <-w.ResultChan()
				got := e.Object.(*example.Pod)
				if e.Type != step.want || got.Labels["in"] != step.shown || got.ResourceVersion != now.ResourceVersion {
					t.Errorf("set to %q: %s of %v at %s, want %s at %s", step.to, e.Type, got.Labels, got.ResourceVersion, step.want, now.ResourceVersion)
				}
			}
		})
	}
}
