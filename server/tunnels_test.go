package server_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	portforwardclient "k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/streaming/pkg/httpstream"

	"github.com/rowlock-io/rowlock/server/pki"
	"github.com/rowlock-io/rowlock/server/servertest"
	"github.com/rowlock-io/rowlock/storage/memory"
	"github.com/rowlock-io/rowlock/tunnel"
)

func logs(ctx context.Context, kube kubernetes.Interface, pod string) (string, error) {
	data, err := kube.CoreV1().Pods("default").GetLogs(pod, &corev1.PodLogOptions{Container: "c"}).DoRaw(ctx)
	return string(data), err
}

// wantLogs waits until the logs of a node's pod come from there.
func wantLogs(t *testing.T, kube kubernetes.Interface, node, says string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	want := "logs of web-" + node + " on " + says + "\n"
	for {
		within, stop := context.WithTimeout(ctx, 10*time.Second)
		got, err := logs(within, kube, "web-"+node)
		stop()
		if err == nil && got == want {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("logs: %q, %v, want %q", got, err, want)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// streams tries every kind of stream to the pod web-NODE.
func streams(t *testing.T, config *rest.Config, kube kubernetes.Interface, n *hidden) {
	t.Helper()
	ctx := t.Context()
	followed, err := kube.CoreV1().Pods("default").GetLogs("web-"+n.name, &corev1.PodLogOptions{Container: "c", Follow: true}).Stream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(followed)
	if line, err := lines.ReadString('\n'); err != nil || line != "logs of web-"+n.name+" on "+n.says+"\n" {
		t.Errorf("first line: %q, %v", line, err)
	}
	for _, more := range []string{"one", "two"} { // each is there before the next is written
		n.more <- more
		if line, err := lines.ReadString('\n'); err != nil || line != more+"\n" {
			t.Errorf("followed line: %q, %v", line, err)
		}
	}
	n.more <- ""
	if rest, err := io.ReadAll(lines); err != nil || len(rest) > 0 {
		t.Errorf("at the end: %q, %v", rest, err)
	}
	_ = followed.Close()

	large := strings.Repeat("0123456789abcdef", 1<<16)
	for subresource, tt := range map[string]struct {
		options runtime.Object
		want    string
	}{
		"exec":   {&corev1.PodExecOptions{Container: "c", Command: []string{"cat"}, Stdin: true, Stdout: true}, large},
		"attach": {&corev1.PodAttachOptions{Container: "c", Stdin: true, Stdout: true}, n.says + " " + large},
	} {
		at := kube.CoreV1().RESTClient().Post().Resource("pods").Namespace("default").Name("web-"+n.name).SubResource(subresource).
			VersionedParams(tt.options, scheme.ParameterCodec).URL()
		overSPDY, err := remotecommand.NewSPDYExecutor(config, http.MethodPost, at)
		if err != nil {
			t.Fatal(err)
		}
		overWebSocket, err := remotecommand.NewWebSocketExecutor(config, http.MethodGet, at.String())
		if err != nil {
			t.Fatal(err)
		}
		for way, e := range map[string]remotecommand.Executor{"SPDY": overSPDY, "WebSocket": overWebSocket} {
			var out bytes.Buffer
			err := e.StreamWithContext(ctx, remotecommand.StreamOptions{Stdin: strings.NewReader(large), Stdout: &out})
			if err != nil || out.String() != tt.want {
				t.Errorf("%s over %s: %v, %d bytes", subresource, way, err, out.Len())
			}
		}
	}

	forward := kube.CoreV1().RESTClient().Post().Resource("pods").Namespace("default").Name("web-" + n.name).SubResource("portforward").URL()
	for way, dialer := range forwarders(t, config, forward) {
		if got, err := forwarded(dialer); err != nil || got != n.says+":80 hello" {
			t.Errorf("port-forward over %s: %q, %v", way, got, err)
		}
	}

	got, err := kube.CoreV1().RESTClient().Get().Resource("nodes").Name(n.name).SubResource("proxy").Suffix("healthz").DoRaw(ctx)
	if err != nil || string(got) != "kube-apiserver-kubelet-client asked "+n.says {
		t.Errorf("proxy: %q, %v", got, err)
	}
}

func forwarders(t *testing.T, config *rest.Config, at *url.URL) map[string]httpstream.Dialer {
	t.Helper()
	transport, upgrader, err := spdy.RoundTripperFor(config)
	if err != nil {
		t.Fatal(err)
	}
	tunnelling, err := portforwardclient.NewSPDYOverWebsocketDialerForStreaming(at, config)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]httpstream.Dialer{
		"SPDY":      spdy.NewDialerForStreaming(upgrader, &http.Client{Transport: transport}, http.MethodPost, at),
		"WebSocket": tunnelling,
	}
}

// forwarded says hello to port 80.
func forwarded(dialer httpstream.Dialer) (string, error) {
	conn, _, err := dialer.Dial(portforwardclient.PortForwardProtocolV1Name)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	header := http.Header{}
	header.Set(corev1.PortHeader, "80")
	header.Set(corev1.PortForwardRequestIDHeader, "0")
	header.Set(corev1.StreamType, corev1.StreamTypeError)
	failed, err := conn.CreateStream(header)
	if err != nil {
		return "", err
	}
	_ = failed.Close()
	header.Set(corev1.StreamType, corev1.StreamTypeData)
	data, err := conn.CreateStream(header)
	if err != nil {
		return "", err
	}
	if _, err := io.WriteString(data, "hello"); err != nil {
		return "", err
	}
	got, err := io.ReadAll(data)
	return string(got), err
}

// A node that cannot be dialled is reached over its tunnel, by every kind of stream.
func TestTunnel(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Config{})
	kube := s.Client(t, servertest.Default)
	n := newHidden(t, s.Identity(servertest.Default), "one", "one", "the first")
	n.register(t, kube)
	up := n.connect(t, s, servertest.Default)
	wantLogs(t, kube, "one", "the first")
	streams(t, s.Config(servertest.Default, servertest.AdminToken), kube, n)

	// Streams end with the tunnel, and work again when it is there again.
	followed, err := kube.CoreV1().Pods("default").GetLogs("web-one", &corev1.PodLogOptions{Container: "c", Follow: true}).Stream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer followed.Close()
	if _, err := bufio.NewReader(followed).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	up.cut()
	_, _ = io.ReadAll(followed) // upstream does not tell a cut from an end
	n.connect(t, s, servertest.Default)
	wantLogs(t, kube, "one", "the first")
}

// Whichever server a user asks, it reaches the node; and goes on to do so when the agent has gone from one to the other.
func TestTunnelToAnotherServer(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"memory", "postgres"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tunnelToAnotherServer(t, replicas(t, databases[name](t)))
		})
	}
}

func tunnelToAnotherServer(t *testing.T, s [2]*servertest.Server) {
	t.Helper()
	clients := [2]kubernetes.Interface{s[0].Client(t, servertest.Default), s[1].Client(t, servertest.Default)}
	n := newHidden(t, s[0].Identity(servertest.Default), "one", "one", "the first")
	n.register(t, clients[0])
	first := n.connect(t, s[0], servertest.Default)
	for i := range s {
		wantLogs(t, clients[i], "one", "the first")
		streams(t, s[i].Config(servertest.Default, servertest.AdminToken), clients[i], n)
	}
	// The agent comes again, to the other server, before the first has heard of its end: as after a crash.
	again := newHidden(t, s[0].Identity(servertest.Default), "one", "one", "again")
	second := again.connect(t, s[1], servertest.Default)
	for i := range s {
		wantLogs(t, clients[i], "one", "again")
	}
	first.cut()
	for i := range s {
		wantLogs(t, clients[i], "one", "again")
	}
	// It is cut off without the servers' hearing of it in turn.
	second.cut()
	n.connect(t, s[0], servertest.Default)
	for i := range s {
		wantLogs(t, clients[i], "one", "the first")
	}
}

// A server that is about to end has agents dial another one, and what runs goes on meanwhile.
func TestTunnelOfServerThatStops(t *testing.T) {
	t.Parallel()
	s := replicas(t, memory.New())
	kube := s[0].Client(t, servertest.Default)
	n := newHidden(t, s[0].Identity(servertest.Default), "one", "one", "the first")
	n.register(t, kube)
	up := n.connect(t, s[0], servertest.Default)
	other := s[1].Client(t, servertest.Default)
	wantLogs(t, other, "one", "the first")
	followed, err := other.CoreV1().Pods("default").GetLogs("web-one", &corev1.PodLogOptions{Container: "c", Follow: true}).Stream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer followed.Close()
	lines := bufio.NewReader(followed)
	if _, err := lines.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	plane, release, err := s[0].Clusters.Acquire(t.Context(), servertest.Default)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	plane.Leave()
	<-up.left
	if _, err := dialTunnel(t, asNode(t, s[0], servertest.Default, "one"), tunnel.Path("one")); status(err) != http.StatusServiceUnavailable {
		t.Errorf("a tunnel to a server that stops: %v", err)
	}
	n.more <- "still there"
	if line, err := lines.ReadString('\n'); err != nil || line != "still there\n" {
		t.Errorf("over the old tunnel: %q, %v", line, err)
	}
	again := newHidden(t, s[0].Identity(servertest.Default), "one", "one", "again")
	again.connect(t, s[1], servertest.Default)
	wantLogs(t, other, "one", "again")
	n.more <- "to the end"
	if line, err := lines.ReadString('\n'); err != nil || line != "to the end\n" {
		t.Errorf("over the old tunnel beside the new one: %q, %v", line, err)
	}
}

// Of two agents that say to be one node, and both may, the last counts.
func TestLastTunnelCounts(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Config{})
	kube := s.Client(t, servertest.Default)
	id := s.Identity(servertest.Default)
	one, two := newHidden(t, id, "one", "one", "the first"), newHidden(t, id, "one", "one", "the second")
	one.register(t, kube)
	first := one.connect(t, s, servertest.Default)
	wantLogs(t, kube, "one", "the first")
	two.connect(t, s, servertest.Default)
	wantLogs(t, kube, "one", "the second")
	<-first.done // nothing goes over it any more
	wantLogs(t, kube, "one", "the second")
}

func status(err error) int {
	var refused *tunnel.StatusError
	if errors.As(err, &refused) {
		return refused.Code
	}
	return 0
}

// A tunnel is its node's and nobody else's, and streams are asked for by servers only.
func TestTunnelsAreNodesOwn(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Config{Clusters: []string{"other"}})
	kube := s.Client(t, servertest.Default)
	for _, name := range []string{"one", "two"} {
		if _, err := kube.CoreV1().Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	of := func(cluster, user string, groups ...string) *rest.Config {
		return s.WithCertificate(t, servertest.Default, cluster, pki.Client{User: user, Groups: groups})
	}
	for name, tc := range map[string]struct {
		as   *rest.Config
		path string
		want int
	}{
		"itself":                {of(servertest.Default, "system:node:one", "system:nodes"), tunnel.Path("one"), 0},
		"another node":          {of(servertest.Default, "system:node:two", "system:nodes"), tunnel.Path("one"), http.StatusForbidden},
		"not of the group":      {of(servertest.Default, "system:node:one", "others"), tunnel.Path("one"), http.StatusForbidden},
		"one of another's":      {of("other", "system:node:one", "system:nodes"), tunnel.Path("one"), http.StatusUnauthorized},
		"an administrator":      {s.Config(servertest.Default, servertest.AdminToken), tunnel.Path("one"), http.StatusForbidden},
		"somebody":              {s.Config(servertest.Default, servertest.AliceToken), tunnel.Path("one"), http.StatusForbidden},
		"nobody":                {s.Config(servertest.Default, ""), tunnel.Path("one"), http.StatusForbidden},
		"one that is not":       {of(servertest.Default, "system:node:three", "system:nodes"), tunnel.Path("three"), http.StatusNotFound},
		"beside":                {of(servertest.Default, "system:node:one", "system:nodes"), tunnel.Path("one") + "/x", http.StatusForbidden},
		"dots":                  {of(servertest.Default, "system:node:one", "system:nodes"), tunnel.Path("two/../one"), http.StatusForbidden},
		"stream for a node":     {of(servertest.Default, "system:node:one", "system:nodes"), tunnel.StreamPath("one"), http.StatusForbidden},
		"stream for an admin":   {s.Config(servertest.Default, servertest.AdminToken), tunnel.StreamPath("one"), http.StatusForbidden},
		"stream for the name":   {of(servertest.Default, "rowlock:server"), tunnel.StreamPath("one"), http.StatusForbidden},
		"stream for a server":   {of(servertest.Default, "rowlock:server", "system:masters"), tunnel.StreamPath("two"), http.StatusNotFound},
		"stream from another's": {of("other", "rowlock:server", "system:masters"), tunnel.StreamPath("one"), http.StatusUnauthorized},
	} {
		conn, err := dialTunnel(t, tc.as, tc.path)
		if err == nil {
			_ = conn.Close()
		}
		if got := status(err); got != tc.want || err == nil != (tc.want == 0) {
			t.Errorf("%s: %v, want %d", name, err, tc.want)
		}
	}
	wire := servertest.NewWire()
	defer wire.Close()
	if resp := wire.Send(t, s.URL, servertest.Request{Method: http.MethodGet, Path: tunnel.Path("one"), Token: servertest.AdminToken}); resp.Status != http.StatusForbidden {
		t.Errorf("without an upgrade: %d", resp.Status)
	}
}

// Who is at the other end of a tunnel has to prove to be the node, as without one.
func TestTunnelToWrongNode(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Config{Clusters: []string{"other"}})
	kube := s.Client(t, servertest.Default)
	for name, n := range map[string]*hidden{
		"another node's certificate":    newHidden(t, s.Identity(servertest.Default), "one", "two", "x"),
		"another cluster's certificate": newHidden(t, s.Identity("other"), "two", "two", "x"),
	} {
		n.register(t, kube)
		n.connect(t, s, servertest.Default)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		got, err := logs(ctx, kube, "web-"+n.name)
		for ctx.Err() == nil && strings.Contains(got, "dial tcp") { // the server does not have the tunnel yet
			time.Sleep(20 * time.Millisecond)
			got, err = logs(ctx, kube, "web-"+n.name)
		}
		if err == nil || !strings.Contains(got, "failed to verify certificate") {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		skipping := &corev1.PodLogOptions{Container: "c", InsecureSkipTLSVerifyBackend: true}
		if _, err := kube.CoreV1().Pods("default").GetLogs("web-"+n.name, skipping).DoRaw(t.Context()); err != nil {
			t.Errorf("%s, not looked at: %v", name, err)
		}
	}
}

// Nodes of one name and address in two clusters are two nodes.
func TestTunnelsOfClusters(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Config{Clusters: []string{"other"}})
	for cluster, says := range map[string]string{servertest.Default: "the default's", "other": "the other's"} {
		n := newHidden(t, s.Identity(cluster), "one", "one", says)
		n.register(t, s.Client(t, cluster))
		n.connect(t, s, cluster)
	}
	wantLogs(t, s.Client(t, servertest.Default), "one", "the default's")
	wantLogs(t, s.Client(t, "other"), "one", "the other's")
}

// Two nodes behind routers may have one address.
func TestTunnelsOfOneAddress(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Config{})
	kube := s.Client(t, servertest.Default)
	for _, name := range []string{"one", "two"} {
		n := newHidden(t, s.Identity(servertest.Default), name, name, "node "+name)
		n.register(t, kube)
		n.connect(t, s, servertest.Default)
	}
	for range 3 {
		wantLogs(t, kube, "one", "node one")
		wantLogs(t, kube, "two", "node two")
	}
}

// A tunnel goes with its Node.
func TestTunnelOfDeletedNode(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Config{})
	kube := s.Client(t, servertest.Default)
	n := newHidden(t, s.Identity(servertest.Default), "one", "one", "the first")
	n.register(t, kube)
	up := n.connect(t, s, servertest.Default)
	wantLogs(t, kube, "one", "the first")
	if err := kube.CoreV1().Nodes().Delete(t.Context(), "one", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := logs(t.Context(), kube, "web-one"); !apierrors.IsNotFound(err) {
		t.Errorf("logs from a node that was deleted: %v", err)
	}
	if _, err := dialTunnel(t, asNode(t, s, servertest.Default, "one"), tunnel.Path("one")); status(err) != http.StatusNotFound {
		t.Errorf("a tunnel of a node that was deleted: %v", err)
	}
	<-up.done // within seconds
}
