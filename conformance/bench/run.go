package bench

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rowlock-io/rowlock/conformance/harness"
)

// setup is an API server on a store.
type setup struct {
	name   string
	target harness.Target
}

// reference is the setup that the others are compared with.
const reference = "etcd"

var setups = []setup{
	{reference, harness.KubeAPIServer},
	{"kine-sqlite", harness.KineSQLite},
	{"kine-postgres", harness.KinePostgres},
	{"sqlite", harness.SQLite},
	{"postgres", harness.OnPostgres},
}

// choose returns the setups of a list of names separated by commas, all of an empty one.
func choose(list string) ([]setup, error) {
	if list == "" {
		return setups, nil
	}
	names := strings.Split(list, ",")
	var chosen []setup
	for _, s := range setups {
		if i := slices.Index(names, s.name); i >= 0 {
			chosen, names = append(chosen, s), slices.Delete(names, i, i+1)
		}
	}
	if len(names) > 0 {
		var known []string
		for _, s := range setups {
			known = append(known, s.name)
		}
		return nil, fmt.Errorf("there is no setup %q, but %s", names[0], strings.Join(known, ", "))
	}
	return chosen, nil
}

// load is what runs against a server, and how long the server rests.
type load struct {
	generator string   // path of the binary
	args      []string // for it
	idle      time.Duration
}

// result is what one run of one setup measured.
type result struct {
	setup string
	round int

	ready              time.Duration // from the start of the API server, its store being there, until /readyz is 200
	atReady            harness.Usage // CPU includes the store's
	idle               harness.Usage
	idleCPU            float64 // of a core
	highest, after     float64 // bytes (PSS) after any phase, and five seconds after the last
	highestDB, afterDB float64 // of which Postgres has
	phases             []phase
}

// phase is a line of the load generator's.
type phase struct {
	Name      string  `json:"phase"`
	Ops       int     `json:"ops"`
	Errors    int     `json:"errors"`
	OpsPerSec float64 `json:"ops_per_s"`
	P50       float64 `json:"p50_ms"`
	P99       float64 `json:"p99_ms"`
	Servers   map[string]struct {
		PSS float64 `json:"pss_kb"`
		CPU float64 `json:"cpu_s"`
	} `json:"servers"`
	Seconds   float64  `json:"seconds"`
	ClientCPU float64  `json:"client_cpu_s"`
	HostCPU   float64  `json:"host_cpu_s"` // of the whole machine, what other machines on the host took from it included
	ErrorText []string `json:"error_text"`
}

// cpu is what all servers together took for an operation: seconds.
func (p phase) cpu() float64 { return p.serverCPU() / float64(max(p.Ops, 1)) }

func (p phase) serverCPU() float64 {
	var sum float64
	for _, s := range p.Servers {
		sum += s.CPU
	}
	return sum
}

// others is how many cores were busy with neither the servers nor the load. It is rough for a short phase: the clocks that
// it compares tick a hundred times a second.
func (p phase) others() float64 {
	if p.Seconds == 0 {
		return 0
	}
	return max(0, p.HostCPU-p.ClientCPU-p.serverCPU()) / p.Seconds
}

// pss is what all servers together, or one of them, had at the end of the phase: bytes.
func (p phase) pss(only string) float64 {
	var sum float64
	for name, s := range p.Servers {
		if only == "" || only == name {
			sum += s.PSS * 1024
		}
	}
	return sum
}

// measure starts a setup with nothing in it and runs the load.
func (s setup) measure(b *testing.B, l load) result {
	b.Helper()
	r := result{setup: s.name}
	cluster := s.target.NewCluster(b)
	harness.Cold(b, s.target.Binaries(b)...)
	began := time.Now()
	server := cluster.StartServer(b)
	r.ready = time.Since(began)
	pids := append(cluster.Processes(), server.PID())
	r.atReady = use(b, pids)
	time.Sleep(l.idle)
	r.idle = use(b, pids)
	r.idleCPU = (r.idle.CPU - r.atReady.CPU) / l.idle.Seconds()
	r.phases = l.run(b, cluster, server)
	time.Sleep(5 * time.Second)
	r.after = use(b, pids).PSS
	for _, p := range r.phases {
		if p.pss("") > r.highest {
			r.highest, r.highestDB = p.pss(""), p.pss("postgres")
		}
	}
	if cluster.Postgres != nil {
		r.afterDB = use(b, []int{cluster.Postgres.PID()}).PSS
	}
	return r
}

func use(b *testing.B, pids []int) harness.Usage {
	b.Helper()
	u, err := harness.Measure(pids)
	if err != nil {
		b.Fatal(err)
	}
	return u
}

// run runs the load generator, which asks this program's "sample" for what the servers use.
func (l load) run(b *testing.B, cluster *harness.Cluster, server *harness.Server) []phase {
	b.Helper()
	roles := filepath.Join(b.TempDir(), "roles")
	var lines strings.Builder
	for i, pid := range cluster.Processes() {
		role := fmt.Sprintf("beside-%d", i)
		if cluster.Postgres != nil && pid == cluster.Postgres.PID() {
			role = "postgres"
		}
		fmt.Fprintln(&lines, role, pid)
	}
	fmt.Fprintln(&lines, "server", server.PID())
	if err := os.WriteFile(roles, []byte(lines.String()), 0o600); err != nil {
		b.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	out := filepath.Join(b.TempDir(), "phases")
	cmd := exec.Command(l.generator, append([]string{
		"--kubeconfig", server.Kubeconfig, "--out", out, "--sample", "env " + sampling + "=" + roles + " " + self,
	}, l.args...)...)
	cmd.Stderr = new(bytes.Buffer)
	if err := cmd.Run(); err != nil {
		b.Errorf("the load generator: %v\n%s", err, cmd.Stderr)
	}
	data, err := os.ReadFile(out)
	if err != nil {
		b.Fatal(err)
	}
	phases, err := parse(data)
	if err != nil {
		b.Fatal(err)
	}
	for _, p := range phases {
		if p.Errors > 0 {
			b.Errorf("%s, %s: %d errors: %s", server.URL, p.Name, p.Errors, strings.Join(p.ErrorText, "; "))
		}
	}
	return phases
}

func parse(data []byte) ([]phase, error) {
	var phases []phase
	for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
		var p phase
		if err := json.Unmarshal(lines.Bytes(), &p); err != nil {
			return nil, fmt.Errorf("the load generator printed %q: %w", lines.Text(), err)
		}
		phases = append(phases, p)
	}
	return phases, nil
}

// sampling is the variable by which this program is told to do nothing but print what the processes in a file use: a line
// for each with its role and its number.
const sampling = "ROWLOCK_BENCH_SAMPLE"

// sample prints what the load generator wants to know.
func sample(file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	type process struct {
		RSS float64 `json:"rss_kb"`
		PSS float64 `json:"pss_kb"`
		CPU float64 `json:"cpu_s"`
	}
	all := map[string]process{}
	for line := range strings.Lines(string(data)) {
		var role string
		var pid int
		if _, err := fmt.Sscan(line, &role, &pid); err != nil {
			return err
		}
		u, err := harness.Measure([]int{pid})
		if err != nil {
			return err
		}
		all[role] = process{int64KB(u.RSS), int64KB(u.PSS), u.CPU}
	}
	return json.NewEncoder(os.Stdout).Encode(all)
}

// int64KB is a whole number of KiB: the load generator reads no fractions.
func int64KB(bytes float64) float64 { return float64(int64(bytes / 1024)) }
