package scale

import (
	"context"
	"flag"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rowlock-io/rowlock/conformance/harness"
)

var (
	sizesFlag  = flag.String("sizes", "100:1000,1000:10000", "nodes:pods, separated by commas")
	setupsFlag = flag.String("setups", "", "what to measure, separated by commas; empty: all, and of larger sizes than the first not sqlite-inside")
	limit      = flag.Duration("limit", 8*time.Minute, "how long one of them may take until all pods are ready")
	settling   = flag.Duration("settle", 15*time.Second, "how long after that, and after the nodes are ready, memory is measured")
	profiles   = flag.String("profiles", "", "directory for profiles of Rowlock: of the CPU while pods are made, of the heap before and after")
)

// qps is what the stock components may ask: more than they ever do.
var qps = []string{"--kube-api-qps=20000", "--kube-api-burst=20000"}

// setup is a way to run a cluster.
type setup struct {
	name   string
	target harness.Target
	inside bool // the nodes are simulated by the server itself
}

var setups = []setup{
	{"upstream", harness.KubeAPIServer, false},
	{"sqlite", harness.SQLite, false},
	{"sqlite-inside", harness.SQLite, true},
	{"postgres", harness.OnPostgres, false},
}

// BenchmarkScale measures each setup in each size, one after the other, and prints a table.
func BenchmarkScale(b *testing.B) {
	var sizes []size
	for text := range strings.SplitSeq(*sizesFlag, ",") {
		var s size
		if _, err := fmt.Sscanf(text, "%d:%d", &s.nodes, &s.pods); err != nil {
			b.Fatalf("-sizes: %q: %v", text, err)
		}
		sizes = append(sizes, s)
	}
	var results []result
	for i, s := range sizes {
		for _, name := range names(i == 0) {
			b.Run(fmt.Sprintf("%d/%s", s.nodes, name), func(b *testing.B) {
				if b.N > 1 {
					b.Skip("it is measured once: -benchtime 1x")
				}
				if r, ok := measureSetup(b, name, s); ok {
					results = append(results, r)
					fmt.Printf("\n%s", table([]result{r}))
				}
			})
		}
	}
	fmt.Printf("\n%s\n", table(results))
}

// names are those of the setups to measure.
func names(first bool) []string {
	if *setupsFlag != "" {
		return strings.Split(*setupsFlag, ",")
	}
	var all []string
	for _, s := range setups {
		if first || !s.inside {
			all = append(all, s.name)
		}
	}
	return all
}

func measureSetup(b *testing.B, name string, s size) (result, bool) {
	for _, setup := range setups {
		if setup.name == name {
			ctx, cancel := context.WithTimeout(b.Context(), *limit+2**settling)
			defer cancel()
			c := setup.start(b, s)
			r, err := c.run(ctx, s, *settling)
			if err != nil {
				b.Error(err)
				return result{}, false
			}
			r.setup = name
			return r, true
		}
	}
	b.Errorf("-setups: there is no %q", name)
	return result{}, false
}

// start starts all of a setup.
func (s setup) start(b *testing.B, size size) cluster {
	b.Helper()
	harness.Cold(b, append(s.target.Binaries(b), s.target.Components(b)...)...)
	data := s.target.NewCluster(b)
	var flags []string
	if s.target.IsRowlock() {
		flags = append(flags, "--controllers=*", "--scheduler=true")
	}
	if s.inside {
		flags = append(flags, "--simulate-nodes", strconv.Itoa(size.nodes))
	}
	server := data.StartServer(b, flags...)
	if !s.target.IsRowlock() {
		data.StartControllers(b, server, qps...)
		data.StartScheduler(b, server, qps...)
	}
	if !s.inside {
		data.Simulate(b, server.Kubeconfig, size.nodes)
	}
	c := cluster{name: s.name, pids: append(data.Processes(), server.PID()), client: server.Client(b)}
	if s.target == harness.OnPostgres {
		c.database, c.pids = data.Processes(), []int{server.PID()}
	}
	if s.target.IsRowlock() && *profiles != "" {
		c.profiles = *profiles
	}
	return c
}
