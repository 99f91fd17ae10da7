package server_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime/metrics"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/rowlock-io/rowlock/server/servertest"
)

// Bounds of what one request may cost, whatever it says.
const (
	fuzzTime  = 20 * time.Second
	fuzzBytes = 1 << 30 // allocated while it is served, and most of it free again at once
)

// fuzzed serves one request as it is, as an administrator's, by all that a request from the network goes through.
type fuzzed struct{ handler http.Handler }

func newFuzzed(f *testing.F) *fuzzed {
	f.Helper()
	plane, release, err := shared.Clusters.Acquire(f.Context(), servertest.Default)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(release)
	return &fuzzed{plane.Handler()}
}

func allocatedBytes() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

func (z *fuzzed) serve(t *testing.T, method string, target *url.URL, mediaType string, body []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), fuzzTime)
	defer cancel()
	watchless, stop := context.WithTimeout(ctx, time.Second) // what lasts until the client goes
	defer stop()
	req := httptest.NewRequestWithContext(watchless, method, "/", bytes.NewReader(body))
	req.URL, req.RequestURI = target, target.RequestURI()
	req.Header.Set("Authorization", "Bearer "+servertest.AdminToken)
	if mediaType != "" {
		req.Header.Set("Content-Type", mediaType)
	}
	w := httptest.NewRecorder()
	before := allocatedBytes()
	z.handler.ServeHTTP(w, req)
	if ctx.Err() != nil {
		t.Fatalf("%s %s took longer than %s", method, target, fuzzTime)
	}
	if grown := allocatedBytes() - before; grown > fuzzBytes {
		t.Fatalf("%s %s allocated %d bytes for a body of %d", method, target, grown, len(body))
	}
	answer, _ := io.ReadAll(w.Result().Body)
	if w.Code == http.StatusInternalServerError && bytes.Contains(answer, []byte("caused apiserver to panic")) {
		t.Fatalf("%s %s panicked", method, target)
	}
}

// FuzzPaths sends paths and queries.
func FuzzPaths(f *testing.F) {
	for _, seed := range []string{
		"/", "/api", "/apis/apps/v1", "/api/v1/namespaces/default/pods/a/status", "/api/v1/watch/namespaces/default/configmaps/a",
		"/api/v1/namespaces/default/configmaps?limit=1&continue=x&resourceVersion=1&resourceVersionMatch=Exact",
		"/api/v1/namespaces/%2e%2e/secrets/%2f", "/api/v1/namespaces/default/../../secrets", "//api//v1///pods", "/api/v1/proxy/nodes/a",
		"/api/v1/pods?fieldSelector=metadata.name%3Da&labelSelector=a+in+(b,c)", "/openapi/v3/apis/apps/v1?hash=x", "/clusters/a/api",
		"/api/v1/namespaces/default/pods/a:80/proxy/x?y", "/apis/a.b/v1/c/d/e/f/g", "/api/v1/namespaces?watch=1&sendInitialEvents=true&timeoutSeconds=-1",
	} {
		f.Add(byte(0), seed)
	}
	z := newFuzzed(f)
	methods := []string{"GET", "POST", "PUT", "PATCH", "HEAD", "OPTIONS", "TRACE", "ODD"} // no DELETE: others need what is there
	f.Fuzz(func(t *testing.T, method byte, path string) {
		target, err := url.ParseRequestURI(path)
		if err != nil || !strings.HasPrefix(target.Path, "/") || strings.HasPrefix(target.Path, "/debug/pprof/") {
			t.Skip() // net/http refuses it; profiles take the time they are asked to
		}
		z.serve(t, methods[int(method)%len(methods)], target, "", nil)
	})
}

// FuzzPatches sends patches of all four kinds.
func FuzzPatches(f *testing.F) {
	for kind, seeds := range []([]string){
		{`[{"op":"add","path":"/data/b","value":"c"}]`, `[{"op":"copy","from":"/data","path":"/metadata/annotations"},{"op":"test","path":"/kind","value":1}]`, `[{"op":"remove","path":"/data/-1"}]`},
		{`{"data":{"a":null}}`, `{"metadata":{"labels":{"a":"b"},"ownerReferences":[{}]}}`, `[]`},
		{`{"data":{"$patch":"replace"}}`, `{"metadata":{"$setElementOrder/finalizers":["a"],"finalizers":["a"],"$deleteFromPrimitiveList/finalizers":["b"]}}`, `{"$retainKeys":["data"]}`},
		{"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: fuzzed}\ndata: {a: b}\n", "a: &a [b]\nb: *a\n", "apiVersion: v1\nkind: List\n"},
	} {
		for _, seed := range seeds {
			f.Add(byte(kind), []byte(seed))
		}
	}
	z := newFuzzed(f)
	maps := shared.Client(f, servertest.Default).CoreV1().ConfigMaps("default")
	patched := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{GenerateName: "fuzzed-"}, Data: map[string]string{"a": "b"}}
	patched, err := maps.Create(f.Context(), patched, metav1.CreateOptions{})
	if err != nil {
		f.Fatal(err)
	}
	kinds := []types.PatchType{types.JSONPatchType, types.MergePatchType, types.StrategicMergePatchType, types.ApplyYAMLPatchType}
	f.Fuzz(func(t *testing.T, kind byte, patch []byte) {
		mediaType := kinds[int(kind)%len(kinds)]
		target := &url.URL{Path: "/api/v1/namespaces/default/configmaps/" + patched.Name, RawQuery: "dryRun=All&fieldManager=fuzz"}
		z.serve(t, http.MethodPatch, target, string(mediaType), patch)
	})
}

// FuzzProtobuf sends bodies to the decoder of Kubernetes' protobuf.
func FuzzProtobuf(f *testing.F) {
	info, _ := runtime.SerializerInfoForMediaType(scheme.Codecs.SupportedMediaTypes(), runtime.ContentTypeProtobuf)
	encoder := scheme.Codecs.EncoderForVersion(info.Serializer, corev1.SchemeGroupVersion)
	for _, obj := range []runtime.Object{
		&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "a", Labels: map[string]string{"a": "b"}}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}},
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "a"}, BinaryData: map[string][]byte{"a": {1}}},
	} {
		seed, err := runtime.Encode(encoder, obj)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(seed)
	}
	f.Add([]byte("k8s\x00"))
	z := newFuzzed(f)
	// Pods wait for the service account of their namespace, which nobody makes here.
	core := shared.Client(f, servertest.Default).CoreV1()
	namespace, err := core.Namespaces().Create(f.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "fuzzed-"}}, metav1.CreateOptions{})
	if err != nil {
		f.Fatal(err)
	}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	if _, err := core.ServiceAccounts(namespace.Name).Create(f.Context(), account, metav1.CreateOptions{}); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		target := &url.URL{Path: "/api/v1/namespaces/" + namespace.Name + "/pods", RawQuery: "dryRun=All"}
		z.serve(t, http.MethodPost, target, runtime.ContentTypeProtobuf, body)
	})
}

// FuzzYAML sends bodies to the decoder of YAML.
func FuzzYAML(f *testing.F) {
	for _, seed := range []string{
		"metadata:\n  name: a\ndata:\n  a: b\n", "a: &a [x,x,x,x]\nb: &b [*a,*a,*a,*a]\nc: [*b,*b,*b,*b]\n", "? {a: b}\n: c\n",
		"--- \n...\n---\n", "metadata: {name: !!binary YQ==, creationTimestamp: 2001-01-01}\n", "data: {a: 0x1, b: .inf, c: ~, d: yes}\n", "<<: {a: b}\n",
	} {
		f.Add([]byte(seed))
	}
	z := newFuzzed(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		target := &url.URL{Path: "/api/v1/namespaces/default/configmaps", RawQuery: "dryRun=All&fieldValidation=Strict"}
		z.serve(t, http.MethodPost, target, runtime.ContentTypeYAML, body)
	})
}
