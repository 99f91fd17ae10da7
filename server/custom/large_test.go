package custom_test

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"k8s.io/apiextensions-apiserver/pkg/apihelpers"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	clientset "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/rowlock-io/rowlock/server/servertest"
	"github.com/rowlock-io/rowlock/storage/sqlite"
)

// words are what descriptions of generated definitions are made of.
var words = strings.Fields(`the name of a resource which this field refers to must be set when policy is required otherwise it will be
	chosen by the provider and kept for as long as the object lives changes are not propagated to existing instances see documentation`)

// large makes a definition like those that generators of cloud providers write: deep, wide, and described at length.
// bytes is about the size of its YAML.
func large(i, bytes int) *apiextensions.CustomResourceDefinition {
	r := rand.New(rand.NewPCG(uint64(i), 1))
	left := bytes
	text := func(n int) string {
		var b strings.Builder
		for range n {
			b.WriteString(words[r.IntN(len(words))] + " ")
		}
		return b.String()
	}
	var node func(depth int) apiextensions.JSONSchemaProps
	node = func(depth int) apiextensions.JSONSchemaProps {
		p := apiextensions.JSONSchemaProps{Description: text(8 + r.IntN(40))}
		left -= len(p.Description) + 2*depth + 60
		kind := r.IntN(10)
		switch {
		case depth > 9 || left <= 0 || kind < 5:
			p.Type = []string{"string", "string", "integer", "boolean"}[r.IntN(4)]
			if p.Type == "string" && kind == 0 {
				p.Enum = []apiextensions.JSON{{Raw: []byte(`"One"`)}, {Raw: []byte(`"Two"`)}}
				p.Default = &apiextensions.JSON{Raw: []byte(`"One"`)}
			}
		case kind < 7:
			item := node(depth + 1)
			p.Type, p.Items = "array", &apiextensions.JSONSchemaPropsOrArray{Schema: &item}
		default:
			p.Type, p.Properties = "object", map[string]apiextensions.JSONSchemaProps{}
			for n := range 3 + r.IntN(9) {
				p.Properties[fmt.Sprintf("%s%s%d", words[r.IntN(len(words))], strings.Title(words[r.IntN(len(words))]), n)] = node(depth + 1) //nolint:staticcheck // ASCII
			}
		}
		return p
	}
	half := func() apiextensions.JSONSchemaProps {
		p := apiextensions.JSONSchemaProps{Type: "object", Properties: map[string]apiextensions.JSONSchemaProps{}}
		stop := left - bytes/2
		for n := 0; left > stop && left > 0; n++ {
			p.Properties[fmt.Sprintf("part%d", n)] = node(3)
		}
		return p
	}
	spec, status := half(), half()
	spec.XValidations = apiextensions.ValidationRules{{Rule: "!has(self.part0) || true", Message: "never"}}
	plural := fmt.Sprintf("bigs%d", i)
	return &apiextensions.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{Name: plural + ".large.example.com"},
		Spec: apiextensions.CustomResourceDefinitionSpec{
			Group: "large.example.com", Scope: apiextensions.ClusterScoped,
			Names: apiextensions.CustomResourceDefinitionNames{Plural: plural, Singular: plural, Kind: fmt.Sprintf("Big%d", i)},
			Versions: []apiextensions.CustomResourceDefinitionVersion{{
				Name: "v1", Served: true, Storage: true, Subresources: &apiextensions.CustomResourceSubresources{Status: &apiextensions.CustomResourceSubresourceStatus{}},
				Schema: &apiextensions.CustomResourceValidation{OpenAPIV3Schema: &apiextensions.JSONSchemaProps{
					Type: "object", Properties: map[string]apiextensions.JSONSchemaProps{"spec": spec, "status": status},
				}},
			}},
		},
	}
}

func heap() float64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc) / (1 << 20)
}

// BenchmarkDefinitions makes b.N large definitions and an object of each, and tells what one takes in memory: when it was
// just made, when its objects were written and are watched, and how long a request of others takes meanwhile at worst.
func BenchmarkDefinitions(b *testing.B) {
	db, err := sqlite.Open(b.Context(), sqlite.Config{Path: filepath.Join(b.TempDir(), "rowlock.db")})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	s, err := servertest.Open(b.Context(), b.TempDir(), servertest.Config{Database: db, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = s.Stop() }()
	cfg := s.Config(servertest.Default, servertest.AdminToken)
	defs, err := clientset.NewForConfig(cfg)
	if err != nil {
		b.Fatal(err)
	}
	dyn, err := dynamic.NewForConfig(cfg)
	if err != nil {
		b.Fatal(err)
	}
	core := s.Client(b, servertest.Default)
	worst := make(chan time.Duration)
	stop := make(chan struct{})
	go func() {
		var w time.Duration
		for {
			select {
			case <-stop:
				worst <- w
				return
			case <-time.After(20 * time.Millisecond):
				began := time.Now()
				_, _ = core.CoreV1().ConfigMaps("default").List(b.Context(), metav1.ListOptions{})
				w = max(w, time.Since(began))
			}
		}
	}()
	before := heap()
	b.ResetTimer()
	size := 0
	for i := range b.N {
		crd := large(i, 200_000+(i%5)*100_000)
		data, err := crd.Marshal()
		if err != nil {
			b.Fatal(err)
		}
		size += len(data)
		if _, err := defs.ApiextensionsV1().CustomResourceDefinitions().Create(b.Context(), crd, metav1.CreateOptions{}); err != nil {
			b.Fatal(err)
		}
	}
	for i := range b.N {
		for {
			crd, err := defs.ApiextensionsV1().CustomResourceDefinitions().Get(b.Context(), fmt.Sprintf("bigs%d.large.example.com", i), metav1.GetOptions{})
			if err != nil {
				b.Fatal(err)
			}
			if apihelpers.IsCRDConditionTrue(crd, apiextensions.Established) {
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	b.StopTimer()
	n := float64(b.N)
	b.ReportMetric(float64(size)/n/1024, "KB-each")
	b.ReportMetric((heap()-before)/n, "MB-made")
	for i := range b.N {
		r := dyn.Resource(schema.GroupVersionResource{Group: "large.example.com", Version: "v1", Resource: fmt.Sprintf("bigs%d", i)})
		u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "large.example.com/v1", "kind": fmt.Sprintf("Big%d", i), "metadata": map[string]any{"name": "a"}}}
		if _, err := r.Create(b.Context(), u, metav1.CreateOptions{}); err != nil {
			b.Fatal(err)
		}
		w, err := r.Watch(b.Context(), metav1.ListOptions{})
		if err != nil {
			b.Fatal(err)
		}
		defer w.Stop()
		<-w.ResultChan()
	}
	b.ReportMetric((heap()-before)/n, "MB-used")
	close(stop)
	b.ReportMetric(float64((<-worst).Milliseconds()), "ms-worst")
}
