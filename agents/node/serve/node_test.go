package serve_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/rest"
	clienttesting "k8s.io/client-go/testing"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/rowlock-io/rowlock/agents/node/fakecri"
	criruntime "github.com/rowlock-io/rowlock/agents/node/runtime"
	"github.com/rowlock-io/rowlock/agents/node/serve"
	"github.com/rowlock-io/rowlock/agents/node/stats"
)

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert, key}
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

// issue makes a certificate and key of a server at 127.0.0.1, or of a client.
func (a *authority) issue(t testing.TB, usage x509.ExtKeyUsage, name string, groups ...string) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name, Organization: groups}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{usage}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, private.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	text, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: text})
}

// pods are those that the agent knows.
type pods struct {
	mu  sync.Mutex
	all []*corev1.Pod
}

func (p *pods) Pods() []*corev1.Pod {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.all)
}

func (p *pods) Pod(namespace, name string) *corev1.Pod {
	for _, pod := range p.Pods() {
		if pod.Namespace == namespace && pod.Name == name {
			return pod
		}
	}
	return nil
}

// node is one whose API is served over a fake runtime. Its API server lets in "metrics" to metrics only, "nobody" to nothing, and
// others to all; tokens are the names of their owners.
type node struct {
	t         testing.TB
	ca        *authority
	url       string
	runtime   *fakecri.Runtime
	cri       *criruntime.Runtime
	pods      *pods
	logs      string
	stop      func() error
	kube      *fake.Clientset
	systemLog string

	mu    sync.Mutex
	known map[string]*rest.Config // by user
}

func newNode(t *testing.T, change ...func(*serve.Config)) *node {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	n := &node{t: t, ca: newAuthority(t), runtime: fakecri.Start(t, fakecri.Containerd()), pods: &pods{}, logs: t.TempDir(), kube: fake.NewClientset(), systemLog: t.TempDir(), known: map[string]*rest.Config{}}
	cri, err := criruntime.Dial(t.Context(), n.runtime.Endpoint(), criruntime.Options{Log: log})
	if err != nil {
		t.Fatal(err)
	}
	n.cri = cri
	t.Cleanup(func() { _ = cri.Close(context.Background()) }) //nolint:usetesting // the test's has ended
	n.kube.PrependReactor("create", "subjectaccessreviews", func(a clienttesting.Action) (bool, runtime.Object, error) {
		review := a.(clienttesting.CreateAction).GetObject().(*authorizationv1.SubjectAccessReview).DeepCopy()
		switch what := review.Spec.ResourceAttributes; review.Spec.User {
		case "nobody":
		case "metrics":
			review.Status.Allowed = what.Subresource == "metrics" || what.Subresource == "pods"
		default:
			review.Status.Allowed = slices.Contains(review.Spec.Groups, "system:authenticated")
		}
		return true, review, nil
	})
	n.kube.PrependReactor("create", "tokenreviews", func(a clienttesting.Action) (bool, runtime.Object, error) {
		review := a.(clienttesting.CreateAction).GetObject().(*authenticationv1.TokenReview).DeepCopy()
		review.Status.Authenticated = review.Spec.Token != "wrong"
		review.Status.User.Username = review.Spec.Token
		return true, review, nil
	})
	certPEM, keyPEM := n.ca.issue(t, x509.ExtKeyUsageServerAuth, "system:node:one", "system:nodes")
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	counter := prometheus.NewCounter(prometheus.CounterOpts{Name: "kubelet_something_total", Help: "Something."})
	registry.MustRegister(counter)
	cfg := serve.Config{
		Node: "one", Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &pair, nil }, ClientCAs: n.ca.pool,
		Tokens: n.kube.AuthenticationV1(), SubjectAccess: n.kube.AuthorizationV1(), Pods: n.pods, Runtime: cri.Service(),
		Stats: stats.New(stats.Config{
			Node: "one", Runtime: cri.Service(), Images: cri.Images(), Data: t.TempDir(), PodLogs: n.logs, Log: log,
		}),
		Configz: func() any { return map[string]any{"kind": "KubeletConfiguration"} },
		Metrics: registry, SystemLogs: n.systemLog, Log: log,
	}
	for _, c := range change {
		c(&cfg)
	}
	server, err := serve.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n.url = "https://" + listener.Addr().String()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx, listener) }()
	n.stop = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() {
		if err := n.stop(); err != nil {
			t.Errorf("it ended with %v", err)
		}
	})
	return n
}

// as configures clients of a user with a certificate.
func (n *node) as(user string) *rest.Config {
	n.t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.known[user] == nil {
		cert, key := n.ca.issue(n.t, x509.ExtKeyUsageClientAuth, user)
		n.known[user] = &rest.Config{Host: n.url, TLSClientConfig: rest.TLSClientConfig{CAData: n.ca.pem(), CertData: cert, KeyData: key}}
	}
	return n.known[user]
}

func (n *node) do(config *rest.Config, method, path string, body ...string) (int, string) {
	n.t.Helper()
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		n.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(n.t.Context(), method, n.url+path, strings.NewReader(strings.Join(body, "")))
	if err != nil {
		n.t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		n.t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		n.t.Fatal(err)
	}
	return resp.StatusCode, string(bytes.TrimSpace(answer))
}

// get asks for a path as somebody who may all.
func (n *node) get(path string) (int, string) {
	n.t.Helper()
	return n.do(n.as("admin"), http.MethodGet, path)
}

// run has a pod of one container run, whose life was scripted, and returns the container's id.
func (n *node) run(pod *corev1.Pod) string {
	n.t.Helper()
	n.runtime.AddImages("busybox")
	service, ctx := n.cri.Service(), n.t.Context()
	labels := map[string]string{
		"io.kubernetes.pod.uid": string(pod.UID), "io.kubernetes.pod.name": pod.Name, "io.kubernetes.pod.namespace": pod.Namespace,
	}
	sandboxConfig := &runtimeapi.PodSandboxConfig{
		Metadata: &runtimeapi.PodSandboxMetadata{Name: pod.Name, Namespace: pod.Namespace, Uid: string(pod.UID)}, Labels: labels,
		LogDirectory: n.logs + "/" + pod.Namespace + "_" + pod.Name + "_" + string(pod.UID),
	}
	sandbox, err := service.RunPodSandbox(ctx, sandboxConfig, "")
	if err != nil {
		n.t.Fatal(err)
	}
	name := pod.Spec.Containers[0].Name
	config := &runtimeapi.ContainerConfig{
		Metadata: &runtimeapi.ContainerMetadata{Name: name}, Image: &runtimeapi.ImageSpec{Image: "busybox", UserSpecifiedImage: "busybox"}, LogPath: name + "/0.log",
		Labels: map[string]string{"io.kubernetes.container.name": name}, Tty: pod.Spec.Containers[0].TTY,
	}
	for k, v := range labels {
		config.Labels[k] = v
	}
	id, err := service.CreateContainer(ctx, sandbox, config, sandboxConfig)
	if err == nil {
		err = service.StartContainer(ctx, id)
	}
	if err != nil {
		n.t.Fatal(err)
	}
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{
		Name: name, ContainerID: "containerd://" + id, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
	}}
	n.pods.mu.Lock()
	n.pods.all = append(n.pods.all, pod)
	n.pods.mu.Unlock()
	return id
}

func newPod(name string) *corev1.Pod {
	pod := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "busybox"}}}}
	pod.Name, pod.Namespace, pod.UID = name, "default", types.UID("uid-of-"+name)
	return pod
}
