package clients_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/rowlock-io/rowlock/conformance/harness"
	"github.com/rowlock-io/rowlock/conformance/load"
)

// follower watches from a resourceVersion on, and goes on where it was whenever the watch ends.
type follower struct {
	maps corev1client.ConfigMapInterface

	mu    sync.Mutex
	at    uint64          // the resourceVersion of the last event
	seen  map[string]bool // all of them
	fault error
}

// run follows until ctx ends or something is wrong. Each watch is broken off after a few events.
func (f *follower) run(ctx context.Context) {
	for ctx.Err() == nil {
		f.mu.Lock()
		opts := metav1.ListOptions{ResourceVersion: strconv.FormatUint(f.at, 10), AllowWatchBookmarks: true}
		f.mu.Unlock()
		w, err := f.maps.Watch(ctx, opts)
		switch {
		case err == nil:
			err = f.take(w, 100)
		case apierrors.ReasonForError(err) == metav1.StatusReasonUnknown, apierrors.IsServiceUnavailable(err),
			apierrors.IsTooManyRequests(err), apierrors.IsInternalError(err), ctx.Err() != nil:
			err = nil // nobody there
			time.Sleep(20 * time.Millisecond)
		}
		if err != nil {
			f.mu.Lock()
			f.fault = err
			f.mu.Unlock()
			return
		}
	}
}

// take reads up to n events.
func (f *follower) take(w watch.Interface, n int) error {
	defer w.Stop()
	for event := range w.ResultChan() {
		if event.Type == watch.Error {
			err := apierrors.FromObject(event.Object)
			if apierrors.IsInternalError(err) { // the connection broke in the middle of an event
				return nil
			}
			return err
		}
		m, ok := event.Object.(metav1.Object)
		if !ok {
			return fmt.Errorf("a watch sent a %T", event.Object)
		}
		version, err := strconv.ParseUint(m.GetResourceVersion(), 10, 64)
		if err != nil {
			return err
		}
		f.mu.Lock()
		last := f.at
		f.at = version
		if event.Type != watch.Bookmark {
			f.seen[m.GetResourceVersion()] = true
		}
		f.mu.Unlock()
		if version < last || version == last && event.Type != watch.Bookmark {
			return fmt.Errorf("%s %s at %d came after %d", event.Type, m.GetName(), version, last)
		}
		if n--; n == 0 {
			return nil
		}
	}
	return nil
}

// TestResume follows concurrent writers with a watch that is broken off again and again, on Rowlock by restarts too:
// each write arrives exactly once, in order. (kube-apiserver forgets what was before its start.)
func TestResume(t *testing.T) {
	t.Parallel()
	harness.Each(t, func(t *testing.T, target harness.Target) {
		server := target.NewCluster(t).StartServer(t)
		client := server.Client(t)
		const namespace = "resume"
		harness.NewNamespace(t, client, namespace)
		maps := client.CoreV1().ConfigMaps(namespace)
		list, err := maps.List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		start, err := strconv.ParseUint(list.ResourceVersion, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		f := &follower{maps: maps, at: start, seen: map[string]bool{}}
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { f.run(ctx) })
		t.Cleanup(running.Wait)
		t.Cleanup(cancel)

		writes := load.Start(t, client, load.Options{Namespace: namespace})
		writes.AwaitMore(t, 300)
		if target.IsRowlock() {
			server.Stop(t)
			server.Start(t)
			writes.AwaitMore(t, 300)
			server.Kill(t)
			server.Start(t)
		}
		writes.AwaitMore(t, 300)
		writes.Stop()
		writes.Verify(t)

		// One more write shows that the follower has come to the end.
		last, err := maps.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "last"}}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		f.await(t, last.ResourceVersion)
		f.mu.Lock()
		defer f.mu.Unlock()
		for version, what := range writes.Versions() {
			if !f.seen[version] {
				t.Errorf("%s at %s never arrived", what, version)
			}
		}
	})
}

// await waits until the follower has seen a resourceVersion.
func (f *follower) await(t *testing.T, version string) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		f.mu.Lock()
		seen, fault, at := f.seen[version], f.fault, f.at
		f.mu.Unlock()
		switch {
		case fault != nil:
			t.Fatalf("the watch at %d: %v", at, fault)
		case seen:
			return
		case time.Now().After(deadline):
			t.Fatal(errors.New("the watch stays at " + strconv.FormatUint(at, 10) + ", expected it to reach " + version))
		}
		time.Sleep(5 * time.Millisecond)
	}
}
