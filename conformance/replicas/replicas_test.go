package replicas

import (
	"context"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"github.com/rowlock-io/rowlock/conformance/harness"
)

var (
	counts   = flag.String("replicas", "1,3,10", "how many servers, separated by commas")
	rates    = flag.String("rates", "100,1000,0", "writes a second altogether, separated by commas; 0: as many as there can be")
	writers  = flag.Int("writers", 60, "how many write at the same time")
	length   = flag.Duration("for", 10*time.Second, "how long each load writes")
	profiles = flag.String("profiles", "", "directory for a CPU profile of the first server under each load")
)

// BenchmarkReplicas measures each number of servers under each load and prints a table.
func BenchmarkReplicas(b *testing.B) {
	var table strings.Builder
	table.WriteString(heading)
	for _, n := range numbers(b, *counts) {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			if b.N > 1 {
				b.Skip("it is measured once: -benchtime 1x")
			}
			c := start(b, n)
			for _, rate := range numbers(b, *rates) {
				row, err := c.measure(b, rate)
				if err != nil {
					b.Fatal(err)
				}
				fmt.Println(row)
				table.WriteString(row + "\n")
			}
		})
	}
	fmt.Printf("\n%s\n", &table)
}

const heading = `| replicas | asked for | writes/s | a write, ms | seen by the same replica's watcher | seen by the others' | the others', from its start | CPU for a write: servers, Postgres | memory: a replica, Postgres | cores busy with else |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
`

func numbers(b *testing.B, list string) []int {
	b.Helper()
	var all []int
	for text := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(text)
		if err != nil {
			b.Fatal(err)
		}
		all = append(all, n)
	}
	return all
}

// cluster is some replicas with a watcher on each.
type cluster struct {
	replicas []*replica
	watches  []*watch
	servers  []int // processes
	database []int
}

func start(b *testing.B, n int) *cluster {
	b.Helper()
	data := harness.OnPostgres.NewCluster(b)
	c := &cluster{database: data.Processes()}
	for i := range n {
		s := data.StartServer(b)
		if i == 0 {
			harness.NewNamespace(b, s.Client(b), namespace)
		}
		c.servers = append(c.servers, s.PID())
		c.replicas = append(c.replicas, &replica{url: s.URL, writers: client(b, s), watcher: client(b, s)})
	}
	for w := range *writers {
		for i := range keysEach {
			if err := c.replicas[0].create(b.Context(), key(w, i)); err != nil {
				b.Fatal(err)
			}
		}
	}
	last, err := c.replicas[0].put(b.Context(), key(0, 0), "")
	if err != nil {
		b.Fatal(err)
	}
	for _, r := range c.replicas {
		w, err := r.follow(b.Context(), last)
		if err != nil {
			b.Fatal(err)
		}
		c.watches = append(c.watches, w)
	}
	return c
}

func client(b *testing.B, s *harness.Server) *http.Client {
	b.Helper()
	config := s.Config(b)
	config.Dial = new(net.Dialer).DialContext // with one of its own, a transport shares no connections
	transport, err := rest.TransportFor(config)
	if err != nil {
		b.Fatal(err)
	}
	return &http.Client{Transport: transport}
}

// measure runs one load and returns a row of the table.
func (c *cluster) measure(b *testing.B, rate int) (string, error) {
	servers, database, host := use(b, c.servers), use(b, c.database), harness.HostCPU(b)
	own := use(b, []int{os.Getpid()})
	profile := c.profile(b, rate)
	began := time.Now()
	writes, err := load(b.Context(), c.replicas, *writers, rate, *length)
	if err != nil {
		return "", err
	}
	took := time.Since(began).Seconds()
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	var latency, same, others, started []time.Duration
	for _, w := range writes {
		latency = append(latency, w.acked.Sub(w.began))
	}
	for i, w := range c.watches {
		got, err := w.take(ctx, writes[len(writes)-1].version)
		if err == nil {
			err = complete(writes, got)
		}
		if err != nil {
			return "", fmt.Errorf("the watcher of replica %d: %w", i, err)
		}
		for j, s := range got {
			lag := max(0, s.at.Sub(writes[j].acked)) // an event may be there before the answer
			if writes[j].replica == i {
				same = append(same, lag)
				continue
			}
			others, started = append(others, lag), append(started, s.at.Sub(writes[j].began))
		}
	}
	after, db := use(b, c.servers), use(b, c.database)
	busy := harness.HostCPU(b) - host - (after.CPU - servers.CPU) - (db.CPU - database.CPU) - (use(b, []int{os.Getpid()}).CPU - own.CPU)
	if err := profile(); err != nil {
		return "", err
	}
	each := func(seconds float64) float64 { return 1e6 * seconds / float64(len(writes)) }
	asked := "all"
	if rate > 0 {
		asked = strconv.Itoa(rate)
	}
	return fmt.Sprintf("| %d | %s | %.0f | %s | %s | %s | %s | %.0f, %.0f µs | %.0f, %.0f MB | %.2f |",
		len(c.replicas), asked, float64(len(writes))/took, spread(latency), spread(same), spread(others), spread(started),
		each(after.CPU-servers.CPU), each(db.CPU-database.CPU), after.PSS/float64(len(c.servers))/(1<<20), db.PSS/(1<<20),
		max(0, busy)/time.Since(began).Seconds()), nil
}

func use(b *testing.B, pids []int) harness.Usage {
	b.Helper()
	u, err := harness.Measure(pids)
	if err != nil {
		b.Fatal(err)
	}
	return u
}

// profile begins a CPU profile of the first server, if one is asked for, and returns what waits for its end.
func (c *cluster) profile(b *testing.B, rate int) func() error {
	b.Helper()
	if *profiles == "" {
		return func() error { return nil }
	}
	done := make(chan error, 1)
	r, file := c.replicas[0], filepath.Join(*profiles, fmt.Sprintf("%d-at-%d.pprof", len(c.replicas), rate))
	go func() {
		stream, err := open(b.Context(), r.writers, http.MethodGet, fmt.Sprintf("%s/debug/pprof/profile?seconds=%.0f", r.url, length.Seconds()), "")
		if err == nil {
			defer stream.Close()
			err = save(file, stream)
		}
		done <- err
	}()
	return func() error { return <-done }
}

// TestComplete finds what a watcher missed, saw twice, or saw in another order.
func TestComplete(t *testing.T) {
	t.Parallel()
	writes := []write{{version: 3}, {version: 5}, {version: 6}}
	for _, tc := range []struct {
		got  []uint64
		want string
	}{
		{got: []uint64{3, 5, 6}},
		{got: []uint64{3, 6}, want: "version 5"},
		{got: []uint64{3, 5}, want: "version 6"},
		{got: []uint64{3, 5, 5, 6}, want: "version 6"},
		{got: []uint64{5, 3, 6}, want: "version 3"},
		{got: []uint64{3, 5, 6, 7}, want: "1 changes more"},
	} {
		var got []seen
		for _, v := range tc.got {
			got = append(got, seen{version: v})
		}
		err := complete(writes, got)
		if (tc.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("complete(%v) = %v, want %q", tc.got, err, tc.want)
		}
	}
	if err := complete([]write{{version: 3}, {version: 3}}, []seen{{version: 3}, {version: 3}}); err == nil {
		t.Error("two writes of one version are complete")
	}
}

// TestVersion finds the resourceVersion of an answer and of an event.
func TestVersion(t *testing.T) {
	t.Parallel()
	if got, err := version([]byte(`{"type":"ADDED","object":{"metadata":{"name":"a","resourceVersion":"42","uid":"x"}}}`)); err != nil || got != 42 {
		t.Errorf("version = %d, %v", got, err)
	}
	for _, text := range []string{`{}`, `{"resourceVersion":"`, `{"resourceVersion":"x"}`} {
		if got, err := version([]byte(text)); err == nil {
			t.Errorf("version(%s) = %d", text, got)
		}
	}
}
