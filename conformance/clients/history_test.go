package clients_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/utils/ptr"

	"github.com/rowlock-io/rowlock/conformance/harness"
)

// watchOld starts a watch behind writes that were done, and gets each of them, then a new one.
func watchOld(t *testing.T, e env) {
	maps := e.client.CoreV1().ConfigMaps(e.namespace)
	before, err := maps.List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for i := range 20 {
		name := fmt.Sprintf("old-%d", i)
		if _, err := maps.Create(t.Context(), newMap(name, nil), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := maps.Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		want = append(want, "ADDED "+name, "DELETED "+name)
	}
	w, err := maps.Watch(t.Context(), metav1.ListOptions{ResourceVersion: before.ResourceVersion, TimeoutSeconds: ptr.To[int64](60)})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	if _, err := maps.Create(t.Context(), newMap("new", nil), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	want = append(want, "ADDED new")
	var got []string
	for event := range w.ResultChan() {
		cm, ok := event.Object.(*corev1.ConfigMap)
		if !ok {
			t.Fatalf("the watch sent %v", event)
		}
		if got = append(got, string(event.Type)+" "+cm.Name); len(got) == len(want) {
			break
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the watch sent something else (-want +got):\n%s", diff)
	}
}

// watchList takes the present from a watch: every object, then the bookmark that says so, then changes.
func watchList(t *testing.T, e env) {
	maps := e.client.CoreV1().ConfigMaps(e.namespace)
	want := map[string]string{}
	for i := range 10 {
		cm, err := maps.Create(t.Context(), newMap(fmt.Sprintf("w%d", i), nil), metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		want[cm.Name] = cm.ResourceVersion
	}
	w, err := maps.Watch(t.Context(), metav1.ListOptions{
		AllowWatchBookmarks: true, SendInitialEvents: ptr.To(true), ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan,
		TimeoutSeconds: ptr.To[int64](60),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	got := map[string]string{}
	for event := range w.ResultChan() {
		cm, ok := event.Object.(*corev1.ConfigMap)
		if !ok {
			t.Fatalf("the watch sent %v", event)
		}
		if event.Type == watch.Bookmark && cm.Annotations[metav1.InitialEventsAnnotationKey] == "true" {
			break
		}
		if event.Type == watch.Added {
			got[cm.Name] = cm.ResourceVersion
		}
	}
	delete(got, "kube-root-ca.crt") // where controllers run
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the initial events are not what is there (-want +got):\n%s", diff)
	}
	if err := maps.Delete(t.Context(), "w0", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	for event := range w.ResultChan() {
		if event.Type == watch.Deleted {
			return
		}
	}
	t.Error("the watch ended")
}

// pages reads a list in pages while others write: all pages are of one moment.
func pages(t *testing.T, e env) {
	maps := e.client.CoreV1().ConfigMaps(e.namespace)
	for i := range 50 {
		if _, err := maps.Create(t.Context(), newMap(fmt.Sprintf("p%02d", i), map[string]string{"n": "0"}), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan struct{})
	var running sync.WaitGroup
	for worker := range 4 {
		running.Go(func() {
			for n := 1; ; n++ {
				select {
				case <-done:
					return
				default:
				}
				name := fmt.Sprintf("p%02d", worker+4*(n%10))
				if err := maps.Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
					t.Error(err)
					return
				}
				if _, err := maps.Create(t.Context(), newMap(name, map[string]string{"n": fmt.Sprint(n)}), metav1.CreateOptions{}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 5 {
		var all []corev1.ConfigMap
		version, next := "", ""
		for {
			page, err := maps.List(t.Context(), metav1.ListOptions{Limit: 7, Continue: next})
			if err != nil {
				t.Fatal(err)
			}
			if version == "" {
				version = page.ResourceVersion
			}
			if page.ResourceVersion != version {
				t.Errorf("a page is of version %s, the first was of %s", page.ResourceVersion, version)
			}
			all = append(all, page.Items...)
			if next = page.Continue; next == "" {
				break
			}
		}
		whole, err := maps.List(t.Context(), metav1.ListOptions{
			ResourceVersion: version, ResourceVersionMatch: metav1.ResourceVersionMatchExact,
		})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(whole.Items, all); diff != "" {
			t.Fatalf("the pages are not the list at %s (-list +pages):\n%s", version, diff)
		}
	}
	close(done)
	running.Wait()
}

// exactVersion reads a list as it was.
func exactVersion(t *testing.T, e env) {
	maps := e.client.CoreV1().ConfigMaps(e.namespace)
	cm, err := maps.Create(t.Context(), newMap("e", map[string]string{"n": "1"}), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	then := cm.ResourceVersion
	cm.Data["n"] = "2"
	if _, err := maps.Update(t.Context(), cm, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := maps.Delete(t.Context(), "e", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	list, err := maps.List(t.Context(), metav1.ListOptions{ResourceVersion: then, ResourceVersionMatch: metav1.ResourceVersionMatchExact})
	if err != nil {
		t.Fatal(err)
	}
	var got *corev1.ConfigMap
	for _, item := range list.Items {
		if item.Name == "e" {
			got = &item
		}
	}
	if list.ResourceVersion != then || got == nil || got.Data["n"] != "1" {
		t.Errorf("the list at %s is of version %s and holds %v", then, list.ResourceVersion, got)
	}
}

// TestCompacted lets a server forget the past: who asks for it is told to start anew.
func TestCompacted(t *testing.T) {
	t.Parallel()
	harness.Each(t, func(t *testing.T, target harness.Target) {
		server := target.NewCluster(t).StartServer(t, target.ShortHistory())
		client := server.Client(t)
		const namespace = "compacted"
		harness.NewNamespace(t, client, namespace)
		maps := client.CoreV1().ConfigMaps(namespace)
		for _, name := range []string{"a", "b", "c"} {
			if _, err := maps.Create(t.Context(), newMap(name, nil), metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		page, err := maps.List(t.Context(), metav1.ListOptions{Limit: 1})
		if err != nil {
			t.Fatal(err)
		}
		asks := map[string]func() error{
			"the next page": func() error {
				_, err := maps.List(t.Context(), metav1.ListOptions{Limit: 1, Continue: page.Continue})
				return err
			},
			"a list at that version": func() error {
				_, err := maps.List(t.Context(), metav1.ListOptions{
					ResourceVersion: page.ResourceVersion, ResourceVersionMatch: metav1.ResourceVersionMatchExact,
				})
				return err
			},
			"a watch from there": func() error {
				w, err := maps.Watch(t.Context(), metav1.ListOptions{
					ResourceVersion: page.ResourceVersion, TimeoutSeconds: ptr.To[int64](1),
				})
				if err != nil {
					return err
				}
				defer w.Stop()
				if event, ok := <-w.ResultChan(); ok && event.Type == watch.Error {
					return apierrors.FromObject(event.Object)
				}
				return nil
			},
		}
		// A server may remember more than it must, so it is started anew until it has forgotten.
		deadline := time.Now().Add(2 * time.Minute)
		for what, ask := range asks {
			for err := ask(); !apierrors.IsResourceExpired(err); err = ask() {
				if err != nil || time.Now().After(deadline) {
					t.Errorf("%s gave %v, expected the reason Expired", what, err)
					break
				}
				for range 2 { // something must happen for there to be a past
					patch := fmt.Appendf(nil, `{"data":{"t":"%d"}}`, time.Now().UnixNano())
					if _, err := maps.Patch(t.Context(), "a", types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
						t.Fatal(err)
					}
					time.Sleep(1100 * time.Millisecond)
				}
				server.Stop(t)
				server.Start(t)
			}
		}
		if list, err := maps.List(t.Context(), metav1.ListOptions{}); err != nil || len(list.Items) < 3 {
			t.Errorf("the present is gone too: %v, %v", list, err)
		}
	})
}
