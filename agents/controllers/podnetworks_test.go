package controllers

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/kubernetes/pkg/controller/apis/config"

	"github.com/rowlock-io/rowlock/agents/podnetwork"
)

// age has a node be there for some minutes when the test begins.
func age(n *corev1.Node, minutes int) *corev1.Node {
	n.UID = types.UID("uid-of-" + n.Name)
	n.CreationTimestamp = metav1.NewTime(time.Unix(1_000_000_000-60*int64(minutes), 0))
	return n
}

// told is what nodes read of each other.
func told(t *testing.T, client *fake.Clientset) []string {
	t.Helper()
	list, err := client.CoreV1().ConfigMaps(podnetwork.Namespace).List(t.Context(), metav1.ListOptions{LabelSelector: podnetwork.Label})
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, cm := range list.Items {
		n, err := podnetwork.Read(&cm)
		if err != nil {
			t.Error(err)
		}
		line := n.Node + " " + string(n.UID) + " " + cm.Data["podCIDRs"] + " by way of " + cm.Data["addresses"]
		lines = append(lines, line)
	}
	return slices.Sorted(slices.Values(lines))
}

// TestPodNetworks shows what is published of nodes as they come, change and go, and that nothing else is written.
func TestPodNetworks(t *testing.T) {
	t.Parallel()
	var loops config.KubeControllerManagerConfiguration
	loops.KubeCloudShared.AllocateNodeCIDRs, loops.KubeCloudShared.ClusterCIDR = true, "10.244.0.0/16,fd00::/48"
	cluster := bounds(loops)
	a, b := age(nodeWith("a", "10.244.0.0/24", "192.0.2.1"), 9), age(nodeWith("b", "10.244.1.0/24", "192.0.2.2"), 8)
	const lineA, lineB = "a uid-of-a 10.244.0.0/24 by way of 192.0.2.1", "b uid-of-b 10.244.1.0/24 by way of 192.0.2.2"
	changed := func(n *corev1.Node, change func(*corev1.Node)) *corev1.Node {
		n = n.DeepCopy()
		change(n)
		return n
	}
	type step struct {
		what   string
		node   *corev1.Node // made or changed
		gone   string       // deleted
		do     func(context.Context, *fake.Clientset) error
		want   []string
		writes string // of ConfigMaps
	}
	maps := func(c *fake.Clientset) typedcorev1.ConfigMapInterface {
		return c.CoreV1().ConfigMaps(podnetwork.Namespace)
	}
	patch := func(name, text string) func(context.Context, *fake.Clientset) error {
		return func(ctx context.Context, c *fake.Clientset) error {
			_, err := maps(c).Patch(ctx, name, types.MergePatchType, []byte(text), metav1.PatchOptions{})
			return err
		}
	}
	for name, tt := range map[string]struct {
		bounds []bound
		steps  []step
	}{
		"a node's life": {cluster, []step{
			{what: "no network yet", node: age(nodeWith("a", "", "192.0.2.1"), 9)},
			{what: "a network", node: a, want: []string{lineA}, writes: "create"},
			{what: "a heartbeat", node: changed(a, func(n *corev1.Node) {
				n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, LastHeartbeatTime: metav1.Now()}}
				n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: "192.0.2.9"})
			}), want: []string{lineA}},
			{what: "another", node: b, want: []string{lineA, lineB}, writes: "create"},
			{what: "a new address", node: changed(a, func(n *corev1.Node) { n.Status.Addresses[0].Address = "192.0.2.7" }), want: []string{strings.Replace(lineA, ".2.1", ".2.7", 1), lineB}, writes: "update"},
			{what: "no address", node: changed(a, func(n *corev1.Node) { n.Status.Addresses = nil }), want: []string{lineB}, writes: "delete"},
			{what: "gone", gone: "b", writes: "delete"},
			{what: "registered anew", node: changed(b, func(n *corev1.Node) { n.UID = "another" }), want: []string{strings.Replace(lineB, "uid-of-b", "another", 1)}, writes: "create"},
		}},
		"what others do": {cluster, []step{
			{what: "a node", node: a, want: []string{lineA}, writes: "create"},
			{what: "deleted", do: func(ctx context.Context, c *fake.Clientset) error {
				return maps(c).Delete(ctx, "pod-network.a", metav1.DeleteOptions{})
			}, want: []string{lineA}, writes: "delete create"},
			{what: "changed", do: patch("pod-network.a", `{"data":{"podCIDRs":"0.0.0.0/0","more":"x"}}`), want: []string{lineA}, writes: "patch update"},
			{what: "another's", do: patch("pod-network.a", `{"data":{"node":"b"}}`), want: []string{lineA}, writes: "patch update"},
			{what: "without an owner", do: patch("pod-network.a", `{"metadata":{"ownerReferences":null}}`), want: []string{lineA}, writes: "patch update"},
			{what: "made up", do: func(ctx context.Context, c *fake.Clientset) error {
				cm := podnetwork.Of(b).ConfigMap()
				_, err := maps(c).Create(ctx, cm, metav1.CreateOptions{})
				return err
			}, want: []string{lineA}, writes: "create delete"},
		}},
		"what a node may not claim": {cluster, []step{
			{what: "one", node: a, want: []string{lineA}, writes: "create"},
			{what: "all the world", node: age(nodeWith("w", "0.0.0.0/0", "192.0.2.3"), 99), want: []string{lineA}},
			{what: "what is not the cluster's", node: age(nodeWith("x", "198.51.100.0/24", "192.0.2.3"), 99), want: []string{lineA}},
			{what: "all of the cluster's", node: age(nodeWith("y", "10.244.0.0/16", "192.0.2.3"), 99), want: []string{lineA}},
			{what: "another's", node: age(nodeWith("z", "10.244.0.128/25", "192.0.2.3"), 1), want: []string{lineA}},
			{
				what: "which is free now", gone: "a", writes: "delete create",
				want: []string{"z uid-of-z 10.244.0.128/25 by way of 192.0.2.3"},
			},
			{what: "of the other family", node: age(nodeWith("v", "fd00:0:0:1::/64", "2001:db8::1"), 1), writes: "create", want: []string{
				"v uid-of-v fd00:0:0:1::/64 by way of 2001:db8::1", "z uid-of-z 10.244.0.128/25 by way of 192.0.2.3",
			}},
		}},
		"ranges that others hand out": {nil, []step{
			{what: "any", node: age(nodeWith("x", "198.51.100.0/24", "192.0.2.3"), 9), writes: "create", want: []string{"x uid-of-x 198.51.100.0/24 by way of 192.0.2.3"}},
			{what: "but another's", node: age(nodeWith("y", "198.51.100.0/24", "192.0.2.4"), 8), want: []string{"x uid-of-x 198.51.100.0/24 by way of 192.0.2.3"}},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				client, stop := runPodNetworks(t, tt.bounds)
				defer stop()
				nodes := client.CoreV1().Nodes()
				for _, s := range tt.steps {
					client.ClearActions()
					var err error
					switch {
					case s.do != nil:
						err = s.do(t.Context(), client)
					case s.gone != "":
						err = nodes.Delete(t.Context(), s.gone, metav1.DeleteOptions{})
					default:
						if _, err = nodes.Update(t.Context(), s.node, metav1.UpdateOptions{}); err != nil {
							_, err = nodes.Create(t.Context(), s.node, metav1.CreateOptions{})
						}
					}
					if err != nil {
						t.Fatal(err)
					}
					time.Sleep(time.Second)
					if got := written(client); got != s.writes {
						t.Errorf("%s: the writes are %q, want %q", s.what, got, s.writes)
					}
					if d := cmp.Diff(s.want, told(t, client)); d != "" {
						t.Errorf("%s: want -, got +:\n%s", s.what, d)
					}
				}
			})
		})
	}
}

// TestPodNetworksStart: what is there is put right when the loop starts, and without a node nothing is asked for.
func TestPodNetworksStart(t *testing.T) {
	t.Parallel()
	a := age(nodeWith("a", "10.244.0.0/24", "192.0.2.1"), 9)
	right, gone := podnetwork.Of(a).ConfigMap(), podnetwork.Of(nodeWith("gone", "10.244.9.0/24", "192.0.2.9")).ConfigMap()
	bare := right.DeepCopy()
	bare.Labels, bare.Data = nil, nil
	for name, tt := range map[string]struct {
		objects []runtime.Object
		want    string
		lists   bool
	}{
		"no node":          {objects: []runtime.Object{gone}},
		"a bare node":      {objects: []runtime.Object{age(nodeWith("a", "", "192.0.2.1"), 9)}},
		"all is well":      {objects: []runtime.Object{a, right}, lists: true},
		"one is left over": {objects: []runtime.Object{a, right, gone}, want: "delete", lists: true},
		"a lost label":     {objects: []runtime.Object{a, bare}, want: "create update", lists: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				client, stop := runPodNetworks(t, nil, tt.objects...)
				defer stop()
				time.Sleep(time.Second)
				if got := written(client); got != tt.want {
					t.Errorf("the writes are %q, want %q", got, tt.want)
				}
				lists := slices.ContainsFunc(client.Actions(), func(a clienttesting.Action) bool {
					return a.GetResource().Resource == "configmaps" && (a.GetVerb() == "list" || a.GetVerb() == "watch")
				})
				if lists != tt.lists {
					t.Errorf("ConfigMaps are watched: %v, want %v", lists, tt.lists)
				}
			})
		})
	}
}

func runPodNetworks(t *testing.T, bounds []bound, objects ...runtime.Object) (*fake.Clientset, func()) {
	t.Helper()
	client := fake.NewClientset(objects...)
	ctx, cancel := context.WithCancel(t.Context())
	p := newPodNetworks(ctx, client, bounds, slog.New(slog.NewTextHandler(t.Output(), nil)))
	factory := informers.NewSharedInformerFactory(client, 0)
	registration, err := factory.Core().V1().Nodes().Informer().AddEventHandler(p.handler())
	if err != nil {
		t.Fatal(err)
	}
	p.synced = registration.HasSynced
	factory.StartWithContext(ctx)
	done := make(chan struct{})
	go func() { defer close(done); p.Run(ctx) }()
	synctest.Wait()
	return client, func() {
		cancel()
		<-done
		factory.Shutdown()
	}
}

// written are the verbs of the writes of ConfigMaps.
func written(client *fake.Clientset) string {
	var verbs []string
	for _, a := range client.Actions() {
		if a.GetResource().Resource == "configmaps" && !slices.Contains([]string{"get", "list", "watch"}, a.GetVerb()) {
			verbs = append(verbs, a.GetVerb())
		}
	}
	return strings.Join(verbs, " ")
}
