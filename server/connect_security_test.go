package server_test

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/rowlock-io/rowlock/server/servertest"
)

// ownAddress is one of this machine's that is not on loopback, as the addresses of pods and nodes must be.
func ownAddress(t *testing.T) net.IP {
	t.Helper()
	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && n.IP.IsGlobalUnicast() {
			return n.IP
		}
	}
	t.Skip("this machine has loopback addresses only")
	return nil
}

// workload is a server that pods, services and nodes lead to.
type workload struct {
	plain, tls *httptest.Server

	mu      sync.Mutex
	uris    []string
	headers []http.Header
	answer  http.HandlerFunc
}

// newWorkload starts one. Over TLS it shows a certificate of the cluster's, as nodes have to.
func newWorkload(t *testing.T, of *servertest.Server) *workload {
	t.Helper()
	w := &workload{}
	h := http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		w.mu.Lock()
		w.uris = append(w.uris, req.RequestURI)
		w.headers = append(w.headers, req.Header.Clone())
		answer := w.answer
		w.mu.Unlock()
		if answer != nil {
			answer(rw, req)
		}
	})
	ip := ownAddress(t)
	for _, s := range []**httptest.Server{&w.plain, &w.tls} {
		*s = httptest.NewUnstartedServer(h)
		(*s).Listener.Close()
		listener, err := net.Listen("tcp", net.JoinHostPort(ip.String(), "0"))
		if err != nil {
			t.Fatal(err)
		}
		(*s).Listener = listener
	}
	pair, err := of.Identity(servertest.Default).ClusterCA.IssueServing([]string{ip.String()}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	w.tls.TLS = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair.TLS}}
	w.plain.Start()
	w.tls.StartTLS()
	t.Cleanup(w.plain.Close)
	t.Cleanup(w.tls.Close)
	return w
}

func (w *workload) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	uris := w.uris
	w.uris, w.headers = nil, nil
	return uris
}

func (w *workload) answerWith(h http.HandlerFunc) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answer = h
}

func address(s *httptest.Server) *net.TCPAddr { return s.Listener.Addr().(*net.TCPAddr) }

// deploy makes a pod, a service and a node that lead to the workload.
func deploy(t *testing.T, kube kubernetes.Interface, ip string, plain, kubelet int32) {
	t.Helper()
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := kube.CoreV1().ServiceAccounts("default").Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, metav1.CreateOptions{})
	must(err)
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}}
	node, err = kube.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{})
	must(err)
	node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: ip}}
	node.Status.DaemonEndpoints.KubeletEndpoint.Port = kubelet
	_, err = kube.CoreV1().Nodes().UpdateStatus(ctx, node, metav1.UpdateOptions{})
	must(err)
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "p"},
		Spec:       corev1.PodSpec{NodeName: "n", Containers: []corev1.Container{{Name: "c", Image: "i", Ports: []corev1.ContainerPort{{ContainerPort: plain}}}}},
	}
	pod, err = kube.CoreV1().Pods("default").Create(ctx, pod, metav1.CreateOptions{})
	must(err)
	pod.Status.Phase, pod.Status.PodIP, pod.Status.PodIPs = corev1.PodRunning, ip, []corev1.PodIP{{IP: ip}}
	_, err = kube.CoreV1().Pods("default").UpdateStatus(ctx, pod, metav1.UpdateOptions{})
	must(err)
	_, err = kube.CoreV1().Services("default").Create(ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "s"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "web", Port: 80}}},
	}, metav1.CreateOptions{})
	must(err)
	_, err = kube.CoreV1().Endpoints("default").Create(ctx, &corev1.Endpoints{ //nolint:staticcheck // what the proxy reads
		ObjectMeta: metav1.ObjectMeta{Name: "s"},
		Subsets:    []corev1.EndpointSubset{{Addresses: []corev1.EndpointAddress{{IP: ip, TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: "default", Name: "p"}}}, Ports: []corev1.EndpointPort{{Name: "web", Port: plain}}}}, //nolint:staticcheck // see above
	}, metav1.CreateOptions{})
	must(err)
}

// TestPathsOfProxiesDoNotLeaveTheirObject: what comes after proxy/ is the path that the pod, service or node is asked for,
// and names no other object; what comes before it names one object or none.
func TestPathsOfProxiesDoNotLeaveTheirObject(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Config{})
	w := newWorkload(t, s)
	plain, kubelet := address(w.plain), address(w.tls)
	deploy(t, s.Client(t, servertest.Default), plain.IP.String(), int32(plain.Port), int32(kubelet.Port))
	roots := []string{
		fmt.Sprintf("/api/v1/namespaces/default/pods/p:%d/proxy", plain.Port), "/api/v1/namespaces/default/services/s:web/proxy",
		fmt.Sprintf("/api/v1/nodes/https:n:%d/proxy", kubelet.Port),
	}
	for _, root := range roots {
		for below, want := range map[string]string{
			"/a/b": "/a/b", "/": "/", "/a/": "/a/", "/a%20b": "/a%20b",
			"/a/../b": "/b", "/../../x": "/x", "/%2e%2e/%2e%2e/x": "/x", "/..%2f..%2fx": "/x", "/a%2fb": "/a/b",
		} {
			resp := wire.Send(t, s.URL, servertest.Request{Method: http.MethodGet, Path: root + below, Token: servertest.AdminToken})
			got := w.take()
			if len(got) != 1 || got[0] != want && !strings.HasPrefix(got[0], "/..") {
				t.Errorf("%s%s: %d %.200s, asked for %q, want %s", root, below, resp.Status, resp.Body, got, want)
			}
		}
	}
	// Nothing else of these leads to a workload, or to anything.
	for _, path := range []string{
		"/api/v1/namespaces/default/pods/..%2fp/proxy/x", "/api/v1/namespaces/default/pods/%2e%2e/proxy/x", "/api/v1/namespaces/default/pods/p%2f..%2fp/proxy/x",
		"/api/v1/namespaces/default/services/..%2fs:web/proxy/x", "/api/v1/namespaces/default/services/%2e%2e:web/proxy/x",
		"/api/v1/nodes/..%2fn/proxy/x", "/api/v1/nodes/%2e%2e/proxy/x", "/api/v1/nodes/n%23/proxy/x", "/api/v1/nodes/n%3f/proxy/x",
		"/api/v1/namespaces/default/pods/%2e%2e/log", "/api/v1/namespaces/default/pods/p%2f..%2fq/log", "/api/v1/namespaces/default/pods/p/log/../../x",
		"/api/v1/namespaces/default/pods/p/log?container=..%2f..%2fx", "/api/v1/namespaces/default/pods/p/exec/..%2fx?command=x&container=c",
		"/api/v1/namespaces/default/configmaps/%2e%2e", "/api/v1/namespaces/default/configmaps/..%2f..%2fkube-system%2fconfigmaps",
		"/api/v1/namespaces/%2e%2e/configmaps/x", "/api/v1/namespaces/..%2fkube-system/configmaps/extension-apiserver-authentication",
		"/clusters/default/../default/api/v1/nodes/n/proxy/x", "/clusters/default%2fapi/v1/nodes/n/proxy/x",
	} {
		resp := wire.Send(t, s.URL, servertest.Request{Method: http.MethodGet, Path: path, Token: servertest.AdminToken})
		if got := w.take(); resp.Status < 400 || len(got) > 0 {
			t.Errorf("%s: %d %.200s, asked for %q", path, resp.Status, resp.Body, got)
		}
	}
	// Who may not proxy to an object gets there by no path.
	for _, root := range roots {
		for _, below := range []string{"", "/x", "/..", "/../../../../../../healthz", "/%2e%2e%2f"} {
			resp := wire.Send(t, s.URL, servertest.Request{Method: http.MethodGet, Path: root + below, Token: servertest.AliceToken})
			if got := w.take(); resp.Status != http.StatusForbidden || len(got) > 0 {
				t.Errorf("%s%s: %d, asked for %q", root, below, resp.Status, got)
			}
		}
	}
}

// TestRedirectsOfWorkloadsAreNotFollowed: a pod, service or node cannot have the server fetch what only the server reaches.
func TestRedirectsOfWorkloadsAreNotFollowed(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Config{})
	w := newWorkload(t, s)
	var followed atomic.Int32
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { followed.Add(1) }))
	defer elsewhere.Close()
	w.answer = func(rw http.ResponseWriter, req *http.Request) {
		http.Redirect(rw, req, elsewhere.URL+"/x", http.StatusFound)
	}
	plain, kubelet := address(w.plain), address(w.tls)
	deploy(t, s.Client(t, servertest.Default), plain.IP.String(), int32(plain.Port), int32(kubelet.Port))
	for _, path := range []string{
		fmt.Sprintf("/api/v1/namespaces/default/pods/p:%d/proxy/", plain.Port), "/api/v1/namespaces/default/services/s:web/proxy/",
		fmt.Sprintf("/api/v1/nodes/https:n:%d/proxy/", kubelet.Port), "/api/v1/namespaces/default/pods/p/log",
	} {
		resp := wire.Send(t, s.URL, servertest.Request{Method: http.MethodGet, Path: path, Token: servertest.AdminToken})
		if got := w.take(); len(got) != 1 {
			t.Errorf("%s: %d %.200s, asked for %q", path, resp.Status, resp.Body, got)
		}
	}
	if n := followed.Load(); n != 0 {
		t.Errorf("%d redirects were followed", n)
	}
}

// TestNodesAreNotOnThisMachine: whoever may write a node's addresses does not reach what listens on loopback.
func TestNodesAreNotOnThisMachine(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Config{})
	var reached atomic.Int32
	local := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	defer local.Close()
	port := int32(address(local).Port)
	kube := s.Client(t, servertest.Default)
	for i, host := range []string{"127.0.0.1", "localhost", "::1", "::ffff:127.0.0.1"} {
		node, err := kube.CoreV1().Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("n%d", i)}}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: host}}
		node.Status.DaemonEndpoints.KubeletEndpoint.Port = port
		if _, err := kube.CoreV1().Nodes().UpdateStatus(t.Context(), node, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{"/api/v1/nodes/" + node.Name + "/proxy/", fmt.Sprintf("/api/v1/nodes/https:%s:%d/proxy/", node.Name, port)} {
			resp := wire.Send(t, s.URL, servertest.Request{Method: http.MethodGet, Path: path, Token: servertest.AdminToken})
			if resp.Status < 400 {
				t.Errorf("%s at %s: %d %.200s", path, host, resp.Status, resp.Body)
			}
		}
	}
	if n := reached.Load(); n != 0 {
		t.Errorf("%d requests were made", n)
	}
}
