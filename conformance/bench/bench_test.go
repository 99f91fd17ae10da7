package bench

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
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
	chosen, err := choose(*setupsFlag)
	if err != nil {
		b.Fatal(err)
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
	failing, err := parse([]byte(`{"phase":"create","ops":1,"errors":3,"seconds":1,"host_cpu_s":1}`))
	if err != nil {
		t.Fatal(err)
	}
	lines := func(ops int, cpu, p50 float64) []phase {
		data := fmt.Sprintf(`{"phase":"create","ops":%d,"ops_per_s":%d,"seconds":1,"client_cpu_s":0.5,"host_cpu_s":3,"p50_ms":%v,"p99_ms":20,"servers":{"server":{"pss_kb":1024,"cpu_s":%v},"postgres":{"pss_kb":2048,"cpu_s":0.5}}}`, ops, ops, p50, cpu)
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
		{setup: "failing", round: 1, phases: failing},
	})
	for _, want := range []string{
		"| create | 3.00 ms | 500 µs, **6.0** [4.0–8.0] | 3 errors |",
		"| create | 750 | 2000, **3.0** [2.0–4.0] | 3 errors |",
		"| create | 6.00 ms | 2.00 ms, **3.0** [2.0–4.0] | 3 errors |",
		"| create | 20.0 ms | 20.0 ms, **1.0** [1.0–1.0] | 3 errors |",
		"| create | **0.50** | **1.50** | 3 errors |",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if diff := cmp.Diff(3.0*mega, lines(1, 1, 1)[0].pss("")); diff != "" {
		t.Errorf("memory of all servers (-want +got):\n%s", diff)
	}
}

// TestOthers marks a figure beside which the machine did something else.
func TestOthers(t *testing.T) {
	t.Parallel()
	for others, want := range map[float64]string{0: "0.00", 0.04: "0.04", 0.2: "**0.20**"} {
		if got := cores(others); got != want {
			t.Errorf("cores(%v) = %q, want %q", others, got, want)
		}
	}
	p := phase{Seconds: 2, ClientCPU: 1, HostCPU: 1}
	if got := p.others(); got != 0 {
		t.Errorf("the machine did nothing else, and others had %v cores", got)
	}
}

// TestChoose refuses a name that is no setup's.
func TestChoose(t *testing.T) {
	t.Parallel()
	if chosen, err := choose(""); err != nil || len(chosen) != len(setups) {
		t.Errorf("all: %v, %v", chosen, err)
	}
	chosen, err := choose("postgres,etcd")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"etcd", "postgres"}, []string{chosen[0].name, chosen[1].name}); diff != "" || len(chosen) != 2 {
		t.Errorf("two, in their order (-want +got):\n%s", diff)
	}
	if _, err := choose("etcd,sqlight"); err == nil || !strings.Contains(err.Error(), `"sqlight"`) {
		t.Errorf("an unknown name: %v", err)
	}
}

// TestParse refuses what is no result.
func TestParse(t *testing.T) {
	t.Parallel()
	if _, err := parse([]byte("{}\nno result\n")); err == nil || !strings.Contains(err.Error(), "no result") {
		t.Errorf("parse: %v, expected an error that shows the line", err)
	}
}
