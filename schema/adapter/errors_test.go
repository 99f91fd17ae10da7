package adapter_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/apis/example"
	apistorage "k8s.io/apiserver/pkg/storage"

	"github.com/rowlock-io/rowlock/storage"
)

// faulty is a store whose calls fail once told to.
type faulty struct {
	storage.Store
	head, commit, list atomic.Pointer[error]
	heads              atomic.Int64
}

func failing(p *atomic.Pointer[error]) error {
	if err := p.Load(); err != nil {
		return fmt.Errorf("injected: %w", *err)
	}
	return nil
}

func (f *faulty) Head(ctx context.Context) (storage.Position, error) {
	f.heads.Add(1)
	if err := failing(&f.head); err != nil {
		return storage.Position{}, err
	}
	return f.Store.Head(ctx)
}

func (f *faulty) Commit(ctx context.Context, ops []storage.Op) (storage.Committed, error) {
	if err := failing(&f.commit); err != nil {
		return storage.Committed{}, err
	}
	return f.Store.Commit(ctx, ops)
}

func (f *faulty) List(ctx context.Context, sel storage.Selector, opts storage.ListOptions) (storage.Page, error) {
	if err := failing(&f.list); err != nil {
		return storage.Page{}, err
	}
	return f.Store.List(ctx, sel, opts)
}

func newFaulty(t testing.TB) (*faulty, *harness) {
	open := memoryDatabase(t)
	f := &faulty{}
	h := newHarness(t, func(t testing.TB) storage.Store {
		f.Store = open(t)
		return f
	}, 1)
	return f, h
}

func newPod(ns, name string) *example.Pod {
	return &example.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name, UID: "u"}}
}

func podKey(p *example.Pod) string { return "/pods/" + p.Namespace + "/" + p.Name }

func mustCreate(t testing.TB, s apistorage.Interface, pod *example.Pod) *example.Pod {
	t.Helper()
	out := &example.Pod{}
	if err := s.Create(t.Context(), podKey(pod), pod, out, 0); err != nil {
		t.Fatalf("create %s: %v", pod.Name, err)
	}
	return out
}

// touch changes an object each time.
func touch(n *int) apistorage.UpdateFunc {
	return apistorage.SimpleUpdate(func(obj runtime.Object) (runtime.Object, error) {
		*n++
		pod := obj.(*example.Pod)
		pod.Annotations = map[string]string{"n": fmt.Sprint(*n)}
		return pod, nil
	})
}

func TestStorageErrors(t *testing.T) {
	t.Parallel()
	everything := apistorage.ListOptions{Recursive: true, Predicate: apistorage.Everything}
	verbs := map[string]func(context.Context, *harness) error{
		"create": func(ctx context.Context, h *harness) error {
			return h.Create(ctx, "/pods/ns/new", newPod("ns", "new"), &example.Pod{}, 0)
		},
		"update": func(ctx context.Context, h *harness) error {
			n := 0
			return h.GuaranteedUpdate(ctx, "/pods/ns/a", &example.Pod{}, false, nil, touch(&n), nil)
		},
		"delete": func(ctx context.Context, h *harness) error {
			return h.Delete(ctx, "/pods/ns/a", &example.Pod{}, nil, apistorage.ValidateAllObjectFunc, nil, apistorage.DeleteOptions{})
		},
		"get": func(ctx context.Context, h *harness) error {
			return h.Get(ctx, "/pods/ns/a", apistorage.GetOptions{}, &example.Pod{})
		},
		"list": func(ctx context.Context, h *harness) error {
			return h.GetList(ctx, "/pods/", everything, &example.PodList{})
		},
		"watch": func(ctx context.Context, h *harness) error {
			w, err := h.Watch(ctx, "/pods/", everything)
			if err != nil {
				return err
			}
			defer w.Stop()
			if e := <-w.ResultChan(); e.Type == watch.Error {
				return apierrors.FromObject(e.Object)
			}
			return nil
		},
	}
	writes := map[string]bool{"create": true, "update": true, "delete": true}
	tests := []struct {
		name  string
		err   error
		check func(error) bool
	}{
		{"busy", storage.ErrBusy, func(err error) bool {
			seconds, ok := apierrors.SuggestsClientDelay(err)
			return apierrors.IsServiceUnavailable(err) && ok && seconds > 0
		}},
		{"unknown", storage.ErrUnknown, apierrors.IsTimeout},
		{"too large", storage.ErrTooLarge, apierrors.IsRequestEntityTooLargeError},
		{"deadline", context.DeadlineExceeded, apierrors.IsTimeout},
		{"other", errors.New("disk on fire"), func(err error) bool {
			return apistorage.IsInternalError(err) || apierrors.IsInternalError(err)
		}},
	}
	for _, tc := range tests {
		for verb, call := range verbs {
			t.Run(tc.name+"/"+verb, func(t *testing.T) {
				t.Parallel()
				if verb == "watch" && errors.Is(tc.err, context.DeadlineExceeded) {
					return // its own deadline is how a watch ends
				}
				f, h := newFaulty(t)
				mustCreate(t, h, newPod("ns", "a"))
				if writes[verb] {
					f.commit.Store(&tc.err)
				} else {
					f.head.Store(&tc.err)
				}
				if err := call(t.Context(), h); !tc.check(err) {
					t.Errorf("got %#v", err)
				}
				f.commit.Store(nil)
				f.head.Store(nil)
				if err := call(t.Context(), h); err != nil {
					t.Errorf("after recovery: %v", err)
				}
			})
		}
	}
}

// TestUnknownTTL refuses a time to live that nothing would enforce.
func TestUnknownTTL(t *testing.T) {
	t.Parallel()
	_, h := newFaulty(t)
	if err := h.Create(t.Context(), "/pods/ns/a", newPod("ns", "a"), nil, 60); err == nil {
		t.Error("a ttl was accepted that the resource does not have")
	}
	if err := h.Get(t.Context(), "/pods/ns/a", apistorage.GetOptions{}, &example.Pod{}); !apistorage.IsNotFound(err) {
		t.Errorf("Get: %v", err)
	}
}

func TestFuture(t *testing.T) {
	t.Parallel()
	_, h := newFaulty(t)
	mustCreate(t, h, newPod("ns", "a"))
	for _, match := range []metav1.ResourceVersionMatch{"", metav1.ResourceVersionMatchExact, metav1.ResourceVersionMatchNotOlderThan} {
		opts := apistorage.ListOptions{Recursive: true, Predicate: apistorage.Everything, ResourceVersion: "1000", ResourceVersionMatch: match}
		if err := h.GetList(t.Context(), "/pods/", opts, &example.PodList{}); !apistorage.IsTooLargeResourceVersion(err) {
			t.Errorf("list with match %q: %v", match, err)
		}
	}
	w, err := h.Watch(t.Context(), "/pods/", apistorage.ListOptions{Recursive: true, Predicate: apistorage.Everything, ResourceVersion: "1000"})
	if err != nil {
		t.Fatal(err)
	}
	e := <-w.ResultChan()
	if e.Type != watch.Error || !apistorage.IsTooLargeResourceVersion(apierrors.FromObject(e.Object)) {
		t.Errorf("watch: %v", e)
	}
	if _, open := <-w.ResultChan(); open {
		t.Error("the watch goes on after an error")
	}
}
