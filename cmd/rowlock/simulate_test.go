package main

import (
	"context"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"

	"github.com/rowlock-io/rowlock/agents/simulation"
	"github.com/rowlock-io/rowlock/server/servertest"
)

// until waits for what is to come.
func until(t *testing.T, what string, come func(context.Context) (bool, error)) {
	t.Helper()
	if err := wait.PollUntilContextTimeout(t.Context(), 20*time.Millisecond, time.Minute, true, come); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// simulate runs the nodes of a server; the function stops them.
func simulate(t *testing.T, s *servertest.Server, o simulateOptions) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- o.outside(ctx, s.Config(servertest.Default, servertest.AdminToken), nil, slog.New(slog.NewTextHandler(t.Output(), nil)))
	}()
	return func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("simulation: %v", err)
		}
	}
}

func ready(client kubernetes.Interface, name string) func(context.Context) (bool, error) {
	return func(ctx context.Context) (bool, error) {
		node, err := client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return false, notYet(err)
		}
		for _, c := range node.Status.Conditions {
			if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue {
				lease, err := client.CoordinationV1().Leases(corev1.NamespaceNodeLease).Get(ctx, name, metav1.GetOptions{})
				return err == nil && *lease.Spec.HolderIdentity == name && lease.OwnerReferences[0].UID == node.UID, notYet(err)
			}
		}
		return false, nil
	}
}

// notYet lets what is not there yet come.
func notYet(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

func TestSimulatedNodes(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Config{})
	client := s.Client(t, servertest.Default)
	stop := simulate(t, s, simulateOptions{Nodes: 2})
	until(t, "sim-0", ready(client, "sim-0"))
	until(t, "sim-1", ready(client, "sim-1"))

	// Somebody's own node, of another size.
	other := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "other", Labels: map[string]string{simulation.Label: "true"}}}
	if _, err := client.CoreV1().Nodes().Create(t.Context(), other, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	until(t, "other", ready(client, "other"))

	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}} // no loop makes it here
	if _, err := client.CoreV1().ServiceAccounts("default").Create(t.Context(), account, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	pods := client.CoreV1().Pods("default")
	create := func(name string, change func(*corev1.Pod)) *corev1.Pod {
		t.Helper()
		pod := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{NodeName: "sim-1", Containers: []corev1.Container{{Name: "c", Image: "i"}}},
		}
		change(pod)
		made, err := pods.Create(t.Context(), pod, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return made
	}
	phase := func(name string, want corev1.PodPhase) (pod *corev1.Pod) {
		t.Helper()
		until(t, name+" "+string(want), func(ctx context.Context) (bool, error) {
			var err error
			pod, err = pods.Get(ctx, name, metav1.GetOptions{})
			return err == nil && pod.Status.Phase == want, err
		})
		return pod
	}
	nothing := func(*corev1.Pod) {}

	create("a", nothing)
	create("b", func(p *corev1.Pod) { p.Spec.NodeName = "other" })
	a, b := phase("a", corev1.PodRunning), phase("b", corev1.PodRunning)
	if cidr := netip.MustParsePrefix(simulation.DefaultRange); a.Status.PodIP == b.Status.PodIP || !cidr.Contains(netip.MustParseAddr(a.Status.PodIP)) || a.Status.HostIP == b.Status.HostIP {
		t.Errorf("addresses: %+v, %+v", a.Status, b.Status)
	}
	create("unbound", func(p *corev1.Pod) { p.Spec.NodeName = "" })
	create("job", func(p *corev1.Pod) {
		p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "batch/v1", Kind: "Job", Name: "j", UID: "u", Controller: ptr.To(true)}}
	})
	phase("job", corev1.PodSucceeded)
	phase("unbound", corev1.PodPending)

	err := pods.GetLogs("a", &corev1.PodLogOptions{}).Do(t.Context()).Error()
	if err == nil || !apierrors.IsBadRequest(err) || !strings.Contains(err.Error(), `node "sim-1" is simulated: no container runs on it`) {
		t.Errorf("logs: %v", err)
	}

	// A finalizer holds a pod that has ended.
	create("held", func(p *corev1.Pod) { p.Finalizers = []string{"example.com/hold"} })
	phase("held", corev1.PodRunning)
	for _, name := range []string{"b", "held"} {
		if err := pods.Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	gone := func(name string) {
		t.Helper()
		until(t, name+" gone", func(ctx context.Context) (bool, error) {
			_, err := pods.Get(ctx, name, metav1.GetOptions{})
			return apierrors.IsNotFound(err), notYet(err)
		})
	}
	gone("b")
	held := phase("held", corev1.PodFailed)
	until(t, "the deletion is confirmed", func(ctx context.Context) (bool, error) {
		var err error
		held, err = pods.Get(ctx, "held", metav1.GetOptions{})
		return err == nil && *held.DeletionGracePeriodSeconds == 0, err
	})
	held.Finalizers = nil
	if _, err := pods.Update(t.Context(), held, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	gone("held")
	stop()

	// Another run has fewer nodes, and knows which addresses are taken.
	defer simulate(t, s, simulateOptions{Nodes: 1})()
	until(t, "sim-1 gone", func(ctx context.Context) (bool, error) {
		_, err := client.CoreV1().Nodes().Get(ctx, "sim-1", metav1.GetOptions{})
		return apierrors.IsNotFound(err), notYet(err)
	})
	create("c", func(p *corev1.Pod) { p.Spec.NodeName = "sim-0" })
	if c := phase("c", corev1.PodRunning); c.Status.PodIP == a.Status.PodIP {
		t.Errorf("a and c have %s", c.Status.PodIP)
	}
	until(t, "other", ready(client, "other"))
}

func TestSimulateOptions(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		"":                      nil,
		"10.1.0.0/16":           {"10.1.0.0/16"},
		"10.1.0.0/16,fd00::/64": {"10.1.0.0/16", "fd00::/64"},
	} {
		got, err := podRanges(text)
		var texts []string
		for _, p := range got {
			texts = append(texts, p.String())
		}
		if diff := cmp.Diff(want, texts); diff != "" || err != nil {
			t.Errorf("%q: %v, %s", text, err, diff)
		}
	}
	for _, text := range []string{"10.1.0.0", "10.1.0.0/16,10.2.0.0/16", "x"} {
		if _, err := podRanges(text); err == nil || !strings.Contains(err.Error(), "--cluster-cidr "+text) {
			t.Errorf("%q: %v", text, err)
		}
	}
	for words, o := range map[string]simulateOptions{
		"--simulate-nodes -1 must be between 0 and 65000":    {Nodes: -1},
		"--simulate-nodes 70000 must be between 0 and 65000": {Nodes: 70000},
		"--simulate-job-duration -1s must not be negative":   {JobTime: -time.Second},
	} {
		if err := o.validate("simulate-"); err == nil || err.Error() != words {
			t.Errorf("%+v: %v, want %q", o, err, words)
		}
	}
}
