package election_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/utils/ptr"

	"github.com/rowlock-io/rowlock/conformance/harness"
)

var (
	rounds = flag.Int("rounds", 0, "how many servers are killed, stopped and made to stand still, and databases restarted; 0: each but the last once, and not for long")
	seed   = flag.Uint64("seed", 0, "draws what happens when; 0 takes a new one")
)

// bound is the promise: how long after a kill another has to have acted, its start included.
const bound = 15 * time.Second

// recorded is a server whose agents' writes are on record.
type recorded struct {
	*harness.Server
	audit  string
	client kubernetes.Interface
}

// scene is three servers, of which one acts, with work and simulated nodes.
type scene struct {
	*work
	*journal
	cluster *harness.Cluster
	servers []*recorded
	front   *harness.Balancer
	random  *rand.Rand
	probes  int
	acted   map[string][]time.Duration // by kind of round, from the event until a new Deployment's pod is bound
}

func newScene(t *testing.T, cluster *harness.Cluster, random *rand.Rand) *scene {
	t.Helper()
	s := &scene{cluster: cluster, random: random, acted: map[string][]time.Duration{}}
	policy := filepath.Join(cluster.Dir, "audit-policy.yaml")
	if err := os.WriteFile(policy, []byte(auditPolicy), 0o600); err != nil {
		t.Fatal(err)
	}
	var addresses []string
	for i := range 3 {
		audit := filepath.Join(cluster.Dir, fmt.Sprintf("audit-%d.log", i))
		server := cluster.StartServer(t, "--controllers=*", "--scheduler", "--audit-policy-file", policy, "--audit-log-path", audit, "--audit-log-maxsize", "0")
		s.servers = append(s.servers, &recorded{server, audit, patient(t, server)})
		addresses = append(addresses, server.Addr())
	}
	s.front = harness.NewBalancer(t, addresses...)
	kubeconfig := s.servers[0].Through(t, s.front)
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	config.QPS = -1
	client := harness.ClientFor(t, config)
	harness.NewNamespace(t, client, namespace)
	cluster.Simulate(t, kubeconfig, 10)
	s.journal = startJournal(t, client)
	s.work = startWork(t, client, rand.New(rand.NewPCG(random.Uint64(), 0)))
	return s
}

// patient is a client of one server, that gives up on a request after a while.
func patient(t *testing.T, server *harness.Server) kubernetes.Interface {
	t.Helper()
	config := server.Config(t)
	config.Timeout = 5 * time.Second
	return harness.ClientFor(t, config)
}

// acting is the server that holds a Lease, found by the identity that its log tells.
func (s *scene) acting(t *testing.T, lease string) *recorded {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		l, err := s.client.CoordinationV1().Leases(metav1.NamespaceSystem).Get(t.Context(), lease, metav1.GetOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			t.Logf("lease %s: %v", lease, err)
			continue
		}
		holder := ptr.Deref(l.Spec.HolderIdentity, "")
		for _, server := range s.servers {
			log, err := os.ReadFile(server.Log)
			if err != nil {
				t.Fatal(err)
			}
			if holder != "" && strings.Contains(string(log), "identity="+holder) {
				return server
			}
		}
	}
	t.Fatalf("nobody holds the Lease %s", lease)
	return nil
}

// probe measures from since on until a new Deployment's pod has a node: both controllers and scheduler act.
func (s *scene) probe(t *testing.T, kind string, client kubernetes.Interface, since time.Time) time.Duration {
	t.Helper()
	s.probes++
	name := fmt.Sprintf("probe-%d", s.probes)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if !s.deploy(ctx, name, 1) {
		t.Fatalf("after %s no Deployment could be made", kind)
	}
	for {
		pods, err := client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: "app=" + name})
		if err == nil && len(pods.Items) == 1 && pods.Items[0].Spec.NodeName != "" {
			break
		}
		if ctx.Err() != nil {
			t.Fatalf("after %s nobody acted for a minute", kind)
		}
		time.Sleep(20 * time.Millisecond)
	}
	took := time.Since(since).Round(time.Millisecond)
	s.acted[kind] = append(s.acted[kind], took)
	return took
}

// other is a server beside one.
func (s *scene) other(server *recorded) *recorded {
	return s.servers[(slices.Index(s.servers, server)+1)%len(s.servers)]
}

func (s *scene) round(t *testing.T, kind string) {
	t.Helper()
	lease := []string{"kube-controller-manager", "kube-scheduler"}[s.random.IntN(2)]
	time.Sleep(time.Duration(s.random.IntN(2000)) * time.Millisecond) // anywhere between two renewals
	server := s.acting(t, lease)
	other, began := s.other(server).client, time.Now()
	within := bound
	switch kind {
	case "kill":
		server.Kill(t)
		defer server.Start(t)
	case "stop":
		server.Stop(t)
		defer server.Start(t)
		within = 5 * time.Second // 2, and what a machine that does other things besides takes
		began = time.Now()
	case "pause":
		server.Signal(t, syscall.SIGSTOP)
		s.front.Sick(server.Addr(), true)
		defer func() {
			time.Sleep(time.Until(began.Add(pause())))
			server.Signal(t, syscall.SIGCONT)
			server.AwaitReady(t)
			s.front.Sick(server.Addr(), false)
			s.standsAgain(t, server)
		}()
	case "database":
		s.cluster.Postgres.Stop(t)
		time.Sleep(20 * time.Second)
		s.cluster.Postgres.Start(t)
		began, within = time.Now(), 30*time.Second // servers come back to it by and by
	}
	took := s.probe(t, kind, other, began)
	t.Logf("%s of the holder of %s at %s: another acted after %v", kind, lease, server.Addr(), took)
	if took > within {
		t.Errorf("that is more than %v", within)
	}
}

// standsAgain stops the others, so that the server that stood still has to act.
func (s *scene) standsAgain(t *testing.T, server *recorded) {
	t.Helper()
	for _, other := range s.servers {
		if other != server {
			other.Stop(t)
			defer other.Start(t)
		}
	}
	s.probe(t, "standing again", server.client, time.Now())
}

// TestOneActs: see the package's comment.
func TestOneActs(t *testing.T) {
	t.Parallel()
	harness.Only(t, func(t *testing.T, target harness.Target) {
		if *seed == 0 {
			*seed = rand.Uint64N(1_000_000) + 1
		}
		t.Logf("-seed=%d", *seed)
		random := rand.New(rand.NewPCG(*seed, 0))
		s := newScene(t, target.NewCluster(t), random)
		s.probe(t, "start", s.client, time.Now())
		for _, kind := range kinds(random) {
			s.round(t, kind)
		}
		s.finish(t)
	}, harness.OnPostgres)
}

func kinds(random *rand.Rand) (all []string) {
	if *rounds == 0 {
		return []string{"kill", "stop", "pause"}
	}
	for range *rounds {
		all = append(all, []string{"kill", "kill", "kill", "stop", "pause", "database"}[random.IntN(6)])
	}
	return all
}

// pause is how long a server stands still: longer than a Lease lasts.
func pause() time.Duration {
	if *rounds == 0 {
		return 12 * time.Second
	}
	return 20 * time.Second
}

// finish waits until all work is done and judges what happened.
func (s *scene) finish(t *testing.T) {
	t.Helper()
	s.stop()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		left, err := s.unfinished(t.Context())
		if err == nil && left == "" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("not finished after a minute: %s, %v", left, err)
		}
	}
	s.verify(t, s.client, s.journal)
	for _, server := range s.servers {
		verifyRecord(t, server, s.journal)
		verifyQuiet(t, server)
	}
	for kind, took := range s.acted {
		slices.Sort(took)
		t.Logf("%-15s %3d times, acted after p50 %v, max %v", kind, len(took), took[len(took)/2], took[len(took)-1])
	}
}

// verifyQuiet: an outage does not flood the log.
func verifyQuiet(t *testing.T, server *recorded) {
	t.Helper()
	log, err := os.ReadFile(server.Log)
	if err != nil {
		t.Fatal(err)
	}
	var loud int
	for line := range strings.SplitSeq(string(log), "\n") {
		if strings.Contains(line, "level=WARN") || strings.Contains(line, "level=ERROR") {
			loud++
		}
	}
	t.Logf("%s: %d warnings and errors", server.Addr(), loud)
	if most := 100 * (*rounds + 3); loud > most {
		t.Errorf("more than %d", most)
	}
}

// TestAlone: a server that has its database for itself acts without a Lease.
func TestAlone(t *testing.T) {
	t.Parallel()
	harness.Only(t, func(t *testing.T, target harness.Target) {
		server := target.NewCluster(t).StartServer(t, "--controllers=*", "--scheduler", "--simulate-nodes=1")
		client := server.Client(t)
		harness.NewNamespace(t, client, namespace)
		s := &scene{work: &work{client: client, deployments: map[string]int{}}, acted: map[string][]time.Duration{}}
		s.probe(t, "start", client, time.Now())
		leases, err := client.CoordinationV1().Leases(metav1.NamespaceSystem).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, lease := range leases.Items {
			if strings.HasPrefix(lease.Name, "kube-") {
				t.Errorf("there is a Lease %s", lease.Name)
			}
		}
	}, harness.SQLite)
}
