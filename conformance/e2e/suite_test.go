package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"

	"github.com/rowlock-io/rowlock/conformance/harness"
	"github.com/rowlock-io/rowlock/conformance/noderuntime"
)

// suite is one run of upstream's tests on one cluster.
type suite struct {
	target harness.Target
	group  group
	focus  string   // an expression for full names
	names  []string // that have to be among the results
	listed []string // that are errors too when they are among the results and did not pass
	skip   string   // an expression for full names that are left out
	drawn  bool     // they are a sample: those that need common images only
	procs  int
	limit  time.Duration
	again  bool   // run a few that failed once more
	out    string // directory for logs and reports that outlives the test; may be empty
}

// stage is a cluster that tests run on.
type stage struct {
	server *harness.Server
	within []string          // what a command begins with to run where nodes and pods can be reached
	logs   map[string]string // files, by the names they are kept under
}

// start starts a cluster that is what upstream's tests expect: it acts, it forgets the past within minutes, and its server
// has an address that endpoints may have, which is from the range for documentation, and nobody dials it. There are
// controllers beside those that run by default, and no waits of minutes for the next full look at the quotas.
func (s *suite) start(t *testing.T) stage {
	t.Helper()
	if s.group.real > 0 {
		return s.startMachines(t)
	}
	cluster := s.target.NewCluster(t)
	controllers := []string{"--controllers=*,token-cleaner-controller", "--resource-quota-sync-period=20s"}
	flags := append(controllers, "--scheduler", "--history-retention=1m", "--advertise-address=192.0.2.10")
	var server *harness.Server
	switch s.target {
	case harness.SQLite:
		server = cluster.StartServer(t, append(flags, harness.SimulationFlags(s.group.nodes, s.group.jobTime)...)...)
	case harness.OnPostgres:
		server = cluster.StartServer(t, flags...)
	case harness.KubeAPIServer: // its address is the harness's
		crt, key := signer(t, cluster.Dir)
		server = cluster.StartServer(t, "--etcd-compaction-interval=1m", "--client-ca-file="+crt)
		cluster.StartControllers(t, server, append(controllers, "--cluster-signing-cert-file="+crt, "--cluster-signing-key-file="+key)...)
		cluster.StartScheduler(t, server)
	}
	if s.target != harness.SQLite && s.group.nodes > 0 {
		cluster.Simulate(t, server.Kubeconfig, s.group.nodes, "--job-duration="+s.group.jobTime.String())
	}
	harness.AwaitNodes(t, server.Client(t), s.group.nodes)
	return stage{server: server}
}

// startMachines starts a cluster of machines that run containers.
func (s *suite) startMachines(t *testing.T) stage {
	t.Helper()
	noderuntime.Require(t)
	fabric := noderuntime.NewFabric(t)
	images := noderuntime.CommonImages(t)
	if !s.drawn {
		images = noderuntime.Images(t)
	}
	for _, image := range images {
		fabric.Registry.Add(t, image)
	}
	server := fabric.StartServer(t, "--resource-quota-sync-period=20s", "--history-retention=1m")
	here := stage{server: server, within: fabric.Enter(), logs: map[string]string{}}
	join := noderuntime.JoinFlags(t, server)
	var machines []*noderuntime.Machine
	for i := range s.group.real {
		m := fabric.NewMachine(t, "node-"+strconv.Itoa(i+1))
		m.Runtime(t, noderuntime.Chosen(t))
		m.Install(t, harness.Rowlock(t))
		here.logs[m.Name+".log"] = m.StartAgent(t, join...).Log
		machines = append(machines, m)
	}
	client := server.Client(t)
	fabric.Route(t, client, machines...)
	harness.AwaitNodes(t, client, s.group.real)
	return here
}

// signer makes an authority for the certificates that kube-controller-manager signs, and returns the files of it.
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

// run starts a cluster with its controllers, runs the tests and says how each ended. Those that failed, when they are few,
// are run once more, one after the other with nothing beside them.
func (s *suite) run(t *testing.T) verdict {
	t.Helper()
	harness.Suite(t) // which takes minutes, and no server should wait meanwhile
	harness.Ginkgo(t)
	harness.Kubectl(t)
	here := s.start(t)
	dir := s.out
	if dir == "" {
		dir = t.TempDir()
	} else {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { keepLogs(t, here, dir) })
	}
	v := verdict{suite: s}
	v.results = complete(s.attempt(t, here, dir, s.focus, s.procs), s.names)
	failed := v.failed()
	if len(failed) == 0 {
		return v
	}
	v.log = lastLines(t, here.server.Log, 30)
	names := namesOf(failed)
	if !s.again || len(failed) > mostAgain || slices.ContainsFunc(names, func(name string) bool { return !isTest(name) }) {
		return v
	}
	dir = filepath.Join(dir, "again")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	v.again(complete(s.attempt(t, here, dir, focus(names), 1), names))
	return v
}

// attempt runs the tests of a focus once and returns how each ended. It leaves what they print in a directory.
func (s *suite) attempt(t *testing.T, here stage, dir, focus string, procs int) []result {
	t.Helper()
	report := filepath.Join(dir, "junit_01.xml")
	if err := os.Remove(report); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "ginkgo.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	if s.names != nil {
		procs = min(procs, len(s.names))
	}
	line := append(slices.Clone(here.within), harness.Ginkgo(t),
		"--nodes="+strconv.Itoa(procs), "--timeout="+s.limit.String(), "--no-color", "--silence-skips", "--focus="+focus)
	if s.skip != "" {
		line = append(line, "--skip="+s.skip)
	}
	line = append(line, harness.Suite(t), "--",
		"--kubeconfig="+here.server.Kubeconfig, "--kubectl-path="+harness.Kubectl(t), "--provider=skeleton",
		"--num-nodes="+strconv.Itoa(s.group.nodes+s.group.real), "--allowed-not-ready-nodes=-1", "--minStartupPods=-1", // nothing to wait for
		"--dump-logs-on-failure=false", "--disable-log-dump", "--report-dir="+dir)
	cmd := exec.CommandContext(t.Context(), line[0], line[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	cmd.Env = append(os.Environ(), "HOME="+dir, "KUBECONFIG=")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // it ends its processes itself
	cmd.WaitDelay = time.Minute
	began := time.Now()
	ended := cmd.Run() // fails when a test fails, which the report tells better
	t.Logf("%d processes took %v", procs, time.Since(began).Round(time.Second))
	results, err := readReport(report)
	if err != nil {
		t.Fatalf("the tests gave no report: %v; %v\n%s", ended, err, lastLines(t, log.Name(), 40))
	}
	return results
}
