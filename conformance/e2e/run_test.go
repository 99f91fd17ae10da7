package e2e

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rowlock-io/rowlock/conformance/harness"
)

var (
	sampleSize    = flag.Int("sample", 0, "run this many tests of passed.txt")
	seed          = flag.Uint64("seed", 0, "draws the sample; 0 takes a new one")
	wholeList     = flag.Bool("passed", false, "run all of passed.txt")
	namesFile     = flag.String("names", "", "run the tests whose full names are the lines of this file")
	focusFlag     = flag.String("focus", "", "run the tests whose full names match this expression")
	procs         = flag.Int("procs", 4, "processes that run tests")
	withScheduler = flag.Bool("scheduler", false, "start kube-scheduler too")
	update        = flag.Bool("update", false, "add what passed on all targets to passed.txt")
	limit         = flag.Duration("limit", 40*time.Minute, "how long the tests of one target may take")
	out           = flag.String("out", "", "directory that keeps logs and reports")
)

// TestRun runs the tests that the flags name. It fails when one of passed.txt, or one that was named, does not pass.
func TestRun(t *testing.T) {
	passed, err := readNames(passedFile)
	if err != nil {
		t.Fatal(err)
	}
	s := suite{procs: *procs, scheduler: *withScheduler, limit: *limit}
	switch {
	case *sampleSize > 0:
		if *seed == 0 {
			*seed = rand.Uint64N(1_000_000) + 1
		}
		s.names = sample(passed, *sampleSize, *seed)
		t.Logf("the sample is that of -sample=%d -seed=%d", *sampleSize, *seed)
	case *wholeList:
		s.names = passed
	case *namesFile != "":
		if s.names, err = readNames(*namesFile); err != nil {
			t.Fatal(err)
		}
	case *focusFlag != "":
		s.focus = *focusFlag
	default:
		t.Skip("none of -sample, -passed, -names, -focus says what to run")
	}
	if s.focus == "" {
		s.focus = focus(s.names)
	}
	if *out != "" {
		if s.out, err = filepath.Abs(*out); err != nil {
			t.Fatal(err)
		}
	}
	targets := harness.Targets(t)
	if *update && (!slices.Contains(targets, harness.SQLite) || !slices.Contains(targets, harness.OnPostgres)) {
		t.Fatal("-update takes a run on both databases")
	}
	passes := map[string]int{}
	for _, target := range targets {
		t.Run(string(target), func(t *testing.T) {
			s := s
			s.target = target
			results := s.run(t)
			t.Logf("%s\n%s", target, table(results))
			for _, r := range results {
				switch {
				case r.passed():
					passes[r.Name]++
				case slices.Contains(s.names, r.Name), slices.Contains(passed, r.Name), !strings.HasPrefix(r.Name, "[sig-"):
					t.Errorf("%s: %s\n%s", r.Status, r.Name, again(target, r.Name))
				}
			}
		})
	}
	if *update {
		var names []string
		for name, n := range passes {
			if n == len(targets) {
				names = append(names, name)
			}
		}
		n, err := addNames(passedFile, names)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%d names are new in passed.txt", n)
	}
}

// again says how to run one test again.
func again(target harness.Target, name string) string {
	return fmt.Sprintf("run it again, in conformance: ROWLOCK_TEST_TARGET=%s go test ./e2e -count=1 -v -timeout=60m -run=TestRun -args -out=/tmp/e2e -focus='%s'",
		target, strings.ReplaceAll(focus([]string{name}), "'", `'\''`))
}

// lastLines returns the end of a file.
func lastLines(t *testing.T, file string, n int) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// keepLogs copies the logs of a cluster's processes.
func keepLogs(t *testing.T, from, to string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(from, "*.log"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err == nil {
			err = os.WriteFile(filepath.Join(to, filepath.Base(file)), data, 0o644)
		}
		if err != nil {
			t.Error(err)
		}
	}
}
