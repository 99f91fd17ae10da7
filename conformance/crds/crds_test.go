package crds_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"

	"github.com/rowlock-io/rowlock/conformance/crds"
	"github.com/rowlock-io/rowlock/conformance/harness"
)

// BenchmarkDefinitions makes b.N definitions in a new cluster on SQLite, with another client's gets and creates of
// ConfigMaps beside, then reads OpenAPI v2, makes an object of each, and starts the server anew. It prints a line a step.
func BenchmarkDefinitions(b *testing.B) {
	if b.N == 1 {
		return // how go test begins whatever -benchtime says
	}
	all, err := crds.Generate(b.N)
	if err != nil {
		b.Fatal(err)
	}
	server := harness.SQLite.NewCluster(b).NewServer(b)
	server.Start(b)
	m := newMeter(b, server)
	m.step("nothing", func() { time.Sleep(5 * time.Second) })
	for from := 0; from < b.N; from += 100 {
		part := all[from:min(from+100, b.N)]
		m.step(fmt.Sprintf("%d definitions after %d", len(part), from), func() {
			for _, d := range part {
				m.do(http.MethodPost, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", d.JSON)
			}
		})
	}
	m.step("ten seconds later", func() { time.Sleep(10 * time.Second) })
	m.step("OpenAPI v2", func() { m.do(http.MethodGet, "/openapi/v2", nil) })
	m.step("OpenAPI v2 again", func() { m.do(http.MethodGet, "/openapi/v2", nil) })
	m.step("an object of each", func() {
		for _, d := range all {
			m.do(http.MethodPost, "/apis/"+d.Group+"/v1beta1/"+d.Plural, fmt.Appendf(nil,
				`{"apiVersion":"%s/v1beta1","kind":"%s","metadata":{"name":"a"},"spec":{}}`, d.Group, d.Kind))
		}
	})
	m.step("fifteen seconds later", func() { time.Sleep(15 * time.Second) })
	server.Stop(b)
	began := time.Now()
	server.Start(b)
	fmt.Printf("restart: ready after %.2f s, %s\n", time.Since(began).Seconds(), memory(b, server))
	m.step("first list", func() { m.do(http.MethodGet, "/apis/"+all[0].Group+"/v1beta1/"+all[0].Plural, nil) })
}

// meter does steps, and measures the server and another client meanwhile.
type meter struct {
	b      *testing.B
	server *harness.Server
	rest   *rest.RESTClient
	other  kubernetes.Interface
}

func newMeter(b *testing.B, server *harness.Server) *meter {
	b.Helper()
	m := &meter{b: b, server: server, other: server.Client(b)}
	config := server.Config(b)
	config.GroupVersion, config.NegotiatedSerializer = &corev1.SchemeGroupVersion, scheme.Codecs.WithoutConversion()
	var err error
	if m.rest, err = rest.UnversionedRESTClientFor(config); err != nil {
		b.Fatal(err)
	}
	probe := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "probe"}}
	if _, err := m.other.CoreV1().ConfigMaps("default").Create(b.Context(), probe, metav1.CreateOptions{}); err != nil {
		b.Fatal(err)
	}
	return m
}

// do sends a request and expects it to go well.
func (m *meter) do(method, path string, body []byte) {
	m.b.Helper()
	r := m.rest.Verb(method).AbsPath(path)
	if body != nil {
		r = r.Body(body).SetHeader("Content-Type", "application/json")
	}
	stream, err := r.Stream(m.b.Context())
	if err != nil {
		m.b.Fatalf("%s %s: %v", method, path, err)
	}
	defer stream.Close()
	if _, err := io.Copy(io.Discard, stream); err != nil {
		m.b.Fatalf("%s %s: %v", method, path, err)
	}
}

// step does f while the other client works, and prints what it took.
func (m *meter) step(what string, f func()) {
	m.b.Helper()
	ctx, cancel := context.WithCancel(m.b.Context())
	var wg sync.WaitGroup
	var gets, creates []time.Duration
	maps := m.other.CoreV1().ConfigMaps("default")
	wg.Go(func() {
		gets = repeat(ctx, func() error {
			_, err := maps.Get(ctx, "probe", metav1.GetOptions{})
			return err
		})
	})
	wg.Go(func() {
		creates = repeat(ctx, func() error {
			_, err := maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{GenerateName: "made-"}}, metav1.CreateOptions{})
			return err
		})
	})
	began, before := time.Now(), cpu(m.b, m.server)
	f()
	took := time.Since(began)
	used := cpu(m.b, m.server) - before
	cancel()
	wg.Wait()
	fmt.Printf("%s: %.2f s, %.2f s of CPU, %s; get %s; create %s\n", what, took.Seconds(), used, memory(m.b, m.server), spread(gets), spread(creates))
}

// repeat calls f some fifty times a second until ctx ends, and tells how long each call took.
func repeat(ctx context.Context, f func() error) (took []time.Duration) {
	for {
		began := time.Now()
		if err := f(); ctx.Err() != nil {
			return took
		} else if err != nil {
			fmt.Println("the other client:", err)
		}
		took = append(took, time.Since(began))
		time.Sleep(20 * time.Millisecond)
	}
}

func spread(took []time.Duration) string {
	if len(took) == 0 {
		return "none"
	}
	slices.Sort(took)
	at := func(q float64) float64 { return took[int(float64(len(took)-1)*q)].Seconds() * 1000 }
	return fmt.Sprintf("p50 %.1f p99 %.1f max %.1f ms", at(0.5), at(0.99), at(1))
}

// cpu is what the server has used so far, in seconds.
func cpu(b *testing.B, server *harness.Server) float64 {
	b.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", server.PID()))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), ") ")
	var user, system float64
	fields := strings.Fields(rest)
	if _, err := fmt.Sscan(fields[11]+" "+fields[12], &user, &system); err != nil {
		b.Fatal(err)
	}
	return (user + system) / 100 // Linux's clock ticks for programs
}

func memory(b *testing.B, server *harness.Server) string {
	b.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", server.PID()))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		var kb int
		if n, _ := fmt.Sscanf(line, "Rss: %d kB", &kb); n == 1 {
			return fmt.Sprintf("RSS %d MB", kb/1024)
		}
	}
	b.Fatal("no Rss")
	return ""
}
