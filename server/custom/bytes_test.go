package custom_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/rowlock-io/rowlock/server/servertest"
)

// things have no order in mind: members before and behind kind and metadata, and whatever JSON can hold.
const things = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: things.example.com}
spec:
  group: example.com
  names: {plural: things, singular: thing, kind: Thing, listKind: ThingList}
  scope: Cluster
  versions:
  - name: v1
    served: true
    storage: true
    selectableFields: [{jsonPath: .color}]
    schema:
      openAPIV3Schema:
        type: object
        x-kubernetes-preserve-unknown-fields: true
        properties:
          color: {type: string, default: "<red> & \u2028"}
          count: {type: integer}
          ratio: {type: number}
          nothing: {type: string, nullable: true}
`

var thingsResource = schema.GroupVersionResource{Group: "example.com", Version: "v1", Resource: "things"}

// Reads from bytes are what upstream's handler answers, to the byte. That a query is not answered from bytes is had by
// asking for no indentation, in vain, or by the old form of a watch.
func TestReadsEqualUpstreams(t *testing.T) {
	t.Parallel()
	c := start(t, servertest.Config{})
	c.define(things)
	c.define(widgets)
	for i, text := range []string{
		`{apiVersion: example.com/v1, kind: Thing, metadata: {name: plain}}`,
		`{apiVersion: example.com/v1, kind: Thing, aaa: {b: [1, 2.5, "x", null, true]}, zzz: "<&>\u2028\t\"é", color: blue, metadata: {name: odd, labels: {a: b}, annotations: {"x/y": "<z>"}, finalizers: [example.com/stay]}}`,
		`{apiVersion: example.com/v1, kind: Thing, count: 9007199254740993, ratio: 1, nothing: null, metadata: {name: numbers, labels: {a: c}}}`,
	} {
		if _, err := c.dynamic.Resource(thingsResource).Create(t.Context(), object(t, text), metav1.CreateOptions{}); err != nil {
			t.Fatal(i, err)
		}
	}
	for i := range 3 {
		if _, err := c.widgets().Create(t.Context(), widget(t, fmt.Sprint("w", i), fmt.Sprintf("{replicas: %d}", i)), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	wire := servertest.NewWire()
	defer wire.Close()
	send := func(path string) *servertest.Response {
		return wire.Send(t, c.server.URL, servertest.Request{Method: http.MethodGet, Path: path, Token: servertest.AdminToken})
	}
	list, err := c.dynamic.Resource(thingsResource).List(t.Context(), metav1.ListOptions{Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	const root = "/apis/example.com/v1/"
	for _, path := range []string{
		"things/plain", "things/odd", "things/numbers", "things/none", "things/odd?resourceVersion=0", "things/odd?resourceVersion=999999",
		"things", "things?limit=1", "things?limit=2", "things?limit=2&continue=" + list.GetContinue(), "things?continue=x",
		"things?labelSelector=a", "things?labelSelector=a%3Db&limit=1", "things?fieldSelector=color%3Dblue", "things?fieldSelector=metadata.name%3Dodd",
		"things?fieldSelector=count%3D1", "things?resourceVersion=" + list.GetResourceVersion() + "&resourceVersionMatch=Exact", "things?resourceVersion=0",
		"namespaces/default/widgets", "widgets", "namespaces/default/widgets/w1", "namespaces/none/widgets", "widgets/w1", "namespaces/default/things/odd",
		"widgets?fieldSelector=metadata.namespace%3Ddefault,spec.color%3Dred", "namespaces/default/widgets?limit=2",
	} {
		plain := send(root + path)
		separator := "?"
		if strings.Contains(path, "?") {
			separator = "&"
		}
		upstream := send(root + path + separator + "pretty=false")
		if strings.Contains(path, "999999") || strings.Contains(path, "limit=2") {
			// what waits and what has a time in it differs in nothing else
			plain.Header.Del("Retry-After")
			upstream.Header.Del("Retry-After")
		}
		for _, r := range []*servertest.Response{plain, upstream} {
			r.Header.Del("Date")
			r.Header.Del("Audit-Id")
		}
		if diff := cmp.Diff(upstream, plain); diff != "" {
			t.Errorf("%s (-upstream +bytes):\n%s", path, diff)
		}
	}
	for _, query := range []string{
		"timeoutSeconds=1", "timeoutSeconds=1&resourceVersion=0", "timeoutSeconds=1&resourceVersion=" + list.GetResourceVersion(),
		"timeoutSeconds=1&resourceVersion=1&fieldSelector=color%3Dblue", "timeoutSeconds=1&labelSelector=a",
	} {
		plain := send(root + "things?watch=true&" + query)
		upstream := send(root + "watch/things?" + query)
		if diff := cmp.Diff(strings.Split(upstream.Body, "\n"), strings.Split(plain.Body, "\n")); diff != "" {
			t.Errorf("watch %s (-upstream +bytes):\n%s", query, diff)
		}
		if len(plain.Body) == 0 && !strings.Contains(query, list.GetResourceVersion()) {
			t.Errorf("watch %s tells nothing", query)
		}
	}
}
