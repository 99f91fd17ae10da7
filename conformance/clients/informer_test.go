package clients_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/rowlock-io/rowlock/conformance/harness"
	"github.com/rowlock-io/rowlock/conformance/load"
)

const (
	asJSON     = "application/json"
	asProtobuf = "application/vnd.kubernetes.protobuf,application/json"
)

// listWatch is a ListWatch that may ask client-go to list first instead of taking the objects from the watch.
type listWatch struct {
	*cache.ListWatch
	listFirst bool
}

func (lw listWatch) IsWatchListSemanticsUnSupported() bool { return lw.listFirst }

// TestInformers lets informers of every kind follow concurrent writers through a stop and a kill of the server. At the
// end each holds exactly what the server holds, and none has seen an object go back.
func TestInformers(t *testing.T) {
	t.Parallel()
	harness.Each(t, func(t *testing.T, target harness.Target) {
		server := target.NewCluster(t).StartServer(t)
		client := server.Client(t)
		const namespace = "informers"
		harness.NewNamespace(t, client, namespace)

		informers := map[string]cache.SharedInformer{}
		journals := map[string]*journal{}
		var running sync.WaitGroup
		ctx, cancel := context.WithCancel(t.Context())
		t.Cleanup(running.Wait)
		t.Cleanup(cancel)
		for name, informer := range everyInformer(t, server.Config(t), namespace) {
			j := newJournal()
			if _, err := informer.AddEventHandler(j.handler()); err != nil {
				t.Fatal(err)
			}
			informers[name], journals[name] = informer, j
			running.Go(func() { informer.RunWithContext(ctx) })
		}

		writes := load.Start(t, client, load.Options{Namespace: namespace})
		writes.AwaitMore(t, 200)
		for _, end := range []func(testing.TB){server.Stop, server.Kill} {
			end(t)
			server.Start(t)
			writes.AwaitMore(t, 200)
		}
		writes.Stop()
		writes.Verify(t)

		list, err := client.CoreV1().ConfigMaps(namespace).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]string{}
		for _, cm := range list.Items {
			want[cm.Name] = cm.ResourceVersion
		}
		for name, informer := range informers {
			// An informer tries again with growing pauses, up to half a minute, while the server is away.
			deadline := time.Now().Add(90 * time.Second)
			for !cmp.Equal(want, contents(informer.GetStore().List())) && time.Now().Before(deadline) {
				time.Sleep(20 * time.Millisecond)
			}
			if diff := cmp.Diff(want, contents(informer.GetStore().List())); diff != "" {
				t.Errorf("%s does not hold what the server holds (-server +informer):\n%s", name, diff)
			}
			j := journals[name]
			j.mu.Lock()
			if len(j.faults) > 0 {
				t.Errorf("%s, of %d events:\n%s", name, j.events, strings.Join(j.faults, "\n"))
			}
			j.mu.Unlock()
		}
	})
}

// everyInformer makes informers on ConfigMaps: whole objects and metadata, JSON and protobuf, fed by a list and a watch
// or by a watch alone.
func everyInformer(t *testing.T, config *rest.Config, namespace string) map[string]cache.SharedInformer {
	t.Helper()
	informers := map[string]cache.SharedInformer{}
	for encoding, accept := range map[string]string{"json": asJSON, "protobuf": asProtobuf} {
		config := rest.CopyConfig(config)
		config.AcceptContentTypes = accept
		objects, err := kubernetes.NewForConfig(config)
		if err != nil {
			t.Fatal(err)
		}
		maps := objects.CoreV1().ConfigMaps(namespace)
		metas, err := metadata.NewForConfig(config)
		if err != nil {
			t.Fatal(err)
		}
		metaMaps := metas.Resource(corev1.SchemeGroupVersion.WithResource("configmaps")).Namespace(namespace)
		for how, listFirst := range map[string]bool{"list and watch": true, "watch alone": false} {
			informers[strings.Join([]string{"objects", encoding, how}, ", ")] = cache.NewSharedInformer(listWatch{
				&cache.ListWatch{
					ListWithContextFunc: func(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) {
						return maps.List(ctx, opts)
					},
					WatchFuncWithContext: func(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
						return maps.Watch(ctx, opts)
					},
				}, listFirst,
			}, &corev1.ConfigMap{}, 0)
			informers[strings.Join([]string{"metadata", encoding, how}, ", ")] = cache.NewSharedInformer(listWatch{
				&cache.ListWatch{
					ListWithContextFunc: func(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) {
						return metaMaps.List(ctx, opts)
					},
					WatchFuncWithContext: func(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
						return metaMaps.Watch(ctx, opts)
					},
				}, listFirst,
			}, &metav1.PartialObjectMetadata{}, 0)
		}
	}
	return informers
}
