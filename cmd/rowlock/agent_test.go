package main

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/rowlock-io/rowlock/agents/node/fakecri"
	"github.com/rowlock-io/rowlock/agents/node/runtime"
	"github.com/rowlock-io/rowlock/server/servertest"
)

// condition waits until a node has a condition with a status and a message.
func condition(t *testing.T, client kubernetes.Interface, node string, status corev1.ConditionStatus, message string) {
	t.Helper()
	until(t, "Ready is "+string(status)+": "+message, func(ctx context.Context) (bool, error) {
		got, err := client.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
		if err != nil {
			return false, notYet(err)
		}
		for _, c := range got.Status.Conditions {
			if c.Type == corev1.NodeReady {
				return c.Status == status && strings.Contains(c.Message, message), nil
			}
		}
		return false, nil
	})
}

// runNode runs a node until the function is called.
func runNode(t *testing.T, o *nodeOptions, place nodePlace) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- o.run(ctx, place, place.Join.Log) }()
	return func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the node: %v", err)
		}
	}
}

// TestAgent: from the line that token create prints to a Node that is ready, and is not while its runtime is not.
func TestAgent(t *testing.T) {
	t.Parallel()
	s := joinable(t)
	admin := s.Client(t, servertest.Default)
	cri := fakecri.Start(t, fakecri.Containerd())
	line := strings.Fields(mustRowlock(t, "token", "create", "--kubeconfig", adminKubeconfig(t, s)))
	dir := t.TempDir()
	var o agentCommand
	cmd := newAgentCommand(&o)
	if err := cmd.ParseFlags(append(line[2:], "--data-dir", dir, "--hostname-override", "worker", "--node-ip", addressOfTest(t)[0],
		"--container-runtime-endpoint", cri.Endpoint(), "--node-labels", "disk=ssd", "--register-with-taints", "a=b:NoSchedule", "--max-pods", "50", "--pod-network=false", "--kubelet-port", "0", "--cgroups-per-qos=false", "--kube-reserved", "cpu=100m")); err != nil {
		t.Fatal(err)
	}
	if err := o.node.validate(); err != nil {
		t.Fatal(err)
	}
	cfg, err := o.joining()
	if err != nil {
		t.Fatal(err)
	}
	cfg.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	place := nodePlace{Join: cfg, Endpoint: cri.Endpoint(), Dir: dir}
	stop := runNode(t, &o.node, place)
	condition(t, admin, "worker", corev1.ConditionTrue, "kubelet is posting ready status")
	node, err := admin.CoreV1().Nodes().Get(t.Context(), "worker", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	status := node.Status
	if node.Labels["disk"] != "ssd" || len(node.Spec.Taints) == 0 || status.Capacity.Pods().Value() != 50 {
		t.Errorf("what the flags say: %v, %v, %v", node.Labels, node.Spec.Taints, status.Capacity)
	}
	if left := status.Capacity.Cpu().MilliValue() - status.Allocatable.Cpu().MilliValue(); left != 100 {
		t.Errorf("%d thousandths of a CPU are reserved", left)
	}
	if !strings.HasPrefix(status.NodeInfo.ContainerRuntimeVersion, "containerd://") || status.NodeInfo.KubeletVersion != "v1.36.3" {
		t.Errorf("node info: %v", status.NodeInfo)
	}
	cri.SetCondition("NetworkReady", false, "NetworkPluginNotReady", "no CNI")
	condition(t, admin, "worker", corev1.ConditionFalse, "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:no CNI")
	cri.SetCondition("NetworkReady", true, "", "")
	condition(t, admin, "worker", corev1.ConditionTrue, "")
	cri.Stop()
	condition(t, admin, "worker", corev1.ConditionFalse, "container runtime is down")
	cri.Start()
	condition(t, admin, "worker", corev1.ConditionTrue, "")
	stop()

	// Started again without a token it is the same node.
	place.Join.Token.ID, place.Join.Token.Pins = "", nil
	stop = runNode(t, &o.node, place)
	condition(t, admin, "worker", corev1.ConditionTrue, "")
	stop()
}

func mustRowlock(t *testing.T, args ...string) string {
	t.Helper()
	out, err := rowlock(t, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestLocalNode: the node of rowlock up has no token.
func TestLocalNode(t *testing.T) {
	t.Parallel()
	s := joinable(t)
	cri := fakecri.Start(t, fakecri.Containerd())
	l := localNode{dir: t.TempDir(), endpoint: cri.Endpoint(), node: nodeOptions{hostname: "here", addresses: addressOfTest(t)[0], maxPods: 10}}
	l.node.pods.images.addFlags(pflag.NewFlagSet("", pflag.ContinueOnError))
	stop := l.start(t.Context(), nodePlace{Join: l.join(s.Identity(servertest.Default).ClusterCA, s.URL)}, slog.New(slog.NewTextHandler(t.Output(), nil)))
	defer stop()
	condition(t, s.Client(t, servertest.Default), "here", corev1.ConditionTrue, "")
	if !l.is("here") || l.is("there") {
		t.Error("it does not know its name")
	}
}

func TestNodeOptions(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		args []string
		want string
	}{
		"a label of Kubernetes": {[]string{"--node-labels", "node-role.kubernetes.io/worker="}, "may not give itself labels"},
		"a label of the node's": {[]string{"--node-labels", "node.kubernetes.io/pool=a,topology.kubernetes.io/zone=b"}, ""},
		"a bad label":           {[]string{"--node-labels", "a b=c"}, "--node-labels"},
		"a bad name":            {[]string{"--hostname-override", "a_b"}, "--hostname-override"},
		"a bad quantity":        {[]string{"--system-reserved", "cpu=lots"}, `--system-reserved: failed to parse quantity "lots" for "cpu" resource`},
		"a negative quantity":   {[]string{"--kube-reserved", "memory=-1"}, "cannot be negative"},
		"something else":        {[]string{"--kube-reserved", "pods=1"}, `cannot reserve "pods" resource`},
		"negative pods":         {[]string{"--max-pods", "-1"}, "must not be negative"},
		"what is kept": {[]string{
			"--image-gc-high-threshold", "70", "--image-gc-low-threshold", "60", "--container-log-max-size", "1Mi", "--container-log-max-files", "2",
			"--maximum-dead-containers", "5", "--image-maximum-gc-age", "24h", "--registry-qps", "0",
		}, ""},
		"thresholds":        {[]string{"--image-gc-high-threshold", "70"}, "LowThresholdPercent 80 can not be higher than HighThresholdPercent 70"},
		"one log":           {[]string{"--container-log-max-files", "1"}, "invalid MaxFiles 1, must be > 1"},
		"no size":           {[]string{"--container-log-max-size", "long"}, "--container-log-max-size"},
		"ages":              {[]string{"--image-maximum-gc-age", "1m"}, "must be longer than --minimum-image-ttl-duration"},
		"no pulls":          {[]string{"--max-parallel-image-pulls", "0"}, "--max-parallel-image-pulls"},
		"a policy":          {[]string{"--image-pull-credentials-verification-policy", "Sometimes"}, `"Sometimes" is none of`},
		"a list for nobody": {[]string{"--preloaded-images-verification-allowlist", "busybox"}, "is for --image-pull-credentials-verification-policy=NeverVerifyAllowlistedImages"},
		"half of providers": {[]string{"--image-credential-provider-config", "/x"}, "are needed together"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var o agentCommand
			if err := newAgentCommand(&o).ParseFlags(tt.args); err != nil {
				t.Fatal(err)
			}
			err := o.node.validate()
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}

// TestRuntimeIsFound looks where runtimes listen. What has no CRI is no choice.
func TestRuntimeIsFound(t *testing.T) {
	t.Parallel()
	root, err := os.MkdirTemp("", "found") //nolint:usetesting // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(root) })
	var o nodeOptions
	find := func(what, want, wrong string) {
		t.Helper()
		got, err := o.runtimeEndpoint(t.Context(), root)
		if got != want || (err == nil) != (wrong == "") || err != nil && !strings.Contains(err.Error(), wrong) {
			t.Errorf("%s: %q, %v; want %q, %s", what, got, err, want, wrong)
		}
	}
	at := func(path string) string { return "unix://" + filepath.Join(root, path) }
	find("none", "", "no container runtime was found")
	listenAt(t, filepath.Join(root, runtime.Taken()["k3s"])).Close()
	find("k3s's", "", "which k3s keeps for its own agent")
	containerd, crio := runtime.WellKnown()[0], runtime.WellKnown()[1]
	old := fakecri.OldContainerd()
	old.Old = true
	link(t, fakecri.Start(t, old), filepath.Join(root, containerd))
	find("one", at(containerd), "")
	link(t, fakecri.Start(t, fakecri.CRIO()), filepath.Join(root, crio))
	find("two, one too old", at(crio), "")
	if err := os.Remove(filepath.Join(root, containerd)); err != nil {
		t.Fatal(err)
	}
	link(t, fakecri.Start(t, fakecri.Containerd()), filepath.Join(root, containerd))
	find("two", "", "several container runtimes were found: containerd v2.4.2 at "+at(containerd)+", cri-o 1.34.0 at "+at(crio)+"; choose one with --container-runtime-endpoint")
	o.endpoint = "/some.sock"
	find("a path", "unix:///some.sock", "")
}

// link has a runtime's socket be there under another name, too.
func link(t *testing.T, r *fakecri.Runtime, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(r.Socket(), path); err != nil {
		t.Fatal(err)
	}
}

// TestUnasked: a machine does not become a node by itself beside a kubelet, or with a runtime that has no CRI.
func TestUnasked(t *testing.T) {
	t.Parallel()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // a test's
	old := fakecri.Containerd()
	old.Old = true
	var o nodeOptions
	for _, tt := range []struct {
		profile fakecri.Profile
		port    int
		want    string
	}{
		{fakecri.Containerd(), 0, ""},
		{old, 0, "speaks v1alpha2 only"},
		{fakecri.CRIO(), l.Addr().(*net.TCPAddr).Port, "a kubelet may run on it: listen tcp"},
	} {
		o.pods.port = int32(tt.port)
		err := o.unasked(t.Context(), fakecri.Start(t, tt.profile).Endpoint())
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v, want %q", err, tt.want)
		}
	}
}

func listenAt(t *testing.T, path string) net.Listener {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	return l
}
