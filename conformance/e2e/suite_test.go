package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"

	"github.com/rowlock-io/rowlock/conformance/harness"
)

// suite is one run of upstream's tests on one cluster.
type suite struct {
	target    harness.Target
	focus     string   // an expression for full names
	names     []string // that have to be among the results
	procs     int
	scheduler bool
	limit     time.Duration
	out       string // directory for logs and reports that outlives the test; may be empty
}

// serverFlags makes a server what upstream's tests expect: one that forgets the past within minutes, and has an address
// that endpoints may have. It is from the range for documentation, and nobody dials it.
func serverFlags(target harness.Target) []string {
	if target.IsRowlock() {
		return []string{"--history-retention=1m", "--advertise-address=192.0.2.10"}
	}
	return []string{"--etcd-compaction-interval=1m"} // its address is the harness's
}

// signer makes an authority for the certificates that kube-controller-manager signs, and returns the files of it. The
// cluster's own does not leave the server.
func signer(t *testing.T, dir string) (crt, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	authority, err := cert.NewSelfSignedCACert(cert.Config{CommonName: "signer"}, private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := keyutil.MarshalPrivateKeyToPEM(private)
	if err != nil {
		t.Fatal(err)
	}
	crt, key = filepath.Join(dir, "signer.crt"), filepath.Join(dir, "signer.key")
	public := pem.EncodeToMemory(&pem.Block{Type: cert.CertificateBlockType, Bytes: authority.Raw})
	for file, data := range map[string][]byte{crt: public, key: secret} {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return crt, key
}

// run starts a cluster with its controllers, runs the tests and returns how each ended.
func (s *suite) run(t *testing.T) []result {
	t.Helper()
	binary, ginkgo, kubectl := harness.Suite(t), harness.Ginkgo(t), harness.Kubectl(t)
	cluster := s.target.NewCluster(t)
	crt, key := signer(t, cluster.Dir)
	server := cluster.StartServer(t, append(serverFlags(s.target), "--client-ca-file="+crt)...)
	cluster.StartControllers(t, server, "--cluster-signing-cert-file="+crt, "--cluster-signing-key-file="+key,
		"--controllers=*,token-cleaner-controller")
	if s.scheduler {
		cluster.StartScheduler(t, server)
	}
	dir := s.out
	if dir == "" {
		dir = t.TempDir()
	} else {
		dir = filepath.Join(dir, string(s.target))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { keepLogs(t, cluster.Dir, dir) })
	}
	report := filepath.Join(dir, "junit_01.xml")
	if err := os.Remove(report); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "ginkgo.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.CommandContext(t.Context(), ginkgo,
		"--nodes="+strconv.Itoa(s.procs), "--timeout="+s.limit.String(), "--no-color", "--silence-skips", "--focus="+s.focus,
		binary, "--",
		"--kubeconfig="+server.Kubeconfig, "--kubectl-path="+kubectl, "--provider=skeleton",
		"--num-nodes=0", "--allowed-not-ready-nodes=-1", "--minStartupPods=-1", // there is no node to wait for
		"--dump-logs-on-failure=false", "--disable-log-dump", "--report-dir="+dir)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	cmd.Env = append(os.Environ(), "HOME="+dir, "KUBECONFIG=")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // it ends its processes itself
	cmd.WaitDelay = time.Minute
	began := time.Now()
	ended := cmd.Run() // fails when a test fails, which the report tells better
	t.Logf("%s: %d processes took %v", s.target, s.procs, time.Since(began).Round(time.Second))
	results, err := readReport(report)
	if err != nil {
		t.Fatalf("the tests gave no report: %v; %v\n%s", ended, err, lastLines(t, log.Name(), 40))
	}
	return complete(results, s.names)
}
