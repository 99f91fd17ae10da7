package growth

import (
	"flag"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rowlock-io/rowlock/conformance/harness"
)

var (
	sizesFlag  = flag.String("sizes", "10000,100000", "how many objects, separated by commas: ConfigMaps of a kilobyte, or KIND:NUMBER, where pods have eight kilobytes")
	targetFlag = flag.String("target", string(harness.SQLite), "sqlite or postgres")
	flagsFlag  = flag.String("flags", "", "further flags of the server, separated by spaces")
	settling   = flag.Duration("settle", 15*time.Second, "how long after a step memory is measured")
	profiles   = flag.String("profiles", "", "directory for profiles of the heap")
)

// readyWithin is how long a server may take to start with what it holds.
const readyWithin = 20 * time.Minute

// BenchmarkGrowth fills a new cluster for each size, measures it, and prints a table.
func BenchmarkGrowth(b *testing.B) {
	var results []*result
	for text := range strings.SplitSeq(*sizesFlag, ",") {
		name, number, ok := strings.Cut(text, ":")
		if !ok {
			name, number = "configmaps", text
		}
		k, known := kinds[name]
		n := 0
		if _, err := fmt.Sscan(number, &n); err != nil || !known || n < 1 {
			b.Fatalf("-sizes: %q is not KIND:NUMBER", text)
		}
		b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
			if b.N > 1 {
				b.Skip("it is measured once: -benchtime 1x")
			}
			r := measure(b, k, n)
			results = append(results, r)
			fmt.Printf("\n%s", table([]*result{r}))
		})
	}
	fmt.Printf("\n%s\n", table(results))
}

// result is what was measured of one size.
type result struct {
	kind                 kind
	n                    int
	encoded              float64 // bytes of an object, as it is stored
	idle, filled, read   memory
	started, restarted   memory
	fill                 time.Duration
	fillCPU              float64
	lists                []read
	create               latency
	ready, firstList     time.Duration
	readyCPU             float64
	compaction           time.Duration
	during               latency
	database, afterwards float64
}

func measure(b *testing.B, k kind, n int) *result {
	b.Helper()
	ctx := b.Context()
	r := &result{kind: k, n: n}
	cluster := harness.Target(*targetFlag).NewCluster(b)
	extra := strings.Fields(*flagsFlag)
	long := append([]string{"--history-retention=24h", "--history-max-bytes=0"}, extra...)
	server := cluster.NewServer(b, long...)
	server.Start(b)
	c := connect(b, server)
	must := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	step := func(what string) { fmt.Printf("%s %s %d: %s\n", time.Now().Format(time.TimeOnly), k.name, n, what) }
	look := func(into *memory, name string) {
		b.Helper()
		time.Sleep(*settling)
		var err error
		*into, err = c.memory(ctx, server.PID())
		must(err)
		must(c.profile(ctx, *profiles, fmt.Sprintf("%s-%d-%s", k.name, n, name)))
	}
	var err error
	look(&r.idle, "idle")
	must(c.namespace(ctx, 0, probes))
	step("fill")
	r.fillCPU, r.fill = timed(b, server, func() { must(c.fill(ctx, k, n)) })
	r.encoded, err = c.sample(ctx, k, n)
	must(err)
	look(&r.filled, "filled")
	step("lists")
	r.lists, err = c.lists(ctx, k, n)
	must(err)
	look(&r.read, "read")
	step("writes")
	stop := make(chan struct{})
	close(stop)
	r.create, err = c.creates(ctx, "write", 300, stop)
	must(err)
	r.database, err = databaseBytes(ctx, cluster)
	must(err)
	c.close()
	server.Stop(b)

	step("restart")
	r.readyCPU, r.ready = timed(b, server, func() { launch(b, server) })
	c = connect(b, server)
	r.started, err = c.memory(ctx, server.PID())
	must(err)
	first, err := c.list(ctx, "/api/v1/"+k.name+"?limit=500")
	must(err)
	r.firstList = first.all
	look(&r.restarted, "restarted")
	c.close()
	server.Stop(b)

	step("compaction")
	server = cluster.NewServer(b, append([]string{"--history-retention=1s"}, extra...)...)
	launch(b, server)
	c = connect(b, server)
	began := time.Now()
	r.during, err = c.during(ctx, "compact", func() error {
		for {
			count, err := c.compactions(ctx)
			if err != nil || count > 0 {
				return err
			}
			time.Sleep(50 * time.Millisecond)
		}
	})
	must(err)
	r.compaction = time.Since(began)
	r.afterwards, err = databaseBytes(ctx, cluster)
	must(err)
	c.close()
	server.Stop(b)
	return r
}

func connect(b *testing.B, server *harness.Server) *client {
	b.Helper()
	c, err := newClient(server.Config(b), connections)
	if err != nil {
		b.Fatal(err)
	}
	return c
}

// launch starts a server that may take long to be ready.
func launch(b *testing.B, server *harness.Server) {
	b.Helper()
	server.Launch(b)
	server.AwaitReadyWithin(b, readyWithin)
}

// timed tells how long something took and how much CPU the server has used meanwhile.
func timed(b *testing.B, server *harness.Server, f func()) (cpu float64, took time.Duration) {
	b.Helper()
	var before harness.Usage
	if server.Running() {
		before = usage(b, server)
	}
	began := time.Now()
	f()
	took = time.Since(began)
	return usage(b, server).CPU - before.CPU, took
}

func usage(b *testing.B, server *harness.Server) harness.Usage {
	b.Helper()
	u, err := harness.Measure([]int{server.PID()})
	if err != nil {
		b.Fatal(err)
	}
	return u
}
