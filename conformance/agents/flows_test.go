package agents

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"

	"github.com/rowlock-io/rowlock/conformance/harness"
)

// A flow waits most of the time, so they need not wait for each other.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "100"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	os.Exit(m.Run())
}

// group is a subject's flows.
type group map[string]func(*flow)

// run starts a cluster's servers and runs flows on it, all at the same time. At the end nothing may have failed inside.
func run(t *testing.T, choose func(harness.Target) map[string]group, start func(t *testing.T, target harness.Target) (*harness.Cluster, *harness.Server), targets ...harness.Target) {
	t.Helper()
	t.Parallel()
	harness.Only(t, func(t *testing.T, target harness.Target) {
		subjects := choose(target)
		cluster, server := start(t, target)
		shared := newFlow(t, cluster, server)
		t.Run("flows", func(t *testing.T) {
			var number int
			for _, subject := range slices.Sorted(maps.Keys(subjects)) {
				for _, name := range slices.Sorted(maps.Keys(subjects[subject])) {
					number++
					namespace := fmt.Sprint("flow-", number)
					t.Run(subject+"/"+name, func(t *testing.T) {
						t.Parallel()
						f := *shared
						f.T, f.ns = t, namespace
						f.create("{apiVersion: v1, kind: Namespace, metadata: {name: $NS}}")
						f.await("serviceaccounts/default", "true")
						subjects[subject][name](&f)
					})
				}
			}
		})
		if target.IsRowlock() {
			quiet(shared)
		}
	}, targets...)
}

func newFlow(t *testing.T, cluster *harness.Cluster, server *harness.Server) *flow {
	t.Helper()
	config := server.Config(t)
	config.WarningHandler = rest.NoWarnings{} // Endpoints are deprecated
	f := &flow{T: t, cluster: cluster, server: server, config: config, client: harness.ClientFor(t, config)}
	var err error
	f.dynamic, err = dynamic.NewForConfig(f.config)
	f.check(err)
	f.mapper = restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(f.client.Discovery()))
	return f
}

// noise is what no line of a server's log may say: that a loop lacks a right, or failed.
var noise = regexp.MustCompile(`is forbidden: User|cannot (get|list|watch|create|update|patch|delete) resource|panic|goroutine \d+|stack=`)

// quiet expects that no loop went down or met what is not there for it.
func quiet(f *flow) {
	f.Helper()
	metrics, err := f.client.Discovery().RESTClient().Get().AbsPath("/metrics").DoRaw(f.Context())
	f.check(err)
	for line := range strings.Lines(string(metrics)) {
		if strings.HasPrefix(line, "rowlock_agent_restarts_total") && !strings.HasSuffix(line, " 0\n") {
			f.Errorf("a loop went down: %s", line)
		}
	}
	log, err := os.ReadFile(f.server.Log)
	f.check(err)
	for line := range strings.Lines(string(log)) {
		if noise.MatchString(line) {
			f.Errorf("the server's log: %s", line)
		}
	}
}
