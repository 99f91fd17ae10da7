package bench

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rowlock-io/rowlock/conformance/harness"
)

var (
	rounds     = flag.Int("rounds", 3, "how often each setup is measured, in turn")
	setupsFlag = flag.String("setups", "", "what to measure, separated by commas; empty: all")
	sources    = flag.String("load", "../../../shared/bench/loadgen", "directory with the source of the load generator")
	args       = flag.String("args", "--watch 100:50,1000:20 --lists 20 --seconds 5s", "arguments for the load generator")
	idle       = flag.Duration("idle", 60*time.Second, "how long a server rests before its memory and CPU at rest are measured")
)

func TestMain(m *testing.M) {
	if file := os.Getenv(sampling); file != "" {
		if err := sample(file); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// BenchmarkServers measures all setups in turn, round by round, and prints tables after each round.
func BenchmarkServers(b *testing.B) {
	var chosen []setup
	for _, s := range setups {
		if *setupsFlag == "" || slices.Contains(strings.Split(*setupsFlag, ","), s.name) {
			chosen = append(chosen, s)
		}
	}
	dir, err := filepath.Abs(*sources)
	if err != nil {
		b.Fatal(err)
	}
	l := load{generator: harness.Load(b, dir), args: strings.Fields(*args), idle: *idle}
	var all []result
	for round := range *rounds {
		for _, s := range chosen {
			b.Run(fmt.Sprintf("%d/%s", round+1, s.name), func(b *testing.B) {
				for b.Loop() {
					r := s.measure(b, l)
					r.round = round
					all = append(all, r)
				}
			})
		}
		fmt.Printf("\nAfter %d of %d rounds:\n\n%s\n", round+1, *rounds, table(all))
	}
}

// TestTable shows medians over rounds, and ratios of one round each.
func TestTable(t *testing.T) {
	t.Parallel()
	lines := func(ops int, cpu, p50 float64) []phase {
		data := fmt.Sprintf(`{"phase":"create","ops":%d,"ops_per_s":%d,"p50_ms":%v,"p99_ms":20,"servers":{"server":{"pss_kb":1024,"cpu_s":%v},"postgres":{"pss_kb":2048,"cpu_s":0.5}}}`, ops, ops, p50, cpu)
		phases, err := parse([]byte(data))
		if err != nil {
			t.Fatal(err)
		}
		return phases
	}
	got := table([]result{
		{setup: reference, round: 0, phases: lines(1000, 1.5, 4)},
		{setup: "sqlite", round: 0, phases: lines(2000, 0.5, 2)},
		{setup: reference, round: 1, phases: lines(500, 1.5, 8)},
		{setup: "sqlite", round: 1, phases: lines(2000, 0.5, 2)},
	})
	for _, want := range []string{
		"| create | 3.00 ms | 500 µs, **6.0** [4.0–8.0] |",
		"| create | 750 | 2000, **3.0** [2.0–4.0] |",
		"| create | 6.00 ms | 2.00 ms, **3.0** [2.0–4.0] |",
		"| create | 20.0 ms | 20.0 ms, **1.0** [1.0–1.0] |",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if diff := cmp.Diff(3.0*mega, lines(1, 1, 1)[0].pss("")); diff != "" {
		t.Errorf("memory of all servers (-want +got):\n%s", diff)
	}
}

// TestParse refuses what is no result.
func TestParse(t *testing.T) {
	t.Parallel()
	if _, err := parse([]byte("{}\nno result\n")); err == nil || !strings.Contains(err.Error(), "no result") {
		t.Errorf("parse: %v, expected an error that shows the line", err)
	}
}
