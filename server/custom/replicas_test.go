package custom_test

import (
	"fmt"
	"strings"
	"testing"

	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rowlock-io/rowlock/server/servertest"
	"github.com/rowlock-io/rowlock/storage/memory"
)

// A client that was told by one replica that a resource is there can use it at every other, at once.
func TestReplicasKnowDefinitions(t *testing.T) {
	t.Parallel()
	db := memory.New()
	a := start(t, servertest.Config{Database: db})
	b := start(t, servertest.Config{Database: db, Keys: a.server.Keys})
	for i := range 5 {
		name := fmt.Sprintf("widget%ds", i)
		a.define(strings.NewReplacer("widgets", name, "singular: widget", "singular: widget"+fmt.Sprint(i), "Widget", fmt.Sprint("Widget", i), "[wd]", "[]").Replace(widgets))
		gvr := widgetsResource.GroupVersion().WithResource(name)
		u := object(t, fmt.Sprintf("{apiVersion: example.com/v1, kind: Widget%d, metadata: {name: a}}", i))
		if _, err := b.dynamic.Resource(gvr).Namespace("default").Create(t.Context(), u, metav1.CreateOptions{}); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if list, err := a.dynamic.Resource(gvr).List(t.Context(), metav1.ListOptions{}); err != nil || len(list.Items) != 1 {
			t.Errorf("%s: %v, %v", name, list, err)
		}
	}
	w, err := b.dynamic.Resource(widgetsResource.GroupVersion().WithResource("widget0s")).Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	if err := a.defs.ApiextensionsV1().CustomResourceDefinitions().Delete(t.Context(), "widget0s.example.com", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	b.gone("widget0s.example.com")
	ended(t, w)
	b.await("widget1s.example.com", apiextensions.Established)
}
