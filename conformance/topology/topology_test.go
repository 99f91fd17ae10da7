package topology

import (
	"context"
	"os/exec"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/utils/ptr"

	"github.com/rowlock-io/rowlock/conformance/harness"
	"github.com/rowlock-io/rowlock/conformance/load"
)

const namespace = "topology"

// topology is two servers on one database, and a balancer in front.
type topology struct {
	a, b       *harness.Server
	front      *harness.Balancer
	kubeconfig string // through the balancer
	client     kubernetes.Interface
}

// each runs f on a fresh topology of each target that knows replicas.
func each(t *testing.T, f func(*testing.T, *topology)) {
	t.Helper()
	harness.Only(t, func(t *testing.T, target harness.Target) {
		cluster := target.NewCluster(t)
		top := &topology{a: cluster.StartServer(t), b: cluster.StartServer(t)}
		top.front = harness.NewBalancer(t, top.a.Addr(), top.b.Addr())
		top.kubeconfig = top.a.Through(t, top.front)
		config, err := clientcmd.BuildConfigFromFlags("", top.kubeconfig)
		if err != nil {
			t.Fatal(err)
		}
		config.QPS = -1
		top.client = harness.ClientFor(t, config)
		harness.NewNamespace(t, top.client, namespace)
		f(t, top)
	}, harness.OnPostgres, harness.KubeAPIServer)
}

// TestOneCluster shows that both servers are one cluster: what is written through one is read through the other at
// once, and watches see it.
func TestOneCluster(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, top *topology) {
		a, b := top.a.Client(t).CoreV1().ConfigMaps(namespace), top.b.Client(t).CoreV1().ConfigMaps(namespace)
		list, err := a.List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		w, err := a.Watch(t.Context(), metav1.ListOptions{ResourceVersion: list.ResourceVersion, TimeoutSeconds: ptr.To[int64](60)})
		if err != nil {
			t.Fatal(err)
		}
		defer w.Stop()
		for i := range 50 {
			name := "w" + string(rune('a'+i/26)) + string(rune('a'+i%26))
			written, err := b.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			read, err := a.Get(t.Context(), name, metav1.GetOptions{})
			if err != nil {
				t.Fatalf("what one server wrote, the other does not read: %v", err)
			}
			if read.UID != written.UID {
				t.Errorf("the servers have different objects %s", name)
			}
			// The promise is a second; the machine may be busy.
			select {
			case event := <-w.ResultChan():
				if got := event.Object.(*corev1.ConfigMap); event.Type != watch.Added || got.Name != name {
					t.Fatalf("the watch sent %s %s, expected ADDED %s", event.Type, got.Name, name)
				}
			case <-time.After(10 * time.Second):
				t.Fatalf("a watch of one server did not see the write %s of the other", name)
			}
			if err := a.Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			if event := <-w.ResultChan(); event.Type != watch.Deleted {
				t.Fatalf("the watch sent %s, expected DELETED", event.Type)
			}
			if _, err := b.Get(t.Context(), name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
				t.Fatalf("what one server deleted, the other answers with %v", err)
			}
		}
	})
}

// TestKubectl runs kubectl through the balancer: every server takes its certificates, tokens and resourceVersions.
func TestKubectl(t *testing.T) {
	t.Parallel()
	binary := harness.Kubectl(t)
	each(t, func(t *testing.T, top *topology) {
		home := t.TempDir()
		kubectl := func(args ...string) string {
			t.Helper()
			cmd := exec.CommandContext(t.Context(), binary, append([]string{"--kubeconfig", top.kubeconfig, "-n", namespace}, args...)...)
			cmd.Env = append(cmd.Environ(), "HOME="+home)
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("kubectl %v: %v\n%s", args, err, out)
			}
			return string(out)
		}
		kubectl("create", "serviceaccount", "robot")
		kubectl("create", "role", "reader", "--verb=get,list", "--resource=configmaps")
		kubectl("create", "rolebinding", "reader", "--role=reader", "--serviceaccount="+namespace+":robot")
		for range 4 {
			kubectl("create", "configmap", "c", "--from-literal=k=v")
			kubectl("label", "configmap", "c", "a=b")
			kubectl("get", "configmap", "--chunk-size=1")
			kubectl("create", "token", "robot")
			kubectl("delete", "configmap", "c")
		}
		for _, server := range []*harness.Server{top.a, top.b} {
			if top.front.Connections()[server.Addr()] == 0 {
				t.Errorf("the server at %s was never asked", server.URL)
			}
		}
	})
}

// TestFailover kills one server under load and later starts it again while the other is stopped: clients of the
// balancer go on, nothing is lost, and an informer holds what is there.
func TestFailover(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, top *topology) {
		maps := top.client.CoreV1().ConfigMaps(namespace)
		informer := cache.NewSharedInformer(cache.ToListWatcherWithWatchListSemantics(
			cache.NewListWatchFromClient(top.client.CoreV1().RESTClient(), "configmaps", namespace, fields.Everything()), top.client), &corev1.ConfigMap{}, 0)
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		t.Cleanup(running.Wait)
		t.Cleanup(cancel)
		running.Go(func() { informer.RunWithContext(ctx) })

		writes := load.Start(t, top.client, load.Options{Namespace: namespace})
		direct := load.Start(t, top.b.Client(t), load.Options{Namespace: namespace, Prefix: "direct"})
		writes.AwaitMore(t, 200)
		direct.AwaitMore(t, 200)
		top.a.Kill(t)
		writes.AwaitMore(t, 200)
		direct.AwaitMore(t, 200)
		top.a.Start(t)
		writes.AwaitMore(t, 200)
		top.b.Stop(t)
		writes.AwaitMore(t, 200)
		top.b.Start(t)
		direct.AwaitMore(t, 200)
		writes.Stop()
		direct.Stop()
		writes.Verify(t)
		direct.Verify(t)

		list, err := maps.List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(time.Minute); !holds(informer.GetStore(), list.Items); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("the informer does not hold the %d objects that are there", len(list.Items))
			}
		}
	})
}

// holds tells whether a store has exactly these objects.
func holds(store cache.Store, want []corev1.ConfigMap) bool {
	if len(store.List()) != len(want) {
		return false
	}
	for i := range want {
		got, ok, err := store.Get(&want[i])
		if err != nil || !ok || got.(*corev1.ConfigMap).ResourceVersion != want[i].ResourceVersion {
			return false
		}
	}
	return true
}
