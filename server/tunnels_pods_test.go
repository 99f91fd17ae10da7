package server_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextensionsclient "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	apiregistration "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/rowlock-io/rowlock/server/controlplane"
	"github.com/rowlock-io/rowlock/server/pki"
	"github.com/rowlock-io/rowlock/server/servertest"
	"github.com/rowlock-io/rowlock/storage/memory"
)

// hiddenPod is the address of a node's pod, which nobody can dial.
const hiddenPod = "192.0.2.77"

// listens has something of the test's listen on a port of the pod web-NODE.
func (n *hidden) listens(t *testing.T, kube kubernetes.Interface, address string, port int, at net.Addr) {
	t.Helper()
	n.mu.Lock()
	if n.pods == nil {
		n.pods = map[netip.AddrPort]string{}
	}
	n.pods[netip.AddrPortFrom(netip.MustParseAddr(address), uint16(port))] = at.String()
	n.mu.Unlock()
	pod, err := kube.CoreV1().Pods("default").Get(t.Context(), "web-"+n.name, metav1.GetOptions{})
	if err == nil && pod.Status.PodIP != address {
		pod.Status.PodIP, pod.Status.PodIPs = address, []corev1.PodIP{{IP: address}}
		_, err = kube.CoreV1().Pods("default").UpdateStatus(t.Context(), pod, metav1.UpdateOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (n *hidden) podsAsked() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.asked)
}

// endpoint makes a Service with one endpoint, which says to be the pod web-NODE at an address.
func (n *hidden) endpoint(t *testing.T, kube kubernetes.Interface, name, address string, port int32) {
	t.Helper()
	ctx := t.Context()
	labels := map[string]string{discoveryv1.LabelServiceName: name}
	ref := &corev1.ObjectReference{Kind: "Pod", Namespace: "default", Name: "web-" + n.name}
	_, err := kube.CoreV1().Services("default").Create(ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "web", Port: 443}}},
	}, metav1.CreateOptions{})
	if err == nil {
		_, err = kube.DiscoveryV1().EndpointSlices("default").Create(ctx, &discoveryv1.EndpointSlice{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}, AddressType: discoveryv1.AddressTypeIPv4,
			Endpoints: []discoveryv1.Endpoint{{Addresses: []string{address}, TargetRef: ref}},
			Ports:     []discoveryv1.EndpointPort{{Name: ptr("web"), Port: ptr(port)}},
		}, metav1.CreateOptions{})
	}
	if err == nil {
		_, err = kube.CoreV1().Endpoints("default").Create(ctx, &corev1.Endpoints{ //nolint:staticcheck // what services/proxy reads
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Subsets: []corev1.EndpointSubset{{ //nolint:staticcheck // see above
				Addresses: []corev1.EndpointAddress{{IP: address, TargetRef: ref}}, Ports: []corev1.EndpointPort{{Name: "web", Port: port}}, //nolint:staticcheck // see above
			}},
		}, metav1.CreateOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// proxied asks for a path below the API until it is answered.
func proxied(t *testing.T, kube kubernetes.Interface, path, want string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		within, stop := context.WithTimeout(ctx, 5*time.Second)
		got, err := kube.CoreV1().RESTClient().Get().AbsPath(path).DoRaw(within)
		stop()
		if err == nil && string(got) == want {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("%s: %q, %v, want %q", path, got, err, want)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// says answers with a text, the path, and the address that was called.
func says(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) { _, _ = fmt.Fprintf(w, "%s at %s", text, req.URL.Path) }
}

// What listens on pods of a node that has a tunnel is reached over it, from whichever server.
func TestTunnelToPods(t *testing.T) {
	t.Parallel()
	s := replicas(t, memory.New())
	clients := [2]kubernetes.Interface{s[0].Client(t, servertest.Default), s[1].Client(t, servertest.Default)}
	kube := clients[0]
	n := newHidden(t, s[0].Identity(servertest.Default), "one", "one", "the first")
	n.register(t, kube)
	plain, secure := httptest.NewServer(says("plain")), httptest.NewTLSServer(says("secure"))
	t.Cleanup(plain.Close)
	t.Cleanup(secure.Close)
	n.listens(t, kube, hiddenPod, 80, plain.Listener.Addr())
	n.listens(t, kube, hiddenPod, 8443, secure.Listener.Addr())
	n.listens(t, kube, hiddenPod, 9000, echoes(t))
	n.endpoint(t, kube, "web", hiddenPod, 80)
	n.connect(t, s[0], servertest.Default)
	wantLogs(t, clients[1], "one", "the first")
	for i, client := range clients {
		proxied(t, client, "/api/v1/namespaces/default/pods/web-one/proxy/some/path", "plain at /some/path")
		proxied(t, client, "/api/v1/namespaces/default/pods/https:web-one:8443/proxy/x", "secure at /x")
		proxied(t, client, "/api/v1/namespaces/default/services/web:web/proxy/y", "plain at /y")
		conn, lines := dialServer(t, s[i])
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		if _, err := io.WriteString(conn, upgradeRequest("/api/v1/namespaces/default/pods/web-one:9000/proxy/", servertest.AdminToken)); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(lines, nil)
		if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
			t.Fatal(resp, err)
		}
		if _, err := io.WriteString(conn, "hello\n"); err != nil {
			t.Fatal(err)
		}
		if line, err := lines.ReadString('\n'); err != nil || line != "hello\n" {
			t.Errorf("over an upgraded connection: %q, %v", line, err)
		}
	}
	// An address that the agent does not know is connected to by nobody.
	for i, client := range clients {
		said, err := client.CoreV1().RESTClient().Get().AbsPath("/api/v1/namespaces/default/pods/web-one:81/proxy/").DoRaw(t.Context())
		if err == nil || !strings.Contains(string(said), "there is no pod of the node's at this address") {
			t.Errorf("where the node has no pod, by server %d: %q, %v", i, said, err)
		}
	}
}

// echoes is a server that upgrades every connection, and then says what it is told.
func echoes(t *testing.T) net.Addr {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, buffered, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		_, _ = io.Copy(conn, buffered)
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr()
}

// A pod in the node's network is reached over the tunnel where the agent knows its port; other ports of the node are dialled, as ever.
func TestTunnelToPortsOfNodes(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Config{})
	kube := s.Client(t, servertest.Default)
	n := newHidden(t, s.Identity(servertest.Default), "one", "one", "the first")
	n.register(t, kube)
	exporter := httptest.NewServer(says("exporter"))
	t.Cleanup(exporter.Close)
	n.pods = map[netip.AddrPort]string{netip.MustParseAddrPort(hiddenAddress + ":9100"): exporter.Listener.Addr().String()}
	n.connect(t, s, servertest.Default)
	proxied(t, kube, "/api/v1/nodes/one:9100/proxy/metrics", "exporter at /metrics")
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	asked := n.podsAsked()
	said, err := kube.CoreV1().RESTClient().Get().AbsPath("/api/v1/nodes/one:9999/proxy/").DoRaw(ctx)
	if err == nil || strings.Contains(string(said), "no pod of the node") {
		t.Errorf("another port: %q, %v", said, err)
	}
	if n.podsAsked() != asked+1 {
		t.Error("the agent was not asked first")
	}
}

// Servers of users' that are behind a Service are reached by the node of its pod, and have to prove to be the Service as ever.
func TestTunnelToServices(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Config{})
	kube := s.Client(t, servertest.Default)
	n := newHidden(t, s.Identity(servertest.Default), "one", "one", "the first")
	n.register(t, kube)
	front := s.Identity(servertest.Default)
	hook, ca := secured(t, front, "hook.default.svc", func(w http.ResponseWriter, req *http.Request) {
		var review map[string]any
		_ = json.NewDecoder(req.Body).Decode(&review)
		asked, _ := review["request"].(map[string]any)
		answer := map[string]any{"uid": asked["uid"]}
		if objects, ok := asked["objects"].([]any); ok { // of another version
			for _, o := range objects {
				o.(map[string]any)["apiVersion"] = asked["desiredAPIVersion"]
			}
			answer["convertedObjects"], answer["result"] = objects, map[string]any{"status": "Success"}
		} else {
			answer["allowed"], answer["status"] = false, map[string]any{"message": "said the pod"}
		}
		delete(review, "request")
		review["response"] = answer
		_ = json.NewEncoder(w).Encode(review)
	})
	sample := newSampleServer(t, front.FrontProxyCA.Pool())
	n.listens(t, kube, hiddenPod, 8443, hook)
	n.listens(t, kube, hiddenPod, 9443, sample.Listener.Addr())
	n.endpoint(t, kube, "hook", hiddenPod, 8443)
	n.endpoint(t, kube, "other", hiddenPod, 8443) // for which the certificate is not
	n.endpoint(t, kube, "wardle", hiddenPod, 9443)
	n.connect(t, s, servertest.Default)
	wantLogs(t, kube, "one", "the first")

	t.Run("webhooks", func(t *testing.T) {
		for service, want := range map[string]string{"hook": "said the pod", "other": "certificate is valid for hook.default.svc, not other.default.svc"} {
			hooks := validatingConfiguration(validatingHook(admissionregistrationv1.WebhookClientConfig{
				Service: &admissionregistrationv1.ServiceReference{Namespace: "default", Name: service}, CABundle: ca,
			}, rulesFor("", "v1", "configmaps")))
			if _, err := kube.AdmissionregistrationV1().ValidatingWebhookConfigurations().Create(t.Context(), hooks, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			var err error
			await(t, "the webhook is asked", func() bool {
				_, err = kube.CoreV1().ConfigMaps("default").Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{GenerateName: "c"}}, metav1.CreateOptions{})
				return err != nil
			})
			if !strings.Contains(err.Error(), want) {
				t.Errorf("by %s: %v, want %q", service, err, want)
			}
			if err := kube.AdmissionregistrationV1().ValidatingWebhookConfigurations().Delete(t.Context(), hooks.Name, metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			await(t, "the webhook is forgotten", func() bool {
				_, err = kube.CoreV1().ConfigMaps("default").Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{GenerateName: "c"}}, metav1.CreateOptions{})
				return err == nil
			})
		}
	})
	t.Run("aggregated", func(t *testing.T) {
		client := newAggregatorClient(t, s)
		if _, err := client.ApiregistrationV1().APIServices().Create(t.Context(), wardleService("wardle", 443), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		awaitAvailable(t, client, "v1."+wardle, apiregistration.ConditionTrue, "Passed")
		resp := wire.Send(t, s.URL, servertest.Request{Method: http.MethodGet, Path: wardlePath + "/flunders", Token: servertest.AdminToken})
		if resp.Status != http.StatusOK || !strings.Contains(resp.Body, `"URI":"`+wardlePath+`/flunders"`) {
			t.Errorf("through the tunnel: %d %s", resp.Status, resp.Body)
		}
	})
	t.Run("conversion", func(t *testing.T) { convertedByPod(t, s, ca) })
}

// secured is a server with a certificate of the cluster's authority for a name.
func secured(t *testing.T, of *pki.Identity, name string, h http.HandlerFunc) (at net.Addr, ca []byte) {
	t.Helper()
	pair, err := of.ClusterCA.IssueServing([]string{name}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(h)
	s.TLS = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair.TLS}}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.Listener.Addr(), of.ClusterCA.Bundle()
}

func convertedByPod(t *testing.T, s *servertest.Server, ca []byte) {
	t.Helper()
	config := s.Config(servertest.Default, servertest.AdminToken)
	client, err := apiextensionsclient.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	free := &apiextensions.CustomResourceValidation{OpenAPIV3Schema: &apiextensions.JSONSchemaProps{Type: "object", XPreserveUnknownFields: ptr(true)}}
	_, err = client.ApiextensionsV1().CustomResourceDefinitions().Create(t.Context(), &apiextensions.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{Name: "widgets.example.com"},
		Spec: apiextensions.CustomResourceDefinitionSpec{
			Group: "example.com", Scope: apiextensions.ClusterScoped,
			Names: apiextensions.CustomResourceDefinitionNames{Plural: "widgets", Singular: "widget", Kind: "Widget", ListKind: "WidgetList"},
			Versions: []apiextensions.CustomResourceDefinitionVersion{
				{Name: "v1", Served: true, Storage: true, Schema: free}, {Name: "v2", Served: true, Schema: free},
			},
			Conversion: &apiextensions.CustomResourceConversion{Strategy: apiextensions.WebhookConverter, Webhook: &apiextensions.WebhookConversion{
				ClientConfig:             &apiextensions.WebhookClientConfig{Service: &apiextensions.ServiceReference{Namespace: "default", Name: "hook"}, CABundle: ca},
				ConversionReviewVersions: []string{"v1"},
			}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	objects, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	of := func(version string) dynamic.ResourceInterface {
		return objects.Resource(schema.GroupVersionResource{Group: "example.com", Version: version, Resource: "widgets"})
	}
	one := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "example.com/v1", "kind": "Widget", "metadata": map[string]any{"name": "w"}}}
	await(t, "the resource is served", func() bool {
		_, err := of("v1").Create(t.Context(), one, metav1.CreateOptions{})
		return err == nil
	})
	got, err := of("v2").Get(t.Context(), "w", metav1.GetOptions{})
	if err != nil || got.GetAPIVersion() != "example.com/v2" {
		t.Errorf("converted over the tunnel: %v, %v", got, err)
	}
}

// A server that is told to dials pods at their addresses, tunnels or not.
func TestPodsDirectly(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Config{Plane: func(cfg *controlplane.Config) { cfg.Outbound.PodsDirectly = true }})
	kube := s.Client(t, servertest.Default)
	n := newHidden(t, s.Identity(servertest.Default), "one", "one", "the first")
	n.register(t, kube)
	n.listens(t, kube, hiddenPod, 80, n.Listener.Addr())
	n.endpoint(t, kube, "web", hiddenPod, 80)
	n.connect(t, s, servertest.Default)
	wantLogs(t, kube, "one", "the first")
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	for _, path := range []string{"pods/web-one", "services/web:web"} {
		if _, err := kube.CoreV1().RESTClient().Get().AbsPath("/api/v1/namespaces/default/" + path + "/proxy/").DoRaw(ctx); err == nil {
			t.Errorf("%s was reached", path)
		}
	}
	if n.podsAsked() > 0 {
		t.Error("the agent was asked for a pod")
	}
}
