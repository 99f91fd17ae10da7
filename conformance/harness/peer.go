package harness

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// adminToken is the bearer token of the peer's cluster admin.
const adminToken = "conformance-admin"

// peerSigningKey is the file with the key of the peer's service-account tokens.
const peerSigningKey = "service-accounts.key"

// onEtcd starts etcd and makes servers kube-apiserver on it.
func (c *Cluster) onEtcd(t testing.TB) {
	t.Helper()
	c.kubeAPIServers(t, c.startEtcd(t, tool(t, "go.etcd.io/etcd/server/v3", "etcd")))
}

// kubeAPIServers makes servers kube-apiserver on what speaks etcd's protocol at an address.
func (c *Cluster) kubeAPIServers(t testing.TB, etcd string) {
	t.Helper()
	binary := tool(t, "k8s.io/kubernetes/cmd/kube-apiserver", "kube-apiserver")
	tokens := filepath.Join(c.Dir, "tokens.csv")
	if err := os.WriteFile(tokens, []byte(adminToken+",admin,admin,system:masters\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	key := writeSigningKey(t, filepath.Join(c.Dir, peerSigningKey))
	c.newServer = func(t testing.TB, flags []string) *Server {
		port := FreePort(t)
		certs := filepath.Join(c.Dir, fmt.Sprintf("certs-%d", port))
		kubeconfig := filepath.Join(c.Dir, fmt.Sprintf("kube-apiserver-%d.kubeconfig", port))
		args := append([]string{
			"--etcd-servers=" + etcd, "--bind-address=127.0.0.1",
			"--secure-port=" + strconv.Itoa(port), "--advertise-address=192.0.2.10", "--cert-dir=" + certs,
			"--token-auth-file=" + tokens, "--authorization-mode=Node,RBAC",
			"--enable-admission-plugins=NodeRestriction", "--service-cluster-ip-range=10.96.0.0/16",
			"--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file=" + key,
			"--service-account-signing-key-file=" + key, "--allow-privileged=true", "--anonymous-auth=true",
			"--shutdown-watch-termination-grace-period=1s", // else it waits a minute for watches to end
		}, flags...)
		s := newServer(t, port, kubeconfig, kubeconfig+".log", func() *exec.Cmd { return exec.Command(binary, args...) })
		writeTokenKubeconfig(t, kubeconfig, s.URL)
		return s
	}
}

// startEtcd starts an etcd on data of the cluster's, ends it with the test, and returns its address.
func (c *Cluster) startEtcd(t testing.TB, binary string) string {
	t.Helper()
	dir := c.Dir
	local := func() string { return fmt.Sprintf("http://127.0.0.1:%d", FreePort(t)) }
	client, peer := local(), local()
	proc, err := Launch(exec.Command(binary, "--name=a", "--data-dir="+filepath.Join(dir, "etcd"),
		"--listen-client-urls="+client, "--advertise-client-urls="+client, "--listen-peer-urls="+peer,
		"--initial-advertise-peer-urls="+peer, "--initial-cluster=a="+peer, "--log-level=warn"),
		filepath.Join(dir, "etcd.log"))
	if err != nil {
		t.Fatal(err)
	}
	c.beside = append(c.beside, proc.cmd.Process.Pid)
	t.Cleanup(func() {
		_ = proc.Stop(syscall.SIGTERM) // etcd ends by the signal, not with a status
	})
	deadline := time.Now().Add(readyTimeout)
	for {
		resp, err := http.Get(client + "/readyz")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return client
			}
		}
		if proc.Ended() || time.Now().After(deadline) {
			t.Fatalf("etcd did not start: %v\n%s", err, tail(filepath.Join(dir, "etcd.log"), 20))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// writeSigningKey makes the key that signs service-account tokens.
func writeSigningKey(t testing.TB, file string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	block := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
	if err := os.WriteFile(file, block, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// writeTokenKubeconfig writes the admin's kubeconfig. The peer makes its certificate anew in each test, so it is not
// checked: what is judged is Rowlock, whose kubeconfig holds its CA.
func writeTokenKubeconfig(t testing.TB, file, url string) {
	t.Helper()
	config := api.NewConfig()
	config.Clusters["peer"] = &api.Cluster{Server: url, InsecureSkipTLSVerify: true}
	config.AuthInfos["admin"] = &api.AuthInfo{Token: adminToken}
	config.Contexts["peer"] = &api.Context{Cluster: "peer", AuthInfo: "admin"}
	config.CurrentContext = "peer"
	if err := clientcmd.WriteToFile(*config, file); err != nil {
		t.Fatal(err)
	}
}
