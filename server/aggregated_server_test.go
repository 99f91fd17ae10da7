package server_test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	apiregistration "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	"k8s.io/kube-aggregator/pkg/apis/apiregistration/v1/helper"
	aggregator "k8s.io/kube-aggregator/pkg/client/clientset_generated/clientset"

	"github.com/rowlock-io/rowlock/server/controlplane"
	"github.com/rowlock-io/rowlock/server/servertest"
)

const (
	wardle     = "wardle.example.com"
	wardlePath = "/apis/" + wardle + "/v1"
)

// seen is a request as the aggregated server got it.
type seen struct {
	Method, URI string
	Header      http.Header
	Certificate string // common name
}

// sampleServer is an aggregated API server: it believes what the front proxy of a cluster says about users.
type sampleServer struct {
	*httptest.Server

	mu       sync.Mutex
	requests []seen
	answer   http.HandlerFunc // of paths below the version; nil: tell what was seen
	conns    int              // that are open
}

func newSampleServer(t *testing.T, frontProxy *x509.CertPool) *sampleServer {
	t.Helper()
	s := &sampleServer{}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	s.TLS = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: frontProxy}
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		s.mu.Lock()
		defer s.mu.Unlock()
		switch state {
		case http.StateNew:
			s.conns++
		case http.StateClosed, http.StateHijacked:
			s.conns--
		}
	}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

func (s *sampleServer) serve(w http.ResponseWriter, req *http.Request) {
	write := func(contentType, text string) {
		w.Header().Set("Content-Type", contentType)
		_, _ = fmt.Fprint(w, text)
	}
	switch req.URL.Path {
	case "/apis":
		write("application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList", `{"kind":"APIGroupDiscoveryList","apiVersion":"apidiscovery.k8s.io/v2",
			"items":[{"metadata":{"name":"`+wardle+`"},"versions":[{"version":"v1","resources":[{"resource":"flunders","singularResource":"flunder",
			"responseKind":{"group":"","version":"","kind":"Flunder"},"scope":"Namespaced","verbs":["get","list"]}]}]}]}`)
	case wardlePath:
		write("application/json", `{"kind":"APIResourceList","apiVersion":"v1","groupVersion":"`+wardle+`/v1","resources":[
			{"name":"flunders","singularName":"flunder","namespaced":true,"kind":"Flunder","verbs":["get","list"]}]}`)
	case "/openapi/v2":
		write("application/json", `{"swagger":"2.0","info":{"title":"wardle","version":"v1"},"paths":{
			"`+wardlePath+`/flunders":{"get":{"operationId":"listFlunders","responses":{"200":{"description":"OK"}}}},
			"/apis/apps/v1/stolen":{"get":{"operationId":"stolen","responses":{"200":{"description":"OK"}}}}}}`)
	case "/openapi/v3":
		write("application/json", `{"paths":{"apis/`+wardle+`/v1":{"serverRelativeURL":"/openapi/v3`+wardlePath+`?hash=1"},
			"apis/apps/v1":{"serverRelativeURL":"https://elsewhere.example.com/"}}}`)
	case "/openapi/v3" + wardlePath:
		write("application/json", `{"openapi":"3.0.0","info":{"title":"of wardle","version":"v1"},"paths":{}}`)
	default:
		one := seen{Method: req.Method, URI: req.RequestURI, Header: req.Header.Clone(), Certificate: req.TLS.PeerCertificates[0].Subject.CommonName}
		s.mu.Lock()
		s.requests = append(s.requests, one)
		answer := s.answer
		s.mu.Unlock()
		if answer != nil {
			answer(w, req)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(one)
	}
}

// answerWith sets how requests below the version are answered.
func (s *sampleServer) answerWith(h http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer, s.requests = h, nil
}

func (s *sampleServer) got() []seen {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]seen(nil), s.requests...)
}

func (s *sampleServer) open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conns
}

func (s *sampleServer) port() int32 { return int32(s.Listener.Addr().(*net.TCPAddr).Port) }

// withLoopback lets tests' servers be on loopback.
func withLoopback(cfg *controlplane.Config) { cfg.Outbound.AllowLoopback = true }

func newAggregatorClient(t testing.TB, s *servertest.Server) aggregator.Interface {
	t.Helper()
	client, err := aggregator.NewForConfig(s.Config(servertest.Default, servertest.AdminToken))
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// wardleService is the APIService of a server at a Service of the namespace default.
func wardleService(service string, port int32) *apiregistration.APIService {
	return &apiregistration.APIService{
		ObjectMeta: metav1.ObjectMeta{Name: "v1." + wardle},
		Spec: apiregistration.APIServiceSpec{
			Group: wardle, Version: "v1", GroupPriorityMinimum: 2000, VersionPriority: 200, InsecureSkipTLSVerify: true,
			Service: &apiregistration.ServiceReference{Namespace: "default", Name: service, Port: &port},
		},
	}
}

func externalService(name, host string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: host},
	}
}

// register makes an aggregated server known to a cluster and waits until it is available.
func register(t *testing.T, s *servertest.Server, sample *sampleServer) {
	t.Helper()
	if _, err := s.Client(t, servertest.Default).CoreV1().Services("default").Create(t.Context(), externalService("wardle", "localhost"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	client := newAggregatorClient(t, s)
	if _, err := client.ApiregistrationV1().APIServices().Create(t.Context(), wardleService("wardle", sample.port()), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	awaitAvailable(t, client, "v1."+wardle, apiregistration.ConditionTrue, "Passed")
}

func awaitAvailable(t *testing.T, client aggregator.Interface, name string, status apiregistration.ConditionStatus, reason string) *apiregistration.APIServiceCondition {
	t.Helper()
	var c *apiregistration.APIServiceCondition
	await(t, name+" is "+reason, func() bool {
		s, err := client.ApiregistrationV1().APIServices().Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		c = helper.GetAPIServiceConditionByType(s, apiregistration.Available)
		return c != nil && c.Status == status && c.Reason == reason
	})
	return c
}

// dialServer opens a connection to a server, over which requests of HTTP/1.1 may be written.
func dialServer(t *testing.T, s *servertest.Server) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := tls.Dial("tcp", s.URL[len("https://"):], &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn, bufio.NewReader(conn)
}

// touch changes a Service so that those who watch it look again.
func touch(t *testing.T, kube kubernetes.Interface, name, value string) {
	t.Helper()
	patch := []byte(`{"metadata":{"annotations":{"touched":"` + value + `"}}}`)
	if _, err := kube.CoreV1().Services("default").Patch(t.Context(), name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
}

// restartSampleServer starts the server again where it was.
func restartSampleServer(t *testing.T, s *sampleServer, address string) {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	again := httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	again.Listener.Close()
	again.Listener = listener
	again.TLS = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: s.TLS.ClientCAs}
	again.Config.ErrorLog = log.New(io.Discard, "", 0)
	again.StartTLS()
	t.Cleanup(again.Close)
}
