package server_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"

	"github.com/rowlock-io/rowlock/server/controlplane"
	"github.com/rowlock-io/rowlock/server/pki"
	"github.com/rowlock-io/rowlock/server/servertest"
	"github.com/rowlock-io/rowlock/storage/memory"
)

// nodeCertificate is how a node talks to a server with a certificate that lives for so long.
func nodeCertificate(t *testing.T, config *rest.Config, of *pki.Identity, name string, life time.Duration) *rest.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := of.ClusterCA
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "system:node:" + name, Organization: []string{"system:nodes"}},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(life), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, ca.Certificate(), key.Public(), ca.Signer())
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	config = rest.CopyConfig(config)
	config.BearerToken = ""
	config.CertData = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	config.KeyData = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
	return config
}

// follow follows the logs of a node's pod, of which the first line has come.
func follow(t *testing.T, s *servertest.Server, n *hidden) (lines *bufio.Reader, stop func()) {
	t.Helper()
	stream, err := s.Client(t, servertest.Default).CoreV1().Pods("default").GetLogs("web-"+n.name, &corev1.PodLogOptions{Container: "c", Follow: true}).Stream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stream.Close() })
	lines = bufio.NewReader(stream)
	if _, err := lines.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	return lines, func() { _ = stream.Close() }
}

// A tunnel does not outlive the certificate that it was made with, and neither does what goes over it.
func TestTunnelOfCertificateThatExpires(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Config{})
	kube := s.Client(t, servertest.Default)
	n := newHidden(t, s.Identity(servertest.Default), "one", "one", "the first")
	n.register(t, kube)
	expires := time.Now().Add(8 * time.Second)
	up := n.connectAs(t, nodeCertificate(t, s.Config(servertest.Default, ""), s.Identity(servertest.Default), "one", time.Until(expires)))
	wantLogs(t, kube, "one", "the first")
	lines, _ := follow(t, s, n)
	_, _ = io.ReadAll(lines)
	<-up.done
	if early := time.Until(expires); early > time.Second { // of which a certificate knows no parts
		t.Errorf("the tunnel ended %s before the certificate", early)
	}
	n.connect(t, s, servertest.Default) // with another one
	wantLogs(t, kube, "one", "the first")
}

// Who does not read what he has asked for holds up nobody else.
func TestTunnelBesideSlowReader(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Config{})
	kube := s.Client(t, servertest.Default)
	n := newHidden(t, s.Identity(servertest.Default), "one", "one", "the first")
	n.register(t, kube)
	n.connect(t, s, servertest.Default)
	wantLogs(t, kube, "one", "the first")
	for range 5 {
		stream, err := s.Client(t, servertest.Default).CoreV1().Pods("default").GetLogs("web-one", &corev1.PodLogOptions{Container: "flood"}).Stream(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Close()
		if _, err := io.ReadFull(stream, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(500 * time.Millisecond) // until all that is between is full
	lines, _ := follow(t, s, n)
	for _, more := range []string{"one", "two"} {
		n.more <- more
		if line, err := lines.ReadString('\n'); err != nil || line != more+"\n" {
			t.Errorf("beside who does not read: %q, %v", line, err)
		}
	}
}

// gate is in front of a server, as an address that can be taken from it.
type gate struct {
	net.Listener
	mu    sync.Mutex
	conns []net.Conn
	shut  bool
}

func newGate(t *testing.T) *gate {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{Listener: listener}
	t.Cleanup(g.kill)
	return g
}

// open leads to a server.
func (g *gate) open(to string) {
	for {
		near, err := g.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", to)
		if err != nil {
			_ = near.Close()
			continue
		}
		g.mu.Lock()
		g.conns = append(g.conns, near)
		shut := g.shut
		g.mu.Unlock()
		if shut {
			_ = near.Close()
		}
		go func() { _, _ = io.Copy(far, near) }() // far is not closed: the server does not hear of the end
		go func() { _, _ = io.Copy(near, far) }()
	}
}

// kill is as if the server's machine had died, for others.
func (g *gate) kill() {
	_ = g.Close()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = true
	for _, c := range g.conns {
		_ = c.Close()
	}
}

// When a server dies, what went over its tunnels ends; who asks another server gets his answer when the agent has come there, and
// nobody waits for long for a server that is gone.
func TestTunnelOfServerThatDies(t *testing.T) {
	t.Parallel()
	db := memory.New()
	g := newGate(t)
	first := servertest.Start(t, servertest.Config{Database: db, Plane: func(c *controlplane.Config) {
		c.Replicas, c.Advertise, c.Port = true, net.IPv4(127, 0, 0, 1), g.Addr().(*net.TCPAddr).Port
	}})
	second := servertest.Start(t, servertest.Config{Database: db, Keys: first.Keys, Plane: func(c *controlplane.Config) { c.Replicas = true }})
	go g.open(strings.TrimPrefix(first.URL, "https://"))
	kube := second.Client(t, servertest.Default)
	n := newHidden(t, first.Identity(servertest.Default), "one", "one", "the first")
	n.register(t, kube)
	config := asNode(t, first, servertest.Default, "one")
	config.Host = "https://" + g.Addr().String()
	up := n.connectAs(t, config)
	wantLogs(t, kube, "one", "the first")
	lines, _ := follow(t, second, n)
	g.kill()
	_, _ = io.ReadAll(lines) // which ends
	<-up.done

	// Asked before the agent is there.
	answered := make(chan error, 1)
	go func() {
		_, err := logs(t.Context(), kube, "web-one")
		answered <- err
	}()
	time.Sleep(time.Second)
	up = n.connect(t, second, servertest.Default)
	if err := <-answered; err != nil {
		t.Errorf("while the agent was on its way: %v", err)
	}
	wantLogs(t, kube, "one", "the first")

	// And one that never comes.
	up.cut()
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for {
		within, stop := context.WithTimeout(ctx, 12*time.Second)
		said, err := logs(within, kube, "web-one")
		stop()
		if err != nil && (strings.Contains(said, "dial tcp") || within.Err() != nil) { // it is dialled, as without a tunnel
			break
		}
		if ctx.Err() != nil {
			t.Fatalf("after %s: %q, %v", time.Since(began), said, err)
		}
	}
}

// A server that is told to stop goes on with what runs over its tunnels for as long as it goes on itself.
func TestTunnelOfServerThatIsStopped(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Config{ShutdownDelay: 3 * time.Second})
	kube := s.Client(t, servertest.Default)
	n := newHidden(t, s.Identity(servertest.Default), "one", "one", "the first")
	n.register(t, kube)
	up := n.connect(t, s, servertest.Default)
	wantLogs(t, kube, "one", "the first")
	at := kube.CoreV1().RESTClient().Post().Resource("pods").Namespace("default").Name("web-one").SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{Container: "c", Command: []string{"cat"}, Stdin: true, Stdout: true}, scheme.ParameterCodec).URL()
	executor, err := remotecommand.NewWebSocketExecutor(s.Config(servertest.Default, servertest.AdminToken), "GET", at.String())
	if err != nil {
		t.Fatal(err)
	}
	in, toPod := io.Pipe()
	fromPod, out := io.Pipe()
	executed := make(chan struct{})
	go func() {
		defer close(executed)
		_ = executor.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdin: in, Stdout: out}) // it does not tell a cut from an end
		_ = out.Close()
	}()
	lines := bufio.NewReader(fromPod)
	say := func(what string) {
		t.Helper()
		if _, err := io.WriteString(toPod, what+"\n"); err != nil {
			t.Error(err)
		}
		if line, err := lines.ReadString('\n'); err != nil || line != what+"\n" {
			t.Errorf("%q, %v", line, err)
		}
	}
	say("before")
	stopped := make(chan error, 1)
	go func() { stopped <- s.Stop() }()
	time.Sleep(time.Second)
	say("while it stops")
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	<-up.done
	<-executed // and what ran over the tunnel
	_ = toPod.Close()
}
