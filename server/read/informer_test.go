package read_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clientfeatures "k8s.io/client-go/features"
	clientfeaturestesting "k8s.io/client-go/features/testing"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"

	"github.com/rowlock-io/rowlock/server/read"
)

// TestInformer follows a changing cluster with client-go, through broken connections, and compares what it ends up
// with. It is not parallel, because client-go's feature gates are the process's.
func TestInformer(t *testing.T) {
	for _, watchList := range []bool{true, false} {
		for _, contentType := range []string{asJSON, asProtobuf} {
			t.Run(fmt.Sprintf("watchList=%v %s", watchList, contentType), func(t *testing.T) {
				clientfeaturestesting.SetFeatureDuringTest(t, clientfeatures.WatchListClient, watchList)
				informer(t, contentType)
			})
		}
	}
}

func informer(t *testing.T, contentType string) {
	c, h := newCluster(t, read.Config{})
	c.fill(t)
	server, oracle := c.servers(t, h)
	client := func(host string) kubernetes.Interface {
		config := &rest.Config{Host: host, ContentConfig: rest.ContentConfig{ContentType: contentType, AcceptContentTypes: contentType}}
		cs, err := kubernetes.NewForConfig(config)
		if err != nil {
			t.Fatal(err)
		}
		return cs
	}
	factory := informers.NewSharedInformerFactory(client(server.URL), 0)
	maps := factory.Core().V1().ConfigMaps()
	seen := make(chan string, 1000)
	tell := func(obj any) {
		if m, ok := obj.(*corev1.ConfigMap); ok {
			seen <- m.Data["key"]
		}
	}
	_, err := maps.Informer().AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc: tell, UpdateFunc: func(_, obj any) { tell(obj) }, DeleteFunc: func(any) {},
	})
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	factory.Start(stop)
	defer factory.Shutdown()
	defer close(stop)
	if !toolscache.WaitForCacheSync(t.Context().Done(), maps.Informer().HasSynced) {
		t.Fatal("not synced")
	}
	until := func(data string) {
		t.Helper()
		limit := time.After(time.Minute)
		for {
			select {
			case got := <-seen:
				if got == data {
					return
				}
			case <-limit:
				t.Fatalf("%q did not arrive", data)
			}
		}
	}
	for round := range 3 {
		for i := range 20 {
			c.put(t, "configmaps", stored(configMap("default", fmt.Sprintf("n-%d-%d", round, i), nil, "x")))
		}
		c.put(t, "configmaps", stored(configMap("default", "cm-05", nil, fmt.Sprint("before ", round))))
		until(fmt.Sprint("before ", round))
		server.CloseClientConnections()
		c.remove(t, "configmaps", "default", fmt.Sprintf("n-%d-3", round))
		c.put(t, "configmaps", stored(configMap("default", "cm-05", nil, fmt.Sprint("after ", round))))
		until(fmt.Sprint("after ", round))
	}
	want, err := client(oracle.URL).CoreV1().ConfigMaps("").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	wanted := map[string]*corev1.ConfigMap{}
	for i := range want.Items {
		wanted[want.Items[i].Namespace+"/"+want.Items[i].Name] = &want.Items[i]
	}
	got := map[string]*corev1.ConfigMap{}
	for _, obj := range maps.Informer().GetStore().List() {
		m := obj.(*corev1.ConfigMap).DeepCopy()
		m.TypeMeta = metav1.TypeMeta{} // lists have none, watch events do
		got[m.Namespace+"/"+m.Name] = m
	}
	if diff := cmp.Diff(wanted, got); diff != "" {
		t.Errorf("-cluster +informer:\n%s", diff)
	}
}
