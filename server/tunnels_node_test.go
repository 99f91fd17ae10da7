package server_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"

	"github.com/rowlock-io/rowlock/server/pki"
	"github.com/rowlock-io/rowlock/server/servertest"
	"github.com/rowlock-io/rowlock/tunnel"
)

// hidden is a node whose address nobody can dial: it says that it is in a network for documentation.
type hidden struct {
	*httptest.Server
	name string
	says string // in all of its answers
	more chan string

	mu    sync.Mutex
	pods  map[netip.AddrPort]string // where what listens on its pods really is
	asked []netip.AddrPort          // addresses of pods that its agent was asked to connect to
}

const hiddenAddress = "192.0.2.10"

// newHidden starts a node's API with a serving certificate of a cluster's, in the name of a node.
func newHidden(t *testing.T, of *pki.Identity, name, certified, says string) *hidden {
	t.Helper()
	n := &hidden{name: name, says: says, more: make(chan string)}
	mux := http.NewServeMux()
	mux.HandleFunc("/containerLogs/default/{pod}/c", func(w http.ResponseWriter, req *http.Request) {
		_, _ = fmt.Fprintf(w, "logs of %s on %s\n", req.PathValue("pod"), says)
		for req.URL.Query().Get("follow") == "true" {
			_ = http.NewResponseController(w).Flush()
			select {
			case line := <-n.more:
				if line == "" {
					return
				}
				_, _ = fmt.Fprintln(w, line)
			case <-req.Context().Done():
				return
			}
		}
	})
	mux.HandleFunc("/containerLogs/default/{pod}/flood", func(w http.ResponseWriter, _ *http.Request) {
		for line := make([]byte, 64<<10); ; {
			if _, err := w.Write(line); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/attach/default/{pod}/c", func(w http.ResponseWriter, req *http.Request) {
		opts, err := remotecommand.NewOptions(req)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		remotecommand.ServeAttach(w, req, n, "", "", "", opts, time.Hour, time.Minute, remotecommand.SupportedStreamingProtocols)
	})
	mux.HandleFunc("/exec/default/{pod}/c", func(w http.ResponseWriter, req *http.Request) {
		opts, err := remotecommand.NewOptions(req)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		remotecommand.ServeExec(w, req, n, "", "", "", req.URL.Query()["command"], opts, time.Hour, time.Minute, remotecommand.SupportedStreamingProtocols)
	})
	mux.HandleFunc("/portForward/default/{pod}", func(w http.ResponseWriter, req *http.Request) {
		portforward.ServePortForward(w, req, n, "", "", nil, time.Hour, time.Minute, portforward.SupportedProtocols)
	})
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, req *http.Request) {
		_, _ = fmt.Fprintf(w, "%s asked %s", req.TLS.PeerCertificates[0].Subject.CommonName, says)
	})
	n.Server = httptest.NewUnstartedServer(mux)
	n.TLS = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{nodeServing(t, of, certified)}, ClientAuth: tls.RequireAnyClientCert}
	n.EnableHTTP2 = true
	n.StartTLS()
	t.Cleanup(n.Close)
	return n
}

// nodeServing is a certificate as the signer of nodes' serving certificates makes it.
func nodeServing(t *testing.T, of *pki.Identity, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := of.ClusterCA
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "system:node:" + name, Organization: []string{"system:nodes"}},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IPAddresses: []net.IP{net.ParseIP(hiddenAddress)}, DNSNames: []string{name},
	}, ca.Certificate(), key.Public(), ca.Signer())
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// ExecInContainer runs "cat", or says who it is.
func (n *hidden) ExecInContainer(_ context.Context, _, _, _ string, cmd []string, in io.Reader, out, _ io.WriteCloser, _ bool, _ <-chan remotecommand.TerminalSize, _ time.Duration) error {
	if cmd[0] == "cat" {
		_, err := io.Copy(out, in)
		return err
	}
	_, err := io.WriteString(out, n.says)
	return err
}

// AttachContainer says who it is, and then what it is told.
func (n *hidden) AttachContainer(_ context.Context, _, _, _ string, in io.Reader, out, _ io.WriteCloser, _ bool, _ <-chan remotecommand.TerminalSize) error {
	if _, err := io.WriteString(out, n.says+" "); err != nil {
		return err
	}
	_, err := io.Copy(out, in)
	return err
}

// PortForward answers with what it was told, after who it is.
func (n *hidden) PortForward(_ context.Context, _, _ string, port int32, stream io.ReadWriteCloser) error {
	defer stream.Close()
	if _, err := fmt.Fprintf(stream, "%s:%d ", n.says, port); err != nil {
		return err
	}
	_, err := io.CopyN(stream, stream, 5)
	return err
}

// register makes its Node and a pod "web-NAME" on it.
func (n *hidden) register(t *testing.T, kube kubernetes.Interface) {
	t.Helper()
	ctx := t.Context()
	node, err := kube.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: n.name}}, metav1.CreateOptions{})
	if err == nil {
		node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: hiddenAddress}}
		node.Status.DaemonEndpoints.KubeletEndpoint.Port = 10250
		_, err = kube.CoreV1().Nodes().UpdateStatus(ctx, node, metav1.UpdateOptions{})
	}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	if _, made := kube.CoreV1().ServiceAccounts("default").Create(ctx, account, metav1.CreateOptions{}); made != nil && !apierrors.IsAlreadyExists(made) {
		t.Fatal(made)
	}
	if err != nil {
		t.Fatal(err)
	}
	runningOn(t, kube, n.name, "web-"+n.name, "c", "flood")
}

// uplink is an agent's tunnel.
type uplink struct {
	net.Conn // cut it by closing it
	left     chan struct{}
	done     chan struct{}
}

// asNode is how a node talks to a server.
func asNode(t *testing.T, s *servertest.Server, cluster, name string) *rest.Config {
	t.Helper()
	return s.WithCertificate(t, cluster, cluster, pki.Client{User: "system:node:" + name, Groups: []string{"system:nodes"}})
}

func dialTunnel(t *testing.T, config *rest.Config, path string) (net.Conn, error) {
	t.Helper()
	config = rest.CopyConfig(config)
	config.NextProtos = []string{"http/1.1"}
	transport, err := rest.TransportFor(config)
	if err != nil {
		t.Fatal(err)
	}
	return tunnel.Dial(t.Context(), transport, config.Host+path)
}

// connect makes a node's tunnel to a server.
func (n *hidden) connect(t *testing.T, s *servertest.Server, cluster string) *uplink {
	t.Helper()
	return n.connectAs(t, asNode(t, s, cluster, n.name))
}

// connectAs makes it as a configuration says.
func (n *hidden) connectAs(t *testing.T, config *rest.Config) *uplink {
	t.Helper()
	conn, err := dialTunnel(t, config, tunnel.Path(n.name))
	if err != nil {
		t.Fatal(err)
	}
	u := &uplink{Conn: conn, left: make(chan struct{}), done: make(chan struct{})}
	node := tunnel.Node{
		Log: slog.New(slog.DiscardHandler), Leave: sync.OnceFunc(func() { close(u.left) }),
		Dial: func(ctx context.Context) (net.Conn, error) {
			var dialer net.Dialer
			return dialer.DialContext(ctx, "tcp", n.Listener.Addr().String())
		},
		DialPod: func(ctx context.Context, at netip.AddrPort) (net.Conn, error) {
			n.mu.Lock()
			n.asked = append(n.asked, at)
			to, ok := n.pods[at]
			n.mu.Unlock()
			if !ok {
				return nil, tunnel.ErrRefused
			}
			var dialer net.Dialer
			return dialer.DialContext(ctx, "tcp", to)
		},
	}
	go func() {
		defer close(u.done)
		node.Serve(context.Background(), conn)
	}()
	t.Cleanup(u.cut)
	return u
}

func (u *uplink) cut() {
	_ = u.Close()
	<-u.done
}
